/* SPDX-License-Identifier: BSD-2-Clause */
/* Lua scripts as works, by Debian's Lua or LuaJIT: the same program linked with either (LANGUAGE names it).
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>
#include "bench/measure.h"

static const char script[] =
    "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end\n"
    "local function objects()\n"
    "  local t = {}\n"
    "  for n = 1, 3000 do t[n] = { key = (n * 7919) % 3001, name = 'x' .. n } end\n"
    "  table.sort(t, function(a, b) return a.key < b.key end)\n"
    "  local sum = 0\n"
    "  for _, o in ipairs(t) do sum = sum + o.key * #o.name end\n"
    "  return sum\n"
    "end\n"
    "local function sieve()\n"
    "  local s, count = {}, 0\n"
    "  for n = 2, 20000 do s[n] = true end\n"
    "  for n = 2, 20000 do if s[n] then count = count + 1\n"
    "    for m = n * n, 20000, n do s[m] = false end end end\n"
    "  return count\n"
    "end\n"
    "function work() return fib(21) + objects() + sieve() end\n";

static lua_State *state;

static void
work(void)
{
	lua_getglobal(state, "work");
	if (lua_pcall(state, 0, 1, 0) != 0)
		abort();
	lua_pop(state, 1);
}

static const struct row rows[] = {{LANGUAGE, work}};

int
main(int argc, char **argv)
{
	state = luaL_newstate();
	if (state == NULL)
		return 1;
	luaL_openlibs(state);
	if (luaL_loadstring(state, script) != 0 || lua_pcall(state, 0, 0, 0) != 0)
		return 1;
	measure_rows(rows, 1, argc, argv);
	lua_close(state);
	return 0;
}

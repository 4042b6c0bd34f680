/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small works, each for a fixed number of rounds: natively, in lhyve, in QEMU. A line each on standard
 * output: "suite: NAME NANOSECONDS" for one round. Static, no files, no arguments: `suite [ROW...]`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <immintrin.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench/measure.h"

static volatile uint64_t sink;
#define NOINLINE __attribute__((noinline))

static void
registers(void)
{
	uint64_t a = 1, b = 2, c = 3;
	for (unsigned n = 0; n < 1000000; n++) {
		a += b ^ n;
		b = (b << 3) - c;
		if (a & 64)
			c ^= a >> 5;
		else
			c += b;
	}
	sink = a + b + c;
}

static int
compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static uint32_t numbers[1 << 16];

static void
fill_numbers(void)
{
	uint32_t x = 12345;
	for (unsigned n = 0; n < 1 << 16; n++)
		numbers[n] = x = x * 1664525 + 1013904223;
}

static void
sort(void)
{
	fill_numbers();
	qsort(numbers, 1 << 14, sizeof(numbers[0]), compare_u32);
}

static void
hash(void)
{
	static uint32_t table[1 << 16];
	fill_numbers();
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned n = 0; n < 1 << 16; n++) {
			uint32_t h = numbers[n] * 2654435761u >> 16;
			table[h] += n;
			numbers[n] ^= table[h ^ 1];
		}
	}
	sink = table[77];
}

static NOINLINE unsigned
fib(unsigned n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void
recursion(void)
{
	sink = fib(24);
}

static NOINLINE uint64_t
f0(uint64_t v)
{
	return v + 1;
}
static NOINLINE uint64_t
f1(uint64_t v)
{
	return v ^ 3;
}
static NOINLINE uint64_t
f2(uint64_t v)
{
	return v * 5;
}
static NOINLINE uint64_t
f3(uint64_t v)
{
	return v >> 1;
}

static void
indirect(void)
{
	static uint64_t (*volatile fns[4])(uint64_t) = {f0, f1, f2, f3};
	uint64_t v = 7;
	for (unsigned n = 0; n < 200000; n++)
		v = fns[(n ^ n >> 3) & 3](v);
	sink = v;
}

/* A bytecode machine: dispatch by a switch. */
static void
interpreter(void)
{
	static const uint8_t code[] = {0, 1, 2, 3, 1, 4, 2, 0, 3, 5, 1, 6, 2, 7, 0, 8};
	uint64_t acc = 1, x = 2;
	for (unsigned n = 0; n < 400000; n++) {
		switch (code[(n + acc) & 15]) {
		case 0:
			acc += x;
			break;
		case 1:
			x ^= acc;
			break;
		case 2:
			acc *= 3;
			break;
		case 3:
			x += 7;
			break;
		case 4:
			acc -= x >> 3;
			break;
		case 5:
			x = acc >> 1;
			break;
		case 6:
			acc ^= 0x55;
			break;
		case 7:
			x <<= 1;
			break;
		default:
			acc = ~acc;
			break;
		}
	}
	sink = acc + x;
}

static double ma[64][64], mb[64][64], mc[64][64];

static void
scalar_fp(void)
{
	double s = 0, x = 0.5;
	for (unsigned n = 0; n < 400000; n++) {
		x = x * 3.9 * (1 - x);
		s += x / (1 + s * 1e-9);
	}
	sink = (uint64_t)s;
}

static void
matmul_sse2(void)
{
	for (unsigned i = 0; i < 64; i++) {
		for (unsigned j = 0; j < 64; j += 2) {
			__m128d s = _mm_setzero_pd();
			for (unsigned k = 0; k < 64; k++)
				s = _mm_add_pd(s, _mm_mul_pd(_mm_set1_pd(ma[i][k]), _mm_loadu_pd(&mb[k][j])));
			_mm_storeu_pd(&mc[i][j], s);
		}
	}
}

__attribute__((target("avx2,fma"))) static void
matmul_avx2(void)
{
	for (unsigned i = 0; i < 64; i++) {
		for (unsigned j = 0; j < 64; j += 4) {
			__m256d s = _mm256_setzero_pd();
			for (unsigned k = 0; k < 64; k++)
				s = _mm256_fmadd_pd(_mm256_set1_pd(ma[i][k]), _mm256_loadu_pd(&mb[k][j]), s);
			_mm256_storeu_pd(&mc[i][j], s);
		}
	}
}

static void
x87(void)
{
	long double s = 0, x = 0.5L;
	for (unsigned n = 0; n < 20000; n++) {
		x = x * 3.9L * (1 - x);
		s += x;
	}
	sink = (uint64_t)s;
}

static char *area; /* 4 MiB */

static void
copy(void)
{
	memcpy(area + (2 << 20), area, 1 << 20);
}

static void
copy_rep(void)
{
	void *d = area + (2 << 20), *s = area;
	size_t n = 1 << 20;
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}

static void
triad(void)
{
	double *a = (double *)area, *b = a + 65536, *c = b + 65536;
	for (unsigned n = 0; n < 65536; n++)
		a[n] = b[n] + 3.0 * c[n];
	__asm__ volatile("" : : "r"(a) : "memory");
}

static void
chase(void)
{
	uint32_t at = 0;
	for (unsigned n = 0; n < 65536; n++)
		at = ((uint32_t *)area)[at] & 0xfffff;
	sink = at;
}

static void
system_call(void)
{
	for (unsigned n = 0; n < 1000; n++)
		syscall(SYS_getppid);
}

static volatile sig_atomic_t seen;
static void
on_usr1(int sig)
{
	seen = sig;
}

static void
signals(void)
{
	signal(SIGUSR1, on_usr1);
	for (unsigned n = 0; n < 200; n++)
		raise(SIGUSR1);
}

static void
page_faults(void)
{
	char *p = mmap(NULL, 256 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned n = 0; n < 256; n++)
		p[n * 4096] = 1;
	munmap(p, 256 * 4096);
}

static void
fork_wait(void)
{
	for (unsigned n = 0; n < 4; n++) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
}

static void
pipes(void)
{
	int a[2], b[2];
	char c = 1;
	if (pipe(a) != 0 || pipe(b) != 0)
		return;
	pid_t pid = fork();
	if (pid == 0) {
		while (read(a[0], &c, 1) == 1 && c != 0)
			if (write(b[1], &c, 1) != 1)
				break;
		_exit(0);
	}
	for (unsigned n = 0; n < 200; n++) {
		if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
			break;
	}
	c = 0;
	if (write(a[1], &c, 1) == 1)
		waitpid(pid, NULL, 0);
	close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

static void
files(void)
{
	char name[40];
	for (unsigned n = 0; n < 100; n++) {
		snprintf(name, sizeof(name), "/tmp/suite.%u", n & 7);
		int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
		if (fd < 0)
			return;
		if (write(fd, area, 4096) != 4096)
			return;
		close(fd);
		unlink(name);
	}
}

/* Code that is written anew and run, over and over. */
static void
self_modifying(void)
{
	static uint8_t *page;
	if (page == NULL)
		page =
		    mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned n = 0; n < 1000; n++) {
		static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov eax, imm; ret */
		memcpy(page, code, sizeof(code));
		memcpy(page + 1, &n, 4);
		sink += ((unsigned (*)(void))(uintptr_t)page)();
	}
}

/* Lists, matrices and a state machine over text, as embedded benchmarks mix them. */
struct item {
	struct item *next;
	int16_t key, value;
};

static NOINLINE struct item *
list_reverse(struct item *l)
{
	struct item *out = NULL;
	while (l != NULL) {
		struct item *next = l->next;
		l->next = out;
		out = l;
		l = next;
	}
	return out;
}

static NOINLINE unsigned
list_find(const struct item *l, int16_t key)
{
	unsigned steps = 0;
	while (l != NULL && l->key != key) {
		l = l->next;
		steps++;
	}
	return steps;
}

static NOINLINE uint32_t
numbers_in(const char *text)
{
	uint32_t count = 0;
	enum { START, SIGN, DIGITS, OTHER } state = START;
	for (; *text != '\0'; text++) {
		switch (*text) {
		case ',':
			count += state == DIGITS;
			state = START;
			break;
		case '+':
		case '-':
			state = state == START ? SIGN : OTHER;
			break;
		default:
			if (*text >= '0' && *text <= '9')
				state = state == OTHER ? OTHER : DIGITS;
			else
				state = OTHER;
			break;
		}
	}
	return count;
}

static NOINLINE int32_t
small_matrix(const int16_t *a, const int16_t *b, int32_t *c, unsigned size)
{
	int32_t sum = 0;
	for (unsigned i = 0; i < size; i++) {
		for (unsigned k = 0; k < size; k++) {
			int32_t v = 0;
			for (unsigned j = 0; j < size; j++)
				v += a[i * size + j] * b[j * size + k];
			c[i * size + k] = v;
			sum += v;
		}
	}
	return sum;
}

static NOINLINE uint16_t
crc16(uint16_t crc, uint32_t v)
{
	for (unsigned n = 0; n < 32; n++, v >>= 1)
		crc = (uint16_t)((crc >> 1) ^ ((crc ^ v) & 1 ? 0xa001 : 0));
	return crc;
}

static void
mixed(void)
{
	static struct item items[40];
	static int16_t a[81], b[81];
	static int32_t c[81];
	static const char text[] =
	    "5012,1234,-874,+122,35.54400,.1234500,T0.3e-1F,-T.T++Tq,1T3.4e4z,34.0e-T^";
	struct item *list = NULL;
	uint16_t crc = 0;
	for (unsigned n = 0; n < 40; n++) {
		items[n] = (struct item){.next = list, .key = (int16_t)n, .value = (int16_t)(n * 7)};
		list = &items[n];
	}
	for (unsigned n = 0; n < 81; n++) {
		a[n] = (int16_t)(n * 3);
		b[n] = (int16_t)(n ^ 5);
	}
	for (unsigned n = 0; n < 500; n++) {
		list = list_reverse(list);
		crc = crc16(crc, list_find(list, (int16_t)(n % 40)));
		crc = crc16(crc, (uint32_t)small_matrix(a, b, c, 9));
		crc = crc16(crc, numbers_in(text));
	}
	sink = crc;
}

static const struct row rows[] = {
    {"registers", registers},
    {"mixed", mixed},
    {"sort", sort},
    {"hash", hash},
    {"recursion", recursion},
    {"indirect", indirect},
    {"interpreter", interpreter},
    {"scalar-fp", scalar_fp},
    {"matmul-sse2", matmul_sse2},
    {"matmul-avx2", matmul_avx2},
    {"x87", x87},
    {"memcpy", copy},
    {"rep-movs", copy_rep},
    {"triad", triad},
    {"chase", chase},
    {"syscall", system_call},
    {"signal", signals},
    {"page-fault", page_faults},
    {"fork", fork_wait},
    {"pipe", pipes},
    {"files", files},
    {"self-modifying", self_modifying},
};

int
main(int argc, char **argv)
{
	area = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		return 1;
	(void)mkdir("/tmp", 0777);
	for (unsigned n = 0; n < 1 << 20; n++)
		((uint32_t *)area)[n] = n * 2654435761u;
	measure_rows(rows, sizeof(rows) / sizeof(rows[0]), argc, argv);
	return 0;
}

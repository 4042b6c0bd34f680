# SPDX-License-Identifier: BSD-2-Clause
# Sourced by scripts/fetch-*: apt with the host's sources and keys but lists, cache and status of its own under
# build/cache/apt-ARCH (no privilege, no change to the host, any architecture). Wants $arch; sets $cache and
# $root, and holds the cache's lock until the script ends.
cache=${LHYVE_CACHE:-build/cache}
mkdir -p "$cache" || exit 1
cache=$(cd "$cache" && pwd)
root=$cache/apt-$arch
log=$root/log

exec 9>"$cache/.fetch-lock" || exit 1
command -v flock >/dev/null 2>&1 && flock 9

apt_here() {
	command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1
}

apt_begin() {
	mkdir -p "$root/lists/partial" "$root/cache/archives/partial" "$root/download"
	: >"$root/status"
	: >"$log"
}

apt() {
	tool=$1
	shift
	timeout 300 "$tool" -q -o Dir::State::Lists="$root/lists" -o Dir::Cache="$root/cache" \
		-o Dir::State::status="$root/status" -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
		-o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=2 -o Acquire::http::Timeout=30 \
		-o Acquire::https::Timeout=30 -o Acquire::Languages=none -o APT::Get::List-Cleanup=false "$@"
}

fresh() { # younger than a day
	[ -n "$(find "$1" -maxdepth 0 -mmin -1440 2>/dev/null)" ]
}

# Before attempt N: a wrong proxy or no route fails at once; later looks are for mirrors in mid-sync.
apt_update() {
	if [ "$1" -gt 1 ] || ! fresh "$root/updated"; then
		apt apt-get update >>"$log" 2>&1 && touch "$root/updated"
	fi
}

apt_reason() { # why it failed, one line
	grep -E '^(E|W|Err)' "$log" | tail -n 1 | cut -c 1-160
}

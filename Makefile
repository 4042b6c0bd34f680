# SPDX-License-Identifier: BSD-2-Clause
# The commands of README.md; Meson does the work.
BUILD  ?= build
PREFIX ?= /usr/local
ENGINE ?= auto
JOBS   ?= 2
RUN     = /usr/bin/python3 tests/run.py -j $(JOBS)

.PHONY: all check check-long check-asan check-ubsan check-tsan demo bench fuzz install clean

all:
	@scripts/configure $(BUILD) build
	@ninja -C $(BUILD) -j $(JOBS) --quiet

check check-long:
	@scripts/configure $(BUILD) $(if $(filter check-long,$@),fuzz,check)
	@ninja -C $(BUILD) -j $(JOBS) --quiet all $(if $(filter check-long,$@),fuzz-targets)
	@$(RUN) $(if $(filter check-long,$@),--long) $(BUILD)

check-asan: SANITIZE = address
check-ubsan: SANITIZE = undefined
check-tsan: SANITIZE = thread
check-asan check-ubsan check-tsan:
	@scripts/configure build-$(SANITIZE) check -Db_sanitize=$(SANITIZE) -Db_lundef=false
	@ninja -C build-$(SANITIZE) -j $(JOBS) --quiet
	@$(RUN) --sanitizer $(SANITIZE) build-$(SANITIZE)

demo:
	@scripts/configure $(BUILD) demo
	@ninja -C $(BUILD) -j $(JOBS) --quiet
	@scripts/demo $(BUILD) $(ENGINE)

bench:
	@scripts/configure $(BUILD) bench
	@ninja -C $(BUILD) -j $(JOBS) --quiet
	@bench/run $(BUILD)

fuzz:
	@scripts/configure build-fuzz fuzz -Db_sanitize=address,undefined -Db_lundef=false
	@ninja -C build-fuzz -j $(JOBS) --quiet
	@$(RUN) --sanitizer address,undefined --suite fuzz build-fuzz

install: all
	@meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	@meson install -C $(BUILD)

# Fetched kernels stay: build/cache is what works when a mirror does not.
clean:
	@rm -rf build-address build-undefined build-thread build-fuzz
	@[ ! -d $(BUILD) ] || find $(BUILD) -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} +

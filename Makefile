# The short verbs. Each is one line of cmake or of a script; nothing is decided here.
JOBS  ?= $(shell nproc)
ARGS  ?=
CMAKE  = cmake --build

.PHONY: all run test test-long bench lint format asan tsan fuzz coverage setup clean help

all: build/Makefile                             ## build macp into build/
	@$(CMAKE) build -j$(JOBS)

run: setup                                      ## install what is missing, build, start everything, play a session
	@$(MAKE) --no-print-directory all
	@build/macp dev $(ARGS)

test: setup                                     ## install what is missing, build with checks on, run all tests
	@scripts/test build-debug -DCMAKE_BUILD_TYPE=Debug

test-long: setup                                ## the same with hundreds of kill rounds, a soak and long fuzzing
	@TEST_LONG=1 scripts/test build-debug -DCMAKE_BUILD_TYPE=Debug
	@TEST_LONG=1 scripts/fuzz build-fuzz

bench: setup                                    ## print the benchmark figures with the machine's yardsticks
	@$(MAKE) --no-print-directory all
	@$(CMAKE) build --target bench-programs -j$(JOBS) >/dev/null
	@build/macp run spec/bench/main.lua $(ARGS)

lint: setup                                     ## formatters and static analysis, changing nothing
	@scripts/lint build-debug

format: setup                                   ## clang-format in place
	@scripts/setup --lint
	@find host spec -name '*.[ch]' -exec clang-format -i {} +

asan: setup                                     ## the whole suite under AddressSanitizer and UBSan
	@scripts/test build-asan -DCMAKE_BUILD_TYPE=Debug -DMACP_SANITIZE=address,undefined

tsan: setup                                     ## the host tests under ThreadSanitizer
	@scripts/test --host-only build-tsan -DCMAKE_BUILD_TYPE=Debug -DMACP_SANITIZE=thread

fuzz: setup                                     ## every fuzz target for FUZZ_SECONDS (20) each
	@scripts/fuzz build-fuzz

coverage: setup                                 ## line coverage of the C code by the whole suite
	@scripts/coverage build-coverage

setup:                                          ## install missing Debian packages (root or sudo)
	@scripts/setup

clean:                                          ## remove every build directory
	rm -rf build build-debug build-asan build-tsan build-fuzz build-coverage

help:                                           ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t14

build/Makefile:
	@command -v cmake >/dev/null || { echo "cmake is missing: make setup installs what the build needs" >&2; exit 1; }
	@cmake -B build -DCMAKE_BUILD_TYPE=Release -DMACP_WERROR=$(or $(WERROR),OFF)

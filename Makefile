# oftd: everything is built from here; `make help` lists the targets.
# Variables: BUILD (output folder), CC, CFLAGS (optimisation and debugging only), PREFIX, DESTDIR; to build for another
# machine CC with its --sysroot, SYSROOT, and pkg-config's own variables (tests/arm64.sh).

BUILD   ?= build
CC      ?= gcc
CFLAGS  ?= -O2 -g
PREFIX  ?= /usr/local
SYSROOT ?=
VERSION := $(shell cat VERSION)

TRIPLET := $(shell $(CC) -print-multiarch)
BLAS    := /usr/lib/$(TRIPLET)/openblas-serial
PKGS    := libmicrohttpd jansson libpcre2-8 nettle libutf8proc
STRICT  := -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes \
           -Wmissing-prototypes -Wvla -ffp-contract=off -fno-strict-aliasing -pthread
INCLUDE := -I. -I$(SYSROOT)/usr/include/$(TRIPLET)/openblas-serial $(shell pkg-config --cflags $(PKGS))
DEFINES := -DOFTD_VERSION='"$(VERSION)"'
LIBS    := $(shell pkg-config --libs $(PKGS)) -L$(SYSROOT)$(BLAS) -Wl,-rpath,$(BLAS) -lopenblas -ldl -lm -pthread
ALL_CFLAGS = $(STRICT) $(INCLUDE) $(DEFINES) $(CFLAGS) $(SANITIZE)

# Twins for the instruction sets of another architecture stay out.
OTHERS  := $(if $(findstring x86_64,$(TRIPLET)),,%_avx2.c %_avxvnni.c %_avx512.c %_amx.c) $(if $(findstring aarch64,$(TRIPLET)),,%_neon.c)
SRCS    := $(filter-out $(OTHERS),$(wildcard core/*.c core/*/*.c backends/*.c backends/*/*.c config/*.c server/*.c))
HDRS    := $(wildcard core/*.h core/*/*.h backends/*.h backends/*/*.h config/*.h server/*.h tests/*.h tests/*/*.h)
PAGE    := $(wildcard server/page/*)
OBJS    := $(SRCS:%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/server/page/files.o
LIB     := $(BUILD)/liboftd.a
TEST_SRCS := $(shell find tests -name 'test_*.c' 2>/dev/null | sort)
TESTS   := $(TEST_SRCS:%.c=$(BUILD)/%)
FUZZ    := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all help cuda check-device test unit live check-kernels asan ubsan tsan valgrind fuzz fuzz-guided bench guards guards-update fidelity lint layers headers \
        format format-check docs docs-check install clean
all: $(BUILD)/oftd

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | sort | expand -t16

# ---- the program -------------------------------------------------------------------------------
$(BUILD)/oftd: $(BUILD)/obj/server/main.o $(LIB)
	$(CC) $(CFLAGS) $(SANITIZE) -o $@ $^ $(LIBS)

$(LIB): $(filter-out $(BUILD)/obj/server/main.o,$(OBJS))
	rm -f $@
	ar rcs $@ $^

# Instruction sets are the suffix of a file's name, never a flag of the whole build.
AVX512 = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mavx512vnni -mavx512bf16 -mavx2 -mfma -mf16c \
         -mprefer-vector-width=512
ISA_FLAGS = $(if $(findstring _avx512,$1),$(AVX512),$(if $(findstring _amx,$1),$(AVX512) -mamx-tile -mamx-int8,$(if \
  $(findstring _avx2,$1),-mavx2 -mfma -mf16c,$(if $(findstring _avxvnni,$1),-mavx2 -mfma -mf16c -mavxvnni,$(if \
  $(findstring _neon,$1),-march=armv8.2-a+dotprod,)))))
# Lines without variables for what is hot: following variables through it takes gcc as long as all the rest.
HOT = $(if $(filter backends/kernels/% backends/encodings/% backends/hqq_quantize% backends/bnb_4bit_quantize% backends/torch_sum% core/adapters/rotation% core/tensor%,$1),-O3 $(if $(filter -g,$(CFLAGS)),-g1))

$(BUILD)/obj/%.o: %.c Makefile VERSION
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(call HOT,$<) $(call ISA_FLAGS,$<) -MMD -MP -c $< -o $@

# The page's files, into the program as they are (.incbin).
$(BUILD)/obj/server/page/files.o: $(PAGE) Makefile
	@mkdir -p $(@D)
	$(CC) -I. -Iserver/page -c server/page/files.S -o $@

# Tables that are included as text.
-include $(OBJS:.o=.d) $(TESTS:=.d) $(patsubst %.c,$(BUILD)/obj/%.d,$(wildcard tests/support/*.c tests/faults/*.c))

# ---- the CUDA plug-in --------------------------------------------------------------------------
# With the toolkit: kernels for each of CUDA_ARCHS and PTX of the last; nothing else needs it. -fmad=false: a product is
# fused with a sum where the source says so, as in every other table. The same sources over tests/shim are a plug-in
# whose GPU is a walk through blocks and threads on the host, for tests.
NVCC       ?= nvcc
CUDA_ARCHS ?= 80 89 90
CUDA_SRCS  := $(wildcard backends/kernels/*_cuda.cu)
CUDA_HDRS  := $(wildcard backends/kernels/*_cuda.cuh backends/kernels/plugin_cuda.h backends/kernels/attention.h backends/kernels/special.h \
  backends/kernels/fast.h backends/kernels/lookup.h backends/kernels/strided.h core/kernels.h core/tensor.h)
CUDA_FLAGS := -std=c++17 -O3 -fmad=false $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
  -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS)) -Xcompiler -fPIC,-fvisibility=hidden,-Wall -I.
SHIM       := $(BUILD)/shim/liboftd-cuda.so
SHIM_FLAGS := -std=c++17 -O2 -fPIC -Wall -Wextra -Werror -Wno-unknown-pragmas -ffp-contract=off -fno-strict-aliasing \
  -fvisibility=hidden -Itests/shim -I. -x c++

cuda: $(BUILD)/liboftd-cuda.so ## the plug-in for GPUs (NVCC, CUDA_ARCHS)
$(BUILD)/cuda/%.o: backends/kernels/%.cu $(CUDA_HDRS) Makefile
	@mkdir -p $(@D)
	$(NVCC) $(CUDA_FLAGS) -c $< -o $@
$(BUILD)/liboftd-cuda.so: $(CUDA_SRCS:backends/kernels/%.cu=$(BUILD)/cuda/%.o)
	$(NVCC) -shared -cudart static -o $@ $^

$(BUILD)/shim/%.o: backends/kernels/%.cu $(CUDA_HDRS) tests/shim/cuda_runtime.h Makefile
	@mkdir -p $(@D)
	$(CXX) $(SHIM_FLAGS) -c $< -o $@
$(BUILD)/shim/shim.o: tests/shim/shim.cc tests/shim/cuda_runtime.h Makefile
	@mkdir -p $(@D)
	$(CXX) $(SHIM_FLAGS) -c $< -o $@
$(SHIM): $(CUDA_SRCS:backends/kernels/%.cu=$(BUILD)/shim/%.o) $(BUILD)/shim/shim.o
	$(CXX) -shared -o $@ $^ -pthread

check-device: $(SHIM) $(BUILD)/check_kernels ## compare every kernel of the CUDA table, on the host, with the portable one
	$(BUILD)/check_kernels --device $(SHIM)

install: $(BUILD)/oftd docs ## install the program, its manual page and service files (PREFIX, DESTDIR)
	install -D -m 755 $(BUILD)/oftd $(DESTDIR)$(PREFIX)/bin/oftd
	[ ! -e $(BUILD)/liboftd-cuda.so ] || install -D -m 755 $(BUILD)/liboftd-cuda.so $(DESTDIR)$(PREFIX)/lib/oftd/liboftd-cuda.so
	install -D -m 644 $(BUILD)/oftd.1 $(DESTDIR)$(PREFIX)/share/man/man1/oftd.1
	install -D -m 644 deploy/oftd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/oftd.service
	install -D -m 644 deploy/oftd.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/oftd.socket

# ---- tests -------------------------------------------------------------------------------------
SUPPORT := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/support/*.c tests/faults/fault.c))

# Test programs and what supports them are kept.
.SECONDARY: $(SUPPORT)

$(BUILD)/tests/%: tests/%.c $(LIB) $(SUPPORT)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -o $@ $< $(SUPPORT) $(LIB) $(LIBS) $(shell pkg-config --libs check)

$(BUILD)/faults/preload.so: tests/faults/preload.c tests/faults/fault.c tests/faults/fault.h
	@mkdir -p $(@D)
	$(CC) $(STRICT) -I. -O2 -fPIC -shared -o $@ $(filter %.c,$^) -ldl

tests-build: $(BUILD)/oftd $(TESTS)

unit: $(TESTS) ## the unit tests
	@BUILD=$(BUILD) tests/unit.sh $(TESTS)

live: $(BUILD)/oftd $(BUILD)/faults/preload.so $(SHIM) ## the tests against a running daemon
	@BUILD=$(BUILD) python3 tests/live/run.py

test: all unit live ## unit and live tests

check-kernels: $(BUILD)/check_kernels ## compare (and time) every kernel of every table with the portable one
	$<
$(BUILD)/check_kernels: $(BUILD)/obj/tests/support/mirrored.o tests/bench/check_attention.c tests/bench/check_draws.c tests/bench/check_kernels.h
$(BUILD)/check_kernels $(BUILD)/time_formats $(BUILD)/count_kernels $(BUILD)/masks $(BUILD)/conversations: $(BUILD)/%: tests/bench/%.c $(LIB)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.c %.o,$^) $(LIB) $(LIBS)

# Whole test suites in builds of their own, $(BUILD)-asan and so on. TEST_SLOW: time-outs times that (tests/live/daemon.py).
# gcc 12 misaligns vectors of 64 bytes on AddressSanitizer's heap of stack frames (gcc bug 110027): it stays off.
# valgrind knows no AVX-512; it sees a short live run, the sanitizers everything.
LIMITS = CK_TIMEOUT_MULTIPLIER=10 TEST_TIMEOUT=1800
asan: ## tests under AddressSanitizer and LeakSanitizer
	TEST_SLOW=4 $(LIMITS) ASAN_OPTIONS=detect_stack_use_after_return=0 \
	  $(MAKE) BUILD=$(BUILD)-asan SANITIZE="-fsanitize=address -fno-omit-frame-pointer" test
ubsan: ## tests under UndefinedBehaviorSanitizer
	TEST_SLOW=2 $(LIMITS) UBSAN_OPTIONS=print_stacktrace=1 \
	  $(MAKE) BUILD=$(BUILD)-ubsan SANITIZE="-fsanitize=undefined -fno-sanitize-recover=all" test
tsan: ## tests under ThreadSanitizer
	TEST_SLOW=10 $(LIMITS) TSAN_OPTIONS="suppressions=$(CURDIR)/tests/house/tsan.supp second_deadlock_stack=1" \
	  $(MAKE) BUILD=$(BUILD)-tsan SANITIZE="-fsanitize=thread" test
VALGRIND = valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect,possible \
           --errors-for-leak-kinds=definite,indirect,possible
valgrind: $(BUILD)/oftd ## a short live run under valgrind's memcheck
	TEST_SLOW=20 TEST_UNDER="$(VALGRIND)" OFTD_ISA=avx2 BUILD=$(BUILD) python3 tests/live/run.py walk

# A fuzz target replays and mutates its corpus (tests/fuzz/driver.c, any compiler) or is led by coverage (libFuzzer, clang);
# FUZZ_SECONDS each.
FUZZ_SECONDS ?= 60
FUZZ_MAIN    ?= tests/fuzz/driver.c
$(BUILD)/fuzz/%: tests/fuzz/%.c tests/fuzz/driver.c $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ tests/fuzz/$*.c $(FUZZ_MAIN) $(LIB) $(LIBS)
fuzz-build: $(FUZZ)
fuzz: fuzz-build ## every fuzz target for FUZZ_SECONDS, as many at once as there are cores
	@printf '%s\n' $(FUZZ) | xargs -P "$$(nproc)" -I{} \
	  sh -c '{} $(FUZZ_SECONDS) tests/fuzz/corpus/$$(basename {} | sed s/^fuzz_//) || { echo "{}: failed"; exit 1; }'
fuzz-guided: ## the same under libFuzzer, ASan and UBSan; what reached new code is merged into tests/fuzz/corpus
	$(MAKE) CC=clang CFLAGS="-O1 -g" HOT= BUILD=$(BUILD)-guided FUZZ_MAIN=-fsanitize=fuzzer \
	  SANITIZE="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -Wno-error" fuzz-build
	@for f in $(FUZZ:$(BUILD)/%=$(BUILD)-guided/%); do tests/fuzz/guided.sh $$f $(FUZZ_SECONDS) || exit 1; done

# ---- measures ----------------------------------------------------------------------------------
# SHAPES: what to measure, "110M" if empty, such as "110M 1.1B 110M:gptq4" (tests/bench/run.sh).
bench: $(BUILD)/oftd $(BUILD)/check_kernels ## ratios of this machine: kernels, decode, prefill, adapters (SHAPES)
	BUILD=$(BUILD) tests/bench/run.sh $(SHAPES)

guards: $(BUILD)/oftd $(BUILD)/count_kernels ## instructions of the products as committed, ratios to the machine at 0.8 x their floors
	BUILD=$(BUILD) python3 tests/bench/instructions.py
	BUILD=$(BUILD) python3 tests/bench/ratios.py
guards-update: $(BUILD)/count_kernels ## write tests/bench/instructions.txt anew, after a kernel has changed
	BUILD=$(BUILD) python3 tests/bench/instructions.py --update

fidelity: $(BUILD)/oftd ## what --compute fast costs on the demo: KL, perplexity, greedy agreement
	BUILD=$(BUILD) python3 tests/bench/fidelity.py

# ---- the house rules ---------------------------------------------------------------------------
FORMATTED := $(SRCS) $(HDRS) $(wildcard backends/kernels/*_neon.c backends/kernels/*_cuda.cu* tests/shim/*.cc) $(shell find tests -name '*.[ch]' 2>/dev/null)
format: ## rewrite the sources in the house style
	clang-format -i $(sort $(FORMATTED))
format-check:
	clang-format --dry-run -Werror $(sort $(FORMATTED))

lint: ## clang-tidy (.clang-tidy) and cppcheck
	tests/house/lint.sh $(BUILD) '$(STRICT) $(INCLUDE) -DOFTD_VERSION="$(VERSION)"' $(SRCS)

layers: ## who may include whom (style: the README's map)
	tests/house/layers.sh .

headers: ## each header compiles alone, kernels.h as C++17 too
	@for h in $(filter-out tests/%,$(HDRS)); do \
	  echo "#include \"$$h\"" | $(CC) $(STRICT) $(INCLUDE) -x c -fsyntax-only - || { echo "$$h"; exit 1; }; done
	@echo '#include "core/kernels.h"' | g++ -std=c++17 -Wall -Werror -I. -x c++ -fsyntax-only -

docs: $(BUILD)/oftd ## regenerate docs/*.md and the manual page from the tables
	tests/house/docs.sh $(BUILD)
docs-check: $(BUILD)/oftd
	tests/house/docs.sh $(BUILD) --check

clean: ## remove what was built
	rm -rf build build-asan build-ubsan build-tsan build-arm64

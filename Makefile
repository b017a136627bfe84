# pytrace-bpf
#
#   make            build/pytrace-bpf
#   make check      all tests (end-to-end ones need root)
#   make unit       tests that need no root, with AddressSanitizer and UBSan
#   make bench      benchmarks -> bench/results.json, docs/BENCHMARKS.md
#   make fuzz       20 seconds of each fuzz target
#   make fmt lint   clang-format; clang-tidy, cppcheck, shellcheck, the include-order check
#   make install    PREFIX=/usr/local DESTDIR=

VERSION := 0.1.0

PREFIX ?= /usr/local
BUILD ?= build
ARCH ?= $(shell uname -m | sed 's/x86_64/x86/; s/aarch64/arm64/')

# The first of these programs that is here. (dash's command -v takes one name at a time.)
first_of = $(firstword $(foreach name,$(1),$(shell command -v $(name))))

# clang 19 is preferred. BPF objects need clang; user space takes any C11 compiler.
CLANG ?= $(call first_of,clang-19 clang-18 clang-17 clang-16 clang)
LLVM_STRIP ?= $(call first_of,llvm-strip-19 llvm-strip-18 llvm-strip-17 llvm-strip-16 llvm-strip)
CC ?= cc
# Ubuntu's bpftool is a script that refuses if there is no package for the very kernel that runs.
BPFTOOL ?= $(shell for tool in bpftool /usr/sbin/bpftool /usr/lib/linux-tools/*/bpftool; do \
	"$$tool" version >/dev/null 2>&1 && { echo "$$tool"; break; }; done)
PROTOC_C ?= $(call first_of,protoc-c)
CLANG_FORMAT ?= $(call first_of,clang-format-14 clang-format)
PKG_CONFIG ?= pkg-config

# Minimum versions; the build stops with a clear message if one is missing.
LIBBPF_MIN := 1.4.0
DEPS := libelf:0.180 zlib:1.2.11 capstone:4.0 libcjson:1.7.14 libmicrohttpd:0.9.71 libprotobuf-c:1.4.0 libcurl:7.85.0
DEP_NAMES := $(foreach d,$(DEPS),$(firstword $(subst :, ,$(d))))

include scripts/deps.mk

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum -Wundef \
	-Wpointer-arith -Wvla -Wno-unused-parameter
OPT ?= -O2 -g
CPPFLAGS_ALL := -D_GNU_SOURCE -DPT_VERSION='"$(VERSION)"' -Iinclude -Iuser -I$(BUILD)/gen -I$(BUILD)/proto \
	$(DEP_CFLAGS)
CFLAGS_ALL := -std=gnu11 $(OPT) $(WARN) -fno-omit-frame-pointer $(SANITIZE) $(CFLAGS)
LDLIBS_ALL := $(LIBBPF_LIBS) $(DEP_LIBS) -liberty -lpthread -lm
BPF_CFLAGS := -std=gnu11 -O2 -g -mcpu=v3 -target bpf -D__TARGET_ARCH_$(ARCH) -Iinclude -Ivmlinux \
	-Ibpf $(LIBBPF_CFLAGS) -Wall -Wextra -Wno-unused-parameter -Wno-missing-declarations

USER_SRC := $(sort $(wildcard user/*/*.c))
MAIN_OBJ := $(BUILD)/user/app/main.o
USER_OBJ := $(USER_SRC:%.c=$(BUILD)/%.o)
# Messages of protobuf formats: proto/NAME.proto becomes NAME.pb-c.h and NAME.pb-c.c.
PROTO_SRC := $(sort $(wildcard proto/*.proto))
PROTO_HDR := $(PROTO_SRC:proto/%.proto=$(BUILD)/proto/%.pb-c.h)
PROTO_OBJ := $(PROTO_SRC:proto/%.proto=$(BUILD)/proto/%.pb-c.o)
LIB_OBJ := $(filter-out $(MAIN_OBJ),$(USER_OBJ)) $(PROTO_OBJ)
BPF_SRC := $(sort $(wildcard bpf/*.bpf.c))
SKEL := $(BPF_SRC:bpf/%.bpf.c=$(BUILD)/gen/%.skel.h)

.PHONY: all
all: $(BUILD)/pytrace-bpf

$(BUILD)/pytrace-bpf: $(USER_OBJ) $(PROTO_OBJ)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LDLIBS_ALL)

$(BUILD)/libpytrace.a: $(LIB_OBJ)
	$(AR) rcs $@ $^

$(BUILD)/user/%.o: user/%.c $(SKEL) | $(PROTO_HDR)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -c -o $@ $<
	$(LLVM_STRIP) -g $@

$(BUILD)/gen/%.skel.h: $(BUILD)/bpf/%.bpf.o
	@mkdir -p $(@D)
	$(BPFTOOL) gen skeleton $< name $*_bpf > $@.tmp
	mv $@.tmp $@

$(BUILD)/proto/%.pb-c.c $(BUILD)/proto/%.pb-c.h &: proto/%.proto
	@mkdir -p $(@D)
	$(PROTOC_C) -I proto --c_out=$(BUILD)/proto $<

$(BUILD)/proto/%.pb-c.o: $(BUILD)/proto/%.pb-c.c | $(PROTO_HDR)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

.SECONDARY:

-include $(wildcard $(BUILD)/user/*/*.d $(BUILD)/bpf/*.d $(BUILD)/proto/*.d $(BUILD)/tests/*/*.d)
-include $(sort $(wildcard tests/*/rules.mk bench/rules.mk scripts/rules.mk))

.PHONY: clean
clean:
	rm -rf $(BUILD)

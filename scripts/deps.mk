# Finds the libraries and checks their versions. Included by the Makefile.
#
# libbpf is linked statically: the version that the tracer was tested with is the version it runs
# with. It may come from the distribution (Debian 13, Ubuntu 24.04), from backports (Debian 12) or
# from LIBBPF_PREFIX=/path.

LIBBPF_PC := $(if $(LIBBPF_PREFIX),PKG_CONFIG_PATH=$(LIBBPF_PREFIX)/lib/pkgconfig:$(LIBBPF_PREFIX)/lib64/pkgconfig) $(PKG_CONFIG)

ifeq ($(filter clean fmt,$(MAKECMDGOALS)),)
ifneq ($(shell $(LIBBPF_PC) --atleast-version=$(LIBBPF_MIN) libbpf && echo ok),ok)
$(error libbpf >= $(LIBBPF_MIN) is needed, found '$(shell $(LIBBPF_PC) --modversion libbpf 2>/dev/null)'. Run scripts/setup.sh, or give LIBBPF_PREFIX)
endif
$(foreach d,$(DEPS),$(if $(shell $(PKG_CONFIG) --atleast-version=$(lastword $(subst :, ,$(d))) $(firstword $(subst :, ,$(d))) && echo ok),,$(error $(firstword $(subst :, ,$(d))) >= $(lastword $(subst :, ,$(d))) is needed. Run scripts/setup.sh)))
# libiberty (binutils) has no .pc file and no version of its own. DMGL_NO_RECURSE_LIMIT came with
# binutils 2.32: from there on demangling is limited in depth, which names of foreign files need.
ifneq ($(shell echo 'int options = DMGL_NO_RECURSE_LIMIT;' | $(CC) -include libiberty/demangle.h -x c -fsyntax-only - 2>/dev/null && echo ok),ok)
$(error libiberty of binutils >= 2.32 is needed (libiberty-dev). Run scripts/setup.sh)
endif
# The verifier of Linux 5.10 refuses what clang 14 and 15 make of the programs.
CLANG_MIN := 16
ifneq ($(shell test "$$(echo __clang_major__ | $(or $(CLANG),false) -E -P - 2>/dev/null || echo 0)" -ge $(CLANG_MIN) && echo ok),ok)
$(error clang >= $(CLANG_MIN) is needed to build the BPF programs, found '$(CLANG)'. Run scripts/setup.sh)
endif
ifeq ($(BPFTOOL),)
$(error bpftool is needed to build the BPF skeletons. Run scripts/setup.sh)
endif
ifeq ($(PROTOC_C),)
$(error protoc-c is needed to build the messages of proto/ (protobuf-c-compiler). Run scripts/setup.sh)
endif
endif

LIBBPF_CFLAGS := $(shell $(LIBBPF_PC) --cflags libbpf)
LIBBPF_LIBS := $(shell $(LIBBPF_PC) --variable=libdir libbpf)/libbpf.a
DEP_CFLAGS := $(LIBBPF_CFLAGS) $(shell $(PKG_CONFIG) --cflags $(DEP_NAMES))
# libcurl is loaded when it is needed (user/base/curl.h).
DEP_LIBS := $(shell $(PKG_CONFIG) --libs $(filter-out libcurl,$(DEP_NAMES)))

# install, fmt, lint. Included by the Makefile.
INSTALL ?= install
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions

.PHONY: install uninstall
install: $(BUILD)/pytrace-bpf
	$(INSTALL) -D -m 755 $(BUILD)/pytrace-bpf $(DESTDIR)$(BINDIR)/pytrace-bpf
	$(INSTALL) -D -m 644 man/pytrace-bpf.1 $(DESTDIR)$(MANDIR)/man1/pytrace-bpf.1
	$(INSTALL) -D -m 644 completions/pytrace-bpf.bash $(DESTDIR)$(COMPLETIONDIR)/pytrace-bpf

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/pytrace-bpf $(DESTDIR)$(MANDIR)/man1/pytrace-bpf.1 \
		$(DESTDIR)$(COMPLETIONDIR)/pytrace-bpf

# Tables made by scripts keep their own form.
FMT_SRC = $(filter-out user/python/layout_data.h,$(sort $(wildcard include/*.h bpf/*.[ch] \
	user/*/*.[ch] tests/*/*.[ch] bench/*.[ch])))
SHELL_SRC = $(sort $(wildcard scripts/*.sh tests/*/*.sh completions/*.bash .ci/run))

.PHONY: fmt
fmt:
	$(CLANG_FORMAT) -i $(FMT_SRC)

CLANG_TIDY ?= $(call first_of,clang-tidy-19 clang-tidy clang-tidy-14)
# What finds mistakes here; the rest of clang-tidy's checks is taste. Each one left out has a reason:
# insecureAPI wants the _s functions of Annex K, which glibc has not.
TIDY_CHECKS := -*,clang-analyzer-*,-clang-analyzer-security.insecureAPI.*,bugprone-*,
TIDY_CHECKS := $(TIDY_CHECKS)-bugprone-easily-swappable-parameters,-bugprone-branch-clone,
TIDY_CHECKS := $(TIDY_CHECKS)-bugprone-reserved-identifier,-bugprone-assignment-in-if-condition,
TIDY_CHECKS := $(TIDY_CHECKS)-bugprone-narrowing-conversions,-bugprone-implicit-widening-*,
TIDY_CHECKS := $(TIDY_CHECKS)-bugprone-multi-level-implicit-pointer-conversion,
TIDY_CHECKS := $(TIDY_CHECKS)-bugprone-macro-parentheses,-bugprone-suspicious-string-compare,
TIDY_CHECKS := $(TIDY_CHECKS)-bugprone-sizeof-expression,-clang-analyzer-optin.performance.Padding,
TIDY_CHECKS := $(TIDY_CHECKS)-clang-analyzer-valist.Uninitialized

.PHONY: lint lint-fmt lint-includes lint-tidy lint-cppcheck lint-shell
lint: lint-fmt lint-includes lint-shell lint-cppcheck lint-tidy
	@echo "lint: nothing found"

lint-fmt:
	$(CLANG_FORMAT) --dry-run -Werror $(FMT_SRC)

lint-includes:
	scripts/check-includes.sh

lint-shell:
	shellcheck -x -P SCRIPTDIR $(SHELL_SRC)

lint-cppcheck:
	cppcheck -q --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability \
		--suppress=missingIncludeSystem --suppress=invalidPrintfArgType_uint \
		--suppress=nullPointerArithmeticRedundantCheck -D_GNU_SOURCE -D__x86_64__ \
		-D'LIBBPF_OPTS(TYPE, NAME, ...)=struct TYPE NAME = {0}' -DPT_VERSION='""' \
		-Iinclude -Iuser $(USER_SRC)

lint-tidy: $(SKEL) $(PROTO_HDR)
	@test -n "$(CLANG_TIDY)" || { \
		echo "lint: clang-tidy is not installed (scripts/setup.sh test does that)" >&2; exit 1; }
	$(CLANG_TIDY) --quiet --warnings-as-errors='*' --checks='$(TIDY_CHECKS)' $(USER_SRC) -- \
		-std=gnu11 $(CPPFLAGS_ALL)

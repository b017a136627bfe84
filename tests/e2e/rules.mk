# All tests, and the end-to-end ones; see tests/e2e/README.md. E2E="pattern ..." picks some.
SUITES ?= unit fuzz e2e vm browser

.PHONY: check
check: $(BUILD)/pytrace-bpf
	@MAKE="$(MAKE)" scripts/check.sh $(SUITES)

.PHONY: e2e
e2e: $(BUILD)/pytrace-bpf
	@PYTRACE_BPF=$(abspath $<) tests/e2e/run.py $(E2E)

# A storm of allocations for so many seconds, whose table at the end must be exact.
SOAK_S ?= 600
.PHONY: soak
soak: $(BUILD)/pytrace-bpf
	@PYTRACE_BPF=$(abspath $<) PYTRACE_SOAK_S=$(SOAK_S) tests/e2e/run.py memory.soak

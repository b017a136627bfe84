# All tests, and the end-to-end ones; see tests/e2e/README.md. E2E="pattern ..." picks some.
# A + behind a suite: beside those that follow. The emulated kernels take what the end-to-end tests leave,
# which wait nearly half of the time.
SUITES ?= vm+ unit fuzz e2e browser

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

# Lots of 100 processes that start, work, crash and end under one agent, for so many seconds.
SOAK_AGENT_S ?= 600
.PHONY: soak-agent
soak-agent: $(BUILD)/pytrace-bpf
	@PYTRACE_BPF=$(abspath $<) PYTRACE_AGENT_SOAK_S=$(SOAK_AGENT_S) tests/e2e/run.py agent_soak

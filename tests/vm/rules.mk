# The kernel matrix; see tests/vm/README.md. VM_SUITES="bullseye sid" picks kernels.
.PHONY: vm
vm: $(BUILD)/pytrace-bpf
	tests/vm/run.sh $< $(BUILD) $(VM_SUITES)

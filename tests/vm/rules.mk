# The kernel matrix; see tests/vm/README.md. VM_SUITES="bullseye sid" picks kernels.
$(BUILD)/tests/vm/load_image: tests/vm/load_image.c $(BUILD)/libpytrace.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -o $@ $< $(BUILD)/libpytrace.a $(LDLIBS_ALL)

.PHONY: vm
vm: $(BUILD)/pytrace-bpf $(BUILD)/tests/vm/load_image
	tests/vm/run.sh $< $(BUILD) $(VM_SUITES)

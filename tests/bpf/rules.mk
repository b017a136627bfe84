# Development tools for the BPF side; see README.md.

$(BUILD)/tests/bpf/bpfdump: tests/bpf/bpfdump.c $(BUILD)/libpytrace.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -o $@ $< $(BUILD)/libpytrace.a $(LDLIBS_ALL)

.PHONY: bpf-tools
bpf-tools: $(BUILD)/tests/bpf/bpfdump

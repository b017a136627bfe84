# The trace in a real consumer in a real browser. SCREENSHOT=docs/speedscope.png makes README's.
.PHONY: browser
browser: $(BUILD)/pytrace-bpf
	@tests/browser/run.py $< $(BUILD) $(SCREENSHOT)

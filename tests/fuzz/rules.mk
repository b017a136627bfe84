# libFuzzer targets with AddressSanitizer and UBSan: each fuzz_*.c runs for FUZZ_SECONDS, starting
# from its committed corpus. What it finds on the way is kept in the build directory.
FUZZ := $(BUILD)/fuzz
FUZZ_SECONDS ?= 20
FUZZ_CC ?= $(CLANG)
FUZZ_FLAGS := -std=gnu11 -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_NAMES := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=%)
FUZZ_OBJ := $(LIB_OBJ:$(BUILD)/%.o=$(FUZZ)/%.o)

$(FUZZ)/user/%.o: user/%.c $(SKEL) | $(PROTO_HDR)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS_ALL) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<

$(FUZZ)/proto/%.o: $(BUILD)/proto/%.c | $(PROTO_HDR)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS_ALL) $(FUZZ_FLAGS) -c -o $@ $<

$(FUZZ)/libpytrace.a: $(FUZZ_OBJ)
	rm -f $@
	$(AR) rcs $@ $^

$(FUZZ)/fuzz_%: tests/fuzz/fuzz_%.c tests/unit/rec_builder.c $(FUZZ)/libpytrace.a
	$(FUZZ_CC) $(CPPFLAGS_ALL) -Itests/unit $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS_ALL)

.PHONY: fuzz fuzz-build
fuzz-build: $(FUZZ_NAMES:%=$(FUZZ)/fuzz_%)

fuzz: fuzz-build
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh $(FUZZ) $(FUZZ_NAMES)

-include $(wildcard $(FUZZ)/user/*/*.d)

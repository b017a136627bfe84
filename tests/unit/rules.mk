# Unit tests: no root, AddressSanitizer and UBSan, in their own build directory. Each test_*.c is a
# cmocka program linked with the whole of user/ but app/main.c.
ASAN := $(BUILD)/asan
ASAN_FLAGS := -std=gnu11 -O1 -g $(WARN) -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=all
ASAN_OBJ := $(LIB_OBJ:$(BUILD)/%.o=$(ASAN)/%.o)
UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(ASAN)/unit/%)
UNIT_HELP := $(ASAN)/unit/rec_builder.o $(ASAN)/unit/op_recorder.o $(ASAN)/unit/scratch.o \
	$(ASAN)/unit/golden_outputs.o $(ASAN)/unit/interpreters.o
CMOCKA := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null || echo -lcmocka)

$(ASAN)/user/%.o: user/%.c $(SKEL) | $(PROTO_HDR)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(ASAN_FLAGS) -MMD -MP -c -o $@ $<

$(ASAN)/proto/%.o: $(BUILD)/proto/%.c | $(PROTO_HDR)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(ASAN_FLAGS) -c -o $@ $<

$(ASAN)/libpytrace.a: $(ASAN_OBJ)
	rm -f $@
	$(AR) rcs $@ $^

$(ASAN)/unit/%.o: tests/unit/%.c | $(PROTO_HDR)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) -Itests/unit $(ASAN_FLAGS) -MMD -MP -c -o $@ $<

$(ASAN)/unit/test_%: $(ASAN)/unit/test_%.o $(UNIT_HELP) $(ASAN)/libpytrace.a
	$(CC) $(ASAN_FLAGS) -o $@ $^ $(LDLIBS_ALL) $(CMOCKA)

# Golden captures: a generator writes them; the expected outputs lie beside them.
GOLDEN_GEN := $(ASAN)/golden/make_golden
$(GOLDEN_GEN): tests/golden/make_golden.c $(UNIT_HELP) $(ASAN)/libpytrace.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) -Itests/unit $(ASAN_FLAGS) -o $@ $^ $(LDLIBS_ALL)

.PHONY: unit golden-update
unit: $(UNIT_BIN) $(GOLDEN_GEN)
	@tests/run-unit.sh $(UNIT_BIN)

# Writes the captures and what they lead to anew; read the difference before you commit it.
golden-update: $(GOLDEN_GEN)
	$(GOLDEN_GEN) tests/golden

-include $(wildcard $(ASAN)/user/*/*.d $(ASAN)/unit/*.d)

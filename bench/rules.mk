# Benchmarks: bench/results.json and docs/BENCHMARKS.md are written by bench/run.py alone.
# BENCH_SECTIONS="cost attach" measures these sections anew and keeps the other results;
# BENCH_SECTIONS="--only system-3.11 features" with one interpreter.
BENCH_DIR := $(BUILD)/bench

$(BENCH_DIR)/event_cost: bench/event_cost.c $(BUILD)/libpytrace.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LDLIBS_ALL)

# The synthetic captures are built with the unit tests' record builder.
$(BENCH_DIR)/replay_gen: bench/replay_gen.c tests/unit/rec_builder.c $(BUILD)/libpytrace.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) -Itests/unit $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LDLIBS_ALL)

$(BENCH_DIR)/replay_bench: bench/replay_bench.c $(BUILD)/libpytrace.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LDLIBS_ALL)

$(BENCH_DIR)/fleet_load: bench/fleet_load.c $(BUILD)/libpytrace.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(LDLIBS_ALL)

BENCH_NEEDS := $(BUILD)/pytrace-bpf $(BENCH_DIR)/event_cost $(BENCH_DIR)/replay_gen \
	$(BENCH_DIR)/replay_bench

.PHONY: bench bench-quick
bench: $(BENCH_NEEDS)
	/usr/bin/python3 bench/run.py --build $(BUILD) --results bench/results.json \
		--table docs/BENCHMARKS.md $(BENCH_SECTIONS)

# A few rounds of everything, to see that the benchmarks run; the figures mean little.
bench-quick: $(BENCH_NEEDS)
	/usr/bin/python3 bench/run.py --quick --build $(BUILD) --results $(BENCH_DIR)/results.json \
		--table $(BENCH_DIR)/BENCHMARKS.md $(BENCH_SECTIONS)

# 500 agents' worth of OTLP and scrapes against one VictoriaMetrics, some eight minutes: docs/SCALING.md.
.PHONY: bench-fleet
bench-fleet: $(BENCH_DIR)/fleet_load
	/usr/bin/python3 bench/fleet.py --load $< $(FLEET)

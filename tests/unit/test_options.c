// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The command line, the environment and the configuration file, and which of them wins. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/options.h"
#include "python/image.h"
#include "record/session.h"

#define ARGS_MAX 16

struct parsed {
	char *argv[ARGS_MAX + 2];
	char *words[ARGS_MAX + 2]; /* the same, to free: argv gets rearranged */
	struct app_options options;
	struct pt_err err;
	int rc;
};

/* Parses the words of line, which are separated by single spaces. */
static void parse(struct parsed *parsed, const char *line)
{
	char *copy = strdup(line), *rest = copy, *word;
	int argc = 0;

	memset(parsed, 0, sizeof(*parsed));
	parsed->argv[argc++] = strdup("pytrace-bpf");
	while (rest && *line && (word = strsep(&rest, " ")) && argc <= ARGS_MAX)
		parsed->argv[argc++] = strdup(word);
	free(copy);
	memcpy(parsed->words, parsed->argv, sizeof(parsed->argv));
	parsed->rc = app_options_parse(argc, parsed->argv, &parsed->options, &parsed->err);
	if (parsed->rc) {
		assert_int_equal(parsed->err.exit_code, PT_EXIT_USAGE);
		assert_true(parsed->err.what[0]);
		assert_true(parsed->err.hint[0]);
	}
}

static void done(struct parsed *parsed)
{
	app_options_release(&parsed->options);
	for (char **arg = parsed->words; *arg; arg++)
		free(*arg);
}

static void test_c_functions(void **state)
{
	static const char *const bad[] = {"-p 1 --c-functions ,", "-p 1 --c-functions a,,b",
					  "-p 1 --c-functions all,x", "-p 1 --c-functions x,none",
					  "-p 1 --ignore-c --c-functions all"};
	static const char *const without[] = {"-p 1 --ignore-c", "-p 1 --max-overhead 1%",
					      "-p 1 --max-cpu 1%", "-p 1 --engine sample"};
	struct parsed p;

	parse(&p, "-p 1");
	assert_true(p.options.c_wanted);
	assert_false(p.options.c_asked);
	assert_true(p.options.c_globs.count > 20);
	assert_int_equal(p.options.c_named.count, 0);
	done(&p);
	parse(&p, "-p 1 --c-functions waiting");
	assert_true(p.options.c_asked);
	assert_int_equal(p.options.c_named.count, 0);
	done(&p);
	for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
		parse(&p, without[i]);
		assert_int_equal(p.rc, 0);
		assert_false(p.options.c_wanted);
		assert_null(p.options.c_globs.items);
		done(&p);
	}
	parse(&p, "replay x.ptcap -o y.json");
	assert_true(p.options.c_wanted);
	done(&p);
	parse(&p, "-p 1 --c-functions all");
	assert_true(p.options.c_wanted);
	assert_null(p.options.c_globs.items);
	done(&p);
	parse(&p, "replay x.ptcap -o y.json --ignore-c");
	assert_false(p.options.c_wanted);
	done(&p);
	parse(&p, "-p 1 --c-functions none");
	assert_false(p.options.c_wanted);
	done(&p);
	parse(&p, "-p 1 --c-functions time.sleep,socket.*");
	assert_true(p.options.c_wanted);
	assert_int_equal(p.options.c_globs.count, 2);
	assert_string_equal(p.options.c_globs.items[1], "socket.*");
	done(&p);
	parse(&p, "-p 1 --c-functions blocking,mine.*");
	assert_true(p.options.c_globs.count > 20);
	assert_string_equal(p.options.c_globs.items[0], "time.sleep");
	assert_string_equal(p.options.c_globs.items[p.options.c_globs.count - 1], "mine.*");
	assert_int_equal(p.options.c_named.count, 1);
	assert_string_equal(p.options.c_named.items[0], "mine.*");
	done(&p);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		parse(&p, bad[i]);
		assert_int_not_equal(p.rc, 0);
		done(&p);
	}
}

static void test_samples(void **state)
{
	static const char *const bad[][2] = {
	    {"-p 1 -F 99", "-F goes with --engine sample"},
	    {"-p 1 -o a.folded", "needs --engine sample"},
	    {"-p 1 -o a.speedscope.json --engine frame", "needs --engine sample"},
	    {"-p 1 -o a.pb.gz", "needs --engine sample"},
	    {"-p 1 --native", "--native goes with --engine sample"},
	    {"-p 1 --off-cpu", "--off-cpu goes with --engine sample"},
	    {"-p 1 --engine sample --min-block 5ms", "--min-block goes with --off-cpu"},
	    {"-p 1 --engine sample --gil", "--gil needs an exact engine"},
	    {"-p 1 --engine sample --args f", "--args needs an exact engine"},
	    {"-p 1 --engine sample --cuda all", "--cuda needs an exact engine"},
	    {"-p 1 --engine sample --min-duration 1ms", "--min-duration needs an exact engine"},
	    {"-p 1 --engine sample -F 10001", "too large"},
	    {"-p 1 --engine sample -F 0", "no samples"},
	    {"-p 1 --engine sample -o a.folded --max-file-size 1M", "--max-file-size"},
	    {"-p 1 --engine sample --c-functions all", "--c-functions needs an exact engine"},
	    {"-p 1 --engine hybrid --args f", "--args needs exact Python calls"},
	    {"-p 1 --engine hybrid --start-on f", "--start-on needs exact Python calls"},
	    {"-p 1 --engine hybrid --lines", "--lines needs exact Python calls"},
	    {"-p 1 --engine hybrid --async", "--async needs exact Python calls"},
	    {"-p 1 --engine hybrid --memory", "--memory needs exact Python calls"},
	    {"-p 1 --engine hybrid --max-overhead 1%", "--max-overhead needs exact Python calls"},
	    {"-p 1 --engine hybrid --c-functions all", "takes a list"},
	    {"-p 1 --engine hybrid -o a.folded", "would hold samples only"},
	    {"capture -p 1 --engine sample --on exit", "needs an exact engine, or hybrid"},
	    {"capture -p 1 --engine hybrid --on slow:f:1s", "need exact Python calls"},
	    {"capture -p 1 --engine hybrid --on hang:5s", "need exact Python calls"},
	    {"capture -p 1 --on exit -F 99", "-F goes with --engine hybrid"},
	};
	struct parsed p;

	parse(&p,
	      "-p 1 --engine sample -F 999 -o a.speedscope.json --pid-suffix --no-gc --cuda none");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.options.engine, PT_ENGINE_SAMPLE);
	assert_int_equal(p.options.frequency, 999);
	assert_string_equal(p.options.output, "a_%p.speedscope.json");
	done(&p);
	parse(&p, "replay a.ptcap -o a.folded");
	assert_int_equal(p.rc, 0);
	done(&p);
	parse(&p,
	      "-p 1 --engine hybrid -F 199 --off-cpu --gil --gc --exceptions --audit open --nvtx");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.options.engine, PT_ENGINE_HYBRID);
	done(&p);
	parse(&p, "-p 1 --engine hybrid --cuda all --torch --probe uprobe:x.so:f --gpu-bounds "
		  "--c-functions time.sleep --native");
	assert_int_equal(p.rc, 0);
	done(&p);
	parse(&p, "capture -p 1 --engine hybrid -F 99 --on gc:50ms --on memory:host:1G");
	assert_int_equal(p.rc, 0);
	done(&p);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		parse(&p, bad[i][0]);
		assert_int_equal(p.rc, -EINVAL);
		assert_int_equal(p.err.exit_code, PT_EXIT_USAGE);
		assert_non_null(strstr(p.err.what, bad[i][1]));
		done(&p);
	}
}

static void test_attach(void **state)
{
	struct parsed p;

	parse(&p, "-p 12,34 -o x.json -d 500ms --engine frame --follow=late --buffer 1M "
		  "--include-file a* --include-file b* -v");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.options.verb, APP_RECORD);
	assert_int_equal(p.options.pid_count, 2);
	assert_int_equal(p.options.pids[1], 34);
	assert_string_equal(p.options.output, "x.json");
	assert_int_equal(p.options.duration_ns, 500000000);
	assert_int_equal(p.options.engine, PT_ENGINE_FRAME);
	assert_int_equal(p.options.follow, PT_FOLLOW_LATE);
	assert_int_equal(p.options.buffer_bytes, 1 << 20);
	assert_int_equal(p.options.include_files.count, 2);
	assert_string_equal(p.options.include_files.items[1], "b*");
	assert_null(p.options.include_files.items[2]);
	assert_true(p.options.verbose);
	assert_null(p.options.command);
	done(&p);
}

static void test_command(void **state)
{
	struct parsed p;

	/* what stands behind -- is the command's */
	parse(&p, "--no-follow -- python3 -v --help x");
	assert_int_equal(p.rc, 0);
	assert_string_equal(p.options.command[0], "python3");
	assert_string_equal(p.options.command[1], "-v");
	assert_string_equal(p.options.command[3], "x");
	assert_null(p.options.command[4]);
	assert_false(p.options.verbose);
	assert_false(p.options.help);
	assert_int_equal(p.options.follow, PT_FOLLOW_NO);
	done(&p);
}

static void test_verbs(void **state)
{
	struct parsed p;

	parse(&p, "replay x.ptcap -o y.json --min-duration 1ms");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.options.verb, APP_REPLAY);
	assert_string_equal(p.options.file, "x.ptcap");
	assert_string_equal(p.options.output, "y.json");
	assert_int_equal(p.options.min_duration_ns, 1000000);
	done(&p);
	parse(&p, "report --top 5 --json x.json");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.options.top, 5);
	assert_true(p.options.json);
	done(&p);
	parse(&p, "-q --verbose report x.json");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.options.verb, APP_REPORT);
	assert_true(p.options.quiet);
	assert_int_equal(p.options.verbose, 1);
	done(&p);
	parse(&p, "-vv -p 1");
	assert_int_equal(p.options.verbose, 2);
	done(&p);
	parse(&p, "-v report -v x.json");
	assert_int_equal(p.options.verbose, 2);
	done(&p);
	parse(&p, "check -p 1");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.options.verb, APP_CHECK);
	done(&p);
	parse(&p, "list --help");
	assert_int_equal(p.rc, 0);
	assert_true(p.options.help);
	done(&p);
}

static void test_refused(void **state)
{
	static const struct {
		const char *line, *word;
	} cases[] = {
	    {"", "-p"},
	    {"--no-such-option", "no-such-option"},
	    {"-X", "-X"},
	    {"recrod", "recrod"},
	    {"python3 x.py", "python3"},
	    {"-p abc", "abc"},
	    {"-p", "-p"},
	    {"-p -5", "-5"},
	    {"-p 1 -- true", "exclude"},
	    {"-p 1 -a", "exclude"},
	    {"--", "--"},
	    {"-p 1 -d soon", "soon"},
	    {"-p 1 --engine steam", "steam"},
	    {"-p 1 --buffer 99999999999G", "large"},
	    {"-p 1 --quiet=1", "quiet"},
	    {"-p 1 --top 3", "top"},
	    {"-p 1 --json", "json"},
	    {"--dry-run -- true", "dry-run"},
	    {"replay", "file"},
	    {"replay x.ptcap", "-o"},
	    {"replay x.ptcap y.ptcap -o z.json", "y.ptcap"},
	    {"report", "file"},
	    {"report x.json --engine frame", "engine"},
	    {"list x", "'x'"},
	    {"check -p 1,2", "one"},
	    {"--config /no/such/file -p 1", "/no/such/file"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct parsed p;

		parse(&p, cases[i].line);
		if (p.rc != -EINVAL || !strstr(p.err.what, cases[i].word))
			fail_msg("'%s': %d '%s'", cases[i].line, p.rc, p.err.what);
		done(&p);
	}
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static void test_layers(void **state)
{
	char path[] = "/tmp/test_options-XXXXXX", line[256];
	struct parsed p;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	write_file(path, "{\"duration\": 7, \"engine\": \"usdt\", \"quiet\": true, \"top\": 3, "
			 "\"max-events\": 1000000, \"exclude-file\": [\"a\", \"b\"], "
			 "\"args\": [\"f\", \"g,h\"]}");
	snprintf(line, sizeof(line), "-p 1 --config %s --engine auto", path);
	setenv("PYTRACE_BPF_DURATION", "8s", 1);
	setenv("PYTRACE_BPF_MAX_FILE_SIZE", "1M", 1);
	parse(&p, line);
	unsetenv("PYTRACE_BPF_DURATION");
	unsetenv("PYTRACE_BPF_MAX_FILE_SIZE");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.options.duration_ns, 8000000000ull); /* environment over file */
	assert_int_equal(p.options.engine, PT_ENGINE_AUTO);     /* command line over file */
	assert_int_equal(p.options.max_events, 1000000);
	assert_int_equal(p.options.max_file_bytes, 1 << 20);
	assert_int_equal(p.options.exclude_files.count, 2);
	assert_int_equal(p.options.args.count, 3);
	assert_true(p.options.quiet);
	done(&p);
	setenv("PYTRACE_BPF_BUFFER", "huge", 1);
	parse(&p, "-p 1");
	unsetenv("PYTRACE_BPF_BUFFER");
	assert_int_equal(p.rc, -EINVAL);
	assert_non_null(strstr(p.err.what, "PYTRACE_BPF_BUFFER"));
	done(&p);
	unlink(path);
}

static void test_bad_config(void **state)
{
	static const char *const bad[] = {
	    "",
	    "[]",
	    "{",
	    "{\"no-such\": 1}",
	    "{\"pid\": 1}",
	    "{\"duration\": {}}",
	    "{\"duration\": \"soon\"}",
	    "{\"quiet\": 7}",
	    "{\"exclude-file\": [[]]}",
	    "{\"engine\": [\"auto\"]}",
	};
	char path[] = "/tmp/test_options-XXXXXX", line[256];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	snprintf(line, sizeof(line), "-p 1 --config %s", path);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct parsed p;

		write_file(path, bad[i]);
		parse(&p, line);
		if (p.rc != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
		done(&p);
	}
	unlink(path);
}

/* What --help prints must be what is understood. */
static void test_help_is_complete(void **state)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	app_options_help(APP_RECORD, out);
	fclose(out);
	for (char *at = text; (at = strstr(at, "  --")); at++) {
		char name[64], line[160];
		struct parsed p;

		assert_int_equal(sscanf(at + 4, "%60[a-z-]", name), 1);
		snprintf(line, sizeof(line), "--%s", name);
		parse(&p, line);
		assert_null(strstr(p.err.what, "there is no option"));
		done(&p);
	}
	free(text);
}

static void test_features(void **state)
{
	struct parsed parsed;
	unsigned int features, asked;

	parse(&parsed, "-a");
	assert_int_equal(parsed.rc, 0);
	app_options_features(&parsed.options, &features, &asked);
	/* by themselves, without a complaint */
	assert_int_equal(features, 1u << PY_FEATURE_GC | 1u << PY_FEATURE_IMPORTS);
	assert_int_equal(asked, 0);
	done(&parsed);
	parse(&parsed, "-a --no-gc --no-imports");
	app_options_features(&parsed.options, &features, &asked);
	assert_int_equal(features, 0);
	done(&parsed);
	parse(&parsed, "-a --imports --no-imports");
	assert_int_equal(parsed.rc, -EINVAL);
	done(&parsed);
	parse(&parsed, "-a --no-gc --gil --imports --audit open,socket.* --audit=*");
	assert_int_equal(parsed.rc, 0);
	app_options_features(&parsed.options, &features, &asked);
	assert_int_equal(features,
			 1u << PY_FEATURE_GIL | 1u << PY_FEATURE_IMPORTS | 1u << PY_FEATURE_AUDIT);
	assert_int_equal(asked, features);
	assert_int_equal(parsed.options.audit.count, 3);
	assert_string_equal(parsed.options.audit.items[1], "socket.*");
	done(&parsed);
	parse(&parsed, "-a --gc --no-gc");
	assert_int_equal(parsed.rc, -EINVAL);
	done(&parsed);
	parse(&parsed, "-a --audit a*b");
	assert_int_equal(parsed.rc, -EINVAL);
	done(&parsed);
	parse(&parsed, "-a --audit open,");
	assert_int_equal(parsed.rc, -EINVAL);
	done(&parsed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_c_functions), cmocka_unit_test(test_features),
	    cmocka_unit_test(test_attach),      cmocka_unit_test(test_samples),
	    cmocka_unit_test(test_command),     cmocka_unit_test(test_verbs),
	    cmocka_unit_test(test_refused),     cmocka_unit_test(test_layers),
	    cmocka_unit_test(test_bad_config),  cmocka_unit_test(test_help_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

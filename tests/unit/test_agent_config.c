// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The agent's configuration: what is right, what is wrong and where, and which rule decides. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/config.h"
#include "record/cuda.h"
#include "scratch.h"
#include "target/process.h"

#define RULES   "\"rules\": [{}]"
#define OTLP    "\"otlp\": {\"endpoint\": \"http://h\"}"
#define TRACES  "\"traces\": {\"slower_than\": \"1s\"}"
#define CAPTURE "\"name\": \"a\", \"capture\": {\"on\": "

static void test_traces(void **state)
{
	struct agent_config *config;
	struct pt_err err = {0};

	assert_int_equal(agent_config_parse("f",
					    "{\"record\": {\"engine\": \"exact\"}, " OTLP
					    ", \"rules\": [{" TRACES
					    ", \"max_overhead\": \"1%\"}, {}]}",
					    &config, &err),
			 0);
	assert_int_equal(config->rules[0].traces->limit_ns, 1000000000);
	assert_int_equal(config->rules[0].traces->per_minute, 60);
	assert_int_equal(config->rules[0].traces->calls, 20);
	assert_null(config->rules[1].traces);
	agent_config_free(config);
}

static void test_defaults(void **state)
{
	struct agent_config *config;
	struct pt_err err = {0};

	assert_int_equal(agent_config_parse("f", "{" RULES "}", &config, &err), 0);
	assert_string_equal(config->listen, "127.0.0.1:9754");
	assert_int_equal(config->processes, 50);
	assert_int_equal(config->rule_count, 1);
	assert_true(config->rules[0].include);
	assert_true(config->gc && config->gil && !config->exceptions);
	assert_int_equal(config->cuda, PT_CUDA_AUTO);
	assert_int_equal(config->engine, PT_ENGINE_SAMPLE);
	agent_config_free(config);
}

static void test_all_keys(void **state)
{
	static const char text[] =
	    "{\"listen\": \"[::1]:0\", \"token_file\": \"t\", \"scan\": \"250ms\",\n"
	    " \"record\": {\"gc\": false, \"gil\": false, \"exceptions\": true, \"cuda\": "
	    "\"none\", \"engine\": \"exact\",\n"
	    "              \"buffer\": \"64M\"},\n"
	    " \"metrics\": {\"processes\": 7, \"functions\": 3, \"keep_ended\": \"2m\"},\n"
	    " \"otlp\": {\"endpoint\": \"https://c:4318/x\", \"interval\": \"5s\", \"timeout\": "
	    "\"2s\",\n"
	    "            \"headers_file\": \"h\", \"ca_file\": \"ca\", \"spool\": {\"dir\": \"d\", "
	    "\"max_size\": "
	    "\"3M\"}},\n"
	    " \"rules\": [{\"action\": \"exclude\", \"name\": \"n\", \"command\": \"*\\u0061*\"},\n"
	    "             {\"user\": \"root\", \"exe\": \"/usr/*\", \"cgroup\": \"*kube*\"},\n"
	    "             {\"user\": 12, \"name\": \"web-1\",\n"
	    "              \"capture\": {\"on\": [\"slow:f:1s\", \"crash\"], \"last\": \"1m\",\n"
	    "              \"after\": \"2s\", \"cool_down\": \"0s\", \"memory\": \"2M\",\n"
	    "              \"max_captures\": 3, \"max_disk\": \"2G\", \"command_line\": true}},\n"
	    "             {\"name\": \"d\", \"capture\": {}}],\n"
	    " \"upload\": {\"command\": [\"send\", \"-x\"], \"timeout\": \"2m\", \"attempts\": 3,\n"
	    "              \"s3\": {\"url\": \"https://s/b\", \"region\": \"eu-1\",\n"
	    "              \"credentials_file\": \"k\", \"ca_file\": \"a\"}},\n"
	    " \"captures\": \"/c\"}\n";
	const struct agent_capture *capture;
	struct agent_config *config;
	struct pt_err err = {0};

	assert_int_equal(agent_config_parse("f", text, &config, &err), 0);
	assert_string_equal(config->listen, "[::1]:0");
	assert_int_equal(config->scan_ns, 250000000);
	assert_int_equal(config->keep_ended_ns, 120000000000ull);
	assert_int_equal(config->buffer_bytes, 64u << 20);
	assert_int_equal(config->functions, 3);
	assert_int_equal(config->cuda, PT_CUDA_NONE);
	assert_true(!config->gc && !config->gil && config->exceptions);
	assert_string_equal(config->otlp.endpoint, "https://c:4318/x");
	assert_int_equal(config->otlp.interval_ns, 5000000000ull);
	assert_int_equal(config->otlp.timeout_ns, 2000000000ull);
	assert_string_equal(config->otlp.headers_file, "h");
	assert_string_equal(config->otlp.ca_file, "ca");
	assert_string_equal(config->otlp.spool_dir, "d");
	assert_int_equal(config->otlp.spool_bytes, 3u << 20);
	assert_int_equal(config->rule_count, 4);
	assert_string_equal(config->captures, "/c");
	assert_int_equal(config->upload.command_count, 2);
	assert_string_equal(config->upload.command[1], "-x");
	assert_null(config->upload.command[2]);
	assert_string_equal(config->upload.url, "https://s/b");
	assert_string_equal(config->upload.region, "eu-1");
	assert_string_equal(config->upload.credentials_file, "k");
	assert_string_equal(config->upload.ca_file, "a");
	assert_int_equal(config->upload.timeout_ns, 120000000000ull);
	assert_int_equal(config->upload.attempts, 3);
	assert_null(config->rules[1].capture);
	capture = config->rules[2].capture;
	assert_int_equal(capture->trigger_count, 2);
	assert_string_equal(capture->triggers[1].text, "crash");
	assert_int_equal(capture->last_ns, 60000000000ull);
	assert_int_equal(capture->after_ns, 2000000000ull);
	assert_int_equal(capture->cool_down_ns, 0);
	assert_int_equal(capture->memory_bytes, 2u << 20);
	assert_int_equal(capture->max_captures, 3);
	assert_int_equal(capture->max_disk_bytes, 2ull << 30);
	assert_true(capture->command_line);
	capture = config->rules[3].capture;
	assert_int_equal(capture->trigger_count, 0);
	assert_int_equal(capture->last_ns, 30000000000ull);
	assert_false(capture->command_line);
	assert_false(config->rules[0].include);
	assert_string_equal(config->rules[0].command, "*a*");
	assert_true(config->rules[1].has_user && config->rules[1].user == 0);
	assert_true(config->rules[2].has_user && config->rules[2].user == 12);
	agent_config_free(config);
}

static void test_limits(void **state)
{
	static const char text[] =
	    "{\"record\": {\"engine\": \"exact\", \"max_overhead\": \"2%\"},\n"
	    " \"rules\": [{\"max_overhead\": \"0.5%\"}, {}]}";
	struct agent_config *config;
	struct pt_err err = {0};

	assert_int_equal(agent_config_parse("f", text, &config, &err), 0);
	assert_int_equal(config->max_overhead_ppm, 20000);
	assert_int_equal(config->rules[0].max_overhead_ppm, 5000);
	assert_int_equal(config->rules[1].max_overhead_ppm, 0);
	agent_config_free(config);
}

static void test_wrong(void **state)
{
	static const struct {
		const char *text, *what;
	} cases[] = {
	    {"", "f:1: this is no JSON"},
	    {"[]", "f:1: an object"},
	    {"{\n" RULES ",\n}", "f:3: this is no JSON"},
	    {"{" RULES "} x", "this is no JSON"},
	    {"{}", "there are no \"rules\""},
	    {"{\"rules\": []}", "there are no \"rules\""},
	    {"{\n\"lissten\": 1," RULES "}", "f:2: there is no key \"lissten\" here"},
	    {"{" RULES ",\n\"scan\": \"1s\",\n\"scan\": \"2s\"}", "f:3: \"scan\" comes twice"},
	    {"{" RULES ",\n\n\"listen\": 80}", "f:3: \"listen\" must be a string"},
	    {"{" RULES ", \"listen\": \"\"}", "must be a string that is not empty"},
	    {"{" RULES ", \"listen\": \"localhost\"}", "is not ADDRESS:PORT"},
	    {"{" RULES ", \"listen\": \":80\"}", "is not ADDRESS:PORT"},
	    {"{" RULES ", \"listen\": \"a:65536\"}", "is not ADDRESS:PORT"},
	    {"{" RULES ", \"listen\": \"a:x\"}", "is not ADDRESS:PORT"},
	    {"{" RULES ", \"record\": {\"engine\": \"usdt\"}}", "\"hybrid\" or \"exact\""},
	    {"{" RULES ", \"record\": {\"frequency\": 0}}", "a number from 1 to 1000"},
	    {"{\"record\": {\"engine\": \"sample\"}, \"captures\": \"/c\",\n"
	     "\"rules\": [{\"name\": \"a\", \"capture\": {\"on\": []}}]}",
	     "f:2: \"capture\" needs \"engine\": \"exact\""},
	    {"{" RULES ", \"record\": {\n\"exceptions\": true}}",
	     "f:2: \"exceptions\" needs \"engine\": \"exact\""},
	    {"{" RULES ",\n\"record\": {\n\"cuda\": \"driver\"}}",
	     "f:3: \"cuda\" needs \"engine\": \"exact\""},
	    {"{\"rules\": [{},\n{\n\"max_overhead\": \"1%\"}]}",
	     "f:3: \"max_overhead\" needs \"engine\": \"exact\""},
	    {"{" RULES ", \"record\": {\"engine\": \"hybrid\",\n\"max_overhead\": \"1%\"}}",
	     "f:2: \"max_overhead\" needs \"engine\": \"exact\""},
	    {"{" RULES ", \"record\": {\"engine\": \"sample\", \"max_overhead\": \"1%\"}}",
	     "f:1: \"max_overhead\" needs \"engine\": \"exact\""},
	    {"{" RULES ", \"listen\": \"unix:run/x\"}", "nor unix:/PATH"},
	    {"{" RULES ", \"listen\": \"unix:/\"}", "nor unix:/PATH"},
	    {"{" RULES ",\n\"listen\": \"0.0.0.0:80\"}",
	     "f:2: \"listen\": '0.0.0.0:80' is open to"},
	    {"{" RULES ", \"listen\": \"[::]:80\"}", "is open to other hosts"},
	    {"{" RULES ", \"listen\": \"[::ffff:127.0.0.1]:80\"}", "is open to other hosts"},
	    {"{" RULES ", \"listen\": \"128.0.0.1:80\", \"allow_plain\": false}", "is open to"},
	    {"{" RULES ", \"tls\": {\"cert_file\": \"a\"}}", "needs a \"cert_file\" and a"},
	    {"{" RULES ", \"tls\": {\"key\": \"a\"}}", "there is no key \"key\" here"},
	    {"{" RULES ", \"scan\": \"1ms\"}", "'1ms' is not a time"},
	    {"{" RULES ", \"scan\": \"never\"}", "'never' is not a time"},
	    {"{" RULES ", \"scan\": 1}", "\"scan\" must be a string"},
	    {"{" RULES ", \"record\": []}", "f:1: an object"},
	    {"{" RULES ", \"record\": {\n\"gc\": 1}}", "f:2: \"gc\" must be true or false"},
	    {"{" RULES ", \"record\": {\"gcc\": true}}", "there is no key \"gcc\" here"},
	    {"{" RULES ", \"record\": {\"cuda\": \"all\"}}", "\"cuda\" must be"},
	    {"{" RULES ", \"record\": {\"buffer\": \"2G\"}}", "'2G' is not a size"},
	    {"{" RULES ", \"metrics\": {\"processes\": 0}}", "a number from 1 to 1000"},
	    {"{" RULES ", \"metrics\": {\"functions\": -1}}", "a number from 1 to 1000"},
	    {"{" RULES ", \"metrics\": {\"functions\": 1e3}}", "a number from 1 to 1000"},
	    {"{" RULES ",\n\"otlp\": {\"interval\": \"1s\"}}",
	     "f:2: \"otlp\" needs an \"endpoint\""},
	    {"{" RULES ",\n\"otlp\": \"http://a\"}", "f:2: an object"},
	    {"{" RULES ", \"otlp\": {\n\"endpoint\": \"c:4318\"}}",
	     "f:2: \"endpoint\": 'c:4318' is no http"},
	    {"{" RULES ", \"otlp\": {\"endpoint\": \"http://\"}}", "is no http"},
	    {"{" RULES ", \"otlp\": {\"endpoint\": \"ftp://a\"}}", "is no http"},
	    {"{" RULES ", \"otlp\": {\"endpoint\": \"http://u:p@a\"}}", "holds a user"},
	    {"{" RULES ", \"otlp\": {\"endpoint\": \"http://a/?x=1\"}}",
	     "has something behind its path"},
	    {"{" RULES ", \"otlp\": {\"endpoint\": \"http://a\", \"spool\": {\n\"size\": 1}}}",
	     "f:2: there is no key \"size\""},
	    {"{" RULES
	     ", \"otlp\": {\"endpoint\": \"http://a\", \"spool\": {\"max_size\": \"1K\"}}}",
	     "'1K' is not a size"},
	    {"{\"rules\": {}}", "\"rules\" must be a list"},
	    {"{\"rules\": [\n1]}", "f:2: an object"},
	    {"{\"rules\": [{},\n{\"action\": \"maybe\"}]}", "f:2: \"action\" must be"},
	    {"{\"rules\": [{\n\"user\": \"no such user\"}]}", "f:2: \"user\": there is no user"},
	    {"{\"rules\": [{\n\"max_overhead\": \"0%\"}]}", "f:2: \"max_overhead\": '0%' is not"},
	    {"{\"rules\": [{\"max_overhead\": 1}]}", "must be a string"},
	    {"{" RULES ", \"record\": {\"max_overhead\": \"101%\"}}", "'101%' is not a share"},
	    {"{\"rules\": [{\"pid\": 1}]}", "there is no key \"pid\" here"},
	    {"{\"rules\": [\n{\"capture\": {}}]}", "f:2: \"capture\" needs a \"name\""},
	    {"{\"rules\": [{\"name\": \"..\", \"capture\": {}}]}", "needs a \"name\""},
	    {"{\"rules\": [{\"name\": \"a/b\", \"capture\": {}}]}", "needs a \"name\""},
	    {"{\"rules\": [{\"name\": \"a\", \"capture\": {}},\n"
	     "{\"capture\": {}, \"name\": \"a\"}]}",
	     "f:2: another rule with \"capture\" is called \"a\""},
	    {"{\"rules\": [{\"name\": \"a\", \"action\": \"exclude\", \"capture\": {}}]}",
	     "does not go with \"exclude\""},
	    {"{\"rules\": [{" CAPTURE "[\n\"crash\", \"slower:f:1s\"]}}]}",
	     "f:2: --on 'slower:f:1s': there is no such trigger"},
	    {"{\"rules\": [{" CAPTURE "[1]}}]}", "\"on\" must be a string"},
	    {"{\"rules\": [{" CAPTURE "\"crash\"}}]}", "\"on\" must be a list"},
	    {"{\"rules\": [{" CAPTURE "[\"crash\"], \"count\": 1}}]}", "there is no key \"count\""},
	    {"{\"rules\": [{" CAPTURE "[], \"last\": \"0s\"}}]}", "'0s' is not a time"},
	    {"{\"rules\": [{" CAPTURE "[], \"after\": \"25h\"}}]}", "'25h' is not a time"},
	    {"{\"rules\": [{" CAPTURE "[], \"memory\": \"1M\"}}]}", "from 2M to 1G"},
	    {"{\"rules\": [{" CAPTURE "[], \"max_captures\": 0}}]}", "a number from 1"},
	    {"{\"record\": {\"engine\": \"exact\", \"gc\": false}, \"rules\": [{" CAPTURE
	     "[\"crash\",\n\"gc:1s\"]}}]}",
	     "f:2: rule \"a\": 'gc:1s' needs what \"gc\" of \"record\" switches off"},
	    {"{\"record\": {\"engine\": \"exact\", \"cuda\": \"none\"}, \"rules\": [{},\n{" CAPTURE
	     "[\"cuda-error\"]}}]}",
	     "f:2: rule \"a\": 'cuda-error' needs what \"cuda\""},
	    {"{\"record\": {\"engine\": \"exact\"}, \"rules\": [{\"max_overhead\": \"1%\", " CAPTURE
	     "[]}}]}",
	     "\"capture\" and \"max_overhead\" exclude each other"},
	    {"{\"record\": {\"engine\": \"exact\", \"max_overhead\": \"1%\"},\n\"rules\": "
	     "[{" CAPTURE "[]}}]}",
	     "f:2: rule \"a\": \"capture\" and \"max_overhead\" exclude each other"},
	    {"{\"record\": {\"engine\": \"hybrid\"}, \"rules\": [{" CAPTURE
	     "[\"crash\",\n\"slow:f:1s\"]}}]}",
	     "f:2: \"slow:f:1s\" needs \"engine\": \"exact\""},
	    {"{\"record\": {\"engine\": \"exact\"}, \"rules\": [{" CAPTURE "[\"http\"]}}]}",
	     "'http' is for"},
	    {"{" OTLP ", \"rules\": [\n{\"traces\": {}}]}",
	     "f:2: \"traces\" needs \"slower_than\""},
	    {"{" OTLP ", \"rules\": [{\"traces\": {\"slower_than\": \"0s\"}}]}",
	     "'0s' is not a time such as \"500ms\" or \"2s\", from 1ms"},
	    {"{" OTLP ", \"rules\": [{\"traces\": {\"per_minute\": 0}}]}", "a number from 1"},
	    {"{" OTLP ", \"rules\": [{\"traces\": {\"calls\": 100}}]}", "a number from 0 to 99"},
	    {"{" OTLP ", \"rules\": [{\"traces\": []}]}", "an object"},
	    {"{" OTLP ", \"rules\": [\n{\"action\": \"exclude\", " TRACES "}]}",
	     "f:2: \"traces\" does not go with \"exclude\""},
	    {"{" OTLP ", \"rules\": [\n{" TRACES "}]}",
	     "f:2: \"traces\" needs \"engine\": \"exact\""},
	    {"{\"record\": {\"engine\": \"exact\"}, \"rules\": [{},\n{" TRACES "}]}",
	     "f:2: \"traces\" needs an \"endpoint\" in \"otlp\""},
	    {"{" RULES ",\n\"upload\": {}}", "f:2: \"upload\" needs a \"command\""},
	    {"{" RULES ", \"upload\": {\"command\": []}}", "\"command\" is empty"},
	    {"{" RULES ", \"upload\": {\"command\": [1]}}", "\"command\" must be a string"},
	    {"{" RULES ", \"upload\": {\"command\": \"a b\"}}", "\"command\" must be a list"},
	    {"{" RULES ", \"upload\": {\"s3\": {\"url\": \"http://h/b\"}}}",
	     "\"credentials_file\""},
	    {"{" RULES ", \"upload\": {\"s3\": {\"url\": \"s3://b\"}}}",
	     "\"url\": 's3://b' is no http:// or https:// address"},
	    {"{" RULES ", \"upload\": {\"s3\": {\"region\": \"a:b\"}}}", "'a:b' is none"},
	    {"{" RULES ", \"upload\": {\"attempts\": 0}}", "a number from 1"},
	    {"{\"captures\": \"\", \"rules\": [{}]}", "must be a string that is not empty"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct agent_config *config;
		struct pt_err err = {0};

		assert_int_equal(agent_config_parse("f", cases[i].text, &config, &err), -EINVAL);
		assert_null(config);
		assert_int_equal(err.exit_code, PT_EXIT_USAGE);
		if (!strstr(err.what, cases[i].what))
			fail_msg("'%s' said '%s', not '%s'", cases[i].text, err.what,
				 cases[i].what);
	}
}

/* Each prefix of a right one is wrong, and nothing is read beyond it. */
static void test_cut(void **state)
{
	static const char text[] =
	    "{\"metrics\": {\"processes\": 7}, \"rules\": [{\"exe\": \"\\\"*\"}]}";

	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		char *cut = strndup(text, len);
		struct agent_config *config;
		struct pt_err err = {0};

		assert_int_equal(agent_config_parse("f", cut, &config, &err), -EINVAL);
		free(cut);
	}
}

static int load(const char *token, mode_t mode, struct pt_err *err)
{
	char text[1024], path[512];
	struct agent_config *config;
	int rc;

	snprintf(path, sizeof(path), "%s", scratch_path("token"));
	unlink(path);
	if (token) {
		scratch_write(path, token, strlen(token));
		chmod(path, mode);
	}
	snprintf(text, sizeof(text), "{" RULES ", \"token_file\": \"%s\"}", path);
	scratch_write(scratch_path("config.json"), text, strlen(text));
	rc = agent_config_load(scratch_path("config.json"), &config, err);
	if (!rc)
		assert_string_equal(config->token, "0123456789abcdef");
	agent_config_free(config);
	return rc;
}

static void test_token(void **state)
{
	static const struct {
		const char *token, *what;
		mode_t mode;
	} cases[] = {
	    {NULL, "cannot read the token", 0600},
	    {"", "fewer than 16 characters", 0600},
	    {"short\n", "fewer than 16 characters", 0600},
	    {"0123456789abcdef\n", "everybody may read", 0604},
	};
	struct agent_config *config;
	struct pt_err err = {0};

	assert_int_equal(load("0123456789abcdef\n", 0640, &err), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pt_err_clear(&err);
		assert_true(load(cases[i].token, cases[i].mode, &err) < 0);
		assert_non_null(strstr(err.what, cases[i].what));
	}
	pt_err_clear(&err);
	assert_int_equal(agent_config_load("/nonexistent", &config, &err), -ENOENT);
}

/* "" for what is right. */
static void headers(const char *text, mode_t mode, size_t count, const char *what)
{
	char config_text[1024], path[512];
	struct agent_config *config;
	struct pt_err err = {0};
	int rc;

	snprintf(path, sizeof(path), "%s", scratch_path("headers"));
	unlink(path);
	scratch_write(path, text, strlen(text));
	chmod(path, mode);
	snprintf(config_text, sizeof(config_text),
		 "{" RULES ", \"otlp\": {\"endpoint\": \"http://a\", \"headers_file\": \"%s\"}}",
		 path);
	scratch_write(scratch_path("config.json"), config_text, strlen(config_text));
	rc = agent_config_load(scratch_path("config.json"), &config, &err);
	if (*what) {
		assert_true(rc < 0);
		if (!strstr(err.what, what))
			fail_msg("said '%s', not '%s'", err.what, what);
		return;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(config->otlp.header_count, count);
	if (count)
		assert_string_equal(config->otlp.headers[0], "Authorization: Bearer x");
	agent_config_free(config);
}

static void test_headers(void **state)
{
	headers("", 0600, 0, "");
	headers("Authorization: Bearer x\r\n\nX-Scope: a\n", 0600, 2, "");
	headers("A: b\n", 0644, 0, "everybody may read the headers");
	headers("A: b\nno header\n", 0600, 0, "headers:2: this is no header");
	headers("A:\n", 0600, 0, ":1: this is no header");
	headers("A b: c\n", 0600, 0, ":1: this is no header");
	headers("A: b\rc\n", 0600, 0, ":1: this is no header");
	headers("A: \001\n", 0600, 0, ":1: this is no header");
	headers("content-Type: text/plain\n", 0600, 0, ":1: this is no header");
}

static void test_rules(void **state)
{
	static const char text[] =
	    "{\"rules\": [{\"name\": \"a\", \"action\": \"exclude\", \"command\": \"*secret*\"},\n"
	    "{\"name\": \"b\", \"command\": \"python3 *\", \"user\": 7},\n"
	    "{\"name\": \"c\", \"exe\": \"/nowhere\"}, {\"name\": \"d\", \"cgroup\": \"no "
	    "such\"},\n"
	    "{\"name\": \"e\", \"exe\": \"*/test_agent_config\", \"cgroup\": \"/*\"}]}";
	struct pt_process process = {.pid = getpid(), .uid = 7, .cmdline = (char *)"python3 a"};
	struct agent_config *config;
	struct pt_err err = {0};

	assert_int_equal(agent_config_parse("f", text, &config, &err), 0);
	assert_string_equal(agent_config_rule(config, &process)->name, "b");
	process.uid = 8;
	assert_string_equal(agent_config_rule(config, &process)->name, "e");
	process.cmdline = (char *)"python3 a secret b";
	assert_string_equal(agent_config_rule(config, &process)->name, "a");
	process.cmdline = NULL;
	process.pid = 1 << 30;
	assert_null(agent_config_rule(config, &process));
	agent_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults), cmocka_unit_test(test_traces),
	    cmocka_unit_test(test_all_keys), cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_wrong),    cmocka_unit_test(test_cut),
	    cmocka_unit_test(test_token),    cmocka_unit_test(test_rules),
	    cmocka_unit_test(test_headers),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What the agent takes from people: its configuration, and the parts of a request that are not left
 * to libmicrohttpd (paths and methods are compared with a few fixed ones). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/config.h"
#include "base/http.h"
#include "base/listen.h"

#define TOKEN "0123456789abcdef"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_config(const char *text)
{
	struct agent_config *config = NULL;
	struct pt_err err = {0};
	int rc = agent_config_parse("f", text, &config, &err);

	/* it is taken, or there is a place and a reason */
	if (rc ? config || strncmp(err.what, "f:", 2) != 0 : !config || !config->rule_count)
		abort();
	if (!rc && !pt_listen_check(config->listen))
		abort();
	if (!rc && !config->allow_plain && !config->tls.key_file &&
	    !pt_listen_is_local(config->listen))
		abort();
	agent_config_free(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);
	bool listens;

	if (!text)
		abort();
	check_config(text);
	listens = pt_listen_check(text);
	if (listens && strncmp(text, "unix:/", 6) != 0 && !strchr(text, ':'))
		abort();
	pt_listen_is_local(text);
	if (pt_http_authorized(text, TOKEN) != !strcmp(text, "Bearer " TOKEN))
		abort();
	free(text);
	return 0;
}

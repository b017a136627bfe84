// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/otlp.h"
#include "base/utf8.h"

#define MAX (sizeof(((struct agent_resource *)NULL)->attributes) / sizeof(struct pt_series_label))

static int digit(char c)
{
	return c >= '0' && c <= '9'         ? c - '0'
	       : isxdigit((unsigned char)c) ? (c | 0x20) - 'a' + 10
					    : -1;
}

/* Replaces %XX in place. */
static int decode(char *text)
{
	char *out = text, *copy;

	for (const char *p = text; *p; p++) {
		if (*p != '%') {
			*out++ = *p;
			continue;
		}
		if (digit(p[1]) < 0 || digit(p[2]) < 0 || !(digit(p[1]) | digit(p[2])))
			return -EBADMSG;
		*out++ = (char)(digit(p[1]) * 16 + digit(p[2]));
		p += 2;
	}
	*out = '\0';
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	/* what is no UTF-8 would become longer: it is refused */
	pt_utf8_clean(text, strlen(copy) + 1, copy, strlen(copy));
	if (strcmp(text, copy) != 0) {
		free(copy);
		return -EBADMSG;
	}
	free(copy);
	return 0;
}

static char *trim(char *text)
{
	size_t len;

	text += strspn(text, " \t");
	len = strlen(text);
	while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		text[--len] = '\0';
	return text;
}

static int add(struct agent_resource *resource, char *key, const char *value)
{
	static const char *const ours[] = {"service.name", "service.instance.id", "service.version",
					   "process.pid"};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (!strcmp(key, ours[i]))
			return 0;
	if (!strcmp(key, "host.name")) {
		snprintf(resource->host, sizeof(resource->host), "%s", value);
		return 0;
	}
	if (resource->attribute_count == MAX)
		return -EBADMSG;
	resource->attributes[resource->attribute_count++] = (struct pt_series_label){key, value};
	return 0;
}

static int parse(struct agent_resource *resource)
{
	char *rest = resource->text, *pair, *key, *value;

	while ((pair = strsep(&rest, ","))) {
		int rc;

		pair = trim(pair);
		if (!*pair)
			continue;
		value = strchr(pair, '=');
		if (!value)
			return -EBADMSG;
		*value = '\0';
		key = trim(pair);
		value = trim(value + 1);
		rc = decode(key);
		if (!rc)
			rc = decode(value);
		if (!rc)
			rc = *key ? add(resource, key, value) : -EBADMSG;
		if (rc)
			return rc;
	}
	return 0;
}

static void take_host_name(struct agent_resource *resource)
{
	char name[256] = "";

	gethostname(name, sizeof(name) - 1);
	pt_utf8_clean(resource->host, sizeof(resource->host), name, strlen(name));
}

int agent_resource_init(struct agent_resource *resource, const char *variable)
{
	int rc;

	memset(resource, 0, sizeof(*resource));
	take_host_name(resource);
	if (!variable)
		return 0;
	resource->text = strdup(variable);
	rc = resource->text ? parse(resource) : -ENOMEM;
	if (rc) {
		agent_resource_release(resource);
		take_host_name(resource);
	}
	return rc;
}

void agent_resource_release(struct agent_resource *resource)
{
	free(resource->text);
	memset(resource, 0, sizeof(*resource));
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The files that the configuration names: certificates, tokens, headers, credentials.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/config_parts.h"
#include "target/maps.h"
#include "target/secret.h"

#define TLS_MAX_BYTES         (1u << 20)
#define HEADERS_MAX_BYTES     16384
#define CREDENTIALS_MAX_BYTES 4096

/* Those that say what the body is are ours. */
static bool is_header(const char *line)
{
	static const char *const ours[] = {
	    "content-type:", "content-encoding:", "content-length:", "transfer-encoding:"};
	size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789!#$%&'*+-.^_`|~"); /* RFC 9110, token */

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (!strncasecmp(line, ours[i], strlen(ours[i])))
			return false;
	if (!name || line[name] != ':' || !line[name + 1 + strspn(line + name + 1, " \t")])
		return false;
	for (const char *p = line + name; *p; p++)
		if ((unsigned char)*p < ' ' && *p != '\t')
			return false;
	return true;
}

/* One line: KEY ID:SECRET KEY */
static int read_credentials(struct agent_upload_config *upload, struct pt_err *err)
{
	const char *path = upload->credentials_file, *colon;
	char *text = NULL;
	int rc = path ? pt_secret_read(path, "the credentials", CREDENTIALS_MAX_BYTES, &text, err)
		      : 0;

	if (!rc && path) {
		text[strcspn(text, "\r\n")] = '\0';
		colon = strchr(text, ':');
		if (!colon || colon == text || !colon[1] || strpbrk(text, " \t"))
			rc = pt_err_set(err, -EINVAL, PT_EXIT_USAGE,
					"its only line is KEY_ID:SECRET_KEY",
					"there are no credentials in '%s'", path);
	}
	upload->credentials = text;
	return rc;
}

static int read_headers(struct agent_otlp_config *otlp, struct pt_err *err)
{
	char *text = NULL, *rest, *line;
	unsigned int number = 0;
	int rc = otlp->headers_file ? pt_secret_read(otlp->headers_file, "the headers",
						     HEADERS_MAX_BYTES, &text, err)
				    : 0;

	rest = text;
	while (!rc && (line = strsep(&rest, "\n"))) {
		size_t len = strlen(line);

		number++;
		if (len && line[len - 1] == '\r')
			line[--len] = '\0';
		if (!len)
			continue;
		if (!is_header(line) || otlp->header_count == AGENT_HEADERS_MAX)
			rc = pt_err_set(err, -EINVAL, PT_EXIT_USAGE,
					"a line is \"Name: value\", up to 32 of them; those of the "
					"content are not for you",
					"%s:%u: this is no header", otlp->headers_file, number);
		else if (!(otlp->headers[otlp->header_count] = strdup(line)))
			rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
		else
			otlp->header_count++;
	}
	free(text);
	return rc;
}

static int read_tls(struct agent_tls_config *tls, struct pt_err *err)
{
	size_t size;
	int rc = tls->cert_file ? pt_proc_read(tls->cert_file, TLS_MAX_BYTES, &tls->cert, &size)
				: 0;

	if (rc)
		return pt_err_set(err, rc, PT_EXIT_USAGE, "",
				  "cannot read the certificate in '%s': %s", tls->cert_file,
				  strerror(-rc));
	return tls->key_file
		   ? pt_secret_read(tls->key_file, "the key", TLS_MAX_BYTES, &tls->key, err)
		   : 0;
}

int config_read_files(struct agent_config *config, struct pt_err *err)
{
	int rc = config->token_file ? pt_secret_read_token(config->token_file, &config->token, err)
				    : 0;

	if (!rc)
		rc = read_tls(&config->tls, err);
	if (!rc)
		rc = read_headers(&config->otlp, err);
	return rc ? rc : read_credentials(&config->upload, err);
}

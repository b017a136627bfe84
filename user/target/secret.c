// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "target/maps.h"

#define TOKEN_MAX_BYTES 4096
#define TOKEN_MIN_CHARS 16

int pt_secret_read(const char *path, const char *what, size_t max_bytes, char **text,
		   struct pt_err *err)
{
	struct stat st;
	size_t size;
	int rc = pt_proc_read(path, max_bytes, text, &size);

	if (rc) {
		*text = NULL;
		pt_err_set(err, rc, PT_EXIT_USAGE, "", "cannot read %s in '%s': %s", what, path,
			   strerror(-rc));
		return rc;
	}
	if (strlen(*text) != size)
		rc = pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "", "'%s' has a NUL in it", path);
	else if (stat(path, &st) || st.st_mode & 0007)
		rc = pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "chmod o= it",
				"everybody may read %s in '%s'", what, path);
	if (rc) {
		free(*text);
		*text = NULL;
	}
	return rc;
}

int pt_secret_read_token(const char *path, char **token, struct pt_err *err)
{
	int rc = pt_secret_read(path, "the token", TOKEN_MAX_BYTES, token, err);

	if (rc)
		return rc;
	(*token)[strcspn(*token, "\r\n")] = '\0';
	if (strlen(*token) >= TOKEN_MIN_CHARS)
		return 0;
	free(*token);
	*token = NULL;
	return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "openssl rand -hex 32 makes one",
			  "the token in '%s' has fewer than %d characters", path, TOKEN_MIN_CHARS);
}

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * secret.h - reads files with secrets in them. Stateless.
 */
#ifndef PT_TARGET_SECRET_H
#define PT_TARGET_SECRET_H

#include <stddef.h>

#include "base/err.h"

/* Reads a file with a secret (what) in it, from malloc. Others must not be able to read it: it
 * would be none. -errno and err. */
int pt_secret_read(const char *path, const char *what, size_t max_bytes, char **text,
		   struct pt_err *err);
/* The first line of one, which must be long enough for a token. */
int pt_secret_read_token(const char *path, char **token, struct pt_err *err);

#endif

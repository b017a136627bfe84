// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int pt_err_set(struct pt_err *err, int code, enum pt_exit exit_code, const char *hint,
	       const char *fmt, ...)
{
	va_list args;

	if (!err || pt_err_is_set(err))
		return code;
	err->exit_code = exit_code;
	va_start(args, fmt);
	vsnprintf(err->what, sizeof(err->what), fmt, args);
	va_end(args);
	snprintf(err->hint, sizeof(err->hint), "%s", hint ? hint : "");
	return code;
}

void pt_err_clear(struct pt_err *err)
{
	memset(err, 0, sizeof(*err));
}

bool pt_err_is_set(const struct pt_err *err)
{
	return err->exit_code != PT_EXIT_DONE;
}

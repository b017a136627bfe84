/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* cfunctions.h - the value of --c-functions. */
#ifndef PT_APP_CFUNCTIONS_H
#define PT_APP_CFUNCTIONS_H

#include "app/options.h"

/* The set that is recorded when nothing is asked for, where that costs calls of others nothing. */
#define APP_C_FUNCTIONS_DEFAULT "waiting"

/* text: "none", "all", or a comma-separated list of globs, among them "waiting" and "blocking" for
 * curated sets. *wanted: any at all; globs stays empty for all; named gets those that were given
 * themselves. -EINVAL, -ENOMEM. */
int app_parse_c_functions(const char *text, bool *wanted, struct app_list *globs,
			  struct app_list *named);

#endif

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* cfunctions.h - the value of --c-functions. */
#ifndef PT_APP_CFUNCTIONS_H
#define PT_APP_CFUNCTIONS_H

#include "app/options.h"

/* text: "none", "all", or a comma-separated list of globs, among them "blocking" for the curated
 * set. *wanted: any at all; globs stays empty for all; named gets those that were given
 * themselves. -EINVAL, -ENOMEM. */
int app_parse_c_functions(const char *text, bool *wanted, struct app_list *globs,
			  struct app_list *named);

#endif

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * html.h - the report of a capture as one HTML page, which fetches nothing and runs nothing.
 */
#ifndef PT_FLIGHT_HTML_H
#define PT_FLIGHT_HTML_H

#include <stdio.h>

#include "sink/report.h"

/* meta: the text of meta.json; stacks: that of stacks.txt; top: how many functions. Whatever names
 * are made of, they stay text. 0, -errno. */
int pt_html_report(const char *meta, const struct pt_report *report, const char *stacks, size_t top,
		   FILE *out);
/* Text of an HTML document: what has a meaning there is escaped, control codes but the end of a
 * line become '?'. */
void pt_html_text(const char *text, FILE *out);

#endif

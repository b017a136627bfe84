// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/html.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

/* The policy holds the browser to it: no script, nothing from elsewhere. */
static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
    "'unsafe-inline'\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n"
    "<title>pytrace-bpf capture</title>\n<style>\n"
    "body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;"
    "color:#222;background:#fff}\n"
    "h1{font-size:1.4em}h2{font-size:1.15em;margin-top:2em}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "td,th{padding:.15em .8em .15em 0;text-align:left;vertical-align:top;"
    "border-bottom:1px solid #ddd;overflow-wrap:anywhere}\n"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\n"
    "small{color:#666}progress{width:8em}\n"
    "pre{background:#f6f6f6;padding:1em;overflow-x:auto}\n"
    "</style>\n</head>\n<body>\n";

void pt_html_text(const char *text, FILE *out)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)text[0], next = (unsigned char)text[1];

		/* C2 80 .. C2 9F are control codes, too */
		if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
			text++;
			fputc('?', out);
		} else if (c == '&') {
			fputs("&amp;", out);
		} else if (c == '<') {
			fputs("&lt;", out);
		} else if (c == '>') {
			fputs("&gt;", out);
		} else if (c == '"') {
			fputs("&quot;", out);
		} else if (c == '\'') {
			fputs("&#39;", out);
		} else {
			fputc((c < 0x20 && c != '\n') || c == 0x7f ? '?' : c, out);
		}
	}
}

static void print_value(const cJSON *item, FILE *out)
{
	char *printed = cJSON_IsString(item) ? NULL : cJSON_PrintUnformatted(item);

	pt_html_text(printed ? printed : cJSON_IsString(item) ? item->valuestring : "", out);
	free(printed);
}

static int print_meta(const char *meta, FILE *out)
{
	cJSON *root = cJSON_Parse(meta);
	const cJSON *item;

	if (!root)
		return -ENOMEM;
	fputs("<h1>", out);
	print_value(cJSON_GetObjectItemCaseSensitive(root, "what"), out);
	fputs("</h1>\n<table>\n", out);
	cJSON_ArrayForEach (item, root) {
		fputs("<tr><th>", out);
		pt_html_text(item->string, out);
		fputs("</th><td>", out);
		print_value(item, out);
		fputs("</td></tr>\n", out);
	}
	fputs("</table>\n", out);
	cJSON_Delete(root);
	return 0;
}

struct table {
	FILE *out;
	bool by_total;
	uint64_t most_ns; /* of the first row */
};

static void print_row(const struct pt_report_row *row, void *ctx)
{
	struct table *table = ctx;
	uint64_t ns = table->by_total ? row->total_ns : row->self_ns;

	if (!table->most_ns)
		table->most_ns = ns ? ns : 1;
	fprintf(table->out,
		"<tr><td><progress max=\"%llu\" value=\"%llu\"></progress></td>"
		"<td class=\"n\">%.3f</td><td class=\"n\">%.3f</td><td class=\"n\">%llu</td><td>",
		(unsigned long long)table->most_ns, (unsigned long long)ns,
		(double)row->self_ns / 1e6, (double)row->total_ns / 1e6,
		(unsigned long long)row->calls);
	pt_html_text(row->qualname, table->out);
	fputs(" <small>", table->out);
	pt_html_text(row->file, table->out);
	if (row->line)
		fprintf(table->out, ":%u", row->line);
	fputs("</small></td></tr>\n", table->out);
}

static int print_functions(const struct pt_report *report, bool by_total, size_t top, FILE *out)
{
	struct table table = {.out = out, .by_total = by_total};
	int rc;

	fprintf(
	    out,
	    "<h2>Functions by %s time</h2>\n<table>\n<tr><th></th><th class=\"n\">self (ms)</th>"
	    "<th class=\"n\">total (ms)</th><th class=\"n\">calls</th><th>function</th></tr>\n",
	    by_total ? "total" : "self");
	rc = pt_report_each(report, by_total, top, print_row, &table);
	fputs("</table>\n", out);
	return rc;
}

int pt_html_report(const char *meta, const struct pt_report *report, const char *stacks, size_t top,
		   FILE *out)
{
	int rc;

	fputs(head, out);
	rc = print_meta(meta, out);
	if (!rc)
		rc = print_functions(report, false, top, out);
	if (!rc)
		rc = print_functions(report, true, top, out);
	if (rc)
		return rc;
	fputs("<h2>Calls that were open at the end</h2>\n<pre>", out);
	pt_html_text(stacks, out);
	fputs("</pre>\n</body>\n</html>\n", out);
	return ferror(out) ? -EIO : 0;
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/parse.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* Digits, and up to nine more behind a point: exact, and independent of the locale. */
static int parse_decimal(const char **at, uint64_t *whole, uint64_t *billionths)
{
	const char *p = *at;
	uint64_t scale = 100000000;

	*whole = *billionths = 0;
	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(*whole, 10, whole) ||
		    __builtin_add_overflow(*whole, (uint64_t)(*p - '0'), whole))
			return -ERANGE;
	if (*p == '.') {
		if (p[1] < '0' || p[1] > '9')
			return -EINVAL;
		for (p++; *p >= '0' && *p <= '9'; p++, scale /= 10)
			*billionths += (uint64_t)(*p - '0') * scale;
	}
	*at = p;
	return 0;
}

static int parse_with_unit(const char *text, const struct unit *units, uint64_t *value)
{
	uint64_t whole, billionths;
	int rc = parse_decimal(&text, &whole, &billionths);

	if (rc)
		return rc;
	while (units->name && strcmp(units->name, text))
		units++;
	if (!units->name)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, units->factor, &whole))
		return -ERANGE;
	billionths = (uint64_t)((unsigned __int128)billionths * units->factor / 1000000000u);
	if (__builtin_add_overflow(whole, billionths, value))
		return -ERANGE;
	return 0;
}

int pt_parse_time_ns(const char *text, uint64_t *ns)
{
	static const struct unit units[] = {
	    {"", 1000000000ull},
	    {"s", 1000000000ull},
	    {"ms", 1000000ull},
	    {"us", 1000ull},
	    {"ns", 1ull},
	    {"m", 60 * 1000000000ull},
	    {"min", 60000000000ull},
	    {"h", 3600 * 1000000000ull},
	    {NULL, 0},
	};

	return parse_with_unit(text, units, ns);
}

int pt_parse_percent(const char *text, uint64_t *ppm)
{
	static const struct unit units[] = {{"%", 10000}, {"", 10000}, {NULL, 0}};
	int rc = parse_with_unit(text, units, ppm);

	return rc ? rc : *ppm > 1000000 ? -ERANGE : 0;
}

int pt_parse_size(const char *text, uint64_t *bytes)
{
	static const struct unit units[] = {
	    {"", 1},           {"B", 1},        {"K", 1u << 10},  {"KB", 1u << 10},
	    {"KiB", 1u << 10}, {"k", 1u << 10}, {"M", 1u << 20},  {"MB", 1u << 20},
	    {"MiB", 1u << 20}, {"G", 1u << 30}, {"GB", 1u << 30}, {"GiB", 1u << 30},
	    {"T", 1ull << 40}, {NULL, 0},
	};

	return parse_with_unit(text, units, bytes);
}

int pt_parse_number(const char *text, uint64_t *number)
{
	static const struct unit units[] = {{"", 1}, {NULL, 0}};

	return strchr(text, '.') ? -EINVAL : parse_with_unit(text, units, number);
}

static int append_pid(pid_t pid, pid_t **pids, size_t *count)
{
	pid_t *bigger;

	for (size_t i = 0; i < *count; i++)
		if ((*pids)[i] == pid)
			return 0;
	bigger = reallocarray(*pids, *count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	*pids = bigger;
	bigger[(*count)++] = pid;
	return 0;
}

int pt_parse_pids(const char *text, pid_t **pids, size_t *count)
{
	for (;;) {
		uint64_t whole, billionths;
		int rc = parse_decimal(&text, &whole, &billionths);

		if (rc)
			return rc;
		if (billionths || !whole)
			return -EINVAL;
		if (whole > INT_MAX)
			return -ERANGE;
		if (*text && *text != ',')
			return -EINVAL;
		rc = append_pid((pid_t)whole, pids, count);
		if (rc || !*text)
			return rc;
		text++;
	}
}

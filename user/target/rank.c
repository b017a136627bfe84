// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/rank.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target/maps.h"

#define ENVIRON_MAX_BYTES (4u << 20)

/* Digits alone, up to INT32_MAX. */
static bool parse_number(const char *text, size_t len, uint32_t *number)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = 10 * value + (uint64_t)(text[i] - '0');
		if (value > INT32_MAX)
			return false;
	}
	*number = (uint32_t)value;
	return len != 0;
}

/* The first of a name counts, as for getenv(). */
static bool find_number(const char *text, size_t size, const char *name, uint32_t *number)
{
	size_t name_len = strlen(name), len;

	for (size_t at = 0; at < size; at += len + 1) {
		len = strnlen(text + at, size - at);
		if (len >= name_len && !memcmp(text + at, name, name_len))
			return parse_number(text + at + name_len, len - name_len, number);
	}
	return false;
}

bool pt_rank_parse(const char *text, size_t size, uint32_t *rank, uint32_t *world_size)
{
	return find_number(text, size, "RANK=", rank) &&
	       find_number(text, size, "WORLD_SIZE=", world_size) && *rank < *world_size;
}

bool pt_rank_read(pid_t pid, uint32_t *rank, uint32_t *world_size)
{
	char path[64], *text;
	size_t size;
	bool found;

	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	if (pt_proc_read(path, ENVIRON_MAX_BYTES, &text, &size))
		return false;
	found = pt_rank_parse(text, size, rank, world_size);
	free(text);
	return found;
}

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * parse.h - times, sizes, numbers and lists of pids, as people write them. Pure functions; -EINVAL
 * for what is not one, -ERANGE for what is too large.
 */
#ifndef PT_BASE_PARSE_H
#define PT_BASE_PARSE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* "10s", "1.5s", "500ms", "20us", "7ns", "2m", "1h"; a bare number is seconds. */
int pt_parse_time_ns(const char *text, uint64_t *ns);
/* "4096", "512K", "64M", "1.5G"; powers of 1024. */
int pt_parse_size(const char *text, uint64_t *bytes);
int pt_parse_number(const char *text, uint64_t *number);
/* "1%", "0.5%", "2": millionths, 10000 for 1 %. More than 100 % is too large. */
int pt_parse_percent(const char *text, uint64_t *ppm);
/* "12,34": appends to *pids (from malloc, or NULL), each pid once. */
int pt_parse_pids(const char *text, pid_t **pids, size_t *count);

#endif

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * usage.h - what this program itself uses.
 */
#ifndef PT_BASE_USAGE_H
#define PT_BASE_USAGE_H

#include <stdint.h>

/* Memory that it has allocated and touched, without mapped files and the ring buffer; 0: cannot be
 * told. */
uint64_t pt_own_memory_bytes(void);
/* CPU time of all its threads. */
uint64_t pt_own_cpu_ns(void);

#endif

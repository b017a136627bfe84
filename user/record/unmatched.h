/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * unmatched.h - names that the user gave and nothing had: a misspelt --args would else look like a
 * function that is never called.
 *
 * Life cycle: unmatched_new() -> unmatched_record() of each record -> unmatched_tell() ->
 * unmatched_free(). One thread at a time. The options' texts are borrowed.
 */
#ifndef PT_RECORD_UNMATCHED_H
#define PT_RECORD_UNMATCHED_H

#include <stddef.h>

#include "probe/attach.h"
#include "pt_abi.h"

struct unmatched;

/* *out becomes NULL if no names were given. -ENOMEM. */
int unmatched_new(const struct pt_tracer_options *options, struct unmatched **out);
/* Any record whose kind and length are right; other damage does no harm. */
void unmatched_record(struct unmatched *unmatched, const struct pt_rec *record, size_t len);
/* A warning for each name that was not met. */
void unmatched_tell(const struct unmatched *unmatched);
/* How many there are. */
size_t unmatched_count(const struct unmatched *unmatched);
void unmatched_free(struct unmatched *unmatched);

#endif

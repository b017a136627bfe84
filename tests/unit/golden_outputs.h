/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * golden_outputs.h - all that a capture leads to, for tests/golden.
 */
#ifndef GOLDEN_OUTPUTS_H
#define GOLDEN_OUTPUTS_H

/* The golden captures, NULL-terminated. */
extern const char *const golden_names[];

/* Replays CAPTURE into NAME.json, NAME.report.txt and NAME.report.json in the current folder.
 * Returns what failed, or NULL. */
const char *golden_outputs(const char *capture, const char *name);

#endif

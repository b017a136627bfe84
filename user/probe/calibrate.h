/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * calibrate.h - measures which instruction classes this kernel emulates under a uprobe, and which
 * it single-steps out of line (ten times dearer), by probing small functions of this program.
 */
#ifndef PT_PROBE_CALIBRATE_H
#define PT_PROBE_CALIBRATE_H

#include <stdbool.h>

#include "base/err.h"
#include "python/image.h"

struct pt_calibration {
	unsigned int emulated;          /* set of 1u << enum py_insn_class */
	double ns[PY_INSN_CLASS_COUNT]; /* cost of one hit, empty program; 0: not measured */
	bool from_cache;
};

/* cache_dir may be NULL. The cache is keyed by kernel release and boot id. */
int pt_calibrate(const char *cache_dir, struct pt_calibration *result, struct pt_err *err);

#endif

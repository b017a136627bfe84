/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* gen_skel.h - the generated skeleton, which names the types of pt_maps.h without including it. */
#ifndef PT_PROBE_GEN_SKEL_H
#define PT_PROBE_GEN_SKEL_H

#include <bpf/libbpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdlib.h>

#include "pt_abi.h"
#include "pt_maps.h"

#ifdef __clang_analyzer__
/* It takes it that a function of a system header frees nothing. */
#define bpf_object__destroy_skeleton(skeleton) free(skeleton)
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include "pytrace.skel.h"
#pragma GCC diagnostic pop

#endif

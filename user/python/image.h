/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * image.h - what is known of one interpreter file (python3.N or libpython3.N.so): its version, its
 * field offsets, and where frames start and end in its code.
 *
 * Pure: it reads a file and nothing else, needs no root and no running process, and says no
 * (-ENOTSUP with a reason) rather than guess. PT_SITE positions depend on which instructions this
 * kernel emulates under a uprobe, so the caller passes that in (probe/calibrate.h measures it).
 *
 * Life cycle: py_image_load() -> use -> py_image_free(). Immutable after loading.
 */
#ifndef PT_PYTHON_IMAGE_H
#define PT_PYTHON_IMAGE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "pt_layout.h"

/* Classes of instructions as the kernel's uprobes treat them; a set is 1u << class or'ed. */
enum py_insn_class {
	PY_INSN_JCC,      /* conditional jump, rel8 or rel32 */
	PY_INSN_JMP,      /* jmp rel8, rel32 */
	PY_INSN_CALL,     /* call rel32 */
	PY_INSN_PUSH,     /* push of a register */
	PY_INSN_NOP1,     /* one-byte nop */
	PY_INSN_NOP_LONG, /* multi-byte nops but that of 5 bytes */
	PY_INSN_NOP5,
	PY_INSN_OTHER, /* single-stepped out of line everywhere */
	PY_INSN_CLASS_COUNT
};
/* What every x86-64 kernel since 5.10 emulates; used where no calibration has run (unit tests). */
#define PY_INSN_EMULATED_DEFAULT                                                                   \
	(1u << PY_INSN_JCC | 1u << PY_INSN_JMP | 1u << PY_INSN_CALL | 1u << PY_INSN_PUSH |         \
	 1u << PY_INSN_NOP1 | 1u << PY_INSN_NOP_LONG | 1u << PY_INSN_NOP5)

/* C_CALLS is no engine of its own: probes beside the frame engine's, for --c-functions. SAMPLE has
 * no probes. */
enum py_engine {
	PY_ENGINE_FRAME,
	PY_ENGINE_USDT,
	PY_ENGINE_C_CALLS,
	PY_ENGINE_SAMPLE,
	PY_ENGINE_COUNT,
};

struct py_c_types { /* vaddrs of the types that tell C functions, 0: not there */
	uint64_t function, method, descr, module;
};

/* What can be told of the runtime beside frames. */
enum py_feature {
	PY_FEATURE_GC,
	PY_FEATURE_GIL,
	PY_FEATURE_IMPORTS, /* needs no sites: frames tell */
	PY_FEATURE_AUDIT,
	PY_FEATURE_EXCEPTIONS,
	PY_FEATURE_VALUES, /* --args, --retval, --local; needs no sites: frames tell */
	PY_FEATURE_ASYNC,  /* sites for greenlets up to 3.10 only: else frames tell */
	PY_FEATURE_COUNT,
};

struct py_site {
	uint64_t vaddr;          /* in the file's own address space (p_vaddr) */
	uint64_t offset;         /* in the file; what uprobes take */
	uint64_t cookie;         /* PT_COOKIE, layout index 0 */
	uint64_t ref_ctr_offset; /* file offset of the USDT semaphore, or 0 */
	uint64_t counter_vaddr;  /* the counter instruction that this probe stands for, or 0 */
	enum py_insn_class insn_class; /* of the probed instruction */
	const char *method; /* static text: "moved +3", "RESUME handler", "branch edge", "raw" .. */
	uint8_t bytes[16];  /* the instruction's bytes, to compare with the process's */
	uint8_t byte_count;
};

struct py_engine_plan {
	bool usable;
	char reason[256]; /* why not usable; or a remark (for example: one raw site, 6 us) */
	struct py_site *sites;
	size_t site_count;
};

struct py_symbol { /* vaddr 0: not there */
	uint64_t vaddr;
	uint64_t offset;
	uint64_t size;
};

#define PY_JIT_NO_FIELD UINT32_MAX

struct py_jit {              /* see python/jit.h */
	bool built;          /* the file has a JIT or a tier 2 interpreter */
	uint32_t interp_jit; /* offset of PyInterpreterState.jit, or PY_JIT_NO_FIELD */
	uint32_t rt_interp_head, interp_next; /* the way there; set if interp_jit is */
};

struct py_sample_layout { /* the way to a thread's frames without a probe; vaddrs and offsets */
	uint64_t interp_head, code_type;
	uint32_t interp_next, interp_threads;
	uint16_t ts_next, ts_interp, ts_thread_id;
	uint16_t ts_datastack; /* chunk, top, limit; PT_NO_FIELD: none */
};

struct py_image {
	char *path;          /* as given to py_image_load() */
	uint64_t dev, inode; /* of the file that was read */
	uint8_t build_id[32];
	size_t build_id_len; /* 0: the file has none */
	uint32_t version;    /* PY_VERSION_HEX; micro 0xff.. unknown before a process is seen */
	char version_text[32];
	bool stripped, debug, dtrace, free_threaded;
	struct pt_layout layout;
	struct py_engine_plan engines[PY_ENGINE_COUNT];
	struct py_engine_plan features[PY_FEATURE_COUNT];
	struct pt_rt_layout rt;
	struct pt_value_layout values;
	struct py_symbol runtime; /* _PyRuntime */
	/* up to 3.10: the variable that points to the running thread's state (usdt engine) */
	struct py_symbol tstate_current;
	struct py_symbol eval; /* _PyEval_EvalFrameDefault */
	struct py_jit jit;
	struct py_c_types c_types;
	struct py_sample_layout sample; /* if engines[PY_ENGINE_SAMPLE] is usable */
	double find_ms;                 /* how long finding took; 0 if from the cache */
	bool from_cache;
};

/* With the set of classes: look for the calls of C functions as well. It takes longer than all
 * else, and so has a place of its own in the cache. */
#define PY_FIND_C_CALLS (1u << 31)

/* Loads and analyses the file. path is opened once; label is the name for messages. emulated is a
 * set of enum py_insn_class, and PY_FIND_C_CALLS. -ENOENT/-EACCES as open(2), -ENOEXEC not an ELF
 * file with a CPython in it, -ENOTSUP a CPython that cannot be traced exactly (err says why). An
 * image with at least one usable engine is a success. cache_dir may be NULL: no cache. */
int py_image_load(const char *path, const char *label, unsigned int emulated, const char *cache_dir,
		  struct py_image **image, struct pt_err *err);
void py_image_free(struct py_image *image);

/* "gc", as the option is called. */
const char *py_feature_name(enum py_feature feature);
/* Adds the sites of the features (a set of 1u << enum py_feature; those not usable are passed over)
 * to the engine's plan. Once, after loading. -ENOMEM or -E2BIG. */
/* What says that a code object is freed, which an engine without calls does not have by itself.
 * -ENOENT: that is not known here. */
int py_image_add_free_code(struct py_image *image, enum py_engine engine);
int py_image_add_features(struct py_image *image, enum py_engine engine, unsigned int features);

/* "len()", of an enum pt_c_opcode. */
const char *py_c_opcode_name(unsigned int opcode);
/* Takes the probes on opcodes that do a function's work from the plan of the C calls, where none of
 * the globs (NULL: all match) is about that function. Once, after loading. Returns a set of 1u <<
 * enum pt_c_opcode: wanted, but without probes in this build. */
unsigned int py_image_keep_c_opcodes(struct py_image *image, const char *const *globs);
/* Has this version opcodes for one of the functions that the globs ask for? */
bool py_c_opcodes_wanted(const struct py_image *image, const char *const *globs);

#endif

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * parts.h - the parts that py_image_load() is made of. For user/python/ and its tests only.
 *
 * Order: py_layout_fill() says what the file is; then each engine's finder fills its plan. A finder
 * that says no returns -ENOTSUP with plan->reason set (py_plan_refuse) and leaves no sites; other
 * -errno values mean that something broke (memory). plan->usable is set by py_image_load() when a
 * finder returns 0.
 */
#ifndef PT_PYTHON_PARTS_H
#define PT_PYTHON_PARTS_H

#include "python/image.h"
#include "target/ehframe.h"
#include "target/elf.h"

/* What a finder looks at. */
struct py_finder {
	const struct elf_file *elf;
	const struct eh_ranges *eh;
	unsigned int emulated; /* set of 1u << enum py_insn_class */
};

/*
 * Identifies the interpreter. Fills image->version, version_text, debug, dtrace, free_threaded,
 * layout (ts_remaining may be left PT_NO_FIELD for 3.11+: the frame finder takes it from
 * Py_SetRecursionLimit and compares), runtime, tstate_current, eval. -ENOEXEC: no CPython in it;
 * -ENOTSUP: a CPython that is not supported (err set).
 */
int py_layout_fill(struct py_image *image, const struct elf_file *elf, struct pt_err *err);

/* The finders. sites_frame.c: 3.11+ */
int py_sites_frame(const struct py_image *image, const struct py_finder *finder,
		   struct pt_layout *layout, struct py_engine_plan *plan);
/* RESUME, INSTRUMENTED_RESUME, RESUME_CHECK, RESUME_CHECK_JIT of 3.N, 0: none; NULL: not known. */
#define PY_RESUME_OPCODES 4
const uint8_t *py_resume_opcodes(unsigned int minor);
/* sites_legacy.c: up to 3.10; the USDT probes; the code destructor. py_site_free_code() appends one
 * PT_SITE_FREE_CODE site to a plan that is otherwise complete. */
int py_sites_legacy(const struct py_image *image, const struct py_finder *finder,
		    struct py_engine_plan *plan);
int py_sites_usdt(const struct py_image *image, const struct py_finder *finder,
		  struct py_engine_plan *plan);
int py_site_free_code(const struct py_image *image, const struct py_finder *finder,
		      struct py_engine_plan *plan);

/* sample.c: image->sample, which takes no sites. */
int py_sample_fill(struct py_image *image, const struct elf_file *elf, struct py_engine_plan *plan);

/* The features' finders: sites_runtime.c, sites_events.c. layout_rt.c. sites_collector.c: what
 * py_sites_gc() does for 3.14+ without USDT probes; the debug message lies at that address */
int py_sites_gc(const struct py_image *image, const struct py_finder *finder,
		struct py_engine_plan *plan);
int py_sites_collector(const struct py_finder *finder, uint64_t message,
		       struct py_engine_plan *plan);
int py_sites_gil(const struct py_image *image, const struct py_finder *finder,
		 struct py_engine_plan *plan);
int py_sites_audit(const struct py_image *image, const struct py_finder *finder,
		   struct py_engine_plan *plan);
int py_sites_raise(const struct py_image *image, const struct py_finder *finder,
		   struct py_engine_plan *plan);
/* sites_throw.c: sets image->rt.chains; adds what that takes. Its saying no costs nothing else. */
int py_sites_throw(struct py_image *image, const struct py_finder *finder,
		   struct py_engine_plan *plan);
void py_rt_layout_fill(struct py_image *image, const struct py_finder *finder);
/* After the former: image->values. */
void py_value_layout_fill(struct py_image *image, const struct elf_file *elf);

/* The name of the imported function that a stub of the procedure linkage table at vaddr jumps to,
 * or NULL. noreturn.c */
struct mc_decoder;
const char *function_import_name(const struct elf_file *elf, struct mc_decoder *decoder,
				 uint64_t vaddr);

/* plan.c */
/* Fills vaddr, offset, bytes, byte_count and insn_class by decoding one instruction; the rest is
 * zeroed. -ENOENT: vaddr is not in the file's code; -EILSEQ: no instruction there. */
int py_site_init(struct py_site *site, const struct elf_file *elf, uint64_t vaddr);
/* py_site_init(), and adds it. */
int py_plan_add_at(struct py_engine_plan *plan, const struct elf_file *elf, uint64_t vaddr,
		   uint64_t cookie, const char *method);
/* Appends a copy; sites with the same address and cookie are added once. -ENOMEM. */
int py_plan_add(struct py_engine_plan *plan, const struct py_site *site);
/* Frees the sites, writes the reason, returns -ENOTSUP. */
int py_plan_refuse(struct py_engine_plan *plan, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The class of one instruction, as the kernel's uprobes see it (arch/x86/kernel/uprobes.c).
 * *length is set to its length; 0: it cannot be decoded (the class is then PY_INSN_OTHER). */
enum py_insn_class py_insn_classify(const uint8_t *bytes, size_t size, uint64_t vaddr,
				    size_t *length);

#endif

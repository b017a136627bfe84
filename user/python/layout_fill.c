// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* py_layout_fill(): what an interpreter file says of itself. */
#include <capstone/capstone.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "python/layout.h"
#include "python/parts.h"

#define HINT_VERSION                                                                               \
	"CPython 3.8 to 3.15 releases are supported; run the program on one of them, or look for " \
	"a newer pytrace-bpf"

static bool find_symbol(const struct elf_file *elf, const char *name, struct py_symbol *out)
{
	struct elf_symbol symbol;

	if (!elf_symbol(elf, name, &symbol))
		return false;
	*out = (struct py_symbol){.vaddr = symbol.vaddr, .size = symbol.size};
	/* what lies in .bss has no place in the file */
	if (!elf_vaddr_to_offset(elf, symbol.vaddr, &out->offset))
		out->offset = 0;
	return true;
}

static int note_is_python(const struct elf_sdt_note *note, void *ctx)
{
	(void)ctx;
	return !strcmp(note->provider, "python");
}

static int check_machine(const struct elf_file *elf, struct pt_err *err)
{
	if (elf->machine == EM_X86_64)
		return 0;
	return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
			  "only x86-64 interpreters can be traced so far",
			  "this CPython is built for another processor (%sELF machine %u)",
			  elf->machine == EM_AARCH64 ? "arm64, " : "", elf->machine);
}

/* Fills version and version_text, and refuses what is too old to have the rest. */
static int fill_version(struct py_image *image, const struct elf_file *elf, struct pt_err *err)
{
	struct py_version_place place;
	struct elf_symbol symbol;
	int rc;

	if (!elf_symbol(elf, "Py_GetVersion", &symbol))
		return -ENOEXEC;
	rc = check_machine(elf, err);
	if (rc)
		return rc;
	rc = py_version_locate(elf, &place);
	if (rc == -ENOENT)
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "the interpreter may be patched; try a stock build",
				  "the interpreter does not say which CPython version it is "
				  "(neither Py_Version nor Py_GetVersion can be read)");
	if (rc)
		return rc;
	image->version = place.version;
	py_version_format(place.version, image->version_text, sizeof(image->version_text));
	if (place.version < 0x03080000)
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, HINT_VERSION,
				  "CPython %s is too old", image->version_text);
	return 0;
}

/*
 * The variable that holds the running thread's state up to 3.10, from the exported
 * _PyThreadState_UncheckedGet(): a chain of loads from fixed addresses that ends in ret. The GOT
 * entry of _PyRuntime may be on the way (shared library), or not (static executable).
 */
static uint64_t tstate_variable(const struct elf_file *elf, csh handle, cs_insn *insn,
				uint64_t address)
{
	uint64_t known[X86_REG_ENDING] = {0}; /* register -> the address that it holds */
	uint64_t loaded_from = 0;             /* where rax was loaded from last */
	size_t left = 32;
	const uint8_t *bytes = elf_at_vaddr(elf, address, left);

	while (bytes && cs_disasm_iter(handle, &bytes, &left, &address, insn)) {
		const cs_x86_op *op = insn->detail->x86.operands;
		uint64_t from = 0;

		if (insn->id == X86_INS_RET)
			return loaded_from;
		if (insn->id == X86_INS_ENDBR64)
			continue;
		if ((insn->id != X86_INS_MOV && insn->id != X86_INS_LEA) ||
		    op[0].type != X86_OP_REG || op[0].size != 8)
			return 0;
		if (op[1].type == X86_OP_MEM && op[1].mem.index == X86_REG_INVALID) {
			if (op[1].mem.base == X86_REG_RIP)
				from = address + (uint64_t)op[1].mem.disp;
			else if (op[1].mem.base && known[op[1].mem.base])
				from = known[op[1].mem.base] + (uint64_t)op[1].mem.disp;
		}
		if (!from)
			return 0;
		known[op[0].reg] = from;
		if (insn->id == X86_INS_MOV && elf_read_ptr(elf, from, &known[op[0].reg]))
			known[op[0].reg] = 0;
		loaded_from = insn->id == X86_INS_MOV && op[0].reg == X86_REG_RAX ? from : 0;
	}
	return 0;
}

/* Leaves tstate_current empty (the usdt engine then says no) unless code and table agree. */
static int fill_tstate_current(struct py_image *image, const struct elf_file *elf,
			       const struct py_runtime_layout *runtime)
{
	uint64_t wanted = image->runtime.vaddr + runtime->rt_tstate_current;
	struct elf_symbol symbol;
	cs_insn *insn;
	csh handle;

	if (!elf_symbol(elf, "_PyThreadState_UncheckedGet", &symbol))
		return 0;
	if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK)
		return -ENOMEM;
	cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
	insn = cs_malloc(handle);
	if (insn && tstate_variable(elf, handle, insn, symbol.vaddr) == wanted) {
		image->tstate_current.vaddr = wanted;
		image->tstate_current.size = sizeof(uint64_t);
		if (!elf_vaddr_to_offset(elf, wanted, &image->tstate_current.offset))
			image->tstate_current.offset = 0;
	}
	if (insn)
		cs_free(insn, 1);
	cs_close(&handle);
	return insn ? 0 : -ENOMEM;
}

static uint16_t native_id(const struct py_runtime_layout *runtime)
{
	return runtime->ts_native_thread_id < PT_NO_FIELD ? (uint16_t)runtime->ts_native_thread_id
							  : PT_NO_FIELD;
}

static int fill_table_layout(struct py_image *image, const struct elf_file *elf, struct pt_err *err)
{
	struct py_runtime_layout runtime;
	struct elf_symbol symbol;
	int rc = py_layout_from_table(image->version, &image->layout, &runtime, err);

	if (rc)
		return rc;
	image->rt.ts_native_id = native_id(&runtime);
	/* --with-trace-refs puts two pointers in front of every object
	 * (Include/object.h); only such builds export this (Objects/object.c). */
	if (elf_symbol(elf, "_Py_PrintReferences", &symbol))
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, "try a build without it",
				  "CPython %s was built with --with-trace-refs, which moves every "
				  "field",
				  image->version_text);
	return runtime.rt_tstate_current == PY_NO_OFFSET || image->version >= 0x030b0000
		   ? 0
		   : fill_tstate_current(image, elf, &runtime);
}

static int fill_own_layout(struct py_image *image, const struct elf_file *elf, struct pt_err *err)
{
	struct py_runtime_layout runtime;
	size_t size = PY_DEBUG_OFFSETS_BYTES;
	const void *data = elf_at_vaddr(elf, image->runtime.vaddr, size);
	int rc;

	if (!data)
		size = 0;
	rc = py_layout_from_debug_offsets(data ? data : "", size, image->version,
					  &image->free_threaded, &image->layout, &runtime, err);
	if (!rc)
		image->rt.ts_native_id = native_id(&runtime);
	return rc;
}

int py_layout_fill(struct py_image *image, const struct elf_file *elf, struct pt_err *err)
{
	struct elf_symbol symbol;
	int rc = fill_version(image, elf, err);

	if (rc)
		return rc;
	if (!find_symbol(elf, "_PyRuntime", &image->runtime) ||
	    !find_symbol(elf, "_PyEval_EvalFrameDefault", &image->eval))
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "the interpreter must export its symbols, as stock builds do "
				  "(-rdynamic or a shared libpython)",
				  "CPython %s exports no _PyRuntime or _PyEval_EvalFrameDefault",
				  image->version_text);
	/* Builds with Py_DEBUG count references (Objects/object.c); no other build exports it. */
	image->debug = elf_symbol(elf, "_Py_NegativeRefcount", &symbol);
	image->dtrace = elf_each_sdt_note(elf, note_is_python, NULL) == 1;
	return image->version < 0x030d0000 ? fill_table_layout(image, elf, err)
					   : fill_own_layout(image, elf, err);
}

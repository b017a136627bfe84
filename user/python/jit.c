// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/jit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "python/decode.h"
#include "python/layout.h"
#include "target/maps.h"
#include "target/memory.h"

#define NAMES_MAX         8  /* places of one string; faulthandler has an is_enabled() too */
#define METHOD_BYTES      32 /* sizeof(PyMethodDef): name, function, flags, doc */
#define METHOD_FUNCTION   8
#define METHOD_FLAGS      16
#define METH_NOARGS       4   /* Include/methodobject.h */
#define FUNCTION_MAX      256 /* bytes looked at */
#define CALLS_MAX         16
#define CALL_DEPTH        3
#define FIELD_MIN         256
#define FIELD_MAX         (1 << 20)
#define INTERPRETERS_MAX  4096
#define ENVIRON_MAX_BYTES (8u << 20)

struct names { /* where a string lies */
	uint64_t vaddrs[NAMES_MAX];
	size_t count;
};

/* ---- the file ---- */

/* Every place of text with its NUL; NAMES_MAX at most, all of them where there are fewer. */
static void find_text(const struct elf_file *elf, const char *text, struct names *names)
{
	size_t length = strlen(text) + 1;

	names->count = 0;
	for (size_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *segment = &elf->segments[i];
		const uint8_t *data = NULL, *at;

		if (segment->type == PT_LOAD)
			data = elf_at(elf, segment->offset, segment->file_size);
		for (at = data; at && names->count < NAMES_MAX; at += length) {
			at = memmem(at, segment->file_size - (size_t)(at - data), text, length);
			if (!at)
				break;
			names->vaddrs[names->count++] = segment->vaddr + (uint64_t)(at - data);
		}
	}
}

static bool is_name(const struct names *names, uint64_t vaddr)
{
	for (size_t i = 0; i < names->count; i++)
		if (names->vaddrs[i] == vaddr)
			return true;
	return false;
}

static bool method_is(const struct elf_file *elf, uint64_t method, const struct names *names)
{
	uint64_t name;

	return !elf_read_ptr(elf, method, &name) && is_name(names, name);
}

/* Is this the PyMethodDef of sys._jit.is_enabled? Its neighbours belong to sys._jit as well
 * (_jit_methods, Python/sysmodule.c, 3.14 and 3.15). */
static bool method_fits(const struct elf_file *elf, uint64_t method, const struct names *neighbours)
{
	const void *bytes = elf_at_vaddr(elf, method + METHOD_FLAGS, sizeof(uint32_t));
	uint32_t flags;

	if (!bytes)
		return false;
	memcpy(&flags, bytes, sizeof(flags));
	return flags == METH_NOARGS && (method_is(elf, method + METHOD_BYTES, neighbours) ||
					method_is(elf, method - METHOD_BYTES, neighbours));
}

/* The function behind sys._jit.is_enabled; 0: not found, or found twice. */
static uint64_t find_method(const struct elf_file *elf)
{
	struct names name, neighbours;
	uint64_t found = 0, function;

	find_text(elf, "is_enabled", &name);
	find_text(elf, "is_active", &neighbours);
	for (size_t i = 0; name.count && neighbours.count && i < elf->segment_count; i++) {
		const struct elf_segment *segment = &elf->segments[i];
		uint64_t method = (segment->vaddr + 7) & ~7ull;
		uint64_t end = segment->vaddr + segment->file_size;

		if (segment->type != PT_LOAD || !(segment->flags & PF_W) ||
		    segment->file_size > elf->size || end < segment->vaddr)
			continue;
		for (; method + METHOD_BYTES <= end; method += 8) {
			if (!method_is(elf, method, &name) ||
			    !method_fits(elf, method, &neighbours) ||
			    elf_read_ptr(elf, method + METHOD_FUNCTION, &function) ||
			    !elf_is_code(elf, function))
				continue;
			if (found && found != function)
				return 0;
			found = function;
		}
	}
	return found;
}

struct field_search {
	const struct elf_file *elf;
	struct mc_decoder *decoder;
	uint64_t calls[CALLS_MAX];
	size_t call_count;
	uint32_t field; /* PY_JIT_NO_FIELD: none so far */
	bool several;
};

/* A byte that is read from far inside a struct. */
static bool reads_byte_field(const struct mc_insn *insn)
{
	if (!insn->mem || insn->mem_bytes != 1 || insn->op == MC_OP_LEA)
		return false;
	if (insn->op == MC_OP_MOV && insn->mem == 1)
		return false; /* written */
	return insn->base < MC_RIP && insn->base != MC_RSP && insn->index == MC_NO_REG &&
	       insn->disp >= FIELD_MIN && insn->disp < FIELD_MAX;
}

/* Looks at the instructions from vaddr to the last one that can belong to the function: a ret or a
 * jump behind which nothing seen so far leads. */
static void search_function(struct field_search *search, uint64_t vaddr)
{
	uint64_t end = vaddr + FUNCTION_MAX, beyond = vaddr;
	struct mc_insn insn;

	for (; vaddr < end && elf_is_code(search->elf, vaddr); vaddr += insn.length) {
		const uint8_t *bytes = NULL;
		size_t size = 16;

		while (--size && !bytes)
			bytes = elf_at_vaddr(search->elf, vaddr, size);
		if (!bytes || mc_decode(search->decoder, bytes, size + 1, vaddr, &insn))
			return;
		if (reads_byte_field(&insn)) {
			search->several |= search->field != PY_JIT_NO_FIELD &&
					   search->field != (uint32_t)insn.disp;
			search->field = (uint32_t)insn.disp;
		}
		if (insn.flow == MC_FLOW_JCC && insn.target > beyond && insn.target < end)
			beyond = insn.target;
		if ((insn.flow == MC_FLOW_CALL || insn.flow == MC_FLOW_JMP) &&
		    search->call_count < CALLS_MAX)
			search->calls[search->call_count++] = insn.target;
		if ((insn.flow == MC_FLOW_RET || insn.flow == MC_FLOW_JMP ||
		     insn.flow == MC_FLOW_JMP_INDIRECT || insn.flow == MC_FLOW_STOP) &&
		    vaddr + insn.length > beyond)
			return;
	}
}

/* The offset of PyInterpreterState.jit: the only such byte that the function reads itself, or else
 * that what it calls reads (builds that inline nothing), and so on. */
static int find_field(const struct elf_file *elf, uint64_t function, uint32_t *field)
{
	struct field_search search = {.elf = elf, .field = PY_JIT_NO_FIELD};
	int rc = mc_decoder_open(&search.decoder);
	size_t begin = 0;

	if (rc)
		return rc;
	search.calls[search.call_count++] = function;
	for (int depth = 0; depth < CALL_DEPTH && search.field == PY_JIT_NO_FIELD; depth++) {
		size_t stop = search.call_count;

		for (; begin < stop; begin++)
			search_function(&search, search.calls[begin]);
	}
	mc_decoder_close(search.decoder);
	if (!search.several)
		*field = search.field;
	return 0;
}

static bool has_text(const struct elf_file *elf, const char *text)
{
	struct names names;

	find_text(elf, text, &names);
	return names.count > 0;
}

int py_jit_find(struct py_image *image, const struct elf_file *elf)
{
	struct py_runtime_layout runtime;
	struct pt_layout layout;
	bool free_threaded;
	const void *data;
	uint64_t function;

	image->jit = (struct py_jit){.interp_jit = PY_JIT_NO_FIELD};
	/* init_interp_main() asks for these where it was built with a JIT (Python/pylifecycle.c) */
	if (image->version < 0x030d0000 ||
	    (!has_text(elf, "PYTHON_JIT") && !has_text(elf, "PYTHON_UOPS")))
		return 0;
	image->jit.built = true;
	data = elf_at_vaddr(elf, image->runtime.vaddr, PY_DEBUG_OFFSETS_BYTES);
	if (image->version < 0x030e0000 || !data ||
	    py_layout_from_debug_offsets(data, PY_DEBUG_OFFSETS_BYTES, image->version,
					 &free_threaded, &layout, &runtime, NULL))
		return 0;
	image->jit.rt_interp_head = runtime.rt_interp_head;
	image->jit.interp_next = runtime.interp_next;
	function = find_method(elf);
	return function ? find_field(elf, function, &image->jit.interp_jit) : 0;
}

/* ---- a process ---- */

/* Does any interpreter have it on? UNKNOWN: there is none yet, or it cannot be read. */
static enum py_jit_state read_field(pid_t pid, const struct py_image *image, uint64_t bias)
{
	const struct py_jit *jit = &image->jit;
	uint64_t interp = 0;
	uint8_t on;

	if (jit->interp_jit == PY_JIT_NO_FIELD ||
	    pt_memory_read_ptr(pid, image->runtime.vaddr + bias + jit->rt_interp_head, &interp) ||
	    !interp)
		return PY_JIT_UNKNOWN;
	for (unsigned int i = 0; interp && i < INTERPRETERS_MAX; i++) {
		if (pt_memory_read(pid, interp + jit->interp_jit, &on, sizeof(on)))
			return PY_JIT_UNKNOWN;
		if (on)
			return PY_JIT_ON;
		if (pt_memory_read_ptr(pid, interp + jit->interp_next, &interp))
			return PY_JIT_UNKNOWN;
	}
	return PY_JIT_OFF;
}

/* The value of an entry "name=value", or NULL. */
static const char *value_of(const char *entry, const char *name)
{
	size_t length = strlen(name);

	return !strncmp(entry, name, length) && entry[length] == '=' ? entry + length + 1 : NULL;
}

/* As init_interp_main() reads it: set and not empty, the first character decides. The first of
 * several entries of one name counts, as in getenv(3). */
int py_jit_environment(const char *text, size_t size, uint32_t version)
{
	int jit = -1, uops = -1;

	while (size) {
		size_t length = strnlen(text, size);
		const char *value;

		if (length == size)
			break; /* cut off */
		value = value_of(text, "PYTHON_JIT");
		if (value && *value && jit < 0)
			jit = *value != '0';
		value = version < 0x030e0000 ? value_of(text, "PYTHON_UOPS") : NULL;
		if (value && *value && uops < 0)
			uops = *value != '0';
		text += length + 1;
		size -= length + 1;
	}
	return jit == 1 || uops == 1 ? 1 : jit >= 0 ? jit : uops;
}

static int read_environment(pid_t pid, uint32_t version)
{
	char path[64], *text;
	size_t size;
	int says;

	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	if (pt_proc_read(path, ENVIRON_MAX_BYTES, &text, &size))
		return -1;
	says = py_jit_environment(text, size, version);
	free(text);
	return says;
}

enum py_jit_state py_jit_state(pid_t pid, const struct py_image *image, uint64_t bias,
			       bool starting)
{
	enum py_jit_state state;
	int says;

	if (!image->jit.built)
		return PY_JIT_NONE;
	state = read_field(pid, image, bias);
	if (state == PY_JIT_ON || (state == PY_JIT_OFF && !starting))
		return state;
	says = read_environment(pid, image->version);
	if (says >= 0)
		return says ? PY_JIT_ON : PY_JIT_OFF;
	/* the field will tell, once the process has got there */
	if (starting && image->jit.interp_jit != PY_JIT_NO_FIELD)
		return PY_JIT_OFF;
	return PY_JIT_UNKNOWN;
}

bool py_jit_is_on(pid_t pid, const struct py_image *image, uint64_t bias)
{
	return image->jit.built && read_field(pid, image, bias) == PY_JIT_ON;
}

int py_jit_refuse(pid_t pid, const struct py_image *image, struct pt_err *err)
{
	return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
			  image->version < 0x030e0000
			      ? "restart it with PYTHON_JIT=0 and without PYTHON_UOPS in its "
				"environment"
			      : "restart it with PYTHON_JIT=0 in its environment",
			  "process %d runs CPython %s with the JIT on: calls made in JIT code "
			  "cannot be seen",
			  pid, image->version_text);
}

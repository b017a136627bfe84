// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "cuda/statics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/names.h"
#include "cuda/names_parts.h"
#include "python/decode.h"
#include "target/ehframe.h"

#define NAME_BYTES         PT_CUDA_SYMBOL_BYTES /* with the NUL */
#define TEXTS_MAX          (1u << 14)           /* 780 in a runtime of 13.0 */
#define FUNCTION_MAX_BYTES (64u << 10)          /* the largest of 13.0 has 2 KiB */
#define FUNCTION_ALIGN     16u                  /* what a compiler moved elsewhere has less */
/* New in CUDA 12.0 and in 13 (cupti_runtime_cbid.h). */
#define NEW_IN_12          "cudaGraphInstantiateWithParams"
#define NEW_IN_13          "cudaMemPrefetchBatchAsync"

struct row_state {
	struct pt_cuda_static fn; /* vaddr 0: none yet */
	bool named;               /* some code refers to the name */
	bool several;
};

struct search {
	const struct elf_file *elf;
	struct eh_ranges eh;
	struct mc_decoder *decoder;
	uint64_t *texts; /* where names lie, sorted */
	size_t text_count, text_room;
	unsigned int major;
	uint8_t *wanted; /* one bit a function: it refers to a name */
	struct row_state *rows;
	int rc;
};

/* What the code of one function says. */
struct seen {
	const struct pt_cuda_row *row; /* whose name it refers to */
	uint64_t name, use;            /* as in pt_cuda_static */
	bool several;                  /* to those of others, too */
	bool in_register, in_memory;   /* the row's number, as an argument and in a struct */
};

/* ---- names ---- */

static bool is_read_only(const struct elf_section *section)
{
	return !strncmp(section->name, ".rodata", strlen(".rodata"));
}

static const struct pt_cuda_row *row_of(const char *name, unsigned int major)
{
	const struct pt_cuda_row *row = pt_cuda_row_find(name, major);

	return row && row->api == PT_CUDA_RUNTIME && row->cbid ? row : NULL;
}

static void add_text(struct search *search, uint64_t vaddr)
{
	size_t room = search->text_room ? 2 * search->text_room : 1024;
	uint64_t *bigger;

	if (search->text_count == search->text_room) {
		bigger = room > TEXTS_MAX ? NULL
					  : reallocarray(search->texts, room, sizeof(*bigger));
		if (!bigger) {
			search->rc = room > TEXTS_MAX ? -E2BIG : -ENOMEM;
			return;
		}
		search->texts = bigger;
		search->text_room = room;
	}
	search->texts[search->text_count++] = vaddr;
}

/* Whole strings, so that cudaMalloc is not found in cudaMallocHost. */
static void find_texts(void *ctx, const uint8_t *bytes, size_t size, uint64_t vaddr)
{
	static const char begin[] = "\0cuda";
	const uint8_t *at = bytes, *end = bytes + size;
	struct search *search = ctx;

	while (!search->rc && (at = memmem(at, (size_t)(end - at), begin, sizeof(begin) - 1))) {
		const char *name = (const char *)++at;

		if (!memchr(name, '\0',
			    (size_t)(end - at) < NAME_BYTES ? (size_t)(end - at) : NAME_BYTES))
			continue;
		if (!strcmp(name, NEW_IN_13))
			search->major = 13;
		else if (!strcmp(name, NEW_IN_12) && search->major < 12)
			search->major = 12;
		if (row_of(name, 11) || row_of(name, 12) || row_of(name, 13))
			add_text(search, vaddr + (uint64_t)(at - bytes));
	}
}

static int compare_vaddr(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static bool is_text(const struct search *search, uint64_t vaddr)
{
	return vaddr >= search->texts[0] && vaddr <= search->texts[search->text_count - 1] &&
	       bsearch(&vaddr, search->texts, search->text_count, sizeof(vaddr), compare_vaddr);
}

/* ---- functions ---- */

/* lea disp(%rip), %reg; or movq disp(%rip), %xmm of the address of the name, which CUDA 12's
 * compiler has put beside the code. */
uint64_t pt_cuda_static_name(const struct elf_file *elf, unsigned int major, const uint8_t *bytes,
			     uint64_t vaddr)
{
	bool lea = (bytes[0] & 0xfb) == 0x48 && bytes[1] == 0x8d && (bytes[2] & 0xc7) == 5;
	bool movq = major < 13 && bytes[0] == 0xf3 && bytes[1] == 0x0f && bytes[2] == 0x7e &&
		    (bytes[3] & 0xc7) == 5;
	size_t length = lea ? 7 : 8;
	int32_t distance;
	uint64_t at;

	if (!lea && !movq)
		return 0;
	memcpy(&distance, bytes + length - sizeof(distance), sizeof(distance));
	at = vaddr + length + (uint64_t)(int64_t)distance;
	return movq && elf_read_ptr(elf, at, &at) ? 0 : at;
}

static void find_uses(void *ctx, const uint8_t *bytes, size_t size, uint64_t vaddr)
{
	struct search *search = ctx;

	for (size_t i = 0; i + PT_CUDA_STATIC_BYTES <= size && i < KN_WINDOW_BYTES; i++) {
		const struct eh_range *function;
		size_t n;

		if (!is_text(search,
			     pt_cuda_static_name(search->elf, search->major, bytes + i, vaddr + i)))
			continue;
		function = eh_range_at(&search->eh, vaddr + i);
		if (!function)
			continue;
		n = (size_t)(function - search->eh.ranges);
		search->wanted[n / 8] |= (uint8_t)(1u << n % 8);
	}
}

/* bytes: of the instruction, PT_CUDA_STATIC_BYTES at least */
static void see_name(const struct search *search, const struct mc_insn *insn, const uint8_t *bytes,
		     struct seen *seen)
{
	uint64_t at = insn->base == MC_RIP
			  ? pt_cuda_static_name(search->elf, search->major, bytes, insn->vaddr)
			  : 0;
	const struct pt_cuda_row *row;
	const char *name;

	if (!is_text(search, at))
		return;
	name = elf_string_at_vaddr(search->elf, at, NAME_BYTES);
	row = name ? row_of(name, search->major) : NULL;
	if (!row)
		return;
	search->rows[row - pt_cuda_rows].named = true;
	seen->several |= seen->row && seen->row != row;
	seen->row = row;
	seen->name = at;
	seen->use = insn->vaddr;
}

static void see_number(const struct mc_insn *insn, struct seen *seen)
{
	if (insn->op != MC_OP_MOV || !insn->has_imm || insn->imm != seen->row->cbid)
		return;
	seen->in_memory |= insn->mem == 1;
	seen->in_register |= !insn->mem && insn->reg[0] == MC_RDI;
}

/* numbers: looks for the row's number, else for names. */
static void each_insn(const struct search *search, const struct eh_range *function,
		      const uint8_t *bytes, struct seen *seen, bool numbers)
{
	size_t size = function->end - function->start;
	struct mc_insn insn;

	for (size_t at = 0; at < size; at += insn.length) {
		if (mc_decode(search->decoder, bytes + at, size - at, function->start + at, &insn))
			insn.length = 1;
		else if (numbers)
			see_number(&insn, seen);
		else if (size - at >= PT_CUDA_STATIC_BYTES)
			see_name(search, &insn, bytes + at, seen);
	}
}

/* A function begins by saving a register; so does what the kernel need not single-step. */
static bool begins(const struct search *search, const uint8_t *bytes, uint64_t vaddr, size_t size)
{
	struct mc_insn insn = {.op = MC_OP_ENDBR};
	size_t at = 0;

	for (int i = 0; i < 2 && insn.op == MC_OP_ENDBR; i++, at += insn.length)
		if (at >= size ||
		    mc_decode(search->decoder, bytes + at, size - at, vaddr + at, &insn))
			return false;
	return insn.class == PY_INSN_PUSH && vaddr % FUNCTION_ALIGN == 0;
}

static void judge(const struct search *search, const struct eh_range *function)
{
	size_t size = function->end - function->start;
	struct seen seen = {0};
	struct row_state *state;
	const uint8_t *bytes;

	elf_trim(search->elf, KN_RESIDENT_BYTES);
	if (size > FUNCTION_MAX_BYTES)
		return;
	bytes = elf_at_vaddr(search->elf, function->start, size);
	if (!bytes)
		return;
	each_insn(search, function, bytes, &seen, false);
	if (!seen.row || seen.several || !begins(search, bytes, function->start, size))
		return;
	each_insn(search, function, bytes, &seen, true);
	if (!seen.in_register || !seen.in_memory)
		return;
	state = &search->rows[seen.row - pt_cuda_rows];
	state->several |= state->fn.vaddr != 0;
	state->fn = (struct pt_cuda_static){seen.row, function->start, seen.name, seen.use};
}

/* .eh_frame may lie, so that functions overlap. */
static int judge_wanted(const struct search *search, const atomic_bool *stop)
{
	uint64_t budget = search->elf->size;

	for (size_t i = 0; i < search->eh.count; i++) {
		const struct eh_range *function = &search->eh.ranges[i];

		if (!(search->wanted[i / 8] & 1u << i % 8))
			continue;
		if (stop && atomic_load(stop))
			return -ECANCELED;
		if (function->end - function->start > budget)
			return -E2BIG;
		budget -= function->end - function->start;
		judge(search, function);
	}
	return 0;
}

/* ---- all of it ---- */

static int collect(const struct search *search, struct pt_cuda_statics *statics)
{
	statics->major = search->major;
	statics->fns = calloc(pt_cuda_row_count, sizeof(*statics->fns));
	if (!statics->fns)
		return -ENOMEM;
	for (size_t i = 0; i < pt_cuda_row_count; i++) {
		const struct row_state *state = &search->rows[i];

		if (state->fn.vaddr && !state->several)
			statics->fns[statics->count++] = state->fn;
		else
			statics->refused += state->named;
	}
	return 0;
}

static int find(struct search *search, const atomic_bool *stop, struct pt_cuda_statics *statics)
{
	int rc = kn_each_window(search->elf, stop, is_read_only, find_texts, search);

	if (rc || search->rc || !search->text_count)
		return rc ? rc : search->rc;
	qsort(search->texts, search->text_count, sizeof(*search->texts), compare_vaddr);
	rc = eh_ranges_load(search->elf, &search->eh);
	if (rc)
		return rc;
	search->wanted = calloc(search->eh.count / 8 + 1, 1);
	search->rows = calloc(pt_cuda_row_count, sizeof(*search->rows));
	if (!search->wanted || !search->rows || mc_decoder_open(&search->decoder))
		return -ENOMEM;
	rc = kn_each_window(search->elf, stop, kn_section_is_code, find_uses, search);
	if (!rc)
		rc = judge_wanted(search, stop);
	return rc ? rc : collect(search, statics);
}

int pt_cuda_statics_find(const struct elf_file *elf, const atomic_bool *stop,
			 struct pt_cuda_statics *statics)
{
	struct search search = {.elf = elf, .major = 11};
	int rc = find(&search, stop, statics);

	if (rc)
		pt_cuda_statics_release(statics);
	mc_decoder_close(search.decoder);
	eh_ranges_release(&search.eh);
	free(search.texts);
	free(search.wanted);
	free(search.rows);
	return rc;
}

void pt_cuda_statics_release(struct pt_cuda_statics *statics)
{
	free(statics->fns);
	memset(statics, 0, sizeof(*statics));
}

/* The runtime looks the driver up by dlvsym(), which little else does, but not libc, whose function
 * it is; and kernels are of no use without a runtime. */
bool pt_cuda_statics_likely(const struct elf_file *elf)
{
	static const char import[] = "\0dlvsym";
	const struct elf_section *names = elf_section(elf, ".dynstr");
	struct elf_symbol own;
	const void *text;

	if (elf->machine != EM_X86_64)
		return false;
	if (pt_kernels_has_code(elf))
		return true;
	text = names ? elf_at(elf, names->offset, names->size) : NULL;
	return text && memmem(text, names->size, import, sizeof(import)) &&
	       !elf_symbol(elf, "dlvsym", &own);
}

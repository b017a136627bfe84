// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "cuda/torch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "base/map.h"
#include "pt_maps.h"
#include "python/flow.h"
#include "python/parts.h"
#include "python/region.h"

/* Itanium mangling: at::_ops::NAME::call(..) */
#define SYMBOL_PREFIX "_ZN2at4_ops"
#define SYMBOL_TAIL   "4callE"
#define SCHEMA_PREFIX "aten::"
#define OPS_MAX       (PT_CUDA_FN_MAX + 1 - PT_TORCH_ID_FIRST) /* of a file; seen: 3103 */
#define SYMBOLS_MAX   (2 * OPS_MAX)                            /* two symbol tables */
#define INSNS_MAX     16384                                    /* of one operator; seen: 900 */
#define PARTS_MAX     8   /* that one function may be in; seen: 2 */
#define CALLS_MAX     64  /* of one function that are looked at for its name */
#define NAME_INSNS    256 /* of a function that asks for the schema; seen: 40 */
#define STRINGS_MAX   32  /* that one function names */
#define STRING_BYTES  PT_CUDA_SYMBOL_BYTES
#define EPILOGUE_MAX  16 /* instructions between the last jump and the ret; seen: 10 */

/* What a call leads to; kept in a map, so never 0. */
enum callee { CALLEE_OTHER = 1, CALLEE_UNWIND, CALLEE_STACK_CHECK };

struct op {
	uint64_t vaddr;
	const char *name; /* as in the symbol, not terminated */
	size_t name_len;
	bool shared; /* by another operator: the linker has merged their code */
};

struct torch_finder {
	const struct elf_file *elf;
	struct eh_ranges eh;
	unsigned int emulated;
	struct mc_decoder *decoder;
	struct pt_map callees; /* address -> enum callee */
	struct op *ops;
	size_t op_count;
	struct pt_cuda_library *library;
	size_t leave_room;
	const atomic_bool *stop;
};

/* One operator's code. */
struct op_code {
	struct region region;
	struct flow flow;
	int32_t frame; /* the most that the stack pointer is known to go down, in bytes */
};

/* ---- symbols ---- */

static bool parse_symbol(const char *symbol, struct op *op)
{
	unsigned long len;
	char *end;

	if (strncmp(symbol, SYMBOL_PREFIX, strlen(SYMBOL_PREFIX)) != 0)
		return false;
	symbol += strlen(SYMBOL_PREFIX);
	if (*symbol < '1' || *symbol > '9')
		return false;
	len = strtoul(symbol, &end, 10);
	if (len > strlen(end) || strncmp(end + len, SYMBOL_TAIL, strlen(SYMBOL_TAIL)) != 0)
		return false;
	op->name = end;
	op->name_len = len;
	return true;
}

static int on_symbol(const struct elf_symbol *symbol, void *ctx)
{
	struct torch_finder *finder = ctx;
	struct op op = {.vaddr = symbol->vaddr};

	if (symbol->type != STT_FUNC || !parse_symbol(symbol->name, &op) ||
	    !elf_is_code(finder->elf, op.vaddr))
		return 0;
	if (!finder->ops)
		finder->ops = calloc(SYMBOLS_MAX, sizeof(*finder->ops));
	if (!finder->ops)
		return -ENOMEM;
	if (finder->op_count == SYMBOLS_MAX)
		return -E2BIG;
	finder->ops[finder->op_count++] = op;
	return 0;
}

static int compare_ops(const void *a, const void *b)
{
	const struct op *x = a, *y = b;

	return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

static bool same_name(const struct op *a, const struct op *b)
{
	return a->name_len == b->name_len && !memcmp(a->name, b->name, a->name_len);
}

/* In order; a file with both symbol tables has each twice. */
static void sort_ops(struct torch_finder *finder)
{
	struct op *last = NULL;
	size_t kept = 0;

	if (finder->op_count)
		qsort(finder->ops, finder->op_count, sizeof(*finder->ops), compare_ops);
	for (size_t i = 0; i < finder->op_count; i++) {
		const struct op *op = &finder->ops[i];

		if (last && last->vaddr == op->vaddr) {
			last->shared |= !same_name(last, op);
			continue;
		}
		last = &finder->ops[kept++];
		*last = *op;
	}
	finder->op_count = kept;
}

/* ---- code ---- */

static int refuse(struct torch_finder *finder, const struct op *op, const char *why)
{
	struct pt_cuda_library *library = finder->library;

	if (!library->refused++)
		snprintf(library->why_refused, sizeof(library->why_refused), "%.*s: %s",
			 (int)op->name_len, op->name, why);
	return -ENOTSUP;
}

static enum callee callee_by_name(const char *name)
{
	if (name && !strcmp(name, "_Unwind_Resume"))
		return CALLEE_UNWIND;
	if (name && !strcmp(name, "__stack_chk_fail"))
		return CALLEE_STACK_CHECK;
	return CALLEE_OTHER;
}

static enum callee callee_of(struct torch_finder *finder, const struct mc_insn *insn)
{
	enum callee callee;
	void *known;

	if (insn->flow == MC_FLOW_CALL_INDIRECT && insn->mem && insn->base == MC_RIP &&
	    insn->index == MC_NO_REG)
		return callee_by_name(
		    elf_import_at(finder->elf, insn->vaddr + insn->length + (uint64_t)insn->disp));
	if (insn->flow != MC_FLOW_CALL)
		return CALLEE_OTHER;
	known = pt_map_get(&finder->callees, insn->target, 0);
	if (known)
		return (enum callee)(uintptr_t)known;
	callee = callee_by_name(function_import_name(finder->elf, finder->decoder, insn->target));
	/* without memory it is looked up again */
	pt_map_put(&finder->callees, insn->target, 0, (void *)(uintptr_t)callee);
	return callee;
}

/* Adds a part of the function that a jump leads to the start of. A jump there with the stack as at
 * the entry is a tail call of another function. 1: added one. */
static int add_part(struct torch_finder *finder, const struct op *op, struct op_code *code)
{
	const struct region *region = &code->region;

	for (size_t i = 0; i < region->insn_count; i++) {
		const struct mc_insn *insn = &region->insns[i];
		const struct flow_state *state = &code->flow.states[i];

		if (insn->flow == MC_FLOW_JMP_INDIRECT)
			return refuse(finder, op, "a jump that leads anywhere");
		if ((insn->flow != MC_FLOW_JMP && insn->flow != MC_FLOW_JCC) ||
		    region_holds(region, insn->target))
			continue;
		if (state->reached && state->sp == 0)
			return refuse(finder, op, "it ends by a jump to another function");
		if (region_add_whole(&code->region, &insn->target, 1))
			return refuse(finder, op, region->reason);
		return 1;
	}
	return 0;
}

/* Nothing goes on behind these. */
static void mark_noreturn(struct torch_finder *finder, struct region *region)
{
	for (size_t i = 0; i < region->insn_count; i++)
		if (callee_of(finder, &region->insns[i]) != CALLEE_OTHER)
			region->marks[i] |= REGION_NORETURN;
}

static int load_code(struct torch_finder *finder, const struct op *op, struct op_code *code)
{
	const struct py_finder parts = {
	    .elf = finder->elf, .eh = &finder->eh, .emulated = finder->emulated};
	int rc;

	if (op->shared) {
		refuse(finder, op, "another operator has the same code");
		return -ENOTSUP;
	}
	rc = region_load(&code->region, &parts, op->vaddr);
	if (rc && rc != -ENOMEM)
		refuse(finder, op, code->region.reason);
	if (rc)
		return rc == -ENOMEM ? rc : -ENOTSUP;
	for (unsigned int part = 0; part < PARTS_MAX && code->region.insn_count <= INSNS_MAX;
	     part++) {
		flow_release(&code->flow);
		mark_noreturn(finder, &code->region);
		rc = flow_analyse(&code->flow, &code->region, &op->vaddr, 1);
		if (!rc)
			rc = add_part(finder, op, code);
		if (rc <= 0)
			return rc;
	}
	return refuse(finder, op, "it is in too many parts, or too large");
}

/* ---- sites ---- */

static bool is_emulated(const struct torch_finder *finder, const struct mc_insn *insn)
{
	return finder->emulated >> insn->class & 1;
}

/* Is it the stack protector's jump, taken only to end the process? */
static bool is_stack_check(struct torch_finder *finder, const struct region *region,
			   const struct mc_insn *insn)
{
	size_t to = insn->flow == MC_FLOW_JCC ? region_index(region, insn->target) : REGION_NONE;

	return to != REGION_NONE && callee_of(finder, &region->insns[to]) == CALLEE_STACK_CHECK;
}

/* Where to tell that this ret is reached: the cheapest place that nothing else passes. */
static size_t place_for_ret(struct torch_finder *finder, const struct region *region, size_t ret)
{
	size_t at = ret;

	for (unsigned int n = 0; n < EPILOGUE_MAX; n++) {
		size_t before = region_previous(region, at);
		const struct mc_insn *insn;

		if (before == REGION_NONE || region->marks[at] & (REGION_TARGET | REGION_INDIRECT))
			return ret;
		insn = &region->insns[before];
		if (is_emulated(finder, insn) &&
		    (insn->flow == MC_FLOW_NEXT || is_stack_check(finder, region, insn)))
			return before;
		if (insn->flow != MC_FLOW_NEXT || insn->op == MC_OP_ENDBR)
			return ret;
		at = before;
	}
	return ret;
}

static int add_leave(struct torch_finder *finder, const struct mc_insn *insn, uint64_t cookie)
{
	struct py_engine_plan *leaves = &finder->library->leaves;
	struct py_site site = {.vaddr = insn->vaddr,
			       .cookie = cookie,
			       .insn_class = (enum py_insn_class)insn->class,
			       .method = "leave"};
	struct py_site *bigger;

	bigger = pt_grow(leaves->sites, leaves->site_count, &finder->leave_room, 16384,
			 sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	leaves->sites = bigger;
	if (!elf_vaddr_to_offset(finder->elf, insn->vaddr, &site.offset))
		return -ENOTSUP;
	leaves->sites[leaves->site_count++] = site;
	return 0;
}

/* The call ends at instruction i. Where an unwound stack lies is not followed: within the frame. */
static int add_end(struct torch_finder *finder, const struct op *op, const struct op_code *code,
		   size_t i, uint32_t id)
{
	const struct mc_insn *insn = &code->region.insns[i];
	const struct flow_state *state = &code->flow.states[i];
	bool known = state->reached && state->sp != FLOW_SP_UNKNOWN;
	int32_t distance = known ? -state->sp : code->frame;

	/* a ret finds the return address where the call put it, whatever moved the stack */
	if (insn->flow == MC_FLOW_RET && !known) {
		distance = 0;
		known = true;
	}
	if (insn->refused)
		return refuse(finder, op, "the kernel puts no probe on its end");
	if (distance < 0 || distance % 8 || distance / 8 > PT_TORCH_DISTANCE_MAX ||
	    (insn->flow == MC_FLOW_RET && distance) ||
	    (!known && insn->flow != MC_FLOW_CALL && insn->flow != MC_FLOW_CALL_INDIRECT))
		return refuse(finder, op, "where its stack ends is not known");
	return add_leave(finder, insn, PT_TORCH_COOKIE(id, (uint32_t)distance, !known));
}

static int add_ends(struct torch_finder *finder, const struct op *op, struct op_code *code,
		    uint32_t id)
{
	const struct region *region = &code->region;
	unsigned int rets = 0;
	int rc = 0;

	for (size_t i = 0; i < region->insn_count; i++) {
		const struct flow_state *state = &code->flow.states[i];

		if (state->reached && state->sp != FLOW_SP_UNKNOWN && -state->sp > code->frame)
			code->frame = -state->sp;
	}
	for (size_t i = 0; i < region->insn_count && !rc; i++) {
		const struct mc_insn *insn = &region->insns[i];

		if (insn->flow == MC_FLOW_RET) {
			rets++;
			rc = add_end(finder, op, code, place_for_ret(finder, region, i), id);
		} else if (callee_of(finder, insn) == CALLEE_UNWIND) {
			rc = add_end(finder, op, code, i, id);
		}
	}
	return rc || rets ? rc : refuse(finder, op, "it has no ret");
}

/* endbr64 does nothing, but the kernel has to single-step it. */
static int add_entry(struct torch_finder *finder, const struct op *op, const struct op_code *code,
		     struct py_site *site, uint32_t id)
{
	const struct region *region = &code->region;
	size_t i = region_index(region, op->vaddr);

	if (region->insns[i].op == MC_OP_ENDBR && i + 1 < region->insn_count)
		i++;
	if (region->marks[i] & (REGION_TARGET | REGION_INDIRECT) || region->insns[i].refused)
		return refuse(finder, op, "no place for a probe at its entry");
	*site = (struct py_site){.vaddr = region->insns[i].vaddr,
				 .cookie = PT_TORCH_COOKIE(id, 0, 0),
				 .insn_class = (enum py_insn_class)region->insns[i].class,
				 .method = "entry"};
	return elf_vaddr_to_offset(finder->elf, site->vaddr, &site->offset) ? 0 : -ENOTSUP;
}

/* ---- names ---- */

struct strings {
	const struct torch_finder *finder;
	const char *found[STRINGS_MAX];
	size_t count;
	unsigned int insns;
};

static int on_insn(const struct mc_insn *insn, void *ctx)
{
	struct strings *strings = ctx;
	const char *text;

	if (insn->op == MC_OP_LEA && insn->base == MC_RIP && insn->index == MC_NO_REG) {
		text = elf_string_at_vaddr(strings->finder->elf,
					   insn->vaddr + insn->length + (uint64_t)insn->disp,
					   STRING_BYTES);
		if (text && strings->count < STRINGS_MAX)
			strings->found[strings->count++] = text;
	}
	return ++strings->insns == NAME_INSNS;
}

static bool has_string(const struct strings *strings, const char *text, size_t len)
{
	for (size_t i = 0; i < strings->count; i++)
		if (strlen(strings->found[i]) == len && !memcmp(strings->found[i], text, len))
			return true;
	return false;
}

/* "add_Tensor" is made of "aten::add" and "Tensor": both must be there. */
static bool match_name(const struct strings *strings, const struct op *op, char *name)
{
	for (size_t i = 0; i < strings->count; i++) {
		const char *base = strings->found[i] + strlen(SCHEMA_PREFIX), *overload;
		size_t len, rest;

		if (strncmp(strings->found[i], SCHEMA_PREFIX, strlen(SCHEMA_PREFIX)) != 0)
			continue;
		len = strlen(base);
		if (len > op->name_len || memcmp(base, op->name, len) != 0)
			continue;
		rest = op->name_len - len;
		overload = op->name + len + 1;
		if (rest &&
		    (rest == 1 || overload[-1] != '_' || !has_string(strings, overload, rest - 1)))
			continue;
		snprintf(name, PT_CUDA_SYMBOL_BYTES, "%s%s%.*s", strings->found[i], rest ? "." : "",
			 rest ? (int)rest - 1 : 0, overload);
		return true;
	}
	return false;
}

/* In the function, or in one that it calls, which is then one of its own. */
static void find_name(struct torch_finder *finder, const struct op *op, const struct op_code *code,
		      char *name)
{
	struct strings strings = {.finder = finder};
	unsigned int calls = 0;

	for (size_t i = 0; i < code->region.insn_count; i++)
		on_insn(&code->region.insns[i], &strings);
	if (match_name(&strings, op, name))
		return;
	for (size_t i = 0; i < code->region.insn_count && calls < CALLS_MAX; i++) {
		const struct mc_insn *insn = &code->region.insns[i];
		const struct eh_range *range;

		if (insn->flow != MC_FLOW_CALL)
			continue;
		range = eh_range_at(&finder->eh, insn->target);
		if (!range || range->start != insn->target)
			continue;
		calls++;
		strings = (struct strings){.finder = finder};
		/* what cannot be decoded names nothing */
		region_each_insn(finder->elf, finder->decoder, range, on_insn, &strings);
		if (match_name(&strings, op, name))
			return;
	}
	snprintf(name, PT_CUDA_SYMBOL_BYTES, "at::_ops::%.*s", (int)op->name_len, op->name);
}

static int number_name(struct pt_torch_names *names, const char *name, uint32_t *id)
{
	size_t i = 0;

	while (i < names->count && strcmp(names->names[i], name) != 0)
		i++;
	if (i == names->count) {
		if (i == OPS_MAX)
			return -E2BIG;
		names->names[i] = strdup(name);
		if (!names->names[i])
			return -ENOMEM;
		names->count++;
	}
	*id = PT_TORCH_ID_FIRST + (uint32_t)i;
	return 0;
}

/* ---- the file ---- */

/* All of an operator or, if something about it is not proven, nothing. */
static int add_op(struct torch_finder *finder, const struct op *op, struct pt_torch_names *names)
{
	struct pt_cuda_library *library = finder->library;
	size_t n = library->plan.site_count, leaves = library->leaves.site_count;
	struct op_code code = {0};
	char name[PT_CUDA_SYMBOL_BYTES];
	uint32_t id = 0;
	int rc = load_code(finder, op, &code);

	if (!rc) {
		find_name(finder, op, &code, name);
		rc = number_name(names, name, &id);
	}
	if (!rc)
		rc = add_entry(finder, op, &code, &library->plan.sites[n], id);
	if (!rc)
		rc = add_ends(finder, op, &code, id);
	flow_release(&code.flow);
	region_release(&code.region);
	if (rc) {
		library->leaves.site_count = leaves;
		return rc == -ENOTSUP ? 0 : rc;
	}
	library->rows[n] = (struct pt_cuda_row){.api = PT_CUDA_TORCH,
						.symbol = names->names[id - PT_TORCH_ID_FIRST],
						.category = "",
						.arguments = ""};
	library->fns[n] = (struct pt_cuda_fn){.id = id, .row = &library->rows[n], .bare = true};
	library->plan.site_count++;
	return 0;
}

static int fill(struct torch_finder *finder, struct pt_torch_names *names)
{
	struct pt_cuda_library *library = finder->library;
	size_t n = finder->op_count;
	int rc;

	if (!names->names)
		names->names = calloc(OPS_MAX, sizeof(*names->names));
	library->plan.sites = calloc(n, sizeof(*library->plan.sites));
	library->fns = calloc(n, sizeof(*library->fns));
	library->rows = calloc(n, sizeof(*library->rows));
	if (!names->names || !library->path || !library->plan.sites || !library->fns ||
	    !library->rows)
		return -ENOMEM;
	library->plan.usable = library->leaves.usable = true;
	rc = mc_decoder_open(&finder->decoder);
	if (!rc)
		rc = eh_ranges_load(finder->elf, &finder->eh);
	for (size_t i = 0; i < n && !rc; i++)
		rc = finder->stop && atomic_load(finder->stop)
			 ? -ECANCELED
			 : add_op(finder, &finder->ops[i], names);
	return rc;
}

static void release(struct torch_finder *finder)
{
	eh_ranges_release(&finder->eh);
	mc_decoder_close(finder->decoder);
	pt_map_release(&finder->callees);
	free(finder->ops);
}

int pt_torch_library_find(const struct elf_file *elf, const char *path, unsigned int emulated,
			  const atomic_bool *stop, struct pt_torch_names *names,
			  struct pt_cuda_library **out, struct pt_err *err)
{
	struct torch_finder finder = {.elf = elf, .emulated = emulated, .stop = stop};
	struct pt_cuda_library *library = NULL;
	int rc = 0;

	*out = NULL;
	if (elf->machine == EM_X86_64)
		rc = elf_each_symbol(elf, on_symbol, &finder);
	sort_ops(&finder);
	if (!rc && finder.op_count) {
		library = finder.library = calloc(1, sizeof(*library));
		if (library)
			library->path = strdup(path);
		rc = library ? fill(&finder, names) : -ENOMEM;
		if (!rc && !library->plan.site_count)
			rc = -ENOTSUP;
	}
	if (rc == -ENOTSUP)
		pt_err_set(err, rc, PT_EXIT_FAILED, "",
			   "no operator is understood, the first is %s", library->why_refused);
	else if (rc)
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot find its operators: %s",
			   strerror(-rc));
	release(&finder);
	if (rc)
		pt_cuda_library_free(library);
	else
		*out = library;
	return rc;
}

int pt_torch_library_load(const char *open_path, const char *path, unsigned int emulated,
			  const atomic_bool *stop, struct pt_torch_names *names,
			  struct pt_cuda_library **library, struct pt_err *err)
{
	struct elf_file *elf;
	int rc = elf_file_open(open_path, &elf, err);

	*library = NULL;
	if (rc)
		return rc;
	rc = pt_torch_library_find(elf, path, emulated, stop, names, library, err);
	elf_file_close(elf);
	return rc;
}

static int is_operator(const struct elf_symbol *symbol, void *ctx)
{
	struct op op;

	return symbol->type == STT_FUNC && parse_symbol(symbol->name, &op);
}

int pt_torch_library_is(const char *open_path, bool *is, struct pt_err *err)
{
	struct elf_file *elf;
	int rc = elf_file_open(open_path, &elf, err);

	*is = false;
	if (rc)
		return rc;
	*is = elf->machine == EM_X86_64 && elf_each_symbol(elf, is_operator, NULL);
	elf_file_close(elf);
	return 0;
}

void pt_torch_names_release(struct pt_torch_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->names[i]);
	free(names->names);
	*names = (struct pt_torch_names){0};
}

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * cfunc.h - the parts of the finder of C calls (sites_c.c): which functions take a callable
 * (c_takers.c), and what a call instruction calls (c_targets.c).
 */
#ifndef PT_PYTHON_CFUNC_H
#define PT_PYTHON_CFUNC_H

#include "python/values.h"

/* Include/object.h, Include/cpython/methodobject.h, Include/cpython/descrobject.h and
 * Include/methodobject.h: the same from 3.8 to 3.15 */
#define OB_TYPE              0x08
#define TP_VECTORCALL_OFFSET 0x38
#define TP_CALL              0x80
#define CFUNCTION_ML         0x10 /* PyCFunctionObject.m_ml */
#define DESCR_METHOD         0x28 /* PyMethodDescrObject.d_method */
#define ML_METH              0x08 /* PyMethodDef.ml_meth */

#define C_CALLS_MAX   160
#define C_HELPERS_MAX 12
#define C_TAKERS      11 /* functions of CPython that take a callable */

/* A function that takes a callable. */
struct c_taker {
	const char *name; /* NULL: known by its code */
	uint8_t callable; /* register */
	uint8_t self;     /* enum pt_c_self */
};

struct c_call {
	size_t insn;
	uint8_t callable, self;
	bool in_stack; /* the place is disp behind what the register points to */
	int32_t disp;
	uint8_t argv;                    /* PT_C_SELF_ARGV_REG: the register */
	bool argv_is_self;               /* .. which holds the argument itself */
	uint8_t opcode;                  /* enum pt_c_opcode */
	uint32_t value, arguments_value; /* the callable's; the arguments', 0: need not be known */
	const char *method;
};

struct c_search {
	const struct py_image *image;
	const struct py_finder *finder;
	struct py_engine_plan *plan;
	struct region region;
	struct flow flow;  /* where the thread state is */
	struct flow stack; /* where the stack pointer is; helpers included */
	struct values values;
	uint8_t *owner; /* for each instruction: 0 the loop's, else 1 + index in helpers */
	uint8_t *zone;  /* for each instruction: belongs to a CALL opcode */
	size_t *todo;
	struct c_call calls[C_CALLS_MAX];
	size_t call_count;
	uint64_t helpers[C_HELPERS_MAX];
	size_t helper_count;
	uint64_t entries[1 + C_HELPERS_MAX];
	uint64_t taker_vaddr[C_TAKERS];
	unsigned int looks, scans; /* of these there is a limit, for hostile files */
};

static inline unsigned int c_minor(const struct c_search *s)
{
	return s->image->version >> 16 & 0xff;
}

/* What an indirect call calls. */
enum c_target {
	C_TARGET_NONE,  /* nothing looked at yet */
	C_TARGET_OTHER, /* a type's slot, a table: no C function of Python's */
	C_TARGET_VECTORCALL,
	C_TARGET_ML,
	C_TARGET_UNKNOWN,
};

enum c_target c_classify(struct c_search *s, size_t i, struct c_call *call);
/* The same of the value that a target is, and of the memory operand of instruction i. */
enum c_target c_target_of_value(struct c_search *s, uint32_t value);
enum c_target c_target_of_memory(struct c_search *s, size_t i);
/* Where is the callable, at a call (instruction i) of ml_meth? That is the value target; 0: what is
 * in memory at instruction load. */
bool c_find_callable(const struct c_search *s, size_t i, uint32_t target, size_t load,
		     struct c_call *call);
/* c_promoted.c: what is called by the direct call that comparison i leads to, which stands for an
 * indirect one; C_TARGET_OTHER: there is no such thing. */
enum c_target c_promoted(struct c_search *s, size_t i, struct c_call *call);
/* Sets where the value can be found at instruction i, if anywhere. */
bool c_find_holder(const struct c_search *s, size_t i, uint32_t value, struct c_call *call);

static inline bool c_is_load(const struct mc_insn *insn)
{
	return insn->op == MC_OP_MOV && insn->mem == 2 && insn->mem_bytes == 8;
}

static inline bool c_is_call(const struct mc_insn *insn)
{
	return insn->flow == MC_FLOW_CALL || insn->flow == MC_FLOW_CALL_INDIRECT;
}

/* 3.14+: the callable with its tag bits, before they were masked off, or 0. */
uint32_t c_tagged(const struct c_search *s, uint32_t callable);

/* ---- sites_c.c ---- */
void c_reach(const struct c_search *s, uint8_t *marks, size_t start, uint8_t mark, bool over_calls);
bool c_is_emulated(const struct c_search *s, size_t i);
size_t c_return_place(const struct c_search *s, size_t call);
size_t c_earlier_place(const struct c_search *s, size_t call, unsigned int *condition);
/* Sets *why and adds nothing if there is no place for the probes. */
int c_opcode_pair_add(struct c_search *s, const struct c_call *call, unsigned int condition,
		      size_t back, const char **why);

/* ---- c_opcodes.c ---- */
/* Adds the probes of functions that have opcodes of their own. Those that cannot be are told of in
 * the plan's remark. -ENOMEM */
int c_opcodes_add(struct c_search *s);

/* ---- c_takers.c ---- */
void c_takers_find(struct c_search *s);
/* The taker at vaddr, by name, perhaps through the procedure linkage table; NULL: none. */
const struct c_taker *c_taker_at(const struct c_search *s, uint64_t vaddr);
/* Likewise one without a name, known by its code. */
const struct c_taker *c_local_taker_at(struct c_search *s, uint64_t vaddr);
/* Is what the call at instruction i calls a part of the loop that was put out of line? */
bool c_is_helper(struct c_search *s, size_t i);

/* The probes for --c-functions, as the other finders of parts.h; the frame plan must be there. */
int py_sites_c(const struct py_image *image, const struct py_finder *finder,
	       struct py_engine_plan *plan);

#endif

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * method.h - C functions that are probed at themselves: a program of its own, loaded only if some
 * were chosen and all of them can be.
 *
 * A probe lies where each function begins, and one where it is over, with the stack pointer as it
 * was (user/python/method_exits.h). Which function that is, only the stack pointer tells: several
 * may share the code at their ends. What calls it is not told: Python, or another C function; so
 * calls nest without a frame between them (PT_C_PROBED).
 *
 * A function that another one ends in has its stack pointer, and they are over at once. What lies
 * below the stack pointer was left without our notice (longjmp(), a stack that was switched); the
 * reader has to be told, as nothing else closes it.
 *
 * The thread state is at hand in none of these probes. It is the one of the thread's last Python
 * call or return, or else what the map tstates has.
 */
#ifndef PT_BPF_METHOD_H
#define PT_BPF_METHOD_H

#include "cfunc.h"

/* Functions that end in one another: all are over at the last one's end. */
#define METHOD_CHAIN_MAX 4

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, PT_METHODS_MAX);
	__type(key, __u32);
	__type(value, struct pt_method);
} methods SEC(".maps");

static __always_inline __u64 method_tstate(const struct thread *t)
{
	__u32 tid = (__u32)t->pid_tgid;
	struct pt_tstate *found;

	if (t->tstate)
		return t->tstate;
	found = bpf_map_lookup_elem(&tstates, &tid);
	return found && found->image_id == t->image_id ? found->tstate : 0;
}

#define NAME_MODULE 0x00656c75646f6dull /* "module", with the NUL */

/* The name of the type that self is of; 0: none. *kind says whether that makes it a method. */
static __always_inline __u64 method_type(const struct pt_method *method, __u64 self, __u32 *kind)
{
	__u64 type, name;

	*kind = method->self == PT_METHOD_OF_MODULE ? PT_C_FUNCTION : PT_C_METHOD;
	if (method->self == PT_METHOD_OF_MODULE || method->self == PT_METHOD_OF_TYPE)
		return 0;
	type = user_u64(self + 8);
	name = type ? user_u64(type + 24) : 0;
	if (method->self == PT_METHOD_UNKNOWN &&
	    (!name || (user_u64(name) & (~0ull >> 8)) == NAME_MODULE)) {
		*kind = PT_C_FUNCTION;
		return 0;
	}
	return name;
}

static __always_inline struct pt_cfunc *method_define(struct thread *t, struct c_thread *c,
						      const struct pt_method *method, __u32 kind,
						      const struct pt_cfunc_key *key, __u64 now)
{
	struct pt_cfunc value = {};

	value.id = code_id_new(t);
	if (!value.id)
		return NULL;
	rec_init(&c->rec.hdr, PT_REC_CFUNC, sizeof(c->rec), t->pid_tgid, t->image_id, now);
	c->rec.def = key->def;
	c->rec.type = key->type;
	c->rec.ml_meth = 0;
	c->rec.id = value.id;
	c->rec.kind = kind | PT_C_PROBED;
	__builtin_memcpy(c->rec.name, method->name, sizeof(c->rec.name));
	__builtin_memcpy(c->rec.owner, method->owner, sizeof(c->rec.owner));
	/* a name that is not in memory yet cannot be read: then the owner that the file tells,
	 * which is self's type or one that it is derived from */
	if (key->type &&
	    bpf_probe_read_user_str(c->rec.owner, sizeof(c->rec.owner), (void *)key->type) <= 1)
		__builtin_memcpy(c->rec.owner, method->owner, sizeof(c->rec.owner));
	return c_announce(c, key, &value);
}

/* The function's id; 0: there is none. */
static __noinline __u32 method_id(struct pt_regs *ctx, struct thread *t, struct c_thread *c,
				  __u32 number, __u64 now)
{
	struct pt_cfunc_key key = {};
	struct pt_method *method;
	struct pt_cfunc *known;
	__u32 kind;

	method = bpf_map_lookup_elem(&methods, &number);
	if (!method)
		return 0;
	key.image_id = t->image_id;
	key.def = number;
	key.type = method_type(method, REGS_ARG0(ctx), &kind);
	known = bpf_map_lookup_elem(&cfuncs, &key);
	if (unlikely(!known))
		known = method_define(t, c, method, kind, &key, now);
	return known ? known->id : 0;
}

static __always_inline int method_enter(struct pt_regs *ctx, struct thread *t, __u32 number)
{
	struct c_thread *c = c_thread_get(t, true);
	__u64 sp = REGS_SP(ctx), now;
	__u32 n, before, id;

	if (!c) {
		count_add(&counters.missed, 1);
		return 0;
	}
	before = c->count;
	n = c_settle(c, sp);
	if (n != before)
		t->attention |= ATT_SNAP;
	if (trigger_silent(t))
		return 0;
	if (unlikely(t->attention)) {
		if (c_resync(method_tstate(t), t->image_index))
			return 0;
		t = thread_get();
		if (!t)
			return 0;
	}
	if (unlikely(!t->depth || t->depth > max_depth || t->depth != t->shown))
		return 0;
	now = bpf_ktime_get_ns();
	id = method_id(ctx, t, c, number, now);
	if (!id)
		return 0;
	opaque(n);
	if (n >= C_OPEN_MAX) {
		count_add(&counters.c_too_deep, 1);
		return 0;
	}
	if (c_put(t, PT_W_C_ENTER, id, now)) {
		event_drop(t);
		return 0;
	}
	c->sp[n] = sp;
	c->count = n + 1;
	return 0;
}

/* Takes the calls off the stack that are over; returns how many. *lost: others were left before. */
static __always_inline __u32 method_settle(struct c_thread *c, __u64 sp, bool *lost)
{
	__u32 before = c->count, n = c_settle(c, sp), over = 0;
	int i;

	*lost = n != before;
	for (i = 0; i < METHOD_CHAIN_MAX; i++) {
		__u32 top = n - 1;

		opaque(top);
		if (top >= C_OPEN_MAX || c->sp[top] != sp)
			break;
		n = top;
		over++;
	}
	c->count = n;
	return over;
}

static __always_inline int method_leave(struct pt_regs *ctx, struct thread *t)
{
	struct c_thread *c = c_thread_get(t, false);
	__u32 over, i;
	__u64 now;
	bool lost;

	if (!c || !c->count)
		return 0;
	over = method_settle(c, REGS_SP(ctx), &lost);
	if (lost)
		t->attention |= ATT_SNAP;
	if (!over || trigger_silent(t))
		return 0;
	/* as in c_return() */
	if (t->attention && t->pause_from) {
		c_resync(method_tstate(t), t->image_index);
		t = thread_get();
		if (!t)
			return 0;
	}
	if (t->attention)
		return 0;
	now = bpf_ktime_get_ns();
	for (i = 0; i < METHOD_CHAIN_MAX && i < over; i++)
		if (!brief_c_call(t, now) && c_put(t, PT_W_C_EXIT, t->shown, now))
			event_drop(t);
	return 0;
}

static __always_inline int method_paused(struct pt_regs *ctx, struct thread *t, __u64 cookie)
{
	struct c_thread *c = c_thread_get(t, false);
	__u64 sp = REGS_SP(ctx);
	__u32 before;
	bool lost;

	if (!c || !c->count)
		return 0;
	before = c->count;
	if (cookie & PT_METHOD_EXIT)
		method_settle(c, sp, &lost);
	else
		c_settle(c, sp);
	c_over_paused(t, before - c->count);
	return 0;
}

static __always_inline int method_hit(struct pt_regs *ctx)
{
	__u32 gate = *(volatile __u32 *)&control.gate;
	__u64 cookie;
	struct thread *t;

	if (gate != PT_GATE_OPEN && gate != PT_GATE_PAUSED)
		return 0;
	t = thread_traced();
	if (!t)
		return 0;
	cookie = bpf_get_attach_cookie(ctx);
	if (unlikely(gate == PT_GATE_PAUSED))
		return method_paused(ctx, t, cookie);
	if (unlikely(t->head.word_count > batch_limit))
		batch_flush(bpf_ktime_get_ns(), 0);
	return cookie & PT_METHOD_EXIT ? method_leave(ctx, t) : method_enter(ctx, t, cookie);
}

#endif /* PT_BPF_METHOD_H */

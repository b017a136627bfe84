/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * cfunc.h - C functions that Python calls: a program of its own, loaded only if they are wanted.
 *
 * A probe on each instruction that may call one looks at the callable's type; a probe behind it
 * notices the return. The two belong together by the stack pointer: a call leaves it as it was, and
 * no other call that is still open has the same. So what is open is a stack of stack pointers, kept
 * per thread; a return that finds nothing of its own there says nothing.
 *
 * Objects (Include/cpython/methodobject.h, descrobject.h, moduleobject.h, object.h; 3.8 to 3.15):
 *   PyCFunctionObject    m_ml 16, m_self 24, m_module 32
 *   PyMethodDescrObject  d_type 16, d_method 40
 *   PyMethodDef          ml_name 0, ml_meth 8
 *   PyTypeObject         tp_name 24
 *   PyTupleObject        ob_item 24
 */
#ifndef PT_BPF_CFUNC_H
#define PT_BPF_CFUNC_H

#include "paused.h"

/* Calls of C functions that are open at once, in one thread. */
#define C_OPEN_MAX 900

#define CF_PENDING 0x80000000u /* in flags: the definition did not fit into the ring buffer */

struct c_thread {
	__u32 image_id;
	__u32 count;
	__u64 absences; /* as in struct thread */
	__u64 sp[C_OPEN_MAX];
	struct pt_rec_cfunc rec;
};
_Static_assert(sizeof(struct c_thread) <= PT_THREAD_BYTES_MAX, "c_thread");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct c_thread);
} c_threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct pt_cfunc_key);
	__type(value, struct pt_cfunc);
} cfuncs SEC(".maps");

/* The callable, read at once. */
struct c_object {
	__u64 refcount, type, at16, at24, at32, at40;
};

/* What is called. */
struct c_callee {
	__u64 def, type; /* type: address of the name, 0: a function */
	__u64 module;    /* PyUnicode, or whatever the program made of it */
	__u64 name, ml_meth;
};

static __always_inline struct c_thread *c_thread_get(struct thread *t, bool make)
{
	struct c_thread *c;

	c = bpf_task_storage_get(&c_threads, bpf_get_current_task_btf(), NULL,
				 make ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (c && (c->image_id != t->image_id || c->absences != t->absences)) {
		c->image_id = t->image_id;
		c->absences = t->absences;
		c->count = 0;
	}
	return c;
}

/* The first argument of a method descriptor's function; 0: not known. */
static __always_inline __u64 c_first_argument(struct pt_regs *ctx, __u64 cookie)
{
	__u64 reg;

	switch (PT_C_SELF_OF(cookie)) {
	case PT_C_SELF_ARGV_REG:
		reg = reg_read(ctx, PT_C_ARGV_OF(cookie));
		return cookie & PT_C_ARGV_SELF ? reg : user_u64(reg);
	case PT_C_SELF_RDI:
		return REGS_ARG0(ctx);
	case PT_C_SELF_RDX:
		return REGS_ARG2(ctx);
	case PT_C_SELF_ARGV_RSI:
		return user_u64(REGS_ARG1(ctx));
	case PT_C_SELF_ARGV_RDX:
		return user_u64(REGS_ARG2(ctx));
	case PT_C_SELF_TUPLE_RSI:
		return user_u64(REGS_ARG1(ctx) + 24);
	case PT_C_SELF_TUPLE_RDX:
		return user_u64(REGS_ARG2(ctx) + 24);
	default:
		return 0;
	}
}

/* 0: no C function. */
static __always_inline int c_identify(struct pt_regs *ctx, __u64 cookie, __u64 bias,
				      struct c_callee *callee)
{
	const struct pt_image *image = image_at(PT_COOKIE_LAYOUT(cookie));
	__u64 object = reg_read(ctx, PT_COOKIE_FRAME_REG(cookie)), type, self;
	struct c_object o;

	if (cookie & PT_C_IN_STACK)
		object = user_u64(object + PT_C_DISP_OF(cookie));
	/* 3.14+: references carry two tag bits */
	if (bpf_probe_read_user(&o, sizeof(o), (void *)(object & ~3ull)))
		return 0;
	type = o.type - bias;
	callee->module = 0;
	if (type == image->type_function || (image->type_method && type == image->type_method)) {
		callee->def = o.at16;
		callee->module = o.at32;
		self = o.at24;
		type = self ? user_u64(self + 8) : 0;
		if (type && type - bias == image->type_module)
			type = 0;
	} else if (type == image->type_descr) {
		callee->def = o.at40;
		self = c_first_argument(ctx, cookie) & ~3ull;
		type = self ? user_u64(self + 8) : 0;
		if (!type)
			type = o.at16;
	} else {
		return 0;
	}
	callee->type = type ? user_u64(type + 24) : 0;
	/* ml_name and ml_meth: another function may have got the memory of one that is gone */
	return !bpf_probe_read_user(&callee->name, 16, (void *)callee->def);
}

/* The name of a function's module, if it is a plain ASCII string. */
static __always_inline void c_read_module(struct c_thread *c, const struct pt_layout *layout,
					  __u64 module)
{
	__u32 state = module ? user_u32(module + layout->str_state) : 0;

	if ((state & 0x60) == 0x60)
		bpf_probe_read_user_str(c->rec.owner, sizeof(c->rec.owner),
					(void *)(module + layout->str_ascii_data));
}

/* Sends c->rec, and keeps the value. */
static __always_inline struct pt_cfunc *
c_announce(struct c_thread *c, const struct pt_cfunc_key *key, const struct pt_cfunc *value)
{
	if (rec_send(&c->rec, sizeof(c->rec)))
		return NULL;
	if (bpf_map_update_elem(&cfuncs, key, value, BPF_ANY))
		return NULL;
	return bpf_map_lookup_elem(&cfuncs, key);
}

/* The function's value in the map, defined anew if need be; NULL: it cannot be. */
static __always_inline struct pt_cfunc *c_define(struct thread *t, struct c_thread *c,
						 const struct pt_layout *layout,
						 const struct c_callee *callee,
						 const struct pt_cfunc_key *key, __u64 now)
{
	struct pt_cfunc value = {.name = callee->name, .ml_meth = callee->ml_meth};

	value.id = code_id_new(t);
	if (!value.id)
		return NULL;
	rec_init(&c->rec.hdr, PT_REC_CFUNC, sizeof(c->rec), t->pid_tgid, t->image_id, now);
	c->rec.def = callee->def;
	c->rec.type = callee->type;
	c->rec.ml_meth = callee->ml_meth;
	c->rec.id = value.id;
	c->rec.kind = callee->type ? PT_C_METHOD : PT_C_FUNCTION;
	__builtin_memset(c->rec.name, 0, sizeof(c->rec.name));
	__builtin_memset(c->rec.owner, 0, sizeof(c->rec.owner));
	bpf_probe_read_user_str(c->rec.name, sizeof(c->rec.name), (void *)callee->name);
	if (callee->type)
		bpf_probe_read_user_str(c->rec.owner, sizeof(c->rec.owner), (void *)callee->type);
	else
		c_read_module(c, layout, callee->module);
	return c_announce(c, key, &value);
}

static __always_inline int c_put(struct thread *t, __u32 kind, __u32 arg, __u64 now)
{
	__u64 dt = now - t->head.base_ns;
	__u32 n = t->head.word_count;

	if (unlikely(dt > batch_ns_max)) {
		if (batch_flush(now, 0))
			return 1;
		dt = 0;
		n = t->head.word_count;
	}
	opaque(n);
	if (n > PT_BATCH_WORDS - 2)
		return 1;
	if (unlikely(kind == PT_W_C_ENTER && arg > PT_WORD_ARG_MASK)) {
		t->words[n] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_C_ENTER, 1), dt);
		t->words[n + 1] = arg;
		t->ext_words += 1;
		n++;
		if (min_duration_ns)
			t->ext_end = n + 1;
	} else {
		t->words[n] = PT_WORD(kind, arg, dt);
	}
	t->head.word_count = n + 1;
	t->last_frame = 0;
	t->last_ns = now;
	return 0;
}

/* A thread whose stack the reader does not know: bring it in line, as at a frame's event. */
__noinline int c_resync(__u64 tstate, __u32 layout_index)
{
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	struct thread *t = thread_get();
	__u32 info = layout_index & 0xff, depth = 0;
	__u64 counter;

	if (frames_sampled)
		return frameless_settle(bpf_ktime_get_ns());
	if (!t || !tstate)
		return 1;
	if (layout->flags & PT_LF_DELTA) {
		if (bpf_probe_read_user(&counter, 8, (void *)(tstate + layout->ts_remaining)))
			return 1;
		depth = (__u32)(counter >> 32) - (__u32)counter;
	} else {
		info |= INFO_COUNTING;
	}
	resync(t, tstate, 0, depth, info, EV_DROP);
	return t->attention != 0;
}

/* Where the image's vaddr 0 lies. */
static __always_inline __u64 c_bias(struct thread *t, struct pt_regs *ctx, __u64 cookie)
{
	__u64 vaddr;

	if (likely(t->bias))
		return t->bias;
	/* exec'd while traced, or an image that is not position independent */
	vaddr = site_vaddr(PT_COOKIE_LAYOUT(cookie), PT_COOKIE_SITE(cookie));
	return vaddr ? REGS_IP(ctx) - vaddr : 0;
}

/* Forgets calls that were left without our notice: those whose stack pointers are below this one.
 * Returns how many stay open. */
static __always_inline __u32 c_settle(struct c_thread *c, __u64 sp)
{
	__u32 n = c->count;
	int i;

	for (i = 0; i < 64 && n > 0 && n <= C_OPEN_MAX; i++) {
		__u32 top = n - 1;

		opaque(top);
		if (top >= C_OPEN_MAX || c->sp[top] >= sp)
			break;
		n = top;
	}
	c->count = n;
	return n;
}

static __always_inline int c_call(struct pt_regs *ctx, struct thread *t, __u64 cookie)
{
	__u32 layout_index = PT_COOKIE_LAYOUT(cookie), n;
	__u64 now, sp = REGS_SP(ctx);
	struct c_callee callee = {};
	struct pt_cfunc_key key = {};
	struct pt_cfunc *known;
	struct c_thread *c;

	if (trigger_silent(t))
		return 0;
	if (!c_identify(ctx, cookie, c_bias(t, ctx, cookie), &callee))
		return 0;
	if (unlikely(t->attention)) {
		__u64 tstate = site_tstate(ctx, cookie);

		if (c_resync(tstate ? tstate : t->tstate, layout_index))
			return 0;
		t = thread_get();
		if (!t)
			return 0;
	}
	if (unlikely(t->depth > max_depth || t->depth != t->shown))
		return 0;
	c = c_thread_get(t, true);
	if (!c) {
		count_add(&counters.missed, 1);
		return 0;
	}
	key.image_id = t->image_id;
	key.def = callee.def;
	key.type = callee.type;
	now = bpf_ktime_get_ns();
	known = bpf_map_lookup_elem(&cfuncs, &key);
	if (unlikely(!known || known->name != callee.name || known->ml_meth != callee.ml_meth)) {
		known = c_define(t, c, &image_at(layout_index)->layout, &callee, &key, now);
		if (!known)
			return 0;
	}
	if (known->flags & PT_CF_SKIP)
		return 0;
	n = c_settle(c, sp + 1);
	opaque(n);
	if (n >= C_OPEN_MAX) {
		count_add(&counters.c_too_deep, 1);
		return 0;
	}
	if (c_put(t, PT_W_C_ENTER, known->id, now)) {
		event_drop(t);
		return 0;
	}
	c->sp[n] = sp;
	c->count = n + 1;
	return 0;
}

static __always_inline int c_return(struct pt_regs *ctx, struct thread *t, __u32 layout_index)
{
	struct c_thread *c = c_thread_get(t, false);
	__u64 sp = REGS_SP(ctx), now;
	__u32 top;

	if (!c || !c->count)
		return 0;
	top = c_settle(c, sp) - 1;
	opaque(top);
	if (top >= C_OPEN_MAX || c->sp[top] != sp)
		return 0;
	c->count = top;
	if (trigger_silent(t))
		return 0;
	/* behind a pause it is open for the reader still */
	if (t->attention && t->pause_from) {
		c_resync(t->tstate, layout_index);
		t = thread_get();
		if (!t)
			return 0;
	}
	/* with attention a snapshot comes, and closes it for the reader */
	if (t->attention)
		return 0;
	now = bpf_ktime_get_ns();
	if (!brief_c_call(t, now) && c_put(t, PT_W_C_EXIT, t->shown, now))
		event_drop(t);
	return 0;
}

/* So many calls have returned while recording is paused. */
static __always_inline void c_over_paused(struct thread *t, __u32 count)
{
	if (!count)
		return;
	paused_begin(t);
	if (t->attention & ATT_UNKNOWN)
		return;
	paused_keep(t, t->depth);
	if (t->pause_kept != t->depth)
		return;
	t->pause_c_count = count + (t->pause_c == t->depth ? t->pause_c_count : 0);
	t->pause_c = t->depth;
}

/* Recording is paused. No call is put on the stack, but those that return are taken off it, so that
 * none of them is taken for one that is made now and returns later. */
static __noinline int c_paused(struct pt_regs *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx), sp = REGS_SP(ctx);
	__u32 cond = PT_COOKIE_COND(cookie), before;
	struct thread *t = thread_get();
	struct c_thread *c;

	if (cond && !condition_met(REGS_FLAGS(ctx), cond))
		return 0;
	if (!t || t->generation != control.generation || !t->image_id) {
		if (!thread_refresh(PT_COOKIE_LAYOUT(cookie)))
			return 0;
		t = thread_get();
		if (!t)
			return 0;
	}
	c = c_thread_get(t, false);
	if (!c || !c->count)
		return 0;
	before = c->count;
	c_over_paused(t, before - c_settle(c, sp + 1));
	return 0;
}

static __always_inline int c_hit(struct pt_regs *ctx)
{
	struct thread *t;
	__u64 cookie;
	__u32 cond, gate = *(volatile __u32 *)&control.gate;

	if (unlikely(gate != PT_GATE_OPEN))
		return gate == PT_GATE_PAUSED ? c_paused(ctx) : 0;
	cookie = bpf_get_attach_cookie(ctx);
	cond = PT_COOKIE_COND(cookie);
	if (cond && !condition_met(REGS_FLAGS(ctx), cond))
		return 0;
	t = thread_get();
	if (unlikely(!t || t->generation != control.generation || !t->image_id)) {
		if (!thread_refresh(PT_COOKIE_LAYOUT(cookie)))
			return 0;
		t = thread_get();
		if (!t)
			return 0;
	}
	if (unlikely(t->head.word_count > batch_limit))
		batch_flush(bpf_ktime_get_ns(), 0);
	if (PT_COOKIE_KIND(cookie) == PT_SITE_C_CALL)
		return c_call(ctx, t, cookie);
	return c_return(ctx, t, PT_COOKIE_LAYOUT(cookie));
}

#endif /* PT_BPF_CFUNC_H */

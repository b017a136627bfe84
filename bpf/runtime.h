/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * runtime.h - what the interpreter does that is no Python frame: it collects garbage, waits for the
 * GIL, imports, raises audit events and exceptions.
 *
 * These events stand in the thread's batch, in order with its calls, so that they need no sorting
 * and nest as they did. They need neither the thread's depth nor its frames: what comes before a
 * thread's first snapshot is put in its place by the reader.
 */
#ifndef PT_BPF_RUNTIME_H
#define PT_BPF_RUNTIME_H

#include "call.h"
#include "regs.h"

#define ERR_TIMED_OUT 110 /* ETIMEDOUT: errno.h knows no BPF */

/* One item of a batch. */
struct rt_event {
	__u32 type; /* PT_X_RT_* */
	__u32 what; /* enum pt_rt_what */
	__u32 flags, values;
	__u64 value[PT_RT_VALUES_MAX];
};

static __always_inline void put_runtime(struct thread *t, const struct rt_event *event, __u64 now)
{
	__u32 n = t->head.word_count, words = 1 + event->values;

	if (trigger_silent(t))
		return;
	/* of the stack that it lies on the reader knows too much */
	if (t->pause_from)
		put_paused(t, now);
	n = t->head.word_count;
	if (n > batch_limit || now - t->head.base_ns > batch_ns_max) {
		batch_flush(now, 0);
		n = t->head.word_count;
	}
	opaque(n);
	if (n > PT_BATCH_WORDS - 2 - PT_RT_VALUES_MAX)
		return;
	t->words[n] = PT_WORD(PT_W_EXT, PT_EXT_ARG(event->type, words), now - t->head.base_ns);
	t->words[n + 1] = PT_RT_DESC(event->what, event->values, event->flags);
	/* those behind the last do no harm: they are not counted */
	t->words[n + 2] = event->value[0] << PT_RT_SHIFT;
	t->words[n + 3] = event->value[1] << PT_RT_SHIFT;
	t->words[n + 4] = event->value[2] << PT_RT_SHIFT;
	t->ext_words += 1 + words;
	t->head.word_count = n + 1 + words;
	brief_item(t);
	t->last_ns = now;
}

/* ---- details: t->rt, item by item; end is that of the data so far ---- */

#define RT_DATA_BYTES sizeof(((struct rt_scratch *)0)->data)
/* From here on there is no room for one more item and the padding. */
#define RT_END_MAX    (RT_DATA_BYTES - PT_RT_ITEM_MAX_BYTES - 8)
/* PyTypeObject: the same in 3.8 - 3.15 without --with-trace-refs (Include/cpython/object.h) */
#define TYPE_NAME     24
#define TYPE_FLAGS    168
/* Py_TPFLAGS_LONG_SUBCLASS, _BYTES_, _UNICODE_ (Include/object.h) */
#define TYPE_IS_INT   (1u << 24)
#define TYPE_IS_BYTES (1u << 27)
#define TYPE_IS_STR   (1u << 28)
#define TYPE_IS_TUPLE (1u << 26)
#define TYPE_IS_EXC   (1u << 30) /* Py_TPFLAGS_BASE_EXC_SUBCLASS */
/* PyBytesObject, PyLongObject: behind ob_refcnt and ob_type */
#define OBJECT_TYPE   8
#define OBJECT_SIZE   16
#define BYTES_DATA    32
#define INT_DIGITS    24
#define INT_BITS      30 /* of a digit */

static __always_inline void details_begin(struct thread *t, __u32 what)
{
	t->rt.rec.what = what;
	t->rt.rec.item_count = 0;
	t->rt.rec.more = 0;
	t->rt.rec.reserved = 0;
	t->rt.rec.serial = ++t->rt_serial;
}

static __always_inline struct pt_rt_item *details_item(struct thread *t)
{
	__u64 n = t->rt.rec.item_count;
	struct pt_rt_item *item;

	opaque(n);
	if (n >= PT_RT_ITEMS_MAX) {
		t->rt.rec.more++;
		return NULL;
	}
	item = &t->rt.rec.items[n];
	t->rt.rec.item_count = n + 1;
	item->type = PT_RT_NONE;
	item->width = 1;
	item->truncated = 0;
	item->reserved = 0;
	item->bytes = 0;
	item->number = 0;
	return item;
}

/* What a string of C holds, of at most this many bytes. */
static __always_inline __u32 read_c_text(struct thread *t, struct pt_rt_item *item, __u64 addr,
					 __u32 end)
{
	__u64 at = end;
	long n;

	item->truncated = 2;
	if (!addr)
		return end;
	opaque(at);
	if (at > RT_END_MAX)
		return end;
	n = bpf_probe_read_user_str(&t->rt.data[at], PT_RT_ITEM_MAX_BYTES, (void *)addr);
	if (n <= 0 || n > PT_RT_ITEM_MAX_BYTES)
		return end;
	item->bytes = n - 1; /* the NUL */
	item->truncated = n == PT_RT_ITEM_MAX_BYTES;
	return end + n - 1;
}

/* As string_read() of code.h, of fewer bytes. */
static __always_inline __u32 read_text(struct thread *t, struct pt_rt_item *item, __u64 str,
				       const struct pt_layout *layout, __u32 end)
{
	__u64 length = 0, data, bytes, at = end;
	__u32 state = 0, kind;

	item->type = PT_RT_TEXT;
	item->truncated = 2;
	if (!str || bpf_probe_read_user(&length, 8, (void *)(str + layout->str_length)) ||
	    bpf_probe_read_user(&state, 4, (void *)(str + layout->str_state)))
		return end;
	kind = state >> 2 & 7;
	if (!(state & 0x20) || (kind != 1 && kind != 2 && kind != 4))
		return end;
	data = str + (state & 0x40 ? layout->str_ascii_data : layout->str_data);
	bytes = PT_RT_ITEM_MAX_BYTES;
	if (length <= PT_RT_ITEM_MAX_BYTES / 4 || length * kind <= PT_RT_ITEM_MAX_BYTES)
		bytes = length * kind;
	opaque(bytes);
	if (bytes > PT_RT_ITEM_MAX_BYTES || length > 0xffffffff)
		return end;
	opaque(at);
	if (at > RT_END_MAX)
		return end;
	if (bytes > 0 && bpf_probe_read_user(&t->rt.data[at], bytes, (void *)data))
		return end;
	item->bytes = bytes;
	item->width = kind;
	item->truncated = length * kind > bytes;
	return end + bytes;
}

/* An item that is a str; the new end. */
__noinline __u32 details_add_str(__u64 str, __u32 layout_index, __u32 end)
{
	struct thread *t = thread_get();
	struct pt_rt_item *item;

	if (!t)
		return end;
	item = details_item(t);
	if (!item)
		return end;
	return read_text(t, item, str, &image_at(layout_index)->layout, end);
}

/* An int of at most two digits (60 bits): PyLongObject, Include/cpython/longintrepr.h */
static __always_inline bool read_int(__u64 obj, __u32 version, __s64 *number)
{
	__u64 tag = user_u64(obj + OBJECT_SIZE), count, digits;
	bool negative;

	if (version >= 0x030c0000) {
		negative = (tag & 3) == 2;
		count = tag >> 3;
	} else {
		negative = (__s64)tag < 0;
		count = negative ? -tag : tag;
	}
	if (count > 2)
		return false;
	digits = count ? user_u64(obj + INT_DIGITS) : 0;
	digits = count < 2 ? (__u32)digits : (__u32)digits | digits >> 32 << INT_BITS;
	*number = negative ? -(__s64)digits : (__s64)digits;
	return true;
}

static __always_inline __u32 read_bytes(struct thread *t, struct pt_rt_item *item, __u64 obj,
					__u32 end)
{
	__u64 length = user_u64(obj + OBJECT_SIZE), bytes = length, at = end;

	item->type = PT_RT_BYTES;
	item->truncated = 2;
	if (bytes > PT_RT_ITEM_MAX_BYTES)
		bytes = PT_RT_ITEM_MAX_BYTES;
	opaque(bytes);
	if (bytes > PT_RT_ITEM_MAX_BYTES)
		return end;
	opaque(at);
	if (at > RT_END_MAX)
		return end;
	if (bytes > 0 && bpf_probe_read_user(&t->rt.data[at], bytes, (void *)(obj + BYTES_DATA)))
		return end;
	item->bytes = bytes;
	item->truncated = length > bytes;
	return end + bytes;
}

/* An item for any object; the new end. Only what can be read without running code: str, int, bytes
 * and None by value, others by the name of their type. */
__noinline __u32 details_add_object(__u64 obj, __u32 layout_index, __u32 end)
{
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	struct thread *t = thread_get();
	struct pt_rt_item *item;
	__u64 type, flags, name;

	if (!t)
		return end;
	item = details_item(t);
	if (!item)
		return end;
	type = user_u64(obj + OBJECT_TYPE);
	flags = user_u64(type + TYPE_FLAGS);
	if (flags & TYPE_IS_STR)
		return read_text(t, item, obj, layout, end);
	if (flags & TYPE_IS_BYTES)
		return read_bytes(t, item, obj, end);
	if (flags & TYPE_IS_INT && read_int(obj, layout->version, &item->number)) {
		item->type = PT_RT_INT;
		return end;
	}
	name = user_u64(type + TYPE_NAME);
	if (user_u64(name) == 0x65707954656e6f4eull) { /* "NoneType" */
		item->type = PT_RT_NONE;
		return end;
	}
	item->type = PT_RT_OBJECT;
	item->number = obj;
	return read_c_text(t, item, name, end);
}

/* An item that is a string of C; the new end. */
__noinline __u32 details_add_c_text(__u64 addr, __u32 end)
{
	struct thread *t = thread_get();
	struct pt_rt_item *item;

	if (!t)
		return end;
	item = details_item(t);
	if (!item)
		return end;
	item->type = PT_RT_BYTES;
	return read_c_text(t, item, addr, end);
}

static __always_inline int details_send(struct thread *t, __u32 end, __u64 now)
{
	__u64 at = end, len;

	opaque(at);
	if (at > RT_DATA_BYTES - 8)
		return 1;
	__builtin_memset(&t->rt.data[at], 0, 8);
	len = sizeof(t->rt.rec) + ((at + 7) & ~7ull);
	rec_init(&t->rt.rec.hdr, PT_REC_RUNTIME, len, t->pid_tgid, t->image_id, now);
	opaque(len);
	if (len > sizeof(t->rt))
		return 1;
	return rec_send(&t->rt, len) != 0;
}

/* Sends the details and appends the word that they belong to; event has the values behind the
 * first.
 */
static __always_inline int put_detailed_event(struct thread *t, struct rt_event *event, __u32 end,
					      __u64 now)
{
	int lost;

	event->what = t->rt.rec.what;
	event->flags = PT_RT_DETAILS;
	event->values++;
	event->value[0] = t->rt.rec.serial;
	if (trigger_silent(t))
		return 1;
	lost = details_send(t, end, now);
	put_runtime(t, event, now);
	return lost;
}

static __always_inline void put_detailed(struct thread *t, __u32 type, __u32 end, __u64 now)
{
	struct rt_event event = {.type = type};

	put_detailed_event(t, &event, end, now);
}

/* importlib's _find_and_load(name, import_) was entered. */
__noinline int runtime_import(__u64 frame, __u32 layout_index, __u64 now)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	__u64 name;
	__u32 end;

	if (!t || image->rt.frame_locals == PT_NO_FIELD)
		return 0;
	name = user_u64(frame + image->rt.frame_locals) & ~(__u64)image->rt.locals_mask;
	details_begin(t, PT_RT_IMPORT);
	end = details_add_str(name, layout_index, 0);
	put_detailed(t, PT_X_RT_BEGIN, end, now);
	return 0;
}

/* ---- audit events ---- */

#define AUDIT_ARGS 5 /* behind the name there is room for so many */

/* name: as C has it, or 0 if it cannot be had so. */
static __always_inline bool audit_wanted(__u64 name)
{
	struct pt_audit_key key = {.bits = 8 * PT_AUDIT_NAME_BYTES};

	/* global functions are verified whether they are called or not: the map may be missing */
	if (!want_audit)
		return false;
	if (name && bpf_probe_read_user_str(key.name, sizeof(key.name), (const void *)name) < 0)
		return false;
	return bpf_map_lookup_elem(&audit_names, &key) != NULL;
}

/* The count objects whose pointers lie at objects. */
static __always_inline __u32 audit_args(struct thread *t, __u64 objects, __u64 count, __u32 layout,
					__u32 end)
{
	__u32 i;

#pragma unroll
	for (i = 0; i < AUDIT_ARGS; i++) {
		if (i >= count)
			break;
		end = details_add_object(user_u64(objects + 8 * i), layout, end);
	}
	if (count > AUDIT_ARGS)
		t->rt.rec.more = count - AUDIT_ARGS;
	return end;
}

/* An event raised by C, or by Python too where its USDT probe tells: a tuple of arguments, or 0. */
__noinline int runtime_audit(__u64 name, __u64 tuple, __u32 layout)
{
	const struct pt_image *image = image_at(layout);
	struct thread *t = thread_get();
	__u64 said;
	__u32 end;

	if (!t)
		return 0;
	said = t->audited;
	t->audited = 0;
	if (said == name || !audit_wanted(name))
		return 0;
	details_begin(t, PT_RT_AUDIT);
	end = details_add_c_text(name, 0);
	if (tuple)
		end = audit_args(t, tuple + image->rt.tuple_items, user_u64(tuple + OBJECT_SIZE),
				 layout, end);
	put_detailed(t, PT_X_RT_INSTANT, end, bpf_ktime_get_ns());
	return 0;
}

/* sys.audit(*args) is called by Python. If a hook is installed, the above hears of it next. */
__noinline int runtime_audit_python(__u64 args, __u64 count, __u32 layout)
{
	const struct pt_image *image = image_at(layout);
	struct thread *t = thread_get();
	__u64 str, name = 0;
	__u32 end;

	if (!t || !count || count > 1u << 30)
		return 0;
	str = user_u64(args);
	if (!(user_u64(user_u64(str + OBJECT_TYPE) + TYPE_FLAGS) & TYPE_IS_STR))
		return 0;                                             /* a TypeError will follow */
	if ((user_u32(str + image->layout.str_state) & 0x60) == 0x60) /* compact, ascii */
		name = str + image->layout.str_ascii_data;
	t->audited = name;
	if (!audit_wanted(name))
		return 0;
	details_begin(t, PT_RT_AUDIT);
	end = details_add_str(str, layout, 0);
	end = audit_args(t, args + 8, count - 1, layout, end);
	put_detailed(t, PT_X_RT_INSTANT, end, bpf_ktime_get_ns());
	return 0;
}

/* ---- exceptions ---- */

#define RAISE_ARGS 3

/* The arguments of an exception: of an instance, or up to 3.11 of one that is yet to be made, for
 * which a str, a tuple or nothing stands (Python/errors.c, _PyErr_SetObject()). */
static __always_inline __u32 raise_args(struct thread *t, const struct pt_rt_layout *rt,
					__u64 value, __u32 layout, __u32 end)
{
	__u64 count, flags;
	__u32 i;

	flags = user_u64(user_u64(value + OBJECT_TYPE) + TYPE_FLAGS);
	if (flags & TYPE_IS_EXC) {
		value = user_u64(value + rt->exc_args);
		flags = user_u64(user_u64(value + OBJECT_TYPE) + TYPE_FLAGS);
	}
	if (!value)
		return end;
	if (!(flags & TYPE_IS_TUPLE))
		return details_add_object(value, layout, end);
	count = user_u64(value + OBJECT_SIZE);
#pragma unroll
	for (i = 0; i < RAISE_ARGS; i++) {
		if (i >= count)
			break;
		end = details_add_object(user_u64(value + rt->tuple_items + 8 * i), layout, end);
	}
	if (count > RAISE_ARGS)
		t->rt.rec.more = count - RAISE_ARGS;
	return end;
}

/* Where the current frame stands, which is what the entry of the traceback will say: the code
 * object's id in the low half, the place in its code in the high half; 0: it cannot be told.
 * Takes t->code, which shares its memory with t->rt. */
__noinline __u64 raise_place(__u64 tstate, __u32 layout_index, __u64 now)
{
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	__u64 frame = frame_current(layout, tstate), code, unit, id;

	if (!frame || frame_owner_hidden(layout, frame))
		return 0;
	code = user_u64(frame + layout->frame_code) & ~(__u64)layout->frame_code_mask;
	unit = call_unit(layout, frame, code);
	if (unit > PT_WORD_ARG_MASK)
		return 0;
	id = (__u32)code_lookup(code, layout_index, now);
	return id ? id | unit << 32 : 0;
}

/* An exception is about to get an entry of its traceback. If it has none yet, it is new. */
__noinline int runtime_raise(__u64 tstate, __u32 layout)
{
	const struct pt_image *image = image_at(layout);
	struct rt_event event = {.type = PT_X_RT_INSTANT};
	__u64 now = bpf_ktime_get_ns(), place;
	struct thread *t = thread_get();
	__u64 type, value, traceback, current[3] = {};
	__u32 end;

	if (!t || !tstate || image->rt.ts_exception == PT_NO_FIELD)
		return 0;
	bpf_probe_read_user(current, sizeof(current), (void *)(tstate + image->rt.ts_exception));
	if (image->rt.exc_traceback) {
		value = current[0];
		type = value ? user_u64(value + OBJECT_TYPE) : 0;
		traceback = user_u64(value + image->rt.exc_traceback);
	} else {
		type = current[0];
		value = current[1];
		traceback = current[2];
	}
	if (!type || traceback)
		return 0;
	place = trigger_silent(t) ? 0 : raise_place(tstate, layout, now);
	if (place) {
		event.values = 2;
		event.value[1] = (__u32)place;
		event.value[2] = place >> 32;
	}
	details_begin(t, PT_RT_EXCEPTION);
	end = details_add_c_text(user_u64(type + TYPE_NAME), 0);
	if (value)
		end = raise_args(t, &image->rt, value, layout, end);
	put_detailed_event(t, &event, end, now);
	return 0;
}

/* ---- garbage collections where the build has no USDT probes for them ---- */

/* Where the statistics of the interpreter that collects lie, or 0. */
static __always_inline __u64 gc_stats_at(struct thread *t, const struct pt_rt_layout *rt,
					 __u64 tstate, __u64 ip, __u64 site_vaddr)
{
	__u64 interp;

	if (rt->gc_stats_vaddr)
		return ip - site_vaddr + rt->gc_stats_vaddr;
	if (!rt->gc_stats || !tstate)
		return 0;
	interp = user_u64(tstate + rt->ts_interp);
	return interp ? interp + rt->gc_stats : 0;
}

/* The collector's function is also entered when a collection is under way (3.13), and then does
 * nothing: the statistics are the same before and after, and that of the outer call stays right. */
static __always_inline void gc_enter(struct thread *t, __u64 at, struct rt_event *event)
{
	struct gc_stats stats;
	__u32 i;

	event->type = PT_X_RT_BEGIN;
	event->what = PT_RT_GC;
	t->gc_at = 0;
	if (!at || bpf_probe_read_user(&stats, sizeof(stats), (void *)at))
		return;
	t->gc_at = at;
#pragma unroll
	for (i = 0; i < 9; i++)
		t->gc_before[i] = stats.values[i];
}

static __always_inline void gc_leave(struct thread *t, struct rt_event *event)
{
	struct gc_stats stats;

	event->type = PT_X_RT_END;
	event->what = PT_RT_GC;
	if (!t->gc_at || bpf_probe_read_user(&stats, sizeof(stats), (void *)t->gc_at))
		return;
	event->flags = PT_RT_CANCEL;
#define GENERATION(i)                                                                              \
	if ((__u32)stats.values[3 * (i)] != t->gc_before[3 * (i)]) {                               \
		event->flags = 0;                                                                  \
		event->values = 3;                                                                 \
		event->value[0] = i;                                                               \
		event->value[1] = (__u32)stats.values[3 * (i) + 1] - t->gc_before[3 * (i) + 1];    \
		event->value[2] = (__u32)stats.values[3 * (i) + 2] - t->gc_before[3 * (i) + 2];    \
	}
	GENERATION(0)
	GENERATION(1)
	GENERATION(2)
#undef GENERATION
}

/* Without statistics: both ends tell the stack pointer as it is at the begin, so that a return from
 * a call that did nothing (within a collection) is known. */
static __always_inline void gc_told(struct rt_event *event, bool begin, __u64 arg, __u64 stack)
{
	event->type = begin ? PT_X_RT_BEGIN : PT_X_RT_END;
	event->what = PT_RT_GC;
	event->values = 2;
	event->value[0] = begin ? (__u64)(__s64)(__s32)arg : arg;
	event->value[1] = stack;
}

/* ---- who has the GIL ---- */

/* struct _gil_runtime_state (Include/internal/pycore_gil.h, 3.8 to 3.15): interval, last_holder,
 * locked, switch_number, cond, mutex; the first and third are a long and an int. pthread_cond_t has
 * 48 bytes (glibc, x86-64: bits/pthreadtypes-arch.h). */
#define GIL_HOLDER_BELOW_COND 24
#define GIL_LOCKED_BELOW_COND 16
#define COND_BYTES            48

/* Its id in its own pid namespace, or 0. Whoever waits for the condition has the mutex that guards
 * all of this. */
static __always_inline __u64 gil_holder(const struct pt_rt_layout *rt, __u64 cond, __u64 mutex)
{
	__u64 holder;

	if (rt->ts_native_id == PT_NO_FIELD || mutex != cond + COND_BYTES ||
	    user_u32(cond - GIL_LOCKED_BELOW_COND) != 1)
		return 0;
	holder = user_u64(cond - GIL_HOLDER_BELOW_COND);
	return holder ? user_u64(holder + rt->ts_native_id) : 0;
}

/* ---- a probe fires ---- */

#define RT_HIT(what, layout, site) ((what) | (layout) << 8 | (site) << 16)
#define RT_HIT_WHAT(hit)           ((hit)&0xff)
#define RT_HIT_LAYOUT(hit)         ((hit) >> 8 & 0xff)
#define RT_HIT_SITE(hit)           ((hit) >> 16)

/* hit: RT_HIT. A global function: verified once, apart from the sites. */
__noinline int runtime_hit(__u64 arg, __u64 arg2, __u64 ip, __u32 hit)
{
	const struct pt_image *image = image_at(RT_HIT_LAYOUT(hit));
	struct rt_event event = {};
	struct thread *t = thread_get();
	__u64 vaddr;

	if (!t)
		return 0;
	switch (RT_HIT_WHAT(hit)) {
	case PT_RT_SITE_GC_START:
		event.type = PT_X_RT_BEGIN;
		event.what = PT_RT_GC;
		event.values = 1;
		event.value[0] = arg;
		break;
	case PT_RT_SITE_GC_DONE:
		event.type = PT_X_RT_END;
		event.what = PT_RT_GC;
		event.values = 1;
		event.value[0] = arg;
		break;
	case PT_RT_SITE_GC_ENTER:
		vaddr = image->rt.gc_stats_vaddr ? site_vaddr(RT_HIT_LAYOUT(hit), RT_HIT_SITE(hit))
						 : 0;
		gc_enter(t, gc_stats_at(t, &image->rt, arg, ip, vaddr), &event);
		break;
	case PT_RT_SITE_GC_LEAVE:
		gc_leave(t, &event);
		break;
	case PT_RT_SITE_GC_BEGIN:
		gc_told(&event, true, arg, arg2);
		break;
	case PT_RT_SITE_GC_RETURN:
		gc_told(&event, false, arg, arg2);
		break;
	case PT_RT_SITE_GIL_WAIT:
		event.type = PT_X_RT_BEGIN;
		event.what = PT_RT_GIL;
		event.value[0] = gil_holder(&image->rt, arg, arg2);
		event.values = event.value[0] != 0;
		break;
	case PT_RT_SITE_GIL_WAITED:
		event.type = PT_X_RT_END;
		event.what = PT_RT_GIL;
		event.values = 1;
		event.value[0] = (__u32)arg == ERR_TIMED_OUT;
		break;
	case PT_RT_SITE_AUDIT:
		return want_audit ? runtime_audit(arg, arg2, RT_HIT_LAYOUT(hit)) : 0;
	case PT_RT_SITE_AUDIT_PYTHON:
		return want_audit ? runtime_audit_python(arg, arg2, RT_HIT_LAYOUT(hit)) : 0;
	default:
		return 0;
	}
	put_runtime(t, &event, bpf_ktime_get_ns());
	return 0;
}

static __always_inline int site_runtime(struct pt_regs *ctx, __u64 cookie)
{
	__u32 reg = PT_COOKIE_TS(cookie), reg2 = PT_COOKIE_FRAME_REG(cookie);
	__u64 arg = 0, arg2 = 0;

	if (reg < PT_REG_NONE)
		arg = reg_read(ctx, reg);
	if (reg2 < PT_REG_NONE)
		arg2 = reg_read(ctx, reg2);
	if (cookie & PT_RT_MEMORY)
		arg = (__u64)(__s64)(__s32)user_u32(arg + (__s64)PT_COOKIE_RT_DISP(cookie));
	else
		arg2 -= 8 * PT_COOKIE_SLOT(cookie);
	return runtime_hit(
	    arg, arg2, REGS_IP(ctx),
	    RT_HIT(PT_COOKIE_RT_WHAT(cookie), PT_COOKIE_LAYOUT(cookie), PT_COOKIE_SITE(cookie)));
}

#endif /* PT_BPF_RUNTIME_H */

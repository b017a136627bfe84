/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * sample.h - what the running thread is in, each time that its CPU's clock ticks (--engine sample,
 * --engine hybrid).
 *
 * The program runs in the interrupt of a timer: it may come in the middle of anything, the
 * interpreter's own changes of its frames and our other programs included. So
 *  - all state is per CPU (the interrupt does not interrupt itself, and offcpu.h, which uses it
 *    too, runs with interrupts off), and maps are hashes, whose locks are safe here; task storage
 *    is not touched;
 *  - memory that is not there now cannot be brought in: the stack ends there, and says so;
 *  - a chain of frames that is being changed must not be taken for another. The innermost frame
 *    must lie below the top of the thread's data stack (what lies above is left over from calls
 *    that are over), each code object must be one by its type, the outermost frame must not be a
 *    generator's that nobody runs, and where a counter tells the depth (3.12+) it must agree. Else
 *    the sample says that its stack is not known.
 *
 * Of each frame the place is sent at which it stands: that of the instruction which it executes, as
 * the interpreter itself keeps it, or of the call that it waits for. Code of the JIT does not keep
 * the former, so there the innermost frame has none.
 *
 * Nobody tells when a code object is freed, as no probe is set. So each is looked at anew, and what
 * it says of itself (name, file, line, flags) must be what it said when it got its id.
 *
 * Cost: 14 us a sample of 21 frames, with 9 user reads a frame (6.18 in a VM; docs/SAMPLING.md).
 */
#ifndef PT_BPF_SAMPLE_H
#define PT_BPF_SAMPLE_H

#include "native.h"

/* In two loops, each verified once. */
#define SAMPLE_INNER  32
#define SAMPLE_OUTER  32 /* 1024 frames, hidden ones included */
#define THREADS_INNER 64
#define THREADS_OUTER 64 /* 4096 thread states */
#define INTERPS_MAX   16

#define SAMPLE_CODE_BYTES 144     /* of a code object: all fields of struct pt_layout lie there */
#define SAMPLE_TAIL_WORDS 8       /* of a text, from its end, that are compared */
#define OBJECT_TYPE       8       /* PyObject.ob_type, 3.8 to 3.15 without --with-trace-refs */
#define TASK_EXITING      0x4     /* PF_EXITING (include/linux/sched.h) */
#define SAMPLE_NO_CODE    0ull    /* sample_code(): it is no code object */
#define SAMPLE_NO_MEMORY  (~0ull) /* or cannot be read */
#define SAMPLE_NO_TABLE   0x80000000u /* of the flags, beside co_flags: it has not been sent yet */

const volatile __u64 sample_period_ns; /* 0: no sampling */
const volatile bool want_off_cpu;      /* offcpu.h */
const volatile bool samples_aside;     /* there are probes, too: PT_SAMPLE_ASIDE */
const volatile bool sample_rests;      /* only while they are absent (probe/absent.c) */

struct sample_state {
	struct pt_rec_sample rec; /* as it is sent .. */
	struct pt_sample_frame frames[PT_SAMPLE_FRAMES_MAX];
	struct code_scratch code;
	__u64 object[SAMPLE_CODE_BYTES / 8];
	__u64 tail[SAMPLE_TAIL_WORDS];
	__u32 next_code_id, code_ids_left;
	__u32 image_index;
	__u32 counted; /* frames that the interpreter counts */
	__u64 bias;
	__u64 tstate, interp;
	__u64 frame;                      /* the next one */
	__u32 last_owner;                 /* of the frame before it */
	__u32 place_unknown;              /* of the innermost one */
	__u32 found;                      /* thread states of this thread */
	__u64 thread_id, ts, this_interp; /* the search */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sample_state);
} sample_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PT_LAYOUT_MAX);
	__type(key, __u32);
	__type(value, struct pt_sample_image);
} sample_images SEC(".maps");

struct sample_thread {
	__u32 image_id, zero;
	__u64 tstate, interp;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); /* tid */
	__type(value, struct sample_thread);
} sample_threads SEC(".maps");

struct sample_code_value {
	__u64 print; /* of what it says of itself */
	__u32 id, flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct code_key);
	__type(value, struct sample_code_value);
} sample_codes SEC(".maps");

static __always_inline struct sample_state *sample_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&sample_states, &zero);
}

static __always_inline struct pt_sample_image *sample_image(__u32 index)
{
	return bpf_map_lookup_elem(&sample_images, &index);
}

static __always_inline bool user_read(__u64 addr, __u64 *value)
{
	return !bpf_probe_read_user(value, sizeof(*value), (const void *)addr);
}

/* ---- code objects ---- */

/* The constant is 2^64 divided by the golden ratio, odd: each bit reaches the upper ones. */
static __always_inline __u64 mix(__u64 print, __u64 word)
{
	print = (print ^ word) * 0x9e3779b97f4a7c15ull;
	return print ^ print >> 32;
}

/* Of a str: its length, its hash if it has one, and its last 64 bytes. 0: it cannot be read. */
__noinline __u64 sample_text(__u64 str, __u32 layout_index)
{
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	struct sample_state *s = sample_get();
	__u64 length = 0, hash = 0, bytes, data, print = 1;
	__u32 state = 0, kind;
	int i;

	/* PyASCIIObject: length, hash, 3.8 to 3.15 */
	if (!s || !str || !user_read(str + layout->str_length, &length) ||
	    !user_read(str + layout->str_length + 8, &hash) ||
	    bpf_probe_read_user(&state, 4, (const void *)(str + layout->str_state)))
		return 0;
	kind = state >> 2 & 7;
	if (!(state & 0x20) || (kind != 1 && kind != 2 && kind != 4))
		return 0;
	data = str + (state & 0x40 ? layout->str_ascii_data : layout->str_data);
	print = mix(mix(print, length), hash + kind);
	bytes = length * kind;
	if (bytes > sizeof(s->tail)) {
		data += bytes - sizeof(s->tail);
		bytes = sizeof(s->tail);
	}
	__builtin_memset(s->tail, 0, sizeof(s->tail));
	opaque(bytes);
	if (bytes > sizeof(s->tail))
		return 0;
	if (bytes && bpf_probe_read_user(s->tail, bytes, (const void *)data))
		return 0;
	for (i = 0; i < SAMPLE_TAIL_WORDS; i++)
		print = mix(print, s->tail[i]);
	return print ? print : 1;
}

/* A field of the code object in s->object; at is a multiple of 4. */
static __always_inline __u64 object_field(struct sample_state *s, __u32 at)
{
	__u64 value = 0;

	opaque(at);
	if (at <= sizeof(s->object) - 8)
		__builtin_memcpy(&value, (__u8 *)s->object + at, 8);
	return value;
}

static __always_inline __u32 sample_new_id(struct sample_state *s)
{
	__u32 first;

	if (s->code_ids_left == 0) {
		if (bpf_map_pop_elem(&code_ids, &first))
			return 0;
		s->next_code_id = first;
		s->code_ids_left = PT_ID_BLOCK;
	}
	s->code_ids_left--;
	return s->next_code_id++;
}

/* Sends its line table. 1: the memory is not there, or the ring is full; it is tried again when the
 * next sample meets it. */
__noinline int sample_lines(__u64 addr, __u32 id)
{
	struct sample_state *s = sample_get();

	return s ? lines_send_all(&s->rec.hdr, addr, id, s->image_index, s->rec.hdr.time_ns) : 1;
}

/* Sends a code object's names; its id in the low half and flags in the high one. */
__noinline __u64 sample_define(__u64 addr, __u64 print)
{
	struct sample_state *s = sample_get();
	struct code_key key = {.addr = addr};
	struct sample_code_value value = {.print = print};
	const struct pt_str *str;
	__u32 len;

	if (!s)
		return SAMPLE_NO_MEMORY;
	value.id = sample_new_id(s);
	if (!value.id) {
		count_add(&counters.lost_records, 1);
		return SAMPLE_NO_MEMORY;
	}
	len = code_read(&s->code, &image_at(s->image_index)->layout, addr, value.id);
	opaque(len);
	str = s->code.rec.str;
	if (len > sizeof(s->code) || str[PT_STR_NAME].truncated == 2 ||
	    str[PT_STR_QUALNAME].truncated == 2 || str[PT_STR_FILE].truncated == 2)
		return SAMPLE_NO_MEMORY;
	rec_init(&s->code.rec.hdr, PT_REC_CODE, len, bpf_get_current_pid_tgid(),
		 s->rec.hdr.image_id, s->rec.hdr.time_ns);
	if (rec_send(&s->code, len))
		return SAMPLE_NO_MEMORY;
	key.image_id = s->rec.hdr.image_id;
	value.flags = s->code.rec.co_flags & ~SAMPLE_NO_TABLE;
	if (sample_lines(addr, value.id))
		value.flags |= SAMPLE_NO_TABLE;
	bpf_map_update_elem(&sample_codes, &key, &value, BPF_ANY);
	return value.id | (__u64)value.flags << 32;
}

/* As sample_define(), of one that is probably known; SAMPLE_NO_CODE, SAMPLE_NO_MEMORY. */
__noinline __u64 sample_code(__u64 addr)
{
	struct sample_state *s = sample_get();
	const struct pt_sample_image *image;
	const struct pt_layout *layout;
	struct sample_code_value *known;
	struct code_key key = {.addr = addr};
	__u64 print = 1, name, file;

	if (!s)
		return SAMPLE_NO_MEMORY;
	image = sample_image(s->image_index);
	layout = &image_at(s->image_index)->layout;
	if (!image || bpf_probe_read_user(s->object, sizeof(s->object), (const void *)addr))
		return SAMPLE_NO_MEMORY;
	if (s->object[OBJECT_TYPE / 8] != image->code_type + s->bias)
		return SAMPLE_NO_CODE;
	print = mix(print, (__u32)object_field(s, layout->code_flags));
	print = mix(print, (__u32)object_field(s, layout->code_firstlineno));
	name = object_field(s, layout->code_qualname != PT_NO_FIELD ? layout->code_qualname
								    : layout->code_name);
	file = object_field(s, layout->code_filename);
	name = sample_text(name, s->image_index);
	file = sample_text(file, s->image_index);
	if (!name || !file)
		return SAMPLE_NO_MEMORY;
	print = mix(mix(print, name), file);
	key.image_id = s->rec.hdr.image_id;
	known = bpf_map_lookup_elem(&sample_codes, &key);
	if (known && known->print == print) {
		if (known->flags & SAMPLE_NO_TABLE && !sample_lines(addr, known->id))
			known->flags &= ~SAMPLE_NO_TABLE;
		return known->id | (__u64)known->flags << 32;
	}
	return sample_define(addr, print);
}

/* ---- frames ---- */

static __always_inline int sample_torn(struct sample_state *s)
{
	s->rec.hdr.flags = PT_SAMPLE_TORN;
	s->rec.frame_count = 0;
	return 0;
}

/* Where nothing was found yet, what leads there is at fault: a record of a run of the loop
 * (3.11, 3.12) that does not say yet which frame it runs may hold anything. */
static __always_inline int sample_partly(struct sample_state *s)
{
	if (!s->rec.frame_count)
		return sample_torn(s);
	s->rec.hdr.flags |= PT_SAMPLE_PARTLY;
	return 0;
}

/* Where the frame stands. */
static __always_inline __u32 sample_place(struct sample_state *s, const struct pt_layout *layout,
					  __u64 frame, __u64 code)
{
	__u64 unit;

	if (s->place_unknown && !s->rec.frame_count)
		return PT_SAMPLE_NO_PLACE;
	unit = call_unit(layout, frame, code);
	if (unit <= PT_WORD_ARG_MASK)
		return unit;
	/* before the first instruction: -1 of whatever width, or of units */
	return (unit & 0x7fffffff) == 0x7fffffff ? PT_SAMPLE_NOT_BEGUN : PT_SAMPLE_NO_PLACE;
}

/* Not what merely creates a generator, nor the shim under an inlined __init__; see
 * frame_is_hidden() in user/python/stack.c. */
static __always_inline int sample_frame(struct sample_state *s, const struct pt_layout *layout,
					__u64 id_flags, __u64 frame, __u64 code)
{
	__u32 flags = id_flags >> 32, n = s->rec.frame_count, place;

	if ((layout->flags & PT_LF_DELTA && flags & PT_CO_SHIM) ||
	    (layout->frame_owner != PT_NO_FIELD && s->last_owner == PT_OWNED_BY_THREAD &&
	     flags & PT_CO_GEN_MASK))
		return 1;
	place = sample_place(s, layout, frame, code);
	opaque(n);
	if (n >= PT_SAMPLE_FRAMES_MAX) {
		s->rec.hdr.flags |= PT_SAMPLE_CUT;
		return 0;
	}
	s->frames[n].code_id = (__u32)id_flags;
	s->frames[n].place = place;
	s->rec.frame_count = n + 1;
	return 1;
}

/* One frame. 1: go on; 0: that was the last. */
__noinline int sample_step(void)
{
	struct sample_state *s = sample_get();
	const struct pt_layout *layout;
	__u64 frame, code = 0, back = 0, id_flags;
	__u32 before;
	__u8 owner = 0;
	int rc;

	if (!s)
		return 0;
	layout = &image_at(s->image_index)->layout;
	frame = s->frame;
	if (!frame)
		return 0;
	if (!user_read(frame + layout->frame_code, &code) ||
	    !user_read(frame + layout->frame_back, &back))
		return sample_partly(s);
	if (layout->frame_owner != PT_NO_FIELD &&
	    bpf_probe_read_user(&owner, 1, (const void *)(frame + layout->frame_owner)))
		return sample_partly(s);
	s->frame = back;
	s->last_owner = owner;
	if (layout->owner_hidden != 0xff && owner >= layout->owner_hidden) {
		if (want_native)
			native_hidden(frame);
		return 1;
	}
	s->counted++;
	code &= ~(__u64)layout->frame_code_mask;
	id_flags = sample_code(code);
	if (id_flags == SAMPLE_NO_CODE)
		return sample_torn(s);
	if (id_flags == SAMPLE_NO_MEMORY)
		return sample_partly(s);
	before = s->rec.frame_count;
	rc = sample_frame(s, layout, id_flags, frame, code);
	if (want_native)
		native_frame(layout, frame, s->rec.frame_count == before ? 0 : (__u32)id_flags);
	return rc;
}

__noinline int sample_steps(void)
{
	int i;

	for (i = 0; i < SAMPLE_INNER; i++)
		if (!sample_step())
			return 0;
	return 1;
}

/* Does the innermost frame lie in the part of the data stack that is not in use? A new run of the
 * loop (3.11, 3.12) makes its record the current one before it says which frame it runs; what
 * stands there is then of an earlier run. */
static __always_inline bool sample_stale(struct sample_state *s, const struct pt_layout *layout)
{
	const struct pt_sample_image *image = sample_image(s->image_index);
	__u64 chunk, top, limit, at;

	if (!image || image->ts_datastack == PT_NO_FIELD)
		return false;
	at = s->tstate + image->ts_datastack;
	if (!user_read(at, &chunk) || !user_read(at + 8, &top) || !user_read(at + 16, &limit))
		return true;
	return s->frame >= chunk && s->frame < limit && s->frame >= top;
}

/* Is what was walked a whole stack? */
static __always_inline bool sample_fits(struct sample_state *s, const struct pt_layout *layout)
{
	__u32 counter[2] = {}, depth;

	if (layout->frame_owner != PT_NO_FIELD && s->last_owner == PT_OWNED_BY_GENERATOR)
		return false;
	if (!(layout->flags & PT_LF_DELTA) || layout->ts_remaining == PT_NO_FIELD)
		return true;
	if (bpf_probe_read_user(counter, sizeof(counter),
				(const void *)(s->tstate + layout->ts_remaining)))
		return false;
	depth = counter[1] - counter[0];
	/* a call or return is under way: it is counted, but not linked, or the other way round */
	return depth - s->counted + 1 <= 2;
}

/* May the interpreter be in code of its JIT? */
static __always_inline bool sample_in_jit(const struct sample_state *s)
{
	const struct pt_sample_image *image = sample_image(s->image_index);
	__u8 on = 1;

	if (!image || image->interp_jit == PT_SAMPLE_JIT_NONE)
		return false;
	if (image->interp_jit != PT_SAMPLE_JIT_UNKNOWN)
		bpf_probe_read_user(&on, 1, (const void *)(s->interp + image->interp_jit));
	return on;
}

__noinline int sample_python(void)
{
	struct sample_state *s = sample_get();
	const struct pt_layout *layout;
	int i;

	if (!s)
		return 0;
	layout = &image_at(s->image_index)->layout;
	if (!user_read(s->tstate + layout->ts_frame, &s->frame))
		return sample_partly(s);
	if (layout->cframe_frame != PT_NO_FIELD && s->frame &&
	    !user_read(s->frame + layout->cframe_frame, &s->frame))
		return sample_partly(s);
	if (!s->frame)
		return 0;
	if (sample_stale(s, layout))
		return sample_torn(s);
	if (want_native)
		native_python(layout, s->tstate);
	s->place_unknown = sample_in_jit(s);
	s->counted = 0;
	for (i = 0; i < SAMPLE_OUTER; i++)
		if (!sample_steps())
			break;
	if (i == SAMPLE_OUTER)
		s->rec.hdr.flags |= PT_SAMPLE_CUT;
	else if (!s->rec.hdr.flags && !sample_fits(s, layout))
		sample_torn(s);
	return 0;
}

/* ---- the thread's state ---- */

/* Is ts in its interpreter's list, and this thread's? What was freed is in no list. */
static __always_inline bool
sample_is_ours(struct sample_state *s, const struct pt_sample_image *image, __u64 ts, __u64 interp)
{
	__u64 id = 0, of = 0, prev = 0, to = 0;

	if (!user_read(ts + image->ts_thread_id, &id) || id != s->thread_id ||
	    !user_read(ts + image->ts_interp, &of) || of != interp || !user_read(ts, &prev))
		return false;
	return user_read(prev ? prev + image->ts_next : interp + image->interp_threads, &to) &&
	       to == ts;
}

/* One thread state of the list. 1: go on; 0: that was the last; -1: it could not be read. */
__noinline int sample_thread_step(void)
{
	struct sample_state *s = sample_get();
	const struct pt_sample_image *image;
	__u64 id = 0, next = 0;

	if (!s || !s->ts)
		return 0;
	image = sample_image(s->image_index);
	if (!image || !user_read(s->ts + image->ts_thread_id, &id) ||
	    !user_read(s->ts + image->ts_next, &next))
		return -1;
	if (id == s->thread_id && sample_is_ours(s, image, s->ts, s->this_interp)) {
		s->tstate = s->ts;
		s->interp = s->this_interp;
		s->found++;
	}
	s->ts = next;
	return 1;
}

__noinline int sample_thread_steps(void)
{
	int i, rc;

	for (i = 0; i < THREADS_INNER; i++) {
		rc = sample_thread_step();
		if (rc <= 0)
			return rc;
	}
	return 1;
}

/* All of one interpreter's. 0: done; -1: not all could be looked at. */
__noinline int sample_interp(void)
{
	int i, rc;

	for (i = 0; i < THREADS_OUTER; i++) {
		rc = sample_thread_steps();
		if (rc <= 0)
			return rc;
	}
	return -1;
}

/* Looks through all thread states. -1: what the thread runs cannot be told; else s->found says
 * whether it has one. */
__noinline int sample_search(void)
{
	struct sample_state *s = sample_get();
	const struct pt_sample_image *image;
	__u64 interp = 0;
	int i;

	if (!s)
		return -1;
	image = sample_image(s->image_index);
	if (!image || !user_read(image->interp_head + s->bias, &interp))
		return -1;
	s->found = 0;
	for (i = 0; i < INTERPS_MAX && interp; i++) {
		s->this_interp = interp;
		if (!user_read(interp + image->interp_threads, &s->ts) || sample_interp())
			return -1;
		if (!user_read(interp + image->interp_next, &interp))
			return -1;
	}
	/* several: which interpreter's code it runs now, nothing tells */
	return interp || s->found > 1 ? -1 : 0;
}

/* As before, if there is one interpreter only, as there nearly always is. */
static __always_inline bool sample_known(struct sample_state *s,
					 const struct pt_sample_image *image, __u32 tid)
{
	struct sample_thread *known = bpf_map_lookup_elem(&sample_threads, &tid);
	__u64 head = 0, next = 0;

	if (!known || known->image_id != s->rec.hdr.image_id)
		return false;
	if (!user_read(image->interp_head + s->bias, &head) || head != known->interp ||
	    !user_read(head + image->interp_next, &next) || next ||
	    !sample_is_ours(s, image, known->tstate, head))
		return false;
	s->tstate = known->tstate;
	s->interp = head;
	return true;
}

static __always_inline __u64 sample_thread_id(struct task_struct *task)
{
#if defined(__TARGET_ARCH_x86)
	/* pthread_self() is where fs points to, with glibc */
	return BPF_CORE_READ(task, thread.fsbase);
#else
	return 0;
#endif
}

/* Finds the current thread's state. 1: it has one; 0: none; -1: that cannot be told. */
static __always_inline int sample_find(struct sample_state *s, struct task_struct *task, __u32 tid)
{
	const struct pt_sample_image *image = sample_image(s->image_index);
	struct sample_thread found = {.image_id = s->rec.hdr.image_id};

	s->thread_id = sample_thread_id(task);
	if (!image || !s->thread_id)
		return -1;
	if (sample_known(s, image, tid))
		return 1;
	if (sample_search())
		return -1;
	if (!s->found)
		return 0;
	found.tstate = s->tstate;
	found.interp = s->interp;
	bpf_map_update_elem(&sample_threads, &tid, &found, BPF_ANY);
	return 1;
}

/* ---- */

static __always_inline void sample_send(struct sample_state *s)
{
	__u32 count = s->rec.frame_count;
	__u64 len;

	opaque(count);
	if (count > PT_SAMPLE_FRAMES_MAX)
		return;
	len = sizeof(s->rec) + sizeof(s->frames[0]) * (__u64)count;
	s->rec.hdr.len = len;
	opaque(len);
	if (len <= sizeof(s->rec) + sizeof(s->frames))
		rec_send(&s->rec, len);
}

/* What the current thread is in. */
static __always_inline void sample_look(struct sample_state *s, struct task_struct *task, __u64 id,
					const struct pt_proc *proc, __u64 now)
{
	int found = -1;

	rec_init(&s->rec.hdr, PT_REC_SAMPLE, 0, id, proc->image_id, now);
	s->rec.frame_count = 0;
	s->rec.stack = 0;
	s->rec.reserved = 0;
	if (want_native)
		native_reset();
	s->image_index = proc->image_index;
	s->bias = proc->bias;
	if (proc->flags & PT_PF_LOCATED)
		found = sample_find(s, task, (__u32)id);
	if (found < 0)
		s->rec.hdr.flags = PT_SAMPLE_UNKNOWN;
	if (found > 0)
		sample_python();
}

static __always_inline void sample_native(struct sample_state *s, struct task_struct *task,
					  __u64 id, __u64 now)
{
	s->rec.stack = native_serial(now);
	native_send(task, id, s->rec.hdr.image_id, s->rec.stack,
		    s->rec.hdr.flags & (PT_SAMPLE_TORN | PT_SAMPLE_UNKNOWN | PT_SAMPLE_PARTLY),
		    now);
}

static __always_inline int sample_take(void)
{
	__u64 id = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u32 tgid = id >> 32;
	struct sample_state *s;
	struct pt_proc *proc;

	if (!tgid ||
	    *(volatile __u32 *)&control.gate != (sample_rests ? PT_GATE_PAUSED : PT_GATE_OPEN))
		return 0;
	proc = bpf_map_lookup_elem(&procs, &tgid);
	if (!proc || proc->flags & PT_PF_REFUSED)
		return 0;
	/* what can be probed need not be such that it can be sampled */
	if (sample_rests && !(proc->flags & PT_PF_LOCATED))
		return 0;
	/* the thread's end is told already, or about to be */
	if (samples_aside && BPF_CORE_READ(task, flags) & TASK_EXITING)
		return 0;
	s = sample_get();
	if (!s)
		return 0;
	s->rec.period_ns = sample_period_ns;
	s->rec.cpu = bpf_get_smp_processor_id();
	bpf_get_current_comm(s->rec.comm, sizeof(s->rec.comm));
	sample_look(s, task, id, proc, now);
	if (want_off_cpu)
		s->rec.hdr.flags |= PT_SAMPLE_BESIDE;
	if (samples_aside)
		s->rec.hdr.flags |= PT_SAMPLE_ASIDE;
	if (want_native)
		sample_native(s, task, id, now);
	sample_send(s);
	count_add(&counters.events, 1);
	return 0;
}

#endif /* PT_BPF_SAMPLE_H */

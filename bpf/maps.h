/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * maps.h - every map, the constants that user space sets before loading, and the global data.
 *
 * Atomics that return a value need Linux 5.12 (a program that merely contains one is refused
 * before), so counters are only ever added to, and unique ids come from a queue that user space
 * keeps filled.
 */
#ifndef PT_BPF_MAPS_H
#define PT_BPF_MAPS_H

#include "common.h"

/* A record's words or bytes follow it in the same struct: that is what its open end is for. */
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"

/* Set before loading, constant afterwards: the verifier removes what they rule out, and user space
 * does not create the maps that only the removed code uses. */
const volatile bool use_task_storage = true; /* 5.12; else a hash keyed by tid */
const volatile bool use_cookie = true;       /* 5.15; else a hash keyed by address */
const volatile bool trace_all;
const volatile bool send_lines;  /* --lines */
const volatile bool send_tables; /* of lines: --lines, --exceptions */
const volatile __u32 max_depth = 0xffffffff;
const volatile __u64 max_events; /* 0: no limit */
/* A batch is flushed before an event if it holds more words than this. An event takes up to seven
 * words, the mark of a pause before it four, and one that the iterator adds four more; the word of
 * a coroutine (--async) sees to its own room. */
const volatile __u32 batch_limit = PT_BATCH_WORDS - 15;
const volatile __u64 min_duration_ns; /* 0: none; see brief.h */
/* A batch is flushed before an event if its first lies further back. */
const volatile __u64 batch_ns_max = PT_WORD_TIME_MAX;
const volatile bool use_triggers; /* either of these two: */
const volatile bool use_windows;  /* globs[PT_GLOB_START] */
const volatile bool use_tickets;
const volatile struct pt_glob globs[PT_GLOB_ROOM]; /* by enum pt_glob_which */
const volatile __u64 wake_bytes;  /* pending bytes from which on the reader is woken */
const volatile bool want_runtime; /* there are PT_SITE_RUNTIME sites */
const volatile bool want_imports;
const volatile bool want_audit;
const volatile bool want_exceptions;
const volatile bool want_sched;
const volatile bool use_task_regs; /* bpf_task_pt_regs(): 5.15 */
/* --args, --retval, --local; masks of globs, from PT_GLOB_VALUES on */
const volatile bool use_values;
const volatile __u32 values_args, values_result, values_local;
const volatile union pt_local_name local_names[PT_VALUE_GLOBS_MAX];
const volatile bool cuda_nested;        /* calls of CUDA functions made by others are told, too */
const volatile bool want_async;         /* --async */
const volatile bool frames_sampled;     /* no Python call is told: --engine hybrid */
const volatile bool use_methods;        /* C functions are probed at themselves */
const volatile bool use_stacks;         /* --stacks */
const volatile bool mark_stacks;        /* --stacks mark */
const volatile __u32 stacks_bytes;      /* of a stack, at most; 0: no native frames */
const volatile __u64 stacks_ring_bytes; /* with more pending than this, stacks are not sent */

struct pt_control control __attribute__((aligned(128)));
struct pt_counters counters __attribute__((aligned(128)));
/* Code objects that were freed, in any process. */
__u64 codes_forgotten __attribute__((aligned(128)));

/* struct thread.attention: what keeps an event off the fast path */
#define ATT_UNKNOWN 0x1 /* the depth is not known yet */
#define ATT_SNAP    0x2 /* the reader's stack is wrong: send a snapshot first */
#define ATT_ABSENT  0x4 /* with ATT_UNKNOWN: the probes were absent, so no frame is the same */

#define HIDDEN_MAX    64
#define STRINGS_BYTES (PT_STR_COUNT * PT_STR_MAX_BYTES)

/* Where a walk along the frames of one thread stands; frame 0: finished. */
struct walk {
	__u64 frame;
	__u64 last; /* the frame that it came from: chain.h */
	__u32 depth;
	__u32 frames;  /* that count towards the depth */
	__u32 visible; /* that the trace shows */
	__u32 layout;
};

/* A match under way; indices are of characters, text of bytes in code.data. */
struct glob {
	__u32 text, chars, width;
	__u32 p, i;
	__u32 star, star_i; /* where to go on behind the last star; 0: none */
};

struct code_scratch {
	struct pt_rec_code rec;
	__u8 data[STRINGS_BYTES + 8]; /* 8 for the padding */
};

struct rt_scratch {
	struct pt_rec_runtime rec;
	__u8 data[PT_RT_ITEMS_MAX * PT_RT_ITEM_MAX_BYTES + 8];
};

#define VALUES_BYTES 2560

struct values_scratch {
	struct pt_rec_values rec;
	__u8 data[VALUES_BYTES + 8];
};

/* gc.generation_stats: struct gc_generation_stats of three generations, each collections,
 * collected, uncollectable (Include/internal/pycore_gc.h, 3.9 to 3.13; pycore_pymem.h in 3.8) */
struct gc_stats {
	__u64 values[9];
};

/* The code objects that this thread entered last. Saves the lookup in codes: some 35 ns
 * an enter (117 to 100 ns of program time an event on 3.12). */
#define NEAR_CODES 16
struct near_code {
	__u64 addr;
	__u32 id;
	__u32 flags; /* co_flags */
};

/*
 * Only the thread itself writes it, in its own probes, so nothing here needs a lock or an atomic;
 * .peeked belongs to the iterator. Zeroed when created.
 */
struct thread {
	__u32 generation; /* control.generation when the process was looked up */
	__u32 attention;  /* ATT_* */
	__u64 tstate;
	__u64 below;      /* the thread state whose frames those of tstate lie on, or 0 (base) */
	__u32 depth;      /* absolute, hidden frames included */
	__u32 shown;      /* the depth that the reader believes in */
	__u32 hidden_top; /* depth of the innermost hidden frame that lies below others, or 0 */
	__u32 hidden_count;
	__u64 last_frame; /* frame of the last event, if that was an enter; else 0 */
	__u64 last_ns;
	__u64 events_total; /* in the batches before this one, and those dropped */
	__u32 image_id;     /* 0: not initialised, or not traced */
	__u32 image_index;
	__u64 pid_tgid;
	__u64 bias;
	__u32 ext_words; /* of the batch's words: those that are no enter or exit */
	__u32 skip_exit; /* up to 3.11: the next exit ends a generator's creation */
	__u32 next_code_id, code_ids_left;
	__u32 lost;  /* events that were dropped since the last flush */
	__u32 limit; /* the recursion limit of tstate when it was last read, and base: 3.12+ */
	__u64 peeked;
	/* it ran during a pause that began then (0: none): its frames up to pause_kept stayed */
	__u64 pause_from;
	__u32 pause_kept;
	__u32 pause_c;       /* C functions that the frame at that depth called returned; 0: none */
	__u32 pause_c_count; /* so many */
	/* depths of the calls that opened the window and that end the recording; 0: none */
	__u32 window, stop_depth;
	struct glob glob;
	/* brief.h: of the batch's words */
	__u32 ext_end, item_enter, item_shown, item_ext_end;
	/* of --async: the piece of the data stack that was in use, and the first piece, which tells
	 * greenlets apart; 0: not known yet. Up to 3.10 the current frame, what async.h says, and
	 * the outermost frame of the thread's own stack */
	__u64 stack_chunk, stack_root, own_root;
	/* task.h: the task whose handle runs, in the call at this depth (0: none) */
	__u64 task;
	__u32 task_depth;
	__u32 task_salt; /* another one whenever the reader may have lost a name */
	struct walk walk;
	__u16 hidden[HIDDEN_MAX]; /* how far below hidden_top the one before it lies; 0: none */
	__u64 near_valid;         /* near_codes() for which near[] holds */
	struct near_code near[NEAR_CODES];
	__u32 rt_serial;    /* of the last PT_REC_RUNTIME */
	__u64 audited;      /* the name that sys.audit() was called with, as C sees it */
	__u64 gc_at;        /* where the collector's statistics lie, or 0 */
	__u32 gc_before[9]; /* the statistics' low halves when the collection began */
	union {
		struct code_scratch code;
		struct rt_scratch rt;
		struct values_scratch values;
	};
	__u32 value_depth; /* of the innermost call whose exit is waited for in value_calls, or 0 */
	__u32 value_mask;  /* of the globs that match the code object at hand */
	__u32 value_serial; /* of the last PT_REC_VALUES */
	__u32 base;         /* how many frames lie below those of tstate: another interpreter's */
	__u32 absences;     /* control.absences as it was when that was last taken notice of */
	/* the batch, laid out as it is sent */
	struct pt_rec_batch head;
	__u64 words[PT_BATCH_WORDS];
};
_Static_assert(sizeof(struct thread) <= PT_THREAD_BYTES_MAX, "thread");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, __u32); /* tid */
	__type(value, struct thread);
} threads_by_tid SEC(".maps");

/* One zeroed thread, to create others from; only with threads_by_tid. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct thread);
} thread_template SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32); /* tgid */
	__type(value, struct pt_proc);
} procs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PT_SINCE_MAX);
	__type(key, __u32); /* image_id */
	__type(value, __u64);
} since SEC(".maps");

struct code_key {
	__u32 image_id;
	__u32 zero;
	__u64 addr;
};

#define CODE_PENDING 0x80000000u /* in flags: the definition did not fit into the ring buffer */
/* likewise: importlib's _find_and_load(). No co_flag: Include/cpython/code.h, 3.8 to 3.15 */
#define CODE_IMPORT  0x40000000u
/* Its name matches; co_flags do not reach so far (Include/cpython/code.h, up to 3.15). */
#define CODE_START   0x20000000u
#define CODE_STOP    0x10000000u
#define CODE_VALUES  0x08000000u /* it is in value_codes */
/* It makes a task of a coroutine, its first or second argument. In the place of CO_HAS_DOCSTRING
 * (3.14+), which nobody here asks for. */
#define CODE_TASK    0x04000000u
/* asyncio's Handle._run(). In the place of CO_FUTURE_BARRY_AS_BDFL, likewise. */
#define CODE_HANDLE  0x00400000u
#define CODE_OWN_FLAGS                                                                             \
	(CODE_PENDING | CODE_IMPORT | CODE_START | CODE_STOP | CODE_VALUES | CODE_TASK |           \
	 CODE_HANDLE)
struct code_value {
	__u32 id;
	__u32 flags; /* co_flags, and the above */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct code_key);
	__type(value, struct code_value);
} codes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct pt_site_key);
	__type(value, struct pt_site_value);
} sites SEC(".maps");

/* The vaddr of a site, or 0. */
static __always_inline __u64 site_vaddr(__u32 layout, __u32 number)
{
	struct pt_site_key key = {.by = PT_SITE_BY_NUMBER, .image_index = layout, .addr = number};
	struct pt_site_value *site = bpf_map_lookup_elem(&sites, &key);

	return site ? site->vaddr : 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PT_TSTATES_MAX);
	__type(key, __u32); /* tid */
	__type(value, struct pt_tstate);
} tstates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, PT_AUDIT_NAMES_MAX);
	__type(key, struct pt_audit_key);
	__type(value, __u32);
} audit_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PT_SCHED_THREADS_MAX);
	__type(key, __u32); /* tid */
	__type(value, struct pt_sched);
} sched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32); /* id of a code object */
	__type(value, struct pt_value_code);
} value_codes SEC(".maps");

/* Calls that are open, and whose variables are read when they end. */
struct value_call_key {
	__u64 pid_tgid;
	__u32 depth, zero;
};

struct value_call {
	__u64 frame, code;
	__u32 code_id;
	__u32 below; /* depth of the next such call of the thread, or 0 */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct value_call_key);
	__type(value, struct value_call);
} value_calls SEC(".maps");

/* First ids of blocks of PT_ID_BLOCK code ids; user space refills. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 8192);
	__type(value, __u32);
} code_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 16384);
	__type(value, __u32);
} image_ids SEC(".maps");

/* One for each window that may open. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, __u32);
} tickets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} ring SEC(".maps");

struct page {
	struct pt_rec_batch head;
	__u64 words[PT_BATCH_WORDS];
};

/* The iterator assembles its copies here; one iterator runs at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct page);
} peek_page SEC(".maps");

static __always_inline const struct pt_image *image_at(__u32 index)
{
	return &control.images[index & (PT_LAYOUT_MAX - 1)];
}

#endif /* PT_BPF_MAPS_H */

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * pt_maps.h - what user/probe/ and bpf/ tell each other while a recording runs: keys and values of
 * maps, and the control block in the programs' global data. Internal to these two; nothing of it
 * reaches a file. Fixed-width integers come from the includer, as in pt_abi.h.
 */
#ifndef PT_MAPS_H
#define PT_MAPS_H

#include "pt_abi.h"
#include "pt_layout.h"

/* pt_control.gate: sites return at once unless it is open. */
enum pt_gate {
	PT_GATE_NOT_YET = 0,
	PT_GATE_OPEN = 1,
	PT_GATE_CLOSED = 2,  /* by user space */
	PT_GATE_REACHED = 3, /* max_events was reached */
	PT_GATE_PAUSED = 4,  /* by user space: depths are followed, nothing is sent */
};

/* The largest that a thread's state may be: task storage comes in pieces of at most 8 KiB, the
 * kernel's own header included (mm/slub.c, KMALLOC_MAX_CACHE_SIZE, where Linux 7.2 takes it from).
 */
#define PT_THREAD_BYTES_MAX 8000

/* One interpreter file. */
struct pt_image {
	struct pt_layout layout;
	__u64 tstate_vaddr; /* PT_TS_ABS: the variable that points to the running tstate, or 0 */
	/* vaddrs of PyCFunction_Type, PyCMethod_Type (3.9+, else 0), PyMethodDescr_Type and
	 * PyModule_Type; used at PT_SITE_C_CALL */
	__u64 type_function, type_method, type_descr, type_module;
	struct pt_rt_layout rt;
	struct pt_value_layout values;
};
_Static_assert(sizeof(struct pt_image) == 160, "image");

/* cfuncs: what a C function was called before. User space sets PT_CF_SKIP. */
#define PT_CF_SKIP 0x1 /* nobody wants to see it */

struct pt_cfunc_key {
	__u32 image_id;
	__u32 zero;
	__u64 def, type; /* as in struct pt_rec_cfunc */
};

struct pt_cfunc {
	__u32 id;
	__u32 flags;
	__u64 name, ml_meth; /* of the PyMethodDef, when it was defined */
};

/* methods: C functions that are probed at themselves, by the number in the attach cookie. */
#define PT_METHODS_MAX 32768
#define PT_METHOD_EXIT                                                                             \
	(1ull << 63) /* in the cookie: it is over; whose exit it is, the stack tells */

enum pt_method_self {
	PT_METHOD_OF_MODULE = 1, /* owner is the module */
	PT_METHOD_OF_OBJECT,     /* the first argument is the object, which may be a type */
	PT_METHOD_OF_TYPE,       /* static: owner is the type's type */
	PT_METHOD_UNKNOWN,       /* the first argument is the module or the object */
};

struct pt_method {
	__u32 self; /* enum pt_method_self */
	__u32 zero;
	char name[PT_C_NAME_BYTES], owner[PT_C_NAME_BYTES];
};

/* tstates: tid -> the thread state of a thread that ran Python before its probes told of it. */
#define PT_TSTATES_MAX 16384
struct pt_tstate {
	__u32 image_id, zero;
	__u64 tstate;
};

/* procs: tgid -> struct pt_proc. Not there: not traced. */
#define PT_PF_FOLLOW 0x1 /* its children are traced too */
#define PT_PF_FILE                                                                                 \
	0x2 /* probes belong to the file: children have them from their first instruction */
#define PT_PF_START_KNOWN                                                                          \
	0x4 /* start_depth is the depth at which the first thread of this image began */

#define PT_PF_REFUSED                                                                              \
	0x8 /* not traced, nor its children; unlike a missing entry, also under trace_all */

#define PT_PF_LOCATED                                                                              \
	0x10 /* bias and image_index are those of the program that it runs; only when sampling */

#define PT_PF_PROBES_STAY 0x20 /* probes of its own are of use in what it executes, too */

struct pt_proc {
	__u32 flags; /* PT_PF_* */
	__u32 image_id;
	__u32 image_index; /* in pt_control.images */
	__u32 start_depth;
	__u64 bias;     /* where the image's vaddr 0 lies; 0 unknown */
	__u64 since_ns; /* threads born later start at depth 0, see there; PT_SINCE_UNKNOWN */
};

/* since: image_id -> CLOCK_MONOTONIC ns since when its probes are in place, where pt_proc does not
 * say; nothing is recorded before. Apart from procs, whose entries BPF changes at an exec that user
 * space cannot see coming. */
#define PT_SINCE_UNKNOWN (~0ull)
#define PT_SINCE_MAX     16384 /* processes with probes of their own at a time */

/* sites: what to do at an address, for kernels without attach cookies, and where a site lies, to
 * find the bias of an image that was exec'd while traced. */
enum pt_site_by {
	PT_SITE_BY_VADDR = 1,  /* addr: vaddr in the image */
	PT_SITE_BY_OFFSET = 2, /* addr: vaddr & 4095, image 0: the bias is not known yet */
	PT_SITE_BY_NUMBER = 3, /* addr: PT_COOKIE_SITE */
};

struct pt_site_key {
	__u32 by; /* enum pt_site_by */
	__u32 image_index;
	__u64 addr;
};

struct pt_site_value {
	__u64 cookie; /* 0: two sites share this page offset */
	__u64 vaddr;
};

/*
 * audit_names: the audit events that are wanted, an LPM trie. "open" is its bytes and the NUL
 * behind them; "socket.*" is the bytes before the star; "*" is no byte.
 */
#define PT_AUDIT_NAME_BYTES 60
#define PT_AUDIT_NAMES_MAX  1024

struct pt_audit_key {
	__u32 bits;
	char name[PT_AUDIT_NAME_BYTES];
};

/* sched: tid -> where the thread is. The scheduler's tracepoints write it, which the lock of a run
 * queue keeps in order; .begin_ns and .active belong to the thread itself. */
#define PT_SCHED_THREADS_MAX 16384

enum pt_sched_where { PT_SCHED_RUNNING, PT_SCHED_BLOCKED, PT_SCHED_RUNNABLE };

struct pt_sched {
	__u32 tgid, image_id;
	__u32 active; /* its states are recorded */
	__u32 seq;    /* of the next record */
	__u32 where;  /* enum pt_sched_where */
	__u32 cpu, flags;
	__u16 state;
	__s16 syscall; /* these as in struct pt_rec_sched */
	__u64 begin_ns;
	__u64 run_ns, out_ns, wake_ns;
	__u32 switches; /* from it, as the kernel counts them, up to the last that was told of */
	__u32 reserved;
};

/* sample_images: what else must be known of an interpreter to find a thread's frames without a
 * probe in it, by the index of pt_control.images. Addresses are vaddrs, the rest bytes. */
struct pt_sample_image {
	__u64 interp_head; /* the variable that points to the newest interpreter */
	__u64 code_type;   /* PyCode_Type */
	__u32 interp_next, interp_threads;
	__u16 ts_next, ts_interp; /* PyThreadState; prev is its first field */
	__u16 ts_thread_id;       /* pthread_self() */
	/* datastack_chunk, datastack_top and datastack_limit follow each other from here on;
	 * PT_NO_FIELD: there are none (up to 3.10) */
	__u16 ts_datastack;
	__u32 interp_jit; /* PyInterpreterState.jit, or PT_SAMPLE_JIT_* */
	__u32 reserved;
};
#define PT_SAMPLE_JIT_NONE    0u  /* it has no JIT */
#define PT_SAMPLE_JIT_UNKNOWN ~0u /* it may be on, and nothing tells */

/*
 * The cookie of a probe on a CUDA function says what to read there:
 *
 *   0-12  the function's number
 *   13-15 argument registers (rdi rsi rdx rcx r8 r9) to take, the first ones
 *   16-19 words to take from the stack behind the return address
 *   20-22 the argument register that points to a block, and of that:
 *   23-27 its offset in units of 8 bytes
 *   28-31 its words; 0: none
 *   32-34 the argument register with the pointer to what the call gives back; 7: none
 *   35    that has 8 bytes, not 4
 *   36-39 likewise a second one
 *   40-42 enum pt_cuda_load: what it does with kernels' handles, or 0
 *   43    a function of NCCL, cuBLAS or cuDNN: what it calls of CUDA is recorded besides
 *   44    the stack is wanted, too
 */
#define PT_CUDA_OUT_NONE 7
#define PT_CUDA_COOKIE(fn, regs, stack, slot, offset, words, out0, wide0, out1, wide1)             \
	((__u64)(fn) | (__u64)(regs) << 13 | (__u64)(stack) << 16 | (__u64)(slot) << 20 |          \
	 (__u64)((offset) / 8) << 23 | (__u64)(words) << 28 | (__u64)(out0) << 32 |                \
	 (__u64)(wide0) << 35 | (__u64)(out1) << 36 | (__u64)(wide1) << 39)
#define PT_CUDA_COOKIE_LOADS(load) ((__u64)(load) << 40)
#define PT_CUDA_COOKIE_LOAD(c)     ((__u32)((c) >> 40) & 7)
#define PT_CUDA_COOKIE_OUTER       (1ull << 43)
#define PT_CUDA_COOKIE_STACKS      (1ull << 44)
#define PT_CUDA_COOKIE_FN(c)       ((__u32)(c)&PT_CUDA_FN_MAX)
#define PT_CUDA_COOKIE_REGS(c)     ((__u32)((c) >> 13) & 7)
#define PT_CUDA_COOKIE_STACK(c)    ((__u32)((c) >> 16) & 15)
#define PT_CUDA_COOKIE_SLOT(c)     ((__u32)((c) >> 20) & 7)
#define PT_CUDA_COOKIE_OFFSET(c)   (8 * ((__u32)((c) >> 23) & 31))
#define PT_CUDA_COOKIE_WORDS(c)    ((__u32)((c) >> 28) & 15)
#define PT_CUDA_COOKIE_OUT(c, i)   ((__u32)((c) >> (32 + 4 * (i))) & 15)

/*
 * The cookie of a probe at the entry or an end of one of PyTorch's operators:
 *
 *   0-12  its number
 *   13-28 how far the stack pointer is below its value at the entry, in units of 8 bytes
 *   29    at most so far
 */
#define PT_TORCH_DISTANCE_MAX 0xffff /* units */
#define PT_TORCH_COOKIE(fn, distance, at_most)                                                     \
	((__u64)(fn) | (__u64)((distance) / 8) << 13 | (__u64)(at_most) << 29)
#define PT_TORCH_COOKIE_DISTANCE(c) (8 * ((__u32)((c) >> 13) & PT_TORCH_DISTANCE_MAX))
#define PT_TORCH_COOKIE_AT_MOST(c)  ((__u32)((c) >> 29) & 1)

/*
 * marks: what to do at a probe of the user's, by its attach cookie. One USDT probe may have several
 * places, each with its own entry; the id is the same.
 */
#define PT_MARKS_MAX 256

enum pt_mark_read {
	PT_MARK_READ_VALUE = 1, /* a number or an address */
	PT_MARK_READ_TEXT = 2,  /* the string that it points to */
	PT_MARK_READ_NVTX = 3,  /* the message of the nvtxEventAttributes_t that it points to */
	PT_MARK_READ_KEY = 4,   /* not sent: ranges of different keys have nothing in common */
};

struct pt_mark_arg {
	__u8 read;   /* enum pt_mark_read */
	__u8 reg;    /* in machine order; PT_REG_NONE: disp is the value itself */
	__u8 memory; /* it lies at [reg + disp], not in reg */
	__u8 is_signed;
	__u32 bytes; /* 1, 2, 4 or 8 */
	__s32 disp;
};

struct pt_mark {
	__u32 id, kind, group; /* as in struct pt_rec_mark */
	__u32 arg_count;
	struct pt_mark_arg args[PT_MARK_ARGS_MAX];
};

/*
 * A call's stack as BPF sends it: a PT_REC_CALL_STACK that has PT_RF_RAW and looks like this. User
 * space makes another one of it before it goes anywhere else.
 */
#define PT_RF_RAW              0x8000
#define PT_RAW_PYTHON_MAX      256 /* words */
#define PT_RAW_RETURNS_MAX     16
#define PT_RAW_STACK_BYTES_MAX (32u << 10)

/* pt_raw_stack.flags */
#define PT_RAW_PYTHON_CUT     0x1 /* there are more frames than words */
#define PT_RAW_PYTHON_UNKNOWN 0x2 /* the thread's state is not known yet */
#define PT_RAW_RETURNS_CUT    0x4
#define PT_RAW_PYTHON_ONLY    0x8 /* native frames are not wanted: registers and stack are not set */
/* It is no call's: the innermost frame belongs to it, too, and stack[] begins so far below the
 * stack pointer, where at a function's end its caller's registers still lie (System V ABI, 3.2.2).
 */
#define PT_RAW_SAMPLE         0x10
#define PT_RAW_RED_ZONE       128
/*
 * Words of pt_raw_stack.python, innermost first. A frame: the code object's id in the low half, its
 * place (as in PT_W_LINE; more than PT_WORD_ARG_MASK: unknown) in the high one. A mark behind the
 * frames that one run of the interpreter's loop evaluates: something that lies in the loop's own C
 * frame (3.12 and later a frame of the interpreter's, 3.11 its _PyCFrame), or, up to 3.10, the
 * PyFrameObject.
 */
#define PT_RAW_MARK           (1ull << 63)

enum pt_raw_reg { PT_RAW_IP, PT_RAW_SP, PT_RAW_BP, PT_RAW_BX, PT_RAW_R12, PT_RAW_REGS = 8 };

struct pt_raw_stack {
	struct pt_rec hdr;
	__u32 serial;
	__u32 flags;
	__u32 python_count, return_count;
	__u32 stack_bytes; /* of stack[], which begins at the stack pointer (but PT_RAW_SAMPLE) */
	__u32 objects;     /* the marks are PyFrameObjects */
	__u64 start_stack; /* tells address spaces apart: mm_struct.start_stack */
	__u64 exec_pages;  /* that the process maps executable (mm_struct.exec_vm), without the
			      one of uprobes */
	__u64 regs[PT_RAW_REGS];
	/* Return addresses that the kernel has replaced, for return probes: where, and what was
	 * there. */
	struct {
		__u64 at, to;
	} returns[PT_RAW_RETURNS_MAX];
	__u64 python[PT_RAW_PYTHON_MAX];
	__u8 stack[];
};

#define PT_ID_BLOCK 64 /* code ids that a thread takes at once */

/* Written by user space, read at each event; changes rarely. */
struct pt_control {
	__u32 gate;       /* enum pt_gate */
	__u32 generation; /* procs changed: threads look their process up again */
	__u64 gate_open_ns;
	__u64 peek_older_ns;       /* the iterator copies batches last written before this */
	__u64 pause_ns, resume_ns; /* when the last pause began and ended */
	/* Until then some probes were absent; all ones: they are. 0: never. */
	__u64 absent_until_ns;
	__u32 absences; /* that are over */
	__u32 reserved;
	struct pt_image images[PT_LAYOUT_MAX];
};

/* A name to match: characters, and two that stand for others. No name has characters so large. */
#define PT_GLOB_CHARS      64
#define PT_GLOB_CHARS_MASK (PT_GLOB_CHARS - 1)
#define PT_GLOB_STAR       0xffffffffu
#define PT_GLOB_ANY        0xfffffffeu
#define PT_GLOB_END        0xfffffffdu
enum pt_glob_which {
	PT_GLOB_START,
	PT_GLOB_STOP,
	PT_GLOB_VALUES, /* and those behind it: whose values are wanted */
	PT_GLOB_COUNT = PT_GLOB_VALUES + 16,
};
#define PT_VALUE_GLOBS_MAX (PT_GLOB_COUNT - PT_GLOB_VALUES)
#define PT_GLOB_ROOM       32 /* a power of two */

struct pt_glob {
	__u32 count; /* 0: matches nothing */
	__u32 chars[PT_GLOB_CHARS];
};

/* --local: a variable's name, ASCII, padded with NULs. */
#define PT_LOCAL_NAME_BYTES 32

union pt_local_name {
	char text[PT_LOCAL_NAME_BYTES];
	__u64 words[PT_LOCAL_NAME_BYTES / 8];
};

/* value_codes: what is wanted of a code object, by its id. */
struct pt_value_code {
	__u32 mask;                     /* of the globs that match, from PT_GLOB_VALUES on */
	__u8 local[PT_VALUE_GLOBS_MAX]; /* where the variable is, 1 the first; 0: not looked up
					   yet, PT_LOCAL_NONE: nowhere */
};
#define PT_LOCAL_NONE 0xff

/* Written by BPF, once a batch or less. */
/* A thread that is blocked (--off-cpu): a PT_REC_BLOCKED, as it will be told. */
#define PT_OFF_CPU_MAX 4096 /* threads at a time */
struct pt_off_cpu {
	__u32 slot; /* of its stack in off_cpu_stacks, from 1; 0: it has none */
	__u32 reserved;
	struct pt_rec_blocked rec;
};
#define PT_OFF_CPU_BYTES                                                                           \
	(sizeof(struct pt_off_cpu) + sizeof(struct pt_sample_frame) * PT_SAMPLE_FRAMES_MAX)
/* With --native: a struct pt_raw_stack and its stack[], of so many at a time. */
#define PT_OFF_CPU_STACKS      512
#define PT_OFF_CPU_STACK_BYTES (sizeof(struct pt_raw_stack) + PT_RAW_STACK_BYTES_MAX)

struct pt_counters {
	__u64 events, lost_events, lost_records, resyncs, batches;
	__u64 missed; /* hits that found no memory for their thread's state */
	__u64
	    peek_pending;  /* events in half-full batches: the iterator counts them anew each run */
	__u64 peek_failed; /* batches that the iterator could not deliver in this run */
	__u64 peek_left_ns;  /* the oldest word that it has left where it was; 0: none */
	__u64 c_too_deep;    /* calls of C functions nested deeper than are followed */
	__u64 windows;       /* that have closed */
	__u64 cuda_missed;   /* calls of CUDA functions: nested too deep, or no memory */
	__u64 torch_missed;  /* likewise of PyTorch's operators */
	__u64 stacks_missed; /* calls whose stacks were not sent: no room, or no memory */
	__u64 stop_on;       /* 1: a call that ends the recording has returned */
	__u64 sched_full;    /* threads whose states are not recorded: there was no room */
	__u64 off_cpu_full;  /* times that a thread was blocked, likewise */
	__u64 arrivals;      /* forks and execs of any process of the host */
	__u64 strays;        /* children with breakpoints that they inherited and nobody wants */
};

#endif /* PT_MAPS_H */

/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * pt_abi.h - the records that BPF writes and user space reads.
 *
 * Shared by bpf/, user/ and tests/. No libc, no vmlinux: only fixed-width integers, which the
 * includer provides as __u8 .. __u64 (linux/types.h or vmlinux.h).
 *
 * Everything is little-endian, as on the traced machine; a capture file says so in its header.
 * A record starts with struct pt_rec and is a multiple of 8 bytes long. The ring buffer, capture
 * files and the flight recorder hold the same records.
 *
 * Function calls travel in batches: one PT_REC_BATCH holds up to PT_BATCH_WORDS 8-byte words that
 * one thread produced. One enter or exit is one word, C calls too:
 *
 *     63                        24 23                  3 2     0
 *     +---------------------------+---------------------+-------+
 *     | time since base_ns (40)   | argument (21)       | kind  |
 *     +---------------------------+---------------------+-------+
 *
 * The argument of PT_W_ENTER is the id of a code object (PT_REC_CODE defines it), and the entered
 * frame has the depth "last depth + 1". The argument of PT_W_EXIT is the low 21 bits of the depth
 * after the exit, so every exit states where the stack must be. PT_W_EXT words carry what is rare;
 * the argument then holds the type in its low 8 bits and the payload words that follow are counted
 * in bits 8-20 of the argument.
 *
 * Depth is absolute: the number of interpreter frames that the thread has open, hidden ones (the
 * shim below an inlined __init__, a frame that only creates a generator) included. Depths that no
 * enter named are frames that the trace does not show.
 */
#ifndef PT_ABI_H
#define PT_ABI_H

#define PT_ABI_VERSION 5

/* Words per batch: with its header a batch fills one 4 KiB page. */
#define PT_BATCH_WORDS 502

#define PT_WORD_KIND_BITS 3
#define PT_WORD_ARG_BITS  21
#define PT_WORD_TIME_BITS 40
#define PT_WORD_ARG_MASK  ((1u << PT_WORD_ARG_BITS) - 1)
#define PT_WORD_TIME_MAX  ((1ull << PT_WORD_TIME_BITS) - 1)

#define PT_WORD(kind, arg, dt_ns)                                                                  \
	((__u64)(kind) | (__u64)((arg)&PT_WORD_ARG_MASK) << PT_WORD_KIND_BITS |                    \
	 (__u64)(dt_ns) << (PT_WORD_KIND_BITS + PT_WORD_ARG_BITS))
#define PT_WORD_KIND(w) ((unsigned int)((w)&7))
#define PT_WORD_ARG(w)  ((unsigned int)((w) >> PT_WORD_KIND_BITS) & PT_WORD_ARG_MASK)
#define PT_WORD_DT(w)   ((__u64)(w) >> (PT_WORD_KIND_BITS + PT_WORD_ARG_BITS))

enum pt_word_kind {
	PT_W_EXT = 0,     /* see enum pt_ext */
	PT_W_ENTER = 1,   /* argument: code id */
	PT_W_EXIT = 2,    /* argument: low 21 bits of the depth after the exit */
	PT_W_C_ENTER = 3, /* the innermost frame calls a C function; argument: PT_REC_CFUNC's id */
	PT_W_C_EXIT = 4,  /* it returned; argument: low 21 bits of the depth, as it was */
	/* Where the call stands that the next enter follows from. Argument: the place in the
	 * calling function's code, in code units of 2 bytes; that code object's id in the place of
	 * the time (PT_WORD_DT). What called is the caller as CPython sees it: a frame that throw()
	 * passes through is one, though nothing entered it. Only with --lines. No event. */
	PT_W_LINE = 5,
	/* a reader refuses what it does not know */
};

/*
 * Types of PT_W_EXT words.
 *
 * DEPTH  1 payload word: the depth from now on. Sent before an enter that skips hidden frames.
 *        It opens and closes nothing by itself; frames above the new depth are gone.
 * SNAP   1 payload word: number of PT_X_OPEN items that follow (low 32 bits) and the depth (high
 *        32 bits). The thread's stack is exactly these frames, innermost first; what the reader
 *        believed before is replaced. Sent at a thread's first event, after lost batches, and when
 *        the depth jumps.
 *        Why it was taken is told by where it stands: the first word of a thread, the first
 *        after a gap in seq, or else the depth jumped.
 * ENTER  1 payload word: the code id of an enter whose id does not fit into 21 bits.
 * OPEN   n payload words: frames of the snapshot under way, each: code id in the low 32 bits, its
 *        depth in the high 32 bits. The frames of one snapshot may be spread over several OPEN
 *        words and over a batch boundary.
 * C_ENTER 1 payload word: the id of a C function whose id does not fit into 21 bits.
 * RT_BEGIN, RT_END, RT_INSTANT
 *        Something of the runtime that is no Python frame begins, ends or happens: enum pt_rt_what.
 *        1 to 4 payload words, the low three bits of each 0: a PT_RT_DESC, then the values that it
 *        counts, each shifted left by PT_RT_SHIFT. What begins lies on top of the frames that are
 *        open then, and is over when the frame below it ends, if not before. An end closes the
 *        innermost of its kind. These words are not counted as events.
 * PAUSED 3 payload words: a depth, and when the pause began and ended (CLOCK_MONOTONIC; end 0: not
 *        yet). The thread ran while recording was paused: its frames up to that depth are the same
 *        as before, those above are gone. So are the innermost C functions that the frame at that
 *        depth called, as many as the high half of the depth says. If it goes on, a SNAP follows
 *        at once.
 * ARGS, RESULT
 *        1 payload word: the number of the PT_REC_VALUES of the same thread, which comes before
 *        the batch, shifted left by PT_RT_SHIFT. ARGS: the arguments of the call whose enter
 *        follows. RESULT: what the innermost call returns, and its variables; its exit follows.
 *        No event.
 * CUDA_BEGIN, CUDA_END
 *        A CUDA function is called, and returned. The payload is what was read of its arguments,
 *        as the function's PT_REC_CUDA_FN says, then one word PT_CUDA_DESC with the low three bits
 *        0: which function, how many other calls of CUDA it was made in, and at the end, what it
 *        returned. They lie on the thread's track as what RT_BEGIN and RT_END tell of does.
 *
 * STACK  1 payload word: the number of the PT_REC_CALL_STACK of the same thread, which comes before
 *        the batch, shifted left by PT_RT_SHIFT: where the CUDA_BEGIN, BLOCK or PT_RT_MARK that
 *        follows was called. No event.
 *
 * BLOCK  3 payload words: an address, bytes, and a PT_BLOCK_DESC shifted left by PT_RT_SHIFT. An
 *        allocator of PyTorch's gives out (bytes > 0) or takes back (bytes <= 0; 0: not known how
 *        many) what lies there. A STACK may come before it. Only with --torch-memory. No event.
 *
 * CORO   1 payload word: the enter that follows (a LINE and a DEPTH may lie between) starts or
 *        resumes the coroutine or asynchronous generator at this address. PT_CORO_FIRST: it has not
 *        run before; PT_CORO_UNKNOWN: whether it has is not known. Only with --async. No event.
 *
 * TASK   1 payload word: the frame that was just entered is asked to make a task of the coroutine
 *        at this address, which has not run yet. Only with --async. No event.
 *
 * SWITCH 1 payload word: the thread runs on another stack now, a greenlet's, which has this number;
 *        it is the one before if the number is the same. A SNAP follows at once. Only with --async.
 */
enum pt_ext {
	PT_X_DEPTH = 1,
	PT_X_SNAP = 2,
	PT_X_OPEN = 3,
	PT_X_ENTER = 4,
	PT_X_C_ENTER = 5,
	PT_X_RT_BEGIN = 15,
	PT_X_RT_END = 16,
	PT_X_RT_INSTANT = 17,
	PT_X_PAUSED = 20,
	PT_X_ARGS = 30,
	PT_X_RESULT = 31,
	PT_X_CUDA_BEGIN = 45,
	PT_X_CUDA_END = 46,
	PT_X_BLOCK = 47,
	PT_X_CORO = 35,
	PT_X_TASK = 36,
	PT_X_SWITCH = 37,
	PT_X_STACK = 48,
};
/* Who tells of a block: c10::ProfiledCPUMemoryReporter's New() and Delete(), of the host's memory;
 * c10::reportMemoryUsageToProfiler(), of a CUDA device's. */
enum pt_block_what { PT_BLOCK_HOST_NEW = 0, PT_BLOCK_HOST_DELETE = 1, PT_BLOCK_DEVICE = 2 };
#define PT_BLOCK_DESC(what, device)     ((what) | (device) << 8)
#define PT_BLOCK_DESC_WHAT(desc)        ((desc)&0xff)
#define PT_BLOCK_DESC_DEVICE(desc)      (((desc) >> 8) & 0xff)
/* in the low bits of an address */
#define PT_CORO_FIRST                   1
#define PT_CORO_UNKNOWN                 2
#define PT_CORO_BITS                    7ull
#define PT_PAUSED_C_OVER                (1ull << 32) /* one such */
#define PT_PAUSED_C_COUNT(w)            ((__u32)((w) >> 32))
#define PT_EXT_ARG(type, payload_words) ((type) | (payload_words) << 8)
#define PT_EXT_TYPE(arg)                ((arg)&0xff)
#define PT_EXT_WORDS(arg)               ((arg) >> 8)

/* What the PT_X_RT_* words tell of, and the values that they carry. */
enum pt_rt_what {
	/* A garbage collection. Begin: generation. End, by which values there are: the objects
	 * found unreachable; or generation, collected, uncollectable. */
	PT_RT_GC = 1,
	/* A wait for the GIL. Begin, if it is known: who holds it then, by its id in its own pid
	 * namespace. End: 1 if it timed out, so that the thread asks again at once. */
	PT_RT_GIL = 2,
	PT_RT_IMPORT = 3, /* a module is searched and loaded; ends with its frame. Detail: name */
	PT_RT_AUDIT = 4,  /* an audit event. Details: its name, then arguments */
	/* An exception reaches Python code. Details: its type's name, then its message. Values
	 * behind that, if the place is known: the code object's id, and the place as in PT_W_LINE
	 */
	PT_RT_EXCEPTION = 5,
	/* A probe of --probe or --nvtx fired (PT_REC_MARK). Three values: the number of the
	 * details, which are its arguments, or 0; the probe's id; what an end must have in common
	 * with its begin. Only a PT_MARK_SLICE begins and ends on the stack, all others are
	 * instants. */
	PT_RT_MARK = 10,
	/* A task has a name. An instant: behind the PT_X_TASK, of a coroutine that has not run yet
	 * and is given this name; or of one that has begun, whose task has this name from now on.
	 * Two values: the number of the details, which are the name (text, or N for "Task-N"), and
	 * the coroutine's address. */
	PT_RT_TASK_NAME = 33,
};
#define PT_RT_VALUES_MAX 3
#define PT_RT_SHIFT      3
#define PT_RT_CANCEL     0x1 /* an end: it turned out that nothing had begun */
/* Value 0 is the number of the PT_REC_RUNTIME of the same thread that has the details; that record
 * comes before the batch, in order. */
#define PT_RT_DETAILS    0x2
#define PT_RT_DESC(what, values, flags)                                                            \
	((__u64)(what) << PT_RT_SHIFT | (__u64)(values) << 16 | (__u64)(flags) << 24)
#define PT_RT_DESC_WHAT(w)   ((unsigned int)((w) >> PT_RT_SHIFT) & 0x1fff)
#define PT_RT_DESC_VALUES(w) ((unsigned int)((w) >> 16) & 0xff)
#define PT_RT_DESC_FLAGS(w)  ((unsigned int)((w) >> 24) & 0xff)

/* The last word of PT_X_CUDA_*. */
#define PT_CUDA_FN_MAX    8191
#define PT_TORCH_ID_FIRST 4096 /* PyTorch's operators have numbers from here on */
#define PT_CUDA_DESC(fn, level, code)                                                              \
	((__u64)(fn) << 3 | (__u64)(level) << 16 | (__u64)(__u32)(code) << 32)
#define PT_CUDA_DESC_FN(w)    ((unsigned int)((w) >> 3) & PT_CUDA_FN_MAX)
#define PT_CUDA_DESC_LEVEL(w) ((unsigned int)((w) >> 16) & 0xff)
#define PT_CUDA_DESC_CODE(w)  ((int)((w) >> 32))
/* Words before it: of registers, of the stack, of one block of memory. */
#define PT_CUDA_REGS_MAX      6
#define PT_CUDA_STACK_MAX     8
#define PT_CUDA_BLOCK_MAX     8
#define PT_CUDA_IN_MAX        (PT_CUDA_REGS_MAX + PT_CUDA_STACK_MAX + PT_CUDA_BLOCK_MAX)
#define PT_CUDA_OUT_MAX       2

/*
 * The record kinds: X(ENUM, number, struct, text). One line adds a kind; -Wswitch-enum finds the
 * places that must know it.
 */
#define PT_RECORDS(X)                                                                              \
	X(BATCH, 1, pt_rec_batch, "a batch of frame events")                                       \
	X(CODE, 2, pt_rec_code, "a code object's name, file and line")                             \
	X(PROC, 3, pt_rec_proc, "a process forked, executed, exited or was attached")              \
	X(THREAD, 4, pt_rec_thread, "a thread started or exited")                                  \
	X(STACK, 5, pt_rec_stack,                                                                  \
	  "the frames a thread had open when it was attached, as read from outside")               \
	X(NOTE, 6, pt_rec_note, "a remark of the recorder: start, end, loss totals")               \
	X(RUNTIME, 7, pt_rec_runtime, "details of a PT_X_RT_* word: names, messages, values")      \
	X(CFUNC, 8, pt_rec_cfunc, "a C function's name and whose it is")                           \
	X(CONTROL, 9, pt_rec_control, "recording was paused, resumed, cleared")                    \
	X(LINES, 10, pt_rec_lines, "a piece of a code object's line table")                        \
	X(SCHED, 11, pt_rec_sched, "a thread ran, waited, and was to run again")                   \
	X(VALUES, 12, pt_rec_values, "arguments, variables or the result of a call")               \
	X(CUDA_FN, 15, pt_rec_cuda_fn, "a function of CUDA, by name")                              \
	X(CUDA_LIB, 16, pt_rec_cuda_lib, "a file with CUDA functions got its probes")              \
	X(CUDA_KERNEL, 17, pt_rec_cuda_kernel,                                                     \
	  "which kernel an address that calls have stands for")                                    \
	X(CUDA_LOADED, 22, pt_rec_cuda_loaded,                                                     \
	  "the driver loaded a kernel; only from BPF to the recorder")                             \
	X(CALL_STACK, 20, pt_rec_call_stack, "the stack on which a call was made")                 \
	X(SAMPLE, 21, pt_rec_sample, "what a thread ran when the clock of its CPU ticked")         \
	X(BLOCKED, 24, pt_rec_blocked, "a thread was blocked for some time, and where")            \
	X(MARK, 14, pt_rec_mark, "a probe of the user's: its name, kind and arguments")            \
	X(RANK, 27, pt_rec_rank, "which rank of a distributed job a process is")

enum pt_rec_kind {
#define X(name, number, type, text) PT_REC_##name = (number),
	PT_RECORDS(X)
#undef X
};

/* Header of every record; 32 bytes. */
struct pt_rec {
	__u16 kind;     /* enum pt_rec_kind */
	__u16 flags;    /* PT_RF_*, by kind */
	__u32 len;      /* whole record in bytes, a multiple of 8 */
	__u32 tgid;     /* process, in the host's pid namespace */
	__u32 tid;      /* thread, likewise */
	__u32 image_id; /* one exec'd image of a process: new at fork, exec and attach; never 0 */
	__u32 reserved;
	__u64 time_ns; /* CLOCK_MONOTONIC */
};

/* ---- PT_REC_BATCH ---- */
#define PT_RF_PEEK                                                                                 \
	0x1            /* a copy of a batch still being filled; it comes again, longer, same seq   \
			*/
#define PT_RF_LAST 0x2 /* the thread exits; no more batches follow */

struct pt_rec_batch {
	struct pt_rec hdr;   /* hdr.time_ns: when it was flushed */
	__u64 base_ns;       /* word times count from here */
	__u64 events_before; /* enters + exits this thread produced before this batch, lost ones
				included */
	__u32 seq;           /* 0, 1, 2 .. per thread and image; a gap is a loss */
	__u32 depth;         /* before the first word */
	__u32 word_count;
	__u32 events;  /* enters + exits in this batch */
	char comm[16]; /* the thread's name now */
	__u64 words[];
};

/* ---- PT_REC_CODE ---- */
#define PT_STR_NAME      0
#define PT_STR_QUALNAME  1 /* length 0 before 3.11 */
#define PT_STR_FILE      2
#define PT_STR_COUNT     3
#define PT_STR_MAX_BYTES 1024 /* longer strings are cut; struct pt_str tells */

struct pt_str {
	__u16 bytes;    /* bytes stored, at most PT_STR_MAX_BYTES */
	__u8 width;     /* bytes per character: 1 (Latin-1 or ASCII), 2 (UCS2), 4 (UCS4) */
	__u8 truncated; /* 1: the string is longer; 2: it could not be read */
};

struct pt_rec_code {
	struct pt_rec hdr;
	__u64 addr; /* of the code object; for people, not a key */
	__u32 id;   /* never 0; unique in the trace across processes */
	__u32 firstlineno;
	__u32 co_flags;
	struct pt_str str[PT_STR_COUNT];
	__u32 reserved, reserved_2; /* data[] begins where sizeof ends */
	char data[];                /* the strings' bytes, one behind the other, padded to 8 */
};

/* ---- PT_REC_PROC ---- */
enum pt_proc_what {
	PT_PROC_ATTACH = 1, /* user space: recording starts for this process */
	PT_PROC_FORK = 2,   /* a traced process made this one; parent_* are set */
	PT_PROC_EXEC = 3,   /* the process runs another image now; image_id is the new one */
	PT_PROC_EXIT = 4,   /* the last thread is gone; exit_code as in wait(2) */
	PT_PROC_LATE =
	    5, /* user space: probes reached this process only now; calls before are missing */
};

struct pt_rec_proc {
	struct pt_rec hdr;
	__u32 what; /* enum pt_proc_what */
	__u32 parent_tgid;
	__u32 parent_image_id;
	__s32 exit_code;
	__u32 ns_tgid;    /* the pid in the process's own namespace, 0 unknown */
	__u32 text_bytes; /* ATTACH, EXEC: bytes of data[]: command line, NUL-separated; else 0 */
	__u32 parent_tid; /* FORK: the thread that forked; 0: it ran no Python, as in a shell */
	__u32 reserved;
	char comm[16];
	char data[]; /* padded to 8 */
};

/* ---- PT_REC_RANK ---- */
/* Written by user space, before the PT_REC_PROC of what the process runs: RANK and WORLD_SIZE of
 * its environment. tid is 0. Of a process that has none there is no such record. */
struct pt_rec_rank {
	struct pt_rec hdr;
	__u32 rank, world_size; /* rank < world_size <= INT32_MAX */
};

/* ---- PT_REC_THREAD ---- */
enum pt_thread_what {
	PT_THREAD_START = 1,
	PT_THREAD_EXIT = 2, /* events_total is set */
};

struct pt_rec_thread {
	struct pt_rec hdr;
	__u64 events_total; /* enters + exits it produced, lost ones included */
	__u32 what;
	__u32 ns_tid; /* 0 unknown */
	char comm[16];
};

/* ---- PT_REC_STACK ---- */
/* Written by user space right after the gate opened, by reading the process from outside. Used for
 * threads that never produce an event, and to name a frame whose exit is a thread's first event. */
struct pt_rec_stack_frame {
	__u64 code_addr;
	__u32 code_id; /* a PT_REC_CODE of user space (ids from PT_CODE_ID_USER on) */
	__u32 depth;
};

struct pt_rec_stack {
	struct pt_rec hdr;
	__u32 frame_count; /* innermost first */
	__u32 depth;
	struct pt_rec_stack_frame frames[];
};
/* Code ids that user space gives out when it reads code objects itself; BPF counts up from 1. */
#define PT_CODE_ID_USER 0x80000000u

/* ---- PT_REC_CFUNC ---- */
#define PT_C_NAME_BYTES 128 /* with the NUL; longer names are cut */

enum pt_cfunc_kind {
	PT_C_FUNCTION = 1, /* of a module, which owner names if that is known */
	PT_C_METHOD = 2,   /* of an object, whose type owner names */
};
/* Beside the kind: the function was probed at itself, not where it is called. So def is a number,
 * and name may be several with '|' between, by any of which it was called. C functions may call it,
 * so a call of it may lie in another on the same frame. */
#define PT_C_PROBED     0x100u
#define PT_C_KIND(kind) ((kind) & ~PT_C_PROBED)

/* Comes before the first event that uses the id. Ids are shared with PT_REC_CODE. */
struct pt_rec_cfunc {
	struct pt_rec hdr;
	__u64 def;  /* address of the PyMethodDef */
	__u64 type; /* address of the type's name; 0 for a function */
	__u64 ml_meth;
	__u32 id;
	__u32 kind; /* enum pt_cfunc_kind, PT_C_PROBED */
	char name[PT_C_NAME_BYTES];
	char owner[PT_C_NAME_BYTES];
};

/* ---- PT_REC_LINES ---- */
/* A code object's line table as it lies in memory (co_linetable, co_lnotab up to 3.9), in pieces,
 * in order, at once after its PT_REC_CODE; with --engine sample also later, and perhaps once more
 * from the beginning, if it could not be read before. Only with --lines, --exceptions and samples.
 */
#define PT_LINES_MAX_BYTES (256u << 10) /* what lies beyond is not sent */

struct pt_rec_lines {
	struct pt_rec hdr;
	__u32 code_id;
	__u32 version; /* PY_VERSION_HEX: which format it is */
	__u32 total_bytes, offset;
	__u32 bytes; /* in this piece; what lies behind them has no meaning */
	__u32 reserved;
	__u8 data[];
};

/* ---- PT_REC_CUDA_FN ---- */
#define PT_CUDA_SYMBOL_BYTES 96 /* with the NUL */

enum pt_cuda_api {
	PT_CUDA_RUNTIME = 1, /* libcudart; returns a cudaError_t */
	PT_CUDA_DRIVER = 2,  /* libcuda; returns a CUresult */
	PT_CUDA_NCCL = 3,    /* libnccl; returns an ncclResult_t */
	PT_CUDA_CUBLAS = 4,  /* libcublas, libcublasLt; returns a cublasStatus_t */
	PT_CUDA_CUDNN = 5,   /* libcudnn; returns a cudnnStatus_t */
	PT_CUDA_TORCH = 8,   /* an operator of PyTorch: returns no code, has levels of its own */
};

/* Comes before the first event that uses the id. */
struct pt_rec_cuda_fn {
	struct pt_rec hdr;
	__u32 id;
	__u8 api;       /* enum pt_cuda_api */
	__u8 major;     /* of CUDA, whose form of the arguments it has; 0: they never changed */
	__u8 in_words;  /* of PT_X_CUDA_BEGIN, but for the last one */
	__u8 out_words; /* of PT_X_CUDA_END, likewise */
	char symbol[PT_CUDA_SYMBOL_BYTES];
};

/* ---- PT_REC_CUDA_LIB ---- */
/* Written by user space of a file that the process had mapped before its probes were there; tid is
 * 0. */
struct pt_rec_cuda_lib {
	struct pt_rec hdr;
	__u32 fn_count;
	__u32 late;       /* 1: since the recording began, so calls before are missing; 0: before */
	__u32 text_bytes; /* of data[]: its path as the process sees it */
	__u32 torch;      /* 1: they are PyTorch's operators */
	char data[];      /* padded to 8 */
};

/* ---- PT_REC_CUDA_KERNEL ---- */
#define PT_CUDA_KERNEL_NAME_MAX (32u << 10)
#define PT_RF_KERNEL_LOADED     0x1 /* it holds from hdr.time_ns on, not before */

/* Comes before the first call of this image that has the address; a later one replaces it. tid is
 * 0. Without a name (names 0) the kernel is not known, or no longer (PT_RF_KERNEL_LOADED). */
struct pt_rec_cuda_kernel {
	struct pt_rec hdr;
	__u64 address;    /* as calls have it */
	__u64 vaddr;      /* where that is in the file, if it is in one */
	__u32 names;      /* that it may have: the linker merges functions that are the same */
	__u32 name_bytes; /* of the first, as registered: most often mangled */
	__u32 path_bytes; /* of the file, as the process sees it; 0: it is in none, as a handle */
	__u32 file;       /* the recorder's own; 0 in a capture */
	char data[];      /* name, path; padded to 8 */
};

/* ---- PT_REC_CUDA_LOADED ---- */
#define PT_CUDA_LOADED_NAME_BYTES 2048 /* with the NUL */

enum pt_cuda_load {
	PT_CUDA_LOAD_NAMED = 1, /* text: the name that owner, a module or library, has it by */
	PT_CUDA_LOAD_SAME = 2,  /* handle stands for what owner, a handle or stub, stands for */
	PT_CUDA_LOAD_GONE = 3,  /* owner, a module or library, is unloaded */
	PT_CUDA_LOAD_RESET = 4, /* all that this process has loaded may be */
};

/* Comes before any call that has the handle, or that may be given it again. The recorder makes a
 * PT_REC_CUDA_KERNEL of it; in a capture there is none. */
struct pt_rec_cuda_loaded {
	struct pt_rec hdr;
	__u64 handle;
	__u64 owner;
	__u32 what;       /* enum pt_cuda_load */
	__u32 text_bytes; /* with the NUL; all of text[]: there may be more */
	char text[PT_CUDA_LOADED_NAME_BYTES];
};

/* ---- PT_REC_CALL_STACK ---- */
#define PT_CALL_FRAMES_MAX     1024
#define PT_CALL_NAME_MAX_BYTES (32u << 10) /* of a symbol, and of a file */

enum pt_call_frame_kind {
	PT_CF_PYTHON = 1, /* code_id, where: the place as in PT_W_LINE, or PT_CF_NO_PLACE */
	/* The function's name is the symbol as the file has it, mangled perhaps; without one, and
	 * in any case, where is the address in the file. */
	PT_CF_NATIVE = 2,
	PT_CF_NATIVE_UNKNOWN = 3, /* here are native frames, or may be, that are not known */
	PT_CF_PYTHON_MORE = 4,    /* here are more Python frames */
};
#define PT_CF_NO_PLACE (~0ull)

struct pt_call_frame {
	__u32 kind;    /* enum pt_call_frame_kind */
	__u32 code_id; /* of a Python frame; of a native one the recorder's own, 0 in a capture */
	__u64 where;
	__u32 name_bytes;
	__u32 path_bytes; /* of the file, as the process sees it */
};

/* Of each call that PT_X_STACK tells of. The frames come with the first call of a stack only. */
struct pt_rec_call_stack {
	struct pt_rec hdr; /* flags: 0 */
	__u32 serial;      /* 1, 2, .. per thread */
	__u32 id;          /* of the stack, from 1; one stack has one id in an image */
	__u32 frame_count; /* innermost first; 0: they have come */
	__u32 text_bytes;  /* of the frames' names and paths, which lie behind the last frame */
	struct pt_call_frame frames[];
};

/* ---- PT_REC_SAMPLE ---- */
#define PT_SAMPLE_FRAMES_MAX 512
#define PT_SAMPLE_PERIOD_MAX 1000000000ull /* ns */

/* hdr.flags */
#define PT_SAMPLE_CUT     0x1 /* there are more frames, further out, than fit */
#define PT_SAMPLE_PARTLY  0x2 /* likewise, and their memory could not be read */
/* The frames were being changed at this moment, so what the thread ran is not known: no frames. */
#define PT_SAMPLE_TORN    0x4
/* Where the interpreter or this thread's state lies is not known (yet): no frames. */
#define PT_SAMPLE_UNKNOWN 0x8
/* Of a PT_REC_BLOCKED: its stack was not read, since there were too many: no frames. */
#define PT_SAMPLE_SKIPPED 0x10
/* Of a PT_REC_SAMPLE: blocked time is recorded, too. Nothing is missing. */
#define PT_SAMPLE_BESIDE  0x20
/* Threads tell of single events, too (--engine hybrid), or do so before and behind (in a pause of
 * --max-overhead), whose slices do not nest with those made of samples. Nothing is missing. */
#define PT_SAMPLE_ASIDE   0x40
#define PT_SAMPLE_FLAGS   0xf

/* One that the thread is in. */
struct pt_sample_frame {
	__u32 code_id;
	__u32 place; /* where in the code it stands, in code units, as in PT_W_LINE; or .. */
};
#define PT_SAMPLE_NOT_BEGUN 0xfffffffeu /* .. it has not executed anything yet */
#define PT_SAMPLE_NO_PLACE  0xffffffffu /* .. that is not known */

/* A thread was on a CPU when that CPU's clock ticked; it stands for period_ns of CPU time. Without
 * frames, and without a flag, it runs no Python code. Only where samples are taken. */
struct pt_rec_sample {
	struct pt_rec hdr;
	__u64 period_ns;
	__u32 cpu;
	__u32 frame_count;
	char comm[16]; /* the thread's name */
	__u32
	    stack; /* the serial of a PT_REC_CALL_STACK of this thread that came before, if it
		      could be had: these frames and the native ones. Only with --native; else 0 */
	__u32 reserved;
	struct pt_sample_frame frames[]; /* innermost first */
};

/* ---- PT_REC_BLOCKED ---- */
/* A thread was switched out at out_ns to wait, and was given a CPU again at hdr.time_ns, or the
 * recording ended then. Comes at that time. Flags are PT_SAMPLE_*. Only with --off-cpu. */
struct pt_rec_blocked {
	struct pt_rec hdr;
	__u64 out_ns;
	__u64 period_ns; /* of the samples beside it */
	__u16 state;     /* in the kernel's bits (TASK_*, below 0x100); 0xff: not known */
	__s16 syscall;   /* its number; PT_SCHED_NO_CALL, PT_SCHED_CALL_UNKNOWN */
	__u32 why;       /* PT_SCHED_IO */
	__u32 frame_count;
	__u32 stack; /* as in pt_rec_sample */
	char comm[16];
	struct pt_sample_frame frames[]; /* as in pt_rec_sample */
};

/* ---- PT_REC_NOTE ---- */
enum pt_note_what {
	PT_NOTE_GATE_OPEN = 1,    /* value: 0; recording starts at hdr.time_ns */
	PT_NOTE_GATE_CLOSE = 2,   /* recording ended at hdr.time_ns */
	PT_NOTE_LOST_EVENTS = 3,  /* value: events lost in all, by BPF's count */
	PT_NOTE_LOST_RECORDS = 4, /* value: records other than batches that did not fit */
	/* value: what happened before then, and was not lost, lies before this record. Now and
	 * then, with --memory only. */
	PT_NOTE_COMPLETE = 5,
};

struct pt_rec_note {
	struct pt_rec hdr;
	__u32 what;
	__u32 reserved;
	__u64 value;
};

/* ---- PT_REC_RUNTIME ---- */
#define PT_RT_ITEMS_MAX      6
#define PT_RT_ITEM_MAX_BYTES 256 /* longer texts are cut; struct pt_rt_item tells */

enum pt_rt_type {
	PT_RT_NONE = 0,   /* None */
	PT_RT_TEXT = 1,   /* characters of a str: width bytes each, as in struct pt_str */
	PT_RT_BYTES = 2,  /* UTF-8, as C has it */
	PT_RT_INT = 3,    /* number, signed */
	PT_RT_OBJECT = 4, /* another object: its type's name, as PT_RT_BYTES; number: its address */
};

struct pt_rt_item {
	__u8 type;      /* enum pt_rt_type */
	__u8 width;     /* of a PT_RT_TEXT: 1, 2 or 4 */
	__u8 truncated; /* 1: it is longer; 2: it could not be read */
	__u8 reserved;
	__u32 bytes; /* of it in data[], at most PT_RT_ITEM_MAX_BYTES */
	__s64 number;
};

struct pt_rec_runtime {
	struct pt_rec hdr;
	__u32 serial; /* 1, 2, .. per thread */
	__u16 what;   /* enum pt_rt_what */
	__u16 item_count;
	__u32 more; /* items that did not fit */
	__u32 reserved;
	struct pt_rt_item items[PT_RT_ITEMS_MAX];
	char data[]; /* of the items, one behind the other, padded to 8 */
};

/* ---- PT_REC_VALUES ---- */
#define PT_VALUES_MAX      16  /* of a record */
#define PT_VALUE_MAX_BYTES 256 /* longer texts are cut; struct pt_value tells */
#define PT_VALUE_NAME_MAX  48  /* bytes; longer names are cut */
#define PT_VALUE_DIMS_MAX  8   /* of an array */

enum pt_value_type {
	PT_V_UNREADABLE = 0, /* its memory could not be read */
	PT_V_NONE = 1,
	PT_V_BOOL = 2,    /* number */
	PT_V_INT = 3,     /* number */
	PT_V_BIG_INT = 4, /* its digits of 30 bits, lowest first; number: their count, signed */
	PT_V_FLOAT = 5,   /* number: its bits */
	PT_V_TEXT = 6,    /* a str's characters, width bytes each */
	PT_V_BYTES = 7,   /* a bytes object's */
	PT_V_SIZED = 8,   /* a container: its type's name; number: its length */
	PT_V_OBJECT = 9,  /* its type's name; number: its address */
	PT_V_ARRAY = 10,  /* a numpy array: up to 8 lengths of 8 bytes, and the element type's name;
			     number: the dimensions */
	PT_V_UNBOUND = 11,     /* the variable has no value */
	PT_V_UNKNOWN = 12,     /* what is returned could not be told */
	PT_V_NO_VARIABLE = 13, /* the function has none of this name */
	PT_V_TENSOR = 14,      /* a tensor of PyTorch: its lengths of 8 bytes, and its type's name;
				  number:      a PT_TENSOR */
};
/* the dimensions, at most PT_VALUE_DIMS_MAX, and the element type: c10::ScalarType */
#define PT_TENSOR(dims, dtype)  ((dims) | (dtype) << 8)
#define PT_TENSOR_DIMS(number)  ((__u64)(number)&0xff)
#define PT_TENSOR_DTYPE(number) ((__u64)(number) >> 8)

struct pt_value {
	__u8 type;  /* enum pt_value_type */
	__u8 width; /* of a PT_V_TEXT: 1, 2 or 4 */
	__u8 truncated;
	__u8 name_bytes; /* 0: it is what the call returns */
	__u16 bytes;     /* of the value in data[], behind those of the name */
	__u8 name_width; /* 1, 2 or 4 */
	__u8 reserved;
	__s64 number;
};

struct pt_rec_values {
	struct pt_rec hdr;
	__u32 serial; /* 1, 2, .. per thread */
	__u16 count;
	__u16 more; /* arguments that did not fit */
	struct pt_value values[PT_VALUES_MAX];
	char data[]; /* of the values, one behind the other, padded to 8 */
};

/* ---- PT_REC_CONTROL ---- */
/* Written by user space. A record that comes later may hold events that are older. */
enum pt_control_what {
	PT_CONTROL_PAUSE = 1,     /* no events from hdr.time_ns on .. */
	PT_CONTROL_RESUME = 2,    /* .. until hdr.time_ns */
	PT_CONTROL_CLEAR = 3,     /* what was before hdr.time_ns is forgotten */
	PT_CONTROL_DROP_OPEN = 4, /* calls that are still running at the end are left out */
	PT_CONTROL_SAMPLES = 5,   /* in a pause: samples are taken, or no longer (PT_WHY_SAMPLES) */
};

/* why, of PAUSE, RESUME and SAMPLES; 0: somebody asked for it */
#define PT_WHY_OVERHEAD 0x1 /* to keep within --max-overhead */
#define PT_WHY_NO_C     0x2 /* RESUME: C functions are not recorded until the next pause */
/* There were no probes meanwhile: nothing is known of what threads did, until they tell. */
#define PT_WHY_ABSENT   0x4
#define PT_WHY_CPU      0x8  /* as PT_WHY_OVERHEAD, within --max-cpu */
#define PT_WHY_SAMPLES  0x10 /* SAMPLES: they are taken from now on */

struct pt_rec_control {
	struct pt_rec hdr;
	__u32 what; /* enum pt_control_what */
	__u32 why;  /* PT_WHY_* */
};

/* ---- PT_REC_SCHED ---- */
/*
 * A thread ran from run_ns to out_ns, was blocked until wake_ns, was runnable from then on, and
 * runs again since in_ns, which is the next record's run_ns. The times do not decrease. A time of 0
 * did not come: at the end of a recording (PT_SCHED_OPEN) what began last went on until
 * hdr.time_ns; with PT_SCHED_END the thread's states end at out_ns. Only with --sched.
 */
#define PT_SCHED_END          0x1  /* hdr.flags: no more follow, or not for now (--start-on) */
#define PT_SCHED_OPEN         0x2  /* hdr.flags: written at the end of the recording */
#define PT_SCHED_IO           0x1  /* flags: the kernel waited for a device (in_iowait) */
#define PT_SCHED_NO_CALL      (-1) /* not in a system call: a page fault, a stop by a signal */
#define PT_SCHED_CALL_UNKNOWN (-2)

struct pt_rec_sched {
	struct pt_rec hdr; /* time_ns: when it was written */
	__u64 run_ns, out_ns, wake_ns, in_ns;
	__u32 seq;     /* 0, 1, 2 .. per thread and image; a gap is a loss */
	__u32 cpu;     /* that it ran on */
	__u16 state;   /* in the kernel's bits (TASK_*, below 0x100); 0: it was not blocked */
	__s16 syscall; /* its number; PT_SCHED_NO_CALL, PT_SCHED_CALL_UNKNOWN */
	__u32 flags;   /* PT_SCHED_IO */
};

/* ---- PT_REC_MARK ---- */
#define PT_MARK_ARGS_MAX       PT_RT_ITEMS_MAX
#define PT_MARK_NAME_BYTES     128 /* with the NUL, as the next one */
#define PT_MARK_ARG_NAME_BYTES 32

enum pt_mark_kind {
	PT_MARK_INSTANT = 1,
	PT_MARK_SLICE = 2,   /* from entry to return; nests with the thread's calls */
	PT_MARK_COUNTER = 3, /* a series for each argument */
	/* The innermost BEGIN of a thread and group is ended by the group's next END there. Such
	 * ranges nest with each other, not with calls. */
	PT_MARK_BEGIN = 4,
	PT_MARK_END = 5,
};

enum pt_mark_arg_type {
	PT_MARK_SIGNED = 1,
	PT_MARK_UNSIGNED = 2,
	PT_MARK_POINTER = 3,
	PT_MARK_TEXT = 4,
	PT_MARK_NAME = 5, /* likewise, but it is the event's name */
};

/* Written by user space, before the first event of that id. */
struct pt_rec_mark {
	struct pt_rec hdr; /* of no process */
	__u32 id;          /* never 0 */
	__u32 kind;        /* enum pt_mark_kind */
	__u32 group;
	__u32 arg_count;
	struct {
		__u32 type; /* enum pt_mark_arg_type */
		char name[PT_MARK_ARG_NAME_BYTES];
	} args[PT_MARK_ARGS_MAX];
	char name[PT_MARK_NAME_BYTES];
};

_Static_assert(sizeof(struct pt_rec) == 32, "record header");
_Static_assert(sizeof(struct pt_rec_batch) == 80, "batch header");
_Static_assert(sizeof(struct pt_rec_batch) + 8 * PT_BATCH_WORDS == 4096, "a batch is one page");
_Static_assert(sizeof(struct pt_str) == 4, "string descriptor");
_Static_assert(sizeof(struct pt_rec_code) == 72, "code record");
_Static_assert(__builtin_offsetof(struct pt_rec_code, data) == 72, "no padding before data");
_Static_assert(__builtin_offsetof(struct pt_rec_proc, data) == 80, "no padding before data");
_Static_assert(sizeof(struct pt_rec_proc) == 80, "process record");
_Static_assert(sizeof(struct pt_rec_rank) == 40, "rank record");
_Static_assert(sizeof(struct pt_rec_thread) == 64, "thread record");
_Static_assert(sizeof(struct pt_rec_stack) == 40, "stack record");
_Static_assert(sizeof(struct pt_rec_cfunc) == 64 + 2 * PT_C_NAME_BYTES, "C function record");
_Static_assert(sizeof(struct pt_call_frame) == 24, "frame of a call stack");
_Static_assert(sizeof(struct pt_rec_call_stack) == 48, "call stack record");
_Static_assert(sizeof(struct pt_rec_sample) == 72, "sample record");
_Static_assert(sizeof(struct pt_rec_blocked) == 80, "blocked record");
_Static_assert(sizeof(struct pt_rec_note) == 48, "note record");
_Static_assert(sizeof(struct pt_rt_item) == 16, "runtime item");
_Static_assert(sizeof(struct pt_rec_runtime) == 144, "runtime record");
_Static_assert(sizeof(struct pt_rec_lines) == 56, "lines record");
_Static_assert(sizeof(struct pt_value) == 16, "value");
_Static_assert(sizeof(struct pt_rec_values) == 40 + 16 * PT_VALUES_MAX, "values record");
_Static_assert(sizeof(struct pt_rec_control) == 40, "control record");
_Static_assert(sizeof(struct pt_rec_sched) == 80, "sched record");
_Static_assert(sizeof(struct pt_rec_mark) == 48 + 36 * PT_MARK_ARGS_MAX + PT_MARK_NAME_BYTES,
	       "mark record");

#endif /* PT_ABI_H */

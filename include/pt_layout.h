/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * pt_layout.h - what BPF must know of an interpreter, and of one probe site in it.
 *
 * struct pt_layout is data, never a version branch: BPF gets one per interpreter file in an array
 * map. All offsets are bytes. Where a field does not exist in a version, it is PT_NO_FIELD.
 */
#ifndef PT_LAYOUT_H
#define PT_LAYOUT_H

#define PT_NO_FIELD   0xffff
#define PT_LAYOUT_MAX 64 /* interpreter files traced at once */

/* pt_layout.flags */
#define PT_LF_DELTA                                                                                \
	0x1 /* 3.12+: limit - remaining is the Python depth; the sites need no direction */
#define PT_LF_HAS_OWNER                                                                            \
	0x2 /* frames say who owns them (3.11+); generator creation must be told apart */

/* What frame_owner holds: FRAME_OWNED_BY_.. (Include/internal/pycore_frame.h, 3.11 to 3.15) */
#define PT_OWNED_BY_THREAD    0
#define PT_OWNED_BY_GENERATOR 1

struct pt_layout {
	__u32 version; /* PY_VERSION_HEX, such as 0x030b02f0 */
	__u32 flags;   /* PT_LF_* */

	/* PyThreadState */
	__u16 ts_remaining; /* (py_)recursion_remaining; the limit is the next 4 bytes. 3.11+ */
	__u16 ts_frame;     /* 3.13+: current_frame; 3.11, 3.12: cframe; up to 3.10: frame */
	__u16 cframe_frame; /* 3.11, 3.12: cframe->current_frame; else PT_NO_FIELD */

	/* _PyInterpreterFrame, or PyFrameObject up to 3.10 */
	__u16 frame_code;     /* f_code / f_executable */
	__u16 frame_back;     /* previous / f_back */
	__u16 frame_owner;    /* one byte; PT_NO_FIELD up to 3.10 */
	__u8 frame_code_mask; /* low bits to clear in the code pointer (3.14+: 3; 3.13: 0 or 1) */
	__u8 owner_hidden; /* owner >= this: not a Python frame (C entry trampoline); 0xff never */

	/* PyCodeObject */
	__u16 code_flags;
	__u16 code_firstlineno;
	__u16 code_name;
	__u16 code_qualname; /* 3.11+ */
	__u16 code_filename;

	/* PyUnicodeObject */
	__u16 str_length; /* PyASCIIObject.length, characters */
	__u16 str_state;  /* PyASCIIObject.state, u32: kind in bits 2-4, compact 0x20, ascii 0x40 */
	__u16 str_ascii_data; /* data of a compact ASCII string */
	__u16 str_data;       /* data of another compact string */

	/* Where a frame stands: a pointer into the instructions, which begin at code_adaptive in
	 * the code object; up to 3.10 code_adaptive is PT_NO_FIELD and this an int, f_lasti */
	__u16 frame_instr;
	__u16 code_adaptive;
	__u16 code_linetable; /* bytes object; co_lnotab up to 3.9 */
	__u16 ts_datastack;   /* PyThreadState.datastack_chunk; 3.11+ */
};
_Static_assert(sizeof(struct pt_layout) == 48, "layout");

/* co_flags bits that matter: CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR
 * (Include/cpython/code.h) */
#define PT_CO_GEN_MASK 0x2a0u
/* 3.13+: CO_NO_MONITORING_EVENTS, set on the interpreter's own __init__ shim */
#define PT_CO_SHIM     0x2000000u

/*
 * What a probe does there. Sites of 3.12+ are all PT_SITE_DELTA.
 */
enum pt_site_kind {
	PT_SITE_DELTA = 1,     /* compare depth (limit - remaining) with the thread's last: 3.12+ */
	PT_SITE_ENTER = 2,     /* a frame starts; it is tstate's current frame: 3.11, usdt */
	PT_SITE_EXIT = 3,      /* the running frame is left: up to 3.11, usdt */
	PT_SITE_ENTER_REG = 4, /* a frame starts; pointer to it in frame_reg: up to 3.10 */
	PT_SITE_FREE_CODE = 5, /* code object in rdi is freed: forget its id */
	/* The outcome of the recursion check, on a jcc with a condition: met, a frame starts as at
	 * PT_SITE_ENTER; not met, the frame gives up, and the exit that follows ends no call: 3.11
	 */
	PT_SITE_CHECKED = 6,
	PT_SITE_C_CALL = 7,   /* a callable is called, perhaps a C function */
	PT_SITE_C_RETURN = 8, /* behind such a call */
	PT_SITE_RUNTIME = 12, /* something that is no frame: PT_COOKIE_RT */
	PT_SITE_RAISE = 13,   /* the current exception gets to a Python frame */
	/* a generator's frame (frame register) becomes the current one and does not run: to 3.10 */
	PT_SITE_THROW = 14,
};

/* Where a C function's first argument is found at PT_SITE_C_CALL. */
enum pt_c_self {
	PT_C_SELF_NONE = 0, /* not known: the type that defines the method stands for it */
	PT_C_SELF_RDI = 1,
	PT_C_SELF_ARGV_RSI = 2,  /* the first of an array */
	PT_C_SELF_ARGV_RDX = 3,  /* ARGV and TUPLE: the argument after the callable's */
	PT_C_SELF_TUPLE_RSI = 4, /* the first of a tuple */
	PT_C_SELF_TUPLE_RDX = 5,
	PT_C_SELF_RDX = 6,
	PT_C_SELF_ARGV_REG = 7, /* the first of an array that a register of the cookie points to */
};

/* Functions whose work opcodes do (3.11+), in the order of PyInterpreterState.callable_cache. The
 * probes on such an opcode have this in their cookies. */
enum pt_c_opcode {
	PT_C_OPCODE_NONE = 0,
	PT_C_OPCODE_ISINSTANCE = 1,
	PT_C_OPCODE_LEN = 2,
	PT_C_OPCODE_APPEND = 3,
};

/* What a PT_SITE_RUNTIME reports. Arguments: what PT_COOKIE_RT packs. */
enum pt_rt_site {
	PT_RT_SITE_GC_START = 1, /* USDT gc__start: generation */
	PT_RT_SITE_GC_DONE,      /* USDT gc__done: objects found unreachable */
	PT_RT_SITE_GC_ENTER,     /* the collector's first instruction: thread state */
	PT_RT_SITE_GC_LEAVE,     /* its return */
	PT_RT_SITE_GIL_WAIT,     /* a timed wait for the GIL begins: its condition and mutex */
	PT_RT_SITE_GIL_WAITED,   /* it is over: what pthread_cond_timedwait() returned */
	PT_RT_SITE_AUDIT,        /* an audit event: its name, and a tuple or NULL */
	PT_RT_SITE_AUDIT_PYTHON, /* sys.audit() called by Python: array of arguments, their count */
	PT_RT_SITE_GC_BEGIN,     /* in the collector, a collection begins: generation, stack */
	PT_RT_SITE_GC_RETURN,    /* the collector's return: objects found unreachable, stack */
};

/*
 * What BPF must know of an interpreter to tell of its runtime. All offsets are bytes.
 */
struct pt_rt_layout {
	__u64 gc_stats_vaddr; /* of gc.generation_stats (3.8, in _PyRuntime), or 0 */
	__u32 gc_stats;       /* its offset in PyInterpreterState, or 0 */
	__u16 ts_interp;      /* PyThreadState.interp */
	__u16 frame_locals;   /* the first local variable of a frame; PT_NO_FIELD unknown */
	__u16 locals_mask;    /* low bits to clear in it (3.14+: 3) */
	__u16 ts_exception;   /* current_exception (3.12+), curexc_type; PT_NO_FIELD unknown */
	__u16 exc_args;       /* PyBaseExceptionObject.args */
	__u16 exc_traceback;  /* and .traceback, where there is a current_exception; else 0 */
	__u16 tuple_items;    /* PyTupleObject.ob_item */
	__u16 ts_native_id;   /* PyThreadState.native_thread_id (3.11+); PT_NO_FIELD unknown */
	/* 3.11+: where in a generator, coroutine .. its frame lies; up to 3.10 PyFrameObject.f_gen;
	 * PT_NO_FIELD unknown */
	__u16 gen_frame;
	/* RESUME, INSTRUMENTED_RESUME, RESUME_CHECK, RESUME_CHECK_JIT; 0: none. 3.11+ */
	__u8 resume[4];
	/* of _asyncio's Task: its coroutine; behind that comes its name. What is read there counts
	 * if it is the coroutine that was entered. PT_NO_FIELD unknown */
	__u16 task_coro;
	/* up to 3.10, 1: chains of frames are understood, and tell greenlets apart */
	__u16 chains;
	__u16 reserved;
};
_Static_assert(sizeof(struct pt_rt_layout) == 40, "runtime layout");

/*
 * What BPF must know of an interpreter to read the values of a frame. Offsets are bytes; those of
 * 16 bits are PT_NO_FIELD where the version has no such field.
 */
enum pt_stacktop {
	PT_STACKTOP_POINTER = 1, /* 3.8, 3.9; 3.14+ */
	PT_STACKTOP_DEPTH = 2,   /* 3.10: int, counted from the value stack's bottom */
	PT_STACKTOP_INDEX = 3,   /* 3.11 - 3.13: int, counted from the first local variable */
};

struct pt_value_layout {
	__u16 code_names; /* co_localsplusnames; co_varnames up to 3.10. PT_NO_FIELD: no values */
	__u16 code_argcount, code_kwonly;
	__u16 code_kinds;     /* co_localspluskinds */
	__u16 code_cellvars;  /* up to 3.10, and the next two */
	__u16 code_code;      /* a bytes object */
	__u16 frame_stack;    /* f_valuestack, a pointer */
	__u16 frame_stacktop; /* f_stacktop, f_stackdepth, stacktop, stackpointer */
	__u16 code_consts;    /* where there is an opcode that returns one */
	__u8 stacktop;        /* enum pt_stacktop */
	/* opcodes, the plain one and INSTRUMENTED_; 0: none */
	__u8 op_return[2], op_return_const[2], op_yield[2];
	__u8 op_generator; /* RETURN_GENERATOR */
	__u8 op_resume[4];
	__u8 reserved[2];
};
_Static_assert(sizeof(struct pt_value_layout) == 32, "value layout");

/*
 * A site's description travels in the 64-bit attach cookie (or, before kernel 5.15, in a map keyed
 * by the site's address), packed as follows:
 *
 *   0-3   kind             enum pt_site_kind
 *   4-7   raw_delta + 8    the probe sits on the counter's own instruction, before it runs: add
 *                          this to remaining (-2..+1); 0 at moved positions. Where BPF counts
 *                          (up to 3.11), 1 says that the frame that is left is still the current
 *                          one
 *   8-12  tstate register  0-15 in machine order (rax rcx rdx rbx rsp rbp rsi rdi r8 ..), or
 *                          PT_TS_SLOT: pointer at [rsp + 8 * slot], or PT_TS_ABS: pointer at the
 *                          process's tstate variable (usdt engine, up to 3.10), or PT_TS_NONE
 *   13-20 slot
 *   21-25 frame register   0-15, or PT_REG_NONE: read it through tstate. At a PT_SITE_EXIT the
 *                          frame that is left
 *   26-31 condition        0 always; else PT_COND_VALID | PT_COND_TAKEN | cc (x86 condition code):
 *                          the probe sits on a jcc and counts only if it is (or is not) taken
 *   32-39 layout           index of the struct pt_layout
 *   40-50 site             number within the plan
 *   51-55 counter register 0: none; else 1 + the register (0-15) whose low half is what is left
 *                          on the counter now. An enter whose frame register is known
 *   56-57 direction        of a PT_SITE_DELTA whose instruction tells: PT_DIR_*; 0 unknown. Only
 *                          the first event of a thread that was running before needs it
 *   58    before_pop       of a PT_SITE_DELTA: the frame that is left is still the current one
 *   59-63 code register    0: none; else 1 + the register (0-15) that holds the entered frame's
 *                          code object, as the frame has it (frame_code_mask applies)
 *
 * PT_SITE_C_CALL: the frame register holds the callable, or points into the stack where it is
 * (PT_C_IN_STACK, distance in bits 56-63, in units of 8 bytes, signed). Bits 4-7 hold PT_C_IN_STACK
 * and an enum pt_c_self, bits 51-52 an enum pt_c_opcode (also at PT_SITE_C_RETURN).
 */
#define PT_TS_SLOT    16
#define PT_TS_ABS     17
#define PT_TS_NONE    18
#define PT_REG_NONE   16
#define PT_DIR_ENTER  1
#define PT_DIR_EXIT   2
#define PT_COND_VALID 0x20
#define PT_COND_TAKEN 0x10

#define PT_COOKIE(kind, raw_delta, ts, slot, freg, cond, layout, site)                             \
	((__u64)(kind) | (__u64)((raw_delta) + 8) << 4 | (__u64)(ts) << 8 | (__u64)(slot) << 13 |  \
	 (__u64)(freg) << 21 | (__u64)(cond) << 26 | (__u64)(layout) << 32 | (__u64)(site) << 40)
#define PT_COOKIE_KIND(c)          ((unsigned int)((c)&0xf))
#define PT_COOKIE_RAW_DELTA(c)     ((int)((c) >> 4 & 0xf) - 8)
#define PT_COOKIE_TS(c)            ((unsigned int)((c) >> 8 & 0x1f))
#define PT_COOKIE_SLOT(c)          ((unsigned int)((c) >> 13 & 0xff))
#define PT_COOKIE_FRAME_REG(c)     ((unsigned int)((c) >> 21 & 0x1f))
#define PT_COOKIE_COND(c)          ((unsigned int)((c) >> 26 & 0x3f))
#define PT_COOKIE_LAYOUT(c)        ((unsigned int)((c) >> 32 & 0xff))
#define PT_COOKIE_SITE(c)          ((unsigned int)((c) >> 40 & 0x7ff))
#define PT_COOKIE_DIR(c)           ((unsigned int)((c) >> 56 & 3))
#define PT_COOKIE_WITH_DIR(c, dir) ((c) | (__u64)(dir) << 56)
#define PT_COOKIE_BEFORE_POP       (1ull << 58)
#define PT_COOKIE_LEFT_REG(c)      ((unsigned int)((c) >> 51 & 0x1f))
#define PT_COOKIE_WITH_LEFT(c, r)  ((c) | (__u64)((r) + 1) << 51)
#define PT_SITE_NUMBER_MAX         0x7ff
#define PT_COOKIE_CODE_REG(c)      ((unsigned int)((c) >> 59 & 0x1f))
#define PT_COOKIE_WITH_CODE(c, r)  ((c) | (__u64)((r) + 1) << 59)
/* in the bits of raw_delta */
#define PT_C_IN_STACK              (1ull << 4)
#define PT_C_SELF(self)            ((__u64)(self) << 5)
#define PT_C_SELF_OF(c)            ((unsigned int)((c) >> 5 & 7))
/* instead of a distance */
#define PT_C_ARGV(reg)             ((__u64)(reg) << 56)
#define PT_C_ARGV_OF(c)            ((unsigned int)((c) >> 56 & 0xf))
#define PT_C_ARGV_SELF             (1ull << 60) /* the register holds the argument itself */
#define PT_C_OPCODES               3            /* the last enum pt_c_opcode */
#define PT_C_OPCODE(opcode)        ((__u64)(opcode) << 51)
#define PT_C_OPCODE_OF(c)          ((unsigned int)((c) >> 51 & 3))
#define PT_C_DISP(bytes)           ((__u64)(__u8)(__s8)((bytes) / 8) << 56)
#define PT_C_DISP_OF(c)            (8 * (int)(__s8)((c) >> 56))
#define PT_C_DISP_FITS(bytes)      (!((bytes)&7) && (bytes) >= -1024 && (bytes) < 1024)

/*
 * The cookie of a PT_SITE_RUNTIME. Kind, condition (0), layout and site as above, and:
 *
 *   8-12  the first argument's register, or PT_REG_NONE
 *   13-20 PT_RT_MEMORY: the argument is a 32-bit integer at [register + 4 * this], signed;
 *         else 8 times this is taken from the second argument
 *   21-25 the second argument's register, or PT_REG_NONE
 *   56-61 enum pt_rt_site
 *   62    PT_RT_MEMORY
 */
#define PT_RT_MEMORY    (1ull << 62)
#define PT_RT_DEPTH_MAX 255 /* what bits 13-20 can take */
#define PT_COOKIE_RT(what, reg, slot, reg2, site)                                                  \
	((__u64)PT_SITE_RUNTIME | (__u64)8 << 4 | (__u64)(reg) << 8 | (__u64)((slot)&0xff) << 13 | \
	 (__u64)(reg2) << 21 | (__u64)(site) << 40 | (__u64)(what) << 56)
#define PT_COOKIE_RT_WHAT(c) ((unsigned int)((c) >> 56 & 0x3f))
#define PT_COOKIE_RT_DISP(c) (4 * (int)(__s8)((c) >> 13 & 0xff))

#endif /* PT_LAYOUT_H */

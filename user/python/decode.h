/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * decode.h - machine code of the interpreter's evaluation loop, reduced to what the finders ask.
 *
 * Capstone decodes; its result is packed into struct mc_insn, of which a whole region (some
 * 20 000) is kept. Life cycle: mc_decoder_open() -> mc_decode() .. -> mc_decoder_close().
 */
#ifndef PT_PYTHON_DECODE_H
#define PT_PYTHON_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "python/image.h"

/* General registers in machine order; what has no number here is MC_NO_REG. */
enum mc_reg {
	MC_RAX,
	MC_RCX,
	MC_RDX,
	MC_RBX,
	MC_RSP,
	MC_RBP,
	MC_RSI,
	MC_RDI,
	MC_R8,
	MC_R15 = 15,
	MC_RIP,
	MC_NO_REG,
};

enum mc_flow {
	MC_FLOW_NEXT,          /* goes on with the next instruction */
	MC_FLOW_JCC,           /* target or next */
	MC_FLOW_JMP,           /* target */
	MC_FLOW_CALL,          /* target, then next */
	MC_FLOW_JMP_INDIRECT,  /* anywhere */
	MC_FLOW_CALL_INDIRECT, /* anywhere, then next */
	MC_FLOW_RET,
	MC_FLOW_STOP, /* ud2, hlt, int3 */
};

/* Condition codes: Intel SDM volume 1, appendix B. */
enum mc_cc {
	MC_CC_E = 4,
	MC_CC_NE = 5,
	MC_CC_S = 8,
	MC_CC_NS = 9,
	MC_CC_L = 12,
	MC_CC_GE = 13,
	MC_CC_LE = 14,
	MC_CC_G = 15,
};

enum mc_op {
	MC_OP_OTHER,
	MC_OP_MOV, /* between general registers, memory and immediates; no extension */
	MC_OP_MOVSXD,
	MC_OP_LEA,
	MC_OP_ADD,
	MC_OP_SUB,
	MC_OP_INC,
	MC_OP_DEC,
	MC_OP_CMP,
	MC_OP_TEST,
	MC_OP_AND,
	MC_OP_OR,
	MC_OP_SETCC, /* cc says which */
	MC_OP_XCHG,
	MC_OP_ENDBR,
};

struct mc_insn {
	uint64_t vaddr;
	uint64_t target; /* JCC, JMP, CALL: where to */
	int64_t disp;    /* of the memory operand */
	int64_t imm;
	uint16_t writes;   /* set of 1 << general register that it changes, wholly or partly */
	uint8_t length;    /* bytes */
	uint8_t flow;      /* enum mc_flow */
	uint8_t op;        /* enum mc_op */
	uint8_t cc;        /* JCC, SETCC: enum mc_cc, 0-15 */
	uint8_t class;     /* enum py_insn_class */
	uint8_t mem;       /* 0 no memory operand, 1 it is operand 0, 2 it is operand 1 */
	uint8_t mem_bytes; /* size of the access */
	uint8_t base, index, scale; /* of the memory operand: enum mc_reg; 1, 2, 4 or 8 */
	uint8_t reg[2];             /* operands 0 and 1 where they are general registers */
	uint8_t reg_bytes;          /* width of the first of those */
	bool has_imm;
	int8_t stack_bytes; /* push -8, pop +8, else 0 */
	bool refused;       /* the kernel puts no uprobe here: segment override or lock prefix */
};

struct mc_decoder;

/* -ENOMEM */
int mc_decoder_open(struct mc_decoder **decoder);
void mc_decoder_close(struct mc_decoder *decoder);
/* Decodes the instruction at the start of bytes. -EILSEQ: none. */
int mc_decode(struct mc_decoder *decoder, const uint8_t *bytes, size_t size, uint64_t vaddr,
	      struct mc_insn *insn);

/* The class of an instruction of that many bytes, as the kernel's uprobes see it. */
enum py_insn_class mc_class(const uint8_t *bytes, size_t length);

#endif

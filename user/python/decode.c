// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/decode.h"

#include <capstone/capstone.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mc_decoder {
	csh handle;
	cs_insn *insn;
};

/* Registers that a called function may change (System V x86-64 psABI, 3.2.1). */
#define CALL_CLOBBERS                                                                              \
	(1u << MC_RAX | 1u << MC_RCX | 1u << MC_RDX | 1u << MC_RSI | 1u << MC_RDI | 0xfu << MC_R8)

int mc_decoder_open(struct mc_decoder **result)
{
	struct mc_decoder *decoder = calloc(1, sizeof(*decoder));

	*result = NULL;
	if (!decoder)
		return -ENOMEM;
	if (cs_open(CS_ARCH_X86, CS_MODE_64, &decoder->handle) != CS_ERR_OK) {
		free(decoder);
		return -ENOMEM;
	}
	cs_option(decoder->handle, CS_OPT_DETAIL, CS_OPT_ON);
	decoder->insn = cs_malloc(decoder->handle);
	if (!decoder->insn) {
		mc_decoder_close(decoder);
		return -ENOMEM;
	}
	*result = decoder;
	return 0;
}

void mc_decoder_close(struct mc_decoder *decoder)
{
	if (!decoder)
		return;
	if (decoder->insn)
		cs_free(decoder->insn, 1);
	cs_close(&decoder->handle);
	free(decoder);
}

#define REG_CASE(number, r64, r32, r16, r8)                                                        \
	case X86_REG_##r64:                                                                        \
	case X86_REG_##r32:                                                                        \
	case X86_REG_##r16:                                                                        \
	case X86_REG_##r8:                                                                         \
		return number;

static uint8_t reg_number(unsigned int reg)
{
	switch (reg) {
		REG_CASE(0, RAX, EAX, AX, AL)
		REG_CASE(1, RCX, ECX, CX, CL)
		REG_CASE(2, RDX, EDX, DX, DL)
		REG_CASE(3, RBX, EBX, BX, BL)
		REG_CASE(4, RSP, ESP, SP, SPL)
		REG_CASE(5, RBP, EBP, BP, BPL)
		REG_CASE(6, RSI, ESI, SI, SIL)
		REG_CASE(7, RDI, EDI, DI, DIL)
		REG_CASE(8, R8, R8D, R8W, R8B)
		REG_CASE(9, R9, R9D, R9W, R9B)
		REG_CASE(10, R10, R10D, R10W, R10B)
		REG_CASE(11, R11, R11D, R11W, R11B)
		REG_CASE(12, R12, R12D, R12W, R12B)
		REG_CASE(13, R13, R13D, R13W, R13B)
		REG_CASE(14, R14, R14D, R14W, R14B)
		REG_CASE(15, R15, R15D, R15W, R15B)
	case X86_REG_AH:
		return 0;
	case X86_REG_CH:
		return 1;
	case X86_REG_DH:
		return 2;
	case X86_REG_BH:
		return 3;
	case X86_REG_RIP:
		return MC_RIP;
	default:
		return MC_NO_REG;
	}
}

/* The prefixes that is_prefix_bad() of arch/x86/kernel/uprobes.c rejects. */
static bool prefix_refused(uint8_t byte)
{
	return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0xf0;
}

static bool is_refused(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (prefix_refused(bytes[i]))
			return true;
		if (bytes[i] != 0x64 && bytes[i] != 0x65 && bytes[i] != 0x66 && bytes[i] != 0x67 &&
		    bytes[i] != 0xf2 && bytes[i] != 0xf3)
			break;
	}
	return false;
}

/* Follows branch_setup_xol_ops() and push_setup_xol_ops() of arch/x86/kernel/uprobes.c, kernels
 * 5.10 to 6.18; encodings with prefixes that no compiler emits count as single-stepped. */
enum py_insn_class mc_class(const uint8_t *bytes, size_t length)
{
	const uint8_t *op = bytes;
	size_t rest = length;

	if (!length)
		return PY_INSN_OTHER;
	if (length == 2 && (bytes[0] & 0xf0) == 0x70)
		return PY_INSN_JCC;
	if (length == 6 && bytes[0] == 0x0f && (bytes[1] & 0xf0) == 0x80)
		return PY_INSN_JCC;
	if ((length == 2 && bytes[0] == 0xeb) || (length == 5 && bytes[0] == 0xe9))
		return PY_INSN_JMP;
	if (length == 5 && bytes[0] == 0xe8)
		return PY_INSN_CALL;
	if ((length == 1 || (length == 2 && bytes[0] == 0x41)) &&
	    (bytes[length - 1] & 0xf8) == 0x50)
		return PY_INSN_PUSH;
	if (length == 1 && bytes[0] == 0x90)
		return PY_INSN_NOP1;
	while (rest > 1 && *op == 0x66) {
		op++;
		rest--;
	}
	if ((rest == 1 && op[0] == 0x90) || (rest >= 3 && op[0] == 0x0f && op[1] == 0x1f))
		return length == 5 ? PY_INSN_NOP5 : PY_INSN_NOP_LONG;
	return PY_INSN_OTHER;
}

static uint8_t flow_of(const cs_insn *raw)
{
	const cs_x86 *x86 = &raw->detail->x86;
	bool direct = x86->op_count == 1 && x86->operands[0].type == X86_OP_IMM;

	switch (raw->id) {
	case X86_INS_JMP:
		return direct ? MC_FLOW_JMP : MC_FLOW_JMP_INDIRECT;
	case X86_INS_CALL:
		return direct ? MC_FLOW_CALL : MC_FLOW_CALL_INDIRECT;
	case X86_INS_LJMP:
		return MC_FLOW_JMP_INDIRECT;
	case X86_INS_LCALL:
		return MC_FLOW_CALL_INDIRECT;
	case X86_INS_RET:
	case X86_INS_RETF:
	case X86_INS_RETFQ:
		return MC_FLOW_RET;
	case X86_INS_UD0:
	case X86_INS_UD2:
	case X86_INS_HLT:
	case X86_INS_INT3:
		return MC_FLOW_STOP;
	default:
		for (uint8_t i = 0; i < raw->detail->groups_count; i++)
			if (raw->detail->groups[i] == CS_GRP_JUMP)
				return MC_FLOW_JCC;
		return MC_FLOW_NEXT;
	}
}

static uint8_t op_of(unsigned int id)
{
	switch (id) {
	case X86_INS_MOV:
		return MC_OP_MOV;
	case X86_INS_MOVSXD:
		return MC_OP_MOVSXD;
	case X86_INS_LEA:
		return MC_OP_LEA;
	case X86_INS_ADD:
		return MC_OP_ADD;
	case X86_INS_SUB:
		return MC_OP_SUB;
	case X86_INS_INC:
		return MC_OP_INC;
	case X86_INS_DEC:
		return MC_OP_DEC;
	case X86_INS_CMP:
		return MC_OP_CMP;
	case X86_INS_TEST:
		return MC_OP_TEST;
	case X86_INS_AND:
		return MC_OP_AND;
	case X86_INS_OR:
		return MC_OP_OR;
	case X86_INS_XCHG:
		return MC_OP_XCHG;
	case X86_INS_ENDBR64:
		return MC_OP_ENDBR;
	default:
		return MC_OP_OTHER;
	}
}

static void operand_pack(struct mc_insn *insn, const cs_x86_op *op, unsigned int index)
{
	switch (op->type) {
	case X86_OP_REG:
		if (index < 2) {
			insn->reg[index] = reg_number(op->reg);
			if (!insn->reg_bytes)
				insn->reg_bytes = op->size;
		}
		break;
	case X86_OP_MEM:
		/* fs: and gs: are other address spaces: no base that anybody may match. */
		insn->mem = (uint8_t)(index + 1);
		insn->mem_bytes = op->size;
		insn->base = op->mem.segment == X86_REG_FS || op->mem.segment == X86_REG_GS
				 ? MC_NO_REG
				 : reg_number(op->mem.base);
		insn->index = reg_number(op->mem.index);
		insn->scale = (uint8_t)op->mem.scale;
		insn->disp = op->mem.disp;
		break;
	case X86_OP_IMM:
		insn->imm = op->imm;
		insn->has_imm = true;
		break;
	case X86_OP_INVALID:
	default:
		break;
	}
}

static uint16_t writes_of(struct mc_decoder *decoder, const struct mc_insn *insn)
{
	cs_regs read, written;
	uint8_t read_count = 0, write_count = 0;
	uint16_t set = 0;

	if (cs_regs_access(decoder->handle, decoder->insn, read, &read_count, written,
			   &write_count))
		return 0xffff;
	for (uint8_t i = 0; i < write_count; i++) {
		uint8_t number = reg_number(written[i]);

		if (number < MC_RIP)
			set |= (uint16_t)(1u << number);
	}
	/* Do not rely on access tables where the operand alone tells. */
	if (insn->reg[0] < MC_RIP && insn->op != MC_OP_CMP && insn->op != MC_OP_TEST &&
	    decoder->insn->id != X86_INS_PUSH)
		set |= (uint16_t)(1u << insn->reg[0]);
	if (insn->reg[1] < MC_RIP &&
	    (decoder->insn->id == X86_INS_XCHG || decoder->insn->id == X86_INS_XADD))
		set |= (uint16_t)(1u << insn->reg[1]);
	if (insn->flow == MC_FLOW_CALL || insn->flow == MC_FLOW_CALL_INDIRECT)
		set = CALL_CLOBBERS; /* and rsp comes back as it was */
	return set;
}

int mc_decode(struct mc_decoder *decoder, const uint8_t *bytes, size_t size, uint64_t vaddr,
	      struct mc_insn *insn)
{
	const uint8_t *at = bytes;
	uint64_t address = vaddr;
	const cs_insn *raw = decoder->insn;
	const cs_x86 *x86;

	memset(insn, 0, sizeof(*insn));
	if (!cs_disasm_iter(decoder->handle, &at, &size, &address, decoder->insn))
		return -EILSEQ;
	x86 = &raw->detail->x86;
	insn->vaddr = vaddr;
	insn->length = (uint8_t)raw->size;
	insn->base = insn->index = insn->reg[0] = insn->reg[1] = MC_NO_REG;
	insn->flow = flow_of(raw);
	insn->op = op_of(raw->id);
	insn->class = (uint8_t)mc_class(bytes, insn->length);
	insn->refused = is_refused(bytes, insn->length);
	for (unsigned int i = 0; i < x86->op_count; i++)
		operand_pack(insn, &x86->operands[i], i);
	if (insn->flow == MC_FLOW_JCC || insn->flow == MC_FLOW_JMP || insn->flow == MC_FLOW_CALL) {
		insn->target = (uint64_t)insn->imm;
		insn->has_imm = false;
	}
	if (insn->class == PY_INSN_JCC)
		insn->cc = bytes[insn->length - (insn->length == 2 ? 2 : 5)] & 0xf;
	/* of those with two bytes of opcode, 0f 90 to 0f 9f */
	if (x86->opcode[0] == 0x0f && (x86->opcode[1] & 0xf0) == 0x90) {
		insn->op = MC_OP_SETCC;
		insn->cc = x86->opcode[1] & 0xf;
	}
	insn->writes = writes_of(decoder, insn);
	if (raw->id == X86_INS_PUSH)
		insn->stack_bytes = -8;
	else if (raw->id == X86_INS_POP)
		insn->stack_bytes = 8;
	return 0;
}

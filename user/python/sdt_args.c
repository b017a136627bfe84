// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/sdt_args.h"

#include <stdlib.h>
#include <string.h>

/* In machine order; widths of 8, 4, 2 and 1 bytes. */
static const char *const registers[16][4] = {
    {"rax", "eax", "ax", "al"},      {"rcx", "ecx", "cx", "cl"},
    {"rdx", "edx", "dx", "dl"},      {"rbx", "ebx", "bx", "bl"},
    {"rsp", "esp", "sp", "spl"},     {"rbp", "ebp", "bp", "bpl"},
    {"rsi", "esi", "si", "sil"},     {"rdi", "edi", "di", "dil"},
    {"r8", "r8d", "r8w", "r8b"},     {"r9", "r9d", "r9w", "r9b"},
    {"r10", "r10d", "r10w", "r10b"}, {"r11", "r11d", "r11w", "r11b"},
    {"r12", "r12d", "r12w", "r12b"}, {"r13", "r13d", "r13w", "r13b"},
    {"r14", "r14d", "r14w", "r14b"}, {"r15", "r15d", "r15w", "r15b"},
};

/* "%rbx" at text, which ends in one of ends; returns what stands behind it, or NULL. */
static const char *parse_register(const char *text, const char *ends, unsigned int *reg)
{
	size_t len;

	if (*text++ != '%')
		return NULL;
	len = strcspn(text, ends);
	for (unsigned int i = 0; i < 16; i++)
		for (unsigned int k = 0; k < 4; k++)
			if (strlen(registers[i][k]) == len && !memcmp(registers[i][k], text, len)) {
				*reg = i;
				return text + len;
			}
	return NULL;
}

bool sdt_arg_parse(const char *args, unsigned int number, struct sdt_arg *arg)
{
	const char *text = args;
	char *end;

	memset(arg, 0, sizeof(*arg));
	for (; number; number--) {
		text = strchr(text, ' ');
		if (!text)
			return false;
		text++;
	}
	arg->bytes = (int)strtol(text, &end, 10);
	if (end == text || *end != '@')
		return false;
	text = end + 1;
	if (*text == '$') {
		arg->constant = true;
		arg->disp = (int)strtol(text + 1, &end, 0);
		return end != text + 1 && (!*end || *end == ' ');
	}
	if (*text == '%') {
		text = parse_register(text, " ", &arg->reg);
		return text && (!*text || *text == ' ');
	}
	arg->memory = true;
	arg->disp = (int)strtol(text, &end, 10);
	if (*end != '(')
		return false;
	text = parse_register(end + 1, ")", &arg->reg);
	return text && *text == ')' && (!text[1] || text[1] == ' ');
}

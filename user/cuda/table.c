// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Where arguments lie (System V ABI for x86-64, 3.2.3): integers and pointers take the six argument
 * registers in turn, then words of the stack. A struct of up to 16 bytes takes two registers or, if
 * so many are not left, two words of the stack, and what follows may still take the register; a
 * larger one lies on the stack.
 */
#include "cuda/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIM3_BYTES 12

/* What is taken of the structs that arguments point to. */
static const struct block {
	char code;
	uint8_t offset, words;
} blocks[] = {
    {'C', 0, 5},   /* cudaLaunchConfig_t: up to the stream */
    {'D', 0, 5},   /* CUlaunchConfig: likewise */
    {'M', 128, 4}, /* cudaMemcpy3DParms: extent, kind */
    {'F', 0, 3},   /* cudaChannelFormatDesc: the bits of x, y, z and w, kind */
    {'A', 0, 3},   /* CUDA_ARRAY_DESCRIPTOR: width, height, format, channels */
    {'B', 0, 5},   /* CUDA_ARRAY3D_DESCRIPTOR: width, height, depth, format, channels, flags */
    {'L', 0, 2},   /* CUmemAllocationProp: type, handle types, location's type and id */
};

/* An argument's code, taken apart. */
struct code {
	char kind;
	bool out;
	unsigned int number; /* of e and s */
};

struct places {
	unsigned int regs, stack;
	bool in_stack[PT_CUDA_ARGS_MAX];
};

/* Takes NAME:CODE; *at moves behind it. */
static int parse_one(const char **at, struct pt_cuda_arg *arg, struct code *code)
{
	const char *text = *at, *colon = strchr(text, ':');
	char *end;
	size_t len;

	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(arg->name))
		return -EBADMSG;
	len = (size_t)(colon - text);
	memcpy(arg->name, text, len);
	arg->name[len] = '\0';
	text = colon + 1;
	code->out = *text == 'o';
	text += code->out;
	if (!*text || !strchr("pkbcnluiefds" PT_CUDA_BLOCK_CODES, *text))
		return -EBADMSG;
	code->kind = *text++;
	code->number = (unsigned int)strtoul(text, &end, 10);
	if (*end && *end != ' ')
		return -EBADMSG;
	*at = *end ? end + 1 : end;
	return 0;
}

/* Words that the argument takes; 0: none, it is a floating-point number. */
static unsigned int words_of(const struct code *code)
{
	if (code->out)
		return 1;
	if (code->kind == 'f')
		return 0;
	if (code->kind == 'd')
		return (DIM3_BYTES + 7) / 8;
	if (code->kind == 's')
		return (code->number + 7) / 8;
	return 1;
}

static void set_block(struct pt_cuda_layout *layout, const struct pt_cuda_arg *arg, char kind)
{
	const struct block *block = blocks;

	while (block->code != kind)
		block++;
	layout->block_slot = (unsigned int)arg->word;
	layout->block_offset = block->offset;
	layout->block_words = block->words;
}

static bool is_wide(char kind)
{
	return strchr("pkbnl", kind) != NULL;
}

static void set_out(struct pt_cuda_layout *layout, struct pt_cuda_arg *arg)
{
	unsigned int n = layout->out_count;

	if (n == PT_CUDA_OUT_MAX) {
		arg->word = -1;
		return;
	}
	layout->out_slot[n] = (unsigned int)arg->word;
	layout->out_wide[n] = is_wide(arg->code);
	arg->word = (int)n;
	layout->out_count++;
}

static unsigned int smaller(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

/* Gives the argument its place; word counts within the registers or within the stack. */
static void place(struct places *places, struct pt_cuda_layout *layout, unsigned int i,
		  const struct code *code)
{
	struct pt_cuda_arg *arg = &layout->args[i];
	unsigned int words = words_of(code);

	arg->word = -1;
	if (!words)
		return;
	if (words <= 2 && places->regs + words <= PT_CUDA_REGS_MAX) {
		arg->word = (int)places->regs;
		places->regs += words;
		return;
	}
	places->in_stack[i] = true;
	if (places->stack + words <= PT_CUDA_STACK_MAX ||
	    (code->kind == 's' && !code->out && places->stack < PT_CUDA_STACK_MAX))
		arg->word = (int)places->stack;
	if (code->kind == 's' && arg->word >= 0)
		arg->words = (uint8_t)smaller(words, PT_CUDA_STACK_MAX - places->stack);
	places->stack += words;
}

static void take(struct places *places, struct pt_cuda_layout *layout, unsigned int i,
		 const struct code *code)
{
	struct pt_cuda_arg *arg = &layout->args[i];
	bool in_reg = arg->word >= 0 && !places->in_stack[i];

	if (code->out && in_reg)
		set_out(layout, arg);
	else if (code->out || (code->kind == 's' && in_reg))
		arg->word = -1;
	else if (strchr(PT_CUDA_BLOCK_CODES, code->kind) && in_reg && !layout->block_words)
		set_block(layout, arg, code->kind);
	else if (strchr(PT_CUDA_BLOCK_CODES, code->kind))
		arg->word = -1;
	else if (arg->word >= 0 && places->in_stack[i])
		arg->word += (int)places->regs;
}

int pt_cuda_layout(const struct pt_cuda_row *row, struct pt_cuda_layout *layout)
{
	struct code codes[PT_CUDA_ARGS_MAX];
	struct places places = {0};
	const char *at = row->arguments;
	unsigned int n = 0;
	int rc;

	memset(layout, 0, sizeof(*layout));
	for (n = 0; *at; n++) {
		if (n == PT_CUDA_ARGS_MAX)
			return -EBADMSG;
		rc = parse_one(&at, &layout->args[n], &codes[n]);
		if (rc)
			return rc;
		layout->args[n].code = codes[n].kind;
		layout->args[n].out = codes[n].out;
		layout->args[n].enum_type = (uint16_t)codes[n].number;
		place(&places, layout, n, &codes[n]);
	}
	layout->arg_count = n;
	layout->regs = places.regs;
	layout->stack = places.stack < PT_CUDA_STACK_MAX ? places.stack : PT_CUDA_STACK_MAX;
	for (unsigned int i = 0; i < n; i++)
		take(&places, layout, i, &codes[i]);
	return 0;
}

unsigned int pt_cuda_in_words(const struct pt_cuda_layout *layout)
{
	return layout->regs + layout->stack + layout->block_words;
}

/* ---- arguments by name ---- */

static uint64_t narrowed(uint64_t value, char code)
{
	return strchr("cuie", code) ? (uint32_t)value : value;
}

const struct pt_cuda_arg *pt_cuda_arg_find(const struct pt_cuda_layout *layout, const char *name)
{
	for (unsigned int i = 0; name && i < layout->arg_count; i++)
		if (!strcmp(layout->args[i].name, name))
			return &layout->args[i];
	return NULL;
}

bool pt_cuda_argument(const struct pt_cuda_layout *layout, const char *name, const uint64_t *in,
		      const uint64_t *out, uint64_t *value)
{
	const struct pt_cuda_arg *arg = pt_cuda_arg_find(layout, name);
	const uint64_t *from = arg && arg->out ? out : in;

	if (!arg || arg->word < 0 || !from)
		return false;
	*value = narrowed(from[arg->word], arg->code);
	return true;
}

/* ---- rows ---- */

static void cut_suffix(char *name, const char *suffix)
{
	size_t len = strlen(name), suffix_len = strlen(suffix);

	if (len > suffix_len && !strcmp(name + len - suffix_len, suffix))
		name[len - suffix_len] = '\0';
}

void pt_cuda_base_name(const char *symbol, char name[PT_CUDA_SYMBOL_BYTES])
{
	char *version;

	snprintf(name, PT_CUDA_SYMBOL_BYTES, "%s", symbol);
	cut_suffix(name, "_ptsz");
	cut_suffix(name, "_ptds");
	version = strstr(name, "_v");
	if (version && version[2] >= '0' && version[2] <= '9' && !version[3])
		*version = '\0';
}

static int compare_symbol(const void *key, const void *row)
{
	return strcmp(key, ((const struct pt_cuda_row *)row)->symbol);
}

const struct pt_cuda_row *pt_cuda_row_find(const char *symbol, unsigned int major)
{
	const struct pt_cuda_row *row = bsearch(symbol, pt_cuda_rows, pt_cuda_row_count,
						sizeof(*row), compare_symbol);

	const struct pt_cuda_row *any = NULL;

	if (!row)
		return NULL;
	if (major > PT_CUDA_ROW_MAJOR_MAX)
		major = PT_CUDA_ROW_MAJOR_MAX;
	while (row > pt_cuda_rows && !strcmp(row[-1].symbol, symbol))
		row--;
	for (; row < pt_cuda_rows + pt_cuda_row_count && !strcmp(row->symbol, symbol); row++) {
		if (row->major >= major && row->major)
			return row;
		any = row->major ? any : row;
	}
	return any;
}

const struct pt_cuda_row *pt_cuda_lib_row_find(const char *symbol)
{
	return bsearch(symbol, pt_cuda_lib_rows, pt_cuda_lib_row_count, sizeof(pt_cuda_lib_rows[0]),
		       compare_symbol);
}

uint32_t pt_cuda_row_id(const struct pt_cuda_row *row, bool bare)
{
	/* those that a process calls are all of one version, so bare makes no difference */
	if (row->api == PT_CUDA_CUBLAS || row->api == PT_CUDA_CUDNN)
		return (uint32_t)(2 * pt_cuda_row_count + (size_t)(row - pt_cuda_lib_rows));
	return 2 * (uint32_t)(row - pt_cuda_rows) + bare;
}

bool pt_cuda_is_outer(unsigned int api)
{
	return api == PT_CUDA_NCCL || api == PT_CUDA_CUBLAS || api == PT_CUDA_CUDNN;
}

const struct pt_cuda_name *pt_cuda_enum(unsigned int n)
{
	return n < PT_CUDA_LIB_ENUMS ? pt_cuda_enums[n] : pt_cuda_lib_enums[n - PT_CUDA_LIB_ENUMS];
}

static bool begins_with_one(const char *text, const char *const *starts)
{
	for (; *starts; starts++)
		if (!strncmp(text, *starts, strlen(*starts)))
			return true;
	return false;
}

enum pt_cuda_group pt_cuda_group(const char *symbol)
{
	static const char *const launch[] = {"Launch", "GraphLaunch", NULL};
	static const char *const copies[] = {"Memcpy", "Memset", NULL};
	static const char *const memory[] = {"Malloc",
					     "Free",
					     "HostAlloc",
					     "MemAlloc",
					     "MemFree",
					     "MemHostAlloc",
					     "MemCreate",
					     "MemRelease",
					     "Array3DCreate",
					     "ArrayCreate",
					     "ArrayDestroy",
					     "MipmappedArrayCreate",
					     "MipmappedArrayDestroy",
					     NULL};
	/* the driver writes cuMemcpy.., cuMemAlloc.. */
	const char *name = symbol + (strncmp(symbol, "cuda", 4) ? 2 : 4);

	if (strstr(name, "Synchronize"))
		return PT_CUDA_GROUP_SYNC;
	if (begins_with_one(name, launch))
		return PT_CUDA_GROUP_LAUNCH;
	if (begins_with_one(name, copies))
		return PT_CUDA_GROUP_MEMCPY;
	return begins_with_one(name, memory) ? PT_CUDA_GROUP_MALLOC : PT_CUDA_GROUP_OTHER;
}

const char *pt_cuda_name_of(const struct pt_cuda_name *names, int64_t value)
{
	for (; names && names->name; names++)
		if (names->value == value)
			return names->name;
	return NULL;
}

static const struct {
	const char *category, *result;
	const struct pt_cuda_name *const *errors;
} apis[] = {
    [PT_CUDA_RUNTIME] = {"cuda_runtime", "cudaError_t", &pt_cuda_runtime_errors},
    [PT_CUDA_DRIVER] = {"cuda_driver", "CUresult", &pt_cuda_driver_errors},
    [PT_CUDA_NCCL] = {"nccl", "ncclResult_t", &pt_cuda_nccl_errors},
    [PT_CUDA_CUBLAS] = {"cublas", "cublasStatus_t", &pt_cuda_cublas_errors},
    [PT_CUDA_CUDNN] = {"cudnn", "cudnnStatus_t", &pt_cuda_cudnn_errors},
};

static bool is_known(unsigned int api)
{
	return api < sizeof(apis) / sizeof(apis[0]) && apis[api].category;
}

const char *pt_cuda_category(unsigned int api)
{
	return is_known(api) ? apis[api].category : "";
}

const char *pt_cuda_result_type(unsigned int api)
{
	return is_known(api) ? apis[api].result : "";
}

const char *pt_cuda_error_name(unsigned int api, int code)
{
	return is_known(api) ? pt_cuda_name_of(*apis[api].errors, code) : NULL;
}

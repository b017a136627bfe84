/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * table.h - what the functions of libcudart, libcuda and libnccl are called and what they are
 * given; and those of cuBLAS and cuDNN.
 *
 * table_data.c, and table_libs.c for cuBLAS and cuDNN, have one row a function, made by
 * scripts/gen-cuda-table.py from the headers of toolkits. The same symbol took other arguments in
 * CUDA 11, 12 and 13, so a row may hold for some of them only.
 *
 * A row's arguments are NAME:CODE, separated by spaces, in order:
 *
 *   p  pointer or handle          k  kernel: function, handle or host stub
 *   b  bytes, 64 bits             c  bytes, 32 bits
 *   n  number, 64 bits            l  the same, signed
 *   u  number, 32 bits            i  the same, signed
 *   eN value of an enum           f  floating point: not in a general register, not shown
 *   d  dim3, by value             sN other struct of N bytes, by value: not shown, and taken
 *                                    only if it lies on the stack, its first words at least
 *   oX pointer to what the call gives back, which is an X
 *   C  pointer to a cudaLaunchConfig_t     D  to a CUlaunchConfig
 *   M  pointer to a cudaMemcpy3DParms
 *   F  pointer to a cudaChannelFormatDesc  A, B  to a CUDA_ARRAY_DESCRIPTOR,
 * CUDA_ARRAY3D_DESCRIPTOR L  pointer to a CUmemAllocationProp
 *
 * pt_cuda_layout() says where each lies at the call, by the rules of the x86-64 ABI. Stateless.
 */
#ifndef PT_CUDA_TABLE_H
#define PT_CUDA_TABLE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pt_abi.h"

struct pt_cuda_name {
	int64_t value;
	const char *name; /* NULL: behind the last */
};

#define PT_CUDA_ROW_MAJOR_MAX 13

struct pt_cuda_row {
	uint8_t api;   /* enum pt_cuda_api */
	uint8_t major; /* 11: up to 11; 12: up to 12; 13: from 13 on; 0: any without one of these */
	uint16_t cbid; /* what CUPTI numbers it as; 0 unknown */
	const char *symbol;
	const char *category; /* memory, stream, execution ..; "" none */
	const char *arguments;
};

extern const struct pt_cuda_row pt_cuda_rows[];
extern const size_t pt_cuda_row_count;
extern const struct pt_cuda_row pt_cuda_lib_rows[]; /* of cuBLAS and cuDNN */
extern const size_t pt_cuda_lib_row_count;
extern const struct pt_cuda_name *const pt_cuda_enums[]; /* by the N of a code; NULL at the end */
extern const struct pt_cuda_name *const pt_cuda_lib_enums[]; /* from PT_CUDA_LIB_ENUMS on */
extern const struct pt_cuda_name *const pt_cuda_runtime_errors, *const pt_cuda_driver_errors;
extern const struct pt_cuda_name *const pt_cuda_nccl_errors, *const pt_cuda_nccl_types;
extern const struct pt_cuda_name *const pt_cuda_memcpy_kinds; /* cudaMemcpyKind */
extern const struct pt_cuda_name *const pt_cuda_cublas_errors, *const pt_cuda_cudnn_errors;

#define PT_CUDA_LIB_ENUMS 1000
#define PT_CUDA_ARGS_MAX  40 /* cudnnBatchNormalizationBackwardEx has 33 */

struct pt_cuda_arg {
	char name[40];
	char code;          /* one of the above; of an o: what it points to */
	bool out;           /* what it points to, at the return */
	uint16_t enum_type; /* of an e */
	uint8_t words;      /* that are taken of an s: all, or its first */
	int word;           /* of the words at the call, or of those at the return; -1: not taken */
};

/* The codes of what is read of a struct that an argument points to: at most one of a function. */
#define PT_CUDA_BLOCK_CODES "CDMFABL"

struct pt_cuda_layout {
	struct pt_cuda_arg args[PT_CUDA_ARGS_MAX];
	unsigned int arg_count;
	unsigned int regs, stack;                           /* words to take of each */
	unsigned int block_slot, block_offset, block_words; /* words 0: no block */
	unsigned int out_slot[PT_CUDA_OUT_MAX];
	bool out_wide[PT_CUDA_OUT_MAX];
	unsigned int out_count;
};

/* -EBADMSG: the row is not one that this program can read. */
int pt_cuda_layout(const struct pt_cuda_row *row, struct pt_cuda_layout *layout);
/* The words at the call and at the return that a layout asks for. */
unsigned int pt_cuda_in_words(const struct pt_cuda_layout *layout);

/* An argument by its name; NULL: there is none. */
const struct pt_cuda_arg *pt_cuda_arg_find(const struct pt_cuda_layout *layout, const char *name);
/* Its first word, of the words of the call (in) or of the return (out, NULL: it has not returned).
 * False: it is not known; name NULL: likewise. */
bool pt_cuda_argument(const struct pt_cuda_layout *layout, const char *name, const uint64_t *in,
		      const uint64_t *out, uint64_t *value);

/* The symbol without the suffixes of its forms (_v2, _ptsz, _ptds). */
void pt_cuda_base_name(const char *symbol, char name[PT_CUDA_SYMBOL_BYTES]);

/* The row of a symbol in this major version of CUDA; NULL: none. */
const struct pt_cuda_row *pt_cuda_row_find(const char *symbol, unsigned int major);
/* Of a function of cuBLAS or cuDNN. */
const struct pt_cuda_row *pt_cuda_lib_row_find(const char *symbol);
/* What functions with this row are numbered as: below PT_TORCH_ID_FIRST. bare: their arguments are
 * not known. */
uint32_t pt_cuda_row_id(const struct pt_cuda_row *row, bool bare);
/* Do its functions make calls of CUDA, which are recorded for themselves? */
bool pt_cuda_is_outer(unsigned int api);
/* The enum of an e; n: pt_cuda_arg.enum_type. */
const struct pt_cuda_name *pt_cuda_enum(unsigned int n);

/* What a function does, by its name. */
enum pt_cuda_group {
	PT_CUDA_GROUP_OTHER,
	PT_CUDA_GROUP_LAUNCH, /* kernels, graphs, functions of the host */
	PT_CUDA_GROUP_MALLOC, /* allocates or frees memory of any kind */
	PT_CUDA_GROUP_MEMCPY, /* copies or sets memory */
	PT_CUDA_GROUP_SYNC,   /* waits for the device, a stream or an event */
	PT_CUDA_GROUP_COUNT,
};

enum pt_cuda_group pt_cuda_group(const char *symbol);

/* What a function of it returns; the category of its calls. "": no such api. */
const char *pt_cuda_result_type(unsigned int api);
const char *pt_cuda_category(unsigned int api);

/* NULL: no such value. */
const char *pt_cuda_name_of(const struct pt_cuda_name *names, int64_t value);
const char *pt_cuda_error_name(unsigned int api, int code);

#endif

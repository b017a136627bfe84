/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * torch.h - PyTorch's operators: the functions at::_ops::NAME::call of libtorch_cpu, through which
 * each call of an operator goes (its redispatch twin would count it again).
 *
 * An operator may end by an exception. A return probe would break that: the unwinder does not know
 * the kernel's trampoline, and would end the process. So a call ends where its code says so: at
 * each ret, or at a jump in front of it that the kernel emulates and that nothing but the way to
 * this ret passes (the stack protector's); and at each _Unwind_Resume, by which an exception leaves
 * the function. How far the stack pointer is from its value at the entry is known there by
 * following the code; so a probe tells which call it belongs to. An operator for which any of this
 * is not proven is refused.
 *
 * Its name is that of the schema that its code asks the dispatcher for, "aten::add.Tensor" (op,
 * overload), if that is the one which the function's name is made from; else
 * "at::_ops::add_Tensor".
 *
 * The result is a struct pt_cuda_library like those of calls.h, with leaves; its functions' numbers
 * count from PT_TORCH_ID_FIRST. pt_torch_library_load() -> use -> pt_cuda_library_free().
 */
#ifndef PT_CUDA_TORCH_H
#define PT_CUDA_TORCH_H

#include "cuda/calls.h"
#include "target/elf.h"

/* The names that have numbers; zero-initialise. Must live as long as the libraries. */
struct pt_torch_names {
	char **names; /* of PT_TORCH_ID_FIRST .. */
	size_t count;
};

/* Whether the file has operators. */
int pt_torch_library_is(const char *open_path, bool *is, struct pt_err *err);
/* *library NULL: the file has no operators. emulated: set of 1u << enum py_insn_class. -ENOTSUP:
 * all are refused; -E2BIG: more operators than there are numbers; -ECANCELED: *stop (may be NULL)
 * was set by another thread. */
int pt_torch_library_load(const char *open_path, const char *path, unsigned int emulated,
			  const atomic_bool *stop, struct pt_torch_names *names,
			  struct pt_cuda_library **library, struct pt_err *err);
/* The same for a file that is open; what it finds does not need the file. */
int pt_torch_library_find(const struct elf_file *elf, const char *path, unsigned int emulated,
			  const atomic_bool *stop, struct pt_torch_names *names,
			  struct pt_cuda_library **library, struct pt_err *err);
void pt_torch_names_release(struct pt_torch_names *names);

#endif

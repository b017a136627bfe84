/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * names.h - which CUDA kernels an ELF file registers, read from its code: no symbols are needed.
 *
 * nvcc gives each kernel a host function (the "stub", which is what &kernel is in the program), and
 * a constructor that tells the runtime its name: __cudaRegisterFunction(handle, stub, name, name,
 * -1, ..). That call is decoded. A launch then names the kernel in one of two ways:
 *
 *   by the stub    the pointer is load bias + pt_kernel.host: pt_kernels_find(pointer - bias).
 *                  Up to CUDA 12, and wherever the program calls cudaLaunchKernel(&kernel, ..).
 *   by a handle    CUDA 13's stubs ask the runtime once for a handle of the kernel and keep it in
 *                  a variable, at load bias + pt_kernel.handle: pt_kernel_handles_read() reads
 *                  those variables of a process. It holds 0 until the stub first runs, so a handle
 *                  that is not known yet may be known after reading again. Without a driver the
 *                  runtime's handle is the stub's address.
 *
 * Addresses are the file's own (load bias 0). Nothing here has global state: any thread may open
 * files, and a struct pt_kernels is constant once it is there. The ELF file may be hostile; memory
 * and work are bounded by its size. Only x86-64 is decoded.
 */
#ifndef PT_CUDA_NAMES_H
#define PT_CUDA_NAMES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/map.h"

struct elf_file;

struct pt_kernel {
	uint64_t host;    /* the stub */
	uint64_t handle;  /* the 8-byte variable that holds the handle; 0: none was found */
	uint64_t text;    /* where the file has the name */
	const char *name; /* as registered, most often mangled: pt_kernel_demangle() */
};

struct pt_kernels {
	struct pt_kernel *kernels; /* sorted by host, then by name; see pt_kernels_find() */
	size_t count;
	size_t undecoded;   /* registrations that could not be decoded: their kernels are missing */
	uint64_t registrar; /* the file's own __cudaRegisterFunction(); 0: it imports it */
	bool device_code;   /* it has code for a GPU at all: with count 0, a doubt */
	char *names;        /* owns what kernels[].name points at */
};

struct pt_kernels_options {
	const char *cache_dir; /* NULL: no cache */
	const char *label;     /* what messages call the file; NULL: by the path */
	/* Set by another thread to give up early (-ECANCELED); may be NULL. */
	const atomic_bool *stop;
};

/* Whether the file has code for a GPU, and so may register kernels. */
bool pt_kernels_has_code(const struct elf_file *elf);
/* Decodes the file at path, or takes what the cache has of it. A file that registers no kernels
 * gives an empty table, quickly: that is no error. -ENOTSUP: it does register some, but is not for
 * x86-64; -ENOENT: likewise, but has no .eh_frame; -ENOEXEC: no section headers, so it cannot be
 * told; -E2BIG: decoding would not end soon; -EIO: it is cut short; else as elf_file_open(). The
 * caller frees. */
int pt_kernels_open(const char *path, const struct pt_kernels_options *options,
		    struct pt_kernels **kernels, struct pt_err *err);
/* The same for a file that is open already; it is trimmed (elf_trim()). No cache. */
int pt_kernels_decode(const struct elf_file *elf, const atomic_bool *stop,
		      struct pt_kernels **kernels, struct pt_err *err);
void pt_kernels_free(struct pt_kernels *kernels);

/* The kernel whose stub is at vaddr, or NULL. Where the linker has folded several stubs into one,
 * so that the address has several names, the first of them; *names (may be NULL) says how many
 * there are, and they follow it in the table. */
const struct pt_kernel *pt_kernels_find(const struct pt_kernels *kernels, uint64_t vaddr,
					size_t *names);

/* Handles of one process, from any number of files. Zero-initialise, read, find, release. It
 * borrows the kernels. */
struct pt_kernel_handles {
	struct pt_map by_value;
};

/* Reads the variables of a file that is loaded at bias in that process. May be called again, for
 * handles that the program got meanwhile. Returns how many are set, or -errno: -ESRCH, -EPERM,
 * -ENOMEM; -EFAULT: the file is not (or no longer) mapped there. */
ssize_t pt_kernel_handles_read(struct pt_kernel_handles *handles, const struct pt_kernels *kernels,
			       pid_t pid, uint64_t bias);
const struct pt_kernel *pt_kernel_handles_find(const struct pt_kernel_handles *handles,
					       uint64_t handle);
void pt_kernel_handles_release(struct pt_kernel_handles *handles);

/* The name as the C++ source has it, with its arguments' types; NULL if it is no mangled name
 * (extern "C") or one that would become very long. From malloc. */
char *pt_kernel_demangle(const char *name);

#endif

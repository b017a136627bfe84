/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * method_defs.h - the C functions that an interpreter or an extension module has for Python: the
 * PyMethodDef records in its data, with the module or the type that each belongs to.
 *
 * Pure: reads one ELF file. Names lie in the elf_file, which must outlive the result. Records that
 * the program makes only while it runs (pybind11, PyO3) are not in the file and are not found.
 *
 * Life cycle: py_method_defs_find() -> use -> py_method_defs_release().
 */
#ifndef PT_PYTHON_METHOD_DEFS_H
#define PT_PYTHON_METHOD_DEFS_H

#include <stddef.h>
#include <stdint.h>

#include "target/elf.h"

/* ml_flags, Include/methodobject.h; the same from 3.8 to 3.15 */
#define PY_METH_CLASS  0x10u
#define PY_METH_STATIC 0x20u

enum py_def_owner {
	PY_DEF_UNKNOWN, /* no table of this file holds the record */
	PY_DEF_MODULE,  /* owner is PyModuleDef.m_name; where that differs, another is PyInit's */
	PY_DEF_TYPE,    /* owner is tp_name, or PyType_Spec.name */
};

/* A record with one of its owners: types may share a table. */
struct py_method_def {
	uint64_t def;      /* vaddr of the record */
	uint64_t meth;     /* vaddr of the function; 0: another file's */
	const char *name;  /* ml_name */
	const char *owner; /* NULL: unknown. As the file spells it, so a module is without the
			    * package that it lies in. */
	uint32_t flags;    /* ml_flags */
	enum py_def_owner kind;
};

struct py_method_defs {
	struct py_method_def *defs; /* by meth, then def */
	size_t count;
};

/* A file that is not Python's, or has no section headers, gives 0 and none. -ENOMEM; -E2BIG more
 * than any real file has. */
int py_method_defs_find(const struct elf_file *elf, struct py_method_defs *result);
void py_method_defs_release(struct py_method_defs *defs);

#endif

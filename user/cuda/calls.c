// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "cuda/calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "cuda/statics.h"
#include "pt_maps.h"
#include "target/elf.h"

/* libcudart's version definition is a symbol of its own: libcudart.so.13 */
#define VERSION_PREFIX "libcudart.so."
/* New in CUDA 12.0 and in 13 (cupti_runtime_cbid.h): tell the major version where no symbol does.
 */
#define NEW_IN_12      "cudaGraphInstantiateWithParams"
#define NEW_IN_13      "cudaMemPrefetchBatchAsync"

struct found {
	const struct pt_cuda_row *row;
	uint64_t vaddr;
};

struct search {
	const struct elf_file *elf;
	unsigned int want, major;
	unsigned int cublas, cudnn; /* their major versions; 0: not told */
	bool runtime, new_in_12, new_in_13;
	struct found *found;
	size_t count, size;
	bool versions; /* first pass: only what the version is */
};

/* libcublasLt.so.13, libcudnn_ops.so.9: likewise. */
static void look_lib_version(const struct elf_symbol *symbol, struct search *search)
{
	unsigned int *major = !strncmp(symbol->name, "libcublas", 9)  ? &search->cublas
			      : !strncmp(symbol->name, "libcudnn", 8) ? &search->cudnn
								      : NULL;
	const char *dot = major ? strstr(symbol->name, ".so.") : NULL;

	if (dot && symbol->type != STT_FUNC)
		*major = (unsigned int)strtoul(dot + 4, NULL, 10);
}

static int look_version(const struct elf_symbol *symbol, struct search *search)
{
	look_lib_version(symbol, search);
	if (!strncmp(symbol->name, VERSION_PREFIX, strlen(VERSION_PREFIX)))
		search->major = (unsigned int)strtoul(symbol->name + strlen(VERSION_PREFIX), NULL,
						      10);
	else if (!strcmp(symbol->name, NEW_IN_13))
		search->new_in_13 = true;
	else if (!strcmp(symbol->name, NEW_IN_12))
		search->new_in_12 = true;
	return 0;
}

static int add(struct search *search, const struct pt_cuda_row *row, uint64_t vaddr)
{
	struct found *bigger = pt_grow(search->found, search->count, &search->size, 512,
				       sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	search->found = bigger;
	search->found[search->count++] = (struct found){.row = row, .vaddr = vaddr};
	return 0;
}

static int on_symbol(const struct elf_symbol *symbol, void *ctx)
{
	struct search *search = ctx;
	const struct pt_cuda_row *row;

	if (search->versions)
		return look_version(symbol, search);
	if ((strncmp(symbol->name, "cu", 2) && strncmp(symbol->name, "nccl", 4)) ||
	    symbol->type != STT_FUNC)
		return 0;
	row = pt_cuda_row_find(symbol->name, search->major);
	if (!row && search->want & (PT_CUDA_WANT_CUBLAS | PT_CUDA_WANT_CUDNN))
		row = pt_cuda_lib_row_find(symbol->name);
	if (!row || !(search->want >> row->api & 1) || !elf_is_code(search->elf, symbol->vaddr))
		return 0;
	search->runtime |= row->api == PT_CUDA_RUNTIME;
	return add(search, row, symbol->vaddr);
}

/* By address, and of those with one address the shortest name first: the twins behind it. */
static int compare_found(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->vaddr != y->vaddr)
		return x->vaddr < y->vaddr ? -1 : 1;
	return strcmp(x->row->symbol, y->row->symbol);
}

/* Functions that give back or take away handles of kernels; see enum pt_cuda_load for how. */
static uint64_t loads(const struct pt_cuda_fn *fn)
{
	static const struct {
		const char *symbol;
		enum pt_cuda_load load;
	} all[] = {
	    {"cuModuleGetFunction", PT_CUDA_LOAD_NAMED}, /* (&function, module, name) */
	    {"cuLibraryGetKernel", PT_CUDA_LOAD_NAMED},
	    {"cudaLibraryGetKernel", PT_CUDA_LOAD_NAMED},
	    {"cuKernelGetFunction", PT_CUDA_LOAD_SAME}, /* (&function, kernel) */
	    {"cudaGetKernel", PT_CUDA_LOAD_SAME},
	    {"cudaGetFuncBySymbol", PT_CUDA_LOAD_SAME},
	    {"cuModuleUnload", PT_CUDA_LOAD_GONE}, /* (module) */
	    {"cuLibraryUnload", PT_CUDA_LOAD_GONE},
	    {"cudaLibraryUnload", PT_CUDA_LOAD_GONE},
	    {"cuCtxDestroy", PT_CUDA_LOAD_RESET},
	    {"cuCtxDestroy_v2", PT_CUDA_LOAD_RESET},
	    {"cuDevicePrimaryCtxReset", PT_CUDA_LOAD_RESET},
	    {"cuDevicePrimaryCtxReset_v2", PT_CUDA_LOAD_RESET},
	    {"cudaDeviceReset", PT_CUDA_LOAD_RESET},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]) && !fn->bare; i++)
		if (!strcmp(all[i].symbol, fn->row->symbol))
			return PT_CUDA_COOKIE_LOADS(all[i].load);
	return 0;
}

static bool wants_stack(unsigned int want, const struct pt_cuda_row *row)
{
	return want & (PT_CUDA_WANT_STACKS | PT_CUDA_WANT_STACK(pt_cuda_group(row->symbol)));
}

static uint64_t cookie_of(const struct pt_cuda_fn *fn)
{
	const struct pt_cuda_layout *l = &fn->layout;
	bool out0 = l->out_count > 0, out1 = l->out_count > 1;

	return PT_CUDA_COOKIE(fn->id, l->regs, l->stack, l->block_slot, l->block_offset,
			      l->block_words, out0 ? l->out_slot[0] : PT_CUDA_OUT_NONE,
			      out0 && l->out_wide[0], out1 ? l->out_slot[1] : PT_CUDA_OUT_NONE,
			      out1 && l->out_wide[1]) |
	       loads(fn) | (pt_cuda_is_outer(fn->row->api) ? PT_CUDA_COOKIE_OUTER : 0);
}

uint64_t pt_cuda_entry(const struct elf_file *elf, uint64_t vaddr)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	const void *text = elf_at_vaddr(elf, vaddr, sizeof(endbr64));

	return text && !memcmp(text, endbr64, sizeof(endbr64)) ? vaddr + sizeof(endbr64) : vaddr;
}

static bool is_bare(const struct pt_cuda_library *library, const struct pt_cuda_row *row)
{
	return row->api == PT_CUDA_CUBLAS || row->api == PT_CUDA_CUDNN ? library->lib_bare
								       : library->bare;
}

static int add_site(struct pt_cuda_library *library, const struct search *search,
		    const struct found *found)
{
	const struct elf_file *elf = search->elf;
	size_t n = library->plan.site_count;
	struct pt_cuda_fn *fn = &library->fns[n];
	struct py_site *site = &library->plan.sites[n];
	int rc = 0;

	*fn = (struct pt_cuda_fn){.row = found->row, .bare = is_bare(library, found->row)};
	fn->id = pt_cuda_row_id(fn->row, fn->bare);
	if (!fn->bare)
		rc = pt_cuda_layout(found->row, &fn->layout);
	*site = (struct py_site){.vaddr = pt_cuda_entry(elf, found->vaddr), .method = "entry"};
	if (rc || fn->id >= PT_TORCH_ID_FIRST)
		return rc ? rc : -E2BIG;
	if (!elf_vaddr_to_offset(elf, site->vaddr, &site->offset))
		return 0;
	site->cookie = cookie_of(fn);
	if (wants_stack(search->want, fn->row))
		site->cookie |= PT_CUDA_COOKIE_STACKS;
	library->plan.site_count++;
	return 0;
}

/* A file has one of the two. */
static void set_lib_version(struct pt_cuda_library *library, const struct search *search)
{
	library->lib_major = search->cublas ? search->cublas : search->cudnn;
	library->lib_bare = library->lib_major &&
			    library->lib_major !=
				(search->cublas ? PT_CUDA_CUBLAS_MAJOR : PT_CUDA_CUDNN_MAJOR);
}

static int fill(struct pt_cuda_library *library, const struct search *search)
{
	int rc = 0;

	library->plan.sites = calloc(search->count, sizeof(*library->plan.sites));
	library->fns = calloc(search->count, sizeof(*library->fns));
	if (!library->path || !library->plan.sites || !library->fns)
		return -ENOMEM;
	library->plan.usable = true;
	library->major = search->runtime ? search->major : 0;
	library->bare = library->major > PT_CUDA_MAJOR_MAX;
	set_lib_version(library, search);
	for (size_t i = 0; i < search->count && !rc; i++)
		if (!i || search->found[i].vaddr != search->found[i - 1].vaddr)
			rc = add_site(library, search, &search->found[i]);
	return rc;
}

static int find(struct search *search)
{
	search->versions = true;
	elf_each_symbol(search->elf, on_symbol, search);
	if (!search->major)
		search->major = search->new_in_13 ? 13 : search->new_in_12 ? 12 : 11;
	search->versions = false;
	return elf_each_symbol(search->elf, on_symbol, search);
}

static int find_inside(struct search *search, const struct pt_cuda_inside_options *options,
		       size_t *refused)
{
	struct pt_cuda_statics statics = {0};
	int rc = pt_cuda_statics_load(search->elf, options->cache_dir, options->stop, &statics);

	search->major = statics.major;
	search->runtime = statics.count != 0;
	*refused = statics.refused;
	for (size_t i = 0; i < statics.count && !rc; i++)
		rc = add(search, statics.fns[i].row, statics.fns[i].vaddr);
	pt_cuda_statics_release(&statics);
	return rc;
}

/* NULL: it has none; or rc says why not. */
static struct pt_cuda_library *make(struct search *search, const char *path, int *rc)
{
	struct pt_cuda_library *library;

	if (*rc || !search->count)
		return NULL;
	qsort(search->found, search->count, sizeof(*search->found), compare_found);
	library = calloc(1, sizeof(*library));
	if (library)
		library->path = strdup(path);
	*rc = library ? fill(library, search) : -ENOMEM;
	if (*rc || !library->plan.site_count) {
		pt_cuda_library_free(library);
		return NULL;
	}
	return library;
}

static const char *why(int rc)
{
	switch (rc) {
	case -ENOENT:
		return "it has no .eh_frame";
	case -ENOTSUP:
		return "it refers to their names, but which code is theirs is not sure";
	case -E2BIG:
		return "its code overlaps, or there is too much of it";
	case -EIO:
		return "it is shorter than its headers say";
	default:
		return strerror(-rc);
	}
}

static int tell(struct pt_err *err, int rc, const char *path)
{
	return rc ? pt_err_set(err, rc, PT_EXIT_FAILED, "",
			       "cannot find the CUDA functions of '%s': %s", path, why(rc))
		  : 0;
}

int pt_cuda_library_load(const char *open_path, const char *path, unsigned int want,
			 struct pt_cuda_library **library, bool *inside, struct pt_err *err)
{
	struct search search = {.want = want};
	struct elf_file *elf;
	int rc = elf_file_open(open_path, &elf, err);

	*library = NULL;
	*inside = false;
	if (rc)
		return rc;
	search.elf = elf;
	if (elf->machine == EM_X86_64)
		rc = find(&search);
	if (!rc && (want & PT_CUDA_WANT_RUNTIME) && !search.runtime)
		*inside = pt_cuda_statics_likely(elf);
	if (!*inside)
		*library = make(&search, path, &rc);
	elf_file_close(elf);
	free(search.found);
	return tell(err, rc, path);
}

int pt_cuda_library_load_inside(const char *open_path, const char *path,
				const struct pt_cuda_inside_options *options,
				struct pt_cuda_library **library, struct pt_err *err)
{
	struct search search = {.want = options->want};
	struct elf_file *elf;
	size_t refused = 0;
	int rc = elf_file_open(open_path, &elf, err);

	*library = NULL;
	if (rc)
		return rc;
	search.elf = elf;
	rc = find(&search);
	if (!rc)
		rc = find_inside(&search, options, &refused);
	*library = make(&search, path, &rc);
	if (*library)
		(*library)->refused = refused;
	else if (!rc && refused)
		rc = -ENOTSUP;
	elf_file_close(elf);
	free(search.found);
	return tell(err, rc, path);
}

void pt_cuda_library_free(struct pt_cuda_library *library)
{
	if (!library)
		return;
	free(library->path);
	free(library->plan.sites);
	free(library->leaves.sites);
	free(library->fns);
	free(library->rows);
	free(library);
}

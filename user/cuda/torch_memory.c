// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "cuda/torch_memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Mangled by the Itanium ABI, so one that has other arguments, as in old versions, is none of them.
 */
static const struct function {
	const char *symbol, *name;
	enum pt_block_what what;
	bool inside; /* called within its own file */
} functions[] = {
    {"_ZN3c1025ProfiledCPUMemoryReporter3NewEPvm", "c10::ProfiledCPUMemoryReporter::New",
     PT_BLOCK_HOST_NEW, true},
    {"_ZN3c1025ProfiledCPUMemoryReporter6DeleteEPv", "c10::ProfiledCPUMemoryReporter::Delete",
     PT_BLOCK_HOST_DELETE, true},
    {"_ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE", "c10::reportMemoryUsageToProfiler",
     PT_BLOCK_DEVICE, false},
};
#define FUNCTION_COUNT (sizeof(functions) / sizeof(functions[0]))

static void refuse(struct pt_cuda_library *library, const struct function *function,
		   const char *why)
{
	if (!library->refused++)
		snprintf(library->why_refused, sizeof(library->why_refused), "%s: %s",
			 function->name, why);
}

static void add(struct pt_cuda_library *library, const struct elf_file *elf,
		const struct function *function, const struct elf_symbol *symbol)
{
	struct py_site *site = &library->plan.sites[library->plan.site_count];

	*site = (struct py_site){.vaddr = pt_cuda_entry(elf, symbol->vaddr),
				 .cookie = function->what,
				 .method = "entry"};
	if (function->inside && !elf_imports(elf, function->symbol))
		refuse(library, function, "it is not called by its symbol");
	else if (!elf_is_code(elf, symbol->vaddr) ||
		 !elf_vaddr_to_offset(elf, site->vaddr, &site->offset))
		refuse(library, function, "it is no code");
	else
		library->plan.site_count++;
}

/* The host's memory is followed as a whole or not at all. */
static void drop_half(struct pt_cuda_library *library)
{
	struct py_engine_plan *plan = &library->plan;
	bool has_new = false, has_delete = false;
	size_t kept = 0;

	for (size_t i = 0; i < plan->site_count; i++) {
		has_new |= plan->sites[i].cookie == PT_BLOCK_HOST_NEW;
		has_delete |= plan->sites[i].cookie == PT_BLOCK_HOST_DELETE;
	}
	for (size_t i = 0; i < plan->site_count; i++)
		if (plan->sites[i].cookie == PT_BLOCK_DEVICE || (has_new && has_delete))
			plan->sites[kept++] = plan->sites[i];
	plan->site_count = kept;
}

static int fill(struct pt_cuda_library *library, const struct elf_file *elf, const char *path)
{
	struct elf_symbol symbol;

	library->path = strdup(path);
	library->plan.sites = calloc(FUNCTION_COUNT, sizeof(*library->plan.sites));
	if (!library->path || !library->plan.sites)
		return -ENOMEM;
	library->plan.usable = library->blocks = true;
	for (size_t i = 0; i < FUNCTION_COUNT; i++)
		if (elf_symbol(elf, functions[i].symbol, &symbol))
			add(library, elf, &functions[i], &symbol);
		else
			refuse(library, &functions[i], "it is not there");
	drop_half(library);
	return library->plan.site_count ? 0 : -ENOTSUP;
}

/* A file that has none of them has nothing to be refused. */
static bool has_any(const struct elf_file *elf)
{
	struct elf_symbol symbol;

	for (size_t i = 0; i < FUNCTION_COUNT && elf->machine == EM_X86_64; i++)
		if (elf_symbol(elf, functions[i].symbol, &symbol))
			return true;
	return false;
}

int pt_torch_memory_load(const char *open_path, const char *path, struct pt_cuda_library **out,
			 struct pt_err *err)
{
	struct pt_cuda_library *library = NULL;
	struct elf_file *elf;
	int rc = elf_file_open(open_path, &elf, err);

	*out = NULL;
	if (rc)
		return rc;
	if (has_any(elf)) {
		library = calloc(1, sizeof(*library));
		rc = library ? fill(library, elf, path) : -ENOMEM;
	}
	elf_file_close(elf);
	if (!rc) {
		*out = library;
		return 0;
	}
	pt_err_set(err, rc, PT_EXIT_FAILED, "", "%s",
		   rc == -ENOTSUP ? library->why_refused : strerror(-rc));
	pt_cuda_library_free(library);
	return rc;
}

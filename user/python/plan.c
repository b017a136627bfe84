// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "python/decode.h"
#include "python/parts.h"

#define INSN_MAX_BYTES 15
#define SITES_MAX      256 /* the most seen is 25; a hostile file gets no further */

enum py_insn_class py_insn_classify(const uint8_t *bytes, size_t size, uint64_t vaddr,
				    size_t *length)
{
	struct mc_decoder *decoder;
	struct mc_insn insn;

	*length = 0;
	if (mc_decoder_open(&decoder))
		return PY_INSN_OTHER;
	if (mc_decode(decoder, bytes, size, vaddr, &insn))
		memset(&insn, 0, sizeof(insn));
	mc_decoder_close(decoder);
	*length = insn.length;
	return insn.length ? (enum py_insn_class)insn.class : PY_INSN_OTHER;
}

int py_site_init(struct py_site *site, const struct elf_file *elf, uint64_t vaddr)
{
	const uint8_t *bytes = NULL;
	size_t size, length;

	memset(site, 0, sizeof(*site));
	if (!elf_is_code(elf, vaddr) || !elf_vaddr_to_offset(elf, vaddr, &site->offset))
		return -ENOENT;
	for (size = INSN_MAX_BYTES; size && !bytes; size--)
		bytes = elf_at_vaddr(elf, vaddr, size);
	if (!bytes)
		return -ENOENT;
	site->insn_class = py_insn_classify(bytes, size + 1, vaddr, &length);
	if (!length)
		return -EILSEQ;
	site->vaddr = vaddr;
	site->byte_count = (uint8_t)length;
	memcpy(site->bytes, bytes, length);
	return 0;
}

int py_plan_add(struct py_engine_plan *plan, const struct py_site *site)
{
	struct py_site *bigger;

	for (size_t i = 0; i < plan->site_count; i++)
		if (plan->sites[i].vaddr == site->vaddr && plan->sites[i].cookie == site->cookie)
			return 0;
	if (plan->site_count >= SITES_MAX)
		return -E2BIG;
	bigger = realloc(plan->sites, (plan->site_count + 1) * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	plan->sites = bigger;
	plan->sites[plan->site_count++] = *site;
	return 0;
}

int py_plan_add_at(struct py_engine_plan *plan, const struct elf_file *elf, uint64_t vaddr,
		   uint64_t cookie, const char *method)
{
	struct py_site site;
	int rc = py_site_init(&site, elf, vaddr);

	if (rc)
		return rc;
	site.cookie = cookie;
	site.method = method;
	return py_plan_add(plan, &site);
}

int py_plan_refuse(struct py_engine_plan *plan, const char *fmt, ...)
{
	va_list args;

	free(plan->sites);
	plan->sites = NULL;
	plan->site_count = 0;
	plan->usable = false;
	va_start(args, fmt);
	vsnprintf(plan->reason, sizeof(plan->reason), fmt, args);
	va_end(args);
	return -ENOTSUP;
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* dump_image FILE [CACHE_DIR]: what py_image_load() finds in an interpreter file, for people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "python/image.h"

static const char *const kinds[] = {"?",         "delta",   "enter",  "exit",    "enter-reg",
				    "free-code", "checked", "c-call", "c-return"};
static const char *const classes[] = {"jcc",  "jmp",      "call", "push",
				      "nop1", "nop-long", "nop5", "other"};

static void dump_site(const struct py_site *site)
{
	uint64_t c = site->cookie;
	unsigned int kind = PT_COOKIE_KIND(c), cond = PT_COOKIE_COND(c);

	printf("  %3u %#llx off %#llx %-9s %-5s", PT_COOKIE_SITE(c),
	       (unsigned long long)site->vaddr, (unsigned long long)site->offset,
	       kind < 9 ? kinds[kind] : "?", classes[site->insn_class]);
	printf(" raw %+d ts %u slot %u freg %u", PT_COOKIE_RAW_DELTA(c), PT_COOKIE_TS(c),
	       PT_COOKIE_SLOT(c), PT_COOKIE_FRAME_REG(c));
	if (PT_COOKIE_CODE_REG(c))
		printf(" creg %u", PT_COOKIE_CODE_REG(c) - 1);
	if (PT_COOKIE_KIND(c) == PT_SITE_DELTA && PT_COOKIE_LEFT_REG(c))
		printf(" left %u", PT_COOKIE_LEFT_REG(c) - 1);
	if (PT_COOKIE_KIND(c) == PT_SITE_DELTA && PT_COOKIE_DIR(c))
		printf(" first %u%s", PT_COOKIE_DIR(c),
		       c & PT_COOKIE_BEFORE_POP ? " before-pop" : "");
	if (cond & PT_COND_VALID)
		printf(" cc %u %s", cond & 0xf, cond & PT_COND_TAKEN ? "taken" : "not-taken");
	printf(" | for %#llx %s |", (unsigned long long)site->counter_vaddr,
	       site->method ? site->method : "");
	for (unsigned int i = 0; i < site->byte_count; i++)
		printf(" %02x", site->bytes[i]);
	if (site->ref_ctr_offset)
		printf(" | semaphore %#llx", (unsigned long long)site->ref_ctr_offset);
	printf("\n");
}

static void dump_layout(const struct pt_layout *l)
{
	printf("layout flags %#x ts_remaining %#x ts_frame %#x cframe_frame %#x frame code %#x "
	       "back %#x owner %#x mask %#x hidden %u\n",
	       l->flags, l->ts_remaining, l->ts_frame, l->cframe_frame, l->frame_code,
	       l->frame_back, l->frame_owner, l->frame_code_mask, l->owner_hidden);
	printf("  code flags %#x line %#x name %#x qualname %#x file %#x str %#x %#x %#x %#x\n",
	       l->code_flags, l->code_firstlineno, l->code_name, l->code_qualname, l->code_filename,
	       l->str_length, l->str_state, l->str_ascii_data, l->str_data);
}

static void dump(const struct py_image *image)
{
	static const char *const names[] = {"frame", "usdt", "c-functions", "sample"};

	printf("%s: CPython %s (%#x)%s%s%s%s %s %.1f ms\n", image->path, image->version_text,
	       image->version, image->stripped ? " stripped" : "", image->debug ? " debug" : "",
	       image->dtrace ? " dtrace" : "", image->free_threaded ? " free-threaded" : "",
	       image->from_cache ? "cached" : "found in", image->find_ms);
	dump_layout(&image->layout);
	for (int e = 0; e < PY_ENGINE_COUNT; e++) {
		const struct py_engine_plan *plan = &image->engines[e];

		printf("engine %s: %s, %zu sites. %s\n", names[e],
		       plan->usable ? "usable" : "not usable", plan->site_count, plan->reason);
		for (size_t i = 0; i < plan->site_count; i++)
			dump_site(&plan->sites[i]);
	}
}

int main(int argc, char **argv)
{
	struct py_image *image;
	struct pt_err err = {0};
	int ret;

	if (argc < 2) {
		fprintf(stderr, "usage: dump_image FILE [CACHE_DIR]\n");
		return 2;
	}
	ret = py_image_load(argv[1], argv[1], PY_INSN_EMULATED_DEFAULT, argc > 2 ? argv[2] : NULL,
			    &image, &err);
	if (ret) {
		fprintf(stderr, "%s (%d)\n", err.what, ret);
		return 1;
	}
	dump(image);
	py_image_free(image);
	return 0;
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * libiberty demangles. A short mangled name can stand for a text of any length (each substitution
 * may double it), and names come from files that are not trusted, so the form with a callback is
 * used: it allocates nothing, and may therefore be left by a jump once the text is long enough.
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <libiberty/demangle.h>

#include "base/buf.h"
#include "cuda/names.h"

#define MANGLED_MAX   (16u << 10) /* characters; the longest of CUDA 13's libraries has under 4 K */
#define DEMANGLED_MAX (64u << 10)

struct text {
	struct pt_buf buf;
	jmp_buf too_long;
};

static void add(const char *part, size_t len, void *ctx)
{
	struct text *text = ctx;

	if (len > DEMANGLED_MAX - text->buf.len)
		longjmp(text->too_long, 1);
	pt_buf_add(&text->buf, part, len);
}

/* A function of its own: what setjmp()'s caller holds in locals would be lost by the jump. */
static bool demangle(const char *name, struct text *text)
{
	if (setjmp(text->too_long))
		return false;
	return cplus_demangle_v3_callback(name, DMGL_PARAMS | DMGL_ANSI, add, text) != 0;
}

/* nvcc names a kernel that only its source file knows __nv_static_N_, N characters that stand for
 * the file, _, and the mangled name. Returns that, or name. */
static const char *without_file(const char *name)
{
	static const char start[] = "__nv_static_";
	unsigned long len;
	char *end;

	if (strncmp(name, start, strlen(start)) != 0)
		return name;
	len = strtoul(name + strlen(start), &end, 10);
	if (*end != '_' || len >= strlen(end + 1) || strncmp(end + 1 + len, "__Z", 3) != 0)
		return name;
	return end + 2 + len;
}

char *pt_kernel_demangle(const char *name)
{
	struct text text = {.buf = {0}};
	bool good;

	name = without_file(name);
	good = !strncmp(name, "_Z", 2) && strlen(name) <= MANGLED_MAX && demangle(name, &text);

	pt_buf_add(&text.buf, "", 1);
	if (!good || text.buf.failed) {
		pt_buf_release(&text.buf);
		return NULL;
	}
	return text.buf.data;
}

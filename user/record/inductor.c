// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/inductor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES        "Source Nodes: ["
#define OPERATORS    "], Original ATen: ["
/* torch/_inductor/codecache.py: "c" and a SHA-256 in base 32, in a folder of its first two digits
 */
#define NAME_DIGITS  51
#define LINES_ABOVE  64
#define ORIGIN_BYTES 512

bool pt_inductor_is_file(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	if (!slash || slash - path < 3 || slash[-3] != '/' || name[0] != 'c' ||
	    strncmp(slash - 2, name + 1, 2) != 0)
		return false;
	return strspn(name + 1, "abcdefghijklmnopqrstuvwxyz234567") == NAME_DIGITS &&
	       !strcmp(name + 1 + NAME_DIGITS, ".py");
}

/* The beginnings of the last lines up to this one, in a circle; 0: the text has fewer lines. */
static bool find_lines(const char *text, size_t bytes, uint32_t line,
		       const char *starts[LINES_ABOVE])
{
	const char *at = text, *end = text + bytes;

	for (uint32_t i = 1;; i++) {
		starts[i % LINES_ABOVE] = at;
		if (i == line)
			return at < end;
		at = memchr(at, '\n', (size_t)(end - at));
		if (!at)
			return false;
		at++;
	}
}

static const char *find(const char *at, const char *end, const char *what)
{
	return memmem(at, (size_t)(end - at), what, strlen(what));
}

/* Of a comment's line. */
static bool read_comment(const char *at, const char *end, char *out, size_t size)
{
	const char *nodes = find(at, end, NODES), *middle, *operators, *close;
	int len;

	if (!nodes)
		return false;
	nodes += strlen(NODES);
	middle = find(nodes, end, OPERATORS);
	if (!middle)
		return false;
	operators = middle + strlen(OPERATORS);
	close = memchr(operators, ']', (size_t)(end - operators));
	if (!close)
		return false;
	len = snprintf(out, size, "[source nodes %.*s; %.*s]", (int)(middle - nodes), nodes,
		       (int)(close - operators), operators);
	return len > 0 && (size_t)len < size;
}

bool pt_inductor_origin(const char *text, size_t bytes, uint32_t line, char *out, size_t size)
{
	const char *starts[LINES_ABOVE], *end = text + bytes;

	if (!line || !find_lines(text, bytes, line, starts))
		return false;
	for (uint32_t i = line - 1; i > 0 && line - i < LINES_ABOVE; i--) {
		const char *at = starts[i % LINES_ABOVE];
		const char *stop = memchr(at, '\n', (size_t)(end - at));

		while (*at == ' ')
			at++;
		/* between the comment and the launch there is only what finds the stream */
		if (*at != '#' && !find(at, stop, " = get_raw_stream("))
			return false;
		if (*at == '#' && read_comment(at, stop, out, size))
			return true;
	}
	return false;
}

/* The frame's origin, or NULL; the caller frees it. */
static char *origin_of(struct pt_sources *sources, pid_t pid, const struct pt_stack_frame *frame)
{
	const struct pt_source *source;
	char text[ORIGIN_BYTES];

	if (frame->kind != PT_STACK_PYTHON || !frame->line || !pt_inductor_is_file(frame->file))
		return NULL;
	source = pt_sources_find(sources, pid, frame->file);
	if (!source ||
	    !pt_inductor_origin(source->text, source->bytes, frame->line, text, sizeof(text)))
		return NULL;
	return strdup(text);
}

int pt_inductor_stack(struct pt_sources *sources, const struct pt_op *op,
		      int (*next)(const struct pt_op *op, void *ctx), void *ctx)
{
	struct pt_stack_frame *frames = calloc(2 * (size_t)op->stack.frame_count + 1,
					       sizeof(*frames));
	struct pt_op with = *op;
	uint32_t n = 0;
	int rc;

	if (!frames)
		return -ENOMEM;
	for (uint32_t i = 0; i < op->stack.frame_count; i++) {
		char *origin = origin_of(sources, op->stack.pid, &op->stack.frames[i]);

		frames[n++] = op->stack.frames[i];
		if (origin)
			frames[n++] = (struct pt_stack_frame){
			    .kind = PT_STACK_ORIGIN, .name = origin, .file = ""};
	}
	with.stack.frames = frames;
	with.stack.frame_count = n;
	rc = next(&with, ctx);
	for (uint32_t i = 0; i < n; i++)
		if (frames[i].kind == PT_STACK_ORIGIN)
			free((char *)frames[i].name);
	free(frames);
	return rc;
}

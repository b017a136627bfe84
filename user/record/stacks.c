// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/stacks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "python/stack.h"
#include "record/spool.h"

/* One name, widened to what the record can say: UTF-8 becomes UCS4. */
#define STR_CHAR_MAX (PT_STR_MAX_BYTES / 4)
/* What one record of the spool can hold; of a deeper stack the innermost frames are told. */
#define FRAMES_MAX                                                                                 \
	((PT_SPOOL_RECORD_MAX_BYTES - sizeof(struct pt_rec_stack)) /                               \
	 sizeof(struct pt_rec_stack_frame))

struct maker {
	struct pt_rec hdr; /* what all records have in common */
	uint32_t *next_code_id;
	pt_record_fn fn;
	void *ctx;
	struct known_code { /* code objects already told, sorted by nothing: stacks are short */
		uint64_t addr;
		uint32_t id;
	} * known;
	size_t known_count;
};

/* Takes one character off valid UTF-8; what is not valid becomes U+FFFD. */
static uint32_t take_char(const unsigned char **at)
{
	const unsigned char *p = *at;
	unsigned int more = p[0] < 0x80   ? 0
			    : p[0] < 0xc2 ? 4
			    : p[0] < 0xe0 ? 1
			    : p[0] < 0xf0 ? 2
			    : p[0] < 0xf5 ? 3
					  : 4;
	uint32_t c = more == 0 ? p[0] : p[0] & (0x3fu >> more);

	for (unsigned int i = 1; more < 4 && i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80)
			more = 4;
		else
			c = c << 6 | (p[i] & 0x3fu);
	}
	*at += more < 4 ? more + 1 : 1;
	return more < 4 ? c : 0xfffd;
}

/* Writes text at data in the narrowest of Latin-1 and UCS4; returns the bytes. */
static size_t put_text(struct pt_str *str, char *data, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	uint32_t chars[PT_STR_MAX_BYTES];
	size_t count = 0, limit;
	bool narrow = true;

	*str = (struct pt_str){.width = 1};
	if (!text) {
		str->truncated = 2;
		return 0;
	}
	while (*at && count < PT_STR_MAX_BYTES) {
		chars[count] = take_char(&at);
		narrow = narrow && chars[count] < 0x100;
		count++;
	}
	limit = narrow ? PT_STR_MAX_BYTES : STR_CHAR_MAX;
	str->truncated = *at || count > limit;
	count = count > limit ? limit : count;
	str->width = narrow ? 1 : 4;
	str->bytes = (uint16_t)(count * str->width);
	for (size_t i = 0; i < count; i++) {
		if (narrow)
			data[i] = (char)chars[i];
		else
			memcpy(data + i * 4, &chars[i], 4);
	}
	return str->bytes;
}

static int tell_code(struct maker *maker, uint64_t addr, const struct py_code_text *code,
		     uint32_t id)
{
	_Alignas(8) char buffer[sizeof(struct pt_rec_code) + PT_STR_COUNT * PT_STR_MAX_BYTES + 8];
	struct pt_rec_code *record = (struct pt_rec_code *)(void *)buffer;
	size_t used = sizeof(*record), len;

	memset(record, 0, sizeof(*record));
	record->hdr = maker->hdr;
	record->hdr.kind = PT_REC_CODE;
	record->addr = addr;
	record->id = id;
	record->firstlineno = code->firstlineno;
	record->co_flags = code->co_flags;
	used += put_text(&record->str[PT_STR_NAME], buffer + used, code->name);
	used += put_text(&record->str[PT_STR_QUALNAME], buffer + used,
			 code->qualname ? code->qualname : "");
	used += put_text(&record->str[PT_STR_FILE], buffer + used, code->filename);
	len = (used + 7) & ~(size_t)7;
	memset(buffer + used, 0, len - used);
	record->hdr.len = (uint32_t)len;
	return maker->fn(&record->hdr, len, maker->ctx);
}

static int code_id(struct maker *maker, const struct py_frame *frame, uint32_t *id)
{
	struct known_code *bigger;

	for (size_t i = 0; i < maker->known_count; i++) {
		if (maker->known[i].addr == frame->code_addr) {
			*id = maker->known[i].id;
			return 0;
		}
	}
	bigger = reallocarray(maker->known, maker->known_count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	maker->known = bigger;
	*id = (*maker->next_code_id)++;
	maker->known[maker->known_count++] = (struct known_code){frame->code_addr, *id};
	return tell_code(maker, frame->code_addr, &frame->code, *id);
}

static int tell_stack(struct maker *maker, const struct py_thread_stack *thread)
{
	size_t count = thread->frame_count < FRAMES_MAX ? thread->frame_count : FRAMES_MAX;
	size_t len = sizeof(struct pt_rec_stack) + count * sizeof(struct pt_rec_stack_frame);
	struct pt_rec_stack *record = calloc(1, len);
	int rc = 0;

	if (!record)
		return -ENOMEM;
	maker->hdr.tid = (uint32_t)thread->tid;
	for (size_t i = 0; !rc && i < count; i++) {
		const struct py_frame *frame = &thread->frames[i];

		record->frames[i].code_addr = frame->code_addr;
		record->frames[i].depth = frame->depth;
		rc = code_id(maker, frame, &record->frames[i].code_id);
	}
	record->hdr = maker->hdr;
	record->hdr.kind = PT_REC_STACK;
	record->hdr.len = (uint32_t)len;
	record->frame_count = (uint32_t)count;
	record->depth = thread->depth;
	if (!rc)
		rc = maker->fn(&record->hdr, len, maker->ctx);
	free(record);
	return rc;
}

int pt_stacks_records(pid_t pid, uint32_t image_id, const struct py_image *image, uint64_t bias,
		      uint64_t time_ns, uint32_t *next_code_id, struct pt_tracer *tracer,
		      pt_record_fn fn, void *ctx)
{
	struct maker maker = {
	    .hdr = {.tgid = (uint32_t)pid, .image_id = image_id, .time_ns = time_ns},
	    .next_code_id = next_code_id,
	    .fn = fn,
	    .ctx = ctx,
	};
	struct py_stacks stacks = {0};
	int rc = py_stacks_read(pid, image, bias, &stacks, NULL);

	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < stacks.thread_count; i++) {
		pt_tracer_set_tstate(tracer, stacks.threads[i].tid, image_id,
				     stacks.threads[i].tstate);
		rc = tell_stack(&maker, &stacks.threads[i]);
	}
	py_stacks_release(&stacks);
	free(maker.known);
	return rc;
}

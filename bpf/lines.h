/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * lines.h - the line of a call within its caller (--lines).
 *
 * BPF only says where in the caller's code the call stands, one word before the enter (call.h);
 * user space looks the line up. The line table is sent from here, right after the code object's
 * name: a module's code object is freed when the module has been imported, many microseconds after
 * it was first seen, and user space, which learns of it milliseconds later, would read whatever
 * lies there then.
 *
 * Samples have it sent likewise (sample.h), as their frames have places of their own.
 *
 * Cost: a copy of the table a code object. Without --lines, --exceptions and samples the verifier
 * removes it all.
 */
#ifndef PT_BPF_LINES_H
#define PT_BPF_LINES_H

#include "emit.h"

/* Most tables take less than 200 bytes; the others are sent a page at a time. */
#define LINES_SMALL_BYTES 256
#define LINES_BIG_BYTES   4096
#define LINES_BIG_ROOM    (LINES_BIG_BYTES - sizeof(struct pt_rec_lines))
#define LINES_PIECES      (PT_LINES_MAX_BYTES / LINES_BIG_ROOM + 1)

/* PyBytesObject: ob_size and ob_sval behind a PyObject_VAR_HEAD, the same from 3.8 to 3.15
 * (Include/cpython/bytesobject.h) */
#define BYTES_SIZE 16
#define BYTES_DATA 32

struct lines_table {
	__u64 data, now;
	__u32 id, version, total;
};

/* Sends the piece from offset on, in a record of `size` bytes (a constant); 0 or 1. */
static __always_inline int lines_piece(const struct pt_rec *code, const struct lines_table *table,
				       __u32 offset, const __u32 size)
{
	const __u32 room = size - sizeof(struct pt_rec_lines);
	struct pt_rec_lines *rec = bpf_ringbuf_reserve(&ring, size, 0);
	__u64 bytes = table->total - offset;

	if (!rec)
		return 1;
	opaque(bytes);
	if (bytes > room)
		bytes = room;
	rec_init(&rec->hdr, PT_REC_LINES, size, (__u64)code->tgid << 32 | code->tid, code->image_id,
		 table->now);
	rec->code_id = table->id;
	rec->version = table->version;
	rec->total_bytes = table->total;
	rec->offset = offset;
	rec->bytes = bytes;
	rec->reserved = 0;
	if (bpf_probe_read_user(rec->data, bytes, (const void *)(table->data + offset))) {
		bpf_ringbuf_discard(rec, 0);
		return 1;
	}
	bpf_ringbuf_submit(rec, wake_flag());
	return 0;
}

/* hdr: of the code object's PT_REC_CODE. 0, or 1: not all was sent. */
static __always_inline int lines_send_all(const struct pt_rec *hdr, __u64 code, __u32 id,
					  __u32 layout_index, __u64 now)
{
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	struct lines_table table = {};
	__u64 bytes, size;
	__u32 i;
	int failed = 0;

	bytes = user_u64(code + layout->code_linetable);
	if (!bytes)
		return 0;
	size = user_u64(bytes + BYTES_SIZE); /* 0 up to 3.9: all is on the first line */
	table.data = bytes + BYTES_DATA;
	table.now = now;
	table.id = id;
	table.version = layout->version;
	table.total = size < PT_LINES_MAX_BYTES ? size : PT_LINES_MAX_BYTES;
	if (table.total <= LINES_SMALL_BYTES - sizeof(struct pt_rec_lines))
		return lines_piece(hdr, &table, 0, LINES_SMALL_BYTES);
	for (i = 0; i < LINES_PIECES; i++) {
		__u32 offset = i * LINES_BIG_ROOM;

		if (failed || offset >= table.total)
			break;
		failed = lines_piece(hdr, &table, offset, LINES_BIG_BYTES);
	}
	return failed;
}

/* Verified once, apart from code_define(), which calls it. */
__noinline int lines_send(__u64 code, __u32 id, __u32 layout_index, __u64 now)
{
	struct thread *t = thread_get();
	int failed;

	if (!t || !id)
		return 0;
	failed = lines_send_all(&t->code.rec.hdr, code, id, layout_index, now);
	if (failed)
		count_add(&counters.lost_records, 1);
	return failed;
}

#endif /* PT_BPF_LINES_H */

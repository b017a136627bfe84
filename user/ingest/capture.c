// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "ingest/capture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/outfile.h"
#include "base/utf8.h"
#include "ingest/capture_format.h"
#include "ingest/decode.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "capture files are little-endian; this needs byte swapping here"
#endif

/* Held back on disk for the end chunk. */
#define RESERVE_BYTES 4096

/* ---- writing ---- */

struct pt_capture_writer {
	struct pt_outfile file;
	struct pt_capture_info info;
	char *path;
	char *raw;
	size_t raw_bytes, raw_size;
	char *packed;
	size_t packed_size;
	z_stream zlib;
	bool compress, zlib_ready;
	int error; /* the first -errno; nothing is written after it */
};

static int set_write_error(struct pt_capture_writer *writer, int rc, struct pt_err *err)
{
	const char *hint = rc == -ENOSPC || rc == -EDQUOT
			       ? "The disk is full. What was recorded before is kept in the file."
			       : "What was recorded before is kept in the file.";

	if (!writer->error)
		writer->error = rc;
	return pt_err_set(err, rc, PT_EXIT_FAILED, hint, "cannot write '%s': %s", writer->path,
			  strerror(-rc));
}

static int grow(char **data, size_t *size, size_t need)
{
	char *bigger;

	if (*size >= need)
		return 0;
	bigger = realloc(*data, need);
	if (!bigger)
		return -ENOMEM;
	*data = bigger;
	*size = need;
	return 0;
}

static int append_chunk(struct pt_capture_writer *writer, const char *data, size_t stored_bytes,
			uint32_t flags)
{
	struct pt_capture_chunk *head = (struct pt_capture_chunk *)writer->packed;

	head->magic = PT_CHUNK_MAGIC;
	head->stored_bytes = (uint32_t)stored_bytes;
	head->raw_bytes = (uint32_t)writer->raw_bytes;
	head->crc = (uint32_t)crc32(0, (const Bytef *)writer->raw, (uInt)writer->raw_bytes);
	head->flags = flags;
	head->header_crc = (uint32_t)crc32(0, (const Bytef *)head,
					   offsetof(struct pt_capture_chunk, header_crc));
	if (data != writer->packed + sizeof(*head))
		memcpy(writer->packed + sizeof(*head), data, stored_bytes);
	/* one append, so that a full disk leaves whole chunks only */
	return pt_outfile_append(&writer->file, writer->packed, sizeof(*head) + stored_bytes);
}

static int flush_chunk(struct pt_capture_writer *writer)
{
	size_t head = sizeof(struct pt_capture_chunk);
	size_t bound = writer->raw_bytes + head;
	z_stream *zlib = &writer->zlib;
	int rc;

	if (!writer->raw_bytes)
		return 0;
	if (writer->compress)
		bound = deflateBound(zlib, writer->raw_bytes) + head;
	rc = grow(&writer->packed, &writer->packed_size, bound);
	if (rc)
		return rc;
	if (!writer->compress) {
		rc = append_chunk(writer, writer->raw, writer->raw_bytes, 0);
	} else {
		deflateReset(zlib);
		zlib->next_in = (Bytef *)writer->raw;
		zlib->avail_in = (uInt)writer->raw_bytes;
		zlib->next_out = (Bytef *)writer->packed + head;
		zlib->avail_out = (uInt)(writer->packed_size - head);
		if (deflate(zlib, Z_FINISH) != Z_STREAM_END)
			return -EIO;
		rc = append_chunk(writer, writer->packed + head, zlib->total_out, PT_CHUNK_DEFLATE);
	}
	if (!rc)
		writer->raw_bytes = 0;
	return rc;
}

static int append_header(struct pt_capture_writer *writer, const struct pt_capture_info *info)
{
	struct pt_capture_header head = {
	    .magic = PT_CAPTURE_MAGIC,
	    .version = PT_CAPTURE_VERSION,
	    .abi_version = PT_ABI_VERSION,
	    .header_bytes = sizeof(head),
	    .start_mono_ns = info->start_mono_ns,
	    .start_real_ns = info->start_real_ns,
	};

	memcpy(head.tool_version, info->tool_version, sizeof(head.tool_version));
	memcpy(head.kernel, info->kernel, sizeof(head.kernel));
	memcpy(head.host, info->host, sizeof(head.host));
	memcpy(head.engine, info->engine, sizeof(head.engine));
	memcpy(head.interpreter, info->interpreter, sizeof(head.interpreter));
	head.crc = (uint32_t)crc32(0, (const Bytef *)&head, sizeof(head));
	return pt_outfile_append(&writer->file, &head, sizeof(head));
}

static void writer_free(struct pt_capture_writer *writer)
{
	if (!writer)
		return;
	if (writer->zlib_ready)
		deflateEnd(&writer->zlib);
	free(writer->raw);
	free(writer->packed);
	free(writer->path);
	free(writer);
}

int pt_capture_create(const char *path, const struct pt_capture_info *info, bool compress,
		      struct pt_capture_writer **result, struct pt_err *err)
{
	struct pt_capture_writer *writer = calloc(1, sizeof(*writer));
	int rc = -ENOMEM;

	if (!writer)
		goto fail;
	writer->compress = compress;
	writer->info = *info;
	writer->path = strdup(path);
	/* level 1: the records are dense already, and the target runs on the other cores */
	if (!writer->path || (compress && deflateInit(&writer->zlib, 1) != Z_OK))
		goto fail;
	writer->zlib_ready = compress;
	if (grow(&writer->raw, &writer->raw_size, PT_CHUNK_BYTES) ||
	    grow(&writer->packed, &writer->packed_size, PT_CHUNK_BYTES))
		goto fail;
	rc = pt_outfile_open(&writer->file, path, RESERVE_BYTES, err);
	if (rc)
		goto fail;
	rc = append_header(writer, info);
	if (rc) {
		set_write_error(writer, rc, err);
		pt_outfile_discard(&writer->file);
		goto fail;
	}
	*result = writer;
	return 0;
fail:
	writer_free(writer);
	return pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot create '%s': %s", path,
			  strerror(-rc));
}

int pt_capture_write(struct pt_capture_writer *writer, const struct pt_rec *record, size_t len,
		     struct pt_err *err)
{
	int rc = writer->error;

	if (rc)
		return set_write_error(writer, rc, err);
	if (len < sizeof(*record) || len % 8 || len != record->len || len > PT_RECORD_MAX_BYTES)
		return pt_err_set(err, -EINVAL, PT_EXIT_FAILED, "This is a bug; please report it.",
				  "a record of %zu bytes does not fit into a capture file", len);
	if (writer->raw_bytes + len > PT_CHUNK_BYTES)
		rc = flush_chunk(writer);
	if (!rc)
		rc = grow(&writer->raw, &writer->raw_size, writer->raw_bytes + len);
	if (rc)
		return set_write_error(writer, rc, err);
	memcpy(writer->raw + writer->raw_bytes, record, len);
	writer->raw_bytes += len;
	return 0;
}

int pt_capture_save(struct pt_capture_writer *writer, const char *path, uint64_t ends_at_ns,
		    struct pt_err *err)
{
	struct pt_rec_note note = {
	    .hdr = {.kind = PT_REC_NOTE, .len = sizeof(note), .time_ns = ends_at_ns},
	    .what = PT_NOTE_GATE_CLOSE,
	};
	struct pt_capture_writer *copy;
	int rc = writer->error ? writer->error : flush_chunk(writer);

	if (rc)
		return set_write_error(writer, rc, err);
	rc = pt_capture_create(path, &writer->info, writer->compress, &copy, err);
	if (rc)
		return rc;
	/* the headers are the same */
	rc = pt_outfile_append_rest(&copy->file, &writer->file);
	if (rc)
		pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot write '%s': %s", path,
			   strerror(-rc));
	else
		rc = pt_capture_write(copy, &note.hdr, sizeof(note), err);
	if (rc) {
		pt_capture_close(copy, false, NULL);
		return rc;
	}
	return pt_capture_close(copy, true, err);
}

uint64_t pt_capture_bytes(const struct pt_capture_writer *writer)
{
	/* What waits for its chunk to fill is counted as if it could not be compressed. */
	return writer->file.bytes + writer->raw_bytes + 2 * sizeof(struct pt_capture_chunk);
}

int pt_capture_close(struct pt_capture_writer *writer, bool keep, struct pt_err *err)
{
	int rc = writer->error, commit;

	if (!keep) {
		pt_outfile_discard(&writer->file);
		writer_free(writer);
		return 0;
	}
	if (!rc)
		rc = flush_chunk(writer);
	pt_outfile_use_reserve(&writer->file);
	/* After an error the missing end chunk tells readers that records are missing. */
	if (!rc) {
		writer->raw_bytes = 0;
		rc = append_chunk(writer, writer->packed, 0, PT_CHUNK_END);
	}
	if (rc)
		set_write_error(writer, rc, err);
	commit = pt_outfile_commit(&writer->file, err);
	writer_free(writer);
	return rc ? rc : commit;
}

/* ---- reading ---- */

struct pt_capture_reader {
	FILE *file;
	char *path;
	uint64_t offset; /* of the next chunk, for messages */
	char *raw, *packed;
	size_t raw_bytes, raw_size, packed_size, pos;
	bool cut_short, ended;
};

static int damaged(struct pt_capture_reader *reader, const char *what, struct pt_err *err)
{
	reader->ended = true;
	reader->cut_short = true;
	return pt_err_set(
	    err, -EBADMSG, PT_EXIT_FAILED,
	    "The records before that place can still be used. Was the file copied in text mode, or "
	    "is its disk failing?",
	    "'%s' is damaged at byte %llu: %s", reader->path, (unsigned long long)reader->offset,
	    what);
}

/* Strings of a file may lack their NUL or hold anything. */
static void take_text(char *out, size_t size, const char *text, size_t len)
{
	pt_utf8_clean(out, size, text, strnlen(text, len));
}

static int check_header(const char *path, struct pt_capture_header *head, size_t bytes,
			struct pt_err *err)
{
	uint32_t crc = head->crc;

	if (memcmp(head->magic, PT_CAPTURE_MAGIC, sizeof(head->magic)))
		return pt_err_set(err, -EINVAL, PT_EXIT_FAILED,
				  "Record one with -o FILE.ptcap; traces (.json, .json.gz) are not "
				  "captures.",
				  "'%s' is not a capture file", path);
	if (bytes < sizeof(*head))
		return pt_err_set(err, -EBADMSG, PT_EXIT_FAILED, "Record it again.",
				  "'%s' ends within its header: nothing was recorded", path);
	if (head->version != PT_CAPTURE_VERSION || !head->abi_version ||
	    head->abi_version > PT_ABI_VERSION || head->header_bytes != sizeof(*head))
		return pt_err_set(err, -EPROTONOSUPPORT, PT_EXIT_UNSUPPORTED,
				  "Use the version of pytrace-bpf that wrote it.",
				  "'%s' has format %u.%u, this version reads %u.%u", path,
				  head->version, head->abi_version, PT_CAPTURE_VERSION,
				  PT_ABI_VERSION);
	head->crc = 0;
	if (crc != (uint32_t)crc32(0, (const Bytef *)head, sizeof(*head)))
		return pt_err_set(err, -EBADMSG, PT_EXIT_FAILED, "Copy the file again, in binary.",
				  "the header of '%s' is damaged", path);
	return 0;
}

int pt_capture_open(const char *path, struct pt_capture_reader **result,
		    struct pt_capture_info *info, struct pt_err *err)
{
	struct pt_capture_reader *reader = calloc(1, sizeof(*reader));
	struct pt_capture_header head;
	int rc = -ENOMEM;
	size_t bytes;

	if (!reader)
		goto fail;
	reader->path = strdup(path);
	reader->file = strcmp(path, "-") ? fopen(path, "rbe") : fdopen(0, "rb");
	if (!reader->path || !reader->file) {
		rc = reader->path ? -errno : -ENOMEM;
		goto fail;
	}
	memset(&head, 0, sizeof(head));
	bytes = fread(&head, 1, sizeof(head), reader->file);
	if (ferror(reader->file)) {
		rc = -EIO;
		goto fail;
	}
	rc = check_header(path, &head, bytes, err);
	if (rc)
		goto fail;
	reader->offset = sizeof(head);
	memset(info, 0, sizeof(*info));
	info->start_mono_ns = head.start_mono_ns;
	info->start_real_ns = head.start_real_ns;
	take_text(info->tool_version, sizeof(info->tool_version), head.tool_version,
		  sizeof(head.tool_version));
	take_text(info->kernel, sizeof(info->kernel), head.kernel, sizeof(head.kernel));
	take_text(info->host, sizeof(info->host), head.host, sizeof(head.host));
	take_text(info->engine, sizeof(info->engine), head.engine, sizeof(head.engine));
	take_text(info->interpreter, sizeof(info->interpreter), head.interpreter,
		  sizeof(head.interpreter));
	*result = reader;
	return 0;
fail:
	pt_capture_reader_free(reader);
	return pt_err_set(err, rc, rc == -EACCES ? PT_EXIT_PERMISSION : PT_EXIT_FAILED,
			  "Give the path of a .ptcap file that you may read.",
			  "cannot read '%s': %s", path, strerror(-rc));
}

static int inflate_chunk(struct pt_capture_reader *reader, const struct pt_capture_chunk *head)
{
	uLongf raw_bytes = head->raw_bytes;

	/* a stream that is longer than it says fails with Z_BUF_ERROR: nothing is overrun */
	if (uncompress((Bytef *)reader->raw, &raw_bytes, (const Bytef *)reader->packed,
		       head->stored_bytes) != Z_OK)
		return -EBADMSG;
	return raw_bytes == head->raw_bytes ? 0 : -EBADMSG;
}

static int check_chunk(struct pt_capture_reader *reader, const struct pt_capture_chunk *head,
		       struct pt_err *err)
{
	bool packed = head->flags & PT_CHUNK_DEFLATE;

	if (head->magic != PT_CHUNK_MAGIC ||
	    head->header_crc != (uint32_t)crc32(0, (const Bytef *)head,
						offsetof(struct pt_capture_chunk, header_crc)))
		return damaged(reader, "no chunk begins there", err);
	if (head->stored_bytes > PT_CHUNK_MAX_BYTES || head->raw_bytes > PT_CHUNK_MAX_BYTES ||
	    head->raw_bytes % 8 || (head->flags & ~(PT_CHUNK_DEFLATE | PT_CHUNK_END)) ||
	    (!packed && head->stored_bytes != head->raw_bytes))
		return damaged(reader, "an impossible chunk", err);
	return 0;
}

/* 1: a chunk lies in raw; 0: the end; -errno. */
static int read_chunk(struct pt_capture_reader *reader, struct pt_err *err)
{
	struct pt_capture_chunk head;
	bool packed;
	int rc;

	reader->pos = reader->raw_bytes = 0;
	if (fread(&head, 1, sizeof(head), reader->file) != sizeof(head))
		goto cut;
	rc = check_chunk(reader, &head, err);
	if (rc)
		return rc;
	if (head.flags & PT_CHUNK_END) {
		reader->ended = true;
		return 0;
	}
	packed = head.flags & PT_CHUNK_DEFLATE;
	if (grow(&reader->raw, &reader->raw_size, head.raw_bytes ? head.raw_bytes : 8) ||
	    (packed && grow(&reader->packed, &reader->packed_size, head.stored_bytes + 1))) {
		reader->ended = true;
		return -ENOMEM;
	}
	if (fread(packed ? reader->packed : reader->raw, 1, head.stored_bytes, reader->file) !=
	    head.stored_bytes)
		goto cut;
	if (packed && inflate_chunk(reader, &head))
		return damaged(reader, "the compressed data", err);
	if (head.crc != (uint32_t)crc32(0, (const Bytef *)reader->raw, head.raw_bytes))
		return damaged(reader, "the checksum", err);
	reader->offset += sizeof(head) + head.stored_bytes;
	reader->raw_bytes = head.raw_bytes;
	return 1;
cut:
	reader->cut_short = reader->ended = true;
	if (ferror(reader->file))
		return pt_err_set(err, -EIO, PT_EXIT_FAILED, "Is its disk failing?",
				  "cannot read '%s' at byte %llu", reader->path,
				  (unsigned long long)reader->offset);
	return 0;
}

/* len fits the file's bytes and the kind's fixed part; the rest is pt_record_check()'s. */
static bool record_fits(const struct pt_rec *record, size_t room)
{
	static const size_t fixed_bytes[] = {
#define X(name, number, type, text) [number] = sizeof(struct type),
	    PT_RECORDS(X)
#undef X
	};
	size_t least = sizeof(*record);

	if (room < least)
		return false;
	if (record->kind < sizeof(fixed_bytes) / sizeof(fixed_bytes[0]) &&
	    fixed_bytes[record->kind])
		least = fixed_bytes[record->kind];
	return record->len >= least && record->len <= room && record->len % 8 == 0;
}

int pt_capture_next(struct pt_capture_reader *reader, const struct pt_rec **record, size_t *len,
		    struct pt_err *err)
{
	const struct pt_rec *next;
	int rc;

	while (reader->pos == reader->raw_bytes) {
		if (reader->ended)
			return 0;
		rc = read_chunk(reader, err);
		if (rc <= 0)
			return rc;
	}
	next = (const struct pt_rec *)(reader->raw + reader->pos);
	if (!record_fits(next, reader->raw_bytes - reader->pos)) {
		reader->pos = reader->raw_bytes = 0;
		return damaged(reader, "a record's length", err);
	}
	*record = next;
	*len = next->len;
	reader->pos += next->len;
	return 1;
}

bool pt_capture_cut_short(const struct pt_capture_reader *reader)
{
	return reader->cut_short;
}

void pt_capture_reader_free(struct pt_capture_reader *reader)
{
	if (!reader)
		return;
	if (reader->file)
		fclose(reader->file);
	free(reader->path);
	free(reader->raw);
	free(reader->packed);
	free(reader);
}

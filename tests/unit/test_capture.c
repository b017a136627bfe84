// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Capture files: what goes in comes out; what is damaged or cut gives what is whole. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ingest/capture.h"
#include "ingest/capture_format.h"
#include "rec_builder.h"
#include "scratch.h"

static const struct pt_capture_info info = {
    .start_mono_ns = 1234567890,
    .start_real_ns = 1790000000000000000ull,
    .tool_version = "0.1.0",
    .kernel = "6.18",
    .host = "h\xc3\xb6st",
    .engine = "frame",
    .interpreter = "CPython 3.12.1",
};

static int write_record(const struct pt_rec *record, size_t len, void *ctx)
{
	return pt_capture_write(ctx, record, len, NULL);
}

/* count batches of a few hundred bytes each, numbered by seq. */
static void write_capture(const char *path, bool compress, unsigned int count)
{
	struct rec_thread t = rec_thread(1, 2, 3, "x");
	struct pt_capture_writer *writer;
	struct pt_err err = {0};
	struct rec_builder b;

	assert_int_equal(pt_capture_create(path, &info, compress, &writer, &err), 0);
	rec_init(&b, write_record, writer);
	for (unsigned int i = 0; i < count; i++) {
		batch_begin(&b, &t, 1000 * i);
		for (unsigned int j = 0; j < 30; j++)
			batch_enter(&b, 1 + (i * 7 + j * 13) % 1000, 1000 * i + j);
		batch_end(&b, 0);
	}
	assert_int_equal(b.rc, 0);
	assert_int_equal(pt_capture_close(writer, true, &err), 0);
	assert_false(pt_err_is_set(&err));
}

/* Reads all; the records have to be the first ones in order. Returns how many. */
static unsigned int read_capture(const char *path, int *rc, bool *cut)
{
	struct pt_capture_info got;
	struct pt_capture_reader *reader;
	const struct pt_rec *record;
	struct pt_err err = {0};
	unsigned int count = 0;
	size_t len;

	*cut = false;
	*rc = pt_capture_open(path, &reader, &got, &err);
	if (*rc) {
		assert_true(pt_err_is_set(&err));
		return 0;
	}
	assert_int_equal(got.start_mono_ns, info.start_mono_ns);
	assert_int_equal(got.start_real_ns, info.start_real_ns);
	assert_string_equal(got.host, info.host);
	assert_string_equal(got.interpreter, info.interpreter);
	while ((*rc = pt_capture_next(reader, &record, &len, &err)) > 0) {
		assert_int_equal(len, record->len);
		assert_int_equal(((const struct pt_rec_batch *)record)->seq, count);
		count++;
	}
	assert_int_equal(*rc < 0, pt_err_is_set(&err));
	*cut = pt_capture_cut_short(reader);
	pt_capture_reader_free(reader);
	return count;
}

static void test_round_trip(void **state)
{
	static const unsigned int counts[] = {0, 1, 800, 5000};
	const char *path = scratch_path("a.ptcap");
	int rc;
	bool cut;

	for (size_t i = 0; i < 4; i++) {
		for (int compress = 0; compress < 2; compress++) {
			write_capture(path, compress, counts[i]);
			assert_int_equal(read_capture(path, &rc, &cut), counts[i]);
			assert_int_equal(rc, 0);
			assert_false(cut);
		}
	}
	assert_int_equal(access(scratch_path("a.ptcap.tmp"), F_OK), -1);
	assert_int_equal(access(scratch_path("a.ptcap.tmp.reserve"), F_OK), -1);
}

static void test_discard(void **state)
{
	const char *path = scratch_path("gone.ptcap");
	struct pt_capture_writer *writer;
	struct pt_err err = {0};

	assert_int_equal(pt_capture_create(path, &info, true, &writer, &err), 0);
	assert_int_equal(access(scratch_path("gone.ptcap.tmp"), F_OK), 0);
	assert_int_equal(access(path, F_OK), -1); /* never half a file under its name */
	assert_int_equal(pt_capture_close(writer, false, &err), 0);
	assert_int_equal(access(scratch_path("gone.ptcap.tmp"), F_OK), -1);
	assert_int_equal(access(path, F_OK), -1);
}

/* Cut at any place: a prefix of the records comes out, and the cut is told. */
static void test_cut_short(void **state)
{
	const char *path = scratch_path("b.ptcap"), *cut_path = scratch_path("cut.ptcap");
	unsigned int whole = 0, count;
	FILE *file;
	size_t len;
	char *data;
	struct stat st;
	bool cut;
	int rc;

	write_capture(path, true, 5000);
	assert_int_equal(stat(path, &st), 0);
	len = (size_t)st.st_size;
	data = malloc(len);
	file = fopen(path, "rb");
	assert_int_equal(fread(data, 1, len, file), len);
	fclose(file);
	for (size_t at = 0; at < len; at += 1 + len / 97) {
		scratch_write(cut_path, data, at);
		count = read_capture(cut_path, &rc, &cut);
		if (at < sizeof(struct pt_capture_header)) {
			assert_true(rc < 0);
		} else {
			assert_int_equal(rc, 0);
			assert_true(cut);
			assert_true(count >= whole);
			whole = count;
		}
	}
	assert_true(whole > 3000);
	/* only the end chunk is missing */
	scratch_write(cut_path, data, len - sizeof(struct pt_capture_chunk));
	assert_int_equal(read_capture(cut_path, &rc, &cut), 5000);
	assert_true(cut);
	free(data);
}

/* Any flipped byte is noticed, and never does harm. */
static void test_flipped_bytes(void **state)
{
	const char *path = scratch_path("c.ptcap"), *bad = scratch_path("bad.ptcap");
	struct stat st;
	char *data;
	FILE *file;
	bool cut;
	int rc;

	write_capture(path, true, 900);
	assert_int_equal(stat(path, &st), 0);
	data = malloc((size_t)st.st_size);
	file = fopen(path, "rb");
	assert_int_equal(fread(data, 1, (size_t)st.st_size, file), st.st_size);
	fclose(file);
	for (off_t at = 0; at < st.st_size; at += at < 400 ? 1 : 1 + st.st_size / 211) {
		data[at] ^= 0x10;
		scratch_write(bad, data, (size_t)st.st_size);
		assert_true(read_capture(bad, &rc, &cut) < 900);
		assert_true(rc < 0);
		data[at] ^= 0x10;
	}
	free(data);
}

static void test_not_a_capture(void **state)
{
	struct pt_capture_reader *reader;
	struct pt_capture_info got;
	struct pt_err err = {0};

	assert_int_equal(pt_capture_open("/nonexistent/x", &reader, &got, &err), -ENOENT);
	assert_non_null(strstr(err.what, "/nonexistent/x"));
	pt_err_clear(&err);
	scratch_write(scratch_path("x.json"), "{}", 2);
	assert_int_equal(pt_capture_open(scratch_path("x.json"), &reader, &got, &err), -EINVAL);
	assert_string_not_equal(err.hint, "");
	pt_err_clear(&err);
	assert_int_equal(pt_capture_open("/", &reader, &got, &err), -EIO);
}

static void test_cannot_create(void **state)
{
	struct pt_capture_writer *writer;
	struct pt_err err = {0};

	assert_int_equal(pt_capture_create("/nonexistent/x.ptcap", &info, true, &writer, &err),
			 -ENOENT);
	assert_string_not_equal(err.hint, "");
	pt_err_clear(&err);
	assert_int_equal(pt_capture_create("/dev/full", &info, true, &writer, &err), -ENOSPC);
	assert_true(pt_err_is_set(&err));
}

/* The file system stops giving space: what reached the disk is kept and readable. */
static void fill_up(void)
{
	struct rlimit limit = {.rlim_cur = 400000, .rlim_max = 400000};
	struct rec_thread t = rec_thread(1, 2, 3, "x");
	struct pt_capture_writer *writer;
	struct pt_err err = {0};
	struct rec_builder b;
	int rc;

	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit) ||
	    pt_capture_create(scratch_path("full.ptcap"), &info, false, &writer, &err))
		_exit(2);
	rec_init(&b, write_record, writer);
	while (!b.rc) {
		batch_begin(&b, &t, 1000);
		for (unsigned int j = 0; j < 30; j++)
			batch_enter(&b, 1 + j, 1000 + j);
		batch_end(&b, 0);
	}
	rc = pt_capture_close(writer, true, &err);
	_exit(rc == -EFBIG && pt_err_is_set(&err) ? 0 : 3);
}

static void test_full_disk(void **state)
{
	int status, rc;
	bool cut;
	pid_t pid = fork();

	if (pid == 0)
		fill_up();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(read_capture(scratch_path("full.ptcap"), &rc, &cut) > 500);
	assert_int_equal(rc, 0);
	assert_true(cut);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_discard),
	    cmocka_unit_test(test_cut_short),     cmocka_unit_test(test_flipped_bytes),
	    cmocka_unit_test(test_not_a_capture), cmocka_unit_test(test_cannot_create),
	    cmocka_unit_test(test_full_disk),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Records: what is whole comes out, what is not is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "ingest/decode.h"
#include "rec_builder.h"

static uint64_t space[1024];

static int keep(const struct pt_rec *record, size_t len, void *ctx)
{
	memcpy(space, record, len);
	return 0;
}

static struct pt_rec_batch *sample(struct rec_thread *t)
{
	static const uint32_t open[] = {7, 8};
	struct rec_builder b;

	*t = rec_thread(1, 2, 3, "x");
	rec_init(&b, keep, NULL);
	batch_begin(&b, t, 5000);
	batch_snap(&b, open, 2, 9, 5001);
	batch_enter(&b, 0x1fffff, 5002);
	batch_enter(&b, 0x80000001u, 5003);
	batch_depth(&b, 20, 5004);
	batch_exit_to(&b, 19, 5000 + PT_WORD_TIME_MAX);
	batch_end(&b, 0);
	return (struct pt_rec_batch *)space;
}

static void assert_event(struct pt_batch_iter *iter, enum pt_ev_kind kind, uint32_t code_id,
			 uint32_t depth, uint64_t ns)
{
	struct pt_ev event = {0};

	assert_int_equal(pt_batch_next(iter, &event), 1);
	assert_int_equal(event.kind, kind);
	assert_int_equal(event.time_ns, ns);
	if (kind == PT_EV_ENTER || kind == PT_EV_OPEN)
		assert_int_equal(event.code_id, code_id);
	if (kind != PT_EV_ENTER)
		assert_int_equal(event.depth, depth);
}

static void test_batch_comes_out_in_order(void **state)
{
	struct rec_thread t;
	struct pt_rec_batch *batch = sample(&t);
	struct pt_batch_iter iter;
	struct pt_ev event;

	assert_int_equal(pt_batch_begin(&iter, batch, batch->hdr.len), 0);
	assert_event(&iter, PT_EV_SNAP, 0, 9, 5001);
	assert_event(&iter, PT_EV_OPEN, 7, 9, 5001);
	assert_event(&iter, PT_EV_OPEN, 8, 8, 5001);
	assert_event(&iter, PT_EV_ENTER, 0x1fffff, 0, 5002);
	assert_event(&iter, PT_EV_ENTER, 0x80000001u, 0, 5003);
	assert_event(&iter, PT_EV_DEPTH, 0, 20, 5004);
	assert_event(&iter, PT_EV_EXIT, 0, 19, 5000 + PT_WORD_TIME_MAX);
	assert_int_equal(pt_batch_next(&iter, &event), 0);
}

static void test_skip_ends_at_items(void **state)
{
	/* words: snap 0-1, open 2-4, enter 5, long enter 6-7, depth 8-9, exit 10 */
	static const uint32_t ends[] = {0, 2, 5, 6, 8, 10, 11};
	struct rec_thread t;
	struct pt_rec_batch *batch = sample(&t);
	struct pt_batch_iter iter;

	for (uint32_t words = 0; words <= 12; words++) {
		bool at_item = false;

		for (size_t i = 0; i < 7; i++)
			at_item |= ends[i] == words;
		assert_int_equal(pt_batch_begin(&iter, batch, batch->hdr.len), 0);
		assert_int_equal(pt_batch_skip(&iter, words), at_item ? 0 : -EBADMSG);
	}
}

static void assert_refused(struct pt_rec *record, size_t len)
{
	assert_int_equal(pt_record_check(record, len), -EBADMSG);
}

static void test_damaged_batches(void **state)
{
	struct rec_thread t;
	struct pt_rec_batch *batch = sample(&t);
	size_t len = batch->hdr.len;

	assert_int_equal(pt_record_check(&batch->hdr, len), 0);
	assert_refused(&batch->hdr, len - 8);
	assert_refused(&batch->hdr, 24);
	batch->word_count++; /* more words than the record has */
	assert_refused(&batch->hdr, len);
	sample(&t)->word_count = PT_BATCH_WORDS + 1;
	assert_refused(&batch->hdr, len);
	sample(&t)->events++;
	assert_refused(&batch->hdr, len);
	batch->hdr.flags = PT_RF_PEEK; /* the header of a copy may be older than its words */
	assert_int_equal(pt_record_check(&batch->hdr, len), 0);
	sample(&t)->hdr.image_id = 0;
	assert_refused(&batch->hdr, len);
	sample(&t)->base_ns = ~0ull;
	assert_refused(&batch->hdr, len);
	sample(&t)->hdr.kind = 77;
	assert_refused(&batch->hdr, len);
	for (unsigned int kind = 3; kind < 8; kind++) {
		sample(&t)->words[5] = PT_WORD(kind, 1, 1);
		batch->events = 2;
		if (kind != PT_W_LINE)
			assert_refused(&batch->hdr, len);
		else
			assert_int_equal(pt_record_check(&batch->hdr, len), 0);
	}
	sample(&t)->words[5] = PT_WORD(PT_W_LINE, 1, 0); /* nor has a caller */
	batch->events = 2;
	assert_refused(&batch->hdr, len);
	sample(&t)->words[5] = PT_WORD(PT_W_LINE, 1, 1ull << 32);
	batch->events = 2;
	assert_refused(&batch->hdr, len);
	sample(&t)->words[5] = PT_WORD(PT_W_ENTER, 0, 1); /* no code has id 0 */
	assert_refused(&batch->hdr, len);
	sample(&t)->words[2] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_OPEN, 8), 1); /* to the end, +0 */
	batch->events = 0;
	assert_int_equal(pt_record_check(&batch->hdr, len), 0);
	batch->words[2] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_OPEN, 9), 1); /* beyond */
	assert_refused(&batch->hdr, len);
	sample(&t)->words[2] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_BLOCK, 8), 1);
	assert_refused(&batch->hdr, len);
	for (uint64_t desc = 3; desc <= PT_BLOCK_DESC(PT_BLOCK_DEVICE, 256); desc += 65535) {
		sample(&t)->words[2] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_BLOCK, 3), 1);
		batch->words[5] = desc << PT_RT_SHIFT; /* of nobody; of a device beyond 255 */
		assert_refused(&batch->hdr, len);
	}
	sample(&t)->words[0] = PT_WORD(PT_W_EXT, PT_EXT_ARG(99, 1), 1);
	assert_refused(&batch->hdr, len);
	sample(&t)->words[0] = PT_WORD(PT_W_EXT, PT_EXT_ARG(PT_X_SNAP, 0), 1);
	assert_refused(&batch->hdr, len);
}

static struct pt_rec_code *code_record(const void *name, uint16_t bytes, uint8_t width)
{
	struct pt_rec_code *code = (struct pt_rec_code *)space;

	memset(space, 0, sizeof(space));
	code->hdr.kind = PT_REC_CODE;
	code->hdr.len = (uint32_t)(sizeof(*code) + ((bytes + 7u) & ~7u));
	code->id = 5;
	code->str[PT_STR_NAME].bytes = bytes;
	code->str[PT_STR_NAME].width = width;
	memcpy(code->data, name, bytes);
	return code;
}

static void test_strings(void **state)
{
	static const uint16_t ucs2[] = {'a', 0xe9, 0x20ac, 0xd800, 0xdc00};
	static const uint32_t ucs4[] = {0x1f600, 'b', 0x110000, 0};
	char out[64];

	assert_int_equal(pt_str_utf8(code_record("caf\xe9", 4, 1), PT_STR_NAME, out, 64), 6);
	assert_string_equal(out, "caf\xc3\xa9");
	pt_str_utf8(code_record(ucs2, sizeof(ucs2), 2), PT_STR_NAME, out, 64);
	assert_string_equal(out, "a\xc3\xa9\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd");
	pt_str_utf8(code_record(ucs4, sizeof(ucs4), 4), PT_STR_NAME, out, 64);
	assert_string_equal(out, "\xf0\x9f\x98\x80"
				 "b\xef\xbf\xbd\xef\xbf\xbd");
	/* whole characters only, and the NUL */
	assert_int_equal(pt_str_utf8(code_record("x\xe9y", 3, 1), PT_STR_NAME, out, 3), 5);
	assert_string_equal(out, "x");
	assert_int_equal(pt_str_utf8(code_record("", 0, 0), PT_STR_FILE, out, 64), 1);
	assert_string_equal(out, "");
	assert_int_equal(pt_str_utf8(code_record("abc", 3, 1), PT_STR_NAME, NULL, 0), 4);
}

static void test_damaged_codes(void **state)
{
	struct pt_rec_code *code = code_record("abcdef", 6, 1);

	assert_int_equal(pt_record_check(&code->hdr, code->hdr.len), 0);
	code->str[PT_STR_NAME].width = 3;
	assert_refused(&code->hdr, code->hdr.len);
	code->str[PT_STR_NAME].width = 4; /* six bytes are no whole characters */
	assert_refused(&code->hdr, code->hdr.len);
	code->str[PT_STR_NAME].width = 2;
	assert_int_equal(pt_record_check(&code->hdr, code->hdr.len), 0);
	code->str[PT_STR_FILE].bytes = 4;
	code->str[PT_STR_FILE].width = 1;
	assert_refused(&code->hdr, code->hdr.len); /* ten bytes in eight */
	code = code_record("abcdef", 6, 1);
	code->id = 0;
	assert_refused(&code->hdr, code->hdr.len);
}

static void test_other_records(void **state)
{
	static const uint32_t ids[] = {1, 2, 3};
	struct rec_thread t = rec_thread(1, 2, 3, "x");
	struct pt_rec *record = (struct pt_rec *)space;
	struct rec_builder b;

	rec_init(&b, keep, NULL);
	rec_stack(&b, &t, 10, ids, 3, 3);
	assert_int_equal(pt_record_check(record, record->len), 0);
	((struct pt_rec_stack *)record)->frame_count = 4;
	assert_refused(record, record->len);
	((struct pt_rec_stack *)record)->frame_count = ~0u;
	assert_refused(record, record->len);
	rec_proc(&b, PT_PROC_ATTACH, 1, 1, 10, 0, "x", "cmd line", 0);
	assert_int_equal(pt_record_check(record, record->len), 0);
	((struct pt_rec_proc *)record)->text_bytes = 9;
	assert_refused(record, record->len);
	((struct pt_rec_proc *)record)->text_bytes = 0;
	((struct pt_rec_proc *)record)->what = 0;
	assert_refused(record, record->len);
	rec_thread_start(&b, &t, 10);
	assert_int_equal(pt_record_check(record, record->len), 0);
	((struct pt_rec_thread *)record)->what = 0;
	assert_refused(record, record->len);
	rec_note(&b, PT_NOTE_GATE_OPEN, 10, 0);
	assert_int_equal(pt_record_check(record, record->len), 0);
	rec_rank(&b, 1, 1, 7, 8, 10);
	assert_int_equal(pt_record_check(record, record->len), 0);
	((struct pt_rec_rank *)record)->rank = 8;
	assert_refused(record, record->len);
	((struct pt_rec_rank *)record)->world_size = 0x80000000;
	assert_refused(record, record->len);
}

static void test_damaged_kernels(void **state)
{
	struct pt_rec_cuda_kernel *kernel = (struct pt_rec_cuda_kernel *)space;
	struct rec_builder b;

	rec_init(&b, keep, NULL);
	rec_cuda_kernel(&b, 1, 1, 0x1234, "name", 1, "/lib/x.so", 10);
	assert_int_equal(pt_record_check(&kernel->hdr, kernel->hdr.len), 0);
	kernel->data[2] = 0;
	assert_refused(&kernel->hdr, kernel->hdr.len);
	kernel->data[2] = 'm';
	kernel->names = 0; /* but a name */
	assert_refused(&kernel->hdr, kernel->hdr.len);
	kernel->names = 1;
	kernel->path_bytes = 13;
	assert_refused(&kernel->hdr, kernel->hdr.len);
	kernel->name_bytes = 0xfffffff8; /* the sum would be small again */
	assert_refused(&kernel->hdr, kernel->hdr.len);
	kernel->name_bytes = 0;
	assert_refused(&kernel->hdr, kernel->hdr.len);
}

static void test_utf8_clean(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
	    {"plain", "plain"},
	    {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
	    {"\xff", "\xef\xbf\xbd"},
	    {"\xc3", "\xef\xbf\xbd"},
	    {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
	    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
	    {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
	    {"a\xe2\x82z", "a\xef\xbf\xbd\xef\xbf\xbdz"},
	};
	char out[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pt_utf8_clean(out, sizeof(out), cases[i].in, strlen(cases[i].in));
		assert_string_equal(out, cases[i].out);
	}
	assert_int_equal(pt_utf8_clean(out, sizeof(out), "a\0b", 3), 5);
	assert_int_equal(pt_utf8_clean(out, 3, "\xe2\x82\xac", 3), 0);
	assert_int_equal(pt_utf8_clean(out, 4, "\xe2\x82\xac", 3), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_batch_comes_out_in_order),
	    cmocka_unit_test(test_skip_ends_at_items),
	    cmocka_unit_test(test_damaged_batches),
	    cmocka_unit_test(test_strings),
	    cmocka_unit_test(test_damaged_codes),
	    cmocka_unit_test(test_damaged_kernels),
	    cmocka_unit_test(test_other_records),
	    cmocka_unit_test(test_utf8_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

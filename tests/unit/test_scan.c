// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What refers to an address in a file's code and data, against a look at each byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "elf_builder.h"
#include "python/scan.h"

#define ROUNDS   200
#define TARGET   (ELF_DATA + 0x123u)
#define HITS_MAX ELF_CODE_BYTES

struct hits {
	uint64_t vaddrs[HITS_MAX], targets[HITS_MAX];
	size_t count, stop_at;
};

static int hit(uint64_t vaddr, uint64_t target, void *ctx)
{
	struct hits *hits = ctx;

	assert_true(hits->count < HITS_MAX);
	hits->vaddrs[hits->count] = vaddr;
	hits->targets[hits->count++] = target;
	return hits->count == hits->stop_at ? 7 : 0;
}

static uint64_t target_at(const uint8_t *code, size_t at)
{
	int32_t distance;

	memcpy(&distance, code + at, sizeof(distance));
	return ELF_CODE + at + 4 + (uint64_t)(int64_t)distance;
}

/* ---- what each byte is ---- */

static void see_calls(const uint8_t *code, size_t size, struct hits *hits)
{
	for (size_t i = 0; i + 5 <= size; i++)
		if (code[i] == 0xe8 && target_at(code, i + 1) - ELF_CODE < size)
			hit(ELF_CODE + i, target_at(code, i + 1), hits);
}

static void see_jumps(const uint8_t *code, size_t size, struct hits *hits)
{
	for (size_t i = 0; i + 6 <= size; i++) {
		size_t skip = code[i] == 0xe9 ? 1 : 2;

		if (code[i] != 0xe9 && !(code[i] == 0x0f && code[i + 1] >> 4 == 8))
			continue;
		if (target_at(code, i + skip) >= ELF_CODE &&
		    target_at(code, i + skip) < ELF_CODE + 0x100)
			hit(ELF_CODE + i, target_at(code, i + skip), hits);
	}
}

static void see_references(const uint8_t *code, size_t size, struct hits *hits)
{
	for (size_t i = 0; i + 6 <= size; i++) {
		uint32_t number;

		memcpy(&number, code + i + 1, sizeof(number));
		if (code[i] >= 0xb8 && code[i] <= 0xbf && number == TARGET)
			hit(ELF_CODE + i, TARGET, hits);
		if (i && (code[i - 1] == 0x48 || code[i - 1] == 0x4c) && code[i] == 0x8d &&
		    (code[i + 1] & 0xc7) == 5 && target_at(code, i + 2) == TARGET)
			hit(ELF_CODE + i - 1, TARGET, hits);
	}
}

/* ---- the code ---- */

/* Instructions of the wanted kinds, whole and cut, that lead near to their targets and far. */
static void fill(uint8_t *code, unsigned int seed)
{
	static const uint8_t opcodes[][3] = {{0xe8},
					     {0xe9},
					     {0x0f, 0x84},
					     {0x0f, 0x1f},
					     {0xb9},
					     {0x48, 0x8d, 0x05},
					     {0x4c, 0x8d, 0x3d},
					     {0x8d, 0x05},
					     {0xc3}};
	static const size_t bytes[] = {1, 1, 2, 2, 1, 3, 3, 2, 1};

	srand(seed);
	for (size_t i = 0; i + 16 < ELF_CODE_BYTES;) {
		size_t kind = (size_t)rand() % (sizeof(bytes) / sizeof(bytes[0]));
		size_t end = i + bytes[kind] + 4;
		uint32_t number = TARGET - (uint32_t)(ELF_CODE + end);

		if (rand() % 2)
			number = (uint32_t)(rand() % 0x300) - (uint32_t)end;
		else if (kind == 4 || rand() % 4 == 0)
			number = TARGET;
		memcpy(code + i, opcodes[kind], bytes[kind]);
		memcpy(code + i + bytes[kind], &number, sizeof(number));
		i += rand() % 3 ? end - i : (size_t)rand() % 9 + 1;
	}
	memcpy(code + ELF_CODE_BYTES - 5, "\xe8\x00\x00\x00\xff", 5);
}

static void check(const struct elf_file *elf, const struct hits *expected, int which)
{
	struct hits *got = calloc(1, sizeof(*got));
	int rc;

	assert_non_null(got);
	got->stop_at = expected->stop_at;
	if (which == 0)
		rc = scan_calls(elf, hit, got);
	else if (which == 1)
		rc = scan_jumps(elf, ELF_CODE, ELF_CODE + 0x100, hit, got);
	else
		rc = scan_references(elf, TARGET, hit, got);
	assert_int_equal(rc, expected->stop_at ? 7 : 0);
	assert_int_equal(got->count, expected->stop_at ? expected->stop_at : expected->count);
	for (size_t i = 0; i < got->count; i++) {
		assert_int_equal(got->vaddrs[i], expected->vaddrs[i]);
		assert_int_equal(got->targets[i], expected->targets[i]);
	}
	free(got);
}

static void test_as_byte_by_byte(void **state)
{
	static void (*const see[])(const uint8_t *code, size_t size,
				   struct hits *hits) = {see_calls, see_jumps, see_references};
	struct elf_image *image = malloc(sizeof(*image));
	size_t total[3] = {0};

	(void)state;
	assert_non_null(image);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct elf_file *elf;

		elf_build(image, NULL, 0);
		fill(image->bytes + ELF_CODE, round);
		assert_int_equal(elf_file_memory(image, sizeof(*image), &elf, NULL), 0);
		for (int which = 0; which < 3; which++) {
			struct hits *expected = calloc(1, sizeof(*expected));

			assert_non_null(expected);
			see[which](image->bytes + ELF_CODE, ELF_CODE_BYTES, expected);
			total[which] += expected->count;
			check(elf, expected, which);
			expected->stop_at = expected->count / 2;
			check(elf, expected, which);
			free(expected);
		}
		elf_file_close(elf);
	}
	/* there was something to find */
	for (int which = 0; which < 3; which++)
		assert_true(total[which] > ROUNDS * 10);
	free(image);
}

/* A segment that ends beyond the file's end: what there is of it. */
static void test_cut_file(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct hits *got = calloc(1, sizeof(*got));
	struct elf_file *elf;

	(void)state;
	assert_non_null(image);
	assert_non_null(got);
	elf_build(image, "\xe8\x00\x00\x00\x00", 5);
	elf_segments(image)[0].p_filesz = 0x1080; /* more than the whole file has is not believed */
	memcpy(image->bytes + ELF_CODE + 0x100, "\xe8\x00\x00\x00\x00", 5);
	assert_int_equal(elf_file_memory(image, ELF_CODE + 0x104, &elf, NULL), 0);
	assert_int_equal(scan_calls(elf, hit, got), 0);
	assert_int_equal(got->count, 1);
	assert_int_equal(got->vaddrs[0], ELF_CODE);
	assert_int_equal(scan_references(elf, TARGET, hit, got), 0);
	assert_int_equal(scan_bytes(elf, "\xe8\x00\x00\x00\x00", 5), ELF_CODE);
	assert_int_equal(got->count, 1);
	elf_file_close(elf);
	free(got);
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_as_byte_by_byte),
	    cmocka_unit_test(test_cut_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

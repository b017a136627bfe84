// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* PyMethodDef records: in small files made here, and in every interpreter and extension module of
 * those installed, as they know their own C functions. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "elf_builder.h"
#include "interpreters.h"
#include "python/method_defs.h"

/* ---- files made here ---- */

#define AT_STRINGS (ELF_DATA + 0x1000)
#define AT_TABLE   (ELF_DATA + 0x100) /* two records and the end */
#define AT_MODULE  (ELF_DATA + 0x300)
#define AT_TYPE    (ELF_DATA + 0x400)
#define AT_SLOTS   (ELF_DATA + 0x600)
#define AT_SPEC    (ELF_DATA + 0x700)
#define AT_DYNSTR  (ELF_DATA + 0x1200) /* the same strings */
#define AT_RELA    (ELF_DATA + 0x1800)
#define AT_HEADERS (ELF_DATA + 0x1c00)

enum { S_NONE, S_CODE, S_TEXTS, S_STRINGS, S_DYNSYM, S_RELA, S_COUNT };

static const char strings[] = "\0PyModule_Create2\0sleep\0wait_for\0demo\0demo.Thing\0not-a-name\0"
			      "PyInit__demo";

enum { N_PY = 1, N_SLEEP = 18, N_WAIT = 24, N_DEMO = 33, N_THING = 38, N_BAD = 49, N_INIT = 60 };

static void put(struct elf_image *image, uint64_t vaddr, uint64_t value)
{
	memcpy(image->bytes + vaddr, &value, sizeof(value));
}

static void put_record(struct elf_image *image, uint64_t vaddr, uint64_t name, uint64_t meth,
		       uint32_t flags)
{
	put(image, vaddr, AT_STRINGS + name);
	put(image, vaddr + 8, meth);
	put(image, vaddr + 16, flags);
	put(image, vaddr + 24, 0);
}

static void section(struct elf_image *image, int index, uint32_t type, uint64_t at, uint64_t size,
		    uint32_t link)
{
	Elf64_Shdr *headers = (Elf64_Shdr *)(image->bytes + AT_HEADERS);

	headers[index] = (Elf64_Shdr){.sh_type = type,
				      .sh_flags = SHF_ALLOC | (index == S_CODE ? SHF_EXECINSTR : 0),
				      .sh_addr = at,
				      .sh_offset = at,
				      .sh_size = size,
				      .sh_entsize = type == SHT_DYNSYM ? sizeof(Elf64_Sym) : 0,
				      .sh_link = link};
}

/* Two records that nothing points to. */
static void build(struct elf_image *image)
{
	elf_build(image, NULL, 0);
	memcpy(image->bytes + AT_STRINGS, strings, sizeof(strings));
	put_record(image, AT_TABLE, N_SLEEP, ELF_CODE + 0x40, 8);
	put_record(image, AT_TABLE + 32, N_WAIT, ELF_CODE + 0x20, 0x82);
	memcpy(image->bytes + AT_DYNSTR, strings, sizeof(strings));
	section(image, S_CODE, SHT_PROGBITS, ELF_CODE, ELF_CODE_BYTES, 0);
	section(image, S_TEXTS, SHT_PROGBITS, AT_STRINGS, sizeof(strings), 0);
	section(image, S_STRINGS, SHT_STRTAB, AT_DYNSTR, sizeof(strings), 0);
	elf_head(image)->e_shoff = AT_HEADERS;
	elf_head(image)->e_shnum = S_COUNT;
}

static void put_module(struct elf_image *image)
{
	put(image, AT_MODULE + 40, AT_STRINGS + N_DEMO);
	put(image, AT_MODULE + 56, UINT64_MAX);
	put(image, AT_MODULE + 64, AT_TABLE);
}

static void put_type(struct elf_image *image, uint64_t name)
{
	put(image, AT_TYPE + 24, AT_STRINGS + name);
	put(image, AT_TYPE + 32, 64);
	put(image, AT_TYPE + 232, AT_TABLE);
}

static void put_spec(struct elf_image *image)
{
	put(image, AT_SLOTS, 52); /* Py_tp_dealloc */
	put(image, AT_SLOTS + 8, ELF_CODE + 0x60);
	put(image, AT_SLOTS + 16, 64);
	put(image, AT_SLOTS + 24, AT_TABLE);
	put(image, AT_SPEC, AT_STRINGS + N_THING);
	put(image, AT_SPEC + 8, 32);
	put(image, AT_SPEC + 24, AT_SLOTS);
}

static struct elf_file *open_image(const struct elf_image *image)
{
	struct pt_err err = {0};
	struct elf_file *elf;

	assert_int_equal(elf_file_memory(image, sizeof(*image), &elf, &err), 0);
	return elf;
}

/* Both records are there, the one at the lower function first, with that owner. */
static void expect(const struct elf_image *image, const char *owner, enum py_def_owner kind)
{
	struct elf_file *elf = open_image(image);
	struct py_method_defs found;

	assert_int_equal(py_method_defs_find(elf, &found), 0);
	assert_int_equal(found.count, 2);
	assert_string_equal(found.defs[0].name, "wait_for");
	assert_string_equal(found.defs[1].name, "sleep");
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(found.defs[i].kind, kind);
		if (owner)
			assert_string_equal(found.defs[i].owner, owner);
		else
			assert_null(found.defs[i].owner);
	}
	assert_int_equal(found.defs[0].def, AT_TABLE + 32);
	assert_int_equal(found.defs[0].meth, ELF_CODE + 0x20);
	assert_int_equal(found.defs[0].flags, 0x82);
	py_method_defs_release(&found);
	elf_file_close(elf);
}

static size_t count_of(const struct elf_image *image)
{
	struct elf_file *elf = open_image(image);
	struct py_method_defs found;
	size_t count;

	assert_int_equal(py_method_defs_find(elf, &found), 0);
	count = found.count;
	py_method_defs_release(&found);
	elf_file_close(elf);
	return count;
}

static void test_owners(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));

	build(image);
	expect(image, NULL, PY_DEF_UNKNOWN);
	put_module(image);
	expect(image, "demo", PY_DEF_MODULE);
	build(image);
	put_type(image, N_THING);
	expect(image, "demo.Thing", PY_DEF_TYPE);
	build(image);
	put_spec(image);
	expect(image, "demo.Thing", PY_DEF_TYPE);
	/* the table of two owners */
	put_type(image, N_DEMO);
	assert_int_equal(count_of(image), 4);
	/* what has no good name is no owner */
	build(image);
	put_type(image, N_BAD);
	expect(image, NULL, PY_DEF_UNKNOWN);
	free(image);
}

/* A table ends where a record has no name; what lies behind is another's. */
static void test_end_of_table(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct py_method_defs found;
	struct elf_file *elf;

	build(image);
	put_module(image);
	put_record(image, AT_TABLE + 96, N_WAIT, ELF_CODE + 0x80, 1);
	elf = open_image(image);
	assert_int_equal(py_method_defs_find(elf, &found), 0);
	assert_int_equal(found.count, 3);
	assert_int_equal(found.defs[2].meth, ELF_CODE + 0x80);
	assert_int_equal(found.defs[2].kind, PY_DEF_UNKNOWN);
	py_method_defs_release(&found);
	elf_file_close(elf);
	free(image);
}

/* Pointers that stand in relocations only, as in every shared library. */
static void test_relocations(void **state)
{
	static const uint64_t places[] = {AT_TABLE,      AT_TABLE + 8,   AT_TABLE + 32,
					  AT_TABLE + 40, AT_MODULE + 40, AT_MODULE + 64};
	struct elf_image *image = malloc(sizeof(*image));
	Elf64_Sym *syms;
	Elf64_Rela *relas;
	struct elf_file *elf;
	struct py_method_defs found;

	build(image);
	put_module(image);
	relas = (Elf64_Rela *)(image->bytes + AT_RELA);
	syms = (Elf64_Sym *)(image->bytes + AT_RELA + 0x200);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		uint64_t value;

		memcpy(&value, image->bytes + places[i], sizeof(value));
		put(image, places[i], 0);
		relas[i] = (Elf64_Rela){places[i], ELF64_R_INFO(0, R_X86_64_RELATIVE),
					(Elf64_Sxword)value};
	}
	section(image, S_DYNSYM, SHT_DYNSYM, AT_RELA + 0x200, 3 * sizeof(*syms), S_STRINGS);
	section(image, S_RELA, SHT_RELA, AT_RELA, sizeof(places) / 8 * sizeof(*relas), S_DYNSYM);
	expect(image, "demo", PY_DEF_MODULE);
	/* by symbol: one of this file's, then one of another's */
	syms[1] = (Elf64_Sym){N_WAIT, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 1, ELF_CODE + 0x20,
			      9};
	relas[3] = (Elf64_Rela){places[3], ELF64_R_INFO(1, R_X86_64_64), 0};
	expect(image, "demo", PY_DEF_MODULE);
	syms[1].st_shndx = SHN_UNDEF;
	elf = open_image(image);
	assert_int_equal(py_method_defs_find(elf, &found), 0);
	assert_int_equal(found.count, 2);
	assert_string_equal(found.defs[0].name, "wait_for");
	assert_int_equal(found.defs[0].meth, 0);
	py_method_defs_release(&found);
	elf_file_close(elf);
	free(image);
}

/* A module that is loaded under another name than its m_name. */
static void test_init_name(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct py_method_defs found;
	struct elf_file *elf;
	size_t demo = 0;

	build(image);
	put_module(image);
	section(image, S_DYNSYM, SHT_DYNSYM, AT_RELA, 2 * sizeof(Elf64_Sym), S_STRINGS);
	((Elf64_Sym *)(image->bytes + AT_RELA))[1] = (Elf64_Sym){
	    N_INIT, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 1, ELF_CODE + 0x20, 9};
	elf = open_image(image);
	assert_int_equal(py_method_defs_find(elf, &found), 0);
	assert_int_equal(found.count, 4);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(found.defs[i].kind, PY_DEF_MODULE);
		demo += !strcmp(found.defs[i].owner, "_demo");
	}
	assert_int_equal(demo, 2);
	py_method_defs_release(&found);
	elf_file_close(elf);
	free(image);
}

/* A program linked to fixed addresses may have its tables where it cannot write. */
static void test_fixed_addresses(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));

	build(image);
	elf_segments(image)[1].p_flags = PF_R;
	assert_int_equal(count_of(image), 0);
	elf_head(image)->e_type = ET_EXEC;
	put_module(image);
	expect(image, "demo", PY_DEF_MODULE);
	free(image);
}

/* As older linkers do: texts and code in one segment. Sections tell which is which. */
static void test_one_segment(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));

	build(image);
	put_module(image);
	memcpy(image->bytes + ELF_CODE + 0x800, strings, sizeof(strings));
	for (uint64_t at = AT_TABLE; at <= AT_TABLE + 32; at += 32)
		put(image, at, ELF_CODE + 0x800 + (at == AT_TABLE ? N_SLEEP : N_WAIT));
	put(image, AT_MODULE + 40, ELF_CODE + 0x800 + N_DEMO);
	section(image, S_CODE, SHT_PROGBITS, ELF_CODE, 0x800, 0);
	section(image, S_TEXTS, SHT_PROGBITS, ELF_CODE + 0x800, sizeof(strings), 0);
	expect(image, "demo", PY_DEF_MODULE);
	/* a text is no function */
	put(image, AT_TABLE + 8, ELF_CODE + 0x800 + N_DEMO);
	assert_int_equal(count_of(image), 1);
	free(image);
}

static void test_no_records(void **state)
{
	static const uint32_t flags[] = {0, 2, 3 | 4, 8 | 0x10 | 0x20, 0x200, 0x280, 0x400, 12};
	struct elf_image *image = malloc(sizeof(*image));

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		build(image);
		put(image, AT_TABLE + 16, flags[i]);
		assert_int_equal(count_of(image), 1);
	}
	build(image);
	put(image, AT_TABLE, AT_STRINGS + N_BAD);
	assert_int_equal(count_of(image), 1);
	put(image, AT_TABLE + 32, AT_STRINGS); /* "" */
	assert_int_equal(count_of(image), 0);
	build(image);
	put(image, AT_TABLE + 8, AT_STRINGS); /* no code */
	put(image, AT_TABLE + 56, ELF_CODE);  /* a text in code */
	assert_int_equal(count_of(image), 0);
	/* a file that has nothing to do with Python */
	build(image);
	image->bytes[AT_DYNSTR + N_PY] = image->bytes[AT_DYNSTR + N_INIT] = 'X';
	assert_int_equal(count_of(image), 0);
	free(image);
}

/* Whatever stands in the file, nothing is read outside of it. */
static void test_damaged(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));

	srand(1);
	for (int round = 0; round < 3000; round++) {
		struct pt_err err = {0};
		struct py_method_defs found;
		struct elf_file *elf;

		build(image);
		put_module(image);
		put_spec(image);
		for (int i = 0; i < 8; i++)
			image->bytes[ELF_DATA + (unsigned int)rand() % 0x800] = (uint8_t)rand();
		image->bytes[(unsigned int)rand() % 0xc0] = (uint8_t)rand();
		if (elf_file_memory(image, sizeof(*image), &elf, &err))
			continue;
		if (!py_method_defs_find(elf, &found))
			py_method_defs_release(&found);
		elf_file_close(elf);
	}
	free(image);
}

/* ---- real ones ---- */

#define FILES_MAX 256

struct file {
	char path[2 * PATH_MAX];
	uint64_t first; /* address of its first segment, as dladdr() counts */
	struct elf_file *elf;
	struct py_method_defs found;
};

struct tally {
	size_t files, lines, elsewhere, unowned;
};

static struct file *file_of(struct file *files, struct tally *tally, const char *path)
{
	struct pt_err err = {0};
	struct file *file = files;

	for (; file < files + tally->files; file++)
		if (!strcmp(file->path, path))
			return file;
	assert_true(tally->files++ < FILES_MAX);
	snprintf(file->path, sizeof(file->path), "%s", path);
	if (elf_file_open(path, &file->elf, &err))
		fail_msg("%s", err.what);
	file->first = UINT64_MAX;
	for (size_t i = 0; i < file->elf->segment_count; i++)
		if (file->elf->segments[i].type == PT_LOAD &&
		    file->elf->segments[i].vaddr < file->first)
			file->first = file->elf->segments[i].vaddr & ~4095ull;
	assert_int_equal(py_method_defs_find(file->elf, &file->found), 0);
	return file;
}

/* A module's name is known without its package. */
static bool owner_is(const struct py_method_def *def, char kind, const char *owner)
{
	const char *last = strrchr(owner, '.'), *have = def->owner;

	if (!have || def->kind != (kind == 'M' ? PY_DEF_MODULE : PY_DEF_TYPE))
		return false;
	if (kind == 'M' && last) {
		const char *dot = strrchr(have, '.');

		return !strcmp(last + 1, dot ? dot + 1 : have);
	}
	return !strcmp(owner, have);
}

/* Methods that CPython gives to types while it runs: structseq.c, _ctypes.c. */
static bool given_late(const char *name)
{
	return !strcmp(name, "__reduce__") || !strcmp(name, "__replace__") ||
	       !strcmp(name, "from_param");
}

static void compare(struct file *files, struct tally *tally, const char *root, const char *line)
{
	char path[PATH_MAX], full[2 * PATH_MAX], name[256], owner[256], kind;
	unsigned long long def, meth;
	bool found = false, owned = false;
	struct file *file;
	unsigned int flags;

	if (sscanf(line, "%4095s %llx %llx %u %255s %c %255s", path, &def, &meth, &flags, name,
		   &kind, owner) != 7)
		fail_msg("%s", line);
	snprintf(full, sizeof(full), "%s%s", root, path);
	file = file_of(files, tally, full);
	for (size_t i = 0; i < file->found.count; i++) {
		const struct py_method_def *have = &file->found.defs[i];

		if (have->def != def + file->first)
			continue;
		found = have->flags == flags && !strcmp(have->name, name) &&
			have->meth == (meth ? meth + file->first : 0);
		owned |= owner_is(have, kind, owner);
	}
	if (!found)
		fail_msg("not found: %s", line);
	if (!owned && !given_late(name))
		fail_msg("belongs elsewhere: %s", line);
	tally->unowned += !owned;
	tally->lines++;
	tally->elsewhere += !meth;
}

static void test_as_cpython(void **state)
{
	struct file *files = calloc(FILES_MAX, sizeof(*files));
	size_t count = interpreters_find(), size = 0;
	char *text = NULL;

	assert_non_null(files);
	if (!count) {
		free(files);
		printf("SKIP: no interpreter is installed here\n");
		skip();
	}
	for (size_t i = 0; i < count; i++) {
		char shell[2 * PATH_MAX + 64];
		struct tally tally = {0};
		FILE *pipe;

		snprintf(shell, sizeof(shell), "%.*s -W ignore - <tests/unit/method_defs_target.py",
			 2 * PATH_MAX, interpreters[i].command);
		pipe = popen(shell, "r");
		assert_non_null(pipe);
		while (getline(&text, &size, pipe) > 0)
			compare(files, &tally, interpreters[i].root, text);
		assert_int_equal(pclose(pipe), 0);
		printf("%s: %zu functions in %zu files, %zu of other files, %zu unowned\n",
		       interpreters[i].command, tally.lines, tally.files, tally.elsewhere,
		       tally.unowned);
		assert_true(tally.lines > 1500);
		for (size_t k = 0; k < tally.files; k++) {
			py_method_defs_release(&files[k].found);
			elf_file_close(files[k].elf);
		}
	}
	free(text);
	free(files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_owners),      cmocka_unit_test(test_end_of_table),
	    cmocka_unit_test(test_relocations), cmocka_unit_test(test_fixed_addresses),
	    cmocka_unit_test(test_no_records),  cmocka_unit_test(test_damaged),
	    cmocka_unit_test(test_one_segment), cmocka_unit_test(test_init_name),
	    cmocka_unit_test(test_as_cpython),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

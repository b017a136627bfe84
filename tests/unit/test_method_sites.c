// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Where C functions are probed, and which. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "elf_builder.h"
#include "python/method_cache.h"
#include "python/method_sites.h"
#include "scratch.h"

#define AT_NAMES   (ELF_DATA + 0x100)
#define AT_EH      (ELF_DATA + 0x200)
#define AT_HEADERS (ELF_DATA + 0x800)
#define STRIDE     0x40u /* from function to function */

static const char names[] = "\0.eh_frame";
static const char *const all[] = {"*", NULL};

struct sample {
	const char *what;
	uint8_t code[16], size;
	int at; /* where the probe belongs; -1: refused */
};

static const struct sample samples[] = {
    {"push", {0x55, 0xc3}, 2, 0},
    {"endbr64; push", {0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0xc3}, 6, 4},
    {"mov rax,[rsi]; test; jcc", {0x48, 0x8b, 0x06, 0x85, 0xc0, 0x74, 0x01, 0x90, 0xc3}, 9, 5},
    {"the stack pointer changes", {0x48, 0x83, 0xec, 0x08, 0x55, 0xc3}, 6, 0},
    {"self changes", {0x31, 0xc0, 0x48, 0x89, 0xf7, 0x55, 0xc3}, 7, 0},
    {"endbr64; ret", {0xf3, 0x0f, 0x1e, 0xfa, 0xc3}, 5, -1},
    {"jmp to the second next", {0xf3, 0x0f, 0x1e, 0xfa, 0xe9, 0x77, 0, 0, 0}, 9, 4},
    {"its start is a loop", {0xff, 0xc0, 0x39, 0xf0, 0x75, 0xfa, 0xc3}, 7, -1},
    {"a loop behind its start", {0x31, 0xc0, 0xff, 0xc0, 0x39, 0xf0, 0x75, 0xfa, 0xc3}, 9, 0},
    {"no code", {0x06, 0x06}, 2, -1},
    {"lock prefix", {0xf0, 0xff, 0x06, 0xc3}, 4, -1},
    {"jmp [rdi+8]", {0x55, 0x5d, 0xff, 0x67, 0x08}, 5, -1},
    {"pop; jmp rax", {0x55, 0x5d, 0xff, 0xe0}, 4, -1},
    {"a switch of distances",
     {0x55, 0x48, 0x63, 0x04, 0x82, 0x48, 0x01, 0xd0, 0xff, 0xe0, 0x5d, 0xc3},
     12,
     0},
    {"a switch of pointers", {0x55, 0xff, 0x24, 0xc5, 0, 0, 0, 0, 0x5d, 0xc3}, 10, 0},
    {"jmp to no function", {0x55, 0x5d, 0xe9, 0x00, 0x10, 0, 0}, 7, -1},
    {"never returns", {0x55, 0x0f, 0x0b}, 3, -1},
};

#define SAMPLES (sizeof(samples) / sizeof(samples[0]))

static struct elf_file *build(struct elf_image *image)
{
	uint32_t ranges[SAMPLES][2];
	struct pt_err err = {0};
	struct elf_file *elf;
	Elf64_Shdr *headers;
	size_t eh_bytes;

	elf_build(image, NULL, 0);
	for (size_t i = 0; i < SAMPLES; i++) {
		ranges[i][0] = ELF_CODE + (uint32_t)i * STRIDE;
		ranges[i][1] = samples[i].size;
		memcpy(image->bytes + ranges[i][0], samples[i].code, samples[i].size);
	}
	eh_bytes = elf_build_eh_frame(image->bytes + AT_EH, AT_EH, ranges, SAMPLES);
	memcpy(image->bytes + AT_NAMES, names, sizeof(names));
	headers = (Elf64_Shdr *)(image->bytes + AT_HEADERS);
	headers[1] = (Elf64_Shdr){
	    .sh_type = SHT_STRTAB, .sh_offset = AT_NAMES, .sh_size = sizeof(names)};
	headers[2] = (Elf64_Shdr){.sh_name = 1,
				  .sh_type = SHT_PROGBITS,
				  .sh_flags = SHF_ALLOC,
				  .sh_addr = AT_EH,
				  .sh_offset = AT_EH,
				  .sh_size = eh_bytes};
	elf_head(image)->e_shoff = AT_HEADERS;
	elf_head(image)->e_shnum = 3;
	elf_head(image)->e_shstrndx = 1;
	assert_int_equal(elf_file_memory(image, sizeof(*image), &elf, &err), 0);
	return elf;
}

static void test_places(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct elf_file *elf = build(image);

	for (size_t i = 0; i < SAMPLES; i++) {
		struct py_method_def def = {.meth = ELF_CODE + i * STRIDE, .name = "f"};
		struct py_method_defs defs = {&def, 1};
		struct py_method_sites found;

		assert_int_equal(
		    py_method_sites_find(elf, &defs, all, PY_INSN_EMULATED_DEFAULT, &found), 0);
		if (found.count != (samples[i].at >= 0) ||
		    (found.count &&
		     found.sites[0].site.vaddr != def.meth + (uint64_t)samples[i].at))
			fail_msg("%s: %zu, %llx (%s)", samples[i].what, found.count,
				 found.count ? (long long)found.sites[0].site.vaddr : 0,
				 found.reason);
		assert_int_equal(found.refused, samples[i].at < 0);
		py_method_sites_release(&found);
	}
	elf_file_close(elf);
	free(image);
}

/* Where functions are over, those that they end in included. */
static void test_exits(void **state)
{
	static const struct {
		int sample, count, at[2];
	} cases[] = {
	    {0, 1, {1}},              /* push; ret */
	    {2, 1, {8}},              /* behind a conditional jump */
	    {6, 1, {2 * STRIDE + 8}}, /* jmp: the ret of the second next */
	    {13, 1, {11}},            /* a switch */
	};
	struct elf_image *image = malloc(sizeof(*image));
	struct elf_file *elf = build(image);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct py_method_def def = {.meth = ELF_CODE + (unsigned)cases[i].sample * STRIDE,
					    .name = "f"};
		struct py_method_defs defs = {&def, 1};
		struct py_method_sites found;

		assert_int_equal(
		    py_method_sites_find(elf, &defs, all, PY_INSN_EMULATED_DEFAULT, &found), 0);
		assert_int_equal(found.count, 1);
		assert_int_equal(found.exit_count, cases[i].count);
		for (int k = 0; k < cases[i].count; k++)
			assert_int_equal(found.exits[k].vaddr - def.meth, cases[i].at[k]);
		py_method_sites_release(&found);
	}
	elf_file_close(elf);
	free(image);
}

/* A kernel that emulates nothing gets the first instruction. */
static void test_nothing_emulated(void **state)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct elf_file *elf = build(image);
	struct py_method_def def = {.meth = ELF_CODE + 2 * STRIDE, .name = "f"};
	struct py_method_defs defs = {&def, 1};
	struct py_method_sites found;

	assert_int_equal(py_method_sites_find(elf, &defs, all, 0, &found), 0);
	assert_int_equal(found.count, 1);
	assert_int_equal(found.sites[0].site.vaddr, def.meth);
	py_method_sites_release(&found);
	/* not at the start of a function */
	def.meth++;
	assert_int_equal(py_method_sites_find(elf, &defs, all, 0, &found), 0);
	assert_int_equal(found.refused, 1);
	assert_non_null(strstr(found.reason, "f: "));
	py_method_sites_release(&found);
	elf_file_close(elf);
	free(image);
}

static void test_wanted(void **state)
{
	static const char *const globs[] = {"time.sleep", "socket.*", "list.sort", "dup", NULL};
	static const struct {
		struct py_method_def def;
		bool wanted;
	} cases[] = {
	    {{.name = "sleep", .owner = "time", .kind = PY_DEF_MODULE}, true},
	    {{.name = "sleep", .owner = "uv", .kind = PY_DEF_MODULE}, false},
	    {{.name = "sleep"}, false},
	    {{.name = "recv", .owner = "_socket.socket", .kind = PY_DEF_TYPE}, true},
	    {{.name = "dup", .owner = "_socket", .kind = PY_DEF_MODULE}, true},
	    {{.name = "recv", .owner = "_socket.socket", .kind = PY_DEF_MODULE}, false},
	    {{.name = "sort", .owner = "list", .kind = PY_DEF_TYPE}, true},
	    {{.name = "append", .owner = "list", .kind = PY_DEF_TYPE}, false},
	    {{.name = "dup"}, true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (py_method_wanted(&cases[i].def, globs) != cases[i].wanted)
			fail_msg("case %zu", i);
}

/* One function, several names and owners: one probe. */
static void test_aliases(void **state)
{
	static struct py_method_def list[] = {
	    {.name = "imported", .owner = "m", .kind = PY_DEF_MODULE},
	    {.name = "acquire_lock", .owner = "_thread.lock", .kind = PY_DEF_TYPE},
	    {.name = "__enter__", .owner = "_thread.lock", .kind = PY_DEF_TYPE},
	    {.name = "acquire", .owner = "_thread.lock", .kind = PY_DEF_TYPE},
	};
	static const char *const long_name[] = {"lock.acquire_*", "lock.__enter__", NULL};
	static const char *const none[] = {"nothing", NULL};
	struct elf_image *image = malloc(sizeof(*image));
	struct elf_file *elf = build(image);
	struct py_method_defs defs = {list, 4};
	struct py_method_sites found;

	for (size_t i = 1; i < 4; i++)
		list[i].meth = ELF_CODE;
	assert_int_equal(py_method_sites_find(elf, &defs, all, 0, &found), 0);
	assert_int_equal(found.count, 1);
	assert_int_equal(found.elsewhere, 1);
	assert_string_equal(found.sites[0].def.name, "acquire");
	assert_string_equal(found.sites[0].names, "acquire|acquire_lock|__enter__");
	py_method_sites_release(&found);
	assert_int_equal(py_method_sites_find(elf, &defs, long_name, 0, &found), 0);
	assert_int_equal(found.count, 1);
	assert_string_equal(found.sites[0].def.name, "acquire_lock");
	assert_string_equal(found.sites[0].names, "acquire_lock|__enter__|acquire");
	py_method_sites_release(&found);
	assert_int_equal(py_method_sites_find(elf, &defs, none, 0, &found), 0);
	assert_int_equal(found.count + found.refused + found.elsewhere, 0);
	elf_file_close(elf);
	free(image);
}

static void assert_same_site(const struct py_site *a, const struct py_site *b)
{
	assert_int_equal(a->vaddr, b->vaddr);
	assert_int_equal(a->offset, b->offset);
	assert_int_equal(a->insn_class, b->insn_class);
	assert_string_equal(a->method, b->method);
	assert_int_equal(a->byte_count, b->byte_count);
	assert_memory_equal(a->bytes, b->bytes, sizeof(a->bytes));
}

static void assert_same(const struct py_method_sites *a, const struct py_method_sites *b)
{
	assert_int_equal(a->count, b->count);
	for (size_t i = 0; i < a->count; i++) {
		const struct py_method_site *x = &a->sites[i], *y = &b->sites[i];

		assert_same_site(&x->site, &y->site);
		assert_string_equal(x->names, y->names);
		assert_string_equal(x->def.name, y->def.name);
		assert_int_equal(!x->def.owner, !y->def.owner);
		if (x->def.owner)
			assert_string_equal(x->def.owner, y->def.owner);
		assert_int_equal(x->def.def, y->def.def);
		assert_int_equal(x->def.meth, y->def.meth);
		assert_int_equal(x->def.flags, y->def.flags);
		assert_int_equal(x->def.kind, y->def.kind);
	}
	assert_int_equal(a->exit_count, b->exit_count);
	for (size_t i = 0; i < a->exit_count; i++)
		assert_same_site(&a->exits[i], &b->exits[i]);
	assert_int_equal(a->refused, b->refused);
	assert_int_equal(a->elsewhere, b->elsewhere);
	assert_string_equal(a->reason, b->reason);
}

/* The file's own folder, and its name there. */
static void cache_paths(const struct pt_cache_key *key, char *folder, size_t size,
			const char **file)
{
	*file = scratch_path(key->name);
	snprintf(folder, size, "%s", *file);
	*strrchr(folder, '/') = '\0';
}

/* What was found comes back as it was; of another file, of other globs, or damaged it does not. */
static void test_cache(void **state)
{
	static const char *const other[] = {"*", "x", NULL};
	struct py_method_def list[] = {
	    {.meth = ELF_CODE, .def = 8, .name = "a", .owner = "m", .kind = PY_DEF_MODULE},
	    {.meth = ELF_CODE, .def = 16, .name = "b"},
	    {.meth = ELF_CODE + 2 * STRIDE, .name = "c", .flags = PY_METH_STATIC},
	    {.meth = ELF_CODE + 5 * STRIDE, .name = "refused"},
	};
	struct py_method_defs defs = {list, sizeof(list) / sizeof(list[0])};
	struct elf_image *image = malloc(sizeof(*image));
	struct elf_file *elf = build(image);
	struct py_method_sites found, again;
	struct pt_cache_key key, key_other;
	char folder[4096], *data;
	const char *file;
	size_t functions, size;

	assert_int_equal(py_method_sites_find(elf, &defs, all, 0, &found), 0);
	assert_int_equal(found.count, 2);
	assert_int_equal(found.refused, 1);
	py_method_cache_key(&key, elf, all, 0);
	py_method_cache_key(&key_other, elf, other, 0);
	assert_string_not_equal(key.name, key_other.name);
	py_method_cache_key(&key_other, elf, all, 1);
	assert_string_not_equal(key.name, key_other.name);
	cache_paths(&key, folder, sizeof(folder), &file);
	assert_int_equal(py_method_cache_read(folder, &key, elf, &again, &functions), -ENOENT);
	py_method_cache_write(folder, &key, &found, 77);
	assert_int_equal(py_method_cache_read(folder, &key, elf, &again, &functions), 0);
	assert_int_equal(functions, 77);
	assert_same(&found, &again);
	py_method_sites_release(&again);
	/* the code is another one */
	image->bytes[found.sites[0].site.vaddr]++;
	assert_int_equal(py_method_cache_read(folder, &key, elf, &again, &functions), -ENOENT);
	image->bytes[found.sites[0].site.vaddr]--;
	data = scratch_read(file, &size);
	for (size_t i = 0; i < size; i += 1 + i % 13) {
		data[i] ^= 0x21;
		scratch_write(file, data, size);
		assert_int_equal(py_method_cache_read(folder, &key, elf, &again, &functions),
				 -ENOENT);
		data[i] ^= 0x21;
	}
	for (size_t cut = 0; cut < size; cut += 1 + cut % 17) {
		scratch_write(file, data, cut);
		assert_int_equal(py_method_cache_read(folder, &key, elf, &again, &functions),
				 -ENOENT);
	}
	free(data);
	py_method_sites_release(&found);
	elf_file_close(elf);
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_places),           cmocka_unit_test(test_exits),
	    cmocka_unit_test(test_nothing_emulated), cmocka_unit_test(test_wanted),
	    cmocka_unit_test(test_aliases),          cmocka_unit_test(test_cache),
	};

	return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/elf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES    (64u << 10)
#define FILE_MAX_BYTES (4ull << 30)
#define NAME_MAX_BYTES (32u << 10) /* C++ names of templates get long: 4 K was seen */
#define RELOCS_MAX     (8u << 20)

enum chunk_state { CHUNK_ABSENT, CHUNK_LOADED, CHUNK_KEPT };

struct reloc {
	uint64_t vaddr, value;
};

struct elf_store {
	const uint8_t *data;
	int fd;              /* -1: data is complete */
	uint8_t *loaded;     /* one byte a chunk: enum chunk_state; NULL: data is complete */
	size_t loaded_count; /* chunks that elf_trim() may drop */
	bool mapped;
	bool relocs_ready;
	struct reloc *relocs; /* sorted by vaddr */
	size_t reloc_count;
	struct reloc *undefined; /* slots that get another file's address */
	size_t undefined_count;
};

static bool chunk_load(const struct elf_file *elf, uint64_t chunk)
{
	struct elf_store *store = elf->store;
	uint64_t offset = chunk * CHUNK_BYTES;
	size_t want = elf->size - offset < CHUNK_BYTES ? elf->size - offset : CHUNK_BYTES;
	uint8_t *to = (uint8_t *)store->data + offset;
	size_t have = 0;

	while (have < want) {
		ssize_t n = pread(store->fd, to + have, want - have, (off_t)(offset + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	store->loaded[chunk] = CHUNK_LOADED;
	store->loaded_count++;
	return true;
}

/* What opening has read: the names of the sections point there. */
static void chunks_keep(const struct elf_file *elf)
{
	struct elf_store *store = elf->store;

	for (uint64_t chunk = 0; store->loaded && chunk <= elf->size / CHUNK_BYTES; chunk++)
		if (store->loaded[chunk])
			store->loaded[chunk] = CHUNK_KEPT;
	store->loaded_count = 0;
}

void elf_trim(const struct elf_file *elf, uint64_t max_bytes)
{
	struct elf_store *store = elf->store;

	if (store->fd < 0 || store->loaded_count <= max_bytes / CHUNK_BYTES)
		return;
	for (uint64_t chunk = 0; chunk <= elf->size / CHUNK_BYTES; chunk++) {
		uint64_t offset = chunk * CHUNK_BYTES;

		if (store->loaded[chunk] != CHUNK_LOADED)
			continue;
		madvise((uint8_t *)store->data + offset,
			elf->size - offset < CHUNK_BYTES ? elf->size - offset : CHUNK_BYTES,
			MADV_DONTNEED);
		store->loaded[chunk] = CHUNK_ABSENT;
	}
	store->loaded_count = 0;
}

const void *elf_at(const struct elf_file *elf, uint64_t offset, uint64_t size)
{
	struct elf_store *store = elf->store;

	if (offset > elf->size || size > elf->size - offset)
		return NULL;
	if (store->fd >= 0 && size) {
		uint64_t last = (offset + size - 1) / CHUNK_BYTES;

		for (uint64_t chunk = offset / CHUNK_BYTES; chunk <= last; chunk++)
			if (!store->loaded[chunk] && !chunk_load(elf, chunk))
				return NULL;
	}
	return store->data + offset;
}

static const struct elf_segment *segment_at(const struct elf_file *elf, uint64_t vaddr)
{
	for (size_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *s = &elf->segments[i];

		if (s->type == PT_LOAD && vaddr >= s->vaddr && vaddr - s->vaddr < s->file_size)
			return s;
	}
	return NULL;
}

bool elf_vaddr_to_offset(const struct elf_file *elf, uint64_t vaddr, uint64_t *offset)
{
	const struct elf_segment *s = segment_at(elf, vaddr);

	if (!s || s->offset > elf->size || vaddr - s->vaddr >= elf->size - s->offset)
		return false;
	*offset = s->offset + (vaddr - s->vaddr);
	return true;
}

#define PAGE 4096 /* bytes */

bool elf_mapped_code(const struct elf_file *elf, uint64_t offset, uint64_t *vaddr)
{
	for (size_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *s = &elf->segments[i];

		if (s->type == PT_LOAD && (s->flags & PF_X) && offset >= s->offset / PAGE * PAGE &&
		    offset < s->offset + s->file_size) {
			*vaddr = s->vaddr - s->offset + offset;
			return true;
		}
	}
	return false;
}

bool elf_is_code(const struct elf_file *elf, uint64_t vaddr)
{
	const struct elf_segment *s = segment_at(elf, vaddr);

	return s && (s->flags & PF_X);
}

bool elf_is_variable(const struct elf_file *elf, uint64_t vaddr)
{
	for (size_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *s = &elf->segments[i];

		if (s->type == PT_LOAD && vaddr >= s->vaddr && vaddr - s->vaddr < s->mem_size)
			return (s->flags & PF_W) && !(s->flags & PF_X);
	}
	return false;
}

const void *elf_at_vaddr(const struct elf_file *elf, uint64_t vaddr, uint64_t size)
{
	const struct elf_segment *s = segment_at(elf, vaddr);

	if (!s || size > s->file_size - (vaddr - s->vaddr) || s->offset > elf->size)
		return NULL;
	return elf_at(elf, s->offset + (vaddr - s->vaddr), size);
}

/* The string that starts at offset and ends before limit (file offsets). */
static const char *string_at(const struct elf_file *elf, uint64_t offset, uint64_t limit)
{
	const char *text;
	uint64_t room;

	if (limit > elf->size)
		limit = elf->size;
	if (offset >= limit)
		return NULL;
	room = limit - offset < NAME_MAX_BYTES ? limit - offset : NAME_MAX_BYTES;
	text = elf_at(elf, offset, room);
	return text && memchr(text, 0, room) ? text : NULL;
}

const char *elf_string_at_vaddr(const struct elf_file *elf, uint64_t vaddr, size_t max)
{
	uint64_t offset;

	if (!elf_vaddr_to_offset(elf, vaddr, &offset))
		return NULL;
	return string_at(elf, offset, max < elf->size - offset ? offset + max : elf->size);
}

const struct elf_section *elf_section(const struct elf_file *elf, const char *name)
{
	for (size_t i = 0; i < elf->section_count; i++)
		if (!strcmp(elf->sections[i].name, name))
			return &elf->sections[i];
	return NULL;
}

static int symbols_in(const struct elf_file *elf, const struct elf_section *table,
		      int (*fn)(const struct elf_symbol *symbol, void *ctx), void *ctx)
{
	const struct elf_section *strings;
	const uint8_t *syms;
	const char *text;
	int rc = 0;

	if (table->link >= elf->section_count || table->entry_size != sizeof(Elf64_Sym))
		return 0;
	strings = &elf->sections[table->link];
	syms = elf_at(elf, table->offset, table->size);
	text = elf_at(elf, strings->offset, strings->size);
	if (!syms || !text || !strings->size || text[strings->size - 1])
		return 0;
	for (size_t i = 0; !rc && i < table->size / sizeof(Elf64_Sym); i++) {
		struct elf_symbol symbol;
		Elf64_Sym sym;

		memcpy(&sym, syms + i * sizeof(sym), sizeof(sym));
		if (sym.st_shndx == SHN_UNDEF || sym.st_name >= strings->size)
			continue;
		symbol = (struct elf_symbol){
		    .name = text + sym.st_name,
		    .vaddr = sym.st_value,
		    .size = sym.st_size,
		    .type = ELF64_ST_TYPE(sym.st_info),
		    .bind = ELF64_ST_BIND(sym.st_info),
		};
		rc = fn(&symbol, ctx);
	}
	return rc;
}

int elf_each_symbol(const struct elf_file *elf,
		    int (*fn)(const struct elf_symbol *symbol, void *ctx), void *ctx)
{
	static const uint32_t types[] = {SHT_DYNSYM, SHT_SYMTAB};
	int rc = 0;

	for (size_t t = 0; t < 2; t++)
		for (size_t i = 0; !rc && i < elf->section_count; i++)
			if (elf->sections[i].type == types[t])
				rc = symbols_in(elf, &elf->sections[i], fn, ctx);
	return rc;
}

struct wanted_symbol {
	const char *name;
	struct elf_symbol *found;
};

static int take_symbol(const struct elf_symbol *symbol, void *ctx)
{
	const struct wanted_symbol *wanted = ctx;

	if (strcmp(symbol->name, wanted->name))
		return 0;
	*wanted->found = *symbol;
	return 1;
}

bool elf_symbol(const struct elf_file *elf, const char *name, struct elf_symbol *symbol)
{
	struct wanted_symbol wanted = {.name = name, .found = symbol};

	memset(symbol, 0, sizeof(*symbol));
	return elf_each_symbol(elf, take_symbol, &wanted);
}

/* ---- opening ---- */

static int segments_read(struct elf_file *elf, const Elf64_Ehdr *head)
{
	const uint8_t *raw;

	if (!head->e_phnum)
		return 0;
	if (head->e_phentsize != sizeof(Elf64_Phdr))
		return -ENOEXEC;
	raw = elf_at(elf, head->e_phoff, (uint64_t)head->e_phnum * sizeof(Elf64_Phdr));
	if (!raw)
		return -ENOEXEC;
	elf->segments = calloc(head->e_phnum, sizeof(*elf->segments));
	if (!elf->segments)
		return -ENOMEM;
	for (size_t i = 0; i < head->e_phnum; i++) {
		Elf64_Phdr p;

		memcpy(&p, raw + i * sizeof(p), sizeof(p));
		/* An end beyond 2^64 would defeat every later comparison. */
		if (p.p_filesz > elf->size || p.p_vaddr > UINT64_MAX - p.p_filesz ||
		    p.p_offset > UINT64_MAX - p.p_filesz)
			continue;
		elf->segments[elf->segment_count++] = (struct elf_segment){
		    .type = p.p_type,
		    .flags = p.p_flags,
		    .offset = p.p_offset,
		    .vaddr = p.p_vaddr,
		    .file_size = p.p_filesz,
		    .mem_size = p.p_memsz,
		};
	}
	return 0;
}

/* Unusable section headers are no error: a file runs without them. */
static int sections_read(struct elf_file *elf, const Elf64_Ehdr *head)
{
	const uint8_t *raw;
	Elf64_Shdr names = {0};

	if (!head->e_shnum || head->e_shentsize != sizeof(Elf64_Shdr))
		return 0;
	raw = elf_at(elf, head->e_shoff, (uint64_t)head->e_shnum * sizeof(Elf64_Shdr));
	if (!raw)
		return 0;
	elf->sections = calloc(head->e_shnum, sizeof(*elf->sections));
	if (!elf->sections)
		return -ENOMEM;
	elf->section_count = head->e_shnum; /* indices (link) must stay as they are */
	if (head->e_shstrndx < head->e_shnum)
		memcpy(&names, raw + (size_t)head->e_shstrndx * sizeof(names), sizeof(names));
	for (size_t i = 0; i < head->e_shnum; i++) {
		struct elf_section *section = &elf->sections[i];
		Elf64_Shdr s;
		const char *name = NULL;

		memcpy(&s, raw + i * sizeof(s), sizeof(s));
		section->name = "";
		if (s.sh_type != SHT_NOBITS &&
		    (s.sh_offset > elf->size || s.sh_size > elf->size - s.sh_offset))
			continue;
		if (names.sh_size <= elf->size && names.sh_offset <= elf->size &&
		    s.sh_name < names.sh_size)
			name = string_at(elf, names.sh_offset + s.sh_name,
					 names.sh_offset + names.sh_size);
		*section = (struct elf_section){
		    .name = name ? name : "",
		    .type = s.sh_type,
		    .link = s.sh_link,
		    .info = s.sh_info,
		    .flags = s.sh_flags,
		    .vaddr = s.sh_addr,
		    .offset = s.sh_offset,
		    .size = s.sh_type == SHT_NOBITS ? 0 : s.sh_size,
		    .entry_size = s.sh_entsize,
		};
		elf->has_symtab |= s.sh_type == SHT_SYMTAB;
	}
	return 0;
}

/* One note of a note area; returns false at its end. */
static bool note_next(const uint8_t *area, uint64_t size, uint64_t align, uint64_t *at,
		      Elf64_Nhdr *head, const char **owner, const uint8_t **desc)
{
	uint64_t name_end, desc_at;

	if (*at > size || size - *at < sizeof(*head))
		return false;
	memcpy(head, area + *at, sizeof(*head));
	name_end = *at + sizeof(*head) + head->n_namesz;
	desc_at = (name_end + align - 1) & ~(align - 1);
	if (desc_at > size || head->n_descsz > size - desc_at)
		return false;
	*owner = (const char *)area + *at + sizeof(*head);
	*desc = area + desc_at;
	*at = (desc_at + head->n_descsz + align - 1) & ~(align - 1);
	return true;
}

static void build_id_read(struct elf_file *elf)
{
	for (size_t i = 0; i < elf->segment_count && !elf->build_id_len; i++) {
		const struct elf_segment *s = &elf->segments[i];
		const uint8_t *area, *desc;
		const char *owner;
		Elf64_Nhdr head;
		uint64_t at = 0;

		if (s->type != PT_NOTE || s->file_size > CHUNK_BYTES)
			continue;
		area = elf_at(elf, s->offset, s->file_size);
		while (area && note_next(area, s->file_size, 4, &at, &head, &owner, &desc)) {
			if (head.n_type != NT_GNU_BUILD_ID || head.n_namesz != 4 ||
			    memcmp(owner, "GNU", 4) || !head.n_descsz ||
			    head.n_descsz > sizeof(elf->build_id))
				continue;
			memcpy(elf->build_id, desc, head.n_descsz);
			elf->build_id_len = head.n_descsz;
			break;
		}
	}
}

static int parse(struct elf_file *elf, const char *label, struct pt_err *err)
{
	const uint8_t *raw = elf_at(elf, 0, sizeof(Elf64_Ehdr));
	Elf64_Ehdr head;
	int ret;

	if (!raw || memcmp(raw, ELFMAG, SELFMAG))
		return pt_err_set(err, -ENOEXEC, PT_EXIT_NO_TARGET, NULL, "'%s' is not an ELF file",
				  label);
	memcpy(&head, raw, sizeof(head));
	if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB)
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "only 64-bit little-endian programs can be traced",
				  "'%s' is a 32-bit or big-endian program", label);
	elf->type = head.e_type;
	elf->machine = head.e_machine;
	ret = segments_read(elf, &head);
	if (!ret)
		ret = sections_read(elf, &head);
	if (ret)
		return pt_err_set(err, ret, PT_EXIT_FAILED, NULL, "cannot read '%s': %s", label,
				  ret == -ENOMEM ? "out of memory" : "damaged program headers");
	build_id_read(elf);
	return 0;
}

static struct elf_file *file_new(int fd)
{
	struct elf_file *elf = calloc(1, sizeof(*elf));

	if (!elf)
		return NULL;
	elf->store = calloc(1, sizeof(*elf->store));
	if (!elf->store) {
		free(elf);
		return NULL;
	}
	elf->store->fd = fd;
	return elf;
}

int elf_file_memory(const void *data, size_t size, struct elf_file **result, struct pt_err *err)
{
	struct elf_file *elf = file_new(-1);
	int ret;

	*result = NULL;
	if (!elf)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	elf->store->data = data;
	elf->size = size;
	ret = parse(elf, "memory", err);
	if (ret) {
		elf_file_close(elf);
		return ret;
	}
	*result = elf;
	return 0;
}

/* Reserves memory as long as the file; pages come into being when chunk_load() fills them. */
static int reserve(struct elf_file *elf, const struct stat *st)
{
	void *area;

	elf->size = (uint64_t)st->st_size;
	elf->dev = st->st_dev;
	elf->inode = st->st_ino;
	elf->mtime_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
	elf->store->loaded = calloc(elf->size / CHUNK_BYTES + 1, 1);
	if (!elf->store->loaded)
		return -ENOMEM;
	area = mmap(NULL, elf->size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return -ENOMEM;
	elf->store->data = area;
	elf->store->mapped = true;
	return 0;
}

int elf_file_open(const char *path, struct elf_file **result, struct pt_err *err)
{
	struct elf_file *elf;
	struct stat st;
	int fd, ret;

	*result = NULL;
	/* O_NONBLOCK: the path may name a FIFO whose other end never comes. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		ret = -errno;
		return pt_err_set(err, ret, ret == -ENOENT ? PT_EXIT_NO_TARGET : PT_EXIT_PERMISSION,
				  ret == -EACCES || ret == -EPERM ? "run it as root" : NULL,
				  "cannot open '%s': %s", path, strerror(-ret));
	}
	elf = file_new(fd);
	if (!elf) {
		close(fd);
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0 ||
	    (uint64_t)st.st_size > FILE_MAX_BYTES)
		ret = pt_err_set(err, -ENOEXEC, PT_EXIT_NO_TARGET, NULL,
				 "'%s' is not an ELF file (not a regular file, or its size is off)",
				 path);
	else if (reserve(elf, &st))
		ret = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	else
		ret = parse(elf, path, err);
	if (ret) {
		elf_file_close(elf);
		return ret;
	}
	chunks_keep(elf);
	*result = elf;
	return 0;
}

void elf_file_close(struct elf_file *elf)
{
	if (!elf)
		return;
	if (elf->store->fd >= 0)
		close(elf->store->fd);
	if (elf->store->mapped)
		munmap((void *)elf->store->data, elf->size);
	free(elf->store->loaded);
	free(elf->store->relocs);
	free(elf->store->undefined);
	free(elf->store);
	free(elf->sections);
	free(elf->segments);
	free(elf);
}

/* ---- relocations ---- */

static int reloc_compare(const void *a, const void *b)
{
	const struct reloc *x = a, *y = b;

	return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

static bool reloc_symbol(const uint8_t *syms, size_t sym_count, uint32_t index, uint64_t *value)
{
	Elf64_Sym sym;

	if (!syms || index >= sym_count)
		return false;
	memcpy(&sym, syms + index * sizeof(sym), sizeof(sym));
	if (sym.st_shndx == SHN_UNDEF)
		return false;
	*value = sym.st_value;
	return true;
}

static void relocs_add_section(const struct elf_file *elf, const struct elf_section *section)
{
	struct elf_store *store = elf->store;
	const uint8_t *raw = elf_at(elf, section->offset, section->size);
	const uint8_t *syms = NULL;
	size_t sym_count = 0;

	if (!raw)
		return;
	if (section->link < elf->section_count && elf->sections[section->link].type == SHT_DYNSYM) {
		const struct elf_section *table = &elf->sections[section->link];

		syms = elf_at(elf, table->offset, table->size);
		sym_count = table->size / sizeof(Elf64_Sym);
	}
	for (uint64_t i = 0; i < section->size / sizeof(Elf64_Rela); i++) {
		Elf64_Rela rela;
		uint32_t type;
		uint64_t value = 0;

		memcpy(&rela, raw + i * sizeof(rela), sizeof(rela));
		type = ELF64_R_TYPE(rela.r_info);
		if (type != R_X86_64_RELATIVE && type != R_X86_64_64 && type != R_X86_64_GLOB_DAT)
			continue;
		if (type == R_X86_64_RELATIVE ||
		    reloc_symbol(syms, sym_count, ELF64_R_SYM(rela.r_info), &value)) {
			value += type == R_X86_64_GLOB_DAT ? 0 : (uint64_t)rela.r_addend;
			store->relocs[store->reloc_count++] = (struct reloc){rela.r_offset, value};
		} else {
			store->undefined[store->undefined_count++] = (struct reloc){rela.r_offset,
										    0};
		}
	}
}

static void reloc_sort(struct reloc *relocs, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (relocs[i - 1].vaddr > relocs[i].vaddr) {
			qsort(relocs, count, sizeof(*relocs), reloc_compare);
			return;
		}
}

static bool is_reloc_section(const struct elf_file *elf, const struct elf_section *section)
{
	return section->type == SHT_RELA && (section->flags & SHF_ALLOC) &&
	       elf->machine == EM_X86_64;
}

/* RELR needs no index: its addends stand in the data. */
static int relocs_index(const struct elf_file *elf)
{
	struct elf_store *store = elf->store;
	uint64_t total = 0;

	for (size_t i = 0; i < elf->section_count; i++)
		if (is_reloc_section(elf, &elf->sections[i]))
			total += elf->sections[i].size / sizeof(Elf64_Rela);
	if (total > RELOCS_MAX)
		return -E2BIG;
	store->relocs = calloc(total + 1, sizeof(*store->relocs));
	store->undefined = calloc(total + 1, sizeof(*store->undefined));
	if (!store->relocs || !store->undefined) {
		free(store->relocs);
		free(store->undefined);
		store->relocs = store->undefined = NULL;
		return -ENOMEM;
	}
	for (size_t i = 0; i < elf->section_count; i++)
		if (is_reloc_section(elf, &elf->sections[i]))
			relocs_add_section(elf, &elf->sections[i]);
	reloc_sort(store->relocs, store->reloc_count);
	reloc_sort(store->undefined, store->undefined_count);
	store->relocs_ready = true;
	return 0;
}

static int relocs_ready(const struct elf_file *elf)
{
	return elf->store->relocs_ready ? 0 : relocs_index(elf);
}

int elf_read_ptr(const struct elf_file *elf, uint64_t vaddr, uint64_t *value)
{
	const struct elf_store *store = elf->store;
	struct reloc key = {vaddr, 0};
	const struct reloc *found;
	const void *raw;
	int rc = relocs_ready(elf);

	if (rc)
		return rc;
	raw = elf_at_vaddr(elf, vaddr, sizeof(*value));
	if (!raw)
		return -ENOENT;
	found = bsearch(&key, store->relocs, store->reloc_count, sizeof(key), reloc_compare);
	if (found) {
		*value = found->value;
		return 0;
	}
	if (bsearch(&key, store->undefined, store->undefined_count, sizeof(key), reloc_compare))
		return -ENXIO;
	memcpy(value, raw, sizeof(*value));
	return 0;
}

const uint8_t *elf_segment_bytes(const struct elf_file *elf, const struct elf_segment *segment,
				 uint64_t *size)
{
	*size = segment->offset < elf->size ? elf->size - segment->offset : 0;
	if (*size > segment->file_size)
		*size = segment->file_size;
	return elf_at(elf, segment->offset, *size);
}

/* The first one at vaddr or behind it. */
static size_t reloc_from(const struct elf_store *store, uint64_t vaddr)
{
	size_t low = 0, high = store->reloc_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (store->relocs[middle].vaddr < vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int elf_each_pointer(const struct elf_file *elf, const struct elf_segment *segment, uint64_t low,
		     uint64_t high, int (*fn)(uint64_t vaddr, uint64_t value, void *ctx), void *ctx)
{
	const struct elf_store *store = elf->store;
	const uint8_t *raw;
	uint64_t size, at;
	size_t next;
	int rc = relocs_ready(elf);

	raw = rc ? NULL : elf_segment_bytes(elf, segment, &size);
	if (!raw)
		return rc;
	next = reloc_from(store, segment->vaddr);
	for (at = -segment->vaddr & 7; !rc && at < size && size - at >= 8; at += 8) {
		uint64_t vaddr = segment->vaddr + at, value;

		while (next < store->reloc_count && store->relocs[next].vaddr < vaddr)
			next++;
		if (next < store->reloc_count && store->relocs[next].vaddr == vaddr)
			value = store->relocs[next].value;
		else
			memcpy(&value, raw + at, sizeof(value));
		/* what lies there may be overwritten with another file's address */
		if (value >= low && value <= high && !elf_read_ptr(elf, vaddr, &value))
			rc = fn(vaddr, value, ctx);
	}
	return rc;
}

/* The name of a symbol whose address is written: by its place, or if wanted is given by its name.
 */
static const char *import_in(const struct elf_file *elf, const struct elf_section *section,
			     uint64_t vaddr, const char *wanted)
{
	const uint8_t *raw = elf_at(elf, section->offset, section->size);
	const struct elf_section *table, *strings;
	const char *name;
	const uint8_t *syms;

	if (!raw || section->link >= elf->section_count)
		return NULL;
	table = &elf->sections[section->link];
	if (table->type != SHT_DYNSYM || table->link >= elf->section_count)
		return NULL;
	strings = &elf->sections[table->link];
	syms = elf_at(elf, table->offset, table->size);
	for (uint64_t i = 0; syms && i < section->size / sizeof(Elf64_Rela); i++) {
		Elf64_Rela rela;
		Elf64_Sym sym;

		memcpy(&rela, raw + i * sizeof(rela), sizeof(rela));
		if ((!wanted && rela.r_offset != vaddr) || !ELF64_R_SYM(rela.r_info) ||
		    ELF64_R_SYM(rela.r_info) >= table->size / sizeof(sym))
			continue;
		memcpy(&sym, syms + ELF64_R_SYM(rela.r_info) * sizeof(sym), sizeof(sym));
		if (sym.st_name >= strings->size)
			return NULL;
		name = string_at(elf, strings->offset + sym.st_name,
				 strings->offset + strings->size);
		if (!wanted || (name && !strcmp(name, wanted)))
			return name;
	}
	return NULL;
}

static const char *find_import(const struct elf_file *elf, uint64_t vaddr, const char *wanted)
{
	const char *name = NULL;

	for (size_t i = 0; i < elf->section_count && !name; i++)
		if (is_reloc_section(elf, &elf->sections[i]))
			name = import_in(elf, &elf->sections[i], vaddr, wanted);
	return name;
}

const char *elf_import_at(const struct elf_file *elf, uint64_t vaddr)
{
	return find_import(elf, vaddr, NULL);
}

bool elf_imports(const struct elf_file *elf, const char *name)
{
	return find_import(elf, 0, name) != NULL;
}

/* ---- stapsdt notes ---- */

/* The descriptor: three addresses (probe, .stapsdt.base at link time, semaphore), three strings. */
static bool sdt_parse(const struct elf_file *elf, const uint8_t *desc, uint32_t size,
		      struct elf_sdt_note *note)
{
	const struct elf_section *base = elf_section(elf, ".stapsdt.base");
	const char *at = (const char *)desc + 3 * sizeof(uint64_t);
	const char *end = (const char *)desc + size;
	const char *texts[3];
	uint64_t words[3];

	if (size < sizeof(words))
		return false;
	memcpy(words, desc, sizeof(words));
	for (int i = 0; i < 3; i++) {
		const char *stop = memchr(at, 0, (size_t)(end - at));

		if (!stop)
			return false;
		texts[i] = at;
		at = stop + 1;
	}
	note->provider = texts[0];
	note->name = texts[1];
	note->args = texts[2];
	note->vaddr = words[0];
	note->semaphore_vaddr = words[2];
	if (base && words[1]) {
		note->vaddr += base->vaddr - words[1];
		if (words[2])
			note->semaphore_vaddr += base->vaddr - words[1];
	}
	return true;
}

int elf_each_sdt_note(const struct elf_file *elf,
		      int (*fn)(const struct elf_sdt_note *note, void *ctx), void *ctx)
{
	const struct elf_section *section = elf_section(elf, ".note.stapsdt");
	const uint8_t *area, *desc;
	const char *owner;
	Elf64_Nhdr head;
	uint64_t at = 0;

	if (!section)
		return 0;
	area = elf_at(elf, section->offset, section->size);
	while (area && note_next(area, section->size, 4, &at, &head, &owner, &desc)) {
		struct elf_sdt_note note = {0};
		int ret;

		if (head.n_type != 3 || head.n_namesz != 8 || memcmp(owner, "stapsdt", 8) ||
		    !sdt_parse(elf, desc, head.n_descsz, &note))
			continue;
		ret = fn(&note, ctx);
		if (ret)
			return ret;
	}
	return 0;
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The file: struct cache_head, one struct cache_entry for each function, one struct cache_place for
 * each exit, then the texts. It stays on the machine that wrote it, so structs are written as they
 * lie in memory; the head names their sizes.
 */
#include "python/method_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* Raise this when what is found in the same file may change: method_defs.c, method_sites.c,
 * method_exits.c. */
#define METHODS_REVISION 1u

#define CACHE_MAGIC     0x68746d6379707470ull
#define CACHE_MAX_BYTES (1u << 20)
#define CACHE_TEXT_MAX  (256u << 10)
#define CHECKED_FROM    16u

struct cache_head {
	uint64_t magic;
	uint64_t checksum; /* of everything behind this field */
	uint64_t key_hash;
	uint32_t head_bytes, entry_bytes, place_bytes, text_bytes;
	uint64_t site_count, exit_count, functions, refused, elsewhere;
	char reason[256];
};

struct cache_place {
	uint64_t vaddr, offset;
	uint32_t insn_class, byte_count;
	uint8_t bytes[16];
};

struct cache_entry {
	struct cache_place place;
	uint64_t def, meth;
	uint32_t flags, kind;
	uint32_t name, owner, names; /* in the texts; owner 0: none */
	uint32_t pad;
};

void py_method_cache_key(struct pt_cache_key *key, const struct elf_file *elf,
			 const char *const *globs, unsigned int emulated)
{
	uint64_t hash = pt_cache_hash(PT_CACHE_HASH_START, &emulated, sizeof(emulated));

	for (; *globs; globs++)
		hash = pt_cache_hash(hash, *globs, strlen(*globs) + 1);
	pt_cache_key(key, "methods", elf, (uint32_t)(hash ^ hash >> 32), METHODS_REVISION);
}

/* ---- reading ---- */

struct stored {
	struct cache_head head;
	const uint8_t *entries, *places;
	const char *texts;
};

static bool head_fits(const struct cache_head *head, const struct pt_cache_key *key,
		      const uint8_t *data, size_t size)
{
	return head->magic == CACHE_MAGIC && head->key_hash == key->hash &&
	       head->head_bytes == sizeof(*head) &&
	       head->entry_bytes == sizeof(struct cache_entry) &&
	       head->place_bytes == sizeof(struct cache_place) && head->text_bytes &&
	       head->text_bytes <= CACHE_TEXT_MAX && head->site_count <= CACHE_MAX_BYTES &&
	       head->exit_count <= CACHE_MAX_BYTES &&
	       size == sizeof(*head) + head->site_count * sizeof(struct cache_entry) +
			   head->exit_count * sizeof(struct cache_place) + head->text_bytes &&
	       !data[size - 1] &&
	       head->checksum ==
		   pt_cache_hash(PT_CACHE_HASH_START, data + CHECKED_FROM, size - CHECKED_FROM);
}

/* The file must hold these bytes there: two files may claim the same build id. */
static bool place_read(const struct cache_place *from, const struct elf_file *elf,
		       const char *method, struct py_site *site)
{
	const void *bytes;
	uint64_t offset;

	if (from->byte_count > sizeof(from->bytes) || from->insn_class >= PY_INSN_CLASS_COUNT)
		return false;
	bytes = elf_at_vaddr(elf, from->vaddr, from->byte_count);
	if (!bytes || memcmp(bytes, from->bytes, from->byte_count) ||
	    !elf_vaddr_to_offset(elf, from->vaddr, &offset) || offset != from->offset)
		return false;
	*site = (struct py_site){.vaddr = from->vaddr,
				 .offset = from->offset,
				 .insn_class = (enum py_insn_class)from->insn_class,
				 .method = method,
				 .byte_count = (uint8_t)from->byte_count};
	memcpy(site->bytes, from->bytes, sizeof(site->bytes));
	return true;
}

static int entry_read(const struct stored *stored, size_t i, const struct elf_file *elf,
		      struct py_method_sites *sites)
{
	struct py_method_site *site = &sites->sites[i];
	struct cache_entry from;

	memcpy(&from, stored->entries + i * sizeof(from), sizeof(from));
	if (from.name >= stored->head.text_bytes || from.owner >= stored->head.text_bytes ||
	    from.names >= stored->head.text_bytes || from.kind > PY_DEF_TYPE ||
	    !place_read(&from.place, elf, "method entry", &site->site))
		return -ENOENT;
	sites->count++;
	site->name = strdup(stored->texts + from.name);
	site->names = strdup(stored->texts + from.names);
	site->owner = from.owner ? strdup(stored->texts + from.owner) : NULL;
	site->def = (struct py_method_def){.def = from.def,
					   .meth = from.meth,
					   .name = site->name,
					   .owner = site->owner,
					   .flags = from.flags,
					   .kind = (enum py_def_owner)from.kind};
	return site->name && site->names && (site->owner || !from.owner) ? 0 : -ENOMEM;
}

static int parse(const struct stored *stored, const struct elf_file *elf,
		 struct py_method_sites *sites)
{
	const struct cache_head *head = &stored->head;
	struct cache_place place;
	int rc = 0;

	sites->sites = calloc(head->site_count + 1, sizeof(*sites->sites));
	sites->exits = calloc(head->exit_count + 1, sizeof(*sites->exits));
	if (!sites->sites || !sites->exits)
		return -ENOMEM;
	for (size_t i = 0; i < head->site_count && !rc; i++)
		rc = entry_read(stored, i, elf, sites);
	for (; sites->exit_count < head->exit_count && !rc; sites->exit_count++) {
		memcpy(&place, stored->places + sites->exit_count * sizeof(place), sizeof(place));
		if (!place_read(&place, elf, "method exit", &sites->exits[sites->exit_count]))
			rc = -ENOENT;
	}
	sites->refused = head->refused;
	sites->elsewhere = head->elsewhere;
	memcpy(sites->reason, head->reason, sizeof(sites->reason));
	sites->reason[sizeof(sites->reason) - 1] = '\0';
	return rc;
}

int py_method_cache_read(const char *dir, const struct pt_cache_key *key,
			 const struct elf_file *elf, struct py_method_sites *sites,
			 size_t *functions)
{
	struct stored stored;
	uint8_t *data;
	size_t size;
	int rc = pt_cache_file_read(dir, key->name, CACHE_MAX_BYTES, &data, &size);

	*sites = (struct py_method_sites){0};
	if (rc)
		return rc;
	rc = -ENOENT;
	if (size >= sizeof(stored.head))
		memcpy(&stored.head, data, sizeof(stored.head));
	if (size >= sizeof(stored.head) && head_fits(&stored.head, key, data, size)) {
		stored.entries = data + sizeof(stored.head);
		stored.places = stored.entries +
				stored.head.site_count * sizeof(struct cache_entry);
		stored.texts = (const char *)data + size - stored.head.text_bytes;
		rc = parse(&stored, elf, sites);
		*functions = stored.head.functions;
	}
	free(data);
	if (rc)
		py_method_sites_release(sites);
	return rc;
}

/* ---- writing ---- */

static struct cache_place place_of(const struct py_site *site)
{
	struct cache_place place = {.vaddr = site->vaddr,
				    .offset = site->offset,
				    .insn_class = site->insn_class,
				    .byte_count = site->byte_count};

	memcpy(place.bytes, site->bytes, sizeof(place.bytes));
	return place;
}

/* Where the text is, behind the others. */
static uint32_t add_text(struct pt_buf *texts, const char *text)
{
	size_t at = texts->len;

	pt_buf_add(texts, text, strlen(text) + 1);
	return (uint32_t)at;
}

static void add_entry(struct pt_buf *body, struct pt_buf *texts, const struct py_method_site *site)
{
	struct cache_entry entry = {.place = place_of(&site->site),
				    .def = site->def.def,
				    .meth = site->def.meth,
				    .flags = site->def.flags,
				    .kind = site->def.kind,
				    .name = add_text(texts, site->name),
				    .owner = site->owner ? add_text(texts, site->owner) : 0,
				    .names = add_text(texts, site->names)};

	pt_buf_add(body, &entry, sizeof(entry));
}

void py_method_cache_write(const char *dir, const struct pt_cache_key *key,
			   const struct py_method_sites *sites, size_t functions)
{
	struct cache_head head = {.magic = CACHE_MAGIC,
				  .key_hash = key->hash,
				  .head_bytes = sizeof(head),
				  .entry_bytes = sizeof(struct cache_entry),
				  .place_bytes = sizeof(struct cache_place),
				  .site_count = sites->count,
				  .exit_count = sites->exit_count,
				  .functions = functions,
				  .refused = sites->refused,
				  .elsewhere = sites->elsewhere};
	struct pt_buf body = {0}, texts = {0};

	pt_buf_add(&body, &head, sizeof(head));
	add_text(&texts, ""); /* no owner's is at 0 */
	for (size_t i = 0; i < sites->count; i++)
		add_entry(&body, &texts, &sites->sites[i]);
	for (size_t i = 0; i < sites->exit_count; i++) {
		struct cache_place place = place_of(&sites->exits[i]);

		pt_buf_add(&body, &place, sizeof(place));
	}
	pt_buf_add(&body, texts.data, texts.len);
	if (!body.failed && !texts.failed && body.len <= CACHE_MAX_BYTES &&
	    texts.len <= CACHE_TEXT_MAX) {
		head.text_bytes = (uint32_t)texts.len;
		memcpy(head.reason, sites->reason, sizeof(head.reason));
		memcpy(body.data, &head, sizeof(head));
		head.checksum = pt_cache_hash(PT_CACHE_HASH_START, body.data + CHECKED_FROM,
					      body.len - CHECKED_FROM);
		memcpy(body.data, &head, sizeof(head));
		pt_cache_file_write(dir, key->name, (const uint8_t *)body.data, body.len);
	}
	pt_buf_release(&texts);
	pt_buf_release(&body);
}

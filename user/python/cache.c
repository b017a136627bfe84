// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The file: struct cache_head, then one struct cache_site for each site of each plan, then the
 * method texts. It stays on the machine that wrote it, so structs are written as they lie in
 * memory; the head names their sizes.
 */
#include "python/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_MAGIC     0x6763697079707470ull
#define CACHE_VERSION   2
#define PLAN_COUNT      (PY_ENGINE_COUNT + PY_FEATURE_COUNT)
#define CACHE_MAX_BYTES (1u << 20)
#define CACHE_SITES_MAX 512
#define CACHE_TEXT_MAX  (64u << 10)

struct cache_engine {
	char reason[256];
	uint32_t site_count;
	uint32_t usable;
};

struct cache_head {
	uint64_t magic;
	uint64_t checksum; /* of everything behind this field */
	uint32_t version, finder_revision;
	uint64_t key_hash;
	uint32_t head_bytes, site_bytes, text_bytes;
	uint32_t py_version;
	char version_text[32];
	uint8_t stripped, debug, dtrace, free_threaded;
	uint8_t pad[4];
	struct pt_layout layout;
	struct pt_rt_layout rt;
	struct pt_value_layout values;
	struct cache_engine plans[PLAN_COUNT];
	struct py_symbol runtime, tstate_current, eval;
	struct py_c_types c_types;
	struct py_sample_layout sample;
	uint32_t jit_built, interp_jit, rt_interp_head, interp_next;
};

struct cache_site {
	uint64_t vaddr, offset, cookie, ref_ctr_offset, counter_vaddr;
	uint32_t insn_class;
	uint32_t method; /* offset in the texts */
	uint8_t bytes[16];
	uint64_t byte_count;
};

/* The engines' plans, then the features'. */
static struct py_engine_plan *plan_at(struct py_image *image, int i)
{
	return i < PY_ENGINE_COUNT ? &image->engines[i] : &image->features[i - PY_ENGINE_COUNT];
}

static const struct py_engine_plan *const_plan_at(const struct py_image *image, int i)
{
	return i < PY_ENGINE_COUNT ? &image->engines[i] : &image->features[i - PY_ENGINE_COUNT];
}

void py_cache_key(struct pt_cache_key *key, const struct elf_file *elf, unsigned int emulated)
{
	pt_cache_key(key, "image", elf, emulated, PY_FINDER_REVISION);
}

/* ---- reading ---- */

static bool head_fits(const struct cache_head *head, const struct pt_cache_key *key, size_t size,
		      const uint8_t *data)
{
	uint64_t sites = 0;

	if (head->magic != CACHE_MAGIC || head->version != CACHE_VERSION ||
	    head->finder_revision != PY_FINDER_REVISION || head->key_hash != key->hash ||
	    head->head_bytes != sizeof(*head) || head->site_bytes != sizeof(struct cache_site) ||
	    !head->text_bytes || head->text_bytes > CACHE_TEXT_MAX)
		return false;
	for (int e = 0; e < PLAN_COUNT; e++) {
		if (head->plans[e].site_count > CACHE_SITES_MAX)
			return false;
		sites += head->plans[e].site_count;
	}
	if (size != sizeof(*head) + sites * sizeof(struct cache_site) + head->text_bytes)
		return false;
	if (data[size - 1] != 0)
		return false;
	return head->checksum == pt_cache_hash(PT_CACHE_HASH_START, data + 16, size - 16);
}

/* The interpreter must hold these bytes there: two files may claim the same build id. */
static bool site_fits(const struct cache_site *stored, const struct cache_head *head,
		      const struct elf_file *elf)
{
	const void *bytes;
	uint64_t offset;

	if (stored->method >= head->text_bytes || stored->byte_count > sizeof(stored->bytes) ||
	    stored->insn_class >= PY_INSN_CLASS_COUNT)
		return false;
	bytes = elf_at_vaddr(elf, stored->vaddr, stored->byte_count);
	return bytes && elf_vaddr_to_offset(elf, stored->vaddr, &offset) &&
	       offset == stored->offset && !memcmp(bytes, stored->bytes, stored->byte_count);
}

static int engine_read(struct py_engine_plan *plan, const struct cache_engine *stored,
		       const struct cache_head *head, const uint8_t *sites,
		       const struct elf_file *elf, const char *pool)
{
	memcpy(plan->reason, stored->reason, sizeof(plan->reason));
	plan->reason[sizeof(plan->reason) - 1] = 0;
	plan->usable = stored->usable == 1;
	if (!stored->site_count)
		return 0;
	plan->sites = calloc(stored->site_count, sizeof(*plan->sites));
	if (!plan->sites)
		return -ENOMEM;
	for (uint32_t i = 0; i < stored->site_count; i++) {
		struct py_site *site = &plan->sites[plan->site_count];
		struct cache_site from;

		memcpy(&from, sites + i * sizeof(from), sizeof(from));
		if (!site_fits(&from, head, elf))
			return -ENOENT;
		*site = (struct py_site){
		    .vaddr = from.vaddr,
		    .offset = from.offset,
		    .cookie = from.cookie,
		    .ref_ctr_offset = from.ref_ctr_offset,
		    .counter_vaddr = from.counter_vaddr,
		    .insn_class = (enum py_insn_class)from.insn_class,
		    .method = pool + from.method,
		    .byte_count = (uint8_t)from.byte_count,
		};
		memcpy(site->bytes, from.bytes, sizeof(site->bytes));
		plan->site_count++;
	}
	return 0;
}

static void head_to_image(const struct cache_head *head, struct py_image *image)
{
	image->version = head->py_version;
	memcpy(image->version_text, head->version_text, sizeof(image->version_text));
	image->version_text[sizeof(image->version_text) - 1] = 0;
	image->stripped = head->stripped == 1;
	image->debug = head->debug == 1;
	image->dtrace = head->dtrace == 1;
	image->free_threaded = head->free_threaded == 1;
	image->layout = head->layout;
	image->rt = head->rt;
	image->values = head->values;
	image->runtime = head->runtime;
	image->tstate_current = head->tstate_current;
	image->eval = head->eval;
	image->c_types = head->c_types;
	image->sample = head->sample;
	image->jit = (struct py_jit){.built = head->jit_built == 1,
				     .interp_jit = head->interp_jit,
				     .rt_interp_head = head->rt_interp_head,
				     .interp_next = head->interp_next};
}

static int parse(const struct cache_head *head, const uint8_t *data, const struct elf_file *elf,
		 struct py_image *image, const char *pool)
{
	const uint8_t *sites = data + sizeof(*head);

	for (int e = 0; e < PLAN_COUNT; e++) {
		int ret = engine_read(plan_at(image, e), &head->plans[e], head, sites, elf, pool);

		if (ret) {
			for (int k = 0; k <= e; k++) {
				free(plan_at(image, k)->sites);
				memset(plan_at(image, k), 0, sizeof(struct py_engine_plan));
			}
			return ret;
		}
		sites += head->plans[e].site_count * sizeof(struct cache_site);
	}
	head_to_image(head, image);
	return 0;
}

int py_cache_read(const char *dir, const struct pt_cache_key *key, const struct elf_file *elf,
		  struct py_image *image, char **pool)
{
	struct cache_head head;
	uint8_t *data;
	size_t size;
	int ret = pt_cache_file_read(dir, key->name, CACHE_MAX_BYTES, &data, &size);

	*pool = NULL;
	if (ret)
		return ret;
	ret = -ENOENT;
	if (size >= sizeof(head)) {
		memcpy(&head, data, sizeof(head));
		if (head_fits(&head, key, size, data))
			*pool = malloc(head.text_bytes);
		if (*pool) {
			memcpy(*pool, data + size - head.text_bytes, head.text_bytes);
			ret = parse(&head, data, elf, image, *pool);
		}
	}
	free(data);
	if (ret) {
		free(*pool);
		*pool = NULL;
	}
	return ret;
}

/* ---- writing ---- */

static void image_to_head(const struct py_image *image, struct cache_head *head)
{
	head->py_version = image->version;
	memcpy(head->version_text, image->version_text, sizeof(head->version_text));
	head->stripped = image->stripped;
	head->debug = image->debug;
	head->dtrace = image->dtrace;
	head->free_threaded = image->free_threaded;
	head->layout = image->layout;
	head->rt = image->rt;
	head->values = image->values;
	head->runtime = image->runtime;
	head->tstate_current = image->tstate_current;
	head->eval = image->eval;
	head->c_types = image->c_types;
	head->sample = image->sample;
	head->jit_built = image->jit.built;
	head->interp_jit = image->jit.interp_jit;
	head->rt_interp_head = image->jit.rt_interp_head;
	head->interp_next = image->jit.interp_next;
	for (int e = 0; e < PLAN_COUNT; e++) {
		const struct py_engine_plan *plan = const_plan_at(image, e);

		memcpy(head->plans[e].reason, plan->reason, sizeof(plan->reason));
		head->plans[e].site_count = (uint32_t)plan->site_count;
		head->plans[e].usable = plan->usable;
	}
}

static void site_store(uint8_t *to, const struct py_site *site, uint32_t method)
{
	struct cache_site stored = {
	    .vaddr = site->vaddr,
	    .offset = site->offset,
	    .cookie = site->cookie,
	    .ref_ctr_offset = site->ref_ctr_offset,
	    .counter_vaddr = site->counter_vaddr,
	    .insn_class = site->insn_class,
	    .method = method,
	    .byte_count = site->byte_count,
	};

	memcpy(stored.bytes, site->bytes, sizeof(stored.bytes));
	memcpy(to, &stored, sizeof(stored));
}

static const char *method_of(const struct py_site *site)
{
	return site->method ? site->method : "";
}

/* The whole file in memory; NULL: no memory, or too much to be worth keeping. */
static uint8_t *build(const struct pt_cache_key *key, const struct py_image *image, size_t *size)
{
	struct cache_head head = {.magic = CACHE_MAGIC,
				  .version = CACHE_VERSION,
				  .finder_revision = PY_FINDER_REVISION,
				  .key_hash = key->hash,
				  .head_bytes = sizeof(head),
				  .site_bytes = sizeof(struct cache_site)};
	size_t sites = 0, texts = 1, site_at = sizeof(head), text_at;
	uint8_t *data;

	for (int e = 0; e < PLAN_COUNT; e++) {
		const struct py_engine_plan *plan = const_plan_at(image, e);

		sites += plan->site_count;
		for (size_t i = 0; i < plan->site_count; i++)
			texts += strlen(method_of(&plan->sites[i])) + 1;
	}
	*size = sizeof(head) + sites * sizeof(struct cache_site) + texts;
	if (sites > CACHE_SITES_MAX || texts > CACHE_TEXT_MAX || *size > CACHE_MAX_BYTES)
		return NULL;
	data = calloc(1, *size);
	if (!data)
		return NULL;
	image_to_head(image, &head);
	head.text_bytes = (uint32_t)texts;
	text_at = *size - texts;
	for (int e = 0; e < PLAN_COUNT; e++)
		for (size_t i = 0; i < const_plan_at(image, e)->site_count; i++) {
			const struct py_site *site = &const_plan_at(image, e)->sites[i];
			size_t length = strlen(method_of(site)) + 1;

			site_store(data + site_at, site, (uint32_t)(text_at - (*size - texts)));
			memcpy(data + text_at, method_of(site), length);
			site_at += sizeof(struct cache_site);
			text_at += length;
		}
	memcpy(data, &head, sizeof(head));
	head.checksum = pt_cache_hash(PT_CACHE_HASH_START, data + 16, *size - 16);
	memcpy(data, &head, sizeof(head));
	return data;
}

int py_cache_write(const char *dir, const struct pt_cache_key *key, const struct py_image *image)
{
	size_t size;
	uint8_t *data;
	int ret;

	data = build(key, image, &size);
	if (!data)
		return -ENOMEM;
	ret = pt_cache_file_write(dir, key->name, data, size);
	free(data);
	return ret;
}

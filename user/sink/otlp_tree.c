// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/otlp_tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (64u << 10)
#define SCOPE_NAME  "pytrace-bpf"

struct pt_otlp_chunk {
	struct pt_otlp_chunk *next;
	size_t used, size;
	_Alignas(max_align_t) char data[];
};

void *pt_otlp_take(struct pt_otlp_tree *tree, size_t size)
{
	struct pt_otlp_chunk *chunk = tree->chunks;
	size_t aligned = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);

	if (!chunk || chunk->size - chunk->used < aligned) {
		size_t room = aligned > CHUNK_BYTES ? aligned : CHUNK_BYTES;

		chunk = calloc(1, sizeof(*chunk) + room);
		if (!chunk) {
			tree->failed = true;
			return NULL;
		}
		chunk->size = room;
		chunk->next = tree->chunks;
		tree->chunks = chunk;
	}
	chunk->used += aligned;
	return chunk->data + chunk->used - aligned;
}

char *pt_otlp_text(struct pt_otlp_tree *tree, const char *text)
{
	size_t len = strlen(text) + 1;
	char *copy = pt_otlp_take(tree, len);

	return copy ? memcpy(copy, text, len) : NULL;
}

void pt_otlp_append(struct pt_otlp_tree *tree, size_t *count, void *list, void *item)
{
	void **items, **bigger;

	if (!item)
		return;
	memcpy(&items, list, sizeof(items));
	if (!(*count & (*count - 1))) {
		bigger = pt_otlp_take(tree, (*count ? 2 * *count : 1) * sizeof(*bigger));
		if (!bigger)
			return;
		if (*count)
			memcpy(bigger, items, *count * sizeof(*bigger));
		items = bigger;
		memcpy(list, &items, sizeof(items));
	}
	items[(*count)++] = item;
}

void pt_otlp_tree_clear(struct pt_otlp_tree *tree)
{
	while (tree->chunks) {
		struct pt_otlp_chunk *chunk = tree->chunks;

		tree->chunks = chunk->next;
		free(chunk);
	}
}

Otlp__Attribute *pt_otlp_attribute(struct pt_otlp_tree *tree, const char *key, const char *text,
				   int64_t number)
{
	Otlp__Attribute *item = pt_otlp_take(tree, sizeof(*item));
	Otlp__Value *value = pt_otlp_take(tree, sizeof(*value));

	if (!item || !value)
		return NULL;
	otlp__attribute__init(item);
	otlp__value__init(value);
	item->key = pt_otlp_text(tree, key);
	item->value = value;
	value->value_case = text ? OTLP__VALUE__VALUE_TEXT : OTLP__VALUE__VALUE_NUMBER;
	if (text)
		value->text = pt_otlp_text(tree, text);
	else
		value->number = number;
	return tree->failed ? NULL : item;
}

Otlp__Resource *pt_otlp_resource(struct pt_otlp_tree *tree, const struct pt_otlp_source *source,
				 const char *service, pid_t pid)
{
	Otlp__Resource *resource = pt_otlp_take(tree, sizeof(*resource));
	char instance[300];

	if (!resource)
		return NULL;
	otlp__resource__init(resource);
	snprintf(instance, sizeof(instance), service ? "%s:%d" : "%s", source->host, pid);
#define ADD(...)                                                                                   \
	pt_otlp_append(tree, &resource->n_attributes, &resource->attributes,                       \
		       pt_otlp_attribute(tree, __VA_ARGS__))
	ADD("service.name", service ? service : SCOPE_NAME, 0);
	ADD("service.instance.id", instance, 0);
	if (!service)
		ADD("service.version", source->version, 0);
	ADD("host.name", source->host, 0);
	if (service)
		ADD("process.pid", NULL, pid);
	for (size_t i = 0; i < source->attribute_count; i++)
		ADD(source->attributes[i].key, source->attributes[i].value, 0);
#undef ADD
	return resource;
}

Otlp__Scope *pt_otlp_scope(struct pt_otlp_tree *tree, const struct pt_otlp_source *source)
{
	Otlp__Scope *scope = pt_otlp_take(tree, sizeof(*scope));

	if (!scope)
		return NULL;
	otlp__scope__init(scope);
	scope->name = pt_otlp_text(tree, SCOPE_NAME);
	scope->version = pt_otlp_text(tree, source->version);
	return tree->failed ? NULL : scope;
}

int pt_otlp_pack(const ProtobufCMessage *message, struct pt_buf *packed)
{
	if (pt_buf_reserve(packed, protobuf_c_message_get_packed_size(message)))
		return -ENOMEM;
	packed->len += protobuf_c_message_pack(message, (uint8_t *)packed->data + packed->len);
	return 0;
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Code objects and their strings, read from another process's memory. */
#include <errno.h>
#include <linux/types.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "pt_abi.h"
#include "python/stack_parts.h"
#include "target/memory.h"

/* PyASCIIObject.state (Include/cpython/unicodeobject.h): bits 2-4 kind, 5 compact, 6 ascii; the
 * same in 3.8 - 3.15. Bits above are other things since 3.12. */
#define STATE_KIND(state)   ((state) >> 2 & 7)
#define STATE_COMPACT       0x20u
#define STATE_ASCII         0x40u
#define CODE_BYTES          256 /* every field we read lies below, in every version */
#define UTF8_BYTES_PER_CHAR 4

/* chars of width bytes each, to a fresh NUL-terminated string. A NUL inside (Python allows it in a
 * name) becomes U+FFFD, or it would cut the string. */
static char *to_utf8(const uint8_t *data, size_t chars, unsigned int width)
{
	char *out = malloc(chars * UTF8_BYTES_PER_CHAR + 1), *end = out, *shrunk;

	if (!out)
		return NULL;
	for (size_t i = 0; i < chars; i++) {
		uint32_t c = 0;

		memcpy(&c, data + i * width, width); /* little-endian */
		end += pt_utf8_put(end, c ? c : PT_UTF8_REPLACEMENT);
	}
	*end = 0;
	shrunk = realloc(out, (size_t)(end - out) + 1);
	return shrunk ? shrunk : out;
}

/* NULL: not a string, or memory ran out. At most PT_STR_MAX_BYTES of its data are read. */
static char *read_string(pid_t pid, const struct pt_layout *layout, uint64_t addr)
{
	uint8_t head[64], data[PT_STR_MAX_BYTES];
	uint64_t length;
	uint32_t state;
	unsigned int width;
	size_t chars;

	if (layout->str_length > sizeof(head) - 8 || layout->str_state > sizeof(head) - 4 ||
	    !addr || pt_memory_read(pid, addr, head, sizeof(head)))
		return NULL;
	memcpy(&length, head + layout->str_length, sizeof(length));
	memcpy(&state, head + layout->str_state, sizeof(state));
	width = STATE_KIND(state);
	if (!(state & STATE_COMPACT) || (width != 1 && width != 2 && width != 4))
		return NULL;
	chars = length < sizeof(data) / width ? (size_t)length : sizeof(data) / width;
	addr += state & STATE_ASCII ? layout->str_ascii_data : layout->str_data;
	if (chars && pt_memory_read(pid, addr, data, chars * width))
		return NULL;
	return to_utf8(data, chars, width);
}

static uint64_t pointer_at(const uint8_t *bytes, uint16_t offset)
{
	uint64_t value = 0;

	if (offset <= CODE_BYTES - sizeof(value))
		memcpy(&value, bytes + offset, sizeof(value));
	return value;
}

static int read_code(pid_t pid, const struct pt_layout *layout, uint64_t addr,
		     struct py_code_text *text)
{
	uint8_t code[CODE_BYTES] = {0};
	size_t need = layout->code_qualname != PT_NO_FIELD ? layout->code_qualname + 8u
							   : layout->code_name + 8u;
	ssize_t got = pt_memory_read_some(pid, addr, code, sizeof(code));

	memset(text, 0, sizeof(*text));
	if (got < 0 || (size_t)got < need)
		return -EFAULT;
	if (layout->code_firstlineno > CODE_BYTES - 4 || layout->code_flags > CODE_BYTES - 4)
		return -EINVAL;
	memcpy(&text->firstlineno, code + layout->code_firstlineno, 4);
	memcpy(&text->co_flags, code + layout->code_flags, 4);
	text->name = read_string(pid, layout, pointer_at(code, layout->code_name));
	text->filename = read_string(pid, layout, pointer_at(code, layout->code_filename));
	if (layout->code_qualname != PT_NO_FIELD)
		text->qualname = read_string(pid, layout, pointer_at(code, layout->code_qualname));
	if (!text->name || !text->filename) {
		py_code_text_release(text);
		return -EFAULT;
	}
	return 0;
}

/* 0; -EFAULT: the budget for text is spent, which only a hostile process manages. */
static int copy_string(struct code_cache *cache, const char *text, char **copy)
{
	size_t size = text ? strlen(text) + 1 : 0;

	if (!text)
		return 0;
	if (cache->text_bytes + size > STACK_MAX_TEXT_BYTES)
		return -EFAULT;
	cache->text_bytes += size;
	*copy = strdup(text);
	return *copy ? 0 : -ENOMEM;
}

/* The entry for this address, read now unless it is known. */
static int get_entry(struct code_cache *cache, pid_t pid, const struct pt_layout *layout,
		     uint64_t addr, const struct code_entry **out)
{
	struct code_entry *entry = pt_map_get(&cache->by_addr, addr, 0);
	int rc;

	*out = entry;
	if (entry)
		return 0;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	rc = read_code(pid, layout, addr, &entry->text);
	if (!rc)
		rc = pt_map_put(&cache->by_addr, addr, 0, entry);
	if (rc) {
		py_code_text_release(&entry->text);
		free(entry);
		return rc;
	}
	entry->next = cache->entries;
	cache->entries = entry;
	*out = entry;
	return 0;
}

int code_cache_get(struct code_cache *cache, pid_t pid, const struct pt_layout *layout,
		   uint64_t code_addr, struct py_code_text *text)
{
	const struct code_entry *entry;
	int rc;

	memset(text, 0, sizeof(*text));
	if (!code_addr)
		return -EFAULT;
	rc = get_entry(cache, pid, layout, code_addr, &entry);
	if (rc)
		return rc;
	text->firstlineno = entry->text.firstlineno;
	text->co_flags = entry->text.co_flags;
	rc = copy_string(cache, entry->text.name, &text->name);
	if (!rc)
		rc = copy_string(cache, entry->text.qualname, &text->qualname);
	if (!rc)
		rc = copy_string(cache, entry->text.filename, &text->filename);
	if (rc)
		py_code_text_release(text);
	return rc;
}

void code_cache_release(struct code_cache *cache)
{
	while (cache->entries) {
		struct code_entry *entry = cache->entries;

		cache->entries = entry->next;
		py_code_text_release(&entry->text);
		free(entry);
	}
	pt_map_release(&cache->by_addr);
	memset(cache, 0, sizeof(*cache));
}

void py_code_text_release(struct py_code_text *text)
{
	free(text->name);
	free(text->qualname);
	free(text->filename);
	memset(text, 0, sizeof(*text));
}

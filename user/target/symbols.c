// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/symbols.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"

#define SYMBOLS_MAX (8u << 20) /* of a file; those behind have no names */

struct loader {
	struct symbols *symbols;
	size_t room;
};

static uint8_t rank_of(const struct elf_symbol *symbol)
{
	return symbol->bind == STB_GLOBAL ? 0 : symbol->bind == STB_WEAK ? 1 : 2;
}

static int add(const struct elf_symbol *symbol, void *ctx)
{
	struct loader *loader = ctx;
	struct symbols *symbols = loader->symbols;
	struct symbol *bigger;

	if ((symbol->type != STT_FUNC && symbol->type != STT_GNU_IFUNC) || !symbol->size ||
	    !symbol->name[0] || symbol->size > UINT64_MAX - symbol->vaddr ||
	    symbols->count == SYMBOLS_MAX)
		return 0;
	bigger = pt_grow(symbols->list, symbols->count, &loader->room, 1024, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	symbols->list = bigger;
	symbols->list[symbols->count++] = (struct symbol){
	    symbol->vaddr, symbol->vaddr + symbol->size, symbol->name, rank_of(symbol)};
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;
	size_t x_len, y_len;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	x_len = strlen(x->name);
	y_len = strlen(y->name);
	if (x_len != y_len)
		return x_len < y_len ? -1 : 1;
	return strcmp(x->name, y->name);
}

int symbols_load(const struct elf_file *elf, struct symbols *symbols)
{
	struct loader loader = {.symbols = symbols};
	size_t kept = 0;
	int rc;

	memset(symbols, 0, sizeof(*symbols));
	rc = elf_each_symbol(elf, add, &loader);
	if (rc) {
		symbols_release(symbols);
		return rc;
	}
	if (symbols->count)
		qsort(symbols->list, symbols->count, sizeof(*symbols->list), compare);
	for (size_t i = 0; i < symbols->count; i++)
		if (!kept || symbols->list[i].start != symbols->list[kept - 1].start)
			symbols->list[kept++] = symbols->list[i];
	symbols->count = kept;
	return 0;
}

void symbols_release(struct symbols *symbols)
{
	free(symbols->list);
	memset(symbols, 0, sizeof(*symbols));
}

const char *symbols_find(const struct symbols *symbols, uint64_t vaddr)
{
	size_t low = 0, high = symbols->count;

	while (low < high) { /* the first that starts behind vaddr */
		size_t mid = low + (high - low) / 2;

		if (symbols->list[mid].start <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low || vaddr >= symbols->list[low - 1].end)
		return NULL;
	return symbols->list[low - 1].name;
}

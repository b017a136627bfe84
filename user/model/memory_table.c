// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The table of what stands at which address.
 */
#include <errno.h>
#include <stdlib.h>

#include "model/memory_parts.h"

static size_t bucket_of(const struct model_memory *memory, const struct model_process *process,
			unsigned int space, uint64_t address)
{
	const uint64_t key[] = {(uintptr_t)process, space, address};

	return pt_hash_bytes(key, sizeof(key), memory->seed) & (memory->table_size - 1);
}

static struct memory_entry **table_slot(const struct model_memory *memory,
					const struct model_process *process, unsigned int space,
					uint64_t address)
{
	struct memory_entry **slot = &memory->table[bucket_of(memory, process, space, address)];

	while (*slot && ((*slot)->process != process || (*slot)->space != space ||
			 (*slot)->address != address))
		slot = &(*slot)->next;
	return slot;
}

void *model_memory_table_find(const struct model_memory *memory,
			      const struct model_process *process, unsigned int space,
			      uint64_t address)
{
	return *table_slot(memory, process, space, address);
}

void model_memory_table_remove(struct model_memory *memory, const struct memory_entry *entry)
{
	struct memory_entry **slot = table_slot(memory, entry->process, entry->space,
						entry->address);

	*slot = entry->next;
	memory->table_count--;
}

int model_memory_table_resize(struct model_memory *memory, size_t size)
{
	struct memory_entry **old = memory->table;
	size_t old_size = memory->table_size;

	memory->table = calloc(size, sizeof(*memory->table));
	if (!memory->table) {
		memory->table = old;
		return -ENOMEM;
	}
	memory->table_size = size;
	for (size_t i = 0; i < old_size; i++) {
		while (old[i]) {
			struct memory_entry *entry = old[i], **slot;

			old[i] = entry->next;
			slot = &memory->table[bucket_of(memory, entry->process, entry->space,
							entry->address)];
			entry->next = *slot;
			*slot = entry;
		}
	}
	free(old);
	return 0;
}

void model_memory_table_add(struct pt_model *model, struct memory_entry *entry)
{
	struct model_memory *memory = model->memory;
	struct memory_entry **slot;

	if (memory->table_count == memory->table_size &&
	    model_memory_table_resize(memory, 2 * memory->table_size))
		model_fail(model, -ENOMEM); /* but it goes on with longer chains */
	slot = table_slot(memory, entry->process, entry->space, entry->address);
	entry->next = *slot;
	*slot = entry;
	memory->table_count++;
}

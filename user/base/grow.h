/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* grow.h - arrays that grow as items come. */
#ifndef PT_BASE_GROW_H
#define PT_BASE_GROW_H

#include <stddef.h>
#include <stdlib.h>

/* Where the array is once it has room for one more behind count items; NULL: no memory, and it is
 * as it was. *room: of items, 0 before the first call, which makes room for so many. */
static inline void *pt_grow(void *items, size_t count, size_t *room, size_t first,
			    size_t item_bytes)
{
	size_t more = *room ? 2 * *room : first;
	void *bigger;

	if (count < *room)
		return items;
	bigger = reallocarray(items, more, item_bytes);
	if (bigger)
		*room = more;
	return bigger;
}

#endif

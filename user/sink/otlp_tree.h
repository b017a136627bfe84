/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * otlp_tree.h - what OTLP messages of all kinds are put together of; nobody but their writers
 * includes it.
 *
 * The tree of a message lies in chunks that are freed together. What cannot be had sets failed.
 * Zero-initialise, take and add, pt_otlp_tree_clear().
 */
#ifndef PT_SINK_OTLP_TREE_H
#define PT_SINK_OTLP_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "otlp.pb-c.h"
#include "sink/otlp.h"

struct pt_otlp_chunk;

struct pt_otlp_tree {
	bool failed;
	struct pt_otlp_chunk *chunks;
};

/* Zeros; NULL: failed is set. */
void *pt_otlp_take(struct pt_otlp_tree *tree, size_t size);
char *pt_otlp_text(struct pt_otlp_tree *tree, const char *text);
/* Adds item to a list of protobuf-c's (at list: a pointer to pointers), whose room is a power of
 * two. NULL is not added. */
void pt_otlp_append(struct pt_otlp_tree *tree, size_t *count, void *list, void *item);
/* text NULL: a number. */
Otlp__Attribute *pt_otlp_attribute(struct pt_otlp_tree *tree, const char *key, const char *text,
				   int64_t number);
/* Of a process, or the agent's own (service NULL). */
Otlp__Resource *pt_otlp_resource(struct pt_otlp_tree *tree, const struct pt_otlp_source *source,
				 const char *service, pid_t pid);
/* Who says all this. */
Otlp__Scope *pt_otlp_scope(struct pt_otlp_tree *tree, const struct pt_otlp_source *source);
/* Forgets the message. */
void pt_otlp_tree_clear(struct pt_otlp_tree *tree);

/* Adds what goes over the wire. -ENOMEM. */
int pt_otlp_pack(const ProtobufCMessage *message, struct pt_buf *packed);

#endif

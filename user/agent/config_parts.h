/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * config_parts.h - what the files of the configuration's reader share; nobody else includes it.
 *
 * config.c reads the whole, by the tables of keys in config_keys.c. What any key may have as its
 * value is in config_values.c, what is wrong only together in config_check.c, and files that are
 * named in the configuration are read in config_files.c.
 */
#ifndef PT_AGENT_CONFIG_PARTS_H
#define PT_AGENT_CONFIG_PARTS_H

#include <stddef.h>
#include <stdint.h>

#include "agent/config.h"
#include "sink/json_scan.h"

/* Where a key, or a trigger, stands. */
struct config_place {
	const char *key, *text;
	size_t rule; /* its number, from 1; 0: it is not in a rule */
};

struct config_reader {
	const char *path, *text;
	struct agent_config *config;
	struct agent_rule *rule; /* that is being read */
	struct config_place *places;
	size_t place_count;
	struct pt_err *err;
};

struct config_field {
	const char *name;
	/* at: where to store it */
	int (*take)(struct config_reader *reader, const struct config_field *field,
		    const struct pt_json_span *value, void *at);
	size_t at;
	uint64_t least, most; /* of a number, a size, a time */
	const struct config_field *members;
};

/* ---- config_values.c ---- */

/* -EINVAL: what is wrong, in the line of at. */
int config_wrong(const struct config_reader *reader, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int config_no_memory(const struct config_reader *reader);
/* The key of the rule that is being read, or of none, stands at text. */
int config_remember(struct config_reader *reader, const char *key, const char *text);
/* NULL: it does not stand there. Of several objects' keys of that name, the first. */
const char *config_where(const struct config_reader *reader, size_t rule, const char *key);
/* From malloc. */
int config_take_text(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, char **text);

/* Suit config_field.take. */
int config_take_string(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at);
int config_take_bool(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, void *at);
int config_take_number(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at);
int config_take_time(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, void *at);
int config_take_size(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, void *at);
int config_take_percent(struct config_reader *reader, const struct config_field *field,
			const struct pt_json_span *value, void *at);
int config_take_endpoint(struct config_reader *reader, const struct config_field *field,
			 const struct pt_json_span *value, void *at);
/* An object of the field's members, in the whole configuration. */
int config_take_object(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at);

/* An object; fields end with one that has no name, and are stored behind base. */
int config_take_members(struct config_reader *reader, const struct config_field *fields,
			const struct pt_json_span *value, void *base);
/* Calls take_one for each item. */
int config_take_list(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value,
		     int (*take_one)(struct config_reader *reader, const struct config_field *field,
				     const struct pt_json_span *item, void *at),
		     void *at);

/* config_keys.c: those of the outermost object. */
extern const struct config_field config_keys[];

/* config_check.c */
int config_check(const struct config_reader *reader);

/* config_files.c */
int config_read_files(struct agent_config *config, struct pt_err *err);

#endif

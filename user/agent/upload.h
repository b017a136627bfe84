/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * upload.h - sends captures away: a command that is run with the capture's path, or a signed PUT to
 * storage that understands S3.
 *
 * A thread of its own takes one after the other, and tries again, after a second at first, then
 * after twice as long each time, of which chance takes up to a half. Captures that wait are known
 * in memory only, AGENT_UPLOADS_MAX of them; the files stay where they are, for as long as they are
 * kept there. Life cycle: agent_upload_new() -> agent_upload_put(), from any thread ->
 * agent_upload_free(), which ends what is under way.
 */
#ifndef PT_AGENT_UPLOAD_H
#define PT_AGENT_UPLOAD_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

#define AGENT_UPLOADS_MAX 64

struct agent_upload;

struct agent_upload_options {
	char *const *command; /* NULL-terminated, the path is added; NULL: none */
	const char *url;      /* PUT goes to url/RULE/NAME; NULL: nowhere */
	const char *region;
	const char *credentials; /* "KEY ID:SECRET KEY" */
	const char *ca_file;     /* NULL: the system's authorities */
	uint64_t timeout_ns;     /* of one attempt */
	uint64_t attempts;
};

struct agent_upload_stats {
	_Atomic uint64_t sent, failed, retries;
};

/* options and stats are borrowed. 0, -ENOMEM, -ENOPKG: there is no libcurl. */
int agent_upload_new(const struct agent_upload_options *options, struct agent_upload_stats *stats,
		     struct agent_upload **upload);
/* folder/name is a capture of rule. */
void agent_upload_put(struct agent_upload *upload, const char *folder, const char *rule,
		      const char *name);
void agent_upload_free(struct agent_upload *upload);

#endif

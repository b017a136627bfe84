/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * verbs.h - what each form of the command line does. Each returns the exit code when it succeeds,
 * or -errno with err filled.
 */
#ifndef PT_APP_VERBS_H
#define PT_APP_VERBS_H

#include "app/options.h"
#include "base/err.h"
#include "record/output.h"
#include "record/session.h"

int app_record(const struct app_options *options, struct pt_err *err);
int app_capture(const struct app_options *options, struct pt_err *err);
int app_dry_run(const struct app_options *options, struct pt_err *err);
int app_check(const struct app_options *options, struct pt_err *err);
int app_list(const struct app_options *options, struct pt_err *err);
int app_replay(const struct app_options *options, struct pt_err *err);
int app_report(const struct app_options *options, struct pt_err *err);
int app_kernels(const struct app_options *options, struct pt_err *err);
int app_agent(const struct app_options *options, struct pt_err *err);
int app_merge(const struct app_options *options, struct pt_err *err);
int app_ctl(const struct app_options *options, struct pt_err *err);

/* The parts of the options that stages take. The strings are options' own. */
void app_session_options(const struct app_options *options, struct pt_session_options *session);
void app_output_options(const struct app_options *options, struct pt_output_options *output);
/* The exit code of a command, as a shell has it. */
int app_command_status(int wait_status);
/* Where to cache, or NULL; text is the storage. */
const char *app_cache_dir(const struct app_options *options, char *text, size_t size);

#endif

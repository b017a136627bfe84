/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * log.h - messages for the person at the terminal, on stderr.
 *
 * The level is the program's only mutable global. With pt_log_json(true) each message is one JSON
 * object a line: {"time": "...", "level": "info", "message": "..."}. Thread-safe: one write(2) a
 * message. While a live status line is drawn, pt_log_status() keeps it the last line.
 */
#ifndef PT_BASE_LOG_H
#define PT_BASE_LOG_H

#include <stdbool.h>

enum pt_log_level { PT_LOG_ERROR, PT_LOG_WARN, PT_LOG_INFO, PT_LOG_VERBOSE, PT_LOG_DEBUG };

void pt_log_set_level(enum pt_log_level level);
enum pt_log_level pt_log_level(void);
void pt_log_json(bool on);
void pt_log(enum pt_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Draws text as the status line in place; NULL removes it. Does nothing unless stderr is a
 * terminal. */
void pt_log_status(const char *text);

#define pt_error(...)   pt_log(PT_LOG_ERROR, __VA_ARGS__)
#define pt_warn(...)    pt_log(PT_LOG_WARN, __VA_ARGS__)
#define pt_info(...)    pt_log(PT_LOG_INFO, __VA_ARGS__)
#define pt_verbose(...) pt_log(PT_LOG_VERBOSE, __VA_ARGS__)
#define pt_debug(...)   pt_log(PT_LOG_DEBUG, __VA_ARGS__)

#endif

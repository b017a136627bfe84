// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum pt_log_level log_level = PT_LOG_INFO;
static bool log_as_json;
static char status_line[256];

static const char *const level_names[] = {"error", "warning", "info", "verbose", "debug"};

void pt_log_set_level(enum pt_log_level level)
{
	log_level = level;
}

enum pt_log_level pt_log_level(void)
{
	return log_level;
}

void pt_log_json(bool on)
{
	log_as_json = on;
}

static void write_all(const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nowhere left to complain */
		text += n;
		len -= (size_t)n;
	}
}

/* Escapes text for a JSON string; bytes that are not ASCII pass through. */
static void json_escape(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text && n + 7 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			out[n++] = '\\';
			out[n++] = (char)c;
		} else if (c < 0x20) {
			n += (size_t)snprintf(out + n, 7, "\\u%04x", c);
		} else {
			out[n++] = (char)c;
		}
	}
	out[n] = '\0';
}

static int format_json(char *out, size_t size, enum pt_log_level level, const char *message)
{
	char escaped[3 * 1024], when[32];
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	json_escape(escaped, sizeof(escaped), message);
	return snprintf(out, size,
			"{\"time\": \"%s.%03ldZ\", \"level\": \"%s\", \"message\": \"%s\"}\n", when,
			now.tv_nsec / 1000000, level_names[level], escaped);
}

static int format_text(char *out, size_t size, enum pt_log_level level, const char *message)
{
	const char *prefix = level == PT_LOG_ERROR  ? "error: "
			     : level == PT_LOG_WARN ? "warning: "
						    : "";
	const char *erase = status_line[0] ? "\r\033[K" : "";

	return snprintf(out, size, "%spytrace-bpf: %s%s\n%s", erase, prefix, message, status_line);
}

void pt_log(enum pt_log_level level, const char *fmt, ...)
{
	char message[2048], out[4096];
	va_list args;
	int len;

	if (level > log_level)
		return;
	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	len = log_as_json ? format_json(out, sizeof(out), level, message)
			  : format_text(out, sizeof(out), level, message);
	if (len > 0)
		write_all(out, (size_t)len < sizeof(out) ? (size_t)len : sizeof(out) - 1);
}

void pt_log_status(const char *text)
{
	char out[sizeof(status_line) + 8];
	int len;

	if (log_as_json || !isatty(STDERR_FILENO))
		return;
	snprintf(status_line, sizeof(status_line), "%s", text ? text : "");
	len = snprintf(out, sizeof(out), "\r\033[K%s", status_line);
	if (len > 0)
		write_all(out, (size_t)len);
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* ctl: says one command to a recorder's control socket and prints the answer. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "app/verbs.h"
#include "record/control.h"

#define ANSWER_MAX_BYTES (64u << 10)
/* Commands that are done at once; a copy and the end take as long as writing takes. */
#define ANSWER_MS        10000

static int cannot_reach(const char *path, int rc, struct pt_err *err)
{
	if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -ENOTSOCK)
		return pt_err_set(err, rc, PT_EXIT_NO_TARGET,
				  "start it with --control PATH, and give --socket PATH here",
				  "no recorder listens on '%s': %s", path, strerror(-rc));
	return pt_err_set(err, rc, rc == -EACCES ? PT_EXIT_PERMISSION : PT_EXIT_FAILED,
			  rc == -EACCES ? "run it as the recorder's user, with sudo" : "",
			  "cannot reach '%s': %s", path, strerror(-rc));
}

static int reach(const char *path, struct pt_err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return pt_err_set(err, -ENAMETOOLONG, PT_EXIT_USAGE, "",
				  "the path of a socket has at most %zu bytes: '%s'",
				  sizeof(address.sun_path) - 1, path);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return cannot_reach(path, -errno, err);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		int rc = -errno;

		close(fd);
		return cannot_reach(path, rc, err);
	}
	return fd;
}

/* The line to send. A file's name is made absolute: the recorder runs in another folder. */
static int make_line(const struct app_options *options, char *line, size_t size, struct pt_err *err)
{
	const char *file = options->word_count > 1 ? options->words[1] : NULL;
	char folder[PATH_MAX] = "";
	int len;

	if (file && (!*file || strchr(file, '\n')))
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "",
				  *file ? "the name of the file has a line break"
					: "the name of the file is empty");
	if (file && *file != '/' && !getcwd(folder, sizeof(folder)))
		return pt_err_set(err, -errno, PT_EXIT_FAILED, "give a full path",
				  "the current folder has no name: %s", strerror(errno));
	len = snprintf(line, size, "%s%s%s%s%s%s\n", options->words[0], file ? " " : "", folder,
		       *folder ? "/" : "", file ? file : "",
		       options->flush_unfinished ? " --flush-unfinished" : "");
	if (len >= (int)size)
		return pt_err_set(err, -ENAMETOOLONG, PT_EXIT_USAGE, "",
				  "the name of the file is too long");
	return 0;
}

/* Reads the answer's line. */
static int read_answer(int fd, char *answer, size_t size, int timeout_ms)
{
	size_t len = 0;

	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		int ready = poll(&pfd, 1, timeout_ms);
		ssize_t n;

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return ready ? -errno : -ETIMEDOUT;
		n = read(fd, answer + len, size - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		len += (size_t)n;
		answer[len] = '\0';
		if (strchr(answer, '\n'))
			return 0;
		if (len + 1 == size)
			return -EMSGSIZE;
	}
}

/* Prints a good answer; a bad one is our error. */
static int take_answer(const char *answer, struct pt_err *err)
{
	cJSON *root = cJSON_Parse(answer);
	const cJSON *what = cJSON_GetObjectItemCaseSensitive(root, "error");
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(root, "exit_code");
	int rc = 0;

	if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "ok"))) {
		fputs(answer, stdout);
	} else if (cJSON_IsString(what) && cJSON_IsNumber(code)) {
		enum pt_exit exit_code = code->valueint > PT_EXIT_DONE &&
						 code->valueint <= PT_EXIT_LOST
					     ? (enum pt_exit)code->valueint
					     : PT_EXIT_FAILED;

		rc = pt_err_set(err, -EINVAL, exit_code, "", "%s", what->valuestring);
	} else {
		rc = pt_err_set(err, -EPROTO, PT_EXIT_FAILED, "is it a socket of pytrace-bpf?",
				"what came back is no answer");
	}
	cJSON_Delete(root);
	return rc;
}

int app_ctl(const struct app_options *options, struct pt_err *err)
{
	const char *path = options->socket ? options->socket : PT_CONTROL_SOCKET;
	bool long_one = !strcmp(options->words[0], "save") || !strcmp(options->words[0], "stop");
	char line[PT_CONTROL_LINE_BYTES], *answer;
	int fd, rc = make_line(options, line, sizeof(line), err);

	if (rc)
		return rc;
	answer = malloc(ANSWER_MAX_BYTES);
	if (!answer)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	fd = reach(path, err);
	if (fd < 0) {
		free(answer);
		return fd;
	}
	/* a recorder that refuses us has said why before it closed: read that all the same */
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		rc = -errno;
	if (!rc)
		rc = read_answer(fd, answer, ANSWER_MAX_BYTES, long_one ? -1 : ANSWER_MS);
	close(fd);
	if (rc)
		pt_err_set(err, rc, PT_EXIT_FAILED,
			   rc == -ETIMEDOUT ? "is the recorder stopped?"
					    : "the recorder may have ended",
			   "no answer came from '%s': %s", path, strerror(-rc));
	else
		rc = take_answer(answer, err);
	free(answer);
	return rc;
}

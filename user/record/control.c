// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "sink/json_text.h"

#define CLIENTS 8
#define IDLE_NS 10000000000ull

struct client {
	int fd;      /* -1: free */
	uint32_t id; /* 0: free */
	bool waits;  /* for the answer to its command */
	size_t len;
	uint64_t since_ns; /* it last did something */
	char line[PT_CONTROL_LINE_BYTES];
};

struct pt_control {
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd;
	dev_t dev;
	ino_t ino;
	uint32_t next_id;
	struct client clients[CLIENTS];
};

/* ---- the socket ---- */

static int open_failed(const char *path, int rc, struct pt_err *err)
{
	enum pt_exit code = rc == -EACCES || rc == -EPERM ? PT_EXIT_PERMISSION : PT_EXIT_FAILED;

	return pt_err_set(err, rc, code, "choose another place with --control",
			  "cannot make the control socket '%s': %s", path, strerror(-rc));
}

/* A socket that nobody listens on is left over from a recorder that was killed. */
static int remove_stale(const struct sockaddr_un *address, struct pt_err *err)
{
	const char *path = address->sun_path;
	struct stat st;
	int fd, rc;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : open_failed(path, -errno, err);
	if (!S_ISSOCK(st.st_mode))
		return pt_err_set(err, -EEXIST, PT_EXIT_USAGE,
				  "choose another place with --control",
				  "'%s' exists and is no socket", path);
	if (st.st_uid != geteuid())
		return pt_err_set(err, -EEXIST, PT_EXIT_PERMISSION,
				  "choose another place with --control",
				  "the socket '%s' belongs to user %u", path, st.st_uid);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return open_failed(path, -errno, err);
	rc = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	close(fd);
	if (rc != -ECONNREFUSED)
		return pt_err_set(err, -EADDRINUSE, PT_EXIT_FAILED,
				  "choose another place with --control",
				  "another program listens on '%s'", path);
	return unlink(path) && errno != ENOENT ? open_failed(path, -errno, err) : 0;
}

static int listen_on(struct pt_control *control, const struct sockaddr_un *address)
{
	mode_t mask = umask(0177); /* nobody else, from the first moment on */
	int rc = bind(control->fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	struct stat st;

	umask(mask);
	if (rc)
		return rc;
	if (lstat(address->sun_path, &st))
		return -errno;
	control->dev = st.st_dev;
	control->ino = st.st_ino;
	return listen(control->fd, CLIENTS) ? -errno : 0;
}

int pt_control_open(const char *path, struct pt_control **result, struct pt_err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct pt_control *control;
	int rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return pt_err_set(err, -ENAMETOOLONG, PT_EXIT_USAGE, "give a shorter path",
				  "the path of a socket has at most %zu bytes: '%s'",
				  sizeof(address.sun_path) - 1, path);
	strcpy(address.sun_path, path);
	rc = remove_stale(&address, err);
	if (rc)
		return rc;
	control = calloc(1, sizeof(*control));
	if (!control)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	strcpy(control->path, path);
	for (int i = 0; i < CLIENTS; i++)
		control->clients[i].fd = -1;
	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rc = control->fd < 0 ? -errno : listen_on(control, &address);
	if (rc) {
		pt_control_close(control);
		return open_failed(path, rc, err);
	}
	*result = control;
	return 0;
}

/* ---- clients ---- */

static void drop(struct client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	client->id = 0;
	client->len = 0;
	client->waits = false;
}

/* A line fits into the socket's buffer, or the client takes none. */
static void send_line(struct client *client, const char *json)
{
	struct pt_buf line = {0};

	pt_buf_add_str(&line, json);
	pt_buf_add_str(&line, "\n");
	if (line.failed ||
	    send(client->fd, line.data, line.len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)line.len)
		drop(client);
	pt_buf_release(&line);
}

static void send_error(struct client *client, const struct pt_err *err)
{
	struct pt_buf text = {0};

	pt_buf_add_str(&text, "{\"ok\": false, \"error\": ");
	pt_json_string(&text, err->what);
	pt_buf_printf(&text, ", \"exit_code\": %d}", err->exit_code);
	pt_buf_add(&text, "", 1);
	if (text.failed)
		drop(client);
	else
		send_line(client, text.data);
	pt_buf_release(&text);
}

static void refuse_and_drop(struct client *client, enum pt_exit code, const char *what)
{
	struct pt_err err = {0};

	pt_err_set(&err, -1, code, "", "%s", what);
	send_error(client, &err);
	drop(client);
}

static struct client *by_id(struct pt_control *control, uint32_t id)
{
	for (int i = 0; id && i < CLIENTS; i++) {
		if (control->clients[i].id == id)
			return &control->clients[i];
	}
	return NULL;
}

static struct client *free_slot(struct pt_control *control)
{
	for (int i = 0; i < CLIENTS; i++) {
		if (control->clients[i].fd < 0)
			return &control->clients[i];
	}
	return NULL;
}

static void take_client(struct pt_control *control, int fd)
{
	struct client *client = free_slot(control), extra = {.fd = fd};
	struct ucred who;
	socklen_t len = sizeof(who);

	if (!client) {
		refuse_and_drop(&extra, PT_EXIT_FAILED, "too many clients at once");
		return;
	}
	client->fd = fd;
	client->id = ++control->next_id ? control->next_id : ++control->next_id;
	client->since_ns = pt_now_ns();
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) || len != sizeof(who) ||
	    (who.uid != 0 && who.uid != geteuid()))
		refuse_and_drop(client, PT_EXIT_PERMISSION,
				"only root and the user of the recorder may control it");
}

/* Hands out the first line, if there is a whole one. */
static void take_line(struct client *client, pt_control_fn fn, void *ctx)
{
	char line[PT_CONTROL_LINE_BYTES], *end = memchr(client->line, '\n', client->len);
	size_t len = end ? (size_t)(end - client->line) : 0;

	if (!end) {
		if (client->len == sizeof(client->line))
			refuse_and_drop(client, PT_EXIT_USAGE, "the line is too long");
		return;
	}
	memcpy(line, client->line, len);
	client->len -= len + 1;
	memmove(client->line, end + 1, client->len);
	if (len && line[len - 1] == '\r')
		len--;
	line[len] = '\0';
	if (memchr(line, '\0', len)) {
		refuse_and_drop(client, PT_EXIT_USAGE, "a command holds no NUL");
		return;
	}
	client->waits = true;
	fn(client->id, line, ctx);
}

static void serve(struct client *client, pt_control_fn fn, void *ctx)
{
	ssize_t n;

	/* also while it waits: one that has gone makes room */
	n = recv(client->fd, client->line + client->len, sizeof(client->line) - client->len,
		 MSG_DONTWAIT);
	if (n > 0) {
		client->len += (size_t)n;
		client->since_ns = pt_now_ns();
	} else if ((n < 0 && errno != EAGAIN && errno != EINTR) ||
		   (n == 0 && client->len < sizeof(client->line) && !client->waits &&
		    !memchr(client->line, '\n', client->len))) {
		drop(client);
		return;
	}
	if (client->waits)
		return;
	take_line(client, fn, ctx);
	if (client->fd >= 0 && !client->waits && pt_now_ns() - client->since_ns > IDLE_NS)
		refuse_and_drop(client, PT_EXIT_FAILED, "no command came for 10 seconds");
}

void pt_control_service(struct pt_control *control, pt_control_fn fn, void *ctx)
{
	int fd;

	while ((fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		take_client(control, fd);
	for (int i = 0; i < CLIENTS; i++) {
		if (control->clients[i].fd >= 0)
			serve(&control->clients[i], fn, ctx);
	}
}

void pt_control_answer(struct pt_control *control, uint32_t id, const char *json)
{
	struct client *client = by_id(control, id);

	if (!client)
		return;
	client->waits = false;
	client->since_ns = pt_now_ns();
	send_line(client, json);
}

void pt_control_refuse(struct pt_control *control, uint32_t id, const struct pt_err *err)
{
	struct client *client = by_id(control, id);

	if (!client)
		return;
	client->waits = false;
	client->since_ns = pt_now_ns();
	send_error(client, err);
}

void pt_control_close(struct pt_control *control)
{
	struct stat st;

	if (!control)
		return;
	for (int i = 0; i < CLIENTS; i++)
		drop(&control->clients[i]);
	if (control->fd >= 0)
		close(control->fd);
	/* only what is ours: somebody may have put another one there */
	if (control->ino && !lstat(control->path, &st) && st.st_dev == control->dev &&
	    st.st_ino == control->ino)
		unlink(control->path);
	free(control);
}

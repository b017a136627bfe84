// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/curl.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/thread.h"

#define NS_PER_S     1000000000ull
#define RETRY_MAX_NS (60 * NS_PER_S)
#define LOOK_MS      100 /* how often it is looked whether the agent ends */

extern char **environ;

struct waiting {
	char path[PATH_MAX], rule[64], name[160];
};

struct agent_upload {
	struct agent_upload_options options;
	struct agent_upload_stats *stats;
	const struct pt_curl *curl; /* NULL: nothing is PUT */
	pthread_t thread;
	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t changed;
	struct waiting *queue; /* a ring of AGENT_UPLOADS_MAX */
	size_t first, count;
	atomic_bool stop;
};

/* What an attempt led to. */
enum outcome { SENT, AGAIN, NEVER };

/* ---- a command ---- */

static int start(char *const *arguments, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						  POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setpgroup(&attributes, 0);
	rc = posix_spawnp(pid, arguments[0], &actions, &attributes, arguments, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

/* Its wait status; -1: it took too long, or the agent ends. */
static int wait_for(const struct agent_upload *upload, pid_t pid)
{
	uint64_t until_ns = pt_now_ns() + upload->options.timeout_ns;
	int status = -1;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (!atomic_load(&upload->stop) && pt_now_ns() < until_ns) {
			poll(NULL, 0, LOOK_MS);
			continue;
		}
		kill(-pid, SIGKILL);
		waitpid(pid, &status, 0);
		return -1;
	}
	return status;
}

static enum outcome run_command(const struct agent_upload *upload, const struct waiting *waiting)
{
	char *const *command = upload->options.command;
	size_t count = 0;
	char **arguments;
	int rc, status;
	pid_t pid;

	while (command[count])
		count++;
	arguments = calloc(count + 2, sizeof(*arguments));
	if (!arguments)
		return AGAIN;
	memcpy(arguments, command, count * sizeof(*arguments));
	arguments[count] = (char *)(uintptr_t)waiting->path;
	rc = start(arguments, &pid);
	free(arguments);
	if (rc) {
		pt_warn("cannot run '%s': %s", command[0], strerror(-rc));
		return AGAIN;
	}
	status = wait_for(upload, pid);
	if (status)
		pt_warn("'%s' with %s: %s %d", command[0], waiting->name,
			status < 0            ? "took too long, or the agent ends:"
			: WIFSIGNALED(status) ? "was ended by signal"
					      : "exit status",
			status < 0            ? 0
			: WIFSIGNALED(status) ? WTERMSIG(status)
					      : WEXITSTATUS(status));
	return status ? AGAIN : SENT;
}

/* ---- S3 ---- */

static bool hash_file(FILE *file, char hex[PT_SHA256_HEX])
{
	struct pt_sha256 sha;
	char buffer[65536];
	size_t n;

	pt_sha256_begin(&sha);
	while ((n = fread(buffer, 1, sizeof(buffer), file)) > 0)
		pt_sha256_add(&sha, buffer, n);
	pt_sha256_end(&sha, hex);
	return !ferror(file) && !fseek(file, 0, SEEK_SET);
}

static size_t read_file(char *data, size_t size, size_t count, void *file)
{
	size_t n = fread(data, 1, size * count, file);

	return ferror((FILE *)file) ? CURL_READFUNC_ABORT : n;
}

static size_t drop_answer(char *data, size_t size, size_t count, void *ctx)
{
	return size * count;
}

/* url/RULE/NAME. Of what they are made of, '+' alone means something else in an address. */
static void write_url(const struct agent_upload *upload, const struct waiting *waiting,
		      struct pt_buf *url)
{
	const char *base = upload->options.url;
	size_t len = strlen(base);

	while (len && base[len - 1] == '/')
		len--;
	pt_buf_add(url, base, len);
	pt_buf_printf(url, "/%s/", waiting->rule);
	for (const char *p = waiting->name; *p; p++)
		pt_buf_add(url, *p == '+' ? "%2B" : p, *p == '+' ? 3 : 1);
	pt_buf_add(url, "", 1);
}

static bool set_options(const struct agent_upload *upload, CURL *easy, const char *url,
			struct curl_slist *headers, FILE *file, off_t size)
{
	const struct agent_upload_options *options = &upload->options;
	const struct pt_curl *curl = upload->curl;
	char provider[128];

	snprintf(provider, sizeof(provider), "aws:amz:%s:s3", options->region);
	if (options->ca_file && curl->easy_setopt(easy, CURLOPT_CAINFO, options->ca_file))
		return false;
	return !curl->easy_setopt(easy, CURLOPT_URL, url) &&
	       !curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") &&
	       !curl->easy_setopt(easy, CURLOPT_AWS_SIGV4, provider) &&
	       !curl->easy_setopt(easy, CURLOPT_USERPWD, options->credentials) &&
	       !curl->easy_setopt(easy, CURLOPT_HTTPHEADER, headers) &&
	       !curl->easy_setopt(easy, CURLOPT_UPLOAD, 1L) &&
	       !curl->easy_setopt(easy, CURLOPT_READFUNCTION, read_file) &&
	       !curl->easy_setopt(easy, CURLOPT_READDATA, file) &&
	       !curl->easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)size) &&
	       !curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop_answer) &&
	       !curl->easy_setopt(easy, CURLOPT_USERAGENT, "pytrace-bpf/" PT_VERSION) &&
	       !curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) &&
	       !curl->easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(options->timeout_ns / 1000000));
}

/* CURLE_ABORTED_BY_CALLBACK: the agent ends. */
static CURLcode perform(const struct agent_upload *upload, CURL *easy)
{
	const struct pt_curl *curl = upload->curl;
	CURLM *multi = curl->multi_init();
	CURLcode code = CURLE_ABORTED_BY_CALLBACK;
	bool done = false;
	int active, left;

	if (!multi || curl->multi_add_handle(multi, easy)) {
		curl->multi_cleanup(multi);
		return CURLE_OUT_OF_MEMORY;
	}
	while (!done && !atomic_load(&upload->stop)) {
		const CURLMsg *message;

		curl->multi_perform(multi, &active);
		while ((message = curl->multi_info_read(multi, &left))) {
			if (message->msg != CURLMSG_DONE)
				continue;
			code = message->data.result;
			done = true;
		}
		if (!done)
			curl->multi_poll(multi, NULL, 0, LOOK_MS, NULL);
	}
	curl->multi_remove_handle(multi, easy);
	curl->multi_cleanup(multi);
	return code;
}

static enum outcome judge(const struct agent_upload *upload, CURL *easy, CURLcode code,
			  const char *name)
{
	long status = 0;

	if (code) {
		pt_warn("%s was not sent: %s", name, upload->curl->easy_strerror(code));
		return AGAIN;
	}
	upload->curl->easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (status / 100 == 2)
		return SENT;
	pt_warn("%s was not sent: the storage answered %ld", name, status);
	return status / 100 == 5 || status == 408 || status == 429 ? AGAIN : NEVER;
}

static enum outcome put_open(const struct agent_upload *upload, const struct waiting *waiting,
			     FILE *file)
{
	const struct pt_curl *curl = upload->curl;
	struct curl_slist *headers, *longer;
	char hex[PT_SHA256_HEX], header[128];
	enum outcome outcome = AGAIN;
	CURL *easy = curl->easy_init();
	struct pt_buf url = {0};
	struct stat st;
	bool set = easy && !fstat(fileno(file), &st) && hash_file(file, hex);

	write_url(upload, waiting, &url);
	/* all of these are signed: none may be given to be left out ("Expect:") */
	snprintf(header, sizeof(header), "x-amz-content-sha256: %s", set ? hex : "");
	headers = curl->slist_append(NULL, "Content-Type: application/gzip");
	longer = curl->slist_append(headers, header);
	set &= headers && longer;
	if (set && !url.failed && set_options(upload, easy, url.data, headers, file, st.st_size))
		outcome = judge(upload, easy, perform(upload, easy), waiting->name);
	else
		pt_warn("%s was not sent: it cannot be read, or memory is short", waiting->name);
	curl->easy_cleanup(easy);
	curl->slist_free_all(longer ? longer : headers);
	pt_buf_release(&url);
	return outcome;
}

static enum outcome put_file(const struct agent_upload *upload, const struct waiting *waiting)
{
	FILE *file = fopen(waiting->path, "re");
	enum outcome outcome;

	if (!file) {
		pt_warn("%s was not sent: it is gone: %s", waiting->name, strerror(errno));
		return NEVER;
	}
	outcome = put_open(upload, waiting, file);
	fclose(file);
	return outcome;
}

/* ---- the thread ---- */

static enum outcome send_once(const struct agent_upload *upload, const struct waiting *waiting,
			      bool *command_done)
{
	enum outcome outcome = SENT;

	if (upload->options.command && !*command_done)
		outcome = run_command(upload, waiting);
	if (outcome != SENT)
		return outcome;
	*command_done = true;
	return upload->options.url ? put_file(upload, waiting) : SENT;
}

/* Up to ns, of which chance takes up to a half: many agents may wait for the same. */
static void rest(struct agent_upload *upload, uint64_t ns)
{
	struct timespec until;
	uint32_t chance = 0;

	if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) != sizeof(chance))
		chance = (uint32_t)pt_now_ns();
	ns = pt_now_ns() + ns - (ns / 2 >> 16) * (chance >> 16);
	until.tv_sec = (time_t)(ns / NS_PER_S);
	until.tv_nsec = (long)(ns % NS_PER_S);
	pthread_mutex_lock(&upload->lock);
	while (!atomic_load(&upload->stop) &&
	       pthread_cond_timedwait(&upload->changed, &upload->lock, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&upload->lock);
}

static void send_one(struct agent_upload *upload, const struct waiting *waiting)
{
	uint64_t rest_ns = NS_PER_S;
	enum outcome outcome = AGAIN;
	bool command_done = false;

	for (uint64_t i = 0; outcome == AGAIN && !atomic_load(&upload->stop); i++) {
		outcome = send_once(upload, waiting, &command_done);
		if (outcome != AGAIN || i + 1 >= upload->options.attempts)
			break;
		atomic_fetch_add(&upload->stats->retries, 1);
		rest(upload, rest_ns);
		rest_ns = 2 * rest_ns < RETRY_MAX_NS ? 2 * rest_ns : RETRY_MAX_NS;
	}
	atomic_fetch_add(outcome == SENT ? &upload->stats->sent : &upload->stats->failed, 1);
	if (outcome != SENT)
		pt_error("%s was given up: it is here only", waiting->path);
}

static void *run(void *ctx)
{
	struct agent_upload *upload = ctx;

	while (true) {
		struct waiting waiting;

		pthread_mutex_lock(&upload->lock);
		while (!upload->count && !atomic_load(&upload->stop))
			pthread_cond_wait(&upload->changed, &upload->lock);
		if (atomic_load(&upload->stop)) {
			atomic_fetch_add(&upload->stats->failed, upload->count);
			pthread_mutex_unlock(&upload->lock);
			return NULL;
		}
		waiting = upload->queue[upload->first];
		upload->first = (upload->first + 1) % AGENT_UPLOADS_MAX;
		upload->count--;
		pthread_mutex_unlock(&upload->lock);
		send_one(upload, &waiting);
	}
}

void agent_upload_put(struct agent_upload *upload, const char *folder, const char *rule,
		      const char *name)
{
	bool full;

	pthread_mutex_lock(&upload->lock);
	full = upload->count == AGENT_UPLOADS_MAX;
	if (!full) {
		struct waiting *waiting =
		    &upload->queue[(upload->first + upload->count++) % AGENT_UPLOADS_MAX];

		snprintf(waiting->path, sizeof(waiting->path), "%s/%s", folder, name);
		snprintf(waiting->rule, sizeof(waiting->rule), "%s", rule);
		snprintf(waiting->name, sizeof(waiting->name), "%s", name);
		pthread_cond_broadcast(&upload->changed);
	}
	pthread_mutex_unlock(&upload->lock);
	if (!full)
		return;
	atomic_fetch_add(&upload->stats->failed, 1);
	pt_error("%s/%s is not sent: %d others wait", folder, name, AGENT_UPLOADS_MAX);
}

int agent_upload_new(const struct agent_upload_options *options, struct agent_upload_stats *stats,
		     struct agent_upload **out)
{
	struct agent_upload *upload = calloc(1, sizeof(*upload));
	pthread_condattr_t attributes;

	if (upload)
		upload->queue = calloc(AGENT_UPLOADS_MAX, sizeof(*upload->queue));
	if (!upload || !upload->queue) {
		free(upload);
		return -ENOMEM;
	}
	upload->options = *options;
	upload->stats = stats;
	upload->curl = options->url ? pt_curl() : NULL;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_mutex_init(&upload->lock, NULL);
	pthread_cond_init(&upload->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	if ((options->url && !upload->curl) || pt_thread_start(&upload->thread, run, upload)) {
		int rc = options->url && !upload->curl ? -ENOPKG : -ENOMEM;

		free(upload->queue);
		free(upload);
		return rc;
	}
	*out = upload;
	return 0;
}

void agent_upload_free(struct agent_upload *upload)
{
	if (!upload)
		return;
	pthread_mutex_lock(&upload->lock);
	atomic_store(&upload->stop, true);
	pthread_cond_broadcast(&upload->changed);
	pthread_mutex_unlock(&upload->lock);
	pthread_join(upload->thread, NULL);
	pthread_cond_destroy(&upload->changed);
	pthread_mutex_destroy(&upload->lock);
	free(upload->queue);
	free(upload);
}

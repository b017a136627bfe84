// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What the agent answers. Runs in the server's thread. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "agent/agent_parts.h"
#include "agent/captures.h"
#include "base/clock.h"
#include "base/parse.h"

/* The recorder looks around twice a second; but beginning and ending a session takes it up to a
 * second for each process. */
#define STUCK_NS 300000000000ull

enum page {
	PAGE_METRICS,
	PAGE_HEALTH,
	PAGE_PROCESSES,
	PAGE_RELOAD,
	PAGE_CAPTURE,  /* make one */
	PAGE_CAPTURES, /* which there are */
	PAGE_DOWNLOAD, /* one of them */
};

const struct pt_http_page agent_pages[] = {
    {"/metrics", "GET", "text/plain; version=0.0.4; charset=utf-8", PAGE_METRICS, false, false},
    {"/healthz", "GET", "text/plain; charset=utf-8", PAGE_HEALTH, false, false},
    {"/processes", "GET", "application/json", PAGE_PROCESSES, false, false},
    {"/reload", "POST", "text/plain; charset=utf-8", PAGE_RELOAD, true, false},
    {"/capture", "POST", "application/json", PAGE_CAPTURE, true, false},
    {"/captures", "GET", "application/json", PAGE_CAPTURES, true, false},
    {"/captures/", "GET", "application/gzip", PAGE_DOWNLOAD, true, true},
};
const size_t agent_page_count = sizeof(agent_pages) / sizeof(agent_pages[0]);

static unsigned int metrics(struct agent *agent, struct pt_buf *text)
{
	const struct pt_series_sink sink = pt_series_text(text);

	agent_series(agent, &sink);
	return 200;
}

static unsigned int health(struct agent *agent, struct pt_buf *text)
{
	uint64_t ticked_ns, now_ns;

	pthread_mutex_lock(&agent->lock);
	ticked_ns = agent->ticked_ns;
	pthread_mutex_unlock(&agent->lock);
	now_ns = pt_now_ns();
	if (now_ns - ticked_ns < STUCK_NS) {
		pt_buf_add_str(text, "ok\n");
		return 200;
	}
	pt_buf_printf(text, "the recorder has not moved for %llu s\n",
		      (unsigned long long)((now_ns - ticked_ns) / 1000000000));
	return 503;
}

static void add_process(cJSON *array, const struct agent_process *process)
{
	cJSON *object = cJSON_CreateObject();

	cJSON_AddNumberToObject(object, "pid", process->pid);
	cJSON_AddNumberToObject(object, "uid", process->uid);
	cJSON_AddStringToObject(object, "name", process->name);
	cJSON_AddStringToObject(object, "version", process->version);
	cJSON_AddStringToObject(object, "engine", process->engine);
	cJSON_AddStringToObject(object, "rule", process->rule);
	cJSON_AddNumberToObject(object, "since", (double)process->since);
	if (process->reason[0])
		cJSON_AddStringToObject(object, "reason", process->reason);
	cJSON_AddItemToArray(array, object);
}

static unsigned int processes(struct agent *agent, struct pt_buf *text)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *recorded = cJSON_AddArrayToObject(root, "recorded");
	cJSON *refused = cJSON_AddArrayToObject(root, "refused");
	const struct agent_recording *now;
	char *printed;

	pthread_mutex_lock(&agent->lock);
	now = agent_recording_now(agent);
	for (size_t i = 0; now && i < now->process_count; i++)
		add_process(recorded, &now->processes[i]);
	for (size_t i = 0; i < agent->refused_count; i++)
		add_process(refused, &agent->refused[i]);
	pthread_mutex_unlock(&agent->lock);
	printed = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (printed)
		pt_buf_add_str(text, printed);
	else
		text->failed = true;
	free(printed);
	return 200;
}

/* ---- captures ---- */

static unsigned int capture(struct agent *agent, const char *pid_text, struct pt_buf *text)
{
	uint64_t pid;
	int rc;

	if (!pid_text || pt_parse_number(pid_text, &pid) || !pid || pid > INT32_MAX) {
		pt_buf_add_str(text, "the process is missing: POST /capture?pid=N\n");
		return 400;
	}
	pthread_rwlock_rdlock(&agent->captures_lock);
	rc = agent_captures_ask(agent->captures, (pid_t)pid, text);
	pthread_rwlock_unlock(&agent->captures_lock);
	if (!rc)
		return 202;
	pt_buf_add_str(text, "no flight recorder has that process: it is not recorded, or its "
			     "rule has no \"capture\"\n");
	return 404;
}

static unsigned int captures(struct agent *agent, struct pt_buf *text)
{
	pthread_rwlock_rdlock(&agent->captures_lock);
	agent_captures_list(agent->captures, text);
	pthread_rwlock_unlock(&agent->captures_lock);
	return 200;
}

static unsigned int download(struct agent *agent, const char *path, struct pt_http_reply *reply)
{
	pthread_rwlock_rdlock(&agent->captures_lock);
	reply->fd = agent_captures_open(agent->captures, path, &reply->fd_bytes);
	pthread_rwlock_unlock(&agent->captures_lock);
	if (reply->fd >= 0)
		return 200;
	pt_buf_add_str(&reply->text, "there is no such capture\n");
	return 404;
}

unsigned int agent_answer(const struct pt_http_request *request, struct pt_http_reply *reply,
			  void *ctx)
{
	struct pt_buf *text = &reply->text;

	switch ((enum page)request->page) {
	case PAGE_METRICS:
		return metrics(ctx, text);
	case PAGE_HEALTH:
		return health(ctx, text);
	case PAGE_PROCESSES:
		return processes(ctx, text);
	case PAGE_RELOAD:
		kill(getpid(), SIGHUP); /* the main thread waits for it */
		pt_buf_add_str(text,
			       "the configuration is read anew; the log says if it is wrong\n");
		return 202;
	case PAGE_CAPTURE:
		return capture(ctx, request->pid, text);
	case PAGE_CAPTURES:
		return captures(ctx, text);
	case PAGE_DOWNLOAD:
		return download(ctx, request->rest, reply);
	}
	return 500;
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/post.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/curl.h"

#define ANSWER_MAX_BYTES (64u << 10)

struct agent_post {
	const struct pt_curl *curl;
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	bool running;
	struct pt_buf answer;
	char error[CURL_ERROR_SIZE];
};

static bool has_part(const struct pt_curl *curl, CURLU *url, CURLUPart which)
{
	char *text = NULL;
	bool has = !curl->url_get(url, which, &text, 0) && text && *text;

	curl->free(text);
	return has;
}

const char *agent_post_check_url(const char *text)
{
	const struct pt_curl *curl = pt_curl();
	CURLU *url = curl ? curl->url() : NULL;
	const char *wrong = NULL;

	if (!curl)
		return "wants libcurl.so.4 (7.85 or later), which is not installed";
	if (!url)
		return "out of memory";
	if ((strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0) ||
	    curl->url_set(url, CURLUPART_URL, text, 0) || !has_part(curl, url, CURLUPART_HOST))
		wrong = "is no http:// or https:// address";
	else if (has_part(curl, url, CURLUPART_USER) || has_part(curl, url, CURLUPART_PASSWORD))
		wrong = "holds a user: secrets belong into a file of headers";
	else if (has_part(curl, url, CURLUPART_QUERY) || has_part(curl, url, CURLUPART_FRAGMENT))
		wrong = "has something behind its path";
	curl->url_cleanup(url);
	return wrong;
}

/* Keeps the beginning of the answer. */
static size_t on_data(char *data, size_t size, size_t count, void *ctx)
{
	struct agent_post *post = ctx;
	size_t len = size * count, room = ANSWER_MAX_BYTES - post->answer.len;

	pt_buf_add(&post->answer, data, len < room ? len : room);
	return len;
}

static bool add_header(struct agent_post *post, const char *header)
{
	struct curl_slist *longer = post->curl->slist_append(post->headers, header);

	if (longer)
		post->headers = longer;
	return longer;
}

static bool set_options(struct agent_post *post, const struct agent_post_options *options)
{
	const struct pt_curl *curl = post->curl;
	CURL *easy = post->easy;
	uint64_t timeout_ms = options->timeout_ns / 1000000;
	bool set = add_header(post, "Expect:"); /* no round trip before the body */

	for (size_t i = 0; set && i < options->header_count; i++)
		set = add_header(post, options->headers[i]);
	if (options->ca_file)
		set = set && !curl->easy_setopt(easy, CURLOPT_CAINFO, options->ca_file);
	return set && !curl->easy_setopt(easy, CURLOPT_URL, options->url) &&
	       !curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") &&
	       !curl->easy_setopt(easy, CURLOPT_HTTPHEADER, post->headers) &&
	       !curl->easy_setopt(easy, CURLOPT_POST, 1L) &&
	       !curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) &&
	       !curl->easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms) &&
	       !curl->easy_setopt(easy, CURLOPT_USERAGENT, "pytrace-bpf/" PT_VERSION) &&
	       !curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, post->error) &&
	       !curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data) &&
	       !curl->easy_setopt(easy, CURLOPT_WRITEDATA, post);
}

int agent_post_new(const struct agent_post_options *options, struct agent_post **result)
{
	struct agent_post *post = calloc(1, sizeof(*post));

	if (!post)
		return -ENOMEM;
	post->curl = pt_curl();
	if (!post->curl) {
		free(post);
		return -ENOPKG;
	}
	post->multi = post->curl->multi_init();
	post->easy = post->curl->easy_init();
	if (!post->multi || !post->easy || !set_options(post, options)) {
		agent_post_free(post);
		return -ENOMEM;
	}
	*result = post;
	return 0;
}

int agent_post_begin(struct agent_post *post, const void *data, size_t len)
{
	post->answer.len = 0;
	post->error[0] = '\0';
	if (post->curl->easy_setopt(post->easy, CURLOPT_POSTFIELDS, data) ||
	    post->curl->easy_setopt(post->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len) ||
	    post->curl->multi_add_handle(post->multi, post->easy))
		return -ENOMEM;
	post->running = true;
	return 0;
}

static void read_result(struct agent_post *post, CURLcode code, struct agent_post_result *result)
{
	curl_off_t retry_after = 0;

	*result = (struct agent_post_result){.outcome = AGENT_POST_DONE, .answer = post->answer};
	if (code == CURLE_OPERATION_TIMEDOUT)
		result->outcome = AGENT_POST_SLOW;
	else if (code)
		result->outcome = AGENT_POST_UNREACHABLE;
	if (code) {
		result->error = post->error[0] ? post->error : post->curl->easy_strerror(code);
		return;
	}
	post->curl->easy_getinfo(post->easy, CURLINFO_RESPONSE_CODE, &result->status);
	post->curl->easy_getinfo(post->easy, CURLINFO_RETRY_AFTER, &retry_after);
	result->retry_after = retry_after > 0 ? (uint64_t)retry_after : 0;
}

static bool take_result(struct agent_post *post, struct agent_post_result *result)
{
	const CURLMsg *message;
	int left;

	while (post->running && (message = post->curl->multi_info_read(post->multi, &left))) {
		if (message->msg != CURLMSG_DONE)
			continue;
		read_result(post, message->data.result, result);
		post->curl->multi_remove_handle(post->multi, post->easy);
		post->running = false;
		return true;
	}
	return false;
}

bool agent_post_wait(struct agent_post *post, uint64_t ns, struct agent_post_result *result)
{
	uint64_t ms = (ns + 999999) / 1000000;
	int active;

	post->curl->multi_perform(post->multi, &active);
	if (take_result(post, result))
		return true;
	post->curl->multi_poll(post->multi, NULL, 0, ms > INT_MAX ? INT_MAX : (int)ms, NULL);
	post->curl->multi_perform(post->multi, &active);
	return take_result(post, result);
}

void agent_post_wake(struct agent_post *post)
{
	post->curl->multi_wakeup(post->multi);
}

void agent_post_free(struct agent_post *post)
{
	if (!post)
		return;
	if (post->running)
		post->curl->multi_remove_handle(post->multi, post->easy);
	post->curl->easy_cleanup(post->easy);
	post->curl->multi_cleanup(post->multi);
	post->curl->slist_free_all(post->headers);
	pt_buf_release(&post->answer);
	free(post);
}

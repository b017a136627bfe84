// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY "libcurl.so.4"

static struct pt_curl curl;
static bool loaded;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool find(void *library, const char *name, void *function)
{
	void *address = dlsym(library, name);

	memcpy(function, &address, sizeof(address)); /* C has no cast for it */
	return address;
}

static void load(void)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return;
#define FIND(name)                                                                                 \
	if (!find(library, "curl_" #name, &curl.name))                                             \
		return;
	PT_CURL_FUNCTIONS(FIND)
#undef FIND
	loaded = !curl.global_init(CURL_GLOBAL_DEFAULT);
}

const struct pt_curl *pt_curl(void)
{
	pthread_once(&once, load);
	return loaded ? &curl : NULL;
}

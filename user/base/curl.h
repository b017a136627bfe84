/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * curl.h - libcurl, loaded when it is needed for the first time.
 *
 * It brings some 25 libraries with it, which would double the time that the program takes to start
 * (5 ms of CPU time, Debian 12), for what most runs never do. Thread-safe.
 */
#ifndef PT_BASE_CURL_H
#define PT_BASE_CURL_H

#define CURL_DISABLE_TYPECHECK /* its macros have the functions' names */
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo

#define PT_CURL_FUNCTIONS(X)                                                                       \
	X(global_init)                                                                             \
	X(free)                                                                                    \
	X(url)                                                                                     \
	X(url_set)                                                                                 \
	X(url_get)                                                                                 \
	X(url_cleanup)                                                                             \
	X(slist_append)                                                                            \
	X(slist_free_all)                                                                          \
	X(easy_init)                                                                               \
	X(easy_setopt)                                                                             \
	X(easy_getinfo)                                                                            \
	X(easy_strerror)                                                                           \
	X(easy_cleanup)                                                                            \
	X(multi_init)                                                                              \
	X(multi_add_handle)                                                                        \
	X(multi_remove_handle)                                                                     \
	X(multi_perform)                                                                           \
	X(multi_poll)                                                                              \
	X(multi_wakeup)                                                                            \
	X(multi_info_read)                                                                         \
	X(multi_cleanup)

struct pt_curl {
#define PT_CURL_POINTER(name) __typeof__(&curl_##name) name;
	PT_CURL_FUNCTIONS(PT_CURL_POINTER)
#undef PT_CURL_POINTER
};

/* The library, initialised, for good; NULL: it is not here, or too old. */
const struct pt_curl *pt_curl(void);

#endif

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/flight.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "flight/containers.h"
#include "flight/dump.h"
#include "flight/ring.h"
#include "flight/server.h"
#include "flight/store.h"
#include "flight/watch.h"

/* What has happened is told of with this delay at most, most of the time: batches that rest are
 * copied out each second, and that all has come is said a second later (record/loop.c). */
#define LATE_NS      5000000000ull
#define NICE_WRITING 10
/* In the child; 0 to 2 are the standard ones. */
#define RESULT_FD    3

struct pt_flight {
	const struct pt_flight_options *options;
	struct pt_sink_options sink;
	struct pt_capture_info info;
	struct pt_ring *ring;
	struct pt_model *model; /* of what has left the ring */
	struct pt_watch *watch;
	struct pt_containers containers;
	struct pt_dump dump;
	uint64_t known_ns; /* what happened until then has come */

	/* Have fired, each once, and their capture has not begun. */
	struct pt_dump_cause causes[PT_CAUSES_MAX];
	size_t cause_count;
	uint64_t passed_over;     /* since the last capture */
	pid_t child;              /* it writes; 0: none does */
	int result_fd;            /* where it says how it ended */
	uint64_t started, failed; /* captures */
	atomic_ullong finished;
	atomic_uint signals; /* bits: 1 SIGUSR1, 2 SIGUSR2 */
	struct pt_trigger own_asked;
	struct pt_trigger *asked; /* the trigger http, or the one above if nobody gave it */

	pthread_mutex_t ask_lock; /* for what follows */
	struct {
		bool waits; /* for the next note */
		uint64_t time_ns;
		pid_t pid;
		char name[sizeof(((struct pt_dump *)0)->name)]; /* "": none is to begin */
		uint64_t cool_ns;                               /* of asked */
		bool all_made, ended; /* the latter: there comes no note any more */
	} ask;
};

int pt_flight_check(const struct pt_flight_options *options, struct pt_err *err)
{
	const char *folder = options->folder;
	struct stat st;

	if (mkdir(folder, 0700) && errno != EEXIST)
		return pt_err_set(err, -errno, PT_EXIT_FAILED, "choose another place with -o",
				  "cannot make the folder '%s': %s", folder, strerror(errno));
	if (stat(folder, &st) || !S_ISDIR(st.st_mode))
		return pt_err_set(err, -ENOTDIR, PT_EXIT_USAGE, "captures go into a folder",
				  "'%s' is no folder", folder);
	if (access(folder, W_OK | X_OK))
		return pt_err_set(err, -errno, PT_EXIT_FAILED, "choose another place with -o",
				  "cannot write into '%s': %s", folder, strerror(errno));
	return 0;
}

/* ---- captures ---- */

static void on_fired(struct pt_trigger *trigger, const struct pt_fired *fired, void *ctx)
{
	struct pt_flight *flight = ctx;
	uint64_t count = flight->options->count;
	bool over = fired->time_ns < trigger->cool_ns ||
		    (count && flight->started - flight->failed >= count);

	over &= trigger != flight->asked; /* ask_check() has decided */
	for (size_t i = 0; i < flight->cause_count; i++)
		over |= flight->causes[i].trigger == trigger;
	if (over) {
		flight->passed_over++;
		return;
	}
	if (!flight->cause_count)
		pt_ring_hold(flight->ring, fired->time_ns);
	flight->causes[flight->cause_count++] = (struct pt_dump_cause){trigger, *fired};
	pt_verbose("%s: %s", trigger->text, fired->text);
}

/* In the child: all but the result and the standard files is closed, so that no probe stays because
 * of it. */
static void write_capture(struct pt_flight *flight, int result_fd) __attribute__((noreturn));
static void write_capture(struct pt_flight *flight, int result_fd)
{
	struct pt_err err = {0};
	char failed;

	if (result_fd != RESULT_FD)
		dup2(result_fd, RESULT_FD);
	syscall(SYS_close_range, RESULT_FD + 1, ~0u, 0); /* Linux 5.9 */
	umask(0077);
	setpriority(PRIO_PROCESS, 0, NICE_WRITING);
	failed = pt_dump_write(&flight->dump, &err) != 0;
	if (failed)
		pt_error("no capture of '%s': %s; recording goes on",
			 flight->dump.causes[0].trigger->text, err.what);
	if (write(RESULT_FD, &failed, 1) != 1)
		failed = 1;
	_exit(failed);
}

static uint64_t real_ns(const struct pt_flight *flight, uint64_t mono_ns)
{
	return flight->info.start_real_ns + (mono_ns - flight->info.start_mono_ns);
}

/* With the lock. Those who ask from now on want another capture. */
static void ask_begun(struct pt_flight *flight)
{
	struct pt_dump *dump = &flight->dump;

	for (size_t i = 0; i < dump->cause_count; i++) {
		if (dump->causes[i].trigger != flight->asked)
			continue;
		memcpy(dump->name, flight->ask.name, sizeof(dump->name));
		flight->ask.name[0] = '\0';
	}
}

static void ask_update(struct pt_flight *flight)
{
	uint64_t count = flight->options->count;

	pthread_mutex_lock(&flight->ask_lock);
	flight->ask.cool_ns = flight->asked->cool_ns;
	flight->ask.all_made = count && flight->started - flight->failed >= count;
	pthread_mutex_unlock(&flight->ask_lock);
}

/* After what fired first, and all that fired; but whoever asked has been told a name. */
static void choose_name(struct pt_flight *flight)
{
	struct pt_dump *dump = &flight->dump;
	const struct pt_fired *first = &dump->causes[0].fired;
	char kinds[64] = "";

	for (size_t i = 0; i < dump->cause_count; i++) {
		const char *kind = dump->causes[i].trigger->kind->name;
		size_t len = strlen(kinds);

		if (!strstr(kinds, kind))
			snprintf(kinds + len, sizeof(kinds) - len, "%s%s", len ? "+" : "", kind);
	}
	pt_store_name(real_ns(flight, first->time_ns), first->pid, kinds, dump->name,
		      sizeof(dump->name));
	pthread_mutex_lock(&flight->ask_lock);
	ask_begun(flight);
	pthread_mutex_unlock(&flight->ask_lock);
}

static void fill_dump(struct pt_flight *flight, uint64_t end_ns)
{
	struct pt_dump *dump = &flight->dump;
	uint64_t gone_ns = pt_ring_gone_ns(flight->ring), last_ns = flight->options->last_ns;
	const struct pt_fired *first = &dump->causes[0].fired;

	memcpy(dump->causes, flight->causes, flight->cause_count * sizeof(dump->causes[0]));
	dump->cause_count = flight->cause_count;
	dump->end_ns = end_ns;
	dump->begin_ns = first->time_ns > last_ns ? first->time_ns - last_ns : 1;
	dump->cut = dump->begin_ns <= gone_ns;
	if (dump->cut)
		dump->begin_ns = gone_ns + 1;
	if (dump->begin_ns < flight->info.start_mono_ns)
		dump->begin_ns = flight->info.start_mono_ns;
	dump->container = pt_containers_find(&flight->containers, first->pid);
	if (flight->options->describe)
		flight->options->describe(first->pid, &flight->info, flight->options->ctx);
	dump->passed_over = flight->passed_over;
	dump->recorded_ns = pt_now_ns() - flight->info.start_mono_ns;
	dump->recorder_cpu_ns = pt_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	choose_name(flight);
}

static void tell_end(struct pt_flight *flight, bool failed)
{
	const struct pt_flight_options *options = flight->options;
	char name[sizeof(flight->dump.name) + sizeof(PT_STORE_TAR)];

	flight->failed += failed;
	ask_update(flight);
	if (!options->captured)
		return;
	snprintf(name, sizeof(name), "%s%s", flight->dump.name, options->tar ? PT_STORE_TAR : "");
	options->captured(name, flight->dump.causes[0].trigger->kind->name, failed, options->ctx);
}

static void not_started(struct pt_flight *flight)
{
	pt_error("no capture of '%s': %s", flight->dump.causes[0].trigger->text, strerror(errno));
	tell_end(flight, true);
}

static void start_capture(struct pt_flight *flight, uint64_t end_ns)
{
	int ends[2];
	pid_t child;

	for (size_t i = 0; i < flight->cause_count; i++)
		flight->causes[i].trigger->cool_ns = end_ns + flight->options->cool_down_ns;
	fill_dump(flight, end_ns);
	flight->cause_count = 0;
	flight->started++;
	ask_update(flight);
	pt_ring_hold(flight->ring, 0);
	if (pipe2(ends, O_CLOEXEC)) {
		not_started(flight);
		return;
	}
	child = fork();
	if (!child)
		write_capture(flight, ends[1]);
	if (child < 0)
		not_started(flight);
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return;
	}
	flight->child = child;
	flight->result_fd = ends[0];
	flight->passed_over = 0;
}

/* A capture that is finished is told of. The child's result comes by the pipe: who launched a
 * command waits for any child, perhaps for this one. */
static void end_capture(struct pt_flight *flight, bool wait)
{
	const struct pt_flight_options *options = flight->options;
	char failed = 1;
	ssize_t n;

	if (!flight->child)
		return;
	if (!wait)
		fcntl(flight->result_fd, F_SETFL, O_NONBLOCK);
	else
		fcntl(flight->result_fd, F_SETFL, 0);
	do {
		n = read(flight->result_fd, &failed, 1);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return;
	waitpid(flight->child, NULL, 0);
	close(flight->result_fd);
	flight->child = 0;
	if (n < 1)
		pt_error("no capture of '%s': whoever wrote it was killed",
			 flight->dump.causes[0].trigger->text);
	if (n < 1 || failed) {
		tell_end(flight, true);
		return;
	}
	pt_info("captured %s/%s%s: %s", options->folder, flight->dump.name,
		options->tar ? PT_STORE_TAR : "", flight->dump.causes[0].fired.text);
	if (flight->dump.cut)
		pt_warn("it begins only %.3f s before its end: older records were gone "
			"(--window-memory)",
			(double)(flight->dump.end_ns - flight->dump.begin_ns) / 1e9);
	if (options->keep_count || options->keep_bytes)
		pt_store_trim(options->folder, options->keep_count, options->keep_bytes);
	tell_end(flight, false);
	atomic_fetch_add(&flight->finished, 1);
}

/* ---- records ---- */

static int gone(const struct pt_rec *record, size_t len, void *ctx)
{
	return pt_model_record(ctx, record, len);
}

static void take_signals(struct pt_flight *flight)
{
	unsigned int signals = atomic_exchange(&flight->signals, 0);

	if (signals & 1)
		pt_watch_signal(flight->watch, SIGUSR1);
	if (signals & 2)
		pt_watch_signal(flight->watch, SIGUSR2);
}

/* end: nobody can ask any more. */
static void take_asked(struct pt_flight *flight, bool end)
{
	struct pt_fired fired = {0};
	bool waits;

	pthread_mutex_lock(&flight->ask_lock);
	waits = flight->ask.waits;
	fired.time_ns = flight->ask.time_ns;
	fired.pid = flight->ask.pid;
	flight->ask.waits = false;
	flight->ask.ended |= end;
	pthread_mutex_unlock(&flight->ask_lock);
	if (!waits)
		return;
	snprintf(fired.text, sizeof(fired.text), "it was asked for");
	on_fired(flight->asked, &fired, flight);
}

static void take_note(struct pt_flight *flight, const struct pt_rec_note *note)
{
	bool end = note->what == PT_NOTE_GATE_CLOSE;

	if (note->what != PT_NOTE_COMPLETE && !end)
		return;
	flight->known_ns = end ? note->hdr.time_ns : note->value;
	take_signals(flight);
	take_asked(flight, end);
	pt_watch_tick(flight->watch, flight->known_ns, note->hdr.time_ns,
		      pt_clock_ns(CLOCK_REALTIME));
	end_capture(flight, end && flight->cause_count);
	if (flight->cause_count && !flight->child &&
	    (end ||
	     flight->known_ns >= flight->causes[0].fired.time_ns + flight->options->after_ns))
		start_capture(flight, flight->known_ns);
}

int pt_flight_record(const struct pt_rec *record, size_t len, struct pt_flight *flight)
{
	int rc;

	if (record->kind == PT_REC_PROC && len >= sizeof(struct pt_rec_proc))
		pt_containers_record(&flight->containers, (const struct pt_rec_proc *)record);
	rc = pt_ring_put(flight->ring, record, len);
	if (!rc)
		rc = pt_watch_record(flight->watch, record, len);
	if (!rc && record->kind == PT_REC_NOTE && len >= sizeof(struct pt_rec_note))
		take_note(flight, (const struct pt_rec_note *)record);
	return rc;
}

void pt_flight_signal(struct pt_flight *flight, int signal_number)
{
	atomic_fetch_or(&flight->signals, signal_number == SIGUSR1 ? 1u : 2u);
}

/* With the lock: 0, or why there is to be no capture. */
static int ask_check(const struct pt_flight *flight, bool heed, uint64_t now_ns, uint64_t *wait_ns)
{
	if (flight->ask.ended)
		return -ESHUTDOWN;
	if (!heed || flight->ask.name[0])
		return 0; /* the latter: it is in the one that is about to begin */
	if (flight->ask.all_made)
		return -EDQUOT;
	if (now_ns >= flight->ask.cool_ns)
		return 0;
	*wait_ns = flight->ask.cool_ns - now_ns;
	return -EAGAIN;
}

int pt_flight_ask(struct pt_flight *flight, pid_t pid, bool heed, char name[PT_FLIGHT_NAME_MAX],
		  uint64_t *wait_ns)
{
	uint64_t now_ns = pt_now_ns();
	int rc;

	pthread_mutex_lock(&flight->ask_lock);
	rc = ask_check(flight, heed, now_ns, wait_ns);
	if (!rc && !flight->ask.name[0]) {
		flight->ask.waits = true;
		flight->ask.time_ns = now_ns;
		flight->ask.pid = pid;
		pt_store_name(real_ns(flight, now_ns), pid, pt_trigger_asked()->name,
			      flight->ask.name, sizeof(flight->ask.name));
	}
	snprintf(name, PT_FLIGHT_NAME_MAX, "%s%s", rc ? "" : flight->ask.name,
		 !rc && flight->options->tar ? PT_STORE_TAR : "");
	pthread_mutex_unlock(&flight->ask_lock);
	return rc;
}

bool pt_flight_done(const struct pt_flight *flight)
{
	uint64_t count = flight->options->count;

	return count && atomic_load(&((struct pt_flight *)(uintptr_t)flight)->finished) >= count;
}

/* ---- the life of a recorder ---- */

static void release(struct pt_flight *flight)
{
	pt_watch_free(flight->watch);
	pt_ring_free(flight->ring);
	pt_model_free(flight->model);
	pt_containers_release(&flight->containers);
	pthread_mutex_destroy(&flight->ask_lock);
	free(flight);
}

static void choose_asked(struct pt_flight *flight)
{
	const struct pt_flight_options *options = flight->options;

	flight->own_asked = (struct pt_trigger){.kind = pt_trigger_asked(), .text = (char *)"http"};
	flight->asked = &flight->own_asked;
	for (size_t i = 0; i < options->trigger_count; i++)
		if (options->triggers[i].kind == pt_trigger_asked())
			flight->asked = &options->triggers[i];
	flight->ask.cool_ns = flight->asked->cool_ns; /* of the flight before */
}

int pt_flight_open(const struct pt_flight_options *options, const struct pt_model_options *model,
		   const struct pt_sink_options *sink, const struct pt_capture_info *info,
		   uid_t owner_uid, gid_t owner_gid, struct pt_flight **out, struct pt_err *err)
{
	struct pt_flight *flight = calloc(1, sizeof(*flight));
	struct pt_watch_options watch;
	struct pt_ring_options ring;
	int rc;

	if (!flight)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	flight->options = options;
	pthread_mutex_init(&flight->ask_lock, NULL);
	choose_asked(flight);
	flight->sink = *sink;
	flight->info = *info;
	watch = (struct pt_watch_options){.triggers = options->triggers,
					  .trigger_count = options->trigger_count,
					  .last_ns = options->last_ns,
					  .model = model,
					  .info = &flight->info,
					  .fired = on_fired,
					  .ctx = flight};
	rc = pt_model_new(model, info, pt_dump_op, &flight->dump, &flight->model);
	ring = (struct pt_ring_options){.max_bytes = options->memory_bytes,
					.keep_ns = options->last_ns + LATE_NS,
					.gone = gone,
					.ctx = flight->model};
	if (!rc)
		rc = pt_ring_new(&ring, &flight->ring);
	if (!rc)
		rc = pt_watch_new(&watch, &flight->watch);
	if (rc) {
		release(flight);
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	}
	flight->dump = (struct pt_dump){.options = options,
					.sink_options = &flight->sink,
					.info = &flight->info,
					.owner_uid = owner_uid,
					.owner_gid = owner_gid,
					.model = flight->model,
					.ring = flight->ring};
	if (options->server)
		pt_flight_server_serve(options->server, flight);
	*out = flight;
	return 0;
}

void pt_flight_close(struct pt_flight *flight, uint64_t *captures, uint64_t *failed)
{
	if (flight->options->server)
		pt_flight_server_serve(flight->options->server, NULL);
	end_capture(flight, true);
	*captures = atomic_load(&flight->finished);
	*failed = flight->failed;
	release(flight);
}

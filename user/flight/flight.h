/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * flight.h - the flight recorder: keeps the newest records in memory, and writes a capture of them
 * when a trigger fires, while recording goes on.
 *
 * Records go into a ring (ring.h). Those that leave it go through a model whose ops nobody sees, so
 * that model always is in the state in which the ring begins: names, threads, and every call that
 * is open there, greenlets, tasks, C functions and CUDA calls included. A capture is written by a
 * forked child: it has that model and the ring as they are at that instant, tells the model to
 * forget what lies before the window (as 'ctl clear' does), feeds it the ring, and writes what
 * comes out. The recorder never waits for it; one is written at a time.
 *
 * Life cycle: pt_flight_check() before anything is attached -> pt_flight_open() ->
 * pt_flight_record() for each record, in order; PT_NOTE_COMPLETE among them about once a second,
 * which says up to when all has come -> pt_flight_close(). One thread, but for pt_flight_signal(),
 * pt_flight_ask() and pt_flight_done(). A capture that cannot be written is an error message;
 * recording goes on.
 */
#ifndef PT_FLIGHT_FLIGHT_H
#define PT_FLIGHT_FLIGHT_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "flight/trigger.h"
#include "ingest/capture.h"
#include "model/model.h"
#include "pt_abi.h"
#include "sink/sink.h"

#define PT_FLIGHT_NAME_MAX 160

struct pt_flight;
struct pt_flight_server;

struct pt_flight_options {
	const char *folder;          /* made if it is not there */
	struct pt_trigger *triggers; /* borrowed, with their state */
	size_t trigger_count;
	uint64_t last_ns;                /* so long before the trigger .. */
	uint64_t after_ns;               /* .. and after it */
	uint64_t cool_down_ns;           /* nothing fires so long after what a capture holds */
	size_t memory_bytes;             /* of the ring; PT_RING_MIN_BYTES at least */
	uint64_t count;                  /* captures, then it is done; 0: no end */
	uint64_t keep_count;             /* in the folder, the newest; 0: all */
	uint64_t keep_bytes;             /* likewise; 0: no limit */
	bool tar;                        /* each capture is one .tar.gz, and no folder */
	struct pt_flight_server *server; /* NULL, or asks for captures while this is open */
	bool command_line;               /* write down what the processes were started with */
	/* NULL, or told when a capture has ended, from within pt_flight_record() and _close():
	 * its name in the folder, the first trigger's kind */
	void (*captured)(const char *name, const char *kind, bool failed, void *ctx);
	/* NULL, or sets the interpreter and engine of a process that a capture is about */
	void (*describe)(pid_t pid, struct pt_capture_info *info, void *ctx);
	void *ctx;
};

/* Whether captures can be written there. Makes the folder. */
int pt_flight_check(const struct pt_flight_options *options, struct pt_err *err);
/* options, model, sink are borrowed until pt_flight_close(). owner: who gets the files; -1: nobody.
 */
int pt_flight_open(const struct pt_flight_options *options, const struct pt_model_options *model,
		   const struct pt_sink_options *sink, const struct pt_capture_info *info,
		   uid_t owner_uid, gid_t owner_gid, struct pt_flight **flight, struct pt_err *err);
/* -errno: out of memory. */
int pt_flight_record(const struct pt_rec *record, size_t len, struct pt_flight *flight);
/* From any thread: the recorder got SIGUSR1 or SIGUSR2. */
void pt_flight_signal(struct pt_flight *flight, int signal_number);
/* From any thread: somebody wants a capture now, because of process pid, or 0. name: what it will
 * be called. Whoever asks before it has begun gets the same one. heed: a cool-down and the count
 * hold for those who ask, too: -EAGAIN and for how long still; -EDQUOT: all captures were made.
 * -ESHUTDOWN: the recording has ended. */
int pt_flight_ask(struct pt_flight *flight, pid_t pid, bool heed, char name[PT_FLIGHT_NAME_MAX],
		  uint64_t *wait_ns);
/* From any thread: --count captures are there. */
bool pt_flight_done(const struct pt_flight *flight);
/* Waits for the capture under way, and frees. */
void pt_flight_close(struct pt_flight *flight, uint64_t *captures, uint64_t *failed);

#endif

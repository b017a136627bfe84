/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * tracer.h - the inside of struct pt_tracer, shared by the files of user/probe/ only.
 *
 * attach.c holds the life cycle, configure.c what is loaded, processes.c interpreter files and
 * processes, gate.c and records.c what comes of them. links.c turns sites into links, cuda.c,
 * methods.c, marks.c, sample.c have what is special to theirs; text.c compares code with what was
 * analysed, errors.c turns errno into sentences.
 */
#ifndef PT_PROBE_TRACER_H
#define PT_PROBE_TRACER_H

#include <bpf/libbpf.h>
#include <linux/types.h>

#include "base/clock.h"
#include "probe/attach.h"
#include "probe/features.h"
#include "pt_maps.h"

struct pytrace_bpf;

struct link_set {
	struct bpf_link **links;
	size_t count;
};

struct tracer_image {
	const struct py_image *image; /* borrowed */
	enum py_engine engine;
	enum pt_reach reach;
	bool c_methods;        /* its C functions are probed at themselves, if at all */
	struct link_set links; /* PT_REACH_FILE */
	struct link_set kept;  /* options.withdrawable: the probes that stay */
	int fd;                /* of the file, to attach to it again; -1: not open */
};

struct tracer_process {
	pid_t pid;
	int image_index;
	struct link_set links, kept; /* PT_REACH_PROCESS; as in struct tracer_image */
};

struct tracer_methods {
	struct link_set links;
	pid_t pid;                           /* -1: for all who map the file */
	const struct py_method_sites *sites; /* borrowed */
	uint32_t first;
	int fd; /* of the file, if it is for one process; else -1 */
};

#define FORKS_KEPT      512
#define FORK_LEVELS_MAX 8

struct tracer_fork {
	pid_t child, parent;
};

struct pt_tracer {
	struct pt_tracer_options options;
	struct pytrace_bpf *skel;
	struct ring_buffer *ring;
	struct bpf_link *fork_link, *exec_link, *exit_link, *exit_again_link, *peek_link;
	struct bpf_link *switch_link, *wakeup_link; /* --sched */
	bool multi, cookie, task_storage;
	struct tracer_image images[PT_LAYOUT_MAX];
	size_t image_count;
	struct tracer_process *processes;
	size_t process_count;
	struct link_set *cuda; /* of each pt_tracer_add_cuda() */
	size_t cuda_count;
	struct tracer_methods *methods; /* of each pt_tracer_attach_methods() */
	size_t methods_count;
	uint32_t next_method;
	struct link_set marks, samples;
	int *clocks; /* sample.c: the perf events of samples, which their links close */
	size_t clock_count;
	struct tracer_fork forks[FORKS_KEPT]; /* the last ones, in a circle */
	size_t fork_count;
	/* ids given out so far; BPF takes them from queues */
	uint32_t next_image_id, next_code_id;
	uint64_t total_at_peek; /* events, as of the last run of the iterator */
	bool stopped;           /* max_events was reached before the gate was closed */
	bool closing; /* the gate is shut for good; what is left may still have to be copied */
	/* for the ring buffer's callback, during a poll */
	pt_record_fn fn;
	void *fn_ctx;
	int fn_rc;
	unsigned int handed_out;
	bool emptied; /* the last poll took all that there was */
	int stats_fd; /* -1: cost is not counted */
	/* cost.c: hits of probes when they were last read, and how many come in a ns; hits that
	 * came while perf events were removed, estimated */
	uint64_t hits, hits_ns;
	double hit_rate, unseen_hits;
	bool withdrawn; /* by pt_tracer_withdraw() */
	bool without_c; /* pt_tracer_restore() left C functions out */
	uint64_t swept; /* pt_counters.strays at the last pt_tracer_sweep() */
};

/* Which sites. KEPT: those that say that a code object is freed; a name would be taken for another
 * one's if that was not known. */
enum links_part { LINKS_ALL, LINKS_KEPT, LINKS_WITHDRAWABLE };

/* Are the sites of a file, or of one process alone, a uprobe.multi link? Else perf events. */
bool pt_links_multi(const struct pt_tracer *tracer, bool one_process);
/* Attaches the sites of the engine: pid -1 with the whole file. Either all or nothing. */
int pt_links_attach(struct pt_tracer *tracer, int image_index, pid_t pid, const char *path,
		    enum links_part part, struct link_set *set, struct pt_err *err);
/* The image's probes as the tracer is to have them now, in links and kept. */
int pt_links_attach_image(struct pt_tracer *tracer, int image_index, pid_t pid, const char *path,
			  struct link_set *links, struct link_set *kept, struct pt_err *err);
int pt_links_attach_cuda(struct pt_tracer *tracer, const struct pt_cuda_library *library, pid_t pid,
			 const char *path, struct link_set *set, struct pt_err *err);
/* plan: entries and exits of C functions, with cookies of their own. */
int pt_links_attach_methods(struct pt_tracer *tracer, const struct py_engine_plan *plan, pid_t pid,
			    const char *path, struct link_set *set, struct pt_err *err);
void pt_links_release(struct link_set *set);
/* Of all images, processes, libraries and probes of the user's (attach.c). */
void pt_links_release_all(struct pt_tracer *tracer);
/* Room for one more behind count sets. -ENOMEM (err set). */
int pt_links_room(struct link_set **sets, size_t count, struct pt_err *err);

/* configure.c: the BPF object, which is open and not loaded yet. */
void pt_tracer_configure(struct pt_tracer *tracer);

/* gate.c: copies out what was last written before older_ns, of all threads. */
int pt_gate_peek(struct pt_tracer *tracer, uint64_t older_ns);

/* ---- records.c ---- */

int pt_ids_push(struct bpf_map *queue, uint32_t id);
/* Keeps the queues filled; used_* are the highest ids seen in records. */
int pt_ids_refill(struct pt_tracer *tracer, uint32_t used_code_id, uint32_t used_image_id);
/* Suits ring_buffer__new() with the tracer as ctx. */
int pt_records_take(void *tracer, void *data, size_t len);

/* cuda.c: which of the programs and maps are loaded. */
void pt_cuda_configure(struct pt_tracer *tracer, size_t ring_bytes);

/* sample.c */
void pt_sample_configure(struct pt_tracer *tracer);
int pt_sample_set_image(struct pt_tracer *tracer, int image_index);
/* From now on the clock of each CPU runs. */
int pt_sample_attach(struct pt_tracer *tracer, struct pt_err *err);

/* methods.c */
void pt_methods_configure(struct pt_tracer *tracer);
/* Closes its file; links are released. */
void pt_methods_close(struct tracer_methods *methods);
/* Of a process that has probes of its own. */
void pt_methods_release_process(struct pt_tracer *tracer, pid_t pid);
/* As pt_tracer_sweep(), once there is something to sweep. */
int pt_methods_sweep(struct pt_tracer *tracer);

/* The plan for the calls of C functions, or NULL if they are not wanted or the image has none. */
const struct py_engine_plan *pt_c_plan(const struct pt_tracer *tracer, int image_index);
/* Of --args, --retval, --local: what BPF is to know, before loading. */
void pt_values_configure(struct pt_tracer *tracer);
/* pt_glob_check() was passed. */
int pt_glob_parse(const char *text, struct pt_glob *glob);

/* Links have been removed since then. A perf event loses its program at once, and then the
 * breakpoints go one after the other: until then they trap, and nobody counts. */
void pt_cost_removed(struct pt_tracer *tracer, uint64_t begin_ns);

/* Refuses unless the file has the bytes that were analysed. */
int pt_text_check_file(const struct py_image *image, enum py_engine engine, const char *path,
		       struct pt_err *err);

/* -ENOTSUP (err set): this kernel lacks it. */
int pt_require(enum pt_feature feature, struct pt_err *err);

/* What a failed bpf(2) or perf_event_open(2) means to the user. what: "load the BPF programs". */
int pt_probe_error(struct pt_err *err, int code, const char *what, bool semaphore);

#endif

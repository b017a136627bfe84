// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Before the start: may we, where to, what do probes cost here.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "flight/flight.h"
#include "probe/calibrate.h"
#include "probe/features.h"
#include "record/session_parts.h"
#include "target/maps.h"

#define PROC_PID_INIT_INO "4026531836" /* the first pid namespace (include/linux/proc_ns.h) */

static int check_features(struct pt_err *err)
{
	char link[64];
	ssize_t n;

	for (int i = 0; i < PT_FEAT_COUNT; i++) {
		const struct pt_feature_result *feature;

		if (!pt_feature_required((enum pt_feature)i))
			continue;
		feature = pt_feature((enum pt_feature)i);
		if (feature->available)
			continue;
		return pt_err_set(err, i == PT_FEAT_PRIVILEGE ? -EPERM : -ENOTSUP,
				  i == PT_FEAT_PRIVILEGE ? PT_EXIT_PERMISSION : PT_EXIT_UNSUPPORTED,
				  feature->remedy, "%s is missing: %s", feature->name,
				  feature->reason);
	}
	n = readlink("/proc/self/ns/pid", link, sizeof(link) - 1);
	link[n > 0 ? n : 0] = '\0';
	if (n > 0 && !strstr(link, PROC_PID_INIT_INO))
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "run it on the host, or start the container with --pid=host",
				  "pytrace-bpf runs in a pid namespace of its own, but the kernel "
				  "reports the host's pids");
	return 0;
}

static void raise_file_limit(void)
{
	struct rlimit limit;

	/* with process-wide reach each site of each process takes a descriptor */
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* comm comes from the traced process: only harmless characters go into a file name. */
static void default_path(const char *comm, pid_t pid, bool split, char *path, size_t size)
{
	char clean[32];
	size_t n = 0;

	for (; *comm && n < sizeof(clean) - 1; comm++) {
		char c = *comm;
		bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';

		clean[n++] = fine ? c : '_';
	}
	clean[n] = '\0';
	if (split)
		snprintf(path, size, "pytrace-%s-%%p.json.gz", clean);
	else if (pid)
		snprintf(path, size, "pytrace-%s-%d.json.gz", clean, pid);
	else
		snprintf(path, size, "pytrace-%s.json.gz", clean);
}

/* A flight recorder's records stay in memory: none are put aside on the disk. */
static int choose_folder(struct session *session, struct pt_err *err)
{
	session->output_options.path = session->result->path;
	snprintf(session->result->path, sizeof(session->result->path), "%s",
		 session->options->output.flight->folder);
	return pt_flight_check(session->options->output.flight, err);
}

static int choose_output(struct session *session, struct pt_err *err)
{
	const struct pt_session_options *options = session->options;
	char *path = session->result->path, *comm = NULL, proc_path[64];
	bool split = options->output.pid_suffix;
	size_t size = sizeof(session->result->path), comm_size;
	int rc;

	session->output_options = options->output;
	if (options->output.op) {
		session->output_options.path = "-"; /* for messages; nothing is written */
		pt_output_folder("-", session->folder, sizeof(session->folder));
		return 0;
	}
	if (options->output.flight)
		return choose_folder(session, err);
	if (options->output.path) {
		snprintf(path, size, "%s", options->output.path);
	} else if (options->command) {
		const char *slash = strrchr(options->command[0], '/');

		default_path(slash ? slash + 1 : options->command[0],
			     pt_launch_pid(session->launch), split, path, size);
	} else if (options->all) {
		default_path("all", 0, split, path, size);
	} else {
		snprintf(proc_path, sizeof(proc_path), "/proc/%d/comm", options->pids[0]);
		if (!pt_proc_read(proc_path, 4096, &comm, &comm_size))
			comm[strcspn(comm, "\n")] = '\0';
		default_path(comm ? comm : "python", options->pids[0], split, path, size);
		free(comm);
	}
	session->output_options.path = path;
	pt_output_folder(path, session->folder, sizeof(session->folder));
	rc = pt_output_check(path, err);
	if (!rc && options->output.memory_history)
		rc = pt_output_check_writable(options->output.memory_history, err);
	return rc;
}

static int calibrate(struct session *session)
{
	struct pt_calibration calibration = {0};
	struct pt_err err = {0};
	int rc = pt_calibrate(session->options->cache_dir, &calibration, &err);

	session->images_options = (struct pt_images_options){
	    .engine = session->options->engine,
	    .emulated = rc ? PY_INSN_EMULATED_DEFAULT : calibration.emulated,
	    .cache_dir = session->options->cache_dir,
	    .features = session->options->features,
	    .features_asked = session->options->features_asked,
	    .c_globs = session->options->tracer.c_globs,
	};
	for (int i = 0; !rc && i < PY_INSN_CLASS_COUNT; i++)
		if (i != PY_INSN_OTHER && calibration.ns[i] > session->trap_ns)
			session->trap_ns = calibration.ns[i];
	if (session->options->tracer.c_functions && !session->options->tracer.methods_only)
		session->images_options.emulated |= PY_FIND_C_CALLS;
	if (rc)
		pt_warn("cannot measure what probes cost on this kernel (%s); its age is trusted "
			"instead",
			pt_err_is_set(&err) ? err.what : strerror(-rc));
	return 0;
}

static int make_marks(struct session *session, struct pt_err *err)
{
	const struct pt_session_options *options = session->options;
	struct pt_err why = {0};

	if (!options->probes && !options->nvtx)
		return 0;
	if (!pt_tracer_marks_supported(&options->tracer, &why))
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, why.hint,
				  "--probe and --nvtx are not possible here: %s", why.what);
	return pt_marks_new(options->probes, options->nvtx, &session->marks, err);
}

int session_prepare(struct session *session, struct pt_err *err)
{
	const struct pt_session_options *options = session->options;
	int rc;

	/* a wrong pid is told before missing rights */
	for (size_t i = 0; i < options->pid_count; i++) {
		if (kill(options->pids[i], 0) && errno == ESRCH)
			return pt_err_set(
			    err, -ESRCH, PT_EXIT_NO_TARGET,
			    "'pytrace-bpf list' shows the Python processes of this host",
			    "there is no process %d", options->pids[i]);
	}
	rc = check_features(err);
	if (rc)
		return rc;
	raise_file_limit();
	rc = make_marks(session, err);
	if (!rc)
		rc = calibrate(session);
	if (!rc && options->command)
		rc = pt_launch_new(options->command, &session->launch, err);
	if (!rc)
		rc = choose_output(session, err);
	if (!rc)
		rc = commands_open(session, err);
	if (!rc && pt_images_new(&session->images_options, &session->images))
		rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	if (!rc)
		rc = session_make_tracer(session, err);
	if (rc || !options->choice)
		return rc;
	rc = rest_open(session);
	return rc ? pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot wait for events: %s",
			       strerror(-rc))
		  : 0;
}

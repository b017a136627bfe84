// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/session.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/usage.h"
#include "flight/flight.h"
#include "probe/calibrate.h"
#include "probe/features.h"
#include "record/session_parts.h"
#include "target/maps.h"

#define POLL_MS           50
#define POLL_WATCHING_MS  1
#define POLL_OVERHEAD_MS  10
#define TICK_NS           100000000ull /* look at limits and ends */
#define TICK_CHOSEN_NS    250000000ull /* the same of a session that is never over */
#define SCAN_NS           200000000ull /* look for new processes (-a) */
#define PROGRESS_NS       500000000ull
#define SWEEP_NS          1000000000ull /* at least from one sweep to the next */
#define STALE_NS          1000000000ull /* copy out batches that have lain for so long */
#define PATIENCE_NS       5000000000ull /* the ring buffer may not be empty for so long */
#define NS_PER_MS         1000000ull
#define PROC_PID_INIT_INO "4026531836" /* the first pid namespace (include/linux/proc_ns.h) */

bool session_wants(const struct session *session, const struct pt_process *process)
{
	const struct pt_session_choice *choice = session->options->choice;

	return !choice || choice->wanted(process, choice->ctx);
}

void session_tell_attached(const struct session *session, const struct pt_process *process, int rc,
			   const struct pt_err *err)
{
	const struct pt_session_choice *choice = session->options->choice;
	const struct pt_traced_image *image = NULL;

	if (!choice)
		return;
	if (process->interpreter >= 0)
		image = pt_images_find(session->images, &process->modules[process->interpreter]);
	choice->attached(process, image && image->image ? image->image->version_text : "",
			 image && image->image ? pt_engine_name(image->engine) : "", rc, err,
			 choice->ctx);
}

/* ---- before ---- */

static int check_features(struct pt_err *err)
{
	char link[64];
	ssize_t n;

	for (int i = 0; i < PT_FEAT_COUNT; i++) {
		const struct pt_feature_result *feature = pt_feature((enum pt_feature)i);

		if (feature->available || !feature->required)
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
	if (session->options->tracer.c_functions)
		session->images_options.emulated |= PY_FIND_C_CALLS;
	if (rc)
		pt_warn("cannot measure what probes cost on this kernel (%s); its age is trusted "
			"instead",
			pt_err_is_set(&err) ? err.what : strerror(-rc));
	return 0;
}

/* Of CUDA functions, or of PyTorch's. */
static bool wants_calls(const struct pt_tracer_options *options)
{
	return options->cuda || options->torch || options->torch_memory;
}

static void drop_calls(struct pt_tracer_options *options)
{
	options->cuda = options->torch = options->torch_memory = false;
	options->stacks = options->mark_stacks;
}

static void tell_no_calls(bool cuda, const struct pt_tracer_options *options,
			  const struct pt_err *why)
{
	if (cuda)
		pt_warn("--cuda: not recorded: %s", why->what);
	if (options->torch)
		pt_warn("--torch: not recorded: %s", why->what);
	if (options->torch_memory)
		pt_warn("--torch-memory: not recorded: %s", why->what);
}

/* With a list of C functions they may be probed at themselves. */
static int choose_methods(struct session *session, struct pt_tracer_options *options,
			  struct pt_err *err)
{
	bool file_wide = session->options->all || session->options->follow == PT_FOLLOW_EXACT;
	struct pt_err why = {0};

	if (!options->c_functions || !options->c_globs)
		return 0;
	options->methods = pt_tracer_methods_supported(options, file_wide, &why);
	if (options->methods)
		return methods_new(session, err);
	pt_verbose("C functions: probed where they are called: %s", why.what);
	return 0;
}

/* A verifier that refuses programs which only one option needs does not keep us from the rest. */
static int load_tracer(struct session *session, struct pt_tracer_options *options,
		       struct pt_err *err)
{
	bool with_calls = wants_calls(options);
	struct pt_err why = {0};
	int rc = pt_tracer_new(options, &session->tracer,
			       options->methods || with_calls ? &why : err);

	if (rc && options->methods) {
		pt_verbose("C functions: probed where they are called: %s", why.what);
		pt_err_clear(&why);
		options->methods = false;
		methods_free(session);
		rc = pt_tracer_new(options, &session->tracer, with_calls ? &why : err);
	}
	if (rc && with_calls) {
		struct pt_tracer_options without = *options;

		drop_calls(&without);
		rc = pt_tracer_new(&without, &session->tracer, err);
		if (!rc)
			tell_no_calls(options->cuda, options, &why);
		drop_calls(options);
	}
	return rc;
}

static int put_record(const struct pt_rec *record, size_t len, void *ctx)
{
	return session_put(ctx, record, len);
}

static int make_callstacks(struct session *session, struct pt_err *err)
{
	const struct callstacks_options options = {
	    .files = session->files, .put = put_record, .ctx = session};

	session->callstacks = callstacks_new(&options);
	if (!session->callstacks)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return 0;
}

static void choose_mark_stacks(const struct session *session, struct pt_tracer_options *options)
{
	struct pt_err why = {0};

	if (!options->marks || !(session->options->stacks & PT_WANT_MARK_STACKS))
		return;
	options->mark_stacks = pt_tracer_mark_stacks_supported(options, &why);
	options->stacks |= options->mark_stacks;
	if (!options->mark_stacks)
		pt_warn("--stacks mark: not recorded: %s", why.what);
}

static int make_tracer(struct session *session, struct pt_err *err)
{
	struct pt_tracer_options options = session->options->tracer;
	struct pt_err why = {0};
	int rc;

	options.trace_all = session->options->all;
	options.runtime = session->options->features != 0;
	options.async = session->options->features >> PY_FEATURE_ASYNC & 1;
	options.exceptions = session->options->features >> PY_FEATURE_EXCEPTIONS & 1;
	options.imports = session->options->features >> PY_FEATURE_IMPORTS & 1;
	options.cuda = session->options->cuda != PT_CUDA_NONE || session->options->cuda_libs;
	options.stacks = (options.cuda || session->options->torch_memory) &&
			 session->options->stacks & ~PT_WANT_MARK_STACKS;
	options.native_stacks = session->options->native_stacks;
	options.cuda_nested = session->options->cuda == PT_CUDA_ALL;
	options.torch = session->options->torch;
	options.torch_memory = session->options->torch_memory;
	options.follow_children = session->options->all || session->options->follow != PT_FOLLOW_NO;
	if (options.c_functions && !pt_tracer_c_functions_supported(&options, &why)) {
		pt_warn("--c-functions: not recorded: %s", why.what);
		options.c_functions = false;
	}
	pt_err_clear(&why);
	rc = choose_methods(session, &options, err);
	if (rc)
		return rc;
	if (options.sched && !pt_tracer_sched_supported(&why)) {
		pt_warn("--sched: not recorded: %s", why.what);
		options.sched = false;
	}
	pt_err_clear(&why);
	if (options.off_cpu && !pt_tracer_sched_supported(&why)) {
		pt_warn("--off-cpu: not recorded: %s", why.what);
		options.off_cpu = false;
	}
	options.marks = session->marks != NULL;
	choose_mark_stacks(session, &options);
	if (wants_calls(&options) && !pt_tracer_cuda_supported(&options, &why)) {
		tell_no_calls(options.cuda && session->options->cuda_asked, &options, &why);
		drop_calls(&options);
	}
	rc = load_tracer(session, &options, err);
	session->c_calls = options.c_functions && !options.methods;
	if (!rc)
		rc = overhead_prepare(session, err);
	if (!rc && wants_calls(&options))
		rc = cuda_new(session, err);
	if (!rc && unmatched_new(&session->options->tracer, &session->unmatched))
		rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return rc || !(options.stacks || options.sample_native) ? rc
								: make_callstacks(session, err);
}

/* ---- the start ---- */

int session_put(struct session *session, const struct pt_rec *record, size_t len)
{
	int rc = pt_spool_put(session->spool, record, len);

	return rc ? rc : pt_spool_error(session->spool);
}

int session_put_note(struct session *session, enum pt_note_what what, uint64_t value,
		     uint64_t time_ns)
{
	struct pt_rec_note note = {
	    .hdr = {.kind = PT_REC_NOTE, .len = sizeof(note), .time_ns = time_ns},
	    .what = what,
	    .value = value,
	};

	return session_put(session, &note.hdr, sizeof(note));
}

/* Adds more behind a separator unless it is there already or there is no room. */
static void append(char *text, size_t size, const char *separator, const char *more)
{
	size_t len = strlen(text), more_len = strlen(more);

	if (strstr(text, more) || len + strlen(separator) + more_len >= size)
		return;
	if (len) {
		strcpy(text + len, separator);
		len += strlen(separator);
	}
	memcpy(text + len, more, more_len + 1);
}

static void fill_info(const struct session *session, struct pt_capture_info *info)
{
	struct utsname uts;

	*info = (struct pt_capture_info){.start_mono_ns = session->gate_ns};
	info->start_real_ns = pt_clock_ns(CLOCK_REALTIME) - (pt_now_ns() - session->gate_ns);
	snprintf(info->tool_version, sizeof(info->tool_version), "%s", PT_VERSION);
	if (!uname(&uts)) {
		snprintf(info->kernel, sizeof(info->kernel), "%.60s %.30s", uts.release,
			 uts.machine);
		snprintf(info->host, sizeof(info->host), "%.63s", uts.nodename);
	}
	for (size_t i = 0; i < pt_images_count(session->images); i++) {
		const struct pt_traced_image *image = pt_images_at(session->images, i);
		char text[64];

		if (image->index < 0)
			continue;
		snprintf(text, sizeof(text), "CPython %s", image->image->version_text);
		append(info->interpreter, sizeof(info->interpreter), ", ", text);
		append(info->engine, sizeof(info->engine), ",", pt_engine_name(image->engine));
	}
}

static void describe_targets(const struct session *session, char *text, size_t size)
{
	char one[64];

	text[0] = '\0';
	if (session->options->all) {
		snprintf(text, size, "all Python processes");
		return;
	}
	for (size_t i = 0; i < session->target_count && strlen(text) + sizeof(one) < size; i++) {
		snprintf(one, sizeof(one), "%s%d", i ? ", " : "", session->targets[i].pid);
		strcat(text, one);
	}
}

static void tell_opened(const struct session *session, const struct pt_capture_info *info)
{
	char targets[256];
	struct pt_session_opened opened = {
	    .targets = targets,
	    .interpreter = info->interpreter,
	    .engine = info->engine,
	    .why = "",
	    .link_kind = pt_tracer_link_kind(session->tracer),
	    .reach_file = session->reach_file,
	    .sample_hz = session->options->tracer.sample_hz,
	    .path = session->result->path,
	    .attach_ms = (double)(session->gate_ns - session->begin_ns) / 1e6,
	};

	describe_targets(session, targets, sizeof(targets));
	for (size_t i = 0; i < pt_images_count(session->images); i++) {
		const struct pt_traced_image *image = pt_images_at(session->images, i);

		if (image->index < 0)
			continue;
		opened.probe_count += pt_tracer_probe_count(session->tracer, image->index);
		opened.why = image->why;
	}
	if (session->marks)
		opened.probe_count += pt_marks_count(session->marks);
	if (session->watch && session->watch->opened)
		session->watch->opened(&opened, session->watch->ctx);
}

static bool too_much_memory(uint64_t limit_bytes)
{
	if (!limit_bytes || pt_own_memory_bytes() <= limit_bytes)
		return false;
	malloc_trim(0); /* what was freed need not be given back yet */
	return pt_own_memory_bytes() > limit_bytes;
}

int session_open_gate(struct session *session, struct pt_err *err)
{
	uint64_t memory_bytes = session->options->max_memory_bytes;
	struct pt_capture_info info;
	int rc;

	if (too_much_memory(memory_bytes))
		return pt_err_set(
		    err, -ENOMEM, PT_EXIT_USAGE, "allow some MB more",
		    "--max-memory: %.1f MB are not enough to begin with, %.1f are used",
		    (double)memory_bytes / 1e6, (double)pt_own_memory_bytes() / 1e6);
	rc = pt_tracer_open_gate(session->tracer, &session->gate_ns);

	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot start recording: %s",
				  strerror(-rc));
	session->gate_open = true;
	fill_info(session, &info);
	rc = pt_output_open(&session->output_options, &info, &session->output, err);
	if (!rc)
		rc = pt_spool_new(0, session->folder[0] ? session->folder : NULL, commands_record,
				  session, &session->spool, err);
	if (rc)
		return rc;
	session->result->opened = true;
	rc = session_put_note(session, PT_NOTE_GATE_OPEN, 0, session->gate_ns);
	if (!rc)
		rc = cuda_announce(session);
	if (!rc && session->marks)
		rc = pt_marks_define(session->marks, session->gate_ns, put_record, session);
	for (size_t i = 0; !rc && i < session->target_count; i++)
		rc = target_announce(session, &session->targets[i], PT_PROC_ATTACH,
				     !session->options->command &&
					 !session->options->tracer.start_on,
				     session->gate_ns);
	if (!rc)
		rc = cuda_announce_mapped(session);
	if (!rc)
		overhead_begin(session);
	tell_opened(session, &info);
	return rc;
}

static int attach_pid(struct session *session, pid_t pid, struct pt_err *err)
{
	struct pt_process *process;
	int rc;

	if (target_find(session, pid))
		return 0;
	rc = pt_process_open_cached(pid, session->files, &process, err);
	if (rc)
		return rc;
	rc = target_attach(session, process, false, err);
	pt_process_free(process);
	return rc;
}

/* Among all that there are, one that cannot be traced is passed over. */
static int attach_found(const struct pt_process *process, void *ctx)
{
	struct session *session = ctx;
	struct pt_err err = {0};
	int rc;

	/* it may have executed something since it was looked at */
	if (!session_wants(session, process))
		return scan_unwanted(session, process->pid, 0);
	rc = target_attach(session, process, false, &err);
	if (rc == -ENOMEM)
		return rc;
	session_tell_attached(session, process, rc, &err);
	if (rc && rc != -ESRCH)
		pt_warn("process %d (%s) is not traced: %s", process->pid, process->comm,
			pt_err_is_set(&err) ? err.what : strerror(-rc));
	return 0;
}

static int attach_all(struct session *session, struct pt_err *err)
{
	const struct pt_session_options *options = session->options;
	int rc = 0;

	if (options->all || options->choice) {
		rc = scan_processes(session, true);
		return rc ? rc : pt_process_each_python(session->files, attach_found, session, err);
	}
	for (size_t i = 0; !rc && i < options->pid_count; i++)
		rc = attach_pid(session, options->pids[i], err);
	return rc;
}

/* A process of the launched command holds still: attach if it has become Python. */
static int look_at_launched(pid_t pid, void *ctx)
{
	struct session *session = ctx;
	struct pt_process *process;
	struct target *target;
	int rc;

	if (pt_process_open_cached(pid, session->files, &process, NULL))
		return 0;
	if (process->interpreter < 0) {
		pt_process_free(process);
		return 0;
	}
	pt_err_clear(&session->image_err);
	rc = target_attach(session, process, true, &session->image_err);
	if (rc && session->gate_open) {
		pt_warn("process %d (%s) is not traced: %s", pid, process->comm,
			session->image_err.what);
		rc = 0;
	}
	pt_process_free(process);
	if (rc)
		return rc;
	if (!session->gate_open) {
		rc = session_open_gate(session, &session->image_err);
	} else if ((target = target_find(session, pid))) {
		rc = target_announce(session, target, PT_PROC_ATTACH, false, pt_now_ns());
	}
	return rc ? rc : 1;
}

/* ---- signals ---- */

void session_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGUSR2);
}

static void signals_block(sigset_t *set, sigset_t *before)
{
	session_signals(set);
	sigprocmask(SIG_BLOCK, set, before);
	signal(SIGPIPE, SIG_IGN);
}

/* Takes a pending signal. True: stop. */
static bool signal_says_stop(struct session *session, unsigned int *forwarded)
{
	const struct timespec no_wait = {0};
	siginfo_t info;
	sigset_t set;

	session_signals(&set);
	if (sigtimedwait(&set, &info, &no_wait) < 0)
		return false;
	if (session->options->choice)
		return session->options->choice->signal(info.si_signo,
							session->options->choice->ctx);
	if (info.si_signo == SIGUSR1 || info.si_signo == SIGUSR2) {
		commands_signal(session, info.si_signo);
		return false;
	}
	if (!session->launch || pt_launch_ended(session->launch, NULL))
		return true;
	/* Ctrl-C reached the command by itself, through the terminal's foreground group */
	if (info.si_signo == SIGINT && info.si_code == SI_KERNEL)
		return false;
	if (*forwarded)
		return true;
	*forwarded = 1;
	pt_launch_signal(session->launch, info.si_signo);
	return false;
}

/* ---- the recording ---- */

int session_on_record(const struct pt_rec *record, size_t len, void *ctx)
{
	struct session *session = ctx;
	bool taken;
	int rc;

	overhead_record(session, record);
	if (record->kind == PT_REC_CALL_STACK)
		return session->callstacks ? callstacks_take(session->callstacks, record, len) : 0;
	if (session->unmatched)
		unmatched_record(session->unmatched, record, len);
	rc = cuda_record(session, record, len, &taken);
	if (!rc && !taken)
		rc = session_put(session, record, len);
	return rc || taken ? rc : follow_record(session, record, len);
}

static int poll_ms(const struct session *session)
{
	uint64_t next_ns = follow_next_ns(session);

	if (session->launch && pt_launch_watching(session->launch))
		return POLL_WATCHING_MS;
	if (session->overhead)
		return POLL_OVERHEAD_MS;
	/* a child waits for its probes */
	if (!session->reach_file && session->options->follow != PT_FOLLOW_NO)
		return POLL_WATCHING_MS;
	if (next_ns < POLL_MS * NS_PER_MS)
		return (int)(next_ns / NS_PER_MS) + 1;
	return POLL_MS;
}

/* Records wait in the ring buffer until due_ns, unless there are many. */
static int poll_chosen(struct session *session, uint64_t due_ns)
{
	uint64_t now_ns = pt_now_ns(), next_ns = follow_next_ns(session);
	uint64_t wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	int rc = pt_tracer_poll(session->tracer, 0, session_on_record, session);

	if (rc < 0 || (rc > 0 && !pt_tracer_emptied(session->tracer)))
		return rc;
	if (next_ns < wait_ns)
		wait_ns = next_ns;
	rc = rest_wait(session, wait_ns ? (int)(wait_ns / NS_PER_MS) + 1 : 0);
	return rc ? rc : pt_tracer_poll(session->tracer, 0, session_on_record, session);
}

/* Takes what the recording comes to at this moment to who watches; true: it is to end. */
static bool tell_progress(struct session *session, bool writing)
{
	const struct pt_session_choice *choice = session->options->choice;
	struct pt_session_progress progress = {
	    .elapsed_ns = pt_now_ns() - session->gate_ns,
	    .file_bytes = pt_output_bytes(session->output),
	    .backlog_bytes = pt_spool_backlog_bytes(session->spool),
	    .process_count = session->target_count,
	    .writing = writing,
	    .paused = session->commands.paused,
	    .overhead = writing ? session->result->overhead : overhead_so_far(session),
	};
	struct pt_tracer_stats stats = {0};

	if (!choice && (!session->watch || !session->watch->progress))
		return false;
	if (writing)
		stats = session->result->stats;
	else
		commands_stats(session, &stats);
	progress.events = stats.events;
	progress.lost_events = stats.lost_events;
	if (choice)
		return choice->tick(&progress, &stats, choice->ctx);
	session->watch->progress(&progress, session->watch->ctx);
	return false;
}

/* Is there a reason to stop? Called ten times a second. */
static bool limit_reached(struct session *session, enum pt_session_stop *stop)
{
	const struct pt_session_options *options = session->options;
	struct pt_tracer_stats stats;

	if (options->duration_ns && pt_now_ns() - session->gate_ns >= options->duration_ns) {
		*stop = PT_STOP_DURATION;
		return true;
	}
	if (!options->all && !options->choice && !session->target_count && !session->task_count &&
	    !(session->launch && pt_launch_watching(session->launch))) {
		*stop = PT_STOP_TARGET_ENDED;
		return true;
	}
	if (pt_output_done(session->output)) {
		*stop = PT_STOP_TRIGGER;
		return true;
	}
	if (too_much_memory(options->max_memory_bytes)) {
		*stop = PT_STOP_MAX_MEMORY;
		return true;
	}
	pt_tracer_stats(session->tracer, &stats);
	*stop = stats.triggered ? PT_STOP_TRIGGER : PT_STOP_MAX_EVENTS;
	return stats.stopped || stats.triggered;
}

static int step(struct session *session, uint64_t due_ns)
{
	int rc = session->options->choice ? poll_chosen(session, due_ns)
					  : pt_tracer_poll(session->tracer, poll_ms(session),
							   session_on_record, session);

	if (rc < 0 && rc != -EINTR)
		return rc;
	rc = pt_spool_error(session->spool);
	if (!rc)
		rc = commands_service(session);
	if (!rc && session->launch)
		rc = pt_launch_service(session->launch, look_at_launched, session);
	return rc ? rc : follow_tasks(session);
}

/* Wakes up in time for the end of -d. */
static uint64_t next_tick(const struct session *session, uint64_t now_ns)
{
	uint64_t duration_ns = session->options->duration_ns;
	uint64_t tick_ns = now_ns + (session->options->choice ? TICK_CHOSEN_NS : TICK_NS);

	if (duration_ns && session->gate_ns + duration_ns < tick_ns)
		return session->gate_ns + duration_ns;
	return tick_ns;
}

/* With --memory and --gpu-bounds, and in a flight recorder: copies out what rests, and now and then
 * says up to when all has come. That is put down a second later, so that batches which were on
 * their way at the time are there. */
static int complete(struct session *session, uint64_t now_ns)
{
	uint64_t until_ns = session->complete_until_ns;
	int rc = 0;

	if (now_ns < session->stale_ns)
		return 0;
	if (until_ns && !pt_tracer_emptied(session->tracer)) {
		if (now_ns < session->stale_ns + PATIENCE_NS)
			return 0;
		until_ns = 0;
	}
	if (until_ns)
		rc = session_put_note(session, PT_NOTE_COMPLETE, until_ns, now_ns);
	/* if it fails, more comes at once the next time */
	pt_tracer_flush_complete(session->tracer, &session->complete_until_ns);
	session->stale_ns = now_ns + STALE_NS;
	return rc;
}

static int flush_stale(struct session *session, uint64_t now_ns)
{
	if (session->options->say_complete || session->options->output.flight)
		return complete(session, now_ns);
	if (now_ns >= session->stale_ns) {
		pt_tracer_flush_stale(session->tracer, STALE_NS);
		session->stale_ns = now_ns + STALE_NS;
	}
	return 0;
}

static uint64_t min4(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t ab = a < b ? a : b, cd = c < d ? c : d;

	return ab < cd ? ab : cd;
}

/* Children that nobody wants get rid of the breakpoints that they inherited. */
static void sweep(struct session *session, uint64_t now_ns)
{
	if (now_ns < session->sweep_ns)
		return;
	pt_tracer_sweep(session->tracer); /* says so if it fails; then they cost, and no more */
	session->sweep_ns = now_ns + SWEEP_NS;
}

static int record_until_stop(struct session *session, enum pt_session_stop *stop,
			     struct pt_err *err)
{
	uint64_t now_ns = pt_now_ns(), tick_ns = next_tick(session, now_ns);
	uint64_t progress_ns = now_ns + PROGRESS_NS;
	const struct pt_session_choice *choice = session->options->choice;
	uint64_t scan_every_ns = choice ? choice->scan_ns : SCAN_NS;
	uint64_t scan_ns = session->options->all || choice ? now_ns + scan_every_ns : UINT64_MAX;
	unsigned int forwarded = 0;

	session->stale_ns = now_ns + STALE_NS;
	for (;;) {
		int rc = step(session,
			      min4(tick_ns, scan_ns, session->stale_ns, overhead_next_ns(session)));

		if (rc)
			return rc;
		if (session->rest.ended)
			tick_ns = 0;
		if (signal_says_stop(session, &forwarded)) {
			*stop = PT_STOP_SIGNAL;
			return 0;
		}
		if (session->commands.stop) {
			*stop = PT_STOP_COMMAND;
			return 0;
		}
		now_ns = pt_now_ns();
		rc = overhead_step(session, now_ns);
		if (rc)
			return rc;
		if (now_ns >= tick_ns) {
			rc = targets_forget_ended(session);
			if (rc)
				return rc;
			if (limit_reached(session, stop))
				return 0;
			pt_spool_flush(session->spool);
			rc = targets_check_jit(session, err);
			if (!rc)
				rc = mapped_poll(session);
			if (!rc)
				rc = targets_look_for_marks(session);
			if (rc)
				return rc;
			sweep(session, now_ns);
			tick_ns = next_tick(session, now_ns);
		}
		if (now_ns >= scan_ns) {
			rc = scan_processes(session, false);
			if (rc)
				return rc;
			scan_ns = now_ns + scan_every_ns;
		}
		rc = flush_stale(session, now_ns);
		if (rc)
			return rc;
		if (now_ns >= progress_ns) {
			progress_ns = now_ns + PROGRESS_NS;
			if (tell_progress(session, false)) {
				*stop = PT_STOP_COMMAND;
				return 0;
			}
		}
	}
}

/* Waits until a process of the launched command runs Python and the gate is open. */
static int wait_for_python(struct session *session, enum pt_session_stop *stop, struct pt_err *err)
{
	unsigned int forwarded = 0;
	int rc = pt_launch_go(session->launch, err);

	while (!rc && !session->gate_open) {
		rc = pt_launch_service(session->launch, look_at_launched, session);
		if (rc || session->gate_open)
			break;
		if (!pt_launch_watching(session->launch)) {
			rc = pt_launch_exec_error(session->launch, err);
			return rc ? rc
				  : pt_err_set(err, -ESRCH, PT_EXIT_NO_TARGET,
					       "nothing that it ran was a CPython",
					       "'%s' has ended and never ran Python",
					       session->options->command[0]);
		}
		commands_service(session);
		if (signal_says_stop(session, &forwarded) || session->commands.stop) {
			*stop = PT_STOP_SIGNAL;
			return pt_err_set(err, -EINTR, PT_EXIT_FAILED, "",
					  "interrupted before '%s' ran Python",
					  session->options->command[0]);
		}
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
	if (rc && !session->gate_open) {
		if (err && !pt_err_is_set(err))
			*err = session->image_err;
		/* it was only just started, by us */
		pt_launch_signal(session->launch, SIGKILL);
	}
	return rc;
}

/* ---- the end ---- */

/* All that has happened: a thread may be in the middle of writing its last events. */
static int drain(struct session *session)
{
	uint64_t give_up_ns = pt_now_ns() + PATIENCE_NS;
	int rc;

	do {
		rc = pt_tracer_poll(session->tracer, 0, session_on_record, session);
		if (rc == 0 && !pt_tracer_emptied(session->tracer) && pt_now_ns() < give_up_ns) {
			nanosleep(&(struct timespec){.tv_nsec = (long)NS_PER_MS}, NULL);
			rc = 1;
		}
	} while (rc > 0);
	session->stuck = rc == 0 && !pt_tracer_emptied(session->tracer);
	return rc == -EINTR ? 0 : rc;
}

/* Shuts the gate, takes what is left and writes the totals. */
static void stop_recording(struct session *session)
{
	struct pt_tracer_stats *stats = &session->result->stats;
	uint64_t end_ns = 0;

	if (pt_tracer_close_gate(session->tracer, &end_ns) || !end_ns)
		end_ns = pt_now_ns();
	session->result->duration_ns = end_ns - session->gate_ns;
	overhead_end(session);
	drain(session); /* an error here is the spool's and is told below */
	pt_tracer_sched_rest(session->tracer, end_ns, session_on_record, session); /* so is this */
	pt_tracer_off_cpu_rest(session->tracer, end_ns, session_on_record, session);
	commands_stats(session, stats);
	stats->lost_records += session->stuck; /* one at least */
	commands_drop_open(session, end_ns);
	session->commands.ended = true;
	session_put_note(session, PT_NOTE_LOST_EVENTS, stats->lost_events, end_ns);
	session_put_note(session, PT_NOTE_LOST_RECORDS, stats->lost_records, end_ns);
	session_put_note(session, PT_NOTE_GATE_CLOSE, 0, end_ns);
}

static void wait_for_writer(struct session *session)
{
	const struct timespec no_wait = {0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pt_spool_end(session->spool);
	while (!pt_spool_wait(session->spool, 250)) {
		tell_progress(session, true);
		commands_service(session);
		if (!session->options->choice && sigtimedwait(&set, NULL, &no_wait) >= 0)
			pt_info("recording has ended; the file is still being written (%.0f MB of "
				"records to go)",
				(double)pt_spool_backlog_bytes(session->spool) / 1e6);
	}
}

/* Ends the output; rc is what the recording ended with. */
static int finish(struct session *session, int rc, enum pt_session_stop *stop, struct pt_err *err)
{
	int written, spool_error;
	struct stat st;

	stop_recording(session);
	cuda_tell(session);
	/* the records that have the names may be among those lost */
	if (session->unmatched && !session->result->stats.lost_records)
		unmatched_tell(session->unmatched);
	if (session->callstacks)
		session->result->stacks_unmapped = callstacks_unmapped(session->callstacks);
	pt_tracer_free(session->tracer); /* the probes are gone before the file is finished */
	session->tracer = NULL;
	wait_for_writer(session);
	spool_error = pt_spool_error(session->spool);
	session->result->spilled_bytes = pt_spool_spilled_bytes(session->spool);
	session->result->file_bytes = pt_output_bytes(session->output);
	pt_spool_free(session->spool);
	session->spool = NULL;
	written = pt_output_close(session->output, &session->result->totals, err);
	session->output = NULL;
	if (!stat(session->result->path, &st))
		session->result->file_bytes = (uint64_t)st.st_size;
	if (spool_error == -EFBIG) {
		*stop = PT_STOP_MAX_FILE;
		rc = 0;
	}
	if (written) {
		*stop = PT_STOP_ERROR;
		return written;
	}
	if (rc || (spool_error && spool_error != -EFBIG)) {
		rc = rc ? rc : spool_error;
		*stop = PT_STOP_ERROR;
		pt_err_set(err, rc, PT_EXIT_FAILED, "what was recorded so far is in the file",
			   "recording stopped: %s", strerror(-rc));
	}
	return rc;
}

static int look_at_nothing(pid_t pid, void *ctx)
{
	return 0;
}

/* Recording is over but the command may still run: its exit status is ours. */
static void await_command(struct session *session, enum pt_session_stop stop)
{
	struct pt_session_result *result = session->result;
	unsigned int forwarded = 0;

	pt_launch_let_go(session->launch);
	while (!pt_launch_ended(session->launch, &result->wait_status)) {
		pt_launch_service(session->launch, look_at_nothing, NULL);
		if (stop == PT_STOP_SIGNAL || signal_says_stop(session, &forwarded))
			return;
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	result->has_wait_status = true;
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

static int prepare(struct session *session, struct pt_err *err)
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
		rc = make_tracer(session, err);
	if (rc || !options->choice)
		return rc;
	rc = rest_open(session);
	return rc ? pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot wait for events: %s",
			       strerror(-rc))
		  : 0;
}

static int run(struct session *session, enum pt_session_stop *stop, struct pt_err *err)
{
	int rc = prepare(session, err);

	if (rc)
		return rc;
	if (session->launch) {
		rc = wait_for_python(session, stop, err);
	} else {
		rc = attach_all(session, err);
		if (!rc)
			rc = session_open_gate(session, err);
	}
	if (!rc)
		rc = record_until_stop(session, stop, err);
	if (session->spool) {
		rc = finish(session, rc, stop, err);
		commands_service(session); /* a copy that came last */
	}
	return rc;
}

static void release(struct session *session)
{
	pt_spool_free(session->spool);
	pt_output_discard(session->output);
	pt_tracer_free(session->tracer);
	cuda_free(session->cuda);
	methods_free(session);
	mapped_free(session);
	callstacks_free(session->callstacks);
	unmatched_free(session->unmatched);
	pt_images_free(session->images);
	if (session->marks && session->result->opened)
		pt_marks_warn_unused(session->marks);
	pt_marks_free(session->marks);
	rest_close(session);
	pt_launch_free(session->launch);
	targets_release(session);
	free(session->tasks);
	free(session->overhead);
	free(session->seen);
	free(session->unwanted);
	pt_file_cache_free(session->files);
}

int pt_session_run(const struct pt_session_options *options, const struct pt_session_watch *watch,
		   struct pt_session_result *result, struct pt_err *err)
{
	struct session session = {
	    .options = options,
	    .watch = watch,
	    .result = result,
	    .next_code_id = PT_CODE_ID_USER,
	    .rest = {.epoll_fd = -1, .signal_fd = -1},
	    .begin_ns = pt_now_ns(),
	};
	enum pt_session_stop stop = PT_STOP_ERROR;
	sigset_t set, before;
	int rc;

	*result = (struct pt_session_result){0};
	session.files = pt_file_cache_new();
	if (!session.files)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	signals_block(&set, &before);
	rc = run(&session, &stop, err);
	commands_close(&session, rc ? err : NULL);
	result->stop = stop;
	/* the probes are gone now; the command may still run (-d, a limit) */
	pt_tracer_free(session.tracer);
	session.tracer = NULL;
	if (session.launch && (result->opened || pt_launch_ended(session.launch, NULL)))
		await_command(&session, stop);
	release(&session);
	while (!options->choice && sigtimedwait(&set, NULL, &(struct timespec){0}) >= 0)
		; /* a Ctrl-C too many must not end us before the summary */
	sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}

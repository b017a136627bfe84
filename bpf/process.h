/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * process.h - which processes are traced, and what becomes of them: fork, exec, exit.
 *
 * The scheduler's tracepoints run in the task that forks, executes or exits, so each may touch that
 * thread's own state.
 */
#ifndef PT_BPF_PROCESS_H
#define PT_BPF_PROCESS_H

#include "frame.h"

static __always_inline __u32 image_id_new(void)
{
	__u32 id = 0;

	bpf_map_pop_elem(&image_ids, &id);
	return id;
}

struct proc_event {
	__u32 what, tgid, image_id, parent_tgid, parent_image_id, parent_tid;
	__s32 exit_code;
};

static __always_inline void proc_fill(struct pt_rec_proc *rec, const struct proc_event *event,
				      struct task_struct *task, __u32 size, __u64 now)
{
	rec_init(&rec->hdr, PT_REC_PROC, size, (__u64)event->tgid << 32 | event->tgid,
		 event->image_id, now);
	rec->what = event->what;
	rec->parent_tgid = event->parent_tgid;
	rec->parent_image_id = event->parent_image_id;
	rec->parent_tid = event->parent_tid;
	rec->exit_code = event->exit_code;
	rec->text_bytes = 0;
	rec->reserved = 0;
	rec->ns_tgid = task_ns_tid(BPF_CORE_READ(task, group_leader));
	BPF_CORE_READ_INTO(&rec->comm, task, comm);
}

static __always_inline bool gate_tells_of_processes(void)
{
	return control.gate != PT_GATE_CLOSED && control.gate != PT_GATE_REACHED;
}

static __always_inline void send_proc(const struct proc_event *event, struct task_struct *task,
				      __u64 now)
{
	struct pt_rec_proc rec = {};

	if (!gate_tells_of_processes())
		return;
	proc_fill(&rec, event, task, sizeof(rec), now);
	rec_send(&rec, sizeof(rec));
}

/* Of a command line; user space adds the rest where the process lives long enough. */
#define PROC_ARGS_BYTES 1024

struct proc_with_args {
	struct pt_rec_proc rec;
	__u8 args[PROC_ARGS_BYTES];
};

/* Of the current process, with its command line: it may be gone before user space can look. */
static __always_inline void send_proc_args(const struct proc_event *event, struct task_struct *task,
					   __u64 now)
{
	__u64 start = BPF_CORE_READ(task, mm, arg_start), end = BPF_CORE_READ(task, mm, arg_end);
	struct proc_with_args *r;
	__u64 size = end - start;

	if (!gate_tells_of_processes())
		return;
	r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		count_add(&counters.lost_records, 1);
		return;
	}
	proc_fill(&r->rec, event, task, sizeof(*r), now);
	__builtin_memset(r->args, 0, sizeof(r->args));
	if (size > sizeof(r->args))
		size = sizeof(r->args);
	opaque(size);
	if (size <= sizeof(r->args) && !bpf_probe_read_user(r->args, size, (void *)start))
		r->rec.text_bytes = size;
	bpf_ringbuf_submit(r, wake_flag());
}

/* trace_all: a process that user space has not named hits a site. */
static __always_inline struct pt_proc *proc_add_unknown(__u32 tgid, __u32 image_index)
{
	struct pt_proc proc = {.flags = PT_PF_FOLLOW | PT_PF_FILE, .image_index = image_index};
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct proc_event event = {.what = PT_PROC_ATTACH, .tgid = tgid};

	proc.image_id = image_id_new();
	if (!proc.image_id)
		return NULL;
	/* whoever started before the gate opened may be in the middle of something */
	if (BPF_CORE_READ(task, group_leader, start_time) > control.gate_open_ns)
		proc.flags |= PT_PF_START_KNOWN;
	if (bpf_map_update_elem(&procs, &tgid, &proc, BPF_NOEXIST) == 0) {
		event.image_id = proc.image_id;
		send_proc_args(&event, task, bpf_ktime_get_ns());
	}
	return bpf_map_lookup_elem(&procs, &tgid);
}

/* Was this thread born while the probes of its process were in place? */
static __always_inline bool born_with_probes(const struct pt_proc *proc, __u64 born)
{
	__u32 image_id = proc->image_id;
	__u64 since_ns = proc->since_ns, *known;

	if (since_ns == PT_SINCE_UNKNOWN) {
		known = bpf_map_lookup_elem(&since, &image_id);
		if (!known)
			return false;
		since_ns = *known;
	}
	return born > control.gate_open_ns && born > since_ns;
}

/* Probes were absent since: what the thread does now is not known, and it is as if it had been a
 * pause in which no frame stayed. */
static __always_inline void thread_unseen(struct thread *t)
{
	if (!t->pause_from)
		t->pause_from = control.pause_ns;
	t->pause_kept = 0;
	t->pause_c = 0;
	t->pause_c_count = 0;
	t->attention = ATT_UNKNOWN | ATT_SNAP | ATT_ABSENT;
	t->last_frame = 0;
	t->skip_exit = 0;
	t->hidden_top = 0;
	t->hidden_count = 0;
	t->stack_chunk = 0;
	t->stack_root = 0;
	t->own_root = 0;
	t->task_depth = 0;
	t->value_depth = 0; /* what value_calls has is replaced by the next call at that depth */
	nest_forget(t);
	trigger_depth(t, 0, false);
}

/*
 * A thread starts on an image. Its depth is known where we know that it has run no Python code on
 * it: it was born, or its process was forked or exec'd, while the probes were in place.
 */
static __always_inline void thread_start(struct thread *t, const struct pt_proc *proc, __u64 now)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 born = BPF_CORE_READ(task, start_time), id = bpf_get_current_pid_tgid();

	t->pid_tgid = id;
	t->image_id = proc->image_id;
	t->image_index = proc->image_index;
	t->bias = proc->bias;
	t->tstate = 0;
	nest_forget(t);
	t->depth = 0;
	t->shown = 0;
	t->hidden_top = 0;
	t->hidden_count = 0;
	t->last_frame = 0;
	t->skip_exit = 0;
	t->events_total = 0;
	t->lost = 0;
	t->ext_words = 0;
	t->gc_at = 0;
	t->stack_chunk = 0;
	t->stack_root = 0;
	t->own_root = 0;
	t->task_depth = 0;
	t->pause_from = 0;
	t->value_depth = 0;
	trigger_depth(t, 0, false);
	t->attention = ATT_UNKNOWN | ATT_SNAP;
	t->absences = control.absences;
	if (control.absent_until_ns && born <= control.absent_until_ns) {
		/* it may have run Python unseen */
	} else if (id >> 32 == (__u32)id && (proc->flags & PT_PF_START_KNOWN)) {
		t->depth = proc->start_depth;
		t->attention = t->depth ? ATT_SNAP : 0;
	} else if (id >> 32 != (__u32)id && born_with_probes(proc, born)) {
		t->attention = 0;
	}
	if (frames_sampled)
		t->attention = ATT_SNAP;
	t->head.seq = 0;
	t->head.word_count = 0;
	t->head.base_ns = now;
	t->head.depth = 0;
	t->head.events_before = 0;
	brief_restart(t);
	send_thread(t, PT_THREAD_START, task_ns_tid(task), now);
	if (!use_windows)
		sched_begin(t);
}

/* A process that gets probes of its own, one after the other, is traced once it has all of them:
 * calls would seem not to be there whose probes come last. */
static __always_inline bool has_its_probes(const struct pt_proc *proc)
{
	__u32 image_id = proc->image_id;

	return proc->since_ns != PT_SINCE_UNKNOWN || bpf_map_lookup_elem(&since, &image_id);
}

/*
 * Finds out whether the current thread is traced, makes its state if it is, and renews it if the
 * process runs another image now. Threads of processes that are not traced get no state: they pay
 * for a hash lookup a hit, and only where a bystander maps the same file.
 */
__noinline int thread_refresh(__u32 image_index)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, generation = control.generation;
	__u64 now = bpf_ktime_get_ns();
	struct pt_proc *proc;
	struct thread *t;

	proc = bpf_map_lookup_elem(&procs, &tgid);
	if (!proc && trace_all)
		proc = proc_add_unknown(tgid, image_index);
	if (!proc || proc->flags & PT_PF_REFUSED) {
		t = thread_get();
		if (t && t->image_id) {
			sched_end(t);
			batch_flush(now, 0);
			t->image_id = 0;
		}
		return 0;
	}
	if (!has_its_probes(proc))
		return 0;
	t = thread_make();
	if (!t) {
		count_add(&counters.missed, 1);
		return 0;
	}
	if (t->image_id != proc->image_id) {
		if (t->image_id) {
			sched_end(t);
			batch_flush(now, 0);
		}
		thread_start(t, proc, now);
	} else if (t->absences != control.absences) {
		t->absences = control.absences;
		thread_unseen(t);
	}
	t->bias = proc->bias;
	t->generation = generation;
	return 1;
}

/*
 * Where no Python call is told (frames_sampled) a thread's stack is one frame that nobody sees, at
 * depth 1: all that it tells lies on that, and an empty snapshot closes what the reader believes in
 * beyond, at the thread's begin and behind a loss or a pause. Non-zero: that got lost.
 */
__noinline int frameless_settle(__u64 now)
{
	struct thread *t = thread_get();

	if (!frames_sampled || !t || *(volatile __u32 *)&control.gate != PT_GATE_OPEN)
		return 1;
	if (!t->attention)
		return 0;
	if (t->pause_from)
		put_paused(t, now);
	t->depth = 1;
	t->shown = 1;
	/* the depth tells the reader that no exit follows which belongs to the snapshot */
	if (put_ext(t, now, PT_X_SNAP, 1ull << 32) || put_ext(t, now, PT_X_DEPTH, 1))
		return 1;
	t->attention = 0;
	return 0;
}

/* The current thread's state if its process is traced; a probe in a library does not tell which
 * interpreter an unknown process runs. */
static __always_inline struct thread *thread_traced(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct thread *t = thread_get();

	if (unlikely(!t || t->generation != control.generation || !t->image_id)) {
		if (!bpf_map_lookup_elem(&procs, &tgid) || !thread_refresh(0))
			return NULL;
		t = thread_get();
	}
	if (frames_sampled && t && t->attention)
		frameless_settle(bpf_ktime_get_ns());
	return t;
}

static __always_inline int process_fork(struct task_struct *parent, struct task_struct *child)
{
	struct proc_event event = {.what = PT_PROC_FORK};
	__u32 tgid = child->tgid, parent_tgid = parent->tgid;
	struct pt_proc *from, proc = {};
	struct thread *t;

	if (tgid == parent_tgid)
		return 0;
	count_add(&counters.arrivals, 1);
	/* whatever a process of the same number left behind */
	bpf_map_delete_elem(&procs, &tgid);
	from = bpf_map_lookup_elem(&procs, &parent_tgid);
	if (!from)
		return 0;
	if ((from->flags & (PT_PF_FOLLOW | PT_PF_REFUSED)) != PT_PF_FOLLOW &&
	    !(from->flags & PT_PF_FILE) && child->mm != parent->mm)
		count_add(&counters.strays, 1);
	if (!(from->flags & PT_PF_FOLLOW))
		return 0;
	proc = *from;
	if (proc.flags & PT_PF_REFUSED) {
		/* what is wrong with the parent is wrong with the child */
		bpf_map_update_elem(&procs, &tgid, &proc, BPF_ANY);
		return 0;
	}
	proc.flags &= ~PT_PF_START_KNOWN;
	proc.image_id = image_id_new();
	if (!proc.image_id) {
		count_add(&counters.lost_records, 1);
		return 0;
	}
	if (!(from->flags & PT_PF_FILE))
		proc.since_ns = PT_SINCE_UNKNOWN; /* until user space has attached them */
	t = thread_get();
	if (t && t->image_id == from->image_id && !(t->attention & ATT_UNKNOWN) &&
	    (from->flags & PT_PF_FILE) && gate_recording() && t->absences == control.absences &&
	    control.absent_until_ns != ~0ull) {
		proc.flags |= PT_PF_START_KNOWN;
		proc.start_depth = t->depth;
	}
	bpf_map_update_elem(&procs, &tgid, &proc, BPF_ANY);
	event.tgid = tgid;
	event.image_id = proc.image_id;
	event.parent_tgid = parent_tgid;
	if (t && t->image_id == from->image_id)
		event.parent_tid = parent->pid;
	if (use_methods && t && t->image_id == from->image_id && t->tstate) {
		struct pt_tstate inherited = {.image_id = proc.image_id, .tstate = t->tstate};

		bpf_map_update_elem(&tstates, &tgid, &inherited, BPF_ANY);
	}
	event.parent_image_id = from->image_id;
	send_proc(&event, child, bpf_ktime_get_ns());
	return 0;
}

/*
 * Has what the process executes probes from its first instruction on? Those of the file have it;
 * those of the process alone live on with it, in what maps the same file, if all of them were
 * there. Not so where it was passed over: whoever looks at it then attaches anew.
 */
static __always_inline bool exec_keeps_probes(const struct pt_proc *proc, __u32 new_id, __u64 now)
{
	__u32 old_id = proc->image_id;
	bool all = bpf_map_lookup_elem(&since, &old_id);

	if (all)
		bpf_map_delete_elem(&since, &old_id);
	if (proc->flags & PT_PF_FILE)
		return true;
	return all && (proc->flags & (PT_PF_PROBES_STAY | PT_PF_REFUSED)) == PT_PF_PROBES_STAY &&
	       !bpf_map_update_elem(&since, &new_id, &now, BPF_ANY);
}

static __always_inline int process_exec(struct task_struct *task, __u32 old_tid)
{
	struct proc_event event = {.what = PT_PROC_EXEC};
	__u32 tgid = task->tgid, id;
	bool kept;
	__u64 now = bpf_ktime_get_ns();
	struct pt_proc *proc;
	struct thread *t;

	count_add(&counters.arrivals, 1);
	proc = bpf_map_lookup_elem(&procs, &tgid);
	if (!proc)
		return 0;
	id = image_id_new();
	if (!id) {
		count_add(&counters.lost_records, 1);
		return 0;
	}
	t = thread_get();
	if (t && t->image_id) {
		if (t->pause_from)
			put_paused(t, now);
		trigger_depth(t, 0, false);
		sched_end(t);
		batch_flush(now, PT_RF_LAST);
		t->image_id = 0;
		t->generation = control.generation - 1;
	}
	if (!use_task_storage && old_tid != tgid)
		bpf_map_delete_elem(&threads_by_tid, &old_tid);
	sched_forget(old_tid);
	event.parent_image_id = proc->image_id;
	kept = exec_keeps_probes(proc, id, now);
	proc->image_id = id;
	proc->bias = 0;
	proc->start_depth = 0;
	proc->flags &= ~(PT_PF_START_KNOWN | PT_PF_REFUSED | PT_PF_LOCATED);
	if (kept && gate_recording())
		proc->flags |= PT_PF_START_KNOWN;
	event.tgid = tgid;
	event.image_id = id;
	send_proc_args(&event, task, now);
	return 0;
}

static __always_inline int process_exit(struct task_struct *task)
{
	struct proc_event event = {.what = PT_PROC_EXIT};
	__u32 tgid = task->tgid, tid = task->pid;
	struct pt_proc *proc, copy;
	struct thread *t;
	__u64 now;
	int code;

	proc = bpf_map_lookup_elem(&procs, &tgid);
	t = thread_get();
	now = bpf_ktime_get_ns();
	if (t && t->image_id) {
		if (t->pause_from)
			put_paused(t, now);
		trigger_depth(t, 0, false);
		sched_end(t);
		batch_flush(now, PT_RF_LAST);
		send_thread(t, PT_THREAD_EXIT, task_ns_tid(task), now);
		t->image_id = 0;
	}
	if (!use_task_storage)
		bpf_map_delete_elem(&threads_by_tid, &tid);
	sched_forget(tid);
	if (!proc || BPF_CORE_READ(task, signal, live.counter) != 0)
		return 0;
	copy = *proc;
	/* two last threads may both see no other alive: one of them deletes it */
	if (bpf_map_delete_elem(&procs, &tgid))
		return 0;
	bpf_map_delete_elem(&since, &copy.image_id);
	code = BPF_CORE_READ(task, signal, group_exit_code);
	event.exit_code = code ? code : BPF_CORE_READ(task, exit_code);
	event.tgid = tgid;
	event.image_id = copy.image_id;
	send_proc(&event, task, now);
	return 0;
}

#endif /* PT_BPF_PROCESS_H */

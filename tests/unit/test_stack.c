// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * py_stacks_read() against the interpreter's own view (sys._current_frames), on every interpreter
 * that is installed. Needs no root: it reads its own children.
 */
#include <errno.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "python/image.h"
#include "python/layout.h"
#include "python/stack.h"
#include "target/process.h"

#define MAX_INTERPRETERS 64

struct interpreter {
	char path[PATH_MAX];
	char root[PATH_MAX]; /* of its own system; "" if this one */
};

struct child {
	pid_t pid;
	int to;
	FILE *from;
};

static struct interpreter interpreters[MAX_INTERPRETERS];
static size_t interpreter_count;

static void add_matches(const char *pattern, const char *root_end)
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc && interpreter_count < MAX_INTERPRETERS; i++) {
		struct interpreter *it = &interpreters[interpreter_count];
		const char *base = strrchr(found.gl_pathv[i], '/') + 1;
		unsigned int minor;
		char tail[8] = "";

		if (sscanf(base, "python3.%u%7s", &minor, tail) < 1 || minor < 8 || minor > 15 ||
		    (tail[0] && strcmp(tail, "d")))
			continue;
		snprintf(it->path, sizeof(it->path), "%s", found.gl_pathv[i]);
		snprintf(it->root, sizeof(it->root), "%s", root_end ? found.gl_pathv[i] : "");
		if (root_end)
			*strstr(it->root, root_end) = 0;
		interpreter_count++;
	}
	globfree(&found);
}

static void find_interpreters(void)
{
	const char *home = getenv("HOME"), *cache = getenv("PYTRACE_CACHE");
	char pattern[PATH_MAX];

	snprintf(pattern, sizeof(pattern), "%s/.pyenv/versions/3.*/bin/python3.*",
		 home ? home : "");
	add_matches(pattern, NULL);
	add_matches("/usr/bin/python3.*", NULL);
	snprintf(pattern, sizeof(pattern), "%s/roots/*/usr/bin/python3.*",
		 cache ? cache : "/var/cache/pytrace-bpf");
	add_matches(pattern, "/usr/bin/");
}

/* The dynamic loader of another system's root; its usual name may be a link out of the root. */
static void find_loader(const char *root, char *loader, size_t size)
{
	char pattern[PATH_MAX + 64];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s/lib/x86_64-linux-gnu/ld-*.so*", root);
	if (glob(pattern, 0, NULL, &found))
		_exit(126);
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (!access(found.gl_pathv[i], X_OK))
			snprintf(loader, size, "%s", found.gl_pathv[i]);
	globfree(&found);
}

/* An interpreter of another system is started through that system's dynamic loader: no chroot, no
 * root needed. */
static void exec_interpreter(const struct interpreter *it, const char *script)
{
	char loader[PATH_MAX + 64] = "", libs[2 * PATH_MAX + 64], home[PATH_MAX + 8];

	setenv("PYTHONIOENCODING", "utf-8", 1);
	setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
	if (!it->root[0]) {
		execl(it->path, it->path, script, (char *)NULL);
		_exit(127);
	}
	find_loader(it->root, loader, sizeof(loader));
	snprintf(libs, sizeof(libs), "%s/usr/lib/x86_64-linux-gnu:%s/lib/x86_64-linux-gnu",
		 it->root, it->root);
	snprintf(home, sizeof(home), "%s/usr", it->root);
	setenv("PYTHONHOME", home, 1);
	execl(loader, loader, "--library-path", libs, it->path, script, (char *)NULL);
	_exit(127);
}

static struct child start(const struct interpreter *it, const char *script)
{
	struct child child = {0};
	int to[2], from[2];

	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (child.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(to[0], 0);
		dup2(from[1], 1);
		close(to[1]);
		close(from[0]);
		exec_interpreter(it, script);
	}
	close(to[0]);
	close(from[1]);
	child.to = to[1];
	child.from = fdopen(from[0], "r");
	return child;
}

/* Until it waits for its input; where the kernel does not tell, a while. */
static void await_rest(const struct child *child)
{
	char path[64], call[32], now[256] = "";

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)child->pid);
	snprintf(call, sizeof(call), "%d 0x0 ", SYS_read);
	for (int i = 0; i < 60000 && strncmp(now, call, strlen(call)) != 0; i++) {
		FILE *file = fopen(path, "r");

		if (!file || !fgets(now, sizeof(now), file))
			i += 600;
		if (file)
			fclose(file);
		usleep(1000);
	}
}

static void stop(struct child *child)
{
	int status;

	close(child->to);
	fclose(child->from);
	kill(child->pid, SIGKILL);
	waitpid(child->pid, &status, 0);
}

static struct py_image *load_image(const struct pt_process *process)
{
	const struct pt_module *module = &process->modules[process->interpreter];
	struct py_image *image;
	struct pt_err err = {0};

	/* its path is good here: no target of this test lives in another root (open_path would need
	 * capabilities) */
	if (py_image_load(module->path, module->path, PY_INSN_EMULATED_DEFAULT, NULL, &image, &err))
		fail_msg("%s (%s)", err.what, err.hint);
	return image;
}

static const struct py_thread_stack *thread_of(const struct py_stacks *stacks, pid_t tid)
{
	for (size_t i = 0; i < stacks->thread_count; i++)
		if (stacks->threads[i].tid == tid)
			return &stacks->threads[i];
	fail_msg("no stack for thread %d", (int)tid);
	return NULL;
}

/* "line\tname\tqualname\tfile", newlines as \n, like stack_target.py prints them. */
static void describe(const struct py_frame *frame, char *out, size_t size)
{
	const char *parts[] = {frame->code.name, frame->code.qualname ? frame->code.qualname : "",
			       frame->code.filename};
	int len = snprintf(out, size, "%u", frame->code.firstlineno);

	for (size_t i = 0; i < 3; i++) {
		out[len++] = '\t';
		for (const char *p = parts[i]; *p && (size_t)len + 3 < size; p++) {
			if (*p == '\n')
				len += snprintf(out + len, size - (size_t)len, "\\n");
			else
				out[len++] = *p;
		}
	}
	out[len] = 0;
}

struct expectation { /* while the target's lines are read */
	const struct py_thread_stack *thread;
	size_t frame;
	unsigned int hidden;
	unsigned int threads, frames;
};

static void check_thread_end(const struct expectation *expect, const struct py_image *image)
{
	const struct py_thread_stack *thread = expect->thread;

	if (!thread)
		return;
	assert_int_equal(thread->frame_count, expect->frame);
	assert_int_equal(thread->frames[thread->frame_count - 1].depth, 1);
	assert_int_equal(thread->frames[0].depth, thread->depth);
	/* since 3.13 an inlined __init__ has a shim below it, which is counted but not shown */
	assert_int_equal(thread->depth,
			 expect->frame + (image->version >= 0x030d0000 ? expect->hidden : 0));
}

static void check_line(char *line, struct expectation *expect, const struct py_stacks *stacks,
		       const struct py_image *image)
{
	char text[4096];
	int tid;

	line[strcspn(line, "\n")] = 0;
	if (line[0] == 'T') {
		check_thread_end(expect, image);
		assert_int_equal(sscanf(line, "T\t%d\t%u", &tid, &expect->hidden), 2);
		expect->thread = thread_of(stacks, tid);
		expect->frame = 0;
		expect->threads++;
		return;
	}
	assert_int_equal(line[0], 'F');
	assert_true(expect->frame < expect->thread->frame_count);
	if (expect->frame)
		assert_true(expect->thread->frames[expect->frame].depth <
			    expect->thread->frames[expect->frame - 1].depth);
	describe(&expect->thread->frames[expect->frame++], text, sizeof(text));
	assert_string_equal(text, line + 2);
	expect->frames++;
}

static void check_interpreter(const struct interpreter *it, const char *script)
{
	struct child child = start(it, script);
	struct pt_process *process;
	struct py_stacks stacks;
	struct expectation expect = {0};
	struct pt_err err = {0};
	struct py_image *image;
	char *lines[2048];
	size_t line_count = 0;
	char line[8192];
	uint32_t version;
	uint64_t bias;

	while (line_count < 2048 && fgets(line, sizeof(line), child.from) &&
	       strncmp(line, "END", 3))
		lines[line_count++] = strdup(line);
	if (!line_count)
		fail_msg("%s printed nothing", it->path);
	await_rest(&child);
	if (pt_process_open(child.pid, &process, &err))
		fail_msg("%s: %s", it->path, err.what);
	assert_true(process->interpreter >= 0);
	image = load_image(process);
	bias = pt_module_bias(&process->modules[process->interpreter]);
	if (py_stacks_read(child.pid, image, bias, &stacks, &err))
		fail_msg("%s: %s", it->path, err.what);
	for (size_t i = 0; i < line_count; i++) {
		check_line(lines[i], &expect, &stacks, image);
		free(lines[i]);
	}
	check_thread_end(&expect, image);
	assert_int_equal(stacks.thread_count, expect.threads);
	assert_int_equal(py_process_version(child.pid, image, bias, &version), 0);
	assert_int_equal(version, image->version);
	print_message("  CPython %s%s %s: %u threads, %u frames equal\n", image->version_text,
		      image->debug ? " (pydebug)" : "", it->path, expect.threads, expect.frames);
	py_stacks_release(&stacks);
	py_image_free(image);
	pt_process_free(process);
	stop(&child);
}

static void test_stacks_equal_the_interpreters_view(void **state)
{
	char file[] = __FILE__, script[PATH_MAX];

	(void)state;
	find_interpreters();
	assert_true(interpreter_count > 0);
	snprintf(script, sizeof(script), "%s/stack_target.py", dirname(file));
	for (size_t i = 0; i < interpreter_count; i++)
		check_interpreter(&interpreters[i], script);
}

/* What lies at the given address is no interpreter: an error, no crash, nothing kept. */
static void test_memory_that_is_no_interpreter(void **state)
{
	static uint64_t junk[512];
	struct py_image image = {.version = 0x030a0df0};
	struct py_stacks stacks;
	struct pt_err err = {0};

	(void)state;
	for (size_t i = 0; i < 512; i++)
		junk[i] = (uint64_t)(uintptr_t)junk; /* every pointer leads back here */
	image.layout.frame_owner = PT_NO_FIELD;
	image.layout.cframe_frame = PT_NO_FIELD;
	image.layout.ts_frame = 24;
	image.layout.frame_back = 24;
	image.layout.frame_code = 32;
	image.runtime.vaddr = (uint64_t)(uintptr_t)junk;
	assert_int_equal(py_stacks_read(getpid(), &image, 0, &stacks, &err), 0);
	assert_int_equal(stacks.thread_count, 0);
	py_stacks_release(&stacks);
	image.runtime.vaddr = 16;
	assert_int_equal(py_stacks_read(getpid(), &image, 0, &stacks, &err), -EBADMSG);
	assert_int_equal(err.exit_code, PT_EXIT_FAILED);
	image.version = 0x030d00f0;
	pt_err_clear(&err);
	image.runtime.vaddr = (uint64_t)(uintptr_t)junk;
	assert_int_equal(py_stacks_read(getpid(), &image, 0, &stacks, &err), -ENOTSUP);
}

/* Memory full of pointers into itself, in which threads, frames and strings are anything: it ends,
 * within bounds. */
static void test_random_memory(void **state)
{
	static uint64_t arena[8192];
	const uint32_t versions[] = {0x030a0df0, 0x030b07f0, 0x030c01f0};
	size_t threads = 0, frames = 0;

	(void)state;
	srandom(3);
	for (int i = 0; i < 60; i++) {
		struct py_image image = {.version = versions[i % 3]};
		struct py_runtime_layout runtime;
		struct py_stacks stacks;
		uint64_t base = (uint64_t)(uintptr_t)arena;

		for (size_t k = 0; k < 8192; k++)
			arena[k] = k % 8 == 4      ? 0x65 /* a string's state: compact, ASCII */
				   : random() % 32 ? base + (uint64_t)random() % 1000 * 64
						   : (uint64_t)random() & 0xff;
		assert_int_equal(py_layout_from_table(image.version, &image.layout, &runtime, NULL),
				 0);
		image.runtime.vaddr = base;
		/* one thread at least: its state at 4096, its TID where it is looked for */
		arena[runtime.rt_interp_head / 8] = base + 2048;
		arena[(2048 + runtime.interp_threads_head) / 8] = base + 4096;
		arena[(4096 + runtime.ts_interp) / 8] = base + 2048;
		arena[(4096 + runtime.ts_next) / 8] = i % 2 ? base + 4096 : 0;
		arena[(4096 + runtime.ts_thread_id) / 8] = base + 8192;
		arena[(8192 + 0x2d0) / 8] = (uint64_t)getpid();
		if (runtime.ts_native_thread_id != PY_NO_OFFSET)
			arena[(4096 + runtime.ts_native_thread_id) / 8] = (uint64_t)getpid();
		if (py_stacks_read(getpid(), &image, 0, &stacks, NULL))
			continue;
		threads += stacks.thread_count;
		for (size_t t = 0; t < stacks.thread_count; t++)
			frames += stacks.threads[t].frame_count;
		py_stacks_release(&stacks);
	}
	assert_true(threads > 0 && frames > 0);
}

static void test_process_that_is_gone(void **state)
{
	struct py_image image = {.version = 0x030a0df0, .runtime.vaddr = 4096};
	struct py_stacks stacks;
	struct pt_err err = {0};
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_int_equal(py_stacks_read(pid, &image, 0, &stacks, &err), -ESRCH);
	assert_int_equal(err.exit_code, PT_EXIT_NO_TARGET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_memory_that_is_no_interpreter),
	    cmocka_unit_test(test_random_memory),
	    cmocka_unit_test(test_process_that_is_gone),
	    cmocka_unit_test(test_stacks_equal_the_interpreters_view),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

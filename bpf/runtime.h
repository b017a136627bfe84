/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * runtime.h - what the interpreter does that is no Python frame: it collects garbage, waits for the
 * GIL.
 *
 * These events stand in the thread's batch, in order with its calls, so that they need no sorting
 * and nest as they did. They need neither the thread's depth nor its frames: what comes before a
 * thread's first snapshot is put in its place by the reader.
 */
#ifndef PT_BPF_RUNTIME_H
#define PT_BPF_RUNTIME_H

#include "emit.h"
#include "regs.h"

#define ERR_TIMED_OUT 110 /* ETIMEDOUT: errno.h knows no BPF */

/* One item of a batch. */
struct rt_event {
	__u32 type; /* PT_X_RT_* */
	__u32 what; /* enum pt_rt_what */
	__u32 flags, values;
	__u64 value[PT_RT_VALUES_MAX];
};

static __always_inline void put_runtime(struct thread *t, const struct rt_event *event, __u64 now)
{
	__u32 n = t->head.word_count, words = 1 + event->values;

	if (n > batch_limit || now - t->head.base_ns > PT_WORD_TIME_MAX) {
		batch_flush(now, 0);
		n = t->head.word_count;
	}
	opaque(n);
	if (n > PT_BATCH_WORDS - 2 - PT_RT_VALUES_MAX)
		return;
	t->words[n] = PT_WORD(PT_W_EXT, PT_EXT_ARG(event->type, words), now - t->head.base_ns);
	t->words[n + 1] = PT_RT_DESC(event->what, event->values, event->flags);
	/* those behind the last do no harm: they are not counted */
	t->words[n + 2] = event->value[0] << PT_RT_SHIFT;
	t->words[n + 3] = event->value[1] << PT_RT_SHIFT;
	t->words[n + 4] = event->value[2] << PT_RT_SHIFT;
	t->ext_words += 1 + words;
	t->head.word_count = n + 1 + words;
	t->last_ns = now;
}

/* ---- garbage collections where the build has no USDT probes for them ---- */

/* Where the statistics of the interpreter that collects lie, or 0. */
static __always_inline __u64 gc_stats_at(struct thread *t, const struct pt_rt_layout *rt,
					 __u64 tstate, __u64 ip, __u64 site_vaddr)
{
	__u64 interp;

	if (rt->gc_stats_vaddr)
		return ip - site_vaddr + rt->gc_stats_vaddr;
	if (!rt->gc_stats || !tstate)
		return 0;
	interp = user_u64(tstate + rt->ts_interp);
	return interp ? interp + rt->gc_stats : 0;
}

/* The collector's function is also entered when a collection is under way (3.13), and then does
 * nothing: the statistics are the same before and after, and that of the outer call stays right. */
static __always_inline void gc_enter(struct thread *t, __u64 at, struct rt_event *event)
{
	struct gc_stats stats;

	event->type = PT_X_RT_BEGIN;
	event->what = PT_RT_GC;
	t->gc_at = 0;
	if (!at || bpf_probe_read_user(&stats, sizeof(stats), (void *)at))
		return;
	t->gc_at = at;
	t->gc_before = stats;
}

static __always_inline void gc_leave(struct thread *t, struct rt_event *event)
{
	struct gc_stats stats;

	event->type = PT_X_RT_END;
	event->what = PT_RT_GC;
	if (!t->gc_at || bpf_probe_read_user(&stats, sizeof(stats), (void *)t->gc_at))
		return;
	event->flags = PT_RT_CANCEL;
#define GENERATION(i)                                                                              \
	if (stats.values[3 * (i)] != t->gc_before.values[3 * (i)]) {                               \
		event->flags = 0;                                                                  \
		event->values = 3;                                                                 \
		event->value[0] = i;                                                               \
		event->value[1] = stats.values[3 * (i) + 1] - t->gc_before.values[3 * (i) + 1];    \
		event->value[2] = stats.values[3 * (i) + 2] - t->gc_before.values[3 * (i) + 2];    \
	}
	GENERATION(0)
	GENERATION(1)
	GENERATION(2)
#undef GENERATION
}

/* ---- a probe fires ---- */

#define RT_HIT(what, layout, site) ((what) | (layout) << 8 | (site) << 16)
#define RT_HIT_WHAT(hit)           ((hit)&0xff)
#define RT_HIT_LAYOUT(hit)         ((hit) >> 8 & 0xff)
#define RT_HIT_SITE(hit)           ((hit) >> 16)

/* The vaddr of a site, or 0. */
static __always_inline __u64 site_vaddr(__u32 layout, __u32 number)
{
	struct pt_site_key key = {.by = PT_SITE_BY_NUMBER, .image_index = layout, .addr = number};
	struct pt_site_value *site = bpf_map_lookup_elem(&sites, &key);

	return site ? site->vaddr : 0;
}

/* hit: RT_HIT. A global function: verified once, apart from the sites. */
__noinline int runtime_hit(__u64 arg, __u64 arg2, __u64 ip, __u32 hit)
{
	const struct pt_image *image = image_at(RT_HIT_LAYOUT(hit));
	struct rt_event event = {};
	struct thread *t = thread_get();
	__u64 vaddr;

	if (!t)
		return 0;
	switch (RT_HIT_WHAT(hit)) {
	case PT_RT_SITE_GC_START:
		event.type = PT_X_RT_BEGIN;
		event.what = PT_RT_GC;
		event.values = 1;
		event.value[0] = arg;
		break;
	case PT_RT_SITE_GC_DONE:
		event.type = PT_X_RT_END;
		event.what = PT_RT_GC;
		event.values = 1;
		event.value[0] = arg;
		break;
	case PT_RT_SITE_GC_ENTER:
		vaddr = image->rt.gc_stats_vaddr ? site_vaddr(RT_HIT_LAYOUT(hit), RT_HIT_SITE(hit))
						 : 0;
		gc_enter(t, gc_stats_at(t, &image->rt, arg, ip, vaddr), &event);
		break;
	case PT_RT_SITE_GC_LEAVE:
		gc_leave(t, &event);
		break;
	case PT_RT_SITE_GIL_WAIT:
		event.type = PT_X_RT_BEGIN;
		event.what = PT_RT_GIL;
		break;
	case PT_RT_SITE_GIL_WAITED:
		event.type = PT_X_RT_END;
		event.what = PT_RT_GIL;
		event.values = 1;
		event.value[0] = (__u32)arg == ERR_TIMED_OUT;
		break;
	default:
		return 0;
	}
	put_runtime(t, &event, bpf_ktime_get_ns());
	return 0;
}

static __always_inline int site_runtime(struct pt_regs *ctx, __u64 cookie)
{
	__u32 reg = PT_COOKIE_TS(cookie), reg2 = PT_COOKIE_FRAME_REG(cookie);
	__u64 arg = 0, arg2 = 0;

	if (reg < PT_REG_NONE)
		arg = reg_read(ctx, reg);
	if (reg2 < PT_REG_NONE)
		arg2 = reg_read(ctx, reg2);
	if (cookie & PT_RT_MEMORY)
		arg = (__u64)(__s64)(__s32)user_u32(arg + (__s64)PT_COOKIE_RT_DISP(cookie));
	return runtime_hit(
	    arg, arg2, REGS_IP(ctx),
	    RT_HIT(PT_COOKIE_RT_WHAT(cookie), PT_COOKIE_LAYOUT(cookie), PT_COOKIE_SITE(cookie)));
}

#endif /* PT_BPF_RUNTIME_H */

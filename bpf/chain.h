/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * chain.h - the chain of frames up to 3.10, along PyFrameObject.f_back (--async): what lies in it
 * that was not entered, and where it is cut.
 *
 * throw() goes through a generator that delegates to another one without running it: it makes its
 * frame the current one and throws into the other. So a frame is in the chain that no call entered:
 * from 3.9 on. Up to 3.10.6 its f_back is NULL meanwhile. Such a frame, and what was current before
 * it, are known from a probe where it becomes the current one (sites_throw.c); that it still is one
 * shows in its generator's being at rest.
 */
#ifndef PT_BPF_CHAIN_H
#define PT_BPF_CHAIN_H

#include "code.h"

struct throw_key {
	__u32 image_id;
	__u32 zero;
	__u64 frame;
};

/* Of frames that an exception is thrown through: the frame that is below. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct throw_key);
	__type(value, __u64);
} throws SEC(".maps");

/* Is this the frame of a generator that rests? Its stack has a top then; so it has in the middle of
 * a trace function's call, so this alone says nothing. */
static __always_inline bool frame_rests(const struct pt_image *image, __u64 frame)
{
	__u64 top = frame + image->values.frame_stacktop;

	if (!user_u64(frame + image->rt.gen_frame))
		return false;
	if (image->values.stacktop == PT_STACKTOP_POINTER)
		return user_u64(top);
	return (__s32)user_u32(top) >= 0;
}

/* In a walk: goes on to the frame below. Returns 1 if the one at hand was not entered. What lies
 * below it may be unknown, if the throw began before the recording: the walk ends then, and
 * walk.last is 0. */
__noinline int chain_step(void)
{
	struct thread *t = thread_get();
	const struct pt_image *image;
	struct throw_key key = {};
	__u64 frame, *below;

	if (!want_async || !t)
		return 0;
	image = image_at(t->walk.layout);
	frame = t->walk.frame;
	t->walk.last = frame;
	t->walk.frame = user_u64(frame + image->layout.frame_back);
	if (!frame_rests(image, frame))
		return 0;
	key.image_id = t->image_id;
	key.frame = frame;
	below = bpf_map_lookup_elem(&throws, &key);
	if (!below) {
		if (!t->walk.frame)
			t->walk.last = 0;
		return 0;
	}
	if (!t->walk.frame)
		t->walk.frame = *below;
	return 1;
}

#define CHAIN_INNER 128
#define CHAIN_OUTER 128 /* as many frames as a walk in frame.h */

__noinline int chain_steps(void)
{
	struct thread *t = thread_get();
	int i;

	for (i = 0; t && i < CHAIN_INNER && t->walk.frame; i++)
		chain_step();
	return 0;
}

/* The outermost frame below this one, or itself. 0: not known. */
static __always_inline __u64 chain_outermost(struct thread *t, __u64 frame, __u64 back,
					     __u32 layout_index)
{
	int i;

	t->walk.layout = layout_index;
	t->walk.frame = back;
	t->walk.last = frame;
	for (i = 0; i < CHAIN_OUTER && t->walk.frame; i++)
		chain_steps();
	return t->walk.frame ? 0 : t->walk.last;
}

#endif /* PT_BPF_CHAIN_H */

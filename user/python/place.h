/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * place.h - where to put the probe for a counter instruction.
 *
 * On the counter's own instruction the kernel would single-step it out of line, ten times as dear
 * as an instruction that it emulates. So the probe goes to a place nearby that is passed exactly as
 * often; sites_frame.c decides which of these to use.
 */
#ifndef PT_PYTHON_PLACE_H
#define PT_PYTHON_PLACE_H

#include "python/counter.h"

struct place {
	size_t insn;            /* index in the region; REGION_NONE: there is no such place */
	unsigned int ts, slot;  /* PT_COOKIE's thread state and slot */
	unsigned int condition; /* PT_COOKIE's condition */
	unsigned int distance;  /* instructions from the counter */
};

#define PLACE_EDGES_MAX 16

struct place_finder {
	const struct region *region;
	const struct flow *flow;
	const struct counters *counters;
	unsigned int emulated; /* set of 1u << enum py_insn_class */
	const uint8_t *failed; /* marks of failed.h, or NULL */
	bool merge;            /* probes may stand for several counters of one direction (3.12+) */
};

/* The next emulated instruction behind the counter that is reached from the counter only, with
 * control flowing straight from one to the other. */
struct place place_forward(const struct place_finder *finder, const struct counter *counter);
/* The instruction right behind the counter, emulated or not, if it is reached from there only. */
struct place place_behind(const struct place_finder *finder, const struct counter *counter);
/* Does the counter lead, without any branch, to another one of its direction, as the shim of an
 * __init__ does? That one's probe tells of both. */
bool place_is_covered(const struct place_finder *finder, const struct counter *counter);
/* The counter's own instruction. */
struct place place_raw(const struct place_finder *finder, const struct counter *counter);
/* The branches that lead to the counter's block: exactly one of them is passed, in the direction
 * that its condition tells, each time the counter is. Returns how many, 0 if there is no such set
 * (the block is reached through a table, or a call lies between). Those that
 * only a failed check passes are left out. */
size_t place_edges(const struct place_finder *finder, const struct counter *counter,
		   struct place edges[PLACE_EDGES_MAX]);
/* A conditional jump, counting only when it goes that way. */
struct place place_branch(const struct place_finder *finder, size_t branch, bool taken,
			  unsigned int preferred);
/* The first emulated instruction of an opcode's handler, mostly a conditional jump. */
struct place place_handler(const struct place_finder *finder, size_t handler);

/*
 * The registers that hold the running frame and its code object at a place in a handler. Shown by
 * what the handler does on the straight way there: it stores the instruction pointer into the frame
 * (offset instr_ptr, 3.13+), and reads the code object (offset code) from it. PT_REG_NONE: not
 * shown.
 */
struct place_frame {
	unsigned int frame, code;
};
struct place_frame place_handler_frame(const struct place_finder *finder, size_t handler,
				       const struct place *place, uint16_t instr_ptr,
				       uint16_t code);

/* The register in whose low half the counter was stored, if it still has it at the place and no
 * other counter lies between; else PT_REG_NONE. */
unsigned int place_left_register(const struct place_finder *finder, const struct counter *counter,
				 const struct place *place);

/*
 * A frame that starts: the register that holds it at this place, if the thread state's current
 * frame is only stored later (offset: of current_frame in PyThreadState, 3.13+). PT_REG_NONE:
 * memory is right there already. -EAGAIN: neither can be shown; the frame must be noticed
 * elsewhere.
 */
int place_frame_register(const struct place_finder *finder, const struct counter *counter,
			 const struct place *place, uint16_t offset);

/*
 * The same on 3.11 and 3.12, behind a passed check, where memory is right but two reads away: the
 * register through which the loop then takes over the frame's stack pointer, which leaves its mark
 * (frame->stacktop = -1 in _PyFrame_GetStackPointer(), pycore_frame.h). PT_REG_NONE: not seen.
 */
unsigned int place_started_frame(const struct place_finder *finder, const struct place *place,
				 uint16_t stacktop);

#endif

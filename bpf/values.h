/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * values.h - the arguments of chosen calls, their variables, and what they return (--args, --local,
 * --retval).
 *
 * Which code objects are chosen is decided when they are met first (trigger.h); others cost a test
 * of a flag that is at hand. Nothing of the target runs: objects are read where they lie, and only
 * what C structs tell is told. A page that is not in memory is not brought in: unreadable.
 *
 * Arguments are read before the enter's word. Where variables or the result are wanted, the call's
 * frame is kept in value_calls until the exit: the frame is unlinked then, but its memory is as it
 * was. What is returned is what the last instruction found on the value stack, or a constant that
 * it names. Which instruction that was tells a return from a yield; an exception that is set tells
 * that nothing was returned. What is not certain is sent as PT_V_UNKNOWN.
 *
 * Cost: one to two microseconds for a chosen call; see docs/DESIGN.md.
 *
 * Objects (Include/cpython/, 3.8 to 3.15): PyFloatObject.ob_fval 16, PyDictObject.ma_used 16,
 * PySetObject.used 24, PyCellObject.ob_ref 16. numpy/ndarraytypes.h, 1.x and 2.x:
 * PyArrayObject_fields.nd 24, dimensions 32, descr 56; PyArray_Descr.typeobj 16.
 */
#ifndef PT_BPF_VALUES_H
#define PT_BPF_VALUES_H

#include "runtime.h"
#include "tensor.h"

#define TYPE_IS_LIST (1u << 25)
#define TYPE_IS_DICT (1u << 29)

#define VALUE_UNKNOWN    (~0ull)
#define LOCAL_SLOTS_MAX  128
#define CELL_SEARCH_MAX  32
#define INT_DIGITS_SENT  (PT_VALUE_MAX_BYTES / 4)
#define KIND_CELL        0x40 /* CO_FAST_CELL: Include/internal/pycore_code.h, 3.11+ */
#define KIND_FREE        0x80 /* CO_FAST_FREE */
#define CO_HAS_VARARGS   0x4  /* CO_VARARGS, CO_VARKEYWORDS: Include/cpython/code.h */
#define CO_HAS_VARKWARGS 0x8
/* From here on there is no room for one more value and the padding. */
#define VALUES_END_MAX   (VALUES_BYTES - PT_VALUE_NAME_MAX - PT_VALUE_MAX_BYTES)

/* Something is read at exits; else there is no value_calls. */
static __always_inline bool values_at_exit(void)
{
	return use_values && (values_result | values_local);
}

static __always_inline void values_begin(struct thread *t)
{
	t->values.rec.count = 0;
	t->values.rec.more = 0;
	t->values.rec.serial = ++t->value_serial;
}

/* A new value, or NULL: it does not fit. */
static __always_inline struct pt_value *values_new(struct thread *t, __u32 end)
{
	__u64 n = t->values.rec.count;
	struct pt_value *value;

	opaque(n);
	if (n >= PT_VALUES_MAX || end > VALUES_END_MAX) {
		t->values.rec.more++;
		return NULL;
	}
	value = &t->values.rec.values[n];
	t->values.rec.count = n + 1;
	value->type = PT_V_UNREADABLE;
	value->width = 1;
	value->truncated = 0;
	value->name_bytes = 0;
	value->bytes = 0;
	value->name_width = 1;
	value->reserved = 0;
	value->number = 0;
	return value;
}

/* The one that was made last. */
static __always_inline struct pt_value *values_last(struct thread *t)
{
	__u64 n = t->values.rec.count - 1u;

	opaque(n);
	return n < PT_VALUES_MAX ? &t->values.rec.values[n] : NULL;
}

struct value_text {
	__u64 data, bytes; /* at most as many as asked for */
	__u32 width;
	bool truncated;
};

/* Where the characters of a str are. */
static __always_inline bool text_find(struct value_text *text, const struct pt_layout *layout,
				      __u64 str, __u64 most)
{
	__u64 length = 0;
	__u32 state = 0;

	if (!str || bpf_probe_read_user(&length, 8, (void *)(str + layout->str_length)) ||
	    bpf_probe_read_user(&state, 4, (void *)(str + layout->str_state)))
		return false;
	/* as in string_read() of code.h; 0 before 3.12: characters that are not there yet */
	text->width = state >> 2 & 7;
	if (text->width != 1 && text->width != 2 && text->width != 4)
		return false;
	text->data = str + layout->str_data;
	if (!(state & 0x20)) /* of a subclass: a pointer to them */
		text->data = user_u64(text->data);
	else if (state & 0x40)
		text->data = str + layout->str_ascii_data;
	text->bytes = most;
	if (length <= most / 4 || length * text->width <= most)
		text->bytes = length * text->width;
	text->truncated = length > most || length * text->width > most;
	return text->data != 0;
}

/* Copies bytes behind what is there. most: a constant. */
static __always_inline bool values_copy(struct thread *t, __u64 from, __u64 bytes, const __u64 most,
					__u32 end)
{
	__u64 at = end, size = bytes;

	opaque(at);
	opaque(size);
	if (at > VALUES_BYTES - PT_VALUE_MAX_BYTES || size > most)
		return false;
	return !size || !bpf_probe_read_user(&t->values.data[at], size, (const void *)from);
}

static __always_inline __u32 value_text(struct thread *t, struct pt_value *value,
					const struct pt_layout *layout, __u64 str, __u32 end)
{
	struct value_text text = {};

	if (!text_find(&text, layout, str, PT_VALUE_MAX_BYTES) ||
	    !values_copy(t, text.data, text.bytes, PT_VALUE_MAX_BYTES, end))
		return end;
	value->type = PT_V_TEXT;
	value->width = text.width;
	value->truncated = text.truncated;
	value->bytes = text.bytes;
	return end + text.bytes;
}

static __always_inline __u32 value_bytes(struct thread *t, struct pt_value *value, __u64 obj,
					 __u32 end)
{
	__u64 length = user_u64(obj + OBJECT_SIZE), bytes = length;

	if (bytes > PT_VALUE_MAX_BYTES)
		bytes = PT_VALUE_MAX_BYTES;
	if (!values_copy(t, obj + BYTES_DATA, bytes, PT_VALUE_MAX_BYTES, end))
		return end;
	value->type = PT_V_BYTES;
	value->truncated = length > bytes;
	value->bytes = bytes;
	return end + bytes;
}

static __always_inline __u32 value_int(struct thread *t, struct pt_value *value, __u64 obj,
				       __u32 version, __u32 end)
{
	__u64 tag = user_u64(obj + OBJECT_SIZE), count, bytes;
	bool negative;

	if (read_int(obj, version, &value->number)) {
		value->type = PT_V_INT;
		return end;
	}
	if (version >= 0x030c0000) {
		negative = (tag & 3) == 2;
		count = tag >> 3;
	} else {
		negative = (__s64)tag < 0;
		count = negative ? -tag : tag;
	}
	bytes = (count < INT_DIGITS_SENT ? count : INT_DIGITS_SENT) * 4;
	if (!values_copy(t, obj + INT_DIGITS, bytes, PT_VALUE_MAX_BYTES, end))
		return end;
	value->type = PT_V_BIG_INT;
	value->truncated = count > INT_DIGITS_SENT;
	value->number = negative ? -(__s64)count : (__s64)count;
	value->bytes = bytes;
	return end + bytes;
}

/* A type's name behind what is there. */
static __always_inline __u32 value_name(struct thread *t, struct pt_value *value, __u64 name,
					__u32 end)
{
	__u64 at = end;
	long n;

	opaque(at);
	if (at > VALUES_BYTES - PT_VALUE_MAX_BYTES)
		return end;
	n = bpf_probe_read_user_str(&t->values.data[at], PT_VALUE_MAX_BYTES / 2, (void *)name);
	if (n <= 0 || n > PT_VALUE_MAX_BYTES / 2)
		return end;
	value->bytes += n - 1;
	return end + n - 1;
}

static __always_inline __u32 value_array(struct thread *t, struct pt_value *value, __u64 obj,
					 __u32 end)
{
	__u64 descr = user_u64(obj + 56), bytes = user_u32(obj + 24);

	value->number = bytes;
	if (bytes > PT_VALUE_DIMS_MAX)
		bytes = PT_VALUE_DIMS_MAX;
	bytes *= 8;
	if (!values_copy(t, user_u64(obj + 32), bytes, 8 * PT_VALUE_DIMS_MAX, end))
		return end;
	value->type = PT_V_ARRAY;
	value->bytes = bytes;
	return value_name(t, value, user_u64(user_u64(descr + 16) + TYPE_NAME), end + bytes);
}

/* The first 16 bytes of a static type's name, as numbers. */
struct type_name {
	__u64 a, b;
};
#define NAMED(n, x, y) ((n).a == (x) && (n).b == (y))

/* What a type that is no subclass of a basic one has to tell. */
static __always_inline __u32 value_special(struct thread *t, struct pt_value *value, __u64 obj,
					   const struct type_name *n, __u32 end)
{
	if (NAMED(*n, 0x65707954656e6f4eull, 0)) { /* "NoneType" */
		value->type = PT_V_NONE;
		return end;
	}
	if (NAMED(*n, 0x74616f6c66ull, 0)) { /* "float" */
		if (!bpf_probe_read_user(&value->number, 8, (void *)(obj + 16)))
			value->type = PT_V_FLOAT;
		return end;
	}
	if (NAMED(*n, 0x646e2e79706d756eull, 0x7961727261ull)) /* "numpy.ndarray" */
		return value_array(t, value, obj, end);
	value->type = PT_V_SIZED;
	if (NAMED(*n, 0x746573ull, 0) || /* "set", "frozenset" */
	    NAMED(*n, 0x65736e657a6f7266ull, 0x74ull))
		value->number = user_u64(obj + 24);
	else if (NAMED(*n, 0x6172726165747962ull, 0x79ull)) /* "bytearray" */
		value->number = user_u64(obj + OBJECT_SIZE);
	else
		value->type = PT_V_OBJECT;
	return end;
}

/* Reads an object into the last value; the new end. */
__noinline __u32 values_read(__u64 obj, __u32 layout_index, __u32 end)
{
	const struct pt_layout *layout = &image_at(layout_index)->layout;
	struct thread *t = thread_get();
	struct type_name name = {};
	struct pt_value *value;
	__u64 type = 0, flags = 0, tp_name;

	if (!t)
		return end;
	value = values_last(t);
	if (!value || bpf_probe_read_user(&type, 8, (void *)(obj + OBJECT_TYPE)) ||
	    bpf_probe_read_user(&flags, 8, (void *)(type + TYPE_FLAGS)))
		return end;
	tp_name = user_u64(type + TYPE_NAME);
	if (flags & TYPE_IS_STR)
		return value_text(t, value, layout, obj, end);
	if (flags & TYPE_IS_BYTES)
		return value_bytes(t, value, obj, end);
	if (!(flags & TYPE_IS_HEAP))
		bpf_probe_read_user_str(&name, sizeof(name), (void *)tp_name);
	if (flags & TYPE_IS_INT) {
		end = value_int(t, value, obj, layout->version, end);
		if (value->type == PT_V_INT && NAMED(name, 0x6c6f6f62ull, 0)) /* "bool" */
			value->type = PT_V_BOOL;
		return end;
	}
	if (flags & (TYPE_IS_LIST | TYPE_IS_TUPLE | TYPE_IS_DICT)) {
		value->type = PT_V_SIZED;
		value->number = user_u64(obj + OBJECT_SIZE);
		return value_name(t, value, tp_name, end);
	}
	end = value_special(t, value, obj, &name, end);
	if (value->type == PT_V_OBJECT)
		value->number = obj;
	if (value->type == PT_V_OBJECT || value->type == PT_V_SIZED)
		return value_name(t, value, tp_name, end);
	return end;
}

/* What was read as an object may be a tensor: that takes the place of the type's name. Not called
 * by values_read(), for the stack that it takes. */
__noinline __u32 values_tensor(__u64 obj, __u32 end)
{
	__u64 type = user_u64(obj + OBJECT_TYPE), bytes;
	struct thread *t = thread_get();
	struct tensor tensor = {};
	struct pt_value *value;
	__u32 begin;

	if (!t || !tensor_find(&tensor, obj, type))
		return end;
	value = values_last(t);
	if (!value)
		return end;
	begin = end - value->bytes;
	bytes = 8ull * tensor.dims;
	if (!values_copy(t, tensor.lengths, bytes, 8 * PT_VALUE_DIMS_MAX, begin))
		return end;
	value->type = PT_V_TENSOR;
	value->number = PT_TENSOR(tensor.dims, tensor.dtype);
	value->bytes = bytes;
	return value_name(t, value, user_u64(type + TYPE_NAME), begin + bytes);
}

/*
 * One more value; the new end. ref: as a frame has it, 0 for a variable without a value, or
 * VALUE_UNKNOWN. name: a str, or 0 for what is returned.
 */
__noinline __u32 values_add(__u64 ref, __u64 name, __u32 layout_index, __u32 end)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	struct value_text text = {};
	struct pt_value *value;

	if (!t)
		return end;
	value = values_new(t, end);
	if (!value)
		return end;
	if (name && text_find(&text, &image->layout, name, PT_VALUE_NAME_MAX) &&
	    values_copy(t, text.data, text.bytes, PT_VALUE_NAME_MAX, end)) {
		value->name_bytes = text.bytes;
		value->name_width = text.width;
		end += text.bytes;
	}
	if (name && !value->name_bytes) {
		__u64 at = end;

		opaque(at);
		if (at > VALUES_END_MAX)
			return end;
		t->values.data[at] = '?';
		value->name_bytes = 1;
		value->name_width = 1;
		end++;
	}
	if (ref == VALUE_UNKNOWN) {
		value->type = PT_V_UNKNOWN;
		return end;
	}
	/* 3.14+: two tag bits; both: an int in the reference itself (pycore_stackref.h) */
	if (image->rt.locals_mask == 3 && (ref & 3) == 3) {
		value->type = PT_V_INT;
		value->number = (__s64)ref >> 2;
		return end;
	}
	ref &= ~(__u64)image->rt.locals_mask;
	if (!ref) {
		value->type = PT_V_UNBOUND;
		return end;
	}
	end = values_read(ref, layout_index, end);
	return value->type == PT_V_OBJECT ? values_tensor(ref, end) : end;
}

/* --local: the function has no such variable. */
static __always_inline __u32 values_add_missing(struct thread *t, __u32 which, __u32 end)
{
	struct pt_value *value = values_new(t, end);
	__u64 at = end;
	__u32 i, bytes = 0;

	opaque(at);
	if (!value || at > VALUES_END_MAX)
		return end;
	for (i = 0; i < PT_LOCAL_NAME_BYTES; i++) {
		char c = local_names[which & (PT_VALUE_GLOBS_MAX - 1)].text[i];

		t->values.data[at + i] = c;
		bytes += c != 0;
	}
	value->type = PT_V_NO_VARIABLE;
	value->name_bytes = bytes;
	return end + bytes;
}

/* Sends the values and puts the word that tells of them. */
static __always_inline void values_put(struct thread *t, __u32 type, __u32 end, __u64 now)
{
	__u64 at = end, len;

	opaque(at);
	if (at > VALUES_BYTES || !t->values.rec.count)
		return;
	__builtin_memset(&t->values.data[at], 0, 8);
	len = sizeof(t->values.rec) + ((at + 7) & ~7ull);
	rec_init(&t->values.rec.hdr, PT_REC_VALUES, len, t->pid_tgid, t->image_id, now);
	opaque(len);
	if (len > sizeof(t->values) || rec_send(&t->values, len))
		return;
	put_ext(t, now, type, (__u64)t->values.rec.serial << PT_RT_SHIFT);
}

/* ---- variables ---- */

static __always_inline __u64 tuple_size(__u64 tuple)
{
	return user_u64(tuple + OBJECT_SIZE);
}

static __always_inline __u64 tuple_item(const struct pt_image *image, __u64 tuple, __u64 i)
{
	return user_u64(tuple + image->rt.tuple_items + 8 * i);
}

/* Up to 3.10 an argument that a closure uses is moved to a cell: where among the cells it is, by
 * the name, which both lists share; or its number. */
static __always_inline __u64 cell_of(const struct pt_image *image, __u64 code, __u64 name)
{
	__u64 cells = user_u64(code + image->values.code_cellvars), count = tuple_size(cells);
	__u32 i;

	for (i = 0; i < CELL_SEARCH_MAX; i++)
		if (i >= count || tuple_item(image, cells, i) == name)
			break;
	return i < count && i < CELL_SEARCH_MAX ? i : ~0ull;
}

/* The reference in slot i of the frame, which may be a cell's. */
__noinline __u64 values_slot(__u64 frame, __u64 code, __u64 i, __u32 layout_index)
{
	const struct pt_image *image = image_at(layout_index);
	__u64 slots = frame + image->rt.frame_locals, names, count, cell, type;
	__u64 ref = user_u64(slots + 8 * i);
	struct type_name name = {};
	__u8 kind = 0;

	names = user_u64(code + image->values.code_names);
	if (image->values.code_kinds != PT_NO_FIELD) {
		bpf_probe_read_user(
		    &kind, 1, (void *)(user_u64(code + image->values.code_kinds) + BYTES_DATA + i));
		if (!(kind & (KIND_CELL | KIND_FREE)))
			return ref;
		/* it is a cell as soon as the function's first instructions have run */
		cell = ref & ~(__u64)image->rt.locals_mask;
		type = cell ? user_u64(cell + OBJECT_TYPE) : 0;
		if (type)
			bpf_probe_read_user_str(&name, sizeof(name),
						(void *)user_u64(type + TYPE_NAME));
		return NAMED(name, 0x6c6c6563ull, 0) ? user_u64(cell + 16) : ref; /* "cell" */
	}
	count = tuple_size(names);
	if (i < count) {
		if (ref)
			return ref;
		i = cell_of(image, code, tuple_item(image, names, i));
		if (i == ~0ull)
			return 0;
		i += count;
	}
	cell = user_u64(slots + 8 * i);
	return cell ? user_u64(cell + 16) : 0;
}

/* The name of slot i, or 0: up to 3.10 cells come behind the others, then those of callers. */
static __always_inline __u64 slot_name(const struct pt_image *image, __u64 code, __u64 i)
{
	__u64 names = user_u64(code + image->values.code_names), count = tuple_size(names);

	if (i < count)
		return tuple_item(image, names, i);
	if (image->values.code_cellvars == PT_NO_FIELD)
		return 0;
	i -= count;
	names = user_u64(code + image->values.code_cellvars);
	count = tuple_size(names);
	if (i < count)
		return tuple_item(image, names, i);
	i -= count;
	names = user_u64(code + image->values.code_cellvars - 8); /* co_freevars */
	return i < tuple_size(names) ? tuple_item(image, names, i) : 0;
}

/* Whether it is the name that --local number `which` asks for. */
static __always_inline bool name_is(const struct pt_layout *layout, __u64 str, __u32 which)
{
	const volatile union pt_local_name *name = &local_names[which & (PT_VALUE_GLOBS_MAX - 1)];
	union pt_local_name found = {};

	if ((user_u32(str + layout->str_state) & 0x60) != 0x60 || /* compact, ascii */
	    bpf_probe_read_user_str(found.text, sizeof(found.text),
				    (void *)(str + layout->str_ascii_data)) < 0)
		return false;
	return found.words[0] == name->words[0] && found.words[1] == name->words[1] &&
	       found.words[2] == name->words[2] && found.words[3] == name->words[3];
}

/* Looks the variable up: its slot + 1, or PT_LOCAL_NONE. */
__noinline __u32 values_find(__u64 code, __u32 which, __u32 layout_index)
{
	const struct pt_image *image = image_at(layout_index);
	__u32 i;

	for (i = 0; i < LOCAL_SLOTS_MAX; i++) {
		__u64 name = slot_name(image, code, i);

		if (!name)
			break;
		if (name_is(&image->layout, name, which))
			return i + 1;
	}
	return PT_LOCAL_NONE;
}

/* ---- a call begins ---- */

static __always_inline bool is_resume(const struct pt_value_layout *values, __u8 opcode)
{
	return opcode && (opcode == values->op_resume[0] || opcode == values->op_resume[1] ||
			  opcode == values->op_resume[2] || opcode == values->op_resume[3]);
}

/* A generator or coroutine that runs for the first time. */
static __always_inline bool generator_starts(const struct pt_image *image, __u64 frame)
{
	const struct pt_value_layout *values = &image->values;
	__u64 instr = user_u64(frame + image->layout.frame_instr);
	__u16 units[2] = {}; /* the one before it, and the one there */
	__u8 opcode, before;

	if (image->layout.code_adaptive == PT_NO_FIELD) /* f_lasti */
		return (__s32)instr < 0;
	bpf_probe_read_user(units, sizeof(units), (void *)(instr - 2));
	before = units[0];
	opcode = units[1];
	/* 3.11, 3.12: prev_instr; later instr_ptr is the next one, or RESUME, where that is probed:
	 * its argument's low bits are 0 at a function's start (RESUME_AT_FUNC_START) */
	if (image->layout.version < 0x030d0000)
		return opcode == values->op_generator;
	if (before == values->op_generator)
		return true;
	return is_resume(values, opcode) && !(units[1] >> 8 & 3);
}

static __always_inline void values_arguments(struct thread *t, __u64 frame, __u64 code,
					     __u32 layout_index, __u32 co_flags, __u64 now)
{
	const struct pt_image *image = image_at(layout_index);
	__u64 names = user_u64(code + image->values.code_names);
	__u32 count, i, end = 0;

	count = user_u32(code + image->values.code_argcount) +
		user_u32(code + image->values.code_kwonly) + !!(co_flags & CO_HAS_VARARGS) +
		!!(co_flags & CO_HAS_VARKWARGS);
	values_begin(t);
	for (i = 0; i < PT_VALUES_MAX; i++) {
		if (i >= count)
			break;
		end = values_add(values_slot(frame, code, i, layout_index),
				 tuple_item(image, names, i), layout_index, end);
	}
	if (count > PT_VALUES_MAX && count < 0xffff)
		t->values.rec.more += count - PT_VALUES_MAX;
	values_put(t, PT_X_ARGS, end, now);
}

/* Nothing is known any more of the calls deeper than this. */
__noinline int values_settle(__u32 depth)
{
	struct thread *t = thread_get();
	struct value_call_key key = {};
	struct value_call *call;
	int i;

	if (!values_at_exit() || !t)
		return 0;
	key.pid_tgid = t->pid_tgid;
	for (i = 0; i < 64 && t->value_depth > depth; i++) {
		key.depth = t->value_depth;
		call = bpf_map_lookup_elem(&value_calls, &key);
		t->value_depth = call && call->below < key.depth ? call->below : 0;
		bpf_map_delete_elem(&value_calls, &key);
	}
	if (t->value_depth > depth)
		t->value_depth = 0;
	return 0;
}

/* A call of a chosen function begins, at t->depth; its enter follows. */
__noinline int values_enter(__u64 frame, __u64 code, __u32 id, __u32 layout_index, __u64 now)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	struct value_call_key key = {};
	struct value_call call = {};
	struct pt_value_code *wanted;
	__u32 co_flags;

	if (!use_values || !t || image->values.code_names == PT_NO_FIELD)
		return 0;
	wanted = bpf_map_lookup_elem(&value_codes, &id);
	if (!wanted)
		return 0;
	if (values_at_exit() && wanted->mask & (values_result | values_local)) {
		if (t->value_depth >= t->depth)
			values_settle(t->depth - 1);
		key.pid_tgid = t->pid_tgid;
		key.depth = t->depth;
		call.frame = frame;
		call.code = code;
		call.code_id = id;
		call.below = t->value_depth;
		if (!bpf_map_update_elem(&value_calls, &key, &call, BPF_ANY))
			t->value_depth = t->depth;
	}
	if (!(wanted->mask & values_args))
		return 0;
	co_flags = user_u32(code + image->layout.code_flags);
	if (!(co_flags & PT_CO_GEN_MASK) || generator_starts(image, frame))
		values_arguments(t, frame, code, layout_index, co_flags, now);
	return 0;
}

/* What was taken for a call was the shim below it: see same_frame(). */
__noinline int values_move(__u32 depth)
{
	struct thread *t = thread_get();
	struct value_call_key key = {};
	struct value_call *call, copy;

	if (!values_at_exit() || !t || t->value_depth != depth - 1)
		return 0;
	key.pid_tgid = t->pid_tgid;
	key.depth = depth - 1;
	call = bpf_map_lookup_elem(&value_calls, &key);
	if (!call)
		return 0;
	copy = *call;
	bpf_map_delete_elem(&value_calls, &key);
	key.depth = depth;
	t->value_depth = copy.below;
	if (!bpf_map_update_elem(&value_calls, &key, &copy, BPF_ANY))
		t->value_depth = depth;
	return 0;
}

/* ---- a call ends ---- */

static __always_inline bool opcode_in(const __u8 *pair, __u8 opcode)
{
	return opcode && (opcode == pair[0] || opcode == pair[1]);
}

/* The slot above the saved top of the value stack: where the value lay that is yielded. */
static __always_inline __u64 stacktop_slot(const struct pt_image *image, __u64 frame, __u64 bottom)
{
	__u64 at = frame + image->values.frame_stacktop;

	switch (image->values.stacktop) {
	case PT_STACKTOP_POINTER:
		return user_u64(at);
	case PT_STACKTOP_DEPTH:
		return bottom + 8ull * user_u32(at);
	case PT_STACKTOP_INDEX:
		return frame + image->rt.frame_locals + 8ull * user_u32(at);
	default:
		return 0;
	}
}

/* What the frame returns or yields, VALUE_UNKNOWN, or 0: nothing. */
__noinline __u64 values_returned(__u64 frame, __u64 code, __u32 layout_index)
{
	const struct pt_image *image = image_at(layout_index);
	const struct pt_value_layout *values = &image->values;
	struct thread *t = thread_get();
	__u64 instr, bottom, slot = 0;
	__u16 unit = 0;
	__u8 opcode;

	if (!t || image->rt.ts_exception == PT_NO_FIELD)
		return VALUE_UNKNOWN;
	if (user_u64(t->tstate + image->rt.ts_exception))
		return 0; /* an exception */
	instr = user_u64(frame + image->layout.frame_instr);
	if (image->layout.code_adaptive == PT_NO_FIELD) {
		instr = (__s64)(__s32)instr * (image->layout.version < 0x030a0000 ? 1 : 2);
		instr += user_u64(code + values->code_code) + BYTES_DATA;
		bottom = user_u64(frame + values->frame_stack);
	} else {
		bottom = frame + image->rt.frame_locals +
			 8 * tuple_size(user_u64(code + values->code_names));
	}
	bpf_probe_read_user(&unit, sizeof(unit), (void *)instr);
	opcode = unit;
	if (opcode_in(values->op_return_const, opcode)) {
		__u64 consts = user_u64(code + values->code_consts);

		/* more of them, and the number may have an EXTENDED_ARG in front of it */
		return tuple_size(consts) <= 256 ? tuple_item(image, consts, unit >> 8)
						 : VALUE_UNKNOWN;
	}
	if (opcode_in(values->op_return, opcode))
		slot = bottom; /* nothing else is left on the value stack */
	else if (opcode_in(values->op_yield, opcode) ||
		 /* 3.13+: instr_ptr is on the RESUME behind it */
		 (is_resume(values, opcode) &&
		  opcode_in(values->op_yield, (__u8)user_u32(instr - 2))))
		slot = stacktop_slot(image, frame, bottom);
	if (!slot || bpf_probe_read_user(&slot, 8, (void *)slot) || !slot)
		return VALUE_UNKNOWN;
	return slot;
}

static __always_inline __u32 values_locals(struct thread *t, const struct value_call *call,
					   struct pt_value_code *wanted, __u32 layout_index)
{
	const struct pt_image *image = image_at(layout_index);
	__u32 i, at, end = 0;

	for (i = 0; i < PT_VALUE_GLOBS_MAX; i++) {
		if (!(values_local >> i & 1) || !(wanted->mask >> i & 1))
			continue;
		if (!wanted->local[i])
			wanted->local[i] = values_find(call->code, i, layout_index);
		at = wanted->local[i];
		if (at == PT_LOCAL_NONE)
			end = values_add_missing(t, i, end);
		else
			end = values_add(values_slot(call->frame, call->code, at - 1, layout_index),
					 slot_name(image, call->code, at - 1), layout_index, end);
	}
	return end;
}

/* The innermost call ends, and it is one of value_calls. */
__noinline int values_exit(__u32 layout_index, __u64 now)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	struct value_call_key key = {};
	struct pt_value_code *wanted;
	struct value_call *call;
	__u64 code, result;
	__u32 end;

	if (!values_at_exit() || !t || trigger_silent(t))
		return 0;
	key.pid_tgid = t->pid_tgid;
	key.depth = t->depth;
	call = bpf_map_lookup_elem(&value_calls, &key);
	if (!call)
		return 0;
	/* another stack at the same place, if it is not the same any more */
	code = user_u64(call->frame + image->layout.frame_code) &
	       ~(__u64)image->layout.frame_code_mask;
	wanted = bpf_map_lookup_elem(&value_codes, &call->code_id);
	if (!wanted || code != call->code)
		return 0;
	values_begin(t);
	end = values_locals(t, call, wanted, layout_index);
	if (wanted->mask & values_result) {
		result = values_returned(call->frame, code, layout_index);
		if (result)
			end = values_add(result, 0, layout_index, end);
	}
	values_put(t, PT_X_RESULT, end, now);
	return 0;
}

#endif /* PT_BPF_VALUES_H */

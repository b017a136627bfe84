/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * code.h - code objects get an id when first seen, and their names are sent then.
 *
 * The definition is submitted before the id becomes visible in the map, and batches leave later
 * than that, so a reader always has the definition before an event that uses it. Two threads that
 * meet a new code object at once both define it, under two ids; both are right. A definition that
 * does not fit into the ring buffer stays pending and is tried again at the next use.
 */
#ifndef PT_BPF_CODE_H
#define PT_BPF_CODE_H

#include "lines.h"
#include "trigger.h"

static __always_inline struct code_value *code_find(__u32 image_id, __u64 addr)
{
	struct code_key key = {.image_id = image_id, .addr = addr};

	return bpf_map_lookup_elem(&codes, &key);
}

static __always_inline __u32 code_id_new(struct thread *t)
{
	__u32 first;

	if (t->code_ids_left == 0) {
		if (bpf_map_pop_elem(&code_ids, &first))
			return 0;
		t->next_code_id = first;
		t->code_ids_left = PT_ID_BLOCK;
	}
	t->code_ids_left--;
	return t->next_code_id++;
}

/* Reads one PyUnicodeObject behind the strings so far; returns the new end. */
static __always_inline __u32 string_read(struct code_scratch *code, const struct pt_layout *layout,
					 __u32 which, __u64 str, __u32 end)
{
	struct pt_str *desc = &code->rec.str[which];
	__u32 state = 0, kind;
	/* bytes is wide because the helper's size is not: the verifiers of 5.10 and 6.1 want to
	 * know its upper half too */
	__u64 length = 0, data, bytes;

	desc->bytes = 0;
	desc->width = 1;
	desc->truncated = 2;
	if (!str || bpf_probe_read_user(&length, 8, (void *)(str + layout->str_length)) ||
	    bpf_probe_read_user(&state, 4, (void *)(str + layout->str_state)))
		return end;
	/* Include/cpython/unicodeobject.h, 3.8 to 3.15: kind in bits 2-4, compact 0x20, ascii 0x40
	 */
	kind = state >> 2 & 7;
	if (!(state & 0x20) || (kind != 1 && kind != 2 && kind != 4))
		return end;
	data = str + (state & 0x40 ? layout->str_ascii_data : layout->str_data);
	bytes = PT_STR_MAX_BYTES;
	if (length <= PT_STR_MAX_BYTES / 4 || length * kind <= PT_STR_MAX_BYTES)
		bytes = length * kind;
	opaque(bytes);
	if (bytes > PT_STR_MAX_BYTES || length > 0xffffffff)
		return end;
	opaque(end);
	if (end > STRINGS_BYTES - PT_STR_MAX_BYTES)
		return end;
	if (bytes > 0 && bpf_probe_read_user(&code->data[end], bytes, (void *)data))
		return end;
	desc->bytes = bytes;
	desc->width = kind;
	desc->truncated = length * kind > bytes;
	return end + bytes;
}

/* Fills *to; returns the record's length. */
static __always_inline __u32 code_read(struct code_scratch *to, const struct pt_layout *layout,
				       __u64 addr, __u32 id)
{
	struct pt_rec_code *rec = &to->rec;
	__u32 end = 0;

	rec->addr = addr;
	rec->id = id;
	rec->reserved = 0;
	rec->co_flags = user_u32(addr + layout->code_flags);
	rec->firstlineno = user_u32(addr + layout->code_firstlineno);
	end = string_read(to, layout, PT_STR_NAME, user_u64(addr + layout->code_name), end);
	if (layout->code_qualname != PT_NO_FIELD) {
		end = string_read(to, layout, PT_STR_QUALNAME,
				  user_u64(addr + layout->code_qualname), end);
	} else {
		rec->str[PT_STR_QUALNAME].bytes = 0;
		rec->str[PT_STR_QUALNAME].width = 1;
		rec->str[PT_STR_QUALNAME].truncated = 0;
	}
	end = string_read(to, layout, PT_STR_FILE, user_u64(addr + layout->code_filename), end);
	opaque(end);
	if (end > STRINGS_BYTES)
		end = STRINGS_BYTES;
	__builtin_memset(&to->data[end], 0, 8);
	return sizeof(*rec) + ((end + 7) & ~7u);
}

static __always_inline bool text_is(const __u8 *data, const char *text, __u32 bytes)
{
	bool same = true;
	__u32 i;

#pragma unroll
	for (i = 0; i < bytes; i++)
		same &= data[i] == (__u8)text[i];
	return same;
}

/* t->code is importlib's _find_and_load(): Lib/importlib/_bootstrap.py, 3.8 to 3.15. */
static __always_inline bool code_is_import(struct thread *t)
{
	const struct pt_str *str = t->code.rec.str;

	if (str[PT_STR_NAME].bytes != 14 || str[PT_STR_FILE].bytes != 29 ||
	    !text_is(t->code.data, "_find_and_load", 14))
		return false;
	if (str[PT_STR_QUALNAME].bytes == 0)
		return text_is(t->code.data + 14, "<frozen importlib._bootstrap>", 29);
	return str[PT_STR_QUALNAME].bytes == 14 &&
	       text_is(t->code.data + 28, "<frozen importlib._bootstrap>", 29);
}

/* As text_is(), of at least 8 bytes, in one branch: byte by byte, 5.10 does not come to the end of
 * so many. */
static __always_inline bool words_are(const __u8 *data, const char *text, __u32 bytes)
{
	__u64 difference = 0, a, b;
	__u32 i, at;

#pragma unroll
	for (i = 0; i < bytes; i += 8) {
		at = i + 8 <= bytes ? i : bytes - 8;
		__builtin_memcpy(&a, data + at, 8);
		__builtin_memcpy(&b, text + at, 8);
		difference |= a ^ b;
	}
	return !difference;
}

static __always_inline bool file_ends_with(struct thread *t, const char *text, __u32 bytes)
{
	const struct pt_str *str = t->code.rec.str;
	__u32 at = str[PT_STR_NAME].bytes + str[PT_STR_QUALNAME].bytes + str[PT_STR_FILE].bytes -
		   bytes;

	if (str[PT_STR_FILE].bytes < bytes || str[PT_STR_FILE].width != 1)
		return false;
	opaque(at);
	if (at > STRINGS_BYTES - 32)
		return false;
	return words_are(&t->code.data[at], text, bytes);
}

/* t->code is a function of asyncio's that makes a task of a coroutine: create_task() of a loop, of
 * a task group and the module's own, ensure_future() (Lib/asyncio, 3.8 to 3.15). Verified once,
 * apart from code_define(), which calls it. */
__noinline int code_makes_task(void)
{
	struct thread *t = thread_get();
	const struct pt_str *name;
	const __u8 *text;

	if (!t)
		return 0;
	name = &t->code.rec.str[PT_STR_NAME];
	text = t->code.data;
	if (!(name->bytes == 11 && words_are(text, "create_task", 11)) &&
	    !(name->bytes == 13 && words_are(text, "ensure_future", 13)) &&
	    !(name->bytes == 14 && words_are(text, "_ensure_future", 14)))
		return 0;
	return file_ends_with(t, "/asyncio/tasks.py", 17) ||
	       file_ends_with(t, "/asyncio/base_events.py", 23) ||
	       file_ends_with(t, "/asyncio/taskgroups.py", 22);
}

/* t->code is asyncio's Handle._run(), which calls back what a loop was asked to. */
__noinline int code_runs_handle(void)
{
	struct thread *t = thread_get();

	return t && t->code.rec.str[PT_STR_NAME].bytes == 4 && text_is(t->code.data, "_run", 4) &&
	       file_ends_with(t, "/asyncio/events.py", 18);
}

/*
 * The id in the low and co_flags in the high half; 0 if there is no id to be had. Costs one to two
 * microseconds where the code object is new. A global function: verified once, apart from callers.
 */
__noinline __u64 code_define(__u64 addr, __u32 layout_index, __u64 now)
{
	const struct pt_image *image = image_at(layout_index);
	struct thread *t = thread_get();
	struct code_key key = {.addr = addr};
	struct code_value value, *known;
	__u32 len;
	long rc;

	if (!t || !addr)
		return 0;
	key.image_id = t->image_id;
	known = bpf_map_lookup_elem(&codes, &key);
	if (known && !(known->flags & CODE_PENDING))
		return known->id | (__u64)known->flags << 32;
	value.id = known ? known->id : code_id_new(t);
	if (!value.id) {
		count_add(&counters.lost_records, 1);
		return 0;
	}
	len = code_read(&t->code, &image->layout, addr, value.id);
	opaque(len);
	if (len > sizeof(t->code))
		return 0;
	rec_init(&t->code.rec.hdr, PT_REC_CODE, len, t->pid_tgid, t->image_id, now);
	rc = bpf_ringbuf_output(&ring, &t->code, len, wake_flag());
	value.flags = (t->code.rec.co_flags & ~CODE_OWN_FLAGS) | trigger_flags(t) |
		      values_flags(t, value.id);
	if (want_imports && code_is_import(t))
		value.flags |= CODE_IMPORT;
	if (want_async && code_makes_task())
		value.flags |= CODE_TASK;
	if (want_async && code_runs_handle())
		value.flags |= CODE_HANDLE;
	if (rc && !known)
		count_add(&counters.lost_records, 1); /* until it is sent after all */
	if (!rc && known)
		count_add(&counters.lost_records, (__u64)-1);
	if (rc)
		value.flags |= CODE_PENDING;
	bpf_map_update_elem(&codes, &key, &value, BPF_ANY);
	if (send_tables && !rc)
		lines_send(addr, value.id, layout_index, now);
	return value.id | (__u64)(value.flags & ~CODE_PENDING) << 32;
}

static __always_inline void code_forget(__u32 image_id, __u64 addr)
{
	struct code_key key = {.image_id = image_id, .addr = addr};

	bpf_map_delete_elem(&codes, &key);
	/* also where the map had evicted it: some thread may have it near */
	count_add(&codes_forgotten, 1);
}

/* What t->near holds for, or nothing any more. */
static __always_inline __u64 near_codes(const struct thread *t)
{
	return (__u64)t->image_id << 32 ^ *(volatile __u64 *)&codes_forgotten;
}

static __always_inline struct near_code *near_slot(struct thread *t, __u64 addr)
{
	/* code objects are 16-aligned and a few hundred bytes long */
	__u32 slot = (addr >> 4 ^ addr >> 9) & (NEAR_CODES - 1);

	return &t->near[slot];
}

/* As code_define(), for a code object that is probably known. */
__noinline __u64 code_lookup(__u64 addr, __u32 layout_index, __u64 now)
{
	struct thread *t = thread_get();
	struct code_value *known;
	struct near_code *near;
	__u64 valid;

	if (!t)
		return 0;
	valid = near_codes(t); /* before the lookup: what is freed meanwhile counts */
	known = code_find(t->image_id, addr);
	if (!known || known->flags & CODE_PENDING)
		return code_define(addr, layout_index, now);
	if (t->near_valid != valid) {
		__builtin_memset(t->near, 0, sizeof(t->near));
		t->near_valid = valid;
	}
	near = near_slot(t, addr);
	near->addr = addr;
	near->id = known->id;
	near->flags = known->flags;
	return known->id | (__u64)known->flags << 32;
}

#endif /* PT_BPF_CODE_H */

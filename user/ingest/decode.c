// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "ingest/decode.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

static int check_code(const struct pt_rec_code *code, size_t len)
{
	size_t room = len - sizeof(*code), used = 0;

	if (!code->id)
		return -EBADMSG;
	for (int i = 0; i < PT_STR_COUNT; i++) {
		const struct pt_str *str = &code->str[i];

		if (str->bytes > PT_STR_MAX_BYTES || str->truncated > 2)
			return -EBADMSG;
		if (str->bytes && ((str->width != 1 && str->width != 2 && str->width != 4) ||
				   str->bytes % str->width))
			return -EBADMSG;
		used += str->bytes;
	}
	return used <= room ? 0 : -EBADMSG;
}

static int check_proc(const struct pt_rec_proc *proc, size_t len)
{
	if (proc->what < PT_PROC_ATTACH || proc->what > PT_PROC_LATE)
		return -EBADMSG;
	return proc->text_bytes <= len - sizeof(*proc) ? 0 : -EBADMSG;
}

static int check_stack(const struct pt_rec_stack *stack, size_t len)
{
	size_t room = (len - sizeof(*stack)) / sizeof(stack->frames[0]);

	return stack->frame_count <= room ? 0 : -EBADMSG;
}

static int check_runtime(const struct pt_rec_runtime *runtime, size_t len)
{
	size_t room = len - sizeof(*runtime), used = 0;

	if (runtime->item_count > PT_RT_ITEMS_MAX)
		return -EBADMSG;
	for (unsigned int i = 0; i < runtime->item_count; i++) {
		const struct pt_rt_item *item = &runtime->items[i];
		bool text = item->type == PT_RT_TEXT;

		if (item->type > PT_RT_OBJECT || item->bytes > PT_RT_ITEM_MAX_BYTES ||
		    item->truncated > 2)
			return -EBADMSG;
		if (text && ((item->width != 1 && item->width != 2 && item->width != 4) ||
			     item->bytes % item->width))
			return -EBADMSG;
		used += item->bytes;
	}
	return used <= room ? 0 : -EBADMSG;
}

static bool is_width(unsigned int width)
{
	return width == 1 || width == 2 || width == 4;
}

/* Whether the bytes are those of a value of its type. */
static bool value_fits(const struct pt_value *value)
{
	uint64_t dims = (uint64_t)value->number;

	switch ((enum pt_value_type)value->type) {
	case PT_V_TEXT:
		return is_width(value->width) && value->bytes % value->width == 0;
	case PT_V_BIG_INT:
		return value->bytes % 4 == 0;
	case PT_V_ARRAY:
		if (dims > PT_VALUE_DIMS_MAX)
			dims = PT_VALUE_DIMS_MAX;
		return value->bytes >= 8 * dims;
	case PT_V_TENSOR:
		return PT_TENSOR_DIMS(dims) <= PT_VALUE_DIMS_MAX &&
		       value->bytes >= 8 * PT_TENSOR_DIMS(dims);
	case PT_V_BYTES:
	case PT_V_SIZED:
	case PT_V_OBJECT:
		return true;
	case PT_V_UNREADABLE:
	case PT_V_NONE:
	case PT_V_BOOL:
	case PT_V_INT:
	case PT_V_FLOAT:
	case PT_V_UNBOUND:
	case PT_V_UNKNOWN:
	case PT_V_NO_VARIABLE:
		return value->bytes == 0;
	}
	return false;
}

static int check_values(const struct pt_rec_values *record, size_t len)
{
	size_t room = len - sizeof(*record), used = 0;

	if (!record->serial || record->count > PT_VALUES_MAX)
		return -EBADMSG;
	for (unsigned int i = 0; i < record->count; i++) {
		const struct pt_value *value = &record->values[i];

		if (value->type > PT_V_TENSOR || value->bytes > PT_VALUE_MAX_BYTES ||
		    value->name_bytes > PT_VALUE_NAME_MAX || !is_width(value->name_width) ||
		    value->name_bytes % value->name_width || !value_fits(value))
			return -EBADMSG;
		used += value->name_bytes + value->bytes;
	}
	return used <= room ? 0 : -EBADMSG;
}

/* A description, and as many values as it counts. */
static bool rt_words_fit(const __u64 *payload, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (PT_WORD_KIND(payload[i]) != 0)
			return false;
	return count <= 1 + PT_RT_VALUES_MAX && PT_RT_DESC_VALUES(payload[0]) == count - 1;
}

static int check_lines(const struct pt_rec_lines *lines, size_t len)
{
	if (!lines->code_id || lines->total_bytes > PT_LINES_MAX_BYTES ||
	    lines->offset > lines->total_bytes || lines->bytes > lines->total_bytes - lines->offset)
		return -EBADMSG;
	return lines->bytes <= len - sizeof(*lines) ? 0 : -EBADMSG;
}

static int check_control(const struct pt_rec_control *control)
{
	const uint32_t known = PT_WHY_OVERHEAD | PT_WHY_NO_C | PT_WHY_ABSENT | PT_WHY_CPU;
	bool pause = control->what == PT_CONTROL_PAUSE || control->what == PT_CONTROL_RESUME;
	uint32_t may = pause                                 ? known
		       : control->what == PT_CONTROL_SAMPLES ? known | PT_WHY_SAMPLES
							     : 0;

	if (control->what - 1 >= PT_CONTROL_SAMPLES || control->why & ~may)
		return -EBADMSG;
	return 0;
}

#define TID_MAX (4u << 20) /* PID_MAX_LIMIT, include/linux/threads.h */

static int check_sched(const struct pt_rec_sched *sched)
{
	const __u64 times[] = {sched->run_ns, sched->out_ns, sched->wake_ns, sched->in_ns};
	__u64 before = 1;

	if (!sched->hdr.image_id || sched->hdr.tid > TID_MAX)
		return -EBADMSG;
	/* those that did not come are 0 */
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		if (times[i] && (times[i] < before || times[i] > PT_TIME_MAX_NS))
			return -EBADMSG;
		if (times[i])
			before = times[i];
	}
	return sched->run_ns && sched->hdr.time_ns >= before ? 0 : -EBADMSG;
}

static int check_cfunc(const struct pt_rec_cfunc *cfunc)
{
	if (!cfunc->id ||
	    (PT_C_KIND(cfunc->kind) != PT_C_FUNCTION && PT_C_KIND(cfunc->kind) != PT_C_METHOD) ||
	    !memchr(cfunc->name, 0, sizeof(cfunc->name)) ||
	    !memchr(cfunc->owner, 0, sizeof(cfunc->owner)))
		return -EBADMSG;
	return 0;
}

static int check_cuda_fn(const struct pt_rec_cuda_fn *fn)
{
	bool known = (fn->api >= PT_CUDA_RUNTIME && fn->api <= PT_CUDA_CUDNN) ||
		     fn->api == PT_CUDA_TORCH;

	if (fn->id > PT_CUDA_FN_MAX || !known ||
	    (fn->id >= PT_TORCH_ID_FIRST) != (fn->api == PT_CUDA_TORCH) ||
	    fn->in_words > PT_CUDA_IN_MAX || fn->out_words > PT_CUDA_OUT_MAX || !fn->symbol[0] ||
	    !memchr(fn->symbol, 0, sizeof(fn->symbol)))
		return -EBADMSG;
	return 0;
}

static int check_cuda_lib(const struct pt_rec_cuda_lib *lib, size_t len)
{
	return lib->text_bytes <= len - sizeof(*lib) ? 0 : -EBADMSG;
}

static int check_cuda_kernel(const struct pt_rec_cuda_kernel *kernel, size_t len)
{
	size_t room = len - sizeof(*kernel);

	if (!kernel->names != !kernel->name_bytes || kernel->name_bytes > PT_CUDA_KERNEL_NAME_MAX ||
	    kernel->name_bytes > room || kernel->path_bytes > room - kernel->name_bytes)
		return -EBADMSG;
	return memchr(kernel->data, 0, kernel->name_bytes + kernel->path_bytes) ? -EBADMSG : 0;
}

static int check_call_stack(const struct pt_rec_call_stack *record, size_t len)
{
	size_t room = len - sizeof(*record), used = 0;

	if (record->hdr.flags || !record->serial || !record->id ||
	    record->frame_count > PT_CALL_FRAMES_MAX ||
	    record->frame_count > room / sizeof(record->frames[0]))
		return -EBADMSG;
	room -= record->frame_count * sizeof(record->frames[0]);
	for (uint32_t i = 0; i < record->frame_count; i++) {
		const struct pt_call_frame *frame = &record->frames[i];

		if (frame->kind - 1 >= PT_CF_PYTHON_MORE ||
		    frame->name_bytes > PT_CALL_NAME_MAX_BYTES ||
		    frame->path_bytes > PT_CALL_NAME_MAX_BYTES)
			return -EBADMSG;
		used += frame->name_bytes + frame->path_bytes;
	}
	if (used != record->text_bytes || used > room)
		return -EBADMSG;
	return memchr(&record->frames[record->frame_count], 0, used) ? -EBADMSG : 0;
}

/* What samples and what blocked threads have in common; room: for so many frames. */
static int check_sampled(const struct pt_rec *hdr, uint64_t period_ns,
			 const struct pt_sample_frame *frames, uint32_t count, size_t room)
{
	if (!hdr->image_id || hdr->tid > TID_MAX || !period_ns ||
	    period_ns > PT_SAMPLE_PERIOD_MAX || hdr->time_ns < period_ns ||
	    count > PT_SAMPLE_FRAMES_MAX || count > room)
		return -EBADMSG;
	if (hdr->flags & (PT_SAMPLE_TORN | PT_SAMPLE_UNKNOWN | PT_SAMPLE_SKIPPED) && count)
		return -EBADMSG;
	for (uint32_t i = 0; i < count; i++)
		if (!frames[i].code_id)
			return -EBADMSG;
	return 0;
}

static int check_sample(const struct pt_rec_sample *sample, size_t len)
{
	size_t room = (len - sizeof(*sample)) / sizeof(sample->frames[0]);

	if (sample->hdr.flags & ~(PT_SAMPLE_FLAGS | PT_SAMPLE_BESIDE | PT_SAMPLE_ASIDE))
		return -EBADMSG;
	return check_sampled(&sample->hdr, sample->period_ns, sample->frames, sample->frame_count,
			     room);
}

static int check_blocked(const struct pt_rec_blocked *blocked, size_t len)
{
	size_t room = (len - sizeof(*blocked)) / sizeof(blocked->frames[0]);

	if (blocked->hdr.flags & ~(PT_SAMPLE_FLAGS | PT_SAMPLE_SKIPPED | PT_SAMPLE_ASIDE) ||
	    !blocked->state || blocked->state > 0xff || blocked->syscall < PT_SCHED_CALL_UNKNOWN ||
	    blocked->why & ~PT_SCHED_IO || !blocked->out_ns ||
	    blocked->out_ns > blocked->hdr.time_ns)
		return -EBADMSG;
	return check_sampled(&blocked->hdr, blocked->period_ns, blocked->frames,
			     blocked->frame_count, room);
}

static int check_mark(const struct pt_rec_mark *mark)
{
	if (!mark->id || mark->kind - 1 >= PT_MARK_END || mark->arg_count > PT_MARK_ARGS_MAX ||
	    !memchr(mark->name, 0, sizeof(mark->name)))
		return -EBADMSG;
	for (unsigned int i = 0; i < mark->arg_count; i++)
		if (mark->args[i].type - 1 >= PT_MARK_NAME ||
		    !memchr(mark->args[i].name, 0, sizeof(mark->args[i].name)))
			return -EBADMSG;
	return 0;
}

static bool block_is_known(uint64_t word)
{
	uint64_t desc = word >> PT_RT_SHIFT;

	return PT_WORD_KIND(word) == 0 && PT_BLOCK_DESC_WHAT(desc) <= PT_BLOCK_DEVICE &&
	       desc <= UINT16_MAX;
}

/* The number of words that the item at words[pos] takes, or 0 if it is damaged. */
static uint32_t item_words(const struct pt_rec_batch *batch, uint32_t pos)
{
	uint32_t arg = PT_WORD_ARG(batch->words[pos]), payload = PT_EXT_WORDS(arg);

	if (payload == 0 || payload >= batch->word_count - pos)
		return 0;
	switch (PT_EXT_TYPE(arg)) {
	case PT_X_DEPTH:
	case PT_X_SNAP:
	case PT_X_ENTER:
	case PT_X_C_ENTER:
		return payload == 1 ? 2 : 0;
	case PT_X_ARGS:
	case PT_X_RESULT:
	case PT_X_STACK:
		return payload == 1 && PT_WORD_KIND(batch->words[pos + 1]) == 0 ? 2 : 0;
	case PT_X_CORO:
	case PT_X_TASK:
	case PT_X_SWITCH:
		return payload == 1 && batch->words[pos + 1] & ~PT_CORO_BITS ? 2 : 0;
	case PT_X_PAUSED:
		if (payload != 3 || batch->words[pos + 2] > PT_TIME_MAX_NS ||
		    batch->words[pos + 3] > PT_TIME_MAX_NS)
			return 0;
		return 4;
	case PT_X_OPEN:
		return payload + 1;
	case PT_X_RT_BEGIN:
	case PT_X_RT_END:
	case PT_X_RT_INSTANT:
		return rt_words_fit(&batch->words[pos + 1], payload) ? payload + 1 : 0;
	case PT_X_CUDA_BEGIN:
	case PT_X_CUDA_END:
		if (payload > 1 + PT_CUDA_IN_MAX || PT_WORD_KIND(batch->words[pos + payload]) != 0)
			return 0;
		return payload + 1;
	case PT_X_BLOCK:
		return payload == 3 && block_is_known(batch->words[pos + 3]) ? 4 : 0;
	default:
		return 0;
	}
}

static int check_batch(const struct pt_rec_batch *batch, size_t len)
{
	uint32_t events = 0, words;

	if (!batch->hdr.image_id || batch->base_ns > PT_TIME_MAX_NS)
		return -EBADMSG;
	if (batch->word_count > PT_BATCH_WORDS ||
	    sizeof(*batch) + 8 * (size_t)batch->word_count > len)
		return -EBADMSG;
	for (uint32_t pos = 0; pos < batch->word_count; pos += words) {
		uint64_t word = batch->words[pos];

		words = 1;
		switch (PT_WORD_KIND(word)) {
		case PT_W_ENTER:
		case PT_W_C_ENTER:
			if (!PT_WORD_ARG(word))
				return -EBADMSG;
			events++;
			break;
		case PT_W_EXIT:
		case PT_W_C_EXIT:
			events++;
			break;
		case PT_W_LINE:
			if (!PT_WORD_DT(word) || PT_WORD_DT(word) > UINT32_MAX)
				return -EBADMSG;
			break;
		case PT_W_EXT:
			words = item_words(batch, pos);
			if (!words)
				return -EBADMSG;
			events += PT_EXT_TYPE(PT_WORD_ARG(word)) == PT_X_ENTER ||
				  PT_EXT_TYPE(PT_WORD_ARG(word)) == PT_X_C_ENTER;
			break;
		default:
			return -EBADMSG;
		}
	}
	/* A peeked header may be a moment older than the words that were copied with it. */
	if (!(batch->hdr.flags & PT_RF_PEEK) && events != batch->events)
		return -EBADMSG;
	return 0;
}

static int check_rank(const struct pt_rec_rank *record)
{
	return record->rank < record->world_size && record->world_size <= INT32_MAX ? 0 : -EBADMSG;
}

int pt_record_check(const struct pt_rec *record, size_t len)
{
	static const size_t fixed_bytes[] = {
#define X(name, number, type, text) [number] = sizeof(struct type),
	    PT_RECORDS(X)
#undef X
	};

	if (len < sizeof(*record) || len != record->len || len % 8 || len > PT_RECORD_MAX_BYTES)
		return -EBADMSG;
	if (record->kind == 0 || record->kind >= sizeof(fixed_bytes) / sizeof(fixed_bytes[0]) ||
	    !fixed_bytes[record->kind] || len < fixed_bytes[record->kind] ||
	    record->time_ns > PT_TIME_MAX_NS)
		return -EBADMSG;
	switch ((enum pt_rec_kind)record->kind) {
	case PT_REC_BATCH:
		return check_batch((const struct pt_rec_batch *)record, len);
	case PT_REC_CODE:
		return check_code((const struct pt_rec_code *)record, len);
	case PT_REC_PROC:
		return check_proc((const struct pt_rec_proc *)record, len);
	case PT_REC_THREAD:
		return ((const struct pt_rec_thread *)record)->what - 1 < PT_THREAD_EXIT ? 0
											 : -EBADMSG;
	case PT_REC_STACK:
		return check_stack((const struct pt_rec_stack *)record, len);
	case PT_REC_CFUNC:
		return check_cfunc((const struct pt_rec_cfunc *)record);
	case PT_REC_RANK:
		return check_rank((const struct pt_rec_rank *)record);
	case PT_REC_NOTE:
		return 0; /* a remark that we do not know is no damage */
	case PT_REC_RUNTIME:
		return check_runtime((const struct pt_rec_runtime *)record, len);
	case PT_REC_CUDA_FN:
		return check_cuda_fn((const struct pt_rec_cuda_fn *)record);
	case PT_REC_CUDA_LIB:
		return check_cuda_lib((const struct pt_rec_cuda_lib *)record, len);
	case PT_REC_CUDA_KERNEL:
		return check_cuda_kernel((const struct pt_rec_cuda_kernel *)record, len);
	case PT_REC_CUDA_LOADED:
		return -EBADMSG; /* the recorder takes it */
	case PT_REC_CALL_STACK:
		return check_call_stack((const struct pt_rec_call_stack *)record, len);
	case PT_REC_SAMPLE:
		return check_sample((const struct pt_rec_sample *)record, len);
	case PT_REC_BLOCKED:
		return check_blocked((const struct pt_rec_blocked *)record, len);
	case PT_REC_MARK:
		return check_mark((const struct pt_rec_mark *)record);
	case PT_REC_LINES:
		return check_lines((const struct pt_rec_lines *)record, len);
	case PT_REC_SCHED:
		return check_sched((const struct pt_rec_sched *)record);
	case PT_REC_VALUES:
		return check_values((const struct pt_rec_values *)record, len);
	case PT_REC_CONTROL:
		return check_control((const struct pt_rec_control *)record);
	}
	return -EBADMSG;
}

int pt_batch_begin(struct pt_batch_iter *iter, const struct pt_rec_batch *batch, size_t len)
{
	memset(iter, 0, sizeof(*iter));
	iter->batch = batch;
	if (batch->hdr.kind != PT_REC_BATCH)
		return -EBADMSG;
	return pt_record_check(&batch->hdr, len);
}

int pt_batch_skip(struct pt_batch_iter *iter, uint32_t words)
{
	const struct pt_rec_batch *batch = iter->batch;

	while (iter->pos < words && iter->pos < batch->word_count) {
		iter->pos += PT_WORD_KIND(batch->words[iter->pos]) == PT_W_EXT
				 ? item_words(batch, iter->pos)
				 : 1;
	}
	return iter->pos == words ? 0 : -EBADMSG;
}

static void next_rt(struct pt_batch_iter *iter, uint32_t type, uint64_t desc, struct pt_ev *event)
{
	struct pt_ev_rt *rt = &event->rt;

	event->kind = type == PT_X_RT_BEGIN ? PT_EV_RT_BEGIN
		      : type == PT_X_RT_END ? PT_EV_RT_END
					    : PT_EV_RT_INSTANT;
	*rt = (struct pt_ev_rt){
	    .what = (uint16_t)PT_RT_DESC_WHAT(desc),
	    .flags = (uint8_t)PT_RT_DESC_FLAGS(desc),
	    .values = (uint8_t)PT_RT_DESC_VALUES(desc),
	};
	for (unsigned int i = 0; i < rt->values; i++)
		rt->value[i] = (int64_t)iter->batch->words[iter->pos++] >> PT_RT_SHIFT;
}

static void next_cuda(struct pt_batch_iter *iter, uint32_t arg, struct pt_ev *event)
{
	const __u64 *payload = &iter->batch->words[iter->pos - 1];
	struct pt_ev_cuda *cuda = &event->cuda;
	uint64_t desc;

	event->kind = PT_EXT_TYPE(arg) == PT_X_CUDA_BEGIN ? PT_EV_CUDA_BEGIN : PT_EV_CUDA_END;
	cuda->words = PT_EXT_WORDS(arg) - 1;
	memcpy(cuda->word, payload, cuda->words * sizeof(*payload));
	desc = payload[cuda->words];
	cuda->fn = PT_CUDA_DESC_FN(desc);
	cuda->level = PT_CUDA_DESC_LEVEL(desc);
	cuda->code = PT_CUDA_DESC_CODE(desc);
	iter->pos += cuda->words;
}

/* Unpacks an extended word; the batch was checked, so the payload is there. */
static void next_ext(struct pt_batch_iter *iter, uint64_t word, struct pt_ev *event)
{
	uint32_t arg = PT_WORD_ARG(word);
	uint64_t payload = iter->batch->words[iter->pos++];

	switch (PT_EXT_TYPE(arg)) {
	case PT_X_DEPTH:
		event->kind = PT_EV_DEPTH;
		event->depth = (uint32_t)payload;
		break;
	case PT_X_SNAP:
		event->kind = PT_EV_SNAP;
		event->count = (uint32_t)payload;
		event->depth = (uint32_t)(payload >> 32);
		break;
	case PT_X_ARGS:
	case PT_X_RESULT:
		event->kind = PT_EXT_TYPE(arg) == PT_X_ARGS ? PT_EV_ARGS : PT_EV_RESULT;
		event->serial = (uint32_t)(payload >> PT_RT_SHIFT);
		break;
	case PT_X_STACK:
		event->kind = PT_EV_STACK;
		event->serial = (uint32_t)(payload >> PT_RT_SHIFT);
		break;
	case PT_X_BLOCK:
		event->kind = PT_EV_BLOCK;
		event->block.address = payload;
		event->block.bytes = (int64_t)iter->batch->words[iter->pos++];
		payload = iter->batch->words[iter->pos++] >> PT_RT_SHIFT;
		event->block.what = PT_BLOCK_DESC_WHAT(payload);
		event->block.device = PT_BLOCK_DESC_DEVICE(payload);
		break;
	case PT_X_PAUSED:
		event->kind = PT_EV_PAUSED;
		event->depth = (uint32_t)payload;
		event->c_over = PT_PAUSED_C_COUNT(payload);
		event->from_ns = iter->batch->words[iter->pos++];
		event->until_ns = iter->batch->words[iter->pos++];
		break;
	case PT_X_ENTER:
		event->kind = PT_EV_ENTER;
		event->code_id = (uint32_t)payload;
		break;
	case PT_X_C_ENTER:
		event->kind = PT_EV_C_ENTER;
		event->code_id = (uint32_t)payload;
		break;
	case PT_X_CORO:
	case PT_X_TASK:
	case PT_X_SWITCH:
		event->kind = PT_EXT_TYPE(arg) == PT_X_CORO   ? PT_EV_CORO
			      : PT_EXT_TYPE(arg) == PT_X_TASK ? PT_EV_TASK
							      : PT_EV_SWITCH;
		event->object = payload & ~PT_CORO_BITS;
		event->coro = (uint8_t)(payload & PT_CORO_BITS);
		break;
	case PT_X_OPEN:
		event->kind = PT_EV_OPEN;
		event->code_id = (uint32_t)payload;
		event->depth = (uint32_t)(payload >> 32);
		iter->open_left = PT_EXT_WORDS(arg) - 1;
		iter->open_time_ns = event->time_ns;
		break;
	case PT_X_RT_BEGIN:
	case PT_X_RT_END:
	case PT_X_RT_INSTANT:
		next_rt(iter, PT_EXT_TYPE(arg), payload, event);
		break;
	case PT_X_CUDA_BEGIN:
	case PT_X_CUDA_END:
		next_cuda(iter, arg, event);
		break;
	}
}

int pt_batch_next(struct pt_batch_iter *iter, struct pt_ev *event)
{
	const struct pt_rec_batch *batch = iter->batch;
	uint64_t word;

	if (iter->pos >= batch->word_count)
		return 0;
	word = batch->words[iter->pos++];
	if (iter->open_left) {
		iter->open_left--;
		event->kind = PT_EV_OPEN;
		event->code_id = (uint32_t)word;
		event->depth = (uint32_t)(word >> 32);
		event->time_ns = iter->open_time_ns;
		return 1;
	}
	event->time_ns = batch->base_ns;
	if (PT_WORD_KIND(word) != PT_W_LINE)
		event->time_ns += PT_WORD_DT(word);
	switch (PT_WORD_KIND(word)) {
	case PT_W_ENTER:
		event->kind = PT_EV_ENTER;
		event->code_id = PT_WORD_ARG(word);
		break;
	case PT_W_EXIT:
		event->kind = PT_EV_EXIT;
		event->depth = PT_WORD_ARG(word);
		break;
	case PT_W_LINE:
		event->kind = PT_EV_LINE;
		event->unit = PT_WORD_ARG(word);
		event->code_id = (uint32_t)PT_WORD_DT(word);
		break;
	case PT_W_C_ENTER:
		event->kind = PT_EV_C_ENTER;
		event->code_id = PT_WORD_ARG(word);
		break;
	case PT_W_C_EXIT:
		event->kind = PT_EV_C_EXIT;
		event->depth = PT_WORD_ARG(word);
		break;
	default:
		next_ext(iter, word, event);
		break;
	}
	return 1;
}

uint32_t pt_text_char(const char *data, unsigned int width, size_t i)
{
	uint16_t two;
	uint32_t four;

	switch (width) {
	case 2:
		memcpy(&two, data + 2 * i, 2);
		return two;
	case 4:
		memcpy(&four, data + 4 * i, 4);
		return four;
	default:
		return (unsigned char)data[i];
	}
}

/* text: length bytes, width a character. */
static size_t text_utf8(const char *text, size_t length, unsigned int width, char *out, size_t size)
{
	size_t need = 0, len = 0;

	for (size_t i = 0; width && i < length / width; i++) {
		char one[4];
		size_t put = pt_utf8_put(one, pt_text_char(text, width, i));

		need += put;
		if (need < size) { /* leave room for the NUL; whole characters only */
			memcpy(out + len, one, put);
			len += put;
		}
	}
	if (size)
		out[len] = '\0';
	return need + 1;
}

size_t pt_str_utf8(const struct pt_rec_code *code, int which, char *out, size_t size)
{
	const char *data = code->data;

	for (int i = 0; i < which; i++)
		data += code->str[i].bytes;
	return text_utf8(data, code->str[which].bytes, code->str[which].width, out, size);
}

size_t pt_rt_item_utf8(const struct pt_rec_runtime *record, unsigned int which, char *out,
		       size_t size)
{
	const struct pt_rt_item *item = &record->items[which];
	const char *data = record->data;

	for (unsigned int i = 0; i < which; i++)
		data += record->items[i].bytes;
	if (item->type == PT_RT_TEXT)
		return text_utf8(data, item->bytes, item->width, out, size);
	pt_utf8_clean(out, size, data, item->bytes);
	return strlen(out) + 1;
}

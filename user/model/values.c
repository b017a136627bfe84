// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Values of calls, as text: what repr() would show for numbers, str and bytes; of other objects
 * what their C structs tell.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/model_priv.h"

/* A byte that was sent gives at most four ("\x80"), and something around them. */
#define TEXT_MAX   (4 * PT_VALUE_MAX_BYTES + 128)
#define KEY_MAX    (3 * PT_VALUE_NAME_MAX + 1)
#define DIGIT_BITS 30 /* of PT_V_BIG_INT */

struct model_value_texts {
	struct pt_values values;
	struct pt_arg args[PT_VALUES_MAX + 1], locals[PT_VALUES_MAX];
	char keys[2 * PT_VALUES_MAX][KEY_MAX], texts[2 * PT_VALUES_MAX + 1][TEXT_MAX];
	char more[32];
	unsigned int used;
};

/* ---- records ---- */

void model_values_record(struct pt_model *model, struct model_thread *thread,
			 const struct pt_rec_values *record, size_t len)
{
	struct model_values *values;

	if (model->details_bytes + len > MODEL_MAX_DETAILS) {
		model->totals.bad_records++;
		return;
	}
	values = malloc(offsetof(struct model_values, record) + len);
	if (!values) {
		model_fail(model, -ENOMEM);
		return;
	}
	values->next = NULL;
	memcpy(&values->record, record, len);
	if (!thread->values_tail)
		thread->values_tail = &thread->values;
	*thread->values_tail = values;
	thread->values_tail = &values->next;
	model->details_bytes += len;
}

void model_values_free(struct pt_model *model, struct model_values *values)
{
	if (values)
		model->details_bytes -= values->record.hdr.len;
	free(values);
}

static struct model_values *take_first(struct model_thread *thread)
{
	struct model_values *first = thread->values;

	thread->values = first->next;
	if (!thread->values)
		thread->values_tail = NULL;
	return first;
}

struct model_values *model_values_take(struct pt_model *model, struct model_thread *thread,
				       uint32_t serial)
{
	/* those before it are of words that were lost */
	while (thread->values && (int32_t)(thread->values->record.serial - serial) < 0)
		model_values_free(model, take_first(thread));
	return thread->values && thread->values->record.serial == serial ? take_first(thread)
									 : NULL;
}

void model_values_release(struct pt_model *model, struct model_thread *thread)
{
	while (thread->values)
		model_values_free(model, take_first(thread));
	model_values_free(model, thread->next_args);
	thread->next_args = NULL;
}

/* ---- text ---- */

/* Adds a character as repr() does; quote 0: of a bytes object, which has ' around it. */
static size_t put_char(char *out, uint32_t c, char quote, bool bytes)
{
	static const char short_names[] = "\tt\nn\rr";
	const char *name = c < 0x80 && c ? strchr("\t\n\r", (int)c) : NULL;

	if (name)
		return (size_t)sprintf(out, "\\%c", short_names[2 * (name - "\t\n\r") + 1]);
	if (c == '\\' || c == (unsigned char)quote)
		return (size_t)sprintf(out, "\\%c", (char)c);
	if (c < 0x20 || c == 0x7f || (bytes && c > 0x7f) || (c > 0x7f && c <= 0xa0) || c == 0xad)
		return (size_t)sprintf(out, "\\x%02x", c);
	if (c >= 0xd800 && c < 0xe000)
		return (size_t)sprintf(out, "\\u%04x", c);
	return pt_utf8_put(out, c);
}

static void quoted_text(const struct pt_value *value, const char *data, char *out)
{
	bool bytes = value->type == PT_V_BYTES, single = false, doubled = false;
	unsigned int width = bytes ? 1 : value->width;
	size_t count = value->bytes / width;
	char quote;

	for (size_t i = 0; i < count; i++) {
		single |= pt_text_char(data, width, i) == '\'';
		doubled |= pt_text_char(data, width, i) == '"';
	}
	quote = single && !doubled ? '"' : '\'';
	if (bytes)
		*out++ = 'b';
	*out++ = quote;
	for (size_t i = 0; i < count; i++)
		out += put_char(out, pt_text_char(data, width, i), quote, bytes);
	*out++ = quote;
	strcpy(out, value->truncated ? "\u2026" : "");
}

/* The shortest digits that read back as the same number, as CPython's repr() has it. */
static void float_text(double number, char *out)
{
	char digits[32], *e;
	int exponent, precision = 0, count;

	if (isnan(number) || isinf(number)) {
		strcpy(out, isnan(number) ? "nan" : number > 0 ? "inf" : "-inf");
		return;
	}
	do
		snprintf(digits, sizeof(digits), "%.*e", precision, number);
	while (strtod(digits, NULL) != number && ++precision < 17);
	e = strchr(digits, 'e');
	exponent = atoi(e + 1);
	if (exponent >= -4 && exponent < 16) {
		count = precision - exponent;
		sprintf(out, "%.*f", count < 1 ? 1 : count, number);
		return;
	}
	*e = '\0';
	sprintf(out, "%se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent));
}

static void big_int_text(const struct pt_value *value, const char *data, char *out)
{
	const char *sign = value->number < 0 ? "-" : "";
	size_t count = value->bytes / 4;
	uint32_t nibble = 0;
	unsigned __int128 small = 0;
	bool any = false;

	if (value->truncated || !count) {
		sprintf(out, "<int of more than %zu bits>", DIGIT_BITS * count);
		return;
	}
	for (size_t i = count; count <= 3 && i > 0; i--)
		small = small << DIGIT_BITS | (pt_text_char(data, 4, i - 1) & 0x3fffffff);
	if (count <= 3 && small <= UINT64_MAX) {
		sprintf(out, "%s%llu", sign, (unsigned long long)small);
		return;
	}
	out += sprintf(out, "%s0x", sign);
	/* a nibble may lie in two digits */
	for (size_t bit = (DIGIT_BITS * count + 3) / 4 * 4; bit > 0; bit--) {
		size_t at = bit - 1;
		uint32_t digit = at < DIGIT_BITS * count ? pt_text_char(data, 4, at / DIGIT_BITS)
							 : 0;

		nibble = (nibble << 1 | (digit >> at % DIGIT_BITS & 1)) & 0xf;
		if (at % 4)
			continue;
		any |= nibble != 0;
		if (any)
			*out++ = "0123456789abcdef"[nibble];
	}
	*out = '\0';
}

/* "(2, 3)>"; more: there are more than these. */
static void lengths_text(const char *data, size_t dims, bool more, char *out)
{
	out += sprintf(out, "(");
	for (size_t i = 0; i < dims; i++) {
		int64_t length;

		memcpy(&length, data + 8 * i, 8);
		out += sprintf(out, "%s%lld", i ? ", " : "", (long long)length);
	}
	if (more)
		out += sprintf(out, ", \u2026");
	sprintf(out, dims == 1 ? ",)>" : ")>");
}

static void array_text(const struct pt_value *value, const char *data, char *out)
{
	size_t dims = value->number < 0 || value->number > PT_VALUE_DIMS_MAX
			  ? PT_VALUE_DIMS_MAX
			  : (size_t)value->number;
	char type[3 * PT_VALUE_MAX_BYTES + 1];
	const char *dot;

	pt_utf8_clean(type, sizeof(type), data + 8 * dims, value->bytes - 8 * dims);
	dot = strrchr(type, '.'); /* "numpy.float64" */
	out += sprintf(out, "<numpy.ndarray %s ", dot ? dot + 1 : type);
	lengths_text(data, dims, value->number > PT_VALUE_DIMS_MAX, out);
}

/* c10::ScalarType by torch's names of them: c10/core/ScalarType.h, 1.13 to 2.14, which only ever
 * adds. */
static const char *const tensor_types[] = {
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex32",
    "complex64",
    "complex128",
    "bool",
    "qint8",
    "quint8",
    "qint32",
    "bfloat16",
    "quint4x2",
    "quint2x4",
    "bits1x8",
    "bits2x4",
    "bits4x2",
    "bits8",
    "bits16",
    "float8_e5m2",
    "float8_e4m3fn",
    "float8_e5m2fnuz",
    "float8_e4m3fnuz",
    "uint16",
    "uint32",
    "uint64",
    "uint1",
    "uint2",
    "uint3",
    "uint4",
    "uint5",
    "uint6",
    "uint7",
    "int1",
    "int2",
    "int3",
    "int4",
    "int5",
    "int6",
    "int7",
    "float8_e8m0fnu",
    "float4_e2m1fn_x2",
    "bcomplex32",
};

static void tensor_text(const struct pt_value *value, const char *data, char *out)
{
	size_t dims = PT_TENSOR_DIMS(value->number);
	uint64_t dtype = PT_TENSOR_DTYPE(value->number);
	char type[3 * PT_VALUE_MAX_BYTES + 1];

	pt_utf8_clean(type, sizeof(type), data + 8 * dims, value->bytes - 8 * dims);
	out += sprintf(out, "<%s %s ", type[0] ? type : "Tensor",
		       dtype < sizeof(tensor_types) / sizeof(tensor_types[0]) ? tensor_types[dtype]
									      : "?");
	lengths_text(data, dims, false, out);
}

static void value_text(const struct pt_value *value, const char *data, char *out)
{
	char type[3 * PT_VALUE_MAX_BYTES + 1];
	double number;

	pt_utf8_clean(type, sizeof(type), data, value->bytes);
	switch ((enum pt_value_type)value->type) {
	case PT_V_NONE:
		strcpy(out, "None");
		return;
	case PT_V_BOOL:
		strcpy(out, value->number ? "True" : "False");
		return;
	case PT_V_INT:
		sprintf(out, "%lld", (long long)value->number);
		return;
	case PT_V_BIG_INT:
		big_int_text(value, data, out);
		return;
	case PT_V_FLOAT:
		memcpy(&number, &value->number, sizeof(number));
		float_text(number, out);
		return;
	case PT_V_TEXT:
	case PT_V_BYTES:
		quoted_text(value, data, out);
		return;
	case PT_V_SIZED:
		sprintf(out, "<%s of length %lld>", type, (long long)value->number);
		return;
	case PT_V_OBJECT:
		sprintf(out, "<%s at 0x%llx>", type[0] ? type : "object",
			(unsigned long long)value->number);
		return;
	case PT_V_ARRAY:
		array_text(value, data, out);
		return;
	case PT_V_TENSOR:
		tensor_text(value, data, out);
		return;
	case PT_V_UNREADABLE:
		strcpy(out, "<unreadable>");
		return;
	case PT_V_UNBOUND:
		strcpy(out, "<unbound>");
		return;
	case PT_V_UNKNOWN:
		strcpy(out, "<unknown>");
		return;
	case PT_V_NO_VARIABLE:
		strcpy(out, "<no such variable>");
		return;
	}
}

static void key_text(const struct pt_value *value, const char *data, char *out)
{
	for (size_t i = 0; i < value->name_bytes / (size_t)value->name_width; i++)
		out += pt_utf8_put(out, pt_text_char(data, value->name_width, i));
	*out = '\0';
}

static bool has_key(const struct pt_arg *args, uint32_t count, const char *key)
{
	for (uint32_t i = 0; i < count; i++)
		if (!strcmp(args[i].key, key))
			return true;
	return false;
}

/* Puts the named ones among args; *result becomes the one without a name. */
static uint32_t add(struct model_value_texts *texts, const struct pt_rec_values *record,
		    struct pt_arg *args, const char **result)
{
	const char *data = record->data;
	uint32_t count = 0;

	for (unsigned int i = 0; i < record->count; i++) {
		const struct pt_value *value = &record->values[i];
		char *text = texts->texts[texts->used], *key = texts->keys[texts->used];

		value_text(value, data + value->name_bytes, text);
		if (!value->name_bytes) {
			*result = text;
			texts->used++;
		} else {
			key_text(value, data, key);
			/* two of --local may have found the same */
			if (!has_key(args, count, key)) {
				args[count++] = (struct pt_arg){.key = key, .text = text};
				texts->used++;
			}
		}
		data += value->name_bytes + value->bytes;
	}
	return count;
}

const struct pt_values *model_values_show(struct pt_model *model, const struct model_frame *frame)
{
	struct model_value_texts *texts = model->value_texts;
	struct pt_values *values;
	const char *nameless = NULL;

	if (!texts) {
		texts = model->value_texts = malloc(sizeof(*texts));
		if (!texts) {
			model_fail(model, -ENOMEM);
			return NULL;
		}
	}
	texts->used = 0;
	values = &texts->values;
	*values = (struct pt_values){.args = texts->args, .locals = texts->locals};
	if (frame->args) {
		values->arg_count = add(texts, &frame->args->record, texts->args, &nameless);
		if (frame->args->record.more) {
			snprintf(texts->more, sizeof(texts->more), "%u more",
				 frame->args->record.more);
			texts->args[values->arg_count++] = (struct pt_arg){.key = "\u2026",
									   .text = texts->more};
		}
	}
	if (frame->result)
		values->local_count = add(texts, &frame->result->record, texts->locals,
					  &values->result);
	return values;
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/mark_spec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HINT                                                                                       \
	"write uprobe:PATH:SYMBOL(ARGUMENT:TYPE,...)=KIND or "                                     \
	"usdt:PATH:PROVIDER:NAME(ARGUMENT:TYPE,...)=KIND"

/* From the public headers of NVTX (nvToolsExt.h): what is pushed and popped in one domain nests.
 * Texts of wide characters and registered strings are not read, but they count. */
const char *const pt_mark_nvtx[] = {
    "uprobe:*:nvtxRangePushA(name:str)=begin:nvtx",
    "uprobe:*:nvtxRangePushW=begin:nvtx",
    "uprobe:*:nvtxRangePushEx(name:nvtx)=begin:nvtx",
    "uprobe:*:nvtxRangePop=end:nvtx",
    "uprobe:*:nvtxDomainRangePushEx(domain:key,name:nvtx)=begin:nvtx",
    "uprobe:*:nvtxDomainRangePop(domain:key)=end:nvtx",
    "uprobe:*:nvtxMarkA(name:str)=instant:nvtxMark",
    "uprobe:*:nvtxMarkW=instant:nvtxMark",
    "uprobe:*:nvtxMarkEx(name:nvtx)=instant:nvtxMark",
    "uprobe:*:nvtxDomainMarkEx(domain:ptr,name:nvtx)=instant:nvtxMark",
    "uprobe:*:nvtxRangeStartA(message:str)",
    "uprobe:*:nvtxRangeStartW",
    "uprobe:*:nvtxRangeStartEx(message:nvtx)",
    "uprobe:*:nvtxDomainRangeStartEx(domain:ptr,message:nvtx)",
    "uprobe:*:nvtxRangeEnd(id:u64)",
    "uprobe:*:nvtxDomainRangeEnd(domain:ptr,id:u64)",
    NULL,
};

static const struct {
	const char *name;
	unsigned int bytes;
	bool is_signed;
	enum pt_mark_read read;
	enum pt_mark_arg_type type;
} types[] = {
    {"int", 4, true, PT_MARK_READ_VALUE, PT_MARK_SIGNED},
    {"uint", 4, false, PT_MARK_READ_VALUE, PT_MARK_UNSIGNED},
    {"long", 8, true, PT_MARK_READ_VALUE, PT_MARK_SIGNED},
    {"ulong", 8, false, PT_MARK_READ_VALUE, PT_MARK_UNSIGNED},
    {"s8", 1, true, PT_MARK_READ_VALUE, PT_MARK_SIGNED},
    {"s16", 2, true, PT_MARK_READ_VALUE, PT_MARK_SIGNED},
    {"s32", 4, true, PT_MARK_READ_VALUE, PT_MARK_SIGNED},
    {"s64", 8, true, PT_MARK_READ_VALUE, PT_MARK_SIGNED},
    {"u8", 1, false, PT_MARK_READ_VALUE, PT_MARK_UNSIGNED},
    {"u16", 2, false, PT_MARK_READ_VALUE, PT_MARK_UNSIGNED},
    {"u32", 4, false, PT_MARK_READ_VALUE, PT_MARK_UNSIGNED},
    {"u64", 8, false, PT_MARK_READ_VALUE, PT_MARK_UNSIGNED},
    {"ptr", 8, false, PT_MARK_READ_VALUE, PT_MARK_POINTER},
    {"str", 8, false, PT_MARK_READ_TEXT, PT_MARK_TEXT},
    /* of pt_mark_nvtx alone */
    {"nvtx", 8, false, PT_MARK_READ_NVTX, PT_MARK_TEXT},
    {"key", 8, false, PT_MARK_READ_KEY, PT_MARK_POINTER},
};
#define TYPE_NAMES "int, uint, long, ulong, s8 to s64, u8 to u64, ptr and str"

static int refuse(struct pt_err *err, const char *text, const char *hint, const char *what)
{
	return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, hint, "--probe '%s': %s", text, what);
}

/* Copies length characters; false: nothing is there, or too much. */
static bool copy(char *to, size_t size, const char *from, size_t length)
{
	if (!length || length >= size)
		return false;
	memcpy(to, from, length);
	to[length] = '\0';
	return true;
}

static int parse_type(const char *name, struct pt_mark_spec_arg *arg, const char *text,
		      struct pt_err *err)
{
	if (!strcmp(name, "double") || !strcmp(name, "float"))
		return refuse(err, text,
			      "leave it out: where it is passed in a register it does not count "
			      "among the others",
			      "floating-point arguments are passed in vector registers, which the "
			      "kernel does not show to probes");
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(name, types[i].name) != 0)
			continue;
		arg->bytes = types[i].bytes;
		arg->is_signed = types[i].is_signed;
		arg->read = types[i].read;
		arg->type = types[i].type;
		if (arg->type == PT_MARK_TEXT && !strcmp(arg->name, "name"))
			arg->type = PT_MARK_NAME;
		return 0;
	}
	return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "types are " TYPE_NAMES,
			  "--probe '%s': there is no type '%s'", text, name);
}

static int parse_arg(const char *from, size_t length, struct pt_mark_spec *spec, struct pt_err *err)
{
	struct pt_mark_spec_arg *arg = &spec->args[spec->arg_count];
	const char *colon = memchr(from, ':', length);
	char type[16];

	if (spec->arg_count == PT_MARK_ARGS_MAX)
		return refuse(err, spec->text, "name the first six",
			      "only six arguments can be read");
	if (!colon || !copy(arg->name, sizeof(arg->name), from, (size_t)(colon - from)) ||
	    !copy(type, sizeof(type), colon + 1, length - (size_t)(colon - from) - 1))
		return refuse(err, spec->text, HINT, "an argument is NAME:TYPE");
	spec->arg_count++;
	return parse_type(type, arg, spec->text, err);
}

static int parse_args(const char *from, const char *end, struct pt_mark_spec *spec,
		      struct pt_err *err)
{
	int rc = 0;

	while (!rc && from < end) {
		const char *comma = memchr(from, ',', (size_t)(end - from));
		size_t length = (size_t)((comma ? comma : end) - from);

		rc = parse_arg(from, length, spec, err);
		from += length + 1;
	}
	return rc;
}

/* "=KIND" or "=KIND:LABEL" */
static int parse_kind(const char *text, struct pt_mark_spec *spec, struct pt_err *err)
{
	static const struct {
		const char *name;
		enum pt_mark_kind kind;
	} kinds[] = {{"instant", PT_MARK_INSTANT},
		     {"slice", PT_MARK_SLICE},
		     {"counter", PT_MARK_COUNTER},
		     {"begin", PT_MARK_BEGIN},
		     {"end", PT_MARK_END}};
	size_t length = strcspn(text, ":");

	if (text[length] &&
	    !copy(spec->label, sizeof(spec->label), text + length + 1, strlen(text + length + 1)))
		return refuse(err, spec->text, HINT, "the label is empty or too long");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strlen(kinds[i].name) != length || memcmp(kinds[i].name, text, length) != 0)
			continue;
		spec->kind = kinds[i].kind;
		return 0;
	}
	return refuse(err, spec->text, HINT, "a kind is instant, slice, counter, begin or end");
}

/* The last colon in [from, end), or NULL. */
static const char *last_colon(const char *from, const char *end)
{
	while (end > from && end[-1] != ':')
		end--;
	return end > from ? end - 1 : NULL;
}

static int parse_place(const char *from, const char *end, struct pt_mark_spec *spec,
		       struct pt_err *err)
{
	const char *colon = last_colon(from, end), *stop = colon;

	if (!colon ||
	    !copy(spec->symbol, sizeof(spec->symbol), colon + 1, (size_t)(end - colon - 1)))
		return refuse(err, spec->text, HINT, "no symbol is there, or a long one");
	if (spec->usdt) {
		stop = last_colon(from, colon);
		if (!stop || !copy(spec->provider, sizeof(spec->provider), stop + 1,
				   (size_t)(colon - stop - 1)))
			return refuse(err, spec->text, HINT, "no provider is there, or a long one");
	}
	if (!copy(spec->path, sizeof(spec->path), from, (size_t)(stop - from)))
		return refuse(err, spec->text, HINT, "no path is there, or a long one");
	return 0;
}

static int check(const struct pt_mark_spec *spec, struct pt_err *err)
{
	unsigned int numbers = 0, others = 0;

	for (unsigned int i = 0; i < spec->arg_count; i++) {
		numbers += spec->args[i].read == PT_MARK_READ_VALUE;
		others += spec->args[i].type == PT_MARK_TEXT;
	}
	if (spec->kind == PT_MARK_SLICE && spec->usdt)
		return refuse(err, spec->text, "use two probes, one with =begin and one with =end",
			      "a USDT probe is a place, which has no return");
	if (spec->kind == PT_MARK_COUNTER && (!numbers || others))
		return refuse(err, spec->text, "write, for example, (value:long)=counter",
			      "a counter's arguments are numbers, and perhaps name:str");
	return 0;
}

int pt_mark_spec_parse(const char *text, struct pt_mark_spec *spec, struct pt_err *err)
{
	const char *slash = strrchr(text, '/'), *from = strchr(text, ':'), *end, *args,
		   *close = NULL;
	int rc = 0;

	*spec = (struct pt_mark_spec){.text = text, .kind = PT_MARK_INSTANT};
	spec->usdt = !strncmp(text, "usdt:", 5);
	if (!spec->usdt && strncmp(text, "uprobe:", 7) != 0)
		return refuse(err, text, HINT, "it begins with neither uprobe: nor usdt:");
	from++;
	/* a path may hold anything; what stands behind it does not */
	end = (slash ? slash : from) + strcspn(slash ? slash : from, "(=");
	args = *end == '(' ? end + 1 : NULL;
	if (args) {
		close = strchr(args, ')');
		if (!close || (close[1] && close[1] != '='))
			return refuse(err, text, HINT, "the arguments do not end in ')'");
	}
	if ((close ? close[1] : *end) == '=')
		rc = parse_kind((close ? close + 1 : end) + 1, spec, err);
	if (!rc)
		rc = parse_place(from, end, spec, err);
	if (!rc && args)
		rc = parse_args(args, close, spec, err);
	return rc ? rc : check(spec, err);
}

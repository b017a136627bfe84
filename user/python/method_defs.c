// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Two passes over the file's data. The first finds records, by their form: an identifier, a
 * function, flags that CPython takes. The second finds what points to the first record of a table:
 * the m_methods of a PyModuleDef, the tp_methods of a type, or the Py_tp_methods slot of a
 * PyType_Spec, which a third pass looks for. The layouts (Include/methodobject.h, moduleobject.h,
 * object.h, cpython/object.h, typeslots.h) are the same from 3.8 to 3.15, and behind the object
 * header, which nothing here looks at, in free-threaded builds too.
 */
#include "python/method_defs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 256u
#define RECORDS_MAX    (1u << 18) /* sid's python3.14 has some 3 000 */

#define DEF_BYTES 32u
#define DEF_METH  8u
#define DEF_FLAGS 16u
#define DEF_DOC   24u

#define METH_VARARGS  0x01u
#define METH_KEYWORDS 0x02u
#define METH_NOARGS   0x04u
#define METH_O        0x08u
#define METH_COEXIST  0x40u
#define METH_FASTCALL 0x80u
#define METH_METHOD   0x200u

/* from m_methods back */
#define MODULE_INIT_BACK 48u
#define MODULE_NAME_BACK 24u
#define MODULE_SIZE_BACK 8u
/* from tp_methods back */
#define TYPE_NAME_BACK   208u
#define TYPE_BASIC_BACK  200u
#define TYPE_ITEM_BACK   192u
#define TYPE_FLAGS_BACK  64u
#define TYPE_WEAK_BACK   24u

#define SLOT_BYTES      16u
#define SLOT_TP_METHODS 64u /* Py_tp_methods */
#define SLOT_ID_MAX     127u
#define SLOTS_MAX       128u /* of one type */

/* from PyType_Spec.slots back */
#define SPEC_NAME_BACK  24u
#define SPEC_SIZES_BACK 16u

#define OBJECT_BYTES_MAX (1 << 24) /* more is no tp_basicsize */

/* A PyType_Slot array that names a table: its Py_tp_methods entry is at last, and it starts there
 * or earlier, not before first. */
struct slots {
	uint64_t first, last, table;
};

struct search {
	const struct elf_file *elf;
	const char *init;              /* what follows "PyInit_" in the one symbol of that kind */
	struct py_method_def *records; /* by def */
	size_t record_count, record_room;
	struct slots *slots;
	size_t slots_count, slots_room;
	struct py_method_defs *result;
	size_t result_room;
	uint8_t *owned; /* for each record: it is in the result */
};

/* Room for one more in an array of that element size. */
static int grow(void **array, size_t count, size_t *room, size_t size)
{
	size_t bigger = *room ? *room * 2 : 64;
	void *moved;

	if (count < *room)
		return 0;
	if (count >= RECORDS_MAX)
		return -E2BIG;
	moved = reallocarray(*array, bigger, size);
	if (!moved)
		return -ENOMEM;
	*array = moved;
	*room = bigger;
	return 0;
}

/* The pointer at vaddr; 0: none, or not one that the file tells. */
static uint64_t pointer(const struct search *search, uint64_t vaddr)
{
	uint64_t value;

	return elf_read_ptr(search->elf, vaddr, &value) ? 0 : value;
}

static const struct elf_section *section_at(const struct search *search, uint64_t vaddr)
{
	for (size_t i = 0; i < search->elf->section_count; i++) {
		const struct elf_section *s = &search->elf->sections[i];

		if ((s->flags & SHF_ALLOC) && vaddr >= s->vaddr && vaddr - s->vaddr < s->size)
			return s;
	}
	return NULL;
}

/* Older linkers put texts into the segment that has the code; sections tell them apart. */
static bool is_code(const struct search *search, uint64_t vaddr)
{
	const struct elf_section *s;

	if (!elf_is_code(search->elf, vaddr))
		return false;
	s = section_at(search, vaddr);
	return s && (s->flags & SHF_EXECINSTR);
}

/* May there be a text, and not a header that a small number happens to point to? */
static bool may_be_text(const struct search *search, uint64_t vaddr)
{
	const struct elf_section *s = section_at(search, vaddr);

	return s && s->type == SHT_PROGBITS && !(s->flags & SHF_EXECINSTR);
}

static bool is_name_char(unsigned char c, bool dots)
{
	return c == '_' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
	       c >= 0x80 || (dots && c == '.');
}

/* The identifier at vaddr, or NULL. */
static const char *name_at(const struct search *search, uint64_t vaddr, bool dots)
{
	const char *text;

	if (!may_be_text(search, vaddr))
		return NULL;
	text = elf_string_at_vaddr(search->elf, vaddr, NAME_MAX_BYTES);
	if (!text || !*text || (*text >= '0' && *text <= '9'))
		return NULL;
	for (const char *c = text; *c; c++)
		if (!is_name_char((unsigned char)*c, dots))
			return NULL;
	return text;
}

/* Those that hold tables: what needs relocation is writable at first. */
static int each_segment(struct search *search,
			int (*visit)(struct search *search, const struct elf_segment *segment))
{
	const struct elf_file *elf = search->elf;
	int rc = 0;

	for (size_t i = 0; i < elf->segment_count && !rc; i++) {
		const struct elf_segment *s = &elf->segments[i];

		if (s->type == PT_LOAD && !(s->flags & PF_X) &&
		    ((s->flags & PF_W) || elf->type == ET_EXEC))
			rc = visit(search, s);
	}
	return rc;
}

/* ---- records ---- */

/* What PyCMethod_New() and PyDescr_NewMethod() take; they refuse all else. */
static bool flags_are_good(uint32_t flags)
{
	uint32_t rest = flags & ~(PY_METH_CLASS | PY_METH_STATIC | METH_COEXIST);

	if ((flags & PY_METH_CLASS) && (flags & PY_METH_STATIC))
		return false;
	return rest == METH_VARARGS || rest == (METH_VARARGS | METH_KEYWORDS) ||
	       rest == METH_NOARGS || rest == METH_O || rest == METH_FASTCALL ||
	       rest == (METH_FASTCALL | METH_KEYWORDS) ||
	       rest == (METH_METHOD | METH_FASTCALL | METH_KEYWORDS);
}

/* Is there one at vaddr, with these flags? Returns how many bytes to go on, or -errno. */
static int add_record(struct search *search, uint64_t vaddr, uint32_t flags)
{
	struct py_method_def def = {.def = vaddr, .flags = flags};
	uint64_t doc;
	int rc;

	rc = elf_read_ptr(search->elf, vaddr + DEF_METH, &def.meth);
	if (rc == -ENXIO)
		def.meth = 0;
	else if (rc || !is_code(search, def.meth))
		return rc && rc != -ENOENT ? rc : 8;
	def.name = name_at(search, pointer(search, vaddr), false);
	doc = pointer(search, vaddr + DEF_DOC);
	if (!def.name || (doc && (is_code(search, doc) || (!elf_is_variable(search->elf, doc) &&
							   !elf_at_vaddr(search->elf, doc, 1)))))
		return 8;
	rc = grow((void **)&search->records, search->record_count, &search->record_room,
		  sizeof(def));
	if (rc)
		return rc;
	search->records[search->record_count++] = def;
	return DEF_BYTES;
}

static int visit_records(struct search *search, const struct elf_segment *segment)
{
	uint64_t size, at = -segment->vaddr & 7;
	const uint8_t *raw = elf_segment_bytes(search->elf, segment, &size);
	int step;

	for (; raw && at < size && size - at >= DEF_BYTES; at += (uint64_t)step) {
		uint32_t flags[2]; /* and the padding behind them */

		step = 8;
		memcpy(flags, raw + at + DEF_FLAGS, sizeof(flags));
		if (!flags[1] && flags_are_good(flags[0]))
			step = add_record(search, segment->vaddr + at, flags[0]);
		if (step < 0)
			return step;
	}
	return 0;
}

static int by_def(const void *a, const void *b)
{
	const struct py_method_def *x = a, *y = b;

	return x->def < y->def ? -1 : x->def > y->def;
}

static int by_meth(const void *a, const void *b)
{
	const struct py_method_def *x = a, *y = b;

	if (x->meth != y->meth)
		return x->meth < y->meth ? -1 : 1;
	return by_def(a, b);
}

static struct py_method_def *record_at(const struct search *search, uint64_t vaddr)
{
	struct py_method_def key = {.def = vaddr};

	return bsearch(&key, search->records, search->record_count, sizeof(key), by_def);
}

/* ---- owners ---- */

static int add_result(struct search *search, const struct py_method_def *record, const char *owner,
		      enum py_def_owner kind)
{
	struct py_method_defs *result = search->result;
	int rc = grow((void **)&result->defs, result->count, &search->result_room, sizeof(*record));

	if (rc)
		return rc;
	result->defs[result->count] = *record;
	result->defs[result->count].owner = owner;
	result->defs[result->count++].kind = kind;
	search->owned[record - search->records] = 1;
	return 0;
}

/* The table's records, which end with one that has no name. */
static int own_table(struct search *search, uint64_t table, const char *owner,
		     enum py_def_owner kind)
{
	const struct py_method_def *record;
	int rc = 0;

	for (; !rc && (record = record_at(search, table)); table += DEF_BYTES)
		rc = add_result(search, record, owner, kind);
	return rc;
}

/*
 * A module is loaded under the name of its PyInit function, whatever m_name is: _decimal's is
 * "decimal". In the interpreter file that is so of one module only.
 */
static int own_module(struct search *search, uint64_t table, const char *name)
{
	const char *other = search->init ? search->init : "_io", *dot = strrchr(name, '.');
	int rc = own_table(search, table, name, PY_DEF_MODULE);

	if (!rc && (search->init ? strcmp(dot ? dot + 1 : name, other) : !strcmp(name, "io")))
		rc = own_table(search, table, other, PY_DEF_MODULE);
	return rc;
}

/* An integer that the file holds, and no address: nothing is written there at loading. */
static bool number(const struct search *search, uint64_t vaddr, int64_t *value)
{
	const void *raw = elf_at_vaddr(search->elf, vaddr, sizeof(*value));
	uint64_t loaded;

	if (!raw || elf_read_ptr(search->elf, vaddr, &loaded))
		return false;
	memcpy(value, raw, sizeof(*value));
	return (uint64_t)*value == loaded;
}

static bool number_within(const struct search *search, uint64_t vaddr, int64_t low, int64_t high)
{
	int64_t value;

	return number(search, vaddr, &value) && value >= low && value <= high;
}

/* The name of the module whose m_methods is at vaddr, or NULL. */
static const char *module_name(const struct search *search, uint64_t vaddr)
{
	for (uint64_t back = MODULE_INIT_BACK; back > MODULE_NAME_BACK; back -= 8)
		if (!number_within(search, vaddr - back, 0, 0))
			return NULL; /* m_init, m_index, m_copy */
	if (!number_within(search, vaddr - MODULE_SIZE_BACK, -1, OBJECT_BYTES_MAX))
		return NULL;
	return name_at(search, pointer(search, vaddr - MODULE_NAME_BACK), true);
}

/* The name of the type whose tp_methods is at vaddr, or NULL. */
static const char *type_name(const struct search *search, uint64_t vaddr)
{
	if (!number_within(search, vaddr - TYPE_BASIC_BACK, 0, OBJECT_BYTES_MAX) ||
	    !number_within(search, vaddr - TYPE_ITEM_BACK, 0, OBJECT_BYTES_MAX) ||
	    !number_within(search, vaddr - TYPE_FLAGS_BACK, 0, UINT32_MAX) ||
	    !number_within(search, vaddr - TYPE_WEAK_BACK, -OBJECT_BYTES_MAX, OBJECT_BYTES_MAX))
		return NULL;
	return name_at(search, pointer(search, vaddr - TYPE_NAME_BACK), true);
}

/* The entry of a slot array is at last. */
static int add_slots(struct search *search, uint64_t last, uint64_t table)
{
	uint64_t first = last;
	int rc;

	for (unsigned int i = 0; i < SLOTS_MAX; i++, first -= SLOT_BYTES)
		if (!number_within(search, first - SLOT_BYTES, 1, SLOT_ID_MAX))
			break;
	rc = grow((void **)&search->slots, search->slots_count, &search->slots_room,
		  sizeof(*search->slots));
	if (!rc)
		search->slots[search->slots_count++] = (struct slots){first, last, table};
	return rc;
}

static int see_owner(uint64_t vaddr, uint64_t table, void *ctx)
{
	struct search *search = ctx;
	const char *name;
	int rc = 0;

	if (!record_at(search, table))
		return 0;
	/* m_size may look like the slot's number, but not the other way round */
	if ((name = module_name(search, vaddr)))
		rc = own_module(search, table, name);
	else if (number_within(search, vaddr - 8, SLOT_TP_METHODS, SLOT_TP_METHODS))
		rc = add_slots(search, vaddr - 8, table);
	else if ((name = type_name(search, vaddr)))
		rc = own_table(search, table, name, PY_DEF_TYPE);
	return rc;
}

static int visit_owners(struct search *search, const struct elf_segment *segment)
{
	return elf_each_pointer(search->elf, segment, search->records[0].def,
				search->records[search->record_count - 1].def, see_owner, search);
}

/* The last array that can start at vaddr. */
static const struct slots *slots_from(const struct search *search, uint64_t vaddr)
{
	size_t low = 0, high = search->slots_count;

	/* the first whose last entry is not before vaddr; they were found in order */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (search->slots[middle].last < vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == search->slots_count || vaddr < search->slots[low].first ||
	    (search->slots[low].last - vaddr) % SLOT_BYTES)
		return NULL;
	return &search->slots[low];
}

static int see_spec(uint64_t vaddr, uint64_t start, void *ctx)
{
	struct search *search = ctx;
	const struct slots *slots = slots_from(search, start);
	const char *name;
	int64_t sizes; /* basicsize and itemsize, ints both */

	if (slots && number(search, vaddr - SPEC_SIZES_BACK, &sizes) &&
	    (name = name_at(search, pointer(search, vaddr - SPEC_NAME_BACK), true)))
		return own_table(search, slots->table, name, PY_DEF_TYPE);
	return 0;
}

static int visit_specs(struct search *search, const struct elf_segment *segment)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < search->slots_count; i++)
		if (search->slots[i].first < first)
			first = search->slots[i].first;
	return elf_each_pointer(search->elf, segment, first,
				search->slots[search->slots_count - 1].last, see_spec, search);
}

/* ---- all of it ---- */

/* Does it use or have anything of CPython's? Spares reading through large libraries. */
static bool knows_python(const struct elf_file *elf)
{
	for (size_t i = 0; i < elf->section_count; i++) {
		const struct elf_section *s = &elf->sections[i];
		const void *names = NULL;

		if (s->type == SHT_STRTAB && (s->flags & SHF_ALLOC))
			names = elf_at(elf, s->offset, s->size);
		if (names &&
		    (memmem(names, s->size, "\0Py", 3) || memmem(names, s->size, "\0_Py", 4)))
			return true;
	}
	return false;
}

static int see_symbol(const struct elf_symbol *symbol, void *ctx)
{
	struct search *search = ctx;

	if (strncmp(symbol->name, "PyInit_", 7) || !symbol->name[7] ||
	    (search->init && !strcmp(search->init, symbol->name + 7)))
		return 0; /* .symtab tells it again */
	if (search->init) {
		search->init = NULL;
		return 1; /* more than one: the interpreter, or several modules in a file */
	}
	search->init = symbol->name + 7;
	return 0;
}

static int add_unowned(struct search *search)
{
	int rc = 0;

	for (size_t i = 0; i < search->record_count && !rc; i++)
		if (!search->owned[i])
			rc = add_result(search, &search->records[i], NULL, PY_DEF_UNKNOWN);
	return rc;
}

static int find(struct search *search)
{
	int rc = each_segment(search, visit_records);

	if (rc || !search->record_count)
		return rc;
	qsort(search->records, search->record_count, sizeof(*search->records), by_def);
	search->owned = calloc(search->record_count, 1);
	if (!search->owned)
		return -ENOMEM;
	elf_each_symbol(search->elf, see_symbol, search);
	rc = each_segment(search, visit_owners);
	if (!rc && search->slots_count)
		rc = each_segment(search, visit_specs);
	if (!rc)
		rc = add_unowned(search);
	if (!rc)
		qsort(search->result->defs, search->result->count, sizeof(*search->result->defs),
		      by_meth);
	return rc;
}

int py_method_defs_find(const struct elf_file *elf, struct py_method_defs *result)
{
	struct search search = {.elf = elf, .result = result};
	int rc = 0;

	*result = (struct py_method_defs){0};
	if (elf->machine == EM_X86_64 && knows_python(elf))
		rc = find(&search);
	free(search.records);
	free(search.slots);
	free(search.owned);
	if (rc)
		py_method_defs_release(result);
	return rc;
}

void py_method_defs_release(struct py_method_defs *defs)
{
	free(defs->defs);
	*defs = (struct py_method_defs){0};
}

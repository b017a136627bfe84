// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* What lines of files that PyTorch's Inductor has generated were made from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "record/inductor.h"

#define FILE_NAME "casqpe6odbcjnjxjpxitl3lddb3xvnfpxofl3psy5vjwhdpr3rnm.py"

/* As PyTorch 2.14 writes it. */
static const char generated[] =
    "def call(self, args):\n"
    "    buf0 = empty_strided_cuda((4, 4), (4, 1), torch.float32)\n"
    "    # Topologically Sorted Source Nodes: [c], Original ATen: [aten.mm]\n"
    "    extern_kernels.mm(arg0_1, arg1_1, out=buf0)\n"
    "    del arg1_1\n"
    "    buf1 = empty_strided_cuda((4, 4), (4, 1), torch.float32)\n"
    "    # Unsorted Source Nodes: [add, relu], Original ATen: [aten.add, aten.relu]\n"
    "    # Source node to ATen node mapping:\n"
    "    stream0 = get_raw_stream(0)\n"
    "    triton_poi_fused_add_relu_0.run(buf0, 16, stream=stream0)\n"
    "    return (buf1, )\n";

static void assert_origin(uint32_t line, const char *expected)
{
	char out[128] = "";
	bool known = pt_inductor_origin(generated, sizeof(generated) - 1, line, out, sizeof(out));

	if (known != (expected != NULL))
		fail_msg("line %u: '%s'", line, out);
	if (expected)
		assert_string_equal(out, expected);
}

static void test_lines(void **state)
{
	assert_origin(4, "[source nodes c; aten.mm]");
	assert_origin(9, "[source nodes add, relu; aten.add, aten.relu]");
	assert_origin(10, "[source nodes add, relu; aten.add, aten.relu]");
	/* what belongs to no launch, or to one that cannot be told */
	assert_origin(0, NULL);
	assert_origin(1, NULL);
	assert_origin(2, NULL);
	assert_origin(5, NULL);
	assert_origin(6, NULL);
	assert_origin(11, NULL);
	assert_origin(12, NULL);
	assert_origin(UINT32_MAX, NULL);
}

/* Cut anywhere, and into a buffer that is too small. */
static void test_cut(void **state)
{
	char out[128];

	for (size_t bytes = 0; bytes < sizeof(generated); bytes++) {
		char *copy = malloc(bytes + 1);

		memcpy(copy, generated, bytes);
		for (uint32_t line = 0; line < 14; line++)
			pt_inductor_origin(copy, bytes, line, out, sizeof(out));
		free(copy);
	}
	assert_false(pt_inductor_origin(generated, sizeof(generated) - 1, 4, out, 10));
}

static void test_names(void **state)
{
	assert_true(pt_inductor_is_file("/tmp/torchinductor_me/as/" FILE_NAME));
	assert_true(pt_inductor_is_file("/as/" FILE_NAME));
	assert_false(pt_inductor_is_file("/tmp/ab/" FILE_NAME));
	assert_false(pt_inductor_is_file("/tmp/as/casq.py"));
	assert_false(pt_inductor_is_file("as/" FILE_NAME));
	assert_false(pt_inductor_is_file("/tmp/as/" FILE_NAME "c"));
	assert_false(pt_inductor_is_file("/x.py"));
	assert_false(pt_inductor_is_file("<string>"));
	assert_false(pt_inductor_is_file(""));
}

static int keep(const struct pt_op *op, void *ctx)
{
	uint32_t *count = ctx;

	*count = op->stack.frame_count;
	return 7;
}

/* Of a process whose files are not known all frames stay as they are. */
static void test_unknown(void **state)
{
	const struct pt_stack_frame frames[] = {
	    {.kind = PT_STACK_PYTHON, .name = "call", .file = "/tmp/as/" FILE_NAME, .line = 4},
	    {.kind = PT_STACK_GAP, .name = "", .file = ""},
	};
	const struct pt_op op = {.kind = PT_OP_STACK,
				 .stack = {.pid = 1, .id = 1, .frame_count = 2, .frames = frames}};
	struct pt_sources *sources = pt_sources_new();
	uint32_t count = 0;

	assert_non_null(sources);
	assert_int_equal(pt_inductor_stack(sources, &op, keep, &count), 7);
	assert_int_equal(count, 2);
	pt_sources_free(sources);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_cut),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

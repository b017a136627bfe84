// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * load_image FILE: what the tracer says to an interpreter file, without a process that runs it.
 *
 * Prints the version where the file can be traced, else the message and its hint, and ends with the
 * exit code that the tracer would end with.
 */
#include <stdio.h>

#include "base/err.h"
#include "python/image.h"

int main(int argc, char **argv)
{
	struct py_image *image;
	struct pt_err err = {0};

	if (argc != 2) {
		fprintf(stderr, "usage: load_image FILE\n");
		return PT_EXIT_USAGE;
	}
	if (py_image_load(argv[1], argv[1], PY_INSN_EMULATED_DEFAULT, NULL, &image, &err)) {
		printf("%s\n  %s\n", err.what, err.hint);
		return err.exit_code;
	}
	printf("CPython %s\n", image->version_text);
	py_image_free(image);
	return PT_EXIT_DONE;
}

// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* SHA-256, against the examples of FIPS 180-2 and what sha256sum says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/sha256.h"

static void check(const char *text, size_t repeat, size_t piece, const char *expected)
{
	char hex[PT_SHA256_HEX];
	struct pt_sha256 sha;

	pt_sha256_begin(&sha);
	for (size_t i = 0; i < repeat; i++)
		for (size_t at = 0, len = strlen(text); at < len; at += piece)
			pt_sha256_add(&sha, text + at, len - at < piece ? len - at : piece);
	pt_sha256_end(&sha, hex);
	assert_string_equal(hex, expected);
}

static void test_examples(void **state)
{
	static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

	check("", 1, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check("abc", 1, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	for (size_t piece = 1; piece < sizeof(two); piece++)
		check(two, 1, piece,
		      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	check("aaaaaaaaaa", 100000, 7,
	      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	/* as long as a block, and as what is left for its length */
	check("a", 64, 1, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
	check("a", 55, 1, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
	check("a", 56, 1, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_examples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

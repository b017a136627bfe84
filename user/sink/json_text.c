// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/json_text.h"

const char pt_digit_pairs[201] = "00010203040506070809"
				 "10111213141516171819"
				 "20212223242526272829"
				 "30313233343536373839"
				 "40414243444546474849"
				 "50515253545556575859"
				 "60616263646566676869"
				 "70717273747576777879"
				 "80818283848586878889"
				 "90919293949596979899";

void pt_json_escape(struct pt_buf *buf, const char *text)
{
	const char *plain = text;

	for (;; text++) {
		unsigned char c = (unsigned char)*text;

		if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
			continue;
		pt_buf_add(buf, plain, (size_t)(text - plain));
		plain = text + 1;
		if (!c)
			return;
		if (c == '"' || c == '\\')
			pt_buf_printf(buf, "\\%c", c);
		else
			pt_buf_printf(buf, "\\u%04x", c);
	}
}

void pt_json_string(struct pt_buf *buf, const char *text)
{
	pt_buf_add(buf, "\"", 1);
	pt_json_escape(buf, text);
	pt_buf_add(buf, "\"", 1);
}

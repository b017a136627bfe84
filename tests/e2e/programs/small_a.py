# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
import small_b


def value(n):
    return small_b.double(n) + 1

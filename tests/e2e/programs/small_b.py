# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
def double(n):
    return 2 * n


TABLE = [double(x) for x in range(4)]

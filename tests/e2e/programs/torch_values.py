# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls take() with tensors of each element type and of many shapes, and with those of which no shape is to be
shown; returns what PyTorch itself says of each."""
import ctypes
import warnings

import torch

warnings.simplefilter("ignore")
EXPECTED = []


class Own(torch.Tensor):
    pass


def take(x):
    return x


def tell(x):
    EXPECTED.append("<%s %s %s>" % (type(x).__name__, str(x.dtype)[len("torch."):], tuple(x.shape)))
    take(x)


def tell_object(x):
    EXPECTED.append("<%s at 0x%x>" % (type(x).__name__, id(x)))
    take(x)


def dtypes():
    found = {d for d in vars(torch).values() if isinstance(d, torch.dtype)}
    return sorted((d for d in found if not str(d).startswith(("torch.q"))), key=str)


def impl_word(x, word):
    """Of the c10::TensorImpl behind a tensor."""
    holder = (ctypes.c_uint64 * 2).from_address(id(x) + 16)
    return ctypes.c_uint64.from_address((holder[0] or holder[1]) + 8 * word)


def damaged(x):
    """One whose back pointer is not its own, and one that says that it has more elements."""
    back, = [word for word in (impl_word(x, i) for i in range(6, 9)) if word.value & ~1 == id(x)]
    back.value ^= 0x1000
    tell_object(x)
    back.value ^= 0x1000
    numel, = [word for word in (impl_word(x, i) for i in range(18, 23)) if word.value == 1237]
    numel.value += 1
    tell_object(x)
    numel.value -= 1
    tell(x)


def workload():
    for dtype in dtypes():
        tell(torch.empty(2, dtype=dtype))
    for dims in range(9):
        tell(torch.zeros(tuple(range(1, dims + 1))))
    base = torch.zeros(3, 4)
    for x in (base.t(), base[:, ::2], base.expand(5, 3, 4), torch.zeros(0, 7), base.as_subclass(Own),
              torch.nn.Parameter(base), torch.zeros(2, 3, device="meta"), base[1][2]):
        tell(x)
    for x in (torch.zeros((1,) * 9), torch.eye(3).to_sparse(),
              torch.quantize_per_tensor(base, 0.1, 0, torch.qint8),
              torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])):
        tell_object(x)
    damaged(torch.zeros(1237))
    torch.vmap(lambda x: (tell_object(x), x)[1])(base)
    return EXPECTED

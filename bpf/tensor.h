/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * tensor.h - PyTorch's tensors among values: element type and lengths.
 *
 * No table of versions. A tensor's Python object points at its c10::TensorImpl, and that points
 * back at the object; where that is found, what comes next are the lengths, the offset into the
 * storage, how many elements there are and the element type (c10/core/TensorImpl.h). Seen so in
 * 1.13 and 2.14. It counts only if all of this holds:
 *
 *  - the object's class is, or is made from, torch's own TensorBase, which is a static type;
 *  - the back pointer is there;
 *  - the TensorImpl is one itself and none of the classes made from it (sparse, nested, quantized,
 *    functorch's ..), whose lengths may mean nothing: by their C++ type information, in which it
 *    has a class below it that has none;
 *  - it has nothing extra (names, symbolic lengths);
 *  - the product of the lengths is the number of elements.
 *
 * Any other tensor is an object like others, by type and address.
 */
#ifndef PT_BPF_TENSOR_H
#define PT_BPF_TENSOR_H

#include "runtime.h"

#define TYPE_IS_HEAP      (1u << 9) /* made by a class statement: Py_TPFLAGS_HEAPTYPE */
#define TYPE_BASE         256       /* PyTypeObject.tp_base, 3.8 to 3.15 */
#define TENSOR_BASES_MAX  8
/* THPVariable.cdata: the TensorImpl, or, up to 2.x, whether it is borrowed and then that
 * (torch/csrc/autograd/python_variable.h) */
#define TENSOR_IMPL       16
#define TENSOR_OWNED_IMPL 24
/* TensorImpl.pyobj_ is one of these words; bit 0: who owns whom */
#define TENSOR_PYOBJ      6
#define TENSOR_PYOBJ_LAST 8
/* behind it: SizesAndStrides with room for five of each, or a pointer to more */
#define TENSOR_INLINE_MAX 5
#define TENSOR_NUMEL      12 /* words behind the back pointer's next */
#define TENSOR_DTYPES     47 /* c10::ScalarType, in 2.14 */

/* Is a type PyTorch's, or made from it? */
static __always_inline bool type_is_tensor(__u64 type)
{
	__u64 name[3] = {};
	int i;

	for (i = 0; i < TENSOR_BASES_MAX && type; i++) {
		if (user_u64(type + TYPE_FLAGS) & TYPE_IS_HEAP) {
			type = user_u64(type + TYPE_BASE);
			continue;
		}
		bpf_probe_read_user_str(name, sizeof(name), (void *)user_u64(type + TYPE_NAME));
		/* "torch._C.TensorBase", up to 2.0 "torch._C._TensorBase" */
		return name[0] == 0x435f2e6863726f74ull &&
		       ((name[1] == 0x42726f736e65542eull && name[2] == 0x657361ull) ||
			(name[1] == 0x726f736e65545f2eull && name[2] == 0x65736142ull));
	}
	return false;
}

/* The C++ type information of an object is at vtable[-1]: its own type, the name, and, of a class
 * made from one other, that one's (Itanium C++ ABI, 2.9.5). Has the class just one below it? */
static __always_inline bool is_made_from_root(__u64 object)
{
	__u64 info = user_u64(user_u64(object) - 8), kind = user_u64(info);
	__u64 below = user_u64(info + 16);

	return kind && below && user_u64(below) && user_u64(below) != kind;
}

static __always_inline __u64 tensor_impl(__u64 obj)
{
	__u64 impl = user_u64(obj + TENSOR_IMPL);

	if (!impl)
		return user_u64(obj + TENSOR_OWNED_IMPL);
	return impl > 0xffff ? impl : 0;
}

/* Where the lengths are counted, or 0. */
static __always_inline __u64 tensor_sizes(__u64 obj, __u64 impl)
{
	__u64 words[TENSOR_PYOBJ_LAST - TENSOR_PYOBJ + 1] = {}, extra;
	int i, at = 0;

	if (bpf_probe_read_user(words, sizeof(words), (void *)(impl + 8 * TENSOR_PYOBJ)))
		return 0;
	for (i = 0; i <= TENSOR_PYOBJ_LAST - TENSOR_PYOBJ && !at; i++)
		if ((words[i] & ~1ull) == obj)
			at = TENSOR_PYOBJ + i;
	/* extra_meta_, behind the storage and autograd's; up to 2.0 two words count references */
	if (!at ||
	    bpf_probe_read_user(&extra, 8, (void *)(impl + (at == TENSOR_PYOBJ_LAST ? 40 : 32))) ||
	    extra)
		return 0;
	return impl + 8 * (at + 1);
}

/* Do the lengths fit the number of elements? */
static __always_inline bool tensor_fits(__u64 lengths, __u64 dims, __u64 numel)
{
	__u64 product = 1;
	__u32 i;

	for (i = 0; i < PT_VALUE_DIMS_MAX && i < dims; i++)
		product *= user_u64(lengths + 8 * i);
	return product == numel;
}

struct tensor {
	__u64 lengths; /* their address */
	__u32 dims, dtype;
};

/* What there is to say of a tensor. 0: it is none that is understood. */
static __always_inline bool tensor_find(struct tensor *tensor, __u64 obj, __u64 type)
{
	__u64 impl, sizes, dims;
	struct {
		__u64 numel;
		__u16 dtype;
	} kind;

	if (!type_is_tensor(type))
		return false;
	impl = tensor_impl(obj);
	if (!impl || impl & 7 || !is_made_from_root(impl))
		return false;
	sizes = tensor_sizes(obj, impl);
	if (!sizes || bpf_probe_read_user(&kind, 10, (void *)(sizes + 8 * TENSOR_NUMEL)))
		return false;
	dims = user_u64(sizes);
	if (dims > PT_VALUE_DIMS_MAX || kind.dtype >= TENSOR_DTYPES)
		return false;
	tensor->lengths = dims > TENSOR_INLINE_MAX ? user_u64(sizes + 8) : sizes + 8;
	tensor->dims = dims;
	tensor->dtype = kind.dtype;
	return tensor_fits(tensor->lengths, dims, kind.numel);
}

#endif /* PT_BPF_TENSOR_H */

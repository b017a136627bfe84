// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Stands in for libtorch_cpu: functions at::_ops::NAME::call that ask for a schema as PyTorch's do,
 * call each other, and end by returns and exceptions. Each notes by itself how deep it is.
 */
#include <stdexcept>

extern "C" {
int note_count, note_depth[4096];
const char *note_name[4096];
}

static int depth;

__attribute__((noinline)) static void note(const char *name)
{
	note_depth[note_count] = depth++;
	note_name[note_count++] = name;
}

__attribute__((noinline)) static long find_schema(const char *name, const char *overload)
{
	__asm__ volatile("" ::"r"(name), "r"(overload) : "memory");
	return *name + *overload;
}

struct Open {
	char room[40]; /* an array, for the stack protector */
	explicit Open(const char *name)
	{
		note(name);
		__asm__ volatile("" ::"r"(room) : "memory");
	}
	~Open()
	{
		__asm__ volatile("" ::"r"(room) : "memory");
		depth--;
	}
};

#define HANDLE(op, name, overload)                                                                 \
	__attribute__((noinline)) static long create_##op() { return find_schema(name, overload); }

HANDLE(add_Tensor, "aten::add", "Tensor")
HANDLE(mul, "aten::mul", "")
HANDLE(mul__Scalar, "aten::mul_", "Scalar")
HANDLE(fails_out, "aten::fails", "out")
HANDLE(passes, "aten::passes", "")
HANDLE(jumps, "aten::jumps", "")

namespace at
{
namespace _ops
{
struct mul {
	static long call(long n);
};
struct mul__Scalar {
	static long call(long n);
};
struct add_Tensor {
	static long call(long n);
};
struct fails_out {
	static long call(long n);
};
struct passes {
	static long call(long n);
};
struct other_name {
	static long call(long n);
};
struct jumps {
	static long call(long n);
};

__attribute__((noinline)) long mul::call(long n)
{
	static long handle = create_mul();
	Open open("aten::mul");

	return handle ? 2 * n : 1;
}

__attribute__((noinline)) long mul__Scalar::call(long n)
{
	static long handle = create_mul__Scalar();
	Open open("aten::mul_");

	/* two ways out */
	if (n & 1)
		return handle;
	return mul::call(n) + 1;
}

__attribute__((noinline)) long add_Tensor::call(long n)
{
	static long handle = create_add_Tensor();
	Open open("aten::add");

	return n > 0 ? add_Tensor::call(n - 1) + mul__Scalar::call(n) : handle;
}

__attribute__((noinline)) long fails_out::call(long n)
{
	static long handle = create_fails_out();
	Open open("aten::fails");

	if (mul::call(n) > -1000)
		throw std::runtime_error("it does");
	return handle;
}

/* An exception leaves it without running any of its code. */
__attribute__((noinline)) long passes::call(long n)
{
	long handle = create_passes(), value;

	note("aten::passes");
	value = fails_out::call(n) + handle;
	depth--;
	return value;
}

/* Its name is not made from its schema's. */
__attribute__((noinline)) long other_name::call(long n)
{
	static long handle = create_mul();
	Open open("at::_ops::other_name");

	return handle + n;
}

/* Ends by a jump to another function, if it is optimised. */
__attribute__((noinline)) long jumps::call(long n)
{
	create_jumps();
	return mul::call(n);
}
} // namespace _ops
} // namespace at

extern "C" long run(long n)
{
	long sum = at::_ops::add_Tensor::call(n), before = depth;

	for (int i = 0; i < 2; i++) {
		try {
			sum += i ? at::_ops::fails_out::call(n) : at::_ops::passes::call(n);
		} catch (const std::runtime_error &) {
			depth = (int)before;
		}
		sum += at::_ops::mul::call(n);
	}
	return sum + at::_ops::other_name::call(n);
}

/* For a library of its own: its note would be one of a call that is not recorded. */
extern "C" long run_jumps(long n)
{
	return at::_ops::jumps::call(n);
}

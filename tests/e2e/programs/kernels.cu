// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
// Kernels of all kinds. Launches each (without a GPU that fails, which does not matter), then prints
// "stub NAME ADDRESS" (relative to where the program is loaded) for those that it knows, and "word
// ADDRESS VALUE" for each address of its own that stands on the command line.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <link.h>

template <class T> __global__ void axpy(T a, const T *x, T *y, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		y[i] += a * x[i];
}

extern "C" __global__ void plain_kernel(int *p)
{
	*p = 1;
}

namespace deep
{
__global__ void scale(float *p, int n)
{
	if (n > 3)
		p[n] *= 2;
}
} // namespace deep

static __global__ void hidden(int *p)
{
	*p = 2;
}

namespace
{
__global__ void nameless(int *p)
{
	*p = 3;
}
} // namespace

__device__ int variable;
__constant__ float constant[4];

static int first_object(struct dl_phdr_info *info, size_t size, void *bias)
{
	*(uintptr_t *)bias = info->dlpi_addr;
	return 1;
}

int main(int argc, char **argv)
{
	uintptr_t bias = 0;

	axpy<float><<<1, 1>>>(1.f, nullptr, nullptr, 0);
	axpy<double><<<1, 1>>>(1., nullptr, nullptr, 0);
	plain_kernel<<<1, 1>>>(nullptr);
	deep::scale<<<1, 1>>>(nullptr, 1);
	hidden<<<1, 1>>>(nullptr);
	nameless<<<1, 1>>>(nullptr);
	dl_iterate_phdr(first_object, &bias);
	printf("bias %#lx\n", (unsigned long)bias);
	printf("stub axpy<float> %#lx\n", (unsigned long)((uintptr_t)axpy<float> - bias));
	printf("stub axpy<double> %#lx\n", (unsigned long)((uintptr_t)axpy<double> - bias));
	printf("stub plain_kernel %#lx\n", (unsigned long)((uintptr_t)plain_kernel - bias));
	printf("stub deep::scale %#lx\n", (unsigned long)((uintptr_t)deep::scale - bias));
	printf("stub hidden %#lx\n", (unsigned long)((uintptr_t)hidden - bias));
	printf("stub nameless %#lx\n", (unsigned long)((uintptr_t)nameless - bias));
	for (int i = 1; i < argc; i++) {
		uintptr_t at = strtoul(argv[i], nullptr, 16);

		printf("word %#lx %#lx\n", (unsigned long)at, *(unsigned long *)(bias + at));
	}
	return 0;
}

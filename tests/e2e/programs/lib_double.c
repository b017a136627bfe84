// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Stands in for libcublas and libcudnn: functions with their signatures, which launch kernels by
 * way of the double of libcudart (cuda_double.c). cuDNN's convolution calls cuBLAS.
 */
#include <stddef.h>

struct dim3 {
	unsigned int x, y, z;
};

int cudaLaunchKernel(const void *func, struct dim3 grid, struct dim3 block, void **args,
		     size_t shared_bytes, void *stream);

static int launch(void)
{
	struct dim3 one = {1, 1, 1};

	return cudaLaunchKernel((void *)launch, one, one, NULL, 0, NULL);
}

int cublasCreate_v2(void **handle)
{
	*handle = (void *)0x7700;
	return 0;
}

int cublasGetVersion_v2(void *handle, int *version)
{
	*version = 130100;
	return 0;
}

/* 7: CUBLAS_STATUS_INVALID_VALUE */
int cublasSgemm_v2(void *handle, int transa, int transb, int m, int n, int k, const float *alpha,
		   const float *a, int lda, const float *b, int ldb, const float *beta, float *c,
		   int ldc)
{
	return m < 0 ? 7 : launch();
}

int cublasDgemm_v2_64(void *handle, int transa, int transb, long m, long n, long k,
		      const double *alpha, const double *a, long lda, const double *b, long ldb,
		      const double *beta, double *c, long ldc)
{
	return launch();
}

int cudnnCreate(void **handle)
{
	*handle = (void *)0x8800;
	return 0;
}

int cudnnSetTensor4dDescriptor(void *desc, int format, int type, int n, int c, int h, int w)
{
	return n < 0 ? 2002 : 0;
}

int cudnnGetConvolutionForwardWorkspaceSize(void *handle, void *x, void *w, void *conv, void *y,
					    int algo, size_t *bytes)
{
	*bytes = 1 << 20;
	return 0;
}

int cudnnDropoutGetReserveSpaceSize(void *x, size_t *bytes)
{
	*bytes = 1 << 16;
	return 0;
}

int cudnnConvolutionForward(void *handle, const void *alpha, void *x_desc, const void *x,
			    void *w_desc, const void *w, void *conv, int algo, void *space,
			    size_t bytes, const void *beta, void *y_desc, void *y)
{
	launch();
	return cublasSgemm_v2((void *)0x7700, 0, 0, 1, 1, 1, NULL, NULL, 1, NULL, 1, NULL, NULL, 1);
}

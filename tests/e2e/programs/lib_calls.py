# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls functions of cuBLAS and cuDNN; CUDA_LIBS is lib_double.c, behind what it needs, or with the
argument "real" the two libraries. Notes each call: name, the code that it returned, how many calls of
its own the double made, and what the trace should say of it."""
import ctypes
import os

LIBS = [ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL) for path in os.environ["CUDA_LIBS"].split(":")]
NOTES = []


def call(lib, name, *args, made=0, shown=lambda code: {}):
    code = getattr(lib, name)(*args)
    NOTES.append([name, code, made, shown(code)])
    return code


def pointer(n):
    return ctypes.c_void_p(n)


def gemm(lib, m):
    handle, n = pointer(0x7700), ctypes.c_int
    call(lib, "cublasSgemm_v2", handle, n(0), n(1), n(m), n(20), n(30), pointer(0x10), pointer(0x20),
         n(40), pointer(0x30), n(50), pointer(0x40), pointer(0x50), n(60), made=int(m >= 0),
         shown=lambda code: {"handle": "0x7700", "transa": "CUBLAS_OP_N", "transb": "CUBLAS_OP_T",
                             "m": m, "n": 20, "k": 30, "lda": 40, "ldb": 50, "ldc": 60, "C": "0x50"})


def double(lib):
    out, version, size, n = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_size_t(), ctypes.c_int
    call(lib, "cublasCreate_v2", ctypes.byref(out), shown=lambda code: {"handle": "0x7700"})
    call(lib, "cublasGetVersion_v2", out, ctypes.byref(version),
         shown=lambda code: {"version": version.value})
    gemm(lib, 10)
    gemm(lib, -1)
    wide = ctypes.c_long
    call(lib, "cublasDgemm_v2_64", out, n(2), n(0), wide(1 << 33), wide(2), wide(3), None, None,
         wide(-4), None, wide(5), None, None, wide(6), made=1, shown=lambda code: {
             "transa": "CUBLAS_OP_C", "m": 1 << 33, "n": 2, "k": 3, "lda": -4, "ldc": 6})
    call(lib, "cudnnCreate", ctypes.byref(out), shown=lambda code: {"handle": "0x8800"})
    call(lib, "cudnnSetTensor4dDescriptor", out, n(1), n(2), n(-1), n(4), n(5), n(6),
         shown=lambda code: {"format": "CUDNN_TENSOR_NHWC", "dataType": "CUDNN_DATA_HALF",
                             "n": -1, "c": 4, "h": 5, "w": 6})
    call(lib, "cudnnGetConvolutionForwardWorkspaceSize", out, None, None, None, None, n(6),
         ctypes.byref(size), shown=lambda code: {"algo": "CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD"})
    call(lib, "cudnnDropoutGetReserveSpaceSize", out, ctypes.byref(size),
         shown=lambda code: {"sizeInBytes (bytes)": size.value})
    call(lib, "cudnnConvolutionForward", out, None, None, pointer(0x60), None, None, None, n(1),
         None, ctypes.c_size_t(77), None, None, pointer(0x70), made=2,
         shown=lambda code: {"x": "0x60", "y": "0x70", "workSpaceSizeInBytes (bytes)": 77})


def real(cublas, cudnn):
    """What needs no GPU, and what fails without one."""
    out, number, kind, n = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int
    call(cublas, "cublasGetProperty", n(0), ctypes.byref(number),
         shown=lambda code: {"type": "MAJOR_VERSION", "value": number.value})
    call(cublas, "cublasCreate_v2", ctypes.byref(out))
    call(cublas, "cublasGetMathMode", None, ctypes.byref(number))
    call(cudnn, "cudnnCreateTensorDescriptor", ctypes.byref(out),
         shown=lambda code: {"tensorDesc": hex(out.value)} if not code else {})
    call(cudnn, "cudnnSetTensor4dDescriptor", out, n(0), n(0), n(1), n(2), n(3), n(4),
         shown=lambda code: {"format": "CUDNN_TENSOR_NCHW", "dataType": "CUDNN_DATA_FLOAT", "w": 4})
    call(cudnn, "cudnnGetTensor4dDescriptor", out, ctypes.byref(kind), *[ctypes.byref(number)] * 8)
    call(cudnn, "cudnnDestroyTensorDescriptor", out)


def workload(kind="double"):
    if kind == "real":
        real(*LIBS)
    else:
        double(LIBS[-1])
    return {"calls": NOTES}

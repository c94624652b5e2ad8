// OpenCL's C interface, and the kernel sources of `Kernels/` as text inside the program.
#pragma once

// Swift reads this header without the target's own settings, so the version is stated here too.
#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>
#include <CL/cl_ext.h>

#ifdef __cplusplus
extern "C" {
#endif

// The text of a file of `Kernels/` ("common/params.h", "cpu/gemm.cl"); NULL if there is none of that name.
const char *_Nullable graft_kernel_source(const char *_Nonnull path);

// How many files are embedded, and the path of each; NULL past the last.
int graft_kernel_source_count(void);
const char *_Nullable graft_kernel_source_path(int index);

#ifdef __cplusplus
}
#endif

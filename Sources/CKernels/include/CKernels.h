// The CPU family of kernels compiled natively, and the pool of threads that runs it.
#ifndef GRAFT_CKERNELS_H
#define GRAFT_CKERNELS_H
#include <stddef.h>
#include <stdint.h>
#include "../../../Kernels/common/params.h"

/// One work-item of a kernel: its buffers in order, its parameter structure, its place in the grid.
typedef void (*graft_kernel_function)(void *const *buffers, const void *parameters, int x, int y, int z);

/// An instruction set the family was compiled for.
typedef enum { GRAFT_ISA_BASELINE = 0, GRAFT_ISA_AVX2 = 1, GRAFT_ISA_AVX512 = 2, GRAFT_ISA_AVX512BF16 = 3 } graft_isa;

/// Whether this build holds the instruction set's kernels and this processor can run them.
int graft_isa_supported(graft_isa isa);
/// "avx512bf16", "avx512", "avx2", "neon", "portable".
const char *graft_isa_name(graft_isa isa);
/// Floats in a vector of that instruction set's kernels.
int graft_isa_vector_width(graft_isa isa);
/// Vectors in a full panel of packed weights.
int graft_isa_panel_vectors(graft_isa isa);
/// The kernel of that name for values stored as GRAFT_FLOAT32, GRAFT_BFLOAT16 or GRAFT_FLOAT16, or NULL.
graft_kernel_function graft_kernel_find(graft_isa isa, int storage, const char *name);

/// A launch whose kernel and buffers are resolved.
typedef struct {
  graft_kernel_function function;
  void *const *buffers;
  const void *parameters;
  int x, y, z;
} graft_launch;

/// Processors this process may run on (its affinity mask), or 0 if the system does not say.
int graft_available_cores(void);

/// Bytes of the last-level caches that the processors this process may run on share, all of them together; 0 if the system
/// does not say.
long long graft_last_cache_bytes(void);

typedef struct graft_pool graft_pool;

/// A pool that computes with `threads` threads, the caller's among them; NULL when there is no memory or no thread to be had.
graft_pool *graft_pool_create(int threads);
void graft_pool_destroy(graft_pool *pool);
/// Runs launches one after another, the work-items of each spread over the threads; returns when all are done.
/// One caller at a time. `seconds`, unless NULL, receives the time each launch took.
void graft_pool_run(graft_pool *pool, const graft_launch *launches, size_t count, double *seconds);

#endif

// Which instruction sets there are, which this processor runs, and their kernels by name.
#include "CKernels.h"

graft_kernel_function graft_baseline_find(const char *name);
#if defined(__x86_64__)
graft_kernel_function graft_avx2_find(const char *name);
graft_kernel_function graft_avx512_find(const char *name);
#endif

int graft_isa_supported(graft_isa isa) {
  switch (isa) {
  case GRAFT_ISA_BASELINE: return 1;
#if defined(__x86_64__)
  case GRAFT_ISA_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  case GRAFT_ISA_AVX512:
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#endif
  default: return 0;
  }
}

const char *graft_isa_name(graft_isa isa) {
  switch (isa) {
  case GRAFT_ISA_AVX512: return "avx512";
  case GRAFT_ISA_AVX2: return "avx2";
#if defined(__aarch64__)
  default: return "neon";
#else
  default: return "portable";
#endif
  }
}

int graft_isa_vector_width(graft_isa isa) { return isa == GRAFT_ISA_AVX512 ? 16 : isa == GRAFT_ISA_AVX2 ? 8 : 4; }

int graft_isa_panel_vectors(graft_isa isa) {
#if defined(__aarch64__)
  return 4;
#else
  return isa == GRAFT_ISA_AVX512 ? 4 : 2;
#endif
}

graft_kernel_function graft_kernel_find(graft_isa isa, const char *name) {
  switch (isa) {
#if defined(__x86_64__)
  case GRAFT_ISA_AVX2: return graft_avx2_find(name);
  case GRAFT_ISA_AVX512: return graft_avx512_find(name);
#endif
  default: return graft_baseline_find(name);
  }
}

// Which instruction sets there are, which this processor runs, and their kernels by name.
#include "CKernels.h"

#define DECLARE(isa)                                                    \
  graft_kernel_function graft_##isa##_float32_find(const char *name);   \
  graft_kernel_function graft_##isa##_bfloat16_find(const char *name);  \
  graft_kernel_function graft_##isa##_float16_find(const char *name);
DECLARE(baseline)
#if defined(__x86_64__)
DECLARE(avx2)
DECLARE(avx512)
graft_kernel_function graft_avx512bf16_bfloat16_find(const char *name);
#endif

int graft_isa_supported(graft_isa isa) {
  switch (isa) {
  case GRAFT_ISA_BASELINE: return 1;
#if defined(__x86_64__)
  case GRAFT_ISA_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  case GRAFT_ISA_AVX512BF16: return graft_isa_supported(GRAFT_ISA_AVX512) && __builtin_cpu_supports("avx512bf16");
  case GRAFT_ISA_AVX512:
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#endif
  default: return 0;
  }
}

const char *graft_isa_name(graft_isa isa) {
  switch (isa) {
  case GRAFT_ISA_AVX512BF16: return "avx512bf16";
  case GRAFT_ISA_AVX512: return "avx512";
  case GRAFT_ISA_AVX2: return "avx2";
#if defined(__aarch64__)
  default: return "neon";
#else
  default: return "portable";
#endif
  }
}

int graft_isa_vector_width(graft_isa isa) { return isa >= GRAFT_ISA_AVX512 ? 16 : isa == GRAFT_ISA_AVX2 ? 8 : 4; }

int graft_isa_panel_vectors(graft_isa isa) {
#if defined(__aarch64__)
  return 4;
#else
  return isa >= GRAFT_ISA_AVX512 ? 4 : 2;
#endif
}

#define FIND(isa, storage, name)                                           \
  ((storage) == GRAFT_BFLOAT16  ? graft_##isa##_bfloat16_find(name)        \
   : (storage) == GRAFT_FLOAT16 ? graft_##isa##_float16_find(name)         \
                                : graft_##isa##_float32_find(name))

graft_kernel_function graft_kernel_find(graft_isa isa, int storage, const char *name) {
  switch (isa) {
#if defined(__x86_64__)
  case GRAFT_ISA_AVX2: return FIND(avx2, storage, name);
  case GRAFT_ISA_AVX512: return FIND(avx512, storage, name);
  // The other formats have nothing to gain from it.
  case GRAFT_ISA_AVX512BF16: return storage == GRAFT_BFLOAT16 ? graft_avx512bf16_bfloat16_find(name) : FIND(avx512, storage, name);
#endif
  default: return FIND(baseline, storage, name);
  }
}

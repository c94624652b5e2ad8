#define GRAFT_ISA_PREFIX graft_avx512bf16_bfloat16_
#define GRAFT_STORAGE GRAFT_BFLOAT16
#include "isa_avx512bf16.inc"

#define GRAFT_ISA_PREFIX graft_avx512_float32_
#define GRAFT_STORAGE GRAFT_FLOAT32
#include "isa_avx512.inc"

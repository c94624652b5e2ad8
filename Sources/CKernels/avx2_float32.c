#define GRAFT_ISA_PREFIX graft_avx2_float32_
#define GRAFT_STORAGE GRAFT_FLOAT32
#include "isa_avx2.inc"

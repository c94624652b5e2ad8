#define GRAFT_ISA_PREFIX graft_baseline_bfloat16_
#define GRAFT_STORAGE GRAFT_BFLOAT16
#include "isa_baseline.inc"

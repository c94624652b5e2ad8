// The CPU family for what the compiler targets without being told: SSE2 on x86-64, NEON (32 registers) on ARM.
#define VW 4
#if defined(__aarch64__)
#define PANEL_VECTORS 4
#endif
#define GRAFT_ISA_PREFIX graft_baseline_
#include "family.inc"

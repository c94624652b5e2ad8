// Weights into the CPU family's panels (tile.h) from any strided source: [o, c, kh, kw] weights, or a matrix [k, n].
//
//     source element (batch b, group g, output o, input c, tap t) at
//         b strideBatch + g strideGroup + o strideO + c strideC + t strideTap
//     packed element at  (b groups + g) K O + K q PANEL + (t rows + c) width_q + o - q PANEL,
//         rows = TAP_ROWS(c_count),  K = taps rows,
//         O = oc rounded up to whole vectors,  q = o / PANEL,  width_q = min(PANEL, O - q PANEL)
//     and where two k are multiplied at once (DOT_PAIRS), pairs of c beside each other:  … (t rows + c - c % 2) width_q + 2 (o - q PANEL) + c % 2
//
// The source is float32 whatever the packed weights are. Work-items: x panels, y groups, z matrices of the batch.
#include "cpu/tile.h"

#ifdef DOT_PAIRS
#define PACK_STEP 2
#else
#define PACK_STEP 1
#endif

KERNEL2(pack, GLOBAL const float *source, GLOBAL element *packed, GraftPackParams) {
  int rounded = (p.oc + VW - 1) / VW * VW, k = p.taps * TAP_ROWS(p.c);
  int first = ITEM_X * PANEL, width = min(PANEL, rounded - first);
  GLOBAL const float *from = source + (size_t)ITEM_Z * p.strideBatch + (size_t)ITEM_Y * p.strideGroup;
  GLOBAL element *to = packed + ((size_t)ITEM_Z * p.groups + ITEM_Y) * k * rounded + (size_t)k * first;
  for (int tap = 0; tap < p.taps; ++tap)
    for (int c = 0; c < TAP_ROWS(p.c); c += PACK_STEP, to += PACK_STEP * width) {
      float line[PACK_STEP * PANEL];
      for (int o = 0; o < width; ++o)
        for (int s = 0; s < PACK_STEP; ++s)
          line[o * PACK_STEP + s] =
              first + o < p.oc && c + s < p.c ? from[(size_t)(first + o) * p.strideO + (size_t)(c + s) * p.strideC + (size_t)tap * p.strideTap] : 0.0f;
      for (int i = 0; i < PACK_STEP * width; i += VW) STOREE(LOADV_PRIVATE(line + i), to + i);
    }
}

// Depthwise weights [c, 1, kh, kw] as [taps, c rounded up to whole vectors], in float32. Work-items: x taps.
KERNEL2(pack_depthwise, GLOBAL const float *source, GLOBAL float *packed, GraftPackParams) {
  int rounded = (p.oc + VW - 1) / VW * VW, tap = ITEM_X;
  for (int o = 0; o < rounded; ++o) packed[(size_t)tap * rounded + o] = o < p.oc ? source[(size_t)o * p.strideO + (size_t)tap * p.strideTap] : 0.0f;
}

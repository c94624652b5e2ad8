// Weights into the CPU family's panels (tile.h) from any strided source: [o, c, kh, kw] weights, or a matrix [k, n].
//
//     source element (batch b, group g, output o, input c, tap t) at
//         b strideBatch + g strideGroup + o strideO + c strideC + t strideTap
//     packed element at  (b groups + g) K O + K q PANEL + (t c_count + c) width_q + o - q PANEL,
//         K = taps c_count,  O = oc rounded up to whole vectors,  q = o / PANEL,  width_q = min(PANEL, O - q PANEL)
//
// Work-items: x panels, y groups, z matrices of the batch.
#include "cpu/tile.h"

KERNEL2(pack, GLOBAL const float *source, GLOBAL float *packed, GraftPackParams) {
  int rounded = (p.oc + VW - 1) / VW * VW, k = p.taps * p.c;
  int first = ITEM_X * PANEL, width = min(PANEL, rounded - first);
  GLOBAL const float *from = source + (size_t)ITEM_Z * p.strideBatch + (size_t)ITEM_Y * p.strideGroup;
  GLOBAL float *to = packed + ((size_t)ITEM_Z * p.groups + ITEM_Y) * k * rounded + (size_t)k * first;
  for (int tap = 0; tap < p.taps; ++tap)
    for (int c = 0; c < p.c; ++c, to += width)
      for (int o = 0; o < width; ++o)
        to[o] = first + o < p.oc ? from[(size_t)(first + o) * p.strideO + (size_t)c * p.strideC + (size_t)tap * p.strideTap] : 0.0f;
}

// Depthwise weights [c, 1, kh, kw] as [taps, c rounded up to whole vectors]. Work-items: x taps.
KERNEL2(pack_depthwise, GLOBAL const float *source, GLOBAL float *packed, GraftPackParams) {
  int rounded = (p.oc + VW - 1) / VW * VW, tap = ITEM_X;
  for (int o = 0; o < rounded; ++o) packed[(size_t)tap * rounded + o] = o < p.oc ? source[(size_t)o * p.strideO + (size_t)tap * p.strideTap] : 0.0f;
}

// Convolution weights from any strided source into the GPU family's order: columns of a matrix [k, outputs], so that a block's
// rows are read as whole vectors, with zeros up to a multiple of 4 outputs.
//
//     source element (group g, output o, input c, tap t) at  g strideGroup + o strideO + c strideC + t strideTap
//     packed element at  (g K + t C + c) O + o,   K = taps C,   O = oc rounded up to a multiple of 4
//
// Depthwise weights are the case of one group and one input channel: [taps, O]. Work-items: packed elements.
#include "gpu/element.h"

// Sources are float32, whatever what is packed is (depthwise weights: a program of float32).
__kernel void pack(__global const float *source, __global element *packed, const GraftPackParams p) {
  size_t outputs = ((size_t)p.oc + 3) / 4 * 4, rows = (size_t)p.taps * p.c, index = get_global_id(0);
  if (index >= p.groups * rows * outputs) return;
  size_t line = index / outputs, o = index - line * outputs, group = line / rows, row = line - group * rows;
  size_t tap = row / p.c, c = row - tap * p.c;
  packed[index] = o < (size_t)p.oc ? narrow(source[group * p.strideGroup + o * p.strideO + c * p.strideC + tap * p.strideTap]) : 0;
}

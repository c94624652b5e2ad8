// Squares of VW by VW values, transposed in registers: each pass rotates the bits of (row, column) by one.
#ifndef GRAFT_CPU_SQUARE_H
#define GRAFT_CPU_SQUARE_H
#include "cpu/element.h"

#define TRANSPOSE_SQUARE(name, VECTOR)                \
  INLINE void name(VECTOR *rows) {                    \
    _Pragma("unroll") for (int pass = 1; pass < VW; pass *= 2) { \
      VECTOR mixed[VW];                               \
      _Pragma("unroll") for (int i = 0; i < VW / 2; ++i) { \
        mixed[2 * i].even = rows[i].lo;               \
        mixed[2 * i].odd = rows[i + VW / 2].lo;       \
        mixed[2 * i + 1].even = rows[i].hi;           \
        mixed[2 * i + 1].odd = rows[i + VW / 2].hi;   \
      }                                               \
      _Pragma("unroll") for (int i = 0; i < VW; ++i) rows[i] = mixed[i]; \
    }                                                 \
  }

TRANSPOSE_SQUARE(transpose_square, floatv)
#if GRAFT_STORAGE != GRAFT_FLOAT32
TRANSPOSE_SQUARE(transpose_bits_square, ushortv)
#endif

#endif

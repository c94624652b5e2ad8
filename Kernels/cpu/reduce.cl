// Reductions over a middle dimension. Sums have a fixed order: elements in turn, then a vector's halves.
#include "cpu/math.h"

// y[outer, inner] = reduction over length of x[outer, length, inner]. Work-items: x outer, y blocks of REDUCE_INNER.
#define REDUCE_INNER 256
KERNEL2(reduce, GLOBAL const element *x, GLOBAL element *y, GraftReduceParams) {
  GLOBAL const element *from = x + (size_t)ITEM_X * p.length * p.ldx;
  GLOBAL element *to = y + (size_t)ITEM_X * p.ldy;
  float scale = p.operation == GRAFT_REDUCE_MEAN ? 1.0f / p.length : 1.0f;
  if (p.inner == 1 && p.ldx == 1) {
    // One long row: vectors along it.
    bool maximum = p.operation == GRAFT_REDUCE_MAXIMUM;
    floatv value = SPLAT(maximum ? -INFINITY : 0.0f);
    int i = 0;
    for (; i + VW <= p.length; i += VW) value = maximum ? MAXV(value, LOADE(from + i)) : value + LOADE(from + i);
    float result = maximum ? maximum_of(value) : sum_of(value);
    for (; i < p.length; ++i) {
      float next = element_at(from + i);
      result = maximum ? (next > result ? next : result) : result + next;
    }
    element_put(result * scale, to);
    return;
  }
  int firstInner = ITEM_Y * REDUCE_INNER, endInner = min(firstInner + REDUCE_INNER, p.inner);
  for (int c = firstInner; c < endInner; c += VW) {
    int count = min(VW, endInner - c);
    floatv value = SPLAT(p.operation == GRAFT_REDUCE_MAXIMUM ? -INFINITY : 0.0f);
    for (int i = 0; i < p.length; ++i) {
      floatv next = load_part(from + (size_t)i * p.ldx + c, count);
      value = p.operation == GRAFT_REDUCE_MAXIMUM ? MAXV(value, next) : value + next;
    }
    store_part(value * SPLAT(scale), to + c, count);
  }
}

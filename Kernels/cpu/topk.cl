// The k greatest of each row, in descending order; of equal ones that with the lower index first, and NaN before everything.
//
//     y[row, 0, j] = the j-th value,  y[row, 1, j] = its index, as a float        x: [rows, columns], y: [rows, 2, k] float32
//
// The k best so far form a heap in y itself, the last of them at its root (columns log k steps a row); taking the root away
// again and again leaves them in order. After: Floyd, "Algorithm 245: Treesort" (1964). Work-items: rows.
#include "cpu/element.h"

// Whether a at index i comes before b at index j.
INLINE bool top_k_before(float a, float i, float b, float j) {
  if (a != a || b != b) return a != a && (b == b || i < j);
  return a > b || (a == b && i < j);
}

// Puts (value, index) at `at` of a heap of n, or below, whose root every other comes before.
INLINE void top_k_sift(GLOBAL float *values, GLOBAL float *indices, int n, int at, float value, float index) {
  for (int child = 2 * at + 1; child < n; child = 2 * at + 1) {
    if (child + 1 < n && top_k_before(values[child], indices[child], values[child + 1], indices[child + 1])) ++child;
    if (top_k_before(values[child], indices[child], value, index)) break;
    values[at] = values[child];
    indices[at] = indices[child];
    at = child;
  }
  values[at] = value;
  indices[at] = index;
}

KERNEL2(top_k, GLOBAL const element *x, GLOBAL float *y, GraftTopKParams) {
  GLOBAL const element *from = x + (size_t)ITEM_X * p.columns;
  GLOBAL float *values = y + (size_t)ITEM_X * 2 * p.count, *indices = values + p.count;
  int k = p.count;
  for (int i = 0; i < k; ++i) {
    values[i] = element_at(from + i);
    indices[i] = (float)i;
  }
  for (int i = k / 2 - 1; i >= 0; --i) top_k_sift(values, indices, k, i, values[i], indices[i]);
  for (int i = k; i < p.columns; ++i) {
    float value = element_at(from + i);
    if (top_k_before(value, (float)i, values[0], indices[0])) top_k_sift(values, indices, k, 0, value, (float)i);
  }
  for (int n = k - 1; n > 0; --n) {
    float value = values[n], index = indices[n];
    values[n] = values[0];
    indices[n] = indices[0];
    top_k_sift(values, indices, n, 0, value, index);
  }
}

// dx[row, index[row, j]] = dy[row, 0, j], and zeros elsewhere. Work-items: rows.
KERNEL3(top_k_gradient, GLOBAL const float *y, GLOBAL const float *dy, GLOBAL float *dx, GraftTopKParams) {
  GLOBAL const float *indices = y + (size_t)ITEM_X * 2 * p.count + p.count, *from = dy + (size_t)ITEM_X * 2 * p.count;
  GLOBAL float *to = dx + (size_t)ITEM_X * p.columns;
  for (int i = 0; i < p.columns; ++i) to[i] = 0.0f;
  for (int j = 0; j < p.count; ++j) {
    int column = (int)indices[j];
    if (column >= 0 && column < p.columns) to[column] = from[j];
  }
}

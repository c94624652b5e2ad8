// How a product's blocks and shares of k are dealt to work-groups: common to the plain kernels and those on matrix units.
// Needs TILE_K.
#ifndef GRAFT_GPU_BLOCKS_H
#define GRAFT_GPU_BLOCKS_H

#ifndef SWIZZLE
#define SWIZZLE 8  // block rows walked together, so that the groups running at once share blocks of B as well as of A
#endif

// Which block a work-group computes: block rows in bands of SWIZZLE, down each band's columns first.
static inline int2 block_of(uint index, uint rows, uint columns) {
  uint band = index / (SWIZZLE * columns), first = band * SWIZZLE, height = min(rows - first, (uint)SWIZZLE);
  uint rest = index - first * columns;
  return (int2)((int)(first + rest % height), (int)(rest / height));
}

// The share of k that split `index` of `count` sums: whole blocks, so that vectors stay aligned.
static inline int split_start(int k, uint index, uint count) {
  uint blocks = ((uint)k + TILE_K - 1) / TILE_K, share = (blocks + count - 1) / count;
  return (int)min((uint)k, index * share * TILE_K);
}

#endif

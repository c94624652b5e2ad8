// How a product's blocks and shares of k are dealt to work-groups: common to the plain kernels and those on matrix units.
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

// Terms that a share of k is a multiple of: a multiple of every TILE_K, so that where shares begin, and with it every bit of the
// sums, does not depend on the tile, which is chosen by the batch.
#define SPLIT_UNIT 32

// The share of k that split `index` of `count` sums: whole blocks, so that vectors stay aligned.
static inline int split_start(int k, uint index, uint count) {
  uint units = ((uint)k + SPLIT_UNIT - 1) / SPLIT_UNIT, share = (units + count - 1) / count;
  return (int)min((uint)k, index * share * SPLIT_UNIT);
}

// What this work-group computes, of `count` products of rows × columns with sums of k terms: the block that begins at firstRow and
// firstColumn of product `number`, its terms from firstK to endK, the split's share. Work-groups: one dimension,
//
//     index = slice (blocks of a product) + block,   slice = split count + number;   how many splits there are the grid says
#define GROUP_PART(rows, columns, k, number, count)                                                                      \
  const uint blockRows = ((uint)(rows) + TILE_M - 1) / TILE_M, blockColumns = ((uint)(columns) + TILE_N - 1) / TILE_N;   \
  const uint blocks = blockRows * blockColumns, slice = (uint)get_group_id(0) / blocks, split = slice / (uint)(count);   \
  const uint number = slice - split * (uint)(count), splits = (uint)get_num_groups(0) / (blocks * (uint)(count));        \
  const int2 block = block_of((uint)get_group_id(0) - slice * blocks, blockRows, blockColumns);                          \
  const int firstRow = block.x * TILE_M, firstColumn = block.y * TILE_N;                                                 \
  const int firstK = split_start(k, split, splits), endK = split_start(k, split + 1, splits);

#endif

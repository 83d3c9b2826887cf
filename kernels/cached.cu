// Attention of single query rows over the paged key/value cache.
//
//   out[n,h,c]: row n of q[n,h,c] attends to the last `window` of the views[n].length positions whose blocks of 16 are
//   blocks[views[n].offset..]; keys and values [blocks,g,16,c]. views[n,2]: length, offset. tiles[., 2]: first row, count of rows.
//
// Who owns what: a block owns up to 16 pairs of (row, query head) of one key/value head: consecutive rows of a tile see prefixes of the
// last one's blocks, each its own length, so that a prompt reads the cache once for many rows, and the query heads of a group share what is read.
// Numerics: attend.cuh; the bits of `attention` on the whole sequence, and independent of how rows fall into tiles.
// Determinism: no atomics, no split of the positions.
// Source: Kwon et al. 2023 (paged attention); grouped heads as rows of one tile as in FlashDecoding (Dao et al. 2023).
// Budget: float 128 registers, 47 KiB of shared memory at 128 channels.
#include "prelude.cuh"
#include "attend.cuh"

#ifdef NUM_F32

KERNEL(256, attention_cached)
(num* out, const num* q, const num* keys, const num* values, const uint32_t* blocks, const uint32_t* views, const uint32_t* tiles, int h, int g, int c,
 size window) {
  DYNAMIC_SHARED(float, shared);
  int head = blockIdx.y, group = h / g;
  size first = tiles[2 * (size)blockIdx.x], count = tiles[2 * (size)blockIdx.x + 1];
  // Pairs of this block: pair p is query head p % group of the group and row p / group of the tile.
  int base = blockIdx.z * 16, pairs = (int)count * group - base < 16 ? (int)count * group - base : 16;
  if (pairs <= 0) return;
  const uint32_t* table = blocks + views[2 * (first + count - 1) + 1];
  auto row = [&](int p) { return first + (base + p) / group; };
  auto offset = [&](int p) { return (row(p) * h + head * group + (base + p) % group) * c; };
  auto query = [&](int p) { return p < pairs ? q + offset(p) : (const num*)nullptr; };
  auto key = [&](size j) { return keys + (((size)table[j / BLOCK] * g + head) * BLOCK + j % BLOCK) * c; };
  auto value = [&](size j) { return values + (((size)table[j / BLOCK] * g + head) * BLOCK + j % BLOCK) * c; };
  auto seen = [&](int p) {
    size length = p < pairs ? views[2 * row(p)] : 0;
    return Seen{length > window ? length - window : 0, length};
  };
  Rows<1> rows;
  attend<1>(rows, shared, query, key, value, seen, seen(0).start, seen(pairs - 1).end, c);
  int p = threadIdx.x / 16;
  if (p < pairs) store_row(out + offset(p), rows.out[0], 1.0f / rows.sum[0], c);
}
REGISTER(attention_cached)

#endif

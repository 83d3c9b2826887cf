// Writing to the paged key/value cache, and copying blocks of it.
//
//   cache_write: row r of k, v [n,g,c] goes to slot slots[r] = block * 16 + position within it;
//     keys, values [blocks,g,16,c].
//   cache_copy_blocks: block pairs[., 1] over block pairs[., 0], in the order of the pairs.
//
// Who owns what: a thread one number of a row; a thread 16 bytes of every block, so that pairs
// happen in order without barriers.
// Numerics: bits are moved. Determinism: two rows with one slot are a caller's bug.
// Budget of *: 32 registers
#include "prelude.cuh"
#include "attend.cuh"

KERNEL(256, cache_write)(num* keys, num* values, const num* k, const num* v, const uint32_t* slots,
                         size n, int g, int c) {
  size at = (size)blockIdx.x * 256 + threadIdx.x;
  if (at >= n * g * c) return;
  size row = at / (g * c);
  int head = (int)(at % (g * c)) / c, channel = (int)(at % c);
  size slot = slots[row], to = ((slot / BLOCK * g + head) * BLOCK + slot % BLOCK) * c + channel;
  keys[to] = k[at];
  values[to] = v[at];
}
REGISTER(cache_write)

KERNEL(256, cache_copy_blocks)(num* keys, num* values, const uint32_t* pairs, size count, int g,
                               int c) {
  // 16 positions are a whole number of 16-byte units in both types.
  size units = (size)BLOCK * g * c * (size)sizeof(num) / 16,
       at = (size)blockIdx.x * 256 + threadIdx.x;
  if (at >= units) return;
  for (size pair = 0; pair < count; pair++) {
    size to = pairs[2 * pair] * units + at, from = pairs[2 * pair + 1] * units + at;
    ((uint4*)keys)[to] = ((const uint4*)keys)[from];
    ((uint4*)values)[to] = ((const uint4*)values)[from];
  }
}
REGISTER(cache_copy_blocks)

// Softmax attention within packed sequences, forward.
//
//   out[n,h,c] = softmax(q k^T / sqrt(c)) v over the positions of its sequence that a row sees; lse[n,h], float: the log of the denominator.
//   q, out [n,h,c]; k, v [n,g,c]; query head i reads key/value head i / (h/g). tiles[., 3]: first row of the sequence, its length, first position.
//
// Who owns what: a block owns 64 query rows of one head of one sequence (grid: tiles, heads); keys that no row of it sees are skipped.
// Numerics: attend.cuh. A row's bits depend on its own query and on what it sees; they are those of attention_cached.
// Determinism: no atomics; the order of every sum is that of positions. No buffer grows with the square of the length.
// Source: Dao 2023 (FlashAttention-2), algorithm 1.
// Budget: float 128 registers, 84 KiB of shared memory at 128 channels.
#include "prelude.cuh"
#include "attend.cuh"

#ifdef NUM_F32

KERNEL(256, attention)
(num* out, float* lse, const num* q, const num* k, const num* v, const uint32_t* tiles, int h, int g, int c, int causal, size window) {
  DYNAMIC_SHARED(float, shared);
  const int R = 4;
  Tile tile = tile_of(tiles);
  int head = blockIdx.y, group = head / (h / g);
  size last = tile.first + 16 * R < tile.length ? tile.first + 16 * R - 1 : tile.length - 1;
  auto query = [&](int r) { return tile.first + r < tile.length ? q + ((tile.start + tile.first + r) * h + head) * c : (const num*)nullptr; };
  auto key = [&](size j) { return k + ((tile.start + j) * g + group) * c; };
  auto value = [&](size j) { return v + ((tile.start + j) * g + group) * c; };
  auto seen = [&](int r) { return sees(tile.first + r, tile.length, causal, window); };
  Rows<R> rows;
  attend<R>(rows, shared, query, key, value, seen, seen(0).start, sees(last, tile.length, causal, window).end, c);
#pragma unroll
  for (int r = 0; r < R; r++) {
    size position = tile.first + threadIdx.x / 16 * R + r;
    if (position >= tile.length) continue;
    size row = (tile.start + position) * h + head;
    store_row(out + row * c, rows.out[r], 1.0f / rows.sum[r], c);
    if (threadIdx.x % 16 == 0) lse[row] = rows.max[r] + logarithm(rows.sum[r]);
  }
}
REGISTER(attention)

#endif

// Attention of single query rows over the paged key/value cache.
//
//   out[n,h,c]: row n of q[n,h,c] attends to the last `window` of the views[n].length positions
//     whose blocks of 16 are
//   blocks[views[n].offset..]; keys and values [blocks,g,16,c]. views[n,2]: length, offset.
//     tiles[., 2]: first row, count of rows.
//
// Who owns what: a block owns up to 16 pairs of (row, query head) of one key/value head:
// consecutive rows of a tile see prefixes of the last one's blocks, each its own length, so that a
// prompt reads the cache once for many rows, and the query heads of a group share what is read.
// Numerics: attend.cuh; the bits of `attention` on the whole sequence, and independent of how rows
// fall into tiles.
// Determinism: no atomics, no split of the positions.
// Source: Kwon et al. 2023 (paged attention); grouped heads as rows of one tile as in FlashDecoding
// (Dao et al. 2023).
// Three blocks a multiprocessor at 128 and more channels in bf16.
// Budget of *_f32: 72 registers, 46 KiB dynamic
// Budget of *_wide_f32: 72 registers, 86 KiB dynamic
// Budget of *_c32_bf16: 64 registers, 2 KiB static, 19 KiB dynamic
// Budget of *_c64_bf16: 72 registers, 2 KiB static, 36 KiB dynamic
// Budget of *_c96_bf16: 64 registers, 2 KiB static, 53 KiB dynamic
// Budget of *_c128_bf16: 96 registers, 2 KiB static, 70 KiB dynamic
// Budget of *_c192_bf16: 80 registers, 2 KiB static, 56 KiB dynamic
// Budget of *_c256_bf16: 168 registers, 2 KiB static, 74 KiB dynamic
#include "prelude.cuh"
#include "attend.cuh"

#ifdef NUM_F32

template <int Q>
DEVICE void attention(num* out, const num* q, const num* keys, const num* values,
                      const uint32_t* blocks, const uint32_t* views, const uint32_t* tiles, int h,
                      int g, int c, size window) {
  DYNAMIC_SHARED(float, shared);
  int head = blockIdx.y, group = h / g;
  size first = tiles[2 * (size)blockIdx.x], count = tiles[2 * (size)blockIdx.x + 1];
  // Pairs of this block: pair p is query head p % group of the group and row p / group of the tile.
  int base = blockIdx.z * 16,
      pairs = (int)count * group - base < 16 ? (int)count * group - base : 16;
  if (pairs <= 0) return;
  const uint32_t* table = blocks + views[2 * (first + count - 1) + 1];
  auto row = [&](int p) { return first + (base + p) / group; };
  auto offset = [&](int p) { return (row(p) * h + head * group + (base + p) % group) * c; };
  auto query = [&](int p) { return p < pairs ? q + offset(p) : (const num*)nullptr; };
  auto key = [&](size j) {
    return keys + (((size)table[j / BLOCK] * g + head) * BLOCK + j % BLOCK) * c;
  };
  auto value = [&](size j) {
    return values + (((size)table[j / BLOCK] * g + head) * BLOCK + j % BLOCK) * c;
  };
  auto seen = [&](int p) {
    size length = p < pairs ? views[2 * row(p)] : 0;
    return Seen{length > window ? length - window : 0, length};
  };
  Rows<1, Q> rows;
  attend<1>(rows, shared, query, key, value, seen, seen(0).start, seen(pairs - 1).end, c);
  int p = threadIdx.x / 16;
  if (p < pairs) store_row(out + offset(p), rows.out[0], 1.0f / rows.sum[0], c);
}

KERNEL(256, attention_cached)
(num* out, const num* q, const num* keys, const num* values, const uint32_t* blocks,
 const uint32_t* views, const uint32_t* tiles, int h, int g, int c, size window) {
  attention<2>(out, q, keys, values, blocks, views, tiles, h, g, c, window);
}
REGISTER(attention_cached)

// Beyond 128 channels.
KERNEL(256, attention_cached_wide)
(num* out, const num* q, const num* keys, const num* values, const uint32_t* blocks,
 const uint32_t* views, const uint32_t* tiles, int h, int g, int c, size window) {
  attention<4>(out, q, keys, values, blocks, views, tiles, h, g, c, window);
}
REGISTER(attention_cached_wide)

#else

// Warp w has the scores of keys 16 w..+16 of a step, and a quarter of the channels of the output.
template <int C>
DEVICE void attend(num* out, const num* q, const num* keys, const num* values,
                   const uint32_t* blocks, const uint32_t* views, const uint32_t* tiles, int h,
                   int g, int c, size window) {
  const int PAIRS = 16, OWN = C / 8 / WARPS, STAGES = Width<C>::STAGES;
  DYNAMIC_SHARED(num, shared);
  num *queries = shared, *key_stages = queries + PAIRS * C,
      *value_stages = key_stages + STAGES * STEP * C, *weights = value_stages + STAGES * STEP * C;
  __shared__ float maxima[WARPS][PAIRS], totals[WARPS][PAIRS][4];
  int head = blockIdx.y, group = h / g, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  size first = tiles[2 * (size)blockIdx.x], count = tiles[2 * (size)blockIdx.x + 1];
  // Pairs of this block: pair p is query head p % group of the group and row p / group of the tile.
  int base = blockIdx.z * PAIRS,
      pairs = (int)count * group - base < PAIRS ? (int)count * group - base : PAIRS;
  if (pairs <= 0) return;
  const uint32_t* table = blocks + views[2 * (first + count - 1) + 1];
  auto row_of = [&](int p) { return first + (base + p) / group; };
  auto offset = [&](int p) { return (row_of(p) * h + head * group + (base + p) % group) * c; };
  auto seen = [&](int p) {
    size length = p < pairs ? views[2 * row_of(p)] : 0;
    return Seen{length > window ? length - window : 0, length};
  };
  bool wide = wide_rows(c, q, keys, values);
  float factor = score_factor(c);
  size at = seen(0).start / STEP * STEP, end = seen(pairs - 1).end;
  auto bring = [&](num* stage, const num* x, size at) {
    bring_rows<C, STEP>(stage, c, wide, x, [&](int r) {
      return at + r < end
                 ? x + (((size)table[(at + r) / BLOCK] * g + head) * BLOCK + (at + r) % BLOCK) * c
                 : (const num*)nullptr;
    });
    copy_async_commit();
  };
  // What a stage is to hold next, where it is the only one.
  auto bring_next = [&](num* stage, const num* x) {
    if (at + STEP < end)
      bring(stage, x, at + STEP);
    else
      copy_async_commit();
  };
  bring_rows<C, PAIRS>(queries, c, wide, q,
                       [&](int p) { return p < pairs ? q + offset(p) : (const num*)nullptr; });
  bring(key_stages, keys, at);
  bring(value_stages, values, at);

  // Pairs lane / 4 and 8 above it.
  Seen sight[2] = {seen(lane / 4), seen(lane / 4 + 8)};
  float max[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f}, sums[OWN][4];
#pragma unroll
  for (int n = 0; n < OWN; n++) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0.0f;

  for (int stage = 0; at < end; at += STEP, stage ^= STAGES - 1) {
    copy_async_wait<1>();
    __syncthreads();
    if (STAGES == 2 && at + STEP < end) {
      bring(key_stages + (stage ^ 1) * STEP * C, keys, at + STEP);
      bring(value_stages + (stage ^ 1) * STEP * C, values, at + STEP);
    } else if (STAGES == 2) {
      copy_async_commit();
      copy_async_commit();
    }
    float scores[1][2][4];
    dot_tiles<C, 1, 2>(scores, queries, 0, key_stages + stage * STEP * C, 16 * warp);
    if (STAGES == 1) {
      __syncthreads();
      bring_next(key_stages, keys);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float most = -INFINITE;
      int from = (int)(sight[half].start - at) - 16 * warp - lane % 4 * 2,
          to = (int)(sight[half].end - at) - 16 * warp - lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float& score = scores[0][n][2 * half + e];
          if (n * 8 + e < from || n * 8 + e >= to) score = -INFINITE;
          most = score > most ? score : most;
        }
      most = row_max(most);
      if (lane % 4 == 0) maxima[warp][8 * half + lane / 4] = most;
    }
    __syncthreads();
    float shrink[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int pair = 8 * half + lane / 4;
      float most = max[half];
#pragma unroll
      for (int w = 0; w < WARPS; w++) most = maxima[w][pair] > most ? maxima[w][pair] : most;
      float shift = shift_of(most, factor), p[2][2];
      shrink[half] = power_of_two(max[half] * factor - shift);
      max[half] = most;
#pragma unroll
      for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int e = 0; e < 2; e++)
          p[n][e] = power_of_two(fmaf(scores[0][n][2 * half + e], factor, -shift));
        *(uint32_t*)(weights + place<64>(pair, 2 * warp + n) + lane % 4 * 2) =
            pack_bf16x2(p[n][0], p[n][1]);
      }
      totals[warp][pair][lane % 4] = (p[0][0] + p[0][1]) + (p[1][0] + p[1][1]);
    }
    copy_async_wait<STAGES == 1 ? 1 : 2>();
    __syncthreads();
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int pair = 8 * half + lane / 4;
      float total =
          ((totals[0][pair][lane % 4] + totals[1][pair][lane % 4]) + totals[2][pair][lane % 4]) +
          totals[3][pair][lane % 4];
      sum[half] = fmaf(sum[half], shrink[half], row_sum(total));
    }
    uint32_t x[4][4];
#pragma unroll
    for (int t = 0; t < 4; t++)
      ldmatrix_x4(x[t], weights + place<64>(lane % 16, 2 * t + lane / 16));
#pragma unroll
    for (int n = 0; n < OWN; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) sums[n][e] *= shrink[e / 2];
#pragma unroll
      for (int t = 0; t < 4; t += 2) {
        uint32_t r[4];
        ldmatrix_x4_trans(r, value_stages + stage * STEP * C +
                                 place<C>(16 * t + lane, warp * OWN + n));
        uint32_t y[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
        mma_m16n8k16_bf16(sums[n], x[t], y[0]);
        mma_m16n8k16_bf16(sums[n], x[t + 1], y[1]);
      }
    }
    if (STAGES == 1) {
      __syncthreads();
      bring_next(value_stages, values);
    }
  }

#pragma unroll
  for (int half = 0; half < 2; half++) {
    int pair = 8 * half + lane / 4;
    if (pair >= pairs) continue;
    float reciprocal = 1.0f / sum[half];
#pragma unroll
    for (int n = 0; n < OWN; n++)
      store_channels(out + offset(pair), (warp * OWN + n) * 8 + lane % 4 * 2,
                     sums[n][2 * half] * reciprocal, sums[n][2 * half + 1] * reciprocal, c);
  }
}

FOR_CHANNELS(attention_cached,
             (num* out, const num* q, const num* keys, const num* values, const uint32_t* blocks,
              const uint32_t* views, const uint32_t* tiles, int h,
              int g, int c, size window),
             attend, (out, q, keys, values, blocks, views, tiles, h, g, c, window))

#endif

// Softmax attention within packed sequences, forward.
//
//   out[n,h,c] = softmax(q k^T / sqrt(c)) v over the positions of its sequence that a row sees;
//     lse[n,h], float: the log of the denominator.
//   q, out [n,h,c]; k, v [n,g,c]; query head i reads key/value head i / (h/g). tiles[., 3]: first
//     row of the sequence, its length, first position.
//
// Who owns what: a block owns 64 query rows (bf16 with up to 64 channels: 128; float beyond 128
// channels: 16) of one head of one sequence (grid: tiles, heads); keys that no row of it sees are
// skipped.
// Numerics: attend.cuh. A row's bits depend on its own query and on what it sees; they are those of
// attention_cached.
// Determinism: no atomics; the order of every sum is that of positions. No buffer grows with the
// square of the length.
// Source: Dao 2023 (FlashAttention-2), algorithm 1.
// bf16: mma.sync with the weights kept in registers from one product to the next, keys and values
// in two cp.async stages (beyond 128 channels one); a warp has two tiles of 16 rows for up to 64
// channels, else one.
// Budget of attention_f32: 144 registers, 83 KiB dynamic
// Budget of attention_wide_f32: 104 registers, 86 KiB dynamic
// Budget of attention_c32_bf16: 168 registers, 24 KiB dynamic
// Budget of attention_c64_bf16: 232 registers, 48 KiB dynamic
// Budget of attention_c96_bf16: 136 registers, 60 KiB dynamic
// Budget of attention_c128_bf16: 168 registers, 80 KiB dynamic
// Budget of attention_c192_bf16: 224 registers, 72 KiB dynamic
// Budget of attention_c256_bf16: 256 registers, 96 KiB dynamic
#include "prelude.cuh"
#include "attend.cuh"

#ifdef NUM_F32

template <int R, int Q>
DEVICE void attention(num* out, float* lse, const num* q, const num* k, const num* v,
                      const uint32_t* tiles, int h, int g, int c, int causal, size window) {
  DYNAMIC_SHARED(float, shared);
  Tile tile = tile_of(tiles);
  int head = blockIdx.y, group = head / (h / g);
  size last = tile.first + 16 * R < tile.length ? tile.first + 16 * R - 1 : tile.length - 1;
  auto query = [&](int r) {
    return tile.first + r < tile.length ? q + ((tile.start + tile.first + r) * h + head) * c
                                        : (const num*)nullptr;
  };
  auto key = [&](size j) { return k + ((tile.start + j) * g + group) * c; };
  auto value = [&](size j) { return v + ((tile.start + j) * g + group) * c; };
  auto seen = [&](int r) { return sees(tile.first + r, tile.length, causal, window); };
  Rows<R, Q> rows;
  attend<R>(rows, shared, query, key, value, seen, seen(0).start,
            sees(last, tile.length, causal, window).end, c);
#pragma unroll
  for (int r = 0; r < R; r++) {
    size position = tile.first + threadIdx.x / 16 * R + r;
    if (position >= tile.length) continue;
    size row = (tile.start + position) * h + head;
    store_row(out + row * c, rows.out[r], 1.0f / rows.sum[r], c);
    if (threadIdx.x % 16 == 0) lse[row] = rows.max[r] + logarithm(rows.sum[r]);
  }
}

KERNEL(256, attention)
(num* out, float* lse, const num* q, const num* k, const num* v, const uint32_t* tiles, int h,
 int g, int c, int causal, size window) {
  attention<4, 2>(out, lse, q, k, v, tiles, h, g, c, causal, window);
}
REGISTER(attention)

// Beyond 128 channels.
KERNEL_BLOCKS(256, 2, attention_wide)
(num* out, float* lse, const num* q, const num* k, const num* v, const uint32_t* tiles, int h,
 int g, int c, int causal, size window) {
  attention<1, 4>(out, lse, q, k, v, tiles, h, g, c, causal, window);
}
REGISTER(attention_wide)

#else

template <int C>
DEVICE void attend(num* out, float* lse, const num* q, const num* k, const num* v,
                   const uint32_t* tiles, int h, int g, int c, int causal, size window) {
  const int M = C > 64 ? 1 : 2, ROWS = 16 * M * WARPS, N = STEP / 8, STAGES = Width<C>::STAGES;
  DYNAMIC_SHARED(num, shared);
  num *queries = shared, *keys = queries + ROWS * C, *values = keys + STAGES * STEP * C;
  Tile tile = tile_of(tiles);
  int head = blockIdx.y, group = head / (h / g), lane = threadIdx.x % 32,
      row = threadIdx.x / 32 * 16 * M;
  bool wide = wide_rows(c, q, k, v);
  float factor = score_factor(c);
  size at, last = tile.first + ROWS < tile.length ? tile.first + ROWS - 1 : tile.length - 1;
  Seen earliest = sees(tile.first, tile.length, causal, window),
       latest = sees(last, tile.length, causal, window);
  auto bring = [&](num* stage, const num* x, size at) {
    bring_rows<C, STEP>(stage, c, wide, x, [&](int r) {
      return at + r < latest.end ? x + ((tile.start + at + r) * g + group) * c
                                 : (const num*)nullptr;
    });
    copy_async_commit();
  };
  // What a stage is to hold next, where it is the only one.
  auto bring_next = [&](num* stage, const num* x) {
    if (at + STEP < latest.end)
      bring(stage, x, at + STEP);
    else
      copy_async_commit();
  };
  bring_rows<C, ROWS>(queries, c, wide, q, [&](int r) {
    return tile.first + r < tile.length ? q + ((tile.start + tile.first + r) * h + head) * c
                                        : (const num*)nullptr;
  });
  at = earliest.start / STEP * STEP;
  bring(keys, k, at);
  bring(values, v, at);

  // Rows lane / 4 and 8 below it of each of M tiles.
  float max[M][2], sum[M][2], sums[M][C / 8][4];
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      max[m][half] = -INFINITE;
      sum[m][half] = 0.0f;
    }
#pragma unroll
    for (int n = 0; n < C / 8; n++)
      sums[m][n][0] = sums[m][n][1] = sums[m][n][2] = sums[m][n][3] = 0.0f;
  }

  for (int stage = 0; at < latest.end; at += STEP, stage ^= STAGES - 1) {
    copy_async_wait<1>();
    // The keys are there, and all are done with the other stage.
    __syncthreads();
    if (STAGES == 2 && at + STEP < latest.end) {
      bring(keys + (stage ^ 1) * STEP * C, k, at + STEP);
      bring(values + (stage ^ 1) * STEP * C, v, at + STEP);
    } else if (STAGES == 2) {
      copy_async_commit();
      copy_async_commit();
    }
    float scores[M][N][4];
    dot_tiles<C, M, N>(scores, queries, row, keys + stage * STEP * C, 0);
    if (STAGES == 1) {
      __syncthreads();
      bring_next(keys, k);
    }
    if (at < latest.start || at + STEP > earliest.end) {
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          Seen seen =
              sees(tile.first + row + 16 * m + 8 * half + lane / 4, tile.length, causal, window);
          int start = (int)(seen.start - at) - lane % 4 * 2,
              end = (int)(seen.end - at) - lane % 4 * 2;
#pragma unroll
          for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 2; e++)
              if (n * 8 + e < start || n * 8 + e >= end) scores[m][n][2 * half + e] = -INFINITE;
        }
    }
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float most = max[m][half];
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; e++)
            most = scores[m][n][e] > most ? scores[m][n][e] : most;
        most = row_max(most);
        float shift = shift_of(most, factor), shrink = power_of_two(max[m][half] * factor - shift),
              total[4];
        max[m][half] = most;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; e++)
            scores[m][n][e] = power_of_two(fmaf(scores[m][n][e], factor, -shift));
        // By 16 keys, as attention_cached has them on four warps.
#pragma unroll
        for (int t = 0; t < 4; t++)
          total[t] = (scores[m][2 * t][2 * half] + scores[m][2 * t][2 * half + 1]) +
                     (scores[m][2 * t + 1][2 * half] + scores[m][2 * t + 1][2 * half + 1]);
        sum[m][half] =
            fmaf(sum[m][half], shrink, row_sum(((total[0] + total[1]) + total[2]) + total[3]));
#pragma unroll
        for (int n = 0; n < C / 8; n++) {
          sums[m][n][2 * half] *= shrink;
          sums[m][n][2 * half + 1] *= shrink;
        }
      }
    copy_async_wait<STAGES == 1 ? 1 : 2>();
    __syncthreads();
    weigh_tile<C, M, N>(sums, scores, values + stage * STEP * C);
    if (STAGES == 1) {
      __syncthreads();
      bring_next(values, v);
    }
  }

#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      size position = tile.first + row + 16 * m + 8 * half + lane / 4;
      if (position >= tile.length) continue;
      size at_row = (tile.start + position) * h + head;
      float reciprocal = 1.0f / sum[m][half];
#pragma unroll
      for (int n = 0; n < C / 8; n++)
        store_channels(out + at_row * c, n * 8 + lane % 4 * 2, sums[m][n][2 * half] * reciprocal,
                       sums[m][n][2 * half + 1] * reciprocal, c);
      if (lane % 4 == 0) lse[at_row] = max[m][half] * factor / LOG2_E + logarithm(sum[m][half]);
    }
}

FOR_CHANNELS(attention,
             (num* out, float* lse, const num* q, const num* k, const num* v, const uint32_t* tiles,
              int h, int g, int c, int causal, size window),
             attend, (out, lse, q, k, v, tiles, h, g, c, causal, window))

#endif

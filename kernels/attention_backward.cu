// The gradient of softmax attention.
//
//   With p_ij = exp(s_ij - lse_i) made again from q, k (s_ij = q_i k_j / sqrt(c)) and delta_i = sum over channels of dout_i out_i:
//   ds_ij = p_ij (dout_i v_j - delta_i) / sqrt(c);   dq_i = sum over j of ds_ij k_j
//   dk_j = sum over query heads of the group, within one over i, of ds_ij q_i;   dv_j = the same of p_ij dout_i
//   dq, dout, out, q [n,h,c]; dk, dv, k, v [n,g,c]; lse, delta [n,h] float. All three gradients are overwritten.
//
// Who owns what: attention_backward_delta: a warp a (row, head). attention_backward_query: a block 32 query rows of one head; it goes over the
// keys. attention_backward_key: a block 32 keys of one key/value head; it goes over the query heads of its group and their rows.
// Numerics: every element of dq, dk, dv is one chain in the order above, whatever the tiles; what a row does not see is not added at all.
// Determinism: no atomics: p is made twice instead, 7 products where 5 would do.
// Source: Dao et al. 2022 (FlashAttention), appendix B.2; Dao 2023, algorithm 2.
// Budget: float 128 registers, 76 KiB of shared memory at 128 channels.
#include "prelude.cuh"
#include "attend.cuh"

KERNEL(256, attention_backward_delta)(float* delta, const num* dout, const num* out, size rows, int c) {
  size row = (size)blockIdx.x * 8 + threadIdx.x / 32;
  if (row >= rows) return;
  float sum = 0.0f;
  for (int channel = threadIdx.x % 32; channel < c; channel += 32)
    sum = fmaf(to_float(dout[row * c + channel]), to_float(out[row * c + channel]), sum);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) delta[row] = sum;
}
REGISTER(attention_backward_delta)

#ifdef NUM_F32

// Rows and columns of a tile, and rows of it a thread has.
const int SIDE = 32, R = SIDE / 16;

DEVICE void clear(float (&sums)[R][2][4]) {
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int e = 0; e < 8; e++) sums[r][e / 4][e % 4] = 0.0f;
}

KERNEL(256, attention_backward_query)
(num* dq, const num* dout, const float* lse, const float* delta, const num* q, const num* k, const num* v, const uint32_t* tiles, int h, int g, int c,
 int causal, size window) {
  DYNAMIC_SHARED(float, shared);
  Tile tile = tile_of(tiles);
  int head = blockIdx.y, group = head / (h / g), matrix = SIDE * stride_of(c);
  float *queries = shared, *douts = queries + matrix, *keys = douts + matrix, *values = keys + matrix, *weights = values + matrix;
  int first = threadIdx.x / 16 * R, tx = threadIdx.x % 16;
  float scale = 1.0f / sqrtf((float)c);
  auto row_of = [&](int r) { return (tile.start + tile.first + r) * h + head; };
  load_rows(queries, SIDE, c, [&](int r) { return tile.first + r < tile.length ? q + row_of(r) * c : (const num*)nullptr; });
  load_rows(douts, SIDE, c, [&](int r) { return tile.first + r < tile.length ? dout + row_of(r) * c : (const num*)nullptr; });
  Seen sight[R];
  float lses[R], deltas[R], sums[R][2][4];
  clear(sums);
#pragma unroll
  for (int r = 0; r < R; r++) {
    bool real = tile.first + first + r < tile.length;
    sight[r] = real ? sees(tile.first + first + r, tile.length, causal, window) : Seen{0, 0};
    lses[r] = real ? lse[row_of(first + r)] : 0.0f;
    deltas[r] = real ? delta[row_of(first + r)] : 0.0f;
  }
  size last = tile.first + SIDE < tile.length ? tile.first + SIDE - 1 : tile.length - 1;
  size start = sees(tile.first, tile.length, causal, window).start, end = sees(last, tile.length, causal, window).end;
  for (size at = start / SIDE * SIDE; at < end; at += SIDE) {
    __syncthreads();
    load_rows(keys, SIDE, c, [&](int r) { return at + r < end ? k + ((tile.start + at + r) * g + group) * c : (const num*)nullptr; });
    load_rows(values, SIDE, c, [&](int r) { return at + r < end ? v + ((tile.start + at + r) * g + group) * c : (const num*)nullptr; });
    __syncthreads();
    float scores[R][2], dp[R][2];
    dot_tiles<R, 2>(scores, queries, keys, c);
    dot_tiles<R, 2>(dp, douts, values, c);
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
      for (int s = 0; s < 2; s++) {
        float p = exponential(scores[r][s] * scale - lses[r]);
        weights[(first + r) * (STEP + 4) + tx + 16 * s] = p * (dp[r][s] - deltas[r]) * scale;
      }
    __syncthreads();
    weigh_tile<R>(sums, weights, keys, SIDE, c, false, [&](int r, int column) { return sight[r].has(at + column); });
  }
#pragma unroll
  for (int r = 0; r < R; r++)
    if (tile.first + first + r < tile.length) store_row(dq + row_of(first + r) * c, sums[r], 1.0f, c);
}

KERNEL(256, attention_backward_key)
(num* dk, num* dv, const num* dout, const float* lse, const float* delta, const num* q, const num* k, const num* v, const uint32_t* tiles, int h, int g,
 int c, int causal, size window) {
  DYNAMIC_SHARED(float, shared);
  Tile tile = tile_of(tiles);
  int group = blockIdx.y, matrix = SIDE * stride_of(c);
  float *queries = shared, *douts = queries + matrix, *keys = douts + matrix, *values = keys + matrix;
  float *p_weights = values + matrix, *ds_weights = p_weights + SIDE * (STEP + 4);
  int first = threadIdx.x / 16 * R, tx = threadIdx.x % 16;
  float scale = 1.0f / sqrtf((float)c);
  auto row_of = [&](int r) { return (tile.start + tile.first + r) * g + group; };
  load_rows(keys, SIDE, c, [&](int r) { return tile.first + r < tile.length ? k + row_of(r) * c : (const num*)nullptr; });
  load_rows(values, SIDE, c, [&](int r) { return tile.first + r < tile.length ? v + row_of(r) * c : (const num*)nullptr; });
  Seen sight[R];
  float dk_sums[R][2][4], dv_sums[R][2][4];
  clear(dk_sums);
  clear(dv_sums);
#pragma unroll
  for (int r = 0; r < R; r++) {
    bool real = tile.first + first + r < tile.length;
    sight[r] = real ? seen_by(tile.first + first + r, tile.length, causal, window) : Seen{0, 0};
  }
  size last = tile.first + SIDE < tile.length ? tile.first + SIDE - 1 : tile.length - 1;
  size start = seen_by(tile.first, tile.length, causal, window).start, end = seen_by(last, tile.length, causal, window).end;
  for (int head = group * (h / g); head < (group + 1) * (h / g); head++) {
    for (size at = start / SIDE * SIDE; at < end; at += SIDE) {
      __syncthreads();
      auto query_of = [&](size i) { return (tile.start + i) * h + head; };
      load_rows(queries, SIDE, c, [&](int r) { return at + r < end ? q + query_of(at + r) * c : (const num*)nullptr; });
      load_rows(douts, SIDE, c, [&](int r) { return at + r < end ? dout + query_of(at + r) * c : (const num*)nullptr; });
      __syncthreads();
      float scores[R][2], dp[R][2];
      dot_tiles<R, 2>(scores, keys, queries, c);
      dot_tiles<R, 2>(dp, values, douts, c);
#pragma unroll
      for (int s = 0; s < 2; s++) {
        size i = at + tx + 16 * s;
        float row_lse = i < end ? lse[query_of(i)] : 0.0f, row_delta = i < end ? delta[query_of(i)] : 0.0f;
#pragma unroll
        for (int r = 0; r < R; r++) {
          float p = exponential(scores[r][s] * scale - row_lse);
          p_weights[(first + r) * (STEP + 4) + tx + 16 * s] = p;
          ds_weights[(first + r) * (STEP + 4) + tx + 16 * s] = p * (dp[r][s] - row_delta) * scale;
        }
      }
      __syncthreads();
      auto has = [&](int r, int column) { return sight[r].has(at + column); };
      weigh_tile<R>(dv_sums, p_weights, douts, SIDE, c, false, has);
      weigh_tile<R>(dk_sums, ds_weights, queries, SIDE, c, false, has);
    }
  }
#pragma unroll
  for (int r = 0; r < R; r++) {
    if (tile.first + first + r >= tile.length) continue;
    store_row(dk + row_of(first + r) * c, dk_sums[r], 1.0f, c);
    store_row(dv + row_of(first + r) * c, dv_sums[r], 1.0f, c);
  }
}
REGISTER(attention_backward_query)
REGISTER(attention_backward_key)

#endif

// The gradient of softmax attention.
//
//   With p_ij = exp(s_ij - lse_i) made again from q, k (s_ij = q_i k_j / sqrt(c)) and delta_i = sum
//     over channels of dout_i out_i:
//   ds_ij = p_ij (dout_i v_j - delta_i) / sqrt(c);   dq_i = sum over j of ds_ij k_j
//   dk_j = sum over query heads of the group, within one over i, of ds_ij q_i;   dv_j = the same of
//     p_ij dout_i
//   dq, dout, out, q [n,h,c]; dk, dv, k, v [n,g,c]; lse, delta [n,h] float. All three gradients are
//     overwritten.
//
// Who owns what: attention_backward_delta: a warp a (row, head). attention_backward_query: a block
// 32 query rows (bf16: 64) of one head; it goes over the keys. attention_backward_key: a block 32
// keys (bf16: 64) of one key/value head; it goes over the query heads of its group and their rows.
// Beyond 128 channels a block has 16 in float, and in bf16 one of the two gradients of its keys.
// Numerics: every element of dq, dk, dv is one chain in the order above, whatever the tiles; what a
// row does not see is not added at all.
// Determinism: no atomics: p is made twice instead, 7 products where 5 would do.
// Source: Dao et al. 2022 (FlashAttention), appendix B.2; Dao 2023, algorithm 2.
// Budget of attention_backward_delta_*: 32 registers
// Budget of attention_backward_*_f32: 104 registers, 83 KiB dynamic
// Budget of attention_backward_*_wide_f32: 80 registers, 74 KiB dynamic
// Budget of attention_backward_*_c32_bf16: 128 registers, 1 KiB static, 16 KiB dynamic
// Budget of attention_backward_*_c64_bf16: 168 registers, 1 KiB static, 32 KiB dynamic
// Budget of attention_backward_*_c96_bf16: 232 registers, 1 KiB static, 48 KiB dynamic
// Budget of attention_backward_*_c128_bf16: 256 registers, 1 KiB static, 64 KiB dynamic
// Budget of attention_backward_*_c192_bf16: 232 registers, 1 KiB static, 72 KiB dynamic
// Budget of attention_backward_*_c256_bf16: 256 registers, 1 KiB static, 96 KiB dynamic
#include "prelude.cuh"
#include "attend.cuh"

KERNEL(256, attention_backward_delta)(float* delta, const num* dout, const num* out, size rows,
                                      int c) {
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

// A tile has 16 R rows and columns, of which a thread has R.
template <int R, int Q> DEVICE void clear(float (&sums)[R][Q][4]) {
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int e = 0; e < 4 * Q; e++) sums[r][e / 4][e % 4] = 0.0f;
}

template <int R, int Q>
DEVICE void backward_query(num* dq, const num* dout, const float* lse, const float* delta,
                           const num* q, const num* k, const num* v, const uint32_t* tiles, int h,
                           int g, int c, int causal, size window) {
  const int SIDE = 16 * R;
  DYNAMIC_SHARED(float, shared);
  Tile tile = tile_of(tiles);
  int head = blockIdx.y, group = head / (h / g), matrix = SIDE * stride_of(c);
  float *queries = shared, *douts = queries + matrix, *keys = douts + matrix,
        *values = keys + matrix, *weights = values + matrix;
  int first = threadIdx.x / 16 * R, tx = threadIdx.x % 16;
  float scale = 1.0f / sqrtf((float)c);
  auto row_of = [&](int r) { return (tile.start + tile.first + r) * h + head; };
  load_rows(queries, SIDE, c, [&](int r) {
    return tile.first + r < tile.length ? q + row_of(r) * c : (const num*)nullptr;
  });
  load_rows(douts, SIDE, c, [&](int r) {
    return tile.first + r < tile.length ? dout + row_of(r) * c : (const num*)nullptr;
  });
  Seen sight[R];
  float lses[R], deltas[R], sums[R][Q][4];
  clear(sums);
#pragma unroll
  for (int r = 0; r < R; r++) {
    bool real = tile.first + first + r < tile.length;
    sight[r] = real ? sees(tile.first + first + r, tile.length, causal, window) : Seen{0, 0};
    lses[r] = real ? lse[row_of(first + r)] : 0.0f;
    deltas[r] = real ? delta[row_of(first + r)] : 0.0f;
  }
  size last = tile.first + SIDE < tile.length ? tile.first + SIDE - 1 : tile.length - 1;
  size start = sees(tile.first, tile.length, causal, window).start,
       end = sees(last, tile.length, causal, window).end;
  for (size at = start / SIDE * SIDE; at < end; at += SIDE) {
    __syncthreads();
    load_rows(keys, SIDE, c, [&](int r) {
      return at + r < end ? k + ((tile.start + at + r) * g + group) * c : (const num*)nullptr;
    });
    load_rows(values, SIDE, c, [&](int r) {
      return at + r < end ? v + ((tile.start + at + r) * g + group) * c : (const num*)nullptr;
    });
    __syncthreads();
    float scores[R][R], dp[R][R];
    dot_tiles<R, R>(scores, queries, keys, c);
    dot_tiles<R, R>(dp, douts, values, c);
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
      for (int s = 0; s < R; s++) {
        float p = exponential(scores[r][s] * scale - lses[r]);
        weights[(first + r) * (STEP + 4) + tx + 16 * s] = p * (dp[r][s] - deltas[r]) * scale;
      }
    __syncthreads();
    weigh_tile<R>(sums, weights, keys, SIDE, c, false,
                  [&](int r, int column) { return sight[r].has(at + column); });
  }
#pragma unroll
  for (int r = 0; r < R; r++)
    if (tile.first + first + r < tile.length)
      store_row(dq + row_of(first + r) * c, sums[r], 1.0f, c);
}

template <int R, int Q>
DEVICE void backward_key(num* dk, num* dv, const num* dout, const float* lse, const float* delta,
                         const num* q, const num* k, const num* v, const uint32_t* tiles, int h,
                         int g, int c, int causal, size window) {
  const int SIDE = 16 * R;
  DYNAMIC_SHARED(float, shared);
  Tile tile = tile_of(tiles);
  int group = blockIdx.y, matrix = SIDE * stride_of(c);
  float *queries = shared, *douts = queries + matrix, *keys = douts + matrix,
        *values = keys + matrix;
  float *p_weights = values + matrix, *ds_weights = p_weights + SIDE * (STEP + 4);
  int first = threadIdx.x / 16 * R, tx = threadIdx.x % 16;
  float scale = 1.0f / sqrtf((float)c);
  auto row_of = [&](int r) { return (tile.start + tile.first + r) * g + group; };
  load_rows(keys, SIDE, c, [&](int r) {
    return tile.first + r < tile.length ? k + row_of(r) * c : (const num*)nullptr;
  });
  load_rows(values, SIDE, c, [&](int r) {
    return tile.first + r < tile.length ? v + row_of(r) * c : (const num*)nullptr;
  });
  Seen sight[R];
  float dk_sums[R][Q][4], dv_sums[R][Q][4];
  clear(dk_sums);
  clear(dv_sums);
#pragma unroll
  for (int r = 0; r < R; r++) {
    bool real = tile.first + first + r < tile.length;
    sight[r] = real ? seen_by(tile.first + first + r, tile.length, causal, window) : Seen{0, 0};
  }
  size last = tile.first + SIDE < tile.length ? tile.first + SIDE - 1 : tile.length - 1;
  size start = seen_by(tile.first, tile.length, causal, window).start,
       end = seen_by(last, tile.length, causal, window).end;
  for (int head = group * (h / g); head < (group + 1) * (h / g); head++) {
    for (size at = start / SIDE * SIDE; at < end; at += SIDE) {
      __syncthreads();
      auto query_of = [&](size i) { return (tile.start + i) * h + head; };
      load_rows(queries, SIDE, c, [&](int r) {
        return at + r < end ? q + query_of(at + r) * c : (const num*)nullptr;
      });
      load_rows(douts, SIDE, c, [&](int r) {
        return at + r < end ? dout + query_of(at + r) * c : (const num*)nullptr;
      });
      __syncthreads();
      float scores[R][R], dp[R][R];
      dot_tiles<R, R>(scores, keys, queries, c);
      dot_tiles<R, R>(dp, values, douts, c);
#pragma unroll
      for (int s = 0; s < R; s++) {
        size i = at + tx + 16 * s;
        float row_lse = i < end ? lse[query_of(i)] : 0.0f,
              row_delta = i < end ? delta[query_of(i)] : 0.0f;
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

KERNEL_BLOCKS(256, 2, attention_backward_query)
(num* dq, const num* dout, const float* lse, const float* delta, const num* q, const num* k,
 const num* v, const uint32_t* tiles, int h, int g, int c, int causal, size window) {
  backward_query<2, 2>(dq, dout, lse, delta, q, k, v, tiles, h, g, c, causal, window);
}
REGISTER(attention_backward_query)

KERNEL(256, attention_backward_key)
(num* dk, num* dv, const num* dout, const float* lse, const float* delta, const num* q,
 const num* k, const num* v, const uint32_t* tiles, int h, int g, int c, int causal, size window) {
  backward_key<2, 2>(dk, dv, dout, lse, delta, q, k, v, tiles, h, g, c, causal, window);
}
REGISTER(attention_backward_key)

// Beyond 128 channels.
KERNEL_BLOCKS(256, 2, attention_backward_query_wide)
(num* dq, const num* dout, const float* lse, const float* delta, const num* q, const num* k,
 const num* v, const uint32_t* tiles, int h, int g, int c, int causal, size window) {
  backward_query<1, 4>(dq, dout, lse, delta, q, k, v, tiles, h, g, c, causal, window);
}
REGISTER(attention_backward_query_wide)

KERNEL(256, attention_backward_key_wide)
(num* dk, num* dv, const num* dout, const float* lse, const float* delta, const num* q,
 const num* k, const num* v, const uint32_t* tiles, int h, int g, int c, int causal, size window) {
  backward_key<1, 4>(dk, dv, dout, lse, delta, q, k, v, tiles, h, g, c, causal, window);
}
REGISTER(attention_backward_key_wide)

#else

// Rows of a block's tile, a warp 16 of them; it goes over tiles of ACROSS rows.
const int SIDE = 16 * WARPS;

template <int C> DEVICE void clear(float (&sums)[1][C / 8][4]) {
#pragma unroll
  for (int n = 0; n < C / 8; n++)
    sums[0][n][0] = sums[0][n][1] = sums[0][n][2] = sums[0][n][3] = 0.0f;
}

// out rows = sums * factor.
template <int C, class Out>
DEVICE void store_sums(const float (&sums)[1][C / 8][4], float factor, int c, Out out) {
  int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    num* row = out(8 * half + lane / 4);
    if (!row) continue;
#pragma unroll
    for (int n = 0; n < C / 8; n++)
      store_channels(row, n * 8 + lane % 4 * 2, sums[0][n][2 * half] * factor,
                     sums[0][n][2 * half + 1] * factor, c);
  }
}

template <int C>
DEVICE void backward_query(num* dq, const num* dout, const float* lse, const float* delta,
                           const num* q, const num* k, const num* v, const uint32_t* tiles, int h,
                           int g, int c, int causal, size window) {
  const int ACROSS = Width<C>::ACROSS, N = ACROSS / 8;
  DYNAMIC_SHARED(num, shared);
  num *queries = shared, *douts = queries + SIDE * C, *stages = douts + SIDE * C;
  Tile tile = tile_of(tiles);
  int head = blockIdx.y, group = head / (h / g), lane = threadIdx.x % 32,
      row = threadIdx.x / 32 * 16;
  bool wide = wide_rows(c, q, k, v) && wide_rows(c, dout, dout, dout);
  float factor = score_factor(c);
  auto row_of = [&](int r) { return (tile.start + tile.first + r) * h + head; };
  size last = tile.first + SIDE < tile.length ? tile.first + SIDE - 1 : tile.length - 1;
  Seen earliest = sees(tile.first, tile.length, causal, window),
       latest = sees(last, tile.length, causal, window);
  // Keys, then values.
  auto bring = [&](int stage, size at) {
    num* to = stages + stage * 2 * ACROSS * C;
    bring_rows<C, ACROSS>(to, c, wide, k, [&](int r) {
      return at + r < latest.end ? k + ((tile.start + at + r) * g + group) * c
                                 : (const num*)nullptr;
    });
    bring_rows<C, ACROSS>(to + ACROSS * C, c, wide, v, [&](int r) {
      return at + r < latest.end ? v + ((tile.start + at + r) * g + group) * c
                                 : (const num*)nullptr;
    });
    copy_async_commit();
  };
  bring_rows<C, SIDE>(queries, c, wide, q, [&](int r) {
    return tile.first + r < tile.length ? q + row_of(r) * c : (const num*)nullptr;
  });
  bring_rows<C, SIDE>(douts, c, wide, dout, [&](int r) {
    return tile.first + r < tile.length ? dout + row_of(r) * c : (const num*)nullptr;
  });
  size at = earliest.start / ACROSS * ACROSS;
  bring(0, at);

  float shifts[2], deltas[2], sums[1][C / 8][4];
  clear<C>(sums);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int r = row + 8 * half + lane / 4;
    bool real = tile.first + r < tile.length;
    shifts[half] = real ? lse[row_of(r)] * LOG2_E : 0.0f;
    deltas[half] = real ? delta[row_of(r)] : 0.0f;
  }
  for (int stage = 0; at < latest.end; at += ACROSS, stage ^= 1) {
    copy_async_wait<0>();
    __syncthreads();
    if (at + ACROSS < latest.end) bring(stage ^ 1, at + ACROSS);
    const num *keys = stages + stage * 2 * ACROSS * C, *values = keys + ACROSS * C;
    float scores[1][N][4], ds[1][N][4];
    dot_tiles<C, 1, N>(scores, queries, row, keys, 0);
    dot_tiles<C, 1, N>(ds, douts, row, values, 0);
    bool whole = at >= latest.start && at + ACROSS <= earliest.end;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int from = 0, to = ACROSS;
      if (!whole) {
        Seen seen = sees(tile.first + row + 8 * half + lane / 4, tile.length, causal, window);
        from = (int)(seen.start - at) - lane % 4 * 2;
        to = (int)(seen.end - at) - lane % 4 * 2;
      }
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float p = power_of_two(fmaf(scores[0][n][2 * half + e], factor, -shifts[half]));
          float x = p * (ds[0][n][2 * half + e] - deltas[half]);
          ds[0][n][2 * half + e] = n * 8 + e >= from && n * 8 + e < to ? x : 0.0f;
        }
    }
    weigh_tile<C, 1, N>(sums, ds, keys);
  }
  store_sums<C>(sums, factor / LOG2_E, c, [&](int r) {
    return tile.first + row + r < tile.length ? dq + row_of(row + r) * c : (num*)nullptr;
  });
}

FOR_CHANNELS(attention_backward_query,
             (num* dq, const num* dout, const float* lse, const float* delta, const num* q,
              const num* k, const num* v, const uint32_t* tiles, int h,
              int g, int c, int causal, size window),
             backward_query, (dq, dout, lse, delta, q, k, v, tiles, h, g, c, causal, window))

template <int C>
DEVICE void backward_key(num* dk, num* dv, const num* dout, const float* lse, const float* delta,
                         const num* q, const num* k, const num* v, const uint32_t* tiles, int h,
                         int g, int c, int causal, size window) {
  // Registers hold the sums of both gradients of up to 128 channels; beyond, a block has dk where
  // blockIdx.z is 0, and dv where it is 1.
  const bool BOTH = !Width<C>::WIDE;
  const int ACROSS = Width<C>::ACROSS, N = ACROSS / 8;
  bool has_dk = BOTH || blockIdx.z == 0, has_dv = BOTH || blockIdx.z == 1;
  DYNAMIC_SHARED(num, shared);
  num *keys = shared, *values = keys + SIDE * C, *stages = values + SIDE * C;
  // Of the rows of a stage: lse * log2(e), delta.
  __shared__ float shifts[2][ACROSS], deltas[2][ACROSS];
  Tile tile = tile_of(tiles);
  int group = blockIdx.y, lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16;
  bool wide = wide_rows(c, q, k, v) && wide_rows(c, dout, dout, dout);
  float factor = score_factor(c);
  auto row_of = [&](int r) { return (tile.start + tile.first + r) * g + group; };
  size last = tile.first + SIDE < tile.length ? tile.first + SIDE - 1 : tile.length - 1;
  Seen earliest = seen_by(tile.first, tile.length, causal, window),
       latest = seen_by(last, tile.length, causal, window);
  // Queries, then dout.
  auto bring = [&](int stage, int head, size at) {
    num* to = stages + stage * 2 * ACROSS * C;
    auto from = [&](int r) { return (tile.start + at + r) * h + head; };
    bring_rows<C, ACROSS>(to, c, wide, q, [&](int r) {
      return at + r < latest.end ? q + from(r) * c : (const num*)nullptr;
    });
    bring_rows<C, ACROSS>(to + ACROSS * C, c, wide, dout, [&](int r) {
      return at + r < latest.end ? dout + from(r) * c : (const num*)nullptr;
    });
    copy_async_commit();
    if (threadIdx.x < ACROSS) {
      bool real = at + threadIdx.x < latest.end;
      shifts[stage][threadIdx.x] = real ? lse[from(threadIdx.x)] * LOG2_E : 0.0f;
      deltas[stage][threadIdx.x] = real ? delta[from(threadIdx.x)] : 0.0f;
    }
  };
  bring_rows<C, SIDE>(keys, c, wide, k, [&](int r) {
    return tile.first + r < tile.length ? k + row_of(r) * c : (const num*)nullptr;
  });
  if (has_dk)
    bring_rows<C, SIDE>(values, c, wide, v, [&](int r) {
      return tile.first + r < tile.length ? v + row_of(r) * c : (const num*)nullptr;
    });
  size start = earliest.start / ACROSS * ACROSS, at = start;
  int head = group * (h / g), heads = head + h / g;
  bring(0, head, at);

  float sums[BOTH ? 2 : 1][1][C / 8][4];
  auto &dk_sums = sums[0], &dv_sums = sums[BOTH ? 1 : 0];
  clear<C>(dk_sums);
  clear<C>(dv_sums);
  for (int stage = 0; head < heads; stage ^= 1) {
    copy_async_wait<0>();
    __syncthreads();
    size here = at;
    at += ACROSS;
    if (at >= latest.end) {
      at = start;
      head++;
    }
    if (head < heads) bring(stage ^ 1, head, at);
    const num *queries = stages + stage * 2 * ACROSS * C, *douts = queries + ACROSS * C;
    float p[1][N][4], ds[1][N][4];
    dot_tiles<C, 1, N>(p, keys, row, queries, 0);
    if (has_dk) dot_tiles<C, 1, N>(ds, values, row, douts, 0);
    bool whole = here >= latest.start && here + ACROSS <= earliest.end;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int from = 0, to = ACROSS;
      if (!whole) {
        Seen seen = seen_by(tile.first + row + 8 * half + lane / 4, tile.length, causal, window);
        from = (int)(seen.start - here) - lane % 4 * 2;
        to = (int)(seen.end - here) - lane % 4 * 2;
      }
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          int column = n * 8 + lane % 4 * 2 + e;
          float x = power_of_two(fmaf(p[0][n][2 * half + e], factor, -shifts[stage][column]));
          x = n * 8 + e >= from && n * 8 + e < to ? x : 0.0f;
          p[0][n][2 * half + e] = x;
          if (has_dk)
            ds[0][n][2 * half + e] =
                x == 0.0f ? 0.0f : x * (ds[0][n][2 * half + e] - deltas[stage][column]);
        }
    }
    if (has_dv) weigh_tile<C, 1, N>(dv_sums, p, douts);
    if (has_dk) weigh_tile<C, 1, N>(dk_sums, ds, queries);
  }
  auto real = [&](int r) { return tile.first + row + r < tile.length; };
  if (has_dk)
    store_sums<C>(dk_sums, factor / LOG2_E, c,
                  [&](int r) { return real(r) ? dk + row_of(row + r) * c : (num*)nullptr; });
  if (has_dv)
    store_sums<C>(dv_sums, 1.0f, c,
                  [&](int r) { return real(r) ? dv + row_of(row + r) * c : (num*)nullptr; });
}

FOR_CHANNELS(attention_backward_key,
             (num* dk, num* dv, const num* dout, const float* lse, const float* delta, const num* q,
              const num* k, const num* v, const uint32_t* tiles,
              int h, int g, int c, int causal, size window),
             backward_key, (dk, dv, dout, lse, delta, q, k, v, tiles, h, g, c, causal, window))

#endif

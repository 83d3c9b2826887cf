// What the attention kernels share: who sees whom, tiles in shared memory, products of tiles, and
// the softmax that runs along the keys.
// Included after prelude.cuh.
//
// A row of the output goes over the keys in steps of STEP positions, counted from position 0 of its
// sequence, whatever the kernel: so whole sequences and the paged cache give the same bits. In a
// step, with seen scores s_j = (q k_j) / sqrt(c):
//   max' = max(max, s), shrink = exp(max - max'), p_j = exp(s_j - max'), sum = sum shrink + (sum of
//     p_j), out = out shrink + (p v)
// and at the end out / sum, lse = max + ln sum (Milakov & Gimelshein 2018; Dao et al. 2022).
#pragma once

// Positions of a step: four blocks of the paged cache.
const int STEP = 64;
// Positions of a block of the paged cache.
const int BLOCK = 16;
// The most channels of a head.
const int CHANNELS = 256;

// The positions that a position sees, or is seen by: from `start` to before `end`.
struct Seen {
  size start, end;
  __device__ __forceinline__ bool has(size position) const {
    return position >= start && position < end;
  }
};

// What position `i` of a sequence of `length` sees: causally its last `window` positions, its own
// included; or all.
DEVICE Seen sees(size i, size length, int causal, size window) {
  if (!causal) return {0, length};
  return {i + 1 > window ? i + 1 - window : 0, i + 1 < length ? i + 1 : length};
}

// Which positions see position `j`.
DEVICE Seen seen_by(size j, size length, int causal, size window) {
  if (!causal) return {0, length};
  return {j, length - j > window ? j + window : length};
}

// One tile of work of a batch of packed sequences: the sequence's first row and length, and the
// tile's first position in it.
struct Tile {
  size start, length, first;
};
DEVICE Tile tile_of(const uint32_t* tiles) {
  const uint32_t* at = tiles + 3 * (size)blockIdx.x;
  return {at[0], at[1], at[2]};
}

#ifdef NUM_F32

// Threads of a block: 16 rows of 16; a thread has R rows of a tile, every 16th column, and every
// 16th of Q quads of channels: 2 for up to 128 channels.
const int THREADS = 256;

// Numbers between rows of a tile in shared memory: whole quads and one more, so that 8 rows are in
// different banks (where quads are even).
DEVICE int stride_of(int c) { return (c + 3) / 4 * 4 + 4; }

// Rows of `c` channels from where `row` says (nullptr: zeros) into tile[rows][stride].
template <class Row> DEVICE void load_rows(float* tile, int rows, int c, Row row) {
  int stride = stride_of(c), quads = (c + 3) / 4;
  for (int at = threadIdx.x; at < rows * quads; at += THREADS) {
    int r = at / quads, channel = at % quads * 4;
    const float* x = row(r);
    float4 quad = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (x && c % 4 == 0 && ((uint64_t)x & 15) == 0) {
      quad = *(const float4*)(x + channel);
    } else if (x) {
      quad.x = x[channel];
      if (channel + 1 < c) quad.y = x[channel + 1];
      if (channel + 2 < c) quad.z = x[channel + 2];
      if (channel + 3 < c) quad.w = x[channel + 3];
    }
    *(float4*)(tile + r * stride + channel) = quad;
  }
}

// dots[r][s] = a[first + r] b[tx + 16 s], each one chain over the channels.
template <int R, int S>
DEVICE void dot_tiles(float (&dots)[R][S], const float* a, const float* b, int c) {
  int stride = stride_of(c), first = threadIdx.x / 16 * R, tx = threadIdx.x % 16;
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int s = 0; s < S; s++) dots[r][s] = 0.0f;
#pragma unroll 2
  for (int channel = 0; channel < c; channel += 4) {
    float4 x[R], y[S];
#pragma unroll
    for (int r = 0; r < R; r++) x[r] = *(const float4*)(a + (first + r) * stride + channel);
#pragma unroll
    for (int s = 0; s < S; s++) y[s] = *(const float4*)(b + (tx + 16 * s) * stride + channel);
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
      for (int s = 0; s < S; s++) {
        dots[r][s] = fmaf(x[r].x, y[s].x, dots[r][s]);
        dots[r][s] = fmaf(x[r].y, y[s].y, dots[r][s]);
        dots[r][s] = fmaf(x[r].z, y[s].z, dots[r][s]);
        dots[r][s] = fmaf(x[r].w, y[s].w, dots[r][s]);
      }
  }
}

// sums[r] += weights[first + r][columns] b[columns], a chain over the columns that the row `has`:
// what it has not may hold anything.
template <int R, int Q, class Has>
DEVICE void weigh_tile(float (&sums)[R][Q][4], const float* weights, const float* b, int columns,
                       int c, bool all, Has has) {
  int stride = stride_of(c), first = threadIdx.x / 16 * R, tx = threadIdx.x % 16;
  for (int column = 0; column < columns; column++) {
    float w[R];
    bool wanted[R];
#pragma unroll
    for (int r = 0; r < R; r++) {
      w[r] = weights[(first + r) * (STEP + 4) + column];
      wanted[r] = all || has(r, column);
    }
#pragma unroll
    for (int q = 0; q < Q; q++) {
      int channel = 4 * tx + 64 * q;
      if (channel >= c) continue;
      float4 x = *(const float4*)(b + column * stride + channel);
#pragma unroll
      for (int r = 0; r < R; r++) {
        if (!wanted[r]) continue;
        sums[r][q][0] = fmaf(w[r], x.x, sums[r][q][0]);
        sums[r][q][1] = fmaf(w[r], x.y, sums[r][q][1]);
        sums[r][q][2] = fmaf(w[r], x.z, sums[r][q][2]);
        sums[r][q][3] = fmaf(w[r], x.w, sums[r][q][3]);
      }
    }
  }
}

// out[channels of this thread] = sums * factor. Adding +0 makes the sign of a zero independent of
// the way there.
template <int Q> DEVICE void store_row(float* out, const float (&sums)[Q][4], float factor, int c) {
  int tx = threadIdx.x % 16;
#pragma unroll
  for (int q = 0; q < Q; q++)
#pragma unroll
    for (int e = 0; e < 4; e++)
      if (4 * tx + 64 * q + e < c) out[4 * tx + 64 * q + e] = fmaf(sums[q][e], factor, 0.0f);
}

// The state of R rows on their way along the keys.
template <int R, int Q> struct Rows {
  float max[R], sum[R], out[R][Q][4];
};

// Shared memory of `attend`, in bytes: queries, keys or values, weights.
DEVICE float* keys_of(float* shared, int rows, int c) { return shared + rows * stride_of(c); }
DEVICE float* weights_of(float* shared, int rows, int c) {
  return keys_of(shared, rows, c) + STEP * stride_of(c);
}

// Attends 16 R rows, `seen(r)` of each (r: of this thread's R), to the keys at the places that
// `key`, `value` give of a position before `end`.
template <int R, int Q, class Query, class Key, class Value, class See>
DEVICE void attend(Rows<R, Q>& rows, float* shared, Query query, Key key, Value value, See seen,
                   size start, size end, int c) {
  float* queries = shared;
  float *keys = keys_of(shared, 16 * R, c), *weights = weights_of(shared, 16 * R, c);
  int first = threadIdx.x / 16 * R, tx = threadIdx.x % 16;
  float scale = 1.0f / sqrtf((float)c);
  Seen sight[R];
#pragma unroll
  for (int r = 0; r < R; r++) {
    sight[r] = seen(first + r);
    rows.max[r] = -INFINITE;
    rows.sum[r] = 0.0f;
#pragma unroll
    for (int q = 0; q < Q; q++)
#pragma unroll
      for (int e = 0; e < 4; e++) rows.out[r][q][e] = 0.0f;
  }
  load_rows(queries, 16 * R, c, query);
  for (size at = start / STEP * STEP; at < end; at += STEP) {
    // The weights and values of the step before have been read.
    __syncthreads();
    load_rows(keys, STEP, c,
              [&](int r) { return at + r < end ? key(at + r) : (const float*)nullptr; });
    __syncthreads();
    float scores[R][4];
    dot_tiles<R, 4>(scores, queries, keys, c);
#pragma unroll
    for (int r = 0; r < R; r++) {
      float most = rows.max[r];
#pragma unroll
      for (int s = 0; s < 4; s++) {
        scores[r][s] *= scale;
        if (sight[r].has(at + tx + 16 * s)) most = scores[r][s] > most ? scores[r][s] : most;
      }
#pragma unroll
      for (int distance = 8; distance > 0; distance /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, most, distance);
        most = other > most ? other : most;
      }
      float total = 0.0f;
#pragma unroll
      for (int s = 0; s < 4; s++) {
        float p = sight[r].has(at + tx + 16 * s) ? exponential(scores[r][s] - most) : 0.0f;
        weights[(first + r) * (STEP + 4) + tx + 16 * s] = p;
        total += p;
      }
#pragma unroll
      for (int distance = 8; distance > 0; distance /= 2)
        total += __shfl_xor_sync(0xffffffffu, total, distance);
      // Before the first score both are minus infinity.
      float shrink = rows.max[r] == most ? 1.0f : exponential(rows.max[r] - most);
      rows.max[r] = most;
      rows.sum[r] = fmaf(rows.sum[r], shrink, total);
#pragma unroll
      for (int q = 0; q < Q; q++)
#pragma unroll
        for (int e = 0; e < 4; e++) rows.out[r][q][e] *= shrink;
    }
    __syncthreads();
    load_rows(keys, STEP, c,
              [&](int r) { return at + r < end ? value(at + r) : (const float*)nullptr; });
    __syncthreads();
    weigh_tile<R>(rows.out, weights, keys, end - at < STEP ? (int)(end - at) : STEP, c, false,
                  [&](int r, int column) { return sight[r].has(at + column); });
  }
}

#else

// Warps of a block, and its threads.
const int WARPS = 4, THREADS = 32 * WARPS;

// What depends on the channels of a tile. Beyond 128, forward has one stage of keys and values, and
// backward shorter ones, so that a block fits the 99 KiB of shared memory that every device has.
template <int C> struct Width {
  static const bool WIDE = C > 128;
  static const int STAGES = WIDE ? 1 : 2, ACROSS = WIDE ? 16 : 32;
};

// Where chunk `chunk` of 8 channels of a row is in a tile of C channels (a multiple of 32) in
// shared memory: turned so that 8 rows are in different banks.
template <int C>
DEVICE int place(int row, int chunk) {
  return row * C + (chunk ^ (C % 64 ? row >> 1 & 3 : row & 7)) * 8;
}

// ROWS rows of `c` channels from where `row` says (nullptr: zeros) into a tile; channels from c to
// C become zeros. Asynchronous where `wide`: rows of whole, aligned chunks of 16 bytes.
template <int C, int ROWS, class Row>
DEVICE void bring_rows(num* tile, int c, bool wide, const num* any, Row row) {
  if (wide) {
#pragma unroll 4
    for (int at = threadIdx.x; at < ROWS * (C / 8); at += THREADS) {
      int r = at / (C / 8), chunk = at % (C / 8);
      const num* x = chunk * 8 < c ? row(r) : nullptr;
      copy_async_16(tile + place<C>(r, chunk), x ? x + chunk * 8 : any, x != nullptr);
    }
  } else {
#pragma unroll 1
    for (int at = threadIdx.x; at < ROWS * C; at += THREADS) {
      int r = at / C, channel = at % C;
      const num* x = channel < c ? row(r) : nullptr;
      tile[place<C>(r, channel / 8) + channel % 8] = x ? x[channel] : bf16{0};
    }
  }
}

DEVICE bool wide_rows(int c, const void* a, const void* b, const void* d) {
  return c % 8 == 0 && (((uint64_t)a | (uint64_t)b | (uint64_t)d) & 15) == 0;
}

// dots[m][n] = a[row + 16 m ..] b[column + 8 n ..], over the channels in steps of 16.
template <int C, int M, int N>
DEVICE void dot_tiles(float (&dots)[M][N][4], const num* a, int row, const num* b, int column) {
  int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int n = 0; n < N; n++)
      dots[m][n][0] = dots[m][n][1] = dots[m][n][2] = dots[m][n][3] = 0.0f;
#pragma unroll
  for (int k = 0; k < C / 8; k += 2) {
    uint32_t x[M][4];
#pragma unroll
    for (int m = 0; m < M; m++)
      ldmatrix_x4(x[m], a + place<C>(row + 16 * m + lane % 16, k + lane / 16));
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      uint32_t r[4];
      ldmatrix_x4(r, b + place<C>(column + 8 * n + lane / 16 * 8 + lane % 8, k + lane / 8 % 2));
      uint32_t y[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_m16n8k16_bf16(dots[m][n], x[m], y[0]);
        mma_m16n8k16_bf16(dots[m][n + 1], x[m], y[1]);
      }
    }
  }
}

// The fragment of columns 16 t..+16 of weights in the layout of sums: a product's result is the
// next one's left side.
template <int N>
DEVICE void weights_fragment(uint32_t (&a)[4], const float (&weights)[N][4], int t) {
  a[0] = pack_bf16x2(weights[2 * t][0], weights[2 * t][1]);
  a[1] = pack_bf16x2(weights[2 * t][2], weights[2 * t][3]);
  a[2] = pack_bf16x2(weights[2 * t + 1][0], weights[2 * t + 1][1]);
  a[3] = pack_bf16x2(weights[2 * t + 1][2], weights[2 * t + 1][3]);
}

// sums[m] += weights[m] b, over the rows of b in steps of 16.
template <int C, int M, int N>
DEVICE void weigh_tile(float (&sums)[M][C / 8][4], const float (&weights)[M][N][4], const num* b) {
  int lane = threadIdx.x % 32;
#pragma unroll
  for (int t = 0; t < N / 2; t++) {
    uint32_t x[M][4];
#pragma unroll
    for (int m = 0; m < M; m++) weights_fragment(x[m], weights[m], t);
#pragma unroll
    for (int n = 0; n < C / 8; n += 2) {
      uint32_t r[4];
      ldmatrix_x4_trans(r, b + place<C>(16 * t + lane / 8 % 2 * 8 + lane % 8, n + lane / 16));
      uint32_t y[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_m16n8k16_bf16(sums[m][n], x[m], y[0]);
        mma_m16n8k16_bf16(sums[m][n + 1], x[m], y[1]);
      }
    }
  }
}

// Over the four lanes that hold a row of a tile of sums.
DEVICE float row_max(float x) {
#pragma unroll
  for (int distance = 1; distance < 4; distance *= 2) {
    float other = __shfl_xor_sync(0xffffffffu, x, distance);
    x = other > x ? other : x;
  }
  return x;
}
DEVICE float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Scores s are kept as they come out of q k; exp(s / sqrt(c) - max / sqrt(c)) = 2^(s factor - max
// factor).
const float LOG2_E = 1.44269504088896340736f;
DEVICE float score_factor(int c) { return LOG2_E / sqrtf((float)c); }
// 2^(score factor - max factor) of the greatest seen so far, `max`; before the first score anything
// not infinite does.
DEVICE float shift_of(float max, float factor) { return max == -INFINITE ? 0.0f : max * factor; }

// Two neighbouring channels of a row of `c`.
DEVICE void store_channels(num* row, int channel, float x, float y, int c) {
  if (c % 2 == 0) {
    if (channel < c) *(uint32_t*)(row + channel) = pack_bf16x2(x, y);
  } else {
    if (channel < c) row[channel] = to_bf16(x);
    if (channel + 1 < c) row[channel + 1] = to_bf16(y);
  }
}

// A kernel for heads of up to 32, 64, 96, 128, 192 and 256 channels: KERNEL names, a list of
// parameters, and the call of a template that takes the channels first.
#define FOR_CHANNELS(name, parameters, body, arguments)                                    \
  KERNEL(128, name##_c32) parameters { body<32> arguments; } REGISTER(name##_c32)      \
  KERNEL(128, name##_c64) parameters { body<64> arguments; } REGISTER(name##_c64)      \
  KERNEL(128, name##_c96) parameters { body<96> arguments; } REGISTER(name##_c96)      \
  KERNEL(128, name##_c128) parameters { body<128> arguments; } REGISTER(name##_c128)   \
  KERNEL(128, name##_c192) parameters { body<192> arguments; } REGISTER(name##_c192)   \
  KERNEL(128, name##_c256) parameters { body<256> arguments; } REGISTER(name##_c256)

#endif

// The three matrix products of a linear layer, on any device of sm_80 or later. See linear_hopper.cu for sm_90a.
//
//   linear:                 out[n,o]      = x[n,i] weight[o,i]^T + bias[o]
//   linear_wide:            the same, out as float where num is bf16
//   linear_backward_input:  dx[n,i]      += dout[n,o] weight[o,i]
//   linear_backward_weight: dweight[o,i] += dout[n,o]^T x[n,i],  float in both types
//   (dbias[o] += sum over n of dout[n,o] is add_rows of rows.cu.)
//
// Who owns what: a block owns a tile of the output, `_small` and `_few` ones where there are not enough large ones to fill the device.
// Numerics. float: every output is one chain of fused multiply-adds in ascending depth, from 0 or from what the output holds: the bits
// of the CPU back end, whatever the tile. bf16: one chain of m16n8k16 tensor-core steps in ascending depth, sums in float, rounded once at the end;
// which tile computes a row, and which rows lie beside it, changes nothing. Depths beyond the matrix are not multiplied, or are zeros
// within the last step of 16. The order of a weight's gradient over rows is that of the rows; in bf16 in groups of 16.
// Determinism: no atomics, no splitting of the depth.
// float: tiles of 128x128x8 in two buffers, a thread 8x8 of it, the next piece on its way in registers (Volkov & Demmel 2008).
// bf16: a ring of cp.async stages, ldmatrix from shared memory swizzled by 16-byte chunks (no bank conflicts), mma.sync.
// Budget, registers a thread / shared memory: float 150 / 17 KiB; bf16 170 / 64 KiB, forward 128 (two blocks a multiprocessor); few rows 72 / 72 KiB.
// Budget of linear*_f32: 152 registers, 17 KiB
// Budget of linear*_small_f32: 96 registers, 7 KiB
// Budget of linear_bf16: 128 registers, 64 KiB
// Budget of linear_wide_bf16: 128 registers, 64 KiB
// Budget of linear_backward_*_bf16: 168 registers, 64 KiB
// Budget of linear*_small_bf16: 128 registers, 32 KiB
// Budget of linear*_few_bf16: 72 registers, 72 KiB
#include "prelude.cuh"

// The row and column of tiles that a block owns: bands of 8 rows of tiles, columns within, so that blocks which run at the same time
// share what they read in the second cache.
struct Place {
  size row, column;
};
DEVICE Place place(size rows, size columns) {
  const size BAND = 8;
  size band = blockIdx.x / (BAND * columns), within = blockIdx.x - band * BAND * columns;
  size height = rows - band * BAND < BAND ? rows - band * BAND : BAND;
  return {band * BAND + within % height, within / height};
}

DEVICE bool aligned(const void* x, size bytes) { return (((uint64_t)x | (uint64_t)bytes) & 15) == 0; }

// An operand: BY_DEPTH lies as [rows, stride] with the depth contiguous, else as [depth, stride] with the rows contiguous.
template <bool BY_DEPTH> struct Operand {
  const num* x;
  size stride, rows, depth;
  __device__ __forceinline__ bool whole() const { return aligned(x, stride * (size)sizeof(num)); }
  __device__ __forceinline__ const num* at(size row, size k) const { return BY_DEPTH ? x + row * stride + k : x + k * stride + row; }
  __device__ __forceinline__ bool has(size row, size k) const { return row < rows && k < depth; }
};

#ifdef NUM_F32

const int DEPTH = 8;

// WIDTH rows of an operand, DEPTH deep, on their way to shared memory as [DEPTH][WIDTH + 4].
template <int WIDTH, int THREADS, bool BY_DEPTH> struct Piece {
  static const int QUADS = WIDTH * DEPTH / 4, EACH = (QUADS + THREADS - 1) / THREADS;
  float4 quads[EACH];

  static __device__ __forceinline__ int row(int quad) { return BY_DEPTH ? quad / (DEPTH / 4) : quad % (WIDTH / 4) * 4; }
  static __device__ __forceinline__ int k(int quad) { return BY_DEPTH ? quad % (DEPTH / 4) * 4 : quad / (WIDTH / 4); }
  __device__ __forceinline__ void load(const Operand<BY_DEPTH>& from, bool whole, size first_row, size first_k) {
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      int quad = threadIdx.x + e * THREADS;
      quads[e] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (QUADS % THREADS && quad >= QUADS) continue;
      size r = first_row + row(quad), k_at = first_k + k(quad);
      if (whole && from.has(BY_DEPTH ? r : r + 3, BY_DEPTH ? k_at + 3 : k_at)) {
        quads[e] = *(const float4*)from.at(r, k_at);
        continue;
      }
      float x[4];
#pragma unroll
      for (int s = 0; s < 4; s++) {
        size rs = BY_DEPTH ? r : r + s, ks = BY_DEPTH ? k_at + s : k_at;
        x[s] = from.has(rs, ks) ? *from.at(rs, ks) : 0.0f;
      }
      quads[e] = make_float4(x[0], x[1], x[2], x[3]);
    }
  }
  __device__ __forceinline__ void put(float* shared) const {
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      int quad = threadIdx.x + e * THREADS;
      if (QUADS % THREADS && quad >= QUADS) continue;
      float* at = shared + k(quad) * (WIDTH + 4) + row(quad);
      if (BY_DEPTH) {
        at[0] = quads[e].x;
        at[WIDTH + 4] = quads[e].y;
        at[2 * (WIDTH + 4)] = quads[e].z;
        at[3 * (WIDTH + 4)] = quads[e].w;
      } else {
        *(float4*)at = quads[e];
      }
    }
  }
};

// One depth of a tile.
template <int ROWS, int COLUMNS, int GRAIN>
DEVICE void multiply(float (&sums)[GRAIN][GRAIN], const float* left, const float* right, int d, int ty, int tx) {
  const int SQUARES = GRAIN / 4;
  float x[GRAIN], y[GRAIN];
#pragma unroll
  for (int q = 0; q < SQUARES; q++) {
    float4 a = *(const float4*)(left + d * (ROWS + 4) + ty + q * (ROWS / SQUARES));
    float4 b = *(const float4*)(right + d * (COLUMNS + 4) + tx + q * (COLUMNS / SQUARES));
    x[4 * q] = a.x, x[4 * q + 1] = a.y, x[4 * q + 2] = a.z, x[4 * q + 3] = a.w;
    y[4 * q] = b.x, y[4 * q + 1] = b.y, y[4 * q + 2] = b.z, y[4 * q + 3] = b.w;
  }
#pragma unroll
  for (int r = 0; r < GRAIN; r++)
#pragma unroll
    for (int s = 0; s < GRAIN; s++) sums[r][s] = fmaf(x[r], y[s], sums[r][s]);
}

// One tile of c[rows, columns] = (0 or c) + a b (+ bias), ROWS x COLUMNS, a thread GRAIN x GRAIN of it in squares of 4.
template <int ROWS, int COLUMNS, int GRAIN, bool A_BY_DEPTH, bool B_BY_DEPTH, bool ACCUMULATE>
DEVICE void product(float* c, Operand<A_BY_DEPTH> a, Operand<B_BY_DEPTH> b, const float* bias) {
  const int ACROSS = COLUMNS / GRAIN, THREADS = ROWS / GRAIN * ACROSS, SQUARES = GRAIN / 4;
  __shared__ __align__(16) float left[2][DEPTH * (ROWS + 4)], right[2][DEPTH * (COLUMNS + 4)];
  Place at = place((a.rows + ROWS - 1) / ROWS, (b.rows + COLUMNS - 1) / COLUMNS);
  size first_row = at.row * ROWS, first_column = at.column * COLUMNS;
  int ty = threadIdx.x / ACROSS * 4, tx = threadIdx.x % ACROSS * 4;
  bool a_whole = a.whole(), b_whole = b.whole();

  float sums[GRAIN][GRAIN];
#pragma unroll
  for (int r = 0; r < GRAIN; r++)
#pragma unroll
    for (int s = 0; s < GRAIN; s++) {
      size row = first_row + ty + r / 4 * (ROWS / SQUARES) + r % 4, column = first_column + tx + s / 4 * (COLUMNS / SQUARES) + s % 4;
      sums[r][s] = ACCUMULATE && row < a.rows && column < b.rows ? c[row * b.rows + column] : 0.0f;
    }

  Piece<ROWS, THREADS, A_BY_DEPTH> next_left;
  Piece<COLUMNS, THREADS, B_BY_DEPTH> next_right;
  next_left.load(a, a_whole, first_row, 0);
  next_right.load(b, b_whole, first_column, 0);
  int buffer = 0;
  for (size k = 0; k < a.depth; k += DEPTH, buffer ^= 1) {
    next_left.put(left[buffer]);
    next_right.put(right[buffer]);
    // The other buffer was last read before the barrier of the step before.
    __syncthreads();
    if (k + DEPTH < a.depth) {
      next_left.load(a, a_whole, first_row, k + DEPTH);
      next_right.load(b, b_whole, first_column, k + DEPTH);
    }
    if (a.depth - k >= DEPTH) {
#pragma unroll
      for (int d = 0; d < DEPTH; d++) multiply<ROWS, COLUMNS, GRAIN>(sums, left[buffer], right[buffer], d, ty, tx);
    } else {
#pragma unroll 1
      for (int d = 0; d < a.depth - k; d++) multiply<ROWS, COLUMNS, GRAIN>(sums, left[buffer], right[buffer], d, ty, tx);
    }
  }

#pragma unroll
  for (int r = 0; r < GRAIN; r++)
#pragma unroll
    for (int s = 0; s < GRAIN; s++) {
      size row = first_row + ty + r / 4 * (ROWS / SQUARES) + r % 4, column = first_column + tx + s / 4 * (COLUMNS / SQUARES) + s % 4;
      if (row >= a.rows || column >= b.rows) continue;
      c[row * b.rows + column] = bias ? sums[r][s] + bias[column] : sums[r][s];
    }
}

KERNEL(256, linear)(num* out, const num* x, const num* weight, const num* bias, size n, size i, size o) {
  product<128, 128, 8, true, true, false>(out, Operand<true>{x, i, n, i}, Operand<true>{weight, i, o, i}, bias);
}
REGISTER(linear)
KERNEL(128, linear_small)(num* out, const num* x, const num* weight, const num* bias, size n, size i, size o) {
  product<32, 64, 4, true, true, false>(out, Operand<true>{x, i, n, i}, Operand<true>{weight, i, o, i}, bias);
}
REGISTER(linear_small)
KERNEL(256, linear_backward_input)(num* dx, const num* dout, const num* weight, size n, size i, size o) {
  product<128, 128, 8, true, false, true>(dx, Operand<true>{dout, o, n, o}, Operand<false>{weight, i, i, o}, nullptr);
}
REGISTER(linear_backward_input)
KERNEL(128, linear_backward_input_small)(num* dx, const num* dout, const num* weight, size n, size i, size o) {
  product<32, 64, 4, true, false, true>(dx, Operand<true>{dout, o, n, o}, Operand<false>{weight, i, i, o}, nullptr);
}
REGISTER(linear_backward_input_small)
KERNEL(256, linear_backward_weight)(float* dweight, const num* dout, const num* x, size n, size i, size o) {
  product<128, 128, 8, false, false, true>(dweight, Operand<false>{dout, o, o, n}, Operand<false>{x, i, i, n}, nullptr);
}
REGISTER(linear_backward_weight)
KERNEL(128, linear_backward_weight_small)(float* dweight, const num* dout, const num* x, size n, size i, size o) {
  product<32, 64, 4, false, false, true>(dweight, Operand<false>{dout, o, o, n}, Operand<false>{x, i, i, n}, nullptr);
}
REGISTER(linear_backward_weight_small)

#else

// One operand of a tile on its way to shared memory: WIDTH rows, DEPTH deep, in chunks of 8 numbers. Line l of a stage has its chunk c at
// c ^ turn(l), so that the 8 lines that a matrix load reads, or a copy writes, lie in different banks.
template <int WIDTH, int DEPTH, int THREADS, bool BY_DEPTH> struct Stream {
  static const int LINE = BY_DEPTH ? DEPTH : WIDTH, LINES = BY_DEPTH ? WIDTH : DEPTH, CHUNKS = LINE / 8, EACH = LINES * CHUNKS / THREADS;
  static const int NUMBERS = WIDTH * DEPTH;
  Operand<BY_DEPTH> operand;
  // Of the next depths to bring; bit e of `real`: the row of chunk e is in the matrix.
  const num* from[EACH];
  uint32_t real;
  bool whole;

  static __device__ __forceinline__ int offset(int line, int chunk) {
    return line * LINE + (chunk ^ (CHUNKS == 4 ? line >> 1 & 3 : line & 7)) * 8;
  }
  static __device__ __forceinline__ int line_of(int e) { return ((int)threadIdx.x + e * THREADS) / CHUNKS; }
  static __device__ __forceinline__ int chunk_of(int e) { return ((int)threadIdx.x + e * THREADS) % CHUNKS; }

  __device__ __forceinline__ void start(Operand<BY_DEPTH> of, size first_row) {
    operand = of;
    whole = of.whole();
    real = 0;
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      size row = first_row + (BY_DEPTH ? line_of(e) : chunk_of(e) * 8);
      from[e] = of.at(row, BY_DEPTH ? chunk_of(e) * 8 : line_of(e));
      real |= (uint32_t)(row < of.rows) << e;
    }
  }
  // Brings the depths from `k` on, which follow those brought last. Depths and rows beyond the matrix become zeros.
  __device__ __forceinline__ void bring(num* stage, size k, size first_row) {
    if (!whole) return bring_numbers(stage, k, first_row);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      int line = line_of(e), chunk = chunk_of(e);
      bool wanted = (real >> e & 1) && k + (BY_DEPTH ? chunk * 8 : line) < operand.depth;
      copy_async_16(stage + offset(line, chunk), wanted ? from[e] : operand.x, wanted);
      from[e] += BY_DEPTH ? DEPTH : DEPTH * operand.stride;
    }
  }
  // The same where chunks are not aligned.
  __device__ __forceinline__ void bring_numbers(num* stage, size k, size first_row) {
#pragma unroll 1
    for (int at = threadIdx.x; at < LINES * CHUNKS * 8; at += THREADS) {
      int line = at / LINE, in = at % LINE;
      size row = first_row + (BY_DEPTH ? line : in), depth = k + (BY_DEPTH ? in : line);
      stage[offset(line, in / 8) + in % 8] = operand.has(row, depth) ? *operand.at(row, depth) : bf16{0};
    }
  }
};

// The left fragment of rows `row`.. and depths `k`.. of a stage.
template <class Left> DEVICE void left_fragment(uint32_t (&a)[4], const num* stage, int row, int k, bool by_depth) {
  int lane = threadIdx.x % 32;
  if (by_depth)
    ldmatrix_x4(a, stage + Left::offset(row + lane % 16, k / 8 + lane / 16));
  else
    ldmatrix_x4_trans(a, stage + Left::offset(k + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2));
}
// The right fragments of columns `column`..+16.
template <class Right> DEVICE void right_fragments(uint32_t (&b0)[2], uint32_t (&b1)[2], const num* stage, int column, int k, bool by_depth) {
  int lane = threadIdx.x % 32;
  uint32_t r[4];
  if (by_depth)
    ldmatrix_x4(r, stage + Right::offset(column + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2));
  else
    ldmatrix_x4_trans(r, stage + Right::offset(k + lane / 8 % 2 * 8 + lane % 8, column / 8 + lane / 16));
  b0[0] = r[0], b0[1] = r[1], b1[0] = r[2], b1[1] = r[3];
}
// The right fragment of columns `column`..+8.
template <class Right> DEVICE void right_fragment(uint32_t (&b)[2], const num* stage, int column, int k) {
  int lane = threadIdx.x % 16;
  ldmatrix_x2(b, stage + Right::offset(column + lane % 8, k / 8 + lane / 8));
}

// Two neighbours of a row.
DEVICE void store_pair(bf16* at, float x, float y) { *(uint32_t*)at = pack_bf16x2(x, y); }
DEVICE void store_pair(float* at, float x, float y) { *(float2*)at = make_float2(x, y); }

// One tile of c[rows, columns] = (0 or c) + a b (+ bias), ROWS x COLUMNS, by DOWN x ACROSS warps, from a ring of stages DEPTH deep.
template <int ROWS, int COLUMNS, int DEPTH, int STAGES, int DOWN, int ACROSS, bool A_BY_DEPTH, bool B_BY_DEPTH, bool ACCUMULATE, class C>
DEVICE void product(C* c, Operand<A_BY_DEPTH> a, Operand<B_BY_DEPTH> b, const num* bias) {
  const int THREADS = 32 * DOWN * ACROSS, M = ROWS / DOWN / 16, N = COLUMNS / ACROSS / 8;
  typedef Stream<ROWS, DEPTH, THREADS, A_BY_DEPTH> Left;
  typedef Stream<COLUMNS, DEPTH, THREADS, B_BY_DEPTH> Right;
  DYNAMIC_SHARED(num, shared);
  num *lefts = shared, *rights = shared + STAGES * Left::NUMBERS;
  Place at = place((a.rows + ROWS - 1) / ROWS, (b.rows + COLUMNS - 1) / COLUMNS);
  size first_row = at.row * ROWS, first_column = at.column * COLUMNS;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int row = warp / ACROSS * M * 16, column = warp % ACROSS * N * 8;
  Left left;
  Right right;
  left.start(a, first_row);
  right.start(b, first_column);
#pragma unroll
  for (int stage = 0; stage < STAGES - 1; stage++) {
    if (stage * DEPTH < a.depth) {
      left.bring(lefts + stage * Left::NUMBERS, stage * DEPTH, first_row);
      right.bring(rights + stage * Right::NUMBERS, stage * DEPTH, first_column);
    }
    copy_async_commit();
  }

  // Where element e of sum (m, n) lies.
  auto row_of = [&](int m, int e) { return first_row + row + m * 16 + lane / 4 + e / 2 * 8; };
  auto column_of = [&](int n, int e) { return first_column + column + n * 8 + lane % 4 * 2 + e % 2; };
  float sums[M][N][4];
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        bool real = ACCUMULATE && row_of(m, e) < a.rows && column_of(n, e) < b.rows;
        sums[m][n][e] = real ? to_float(c[row_of(m, e) * b.rows + column_of(n, e)]) : 0.0f;
      }

  int stage = 0, next = STAGES - 1;
  for (size k = 0; k < a.depth; k += DEPTH) {
    copy_async_wait<STAGES - 2>();
    // The stage is there for all, and all are done with the one before it, which is filled next.
    __syncthreads();
    if (k + (STAGES - 1) * DEPTH < a.depth) {
      left.bring(lefts + next * Left::NUMBERS, k + (STAGES - 1) * DEPTH, first_row);
      right.bring(rights + next * Right::NUMBERS, k + (STAGES - 1) * DEPTH, first_column);
    }
    copy_async_commit();
    const num *left_stage = lefts + stage * Left::NUMBERS, *right_stage = rights + stage * Right::NUMBERS;
#pragma unroll
    for (int d = 0; d < DEPTH; d += 16) {
      if (k + d >= a.depth) break;
      uint32_t x[M][4], y[N][2];
#pragma unroll
      for (int m = 0; m < M; m++) left_fragment<Left>(x[m], left_stage, row + m * 16, d, A_BY_DEPTH);
      if constexpr (N == 1) {
        right_fragment<Right>(y[0], right_stage, column, d);
      } else {
#pragma unroll
        for (int n = 0; n + 1 < N; n += 2) right_fragments<Right>(y[n], y[n + 1], right_stage, column + n * 8, d, B_BY_DEPTH);
      }
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++) mma_m16n8k16_bf16(sums[m][n], x[m], y[n]);
    }
    stage = stage + 1 < STAGES ? stage + 1 : 0;
    next = next + 1 < STAGES ? next + 1 : 0;
  }

  auto shifted = [&](int m, int n, int e) {
    size at_column = column_of(n, e);
    return bias && at_column < b.rows ? sums[m][n][e] + to_float(bias[at_column]) : sums[m][n][e];
  };
  if constexpr (sizeof(C) == 2 && N % 4 == 0) {
    // Four lanes exchange what they have of four groups of 8 columns, so that each writes one of them: where another has read.
    __syncwarp();
    if (aligned(c, b.rows * (size)sizeof(C))) {
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n += 4)
#pragma unroll
          for (int e = 0; e < 4; e += 2) {
            uint32_t words[4];
#pragma unroll
            for (int s = 0; s < 4; s++) words[s] = pack_bf16x2(shifted(m, n + s, e), shifted(m, n + s, e + 1));
            quad_transpose(words);
            size at_column = first_column + column + n * 8 + lane % 4 * 8;
            if (row_of(m, e) < a.rows && at_column < b.rows)
              *(uint4*)(c + row_of(m, e) * b.rows + at_column) = make_uint4(words[0], words[1], words[2], words[3]);
          }
      return;
    }
  }
  bool pairs = b.rows % 2 == 0;
#pragma unroll
  for (int n = 0; n < N; n++) {
    size at_column = column_of(n, 0);
    if (at_column >= b.rows) continue;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        if (row_of(m, e) >= a.rows) continue;
        C* to = c + row_of(m, e) * b.rows + at_column;
        if (pairs) {
          store_pair(to, shifted(m, n, e), shifted(m, n, e + 1));
          continue;
        }
        store(to, shifted(m, n, e));
        if (at_column + 1 < b.rows) store(to + 1, shifted(m, n, e + 1));
      }
  }
}

// Tiles: rows, columns, depth, stages, warps down and across.
#define LARGE 128, 128, 32, 4, 2, 4
#define SMALL 64, 64, 32, 4, 2, 2
#define FEW 16, 32, 128, 6, 1, 4

KERNEL(256, linear)(num* out, const num* x, const num* weight, const num* bias, size n, size i, size o) {
  product<LARGE, true, true, false>(out, Operand<true>{x, i, n, i}, Operand<true>{weight, i, o, i}, bias);
}
REGISTER(linear)
KERNEL(128, linear_small)(num* out, const num* x, const num* weight, const num* bias, size n, size i, size o) {
  product<SMALL, true, true, false>(out, Operand<true>{x, i, n, i}, Operand<true>{weight, i, o, i}, bias);
}
REGISTER(linear_small)
KERNEL(128, linear_few)(num* out, const num* x, const num* weight, const num* bias, size n, size i, size o) {
  product<FEW, true, true, false>(out, Operand<true>{x, i, n, i}, Operand<true>{weight, i, o, i}, bias);
}
REGISTER(linear_few)
KERNEL(256, linear_wide)(float* out, const num* x, const num* weight, const num* bias, size n, size i, size o) {
  product<LARGE, true, true, false>(out, Operand<true>{x, i, n, i}, Operand<true>{weight, i, o, i}, bias);
}
REGISTER(linear_wide)
KERNEL(128, linear_wide_small)(float* out, const num* x, const num* weight, const num* bias, size n, size i, size o) {
  product<SMALL, true, true, false>(out, Operand<true>{x, i, n, i}, Operand<true>{weight, i, o, i}, bias);
}
REGISTER(linear_wide_small)
KERNEL(128, linear_wide_few)(float* out, const num* x, const num* weight, const num* bias, size n, size i, size o) {
  product<FEW, true, true, false>(out, Operand<true>{x, i, n, i}, Operand<true>{weight, i, o, i}, bias);
}
REGISTER(linear_wide_few)
KERNEL(256, linear_backward_input)(num* dx, const num* dout, const num* weight, size n, size i, size o) {
  product<LARGE, true, false, true>(dx, Operand<true>{dout, o, n, o}, Operand<false>{weight, i, i, o}, nullptr);
}
REGISTER(linear_backward_input)
KERNEL(128, linear_backward_input_small)(num* dx, const num* dout, const num* weight, size n, size i, size o) {
  product<SMALL, true, false, true>(dx, Operand<true>{dout, o, n, o}, Operand<false>{weight, i, i, o}, nullptr);
}
REGISTER(linear_backward_input_small)
KERNEL(256, linear_backward_weight)(float* dweight, const num* dout, const num* x, size n, size i, size o) {
  product<LARGE, false, false, true>(dweight, Operand<false>{dout, o, o, n}, Operand<false>{x, i, i, n}, nullptr);
}
REGISTER(linear_backward_weight)
KERNEL(128, linear_backward_weight_small)(float* dweight, const num* dout, const num* x, size n, size i, size o) {
  product<SMALL, false, false, true>(dweight, Operand<false>{dout, o, o, n}, Operand<false>{x, i, i, n}, nullptr);
}
REGISTER(linear_backward_weight_small)

#endif

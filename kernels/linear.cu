// The three matrix products of a linear layer, on any device of sm_80 or later. See
// linear_hopper.cu for sm_90a.
//
//   linear:                 out[n,o]      = x[n,i] weight[o,i]^T + bias[o] (+ residual[n,o])
//   linear_wide:            the same without a residual, out as float where num is bf16
//   linear_function:        kept[n,o]     = x weight^T + bias, out = f(kept) (* factor[n,o]); kept
//     is not stored where it is null
//   linear_several:         linear of the same x by up to three layers in one launch
//   linear_backward_input:  dx[n,i]       = (dx or 0) + dout[n,o] weight[o,i]
//   linear_backward_weight: dweight[o,i] += dout[n,o]^T x[n,i],  float in both types
//   (dbias[o] += sum over n of dout[n,o] is add_rows of rows.cu.)
//
// Who owns what: a block owns a tile of the output, `_small` and `_few` ones where there are not
// enough large ones to fill the device.
// Numerics. float: every output is one chain of fused multiply-adds in ascending depth, from 0 or
// from what the output holds: the bits of the CPU back end, whatever the tile. bf16: one chain of
// m16n8k16 tensor-core steps in ascending depth, sums in float, rounded once at the end; which tile
// computes a row, and which rows are beside it, changes nothing. Depths beyond the
// matrix are not multiplied, or are zeros
// within the last step of 16. The order of a weight's gradient over rows is that of the rows; in
// bf16 in groups of 16. Bias and residual are added to the sum in float, in this order, before it
// is rounded to what is stored; a function is of the sum as it is, or would be, stored.
// Determinism: no atomics, no splitting of the depth.
// float: tiles of 128x128x8 in two buffers, a thread 8x8 of it, the next piece on its way in
// registers (Volkov & Demmel 2008).
// bf16: a ring of cp.async stages, ldmatrix from shared memory swizzled by 16-byte chunks (no bank
// conflicts), mma.sync.
// Two blocks a multiprocessor of the large tile forward; one with a function, and backward.
// Budget of linear*_f32: 176 registers, 17 KiB static
// Budget of linear*_small_f32: 96 registers, 7 KiB static
// Budget of linear*_bf16: 128 registers, 64 KiB dynamic
// Budget of linear_function_bf16: 144 registers, 64 KiB dynamic
// Budget of linear_backward_*_bf16: 152 registers, 64 KiB dynamic
// Budget of linear*_small_bf16: 104 registers, 32 KiB dynamic
// Budget of linear*_few_bf16: 88 registers, 72 KiB dynamic
#include "prelude.cuh"
#include "linear.cuh"

DEVICE bool aligned(const void* x, size bytes) {
  return (((uint64_t)x | (uint64_t)bytes) & 15) == 0;
}

// An operand: BY_DEPTH is stored as [rows, stride] with the depth contiguous, else as [depth,
// stride] with the rows contiguous.
template <bool BY_DEPTH> struct Operand {
  const num* x;
  size stride, rows, depth;
  __device__ __forceinline__ bool whole() const { return aligned(x, stride * (size)sizeof(num)); }
  __device__ __forceinline__ const num* at(size row, size k) const {
    return BY_DEPTH ? x + row * stride + k : x + k * stride + row;
  }
  __device__ __forceinline__ bool has(size row, size k) const { return row < rows && k < depth; }
};

#ifdef NUM_F32

const int DEPTH = 8;

// WIDTH rows of an operand, DEPTH deep, on their way to shared memory as [DEPTH][WIDTH + 4].
template <int WIDTH, int THREADS, bool BY_DEPTH> struct Piece {
  static const int QUADS = WIDTH * DEPTH / 4, EACH = (QUADS + THREADS - 1) / THREADS;
  float4 quads[EACH];

  static __device__ __forceinline__ int row(int quad) {
    return BY_DEPTH ? quad / (DEPTH / 4) : quad % (WIDTH / 4) * 4;
  }
  static __device__ __forceinline__ int k(int quad) {
    return BY_DEPTH ? quad % (DEPTH / 4) * 4 : quad / (WIDTH / 4);
  }
  __device__ __forceinline__ void load(const Operand<BY_DEPTH>& from, bool whole, size first_row,
                                       size first_k) {
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
DEVICE void multiply(float (&sums)[GRAIN][GRAIN], const float* left, const float* right, int d,
                     int ty, int tx) {
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

// HIGH x WIDE sums of a thread, and where its first square of 4 x 4 is in the output; the next ones
// are DOWN and ACROSS on.
template <int DOWN, int ACROSS, int HIGH, int WIDE> struct Sums {
  float (&x)[HIGH][WIDE];
  size row, column, rows, columns;
  // f(two neighbouring sums, their row, the column of the first, whether the second is in the
  // output) of all that are in the output.
  template <class F> __device__ __forceinline__ void everywhere(F f) const {
#pragma unroll
    for (int r = 0; r < HIGH; r++)
#pragma unroll
      for (int s = 0; s < WIDE; s += 2) {
        size at_row = row + r / 4 * DOWN + r % 4, at_column = column + s / 4 * ACROSS + s % 4;
        if (at_row < rows && at_column < columns)
          f(x[r][s], x[r][s + 1], at_row, at_column, at_column + 1 < columns);
      }
  }
  __device__ __forceinline__ void put(float* to) const { put_pairs(*this, to); }
};

// Tile `at` of c[rows, columns] = (0 or c) + a b (+ bias ...), ROWS x COLUMNS, a thread GRAIN x
// GRAIN of it in squares of 4.
template <int ROWS, int COLUMNS, int GRAIN, bool A_BY_DEPTH, bool B_BY_DEPTH>
DEVICE void product(Place at, float* c, bool adds, Operand<A_BY_DEPTH> a, Operand<B_BY_DEPTH> b,
                    const float* bias, Finish more) {
  const int ACROSS = COLUMNS / GRAIN, THREADS = ROWS / GRAIN * ACROSS, SQUARES = GRAIN / 4;
  __shared__ __align__(16) float left[2][DEPTH * (ROWS + 4)], right[2][DEPTH * (COLUMNS + 4)];
  size first_row = at.row * ROWS, first_column = at.column * COLUMNS;
  int ty = threadIdx.x / ACROSS * 4, tx = threadIdx.x % ACROSS * 4;
  bool a_whole = a.whole(), b_whole = b.whole();

  float sums[GRAIN][GRAIN];
#pragma unroll
  for (int r = 0; r < GRAIN; r++)
#pragma unroll
    for (int s = 0; s < GRAIN; s++) {
      size row = first_row + ty + r / 4 * (ROWS / SQUARES) + r % 4,
           column = first_column + tx + s / 4 * (COLUMNS / SQUARES) + s % 4;
      sums[r][s] = adds && row < a.rows && column < b.rows ? c[row * b.rows + column] : 0.0f;
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
      for (int d = 0; d < DEPTH; d++)
        multiply<ROWS, COLUMNS, GRAIN>(sums, left[buffer], right[buffer], d, ty, tx);
    } else {
#pragma unroll 1
      for (int d = 0; d < a.depth - k; d++)
        multiply<ROWS, COLUMNS, GRAIN>(sums, left[buffer], right[buffer], d, ty, tx);
    }
  }

  size row = first_row + ty, column = first_column + tx;
  if (more.which < 0)
    return finish(Sums<ROWS / SQUARES, COLUMNS / SQUARES, GRAIN, GRAIN>{sums, row, column, a.rows,
                                                                        b.rows},
                  c, bias, more);
  // A row at a time, the others moving up, so that the code of a function is there for one row.
#pragma unroll 1
  for (int r = 0; r < GRAIN; r++) {
    float some[1][GRAIN];
#pragma unroll
    for (int s = 0; s < GRAIN; s++) {
      some[0][s] = sums[0][s];
#pragma unroll
      for (int above = 1; above < GRAIN; above++) sums[above - 1][s] = sums[above][s];
    }
    finish(Sums<0, COLUMNS / SQUARES, 1, GRAIN>{some, row + r / 4 * (ROWS / SQUARES) + r % 4,
                                                column, a.rows, b.rows},
           c, bias, more);
  }
}

// Tiles: rows, columns, numbers of a side of what a thread owns.
#define LARGE 128, 128, 8
#define SMALL 32, 64, 4

#else

// One operand of a tile on its way to shared memory: WIDTH rows, DEPTH deep, in chunks of 8
// numbers. Line l of a stage has its chunk c at c ^ turn(l), so that the 8 lines that a matrix load
// reads, or a copy writes, are in different
// banks.
template <int WIDTH, int DEPTH, int THREADS, bool BY_DEPTH> struct Stream {
  static const int LINE = BY_DEPTH ? DEPTH : WIDTH, LINES = BY_DEPTH ? WIDTH : DEPTH,
                   CHUNKS = LINE / 8, EACH = LINES * CHUNKS / THREADS;
  static const int NUMBERS = WIDTH * DEPTH;
  Operand<BY_DEPTH> operand;
  // Of the next depths to bring; bit e of `real`: the row of chunk e is in the matrix.
  const num* from[EACH];
  uint32_t real;
  bool whole;

  static __device__ __forceinline__ int offset(int line, int chunk) {
    return line * LINE + (chunk ^ (CHUNKS == 4 ? line >> 1 & 3 : line & 7)) * 8;
  }
  static __device__ __forceinline__ int line_of(int e) {
    return ((int)threadIdx.x + e * THREADS) / CHUNKS;
  }
  static __device__ __forceinline__ int chunk_of(int e) {
    return ((int)threadIdx.x + e * THREADS) % CHUNKS;
  }

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
  // Brings the depths from `k` on, which follow those brought last. Depths and rows beyond the
  // matrix become zeros.
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
      stage[offset(line, in / 8) + in % 8] =
          operand.has(row, depth) ? *operand.at(row, depth) : bf16{0};
    }
  }
};

// The left fragment of rows `row`.. and depths `k`.. of a stage.
template <class Left>
DEVICE void left_fragment(uint32_t (&a)[4], const num* stage, int row, int k, bool by_depth) {
  int lane = threadIdx.x % 32;
  if (by_depth)
    ldmatrix_x4(a, stage + Left::offset(row + lane % 16, k / 8 + lane / 16));
  else
    ldmatrix_x4_trans(a,
                      stage + Left::offset(k + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2));
}
// The right fragments of columns `column`..+16.
template <class Right>
DEVICE void right_fragments(uint32_t (&b0)[2], uint32_t (&b1)[2], const num* stage, int column,
                            int k, bool by_depth) {
  int lane = threadIdx.x % 32;
  uint32_t r[4];
  if (by_depth)
    ldmatrix_x4(r, stage + Right::offset(column + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2));
  else
    ldmatrix_x4_trans(r, stage + Right::offset(k + lane / 8 % 2 * 8 + lane % 8,
                                               column / 8 + lane / 16));
  b0[0] = r[0], b0[1] = r[1], b1[0] = r[2], b1[1] = r[3];
}
// The right fragment of columns `column`..+8.
template <class Right>
DEVICE void right_fragment(uint32_t (&b)[2], const num* stage, int column, int k) {
  int lane = threadIdx.x % 16;
  ldmatrix_x2(b, stage + Right::offset(column + lane % 8, k / 8 + lane / 8));
}

// What a lane has of a tile, its first row, and the first column of its warp.
template <int M, int N> struct Sums {
  float (&x)[M][N][4];
  size row, column, rows, columns;
  // f(two neighbouring sums, their row, the column of the first, whether the second is in the
  // output) of all that are in the output.
  template <class F> __device__ __forceinline__ void everywhere(F f) const {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
          size at_row = row + m * 16 + e / 2 * 8, at_column = column + n * 8 + threadIdx.x % 4 * 2;
          if (at_row < rows && at_column < columns)
            f(x[m][n][e], x[m][n][e + 1], at_row, at_column, at_column + 1 < columns);
        }
  }
  // Where rows are whole chunks of 16 bytes, four lanes exchange what they have of four groups of 8
  // columns, so that each writes one of them: where another has read.
  template <class T> __device__ __forceinline__ void put(T* to) const {
    if constexpr (sizeof(T) == 2 && N % 4 == 0) {
      __syncwarp();
      if (aligned(to, columns * (size)sizeof(T))) {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
          for (int n = 0; n < N; n += 4)
#pragma unroll
            for (int e = 0; e < 4; e += 2) {
              uint32_t words[4];
#pragma unroll
              for (int s = 0; s < 4; s++)
                words[s] = pack_bf16x2(x[m][n + s][e], x[m][n + s][e + 1]);
              quad_transpose(words);
              size at_row = row + m * 16 + e / 2 * 8,
                   at_column = column + n * 8 + threadIdx.x % 4 * 8;
              if (at_row < rows && at_column < columns)
                *(uint4*)(to + at_row * columns + at_column) =
                    make_uint4(words[0], words[1], words[2], words[3]);
            }
        return;
      }
    }
    put_pairs(*this, to);
  }
};

// Tile `at` of c[rows, columns] = (0 or c) + a b (+ bias ...), ROWS x COLUMNS, by DOWN x ACROSS
// warps, from a ring of stages DEPTH deep.
template <int ROWS, int COLUMNS, int DEPTH, int STAGES, int DOWN, int ACROSS, bool A_BY_DEPTH,
          bool B_BY_DEPTH, class C>
DEVICE void product(Place at, C* c, bool adds, Operand<A_BY_DEPTH> a, Operand<B_BY_DEPTH> b,
                    const num* bias, Finish more) {
  const int THREADS = 32 * DOWN * ACROSS, M = ROWS / DOWN / 16, N = COLUMNS / ACROSS / 8;
  typedef Stream<ROWS, DEPTH, THREADS, A_BY_DEPTH> Left;
  typedef Stream<COLUMNS, DEPTH, THREADS, B_BY_DEPTH> Right;
  DYNAMIC_SHARED(num, shared);
  num *lefts = shared, *rights = shared + STAGES * Left::NUMBERS;
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

  // The place of element e of sum (m, n).
  auto row_of = [&](int m, int e) { return first_row + row + m * 16 + lane / 4 + e / 2 * 8; };
  auto column_of = [&](int n, int e) {
    return first_column + column + n * 8 + lane % 4 * 2 + e % 2;
  };
  float sums[M][N][4];
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        bool real = adds && row_of(m, e) < a.rows && column_of(n, e) < b.rows;
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
    const num *left_stage = lefts + stage * Left::NUMBERS,
              *right_stage = rights + stage * Right::NUMBERS;
#pragma unroll
    for (int d = 0; d < DEPTH; d += 16) {
      if (k + d >= a.depth) break;
      uint32_t x[M][4], y[N][2];
#pragma unroll
      for (int m = 0; m < M; m++)
        left_fragment<Left>(x[m], left_stage, row + m * 16, d, A_BY_DEPTH);
      if constexpr (N == 1) {
        right_fragment<Right>(y[0], right_stage, column, d);
      } else {
#pragma unroll
        for (int n = 0; n + 1 < N; n += 2)
          right_fragments<Right>(y[n], y[n + 1], right_stage, column + n * 8, d, B_BY_DEPTH);
      }
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++) mma_m16n8k16_bf16(sums[m][n], x[m], y[n]);
    }
    stage = stage + 1 < STAGES ? stage + 1 : 0;
    next = next + 1 < STAGES ? next + 1 : 0;
  }

  size at_row = first_row + row + lane / 4, at_column = first_column + column;
  if (more.which < 0)
    return finish(Sums<M, N>{sums, at_row, at_column, a.rows, b.rows}, c, bias, more);
  // 16 rows of a warp at a time, the others moving up, so that the code of a function is there for
  // 16 rows.
#pragma unroll 1
  for (int m = 0; m < M; m++) {
    float some[1][N][4];
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        some[0][n][e] = sums[0][n][e];
#pragma unroll
        for (int above = 1; above < M; above++) sums[above - 1][n][e] = sums[above][n][e];
      }
    finish(Sums<1, N>{some, at_row + m * 16, at_column, a.rows, b.rows}, c, bias, more);
  }
}

// Tiles: rows, columns, depth, stages, warps down and across.
#define LARGE 128, 128, 32, 4, 2, 4
#define SMALL 64, 64, 32, 4, 2, 2
#define FEW 16, 32, 128, 6, 1, 4

#endif

// A tile of layers that read the same x.
template <int ROWS, int COLUMNS, int... REST, int COUNT, class C>
DEVICE void forward(const Side<const num*, C> (&sides)[COUNT], const num* x, size n, size i,
                    Finish more) {
  Place at = place(blockIdx.x, (n + ROWS - 1) / ROWS, tiles_across<COLUMNS>(sides));
  Side<const num*, C> side = side_of<COLUMNS>(sides, at.column);
  product<ROWS, COLUMNS, REST..., true, true>(at, side.c, false, Operand<true>{x, i, n, i},
                                              Operand<true>{side.right, i, side.columns, i},
                                              side.bias, more);
}
template <int ROWS, int COLUMNS, int... REST, bool A_BY_DEPTH, class C>
DEVICE void backward(C* c, bool adds, Operand<A_BY_DEPTH> a, Operand<false> b) {
  Place at = place(blockIdx.x, (a.rows + ROWS - 1) / ROWS, (b.rows + COLUMNS - 1) / COLUMNS);
  product<ROWS, COLUMNS, REST..., A_BY_DEPTH, false>(at, c, adds, a, b, nullptr, NOTHING_MORE);
}

#define FORWARD_KERNELS(tile, threads, suffix)                                                     \
  KERNEL(threads, linear##suffix)                                                                  \
  (num* out, const num* x, const num* weight, const num* bias, const num* residual, size n, size i, size o) { \
    const Side<const num*, num> sides[] = {{out, weight, bias, o}};                                \
    forward<tile>(sides, x, n, i, {residual, -1, nullptr, nullptr});                               \
  }                                                                                                \
  REGISTER(linear##suffix)                                                                         \
  KERNEL_BLOCKS(threads, 1, linear_function##suffix)                                               \
  (num* out, num* kept, const num* x, const num* weight, const num* bias, const num* factor, size n, size i, size o, int which) { \
    const Side<const num*, num> sides[] = {{out, weight, bias, o}};                                \
    forward<tile>(sides, x, n, i, {nullptr, which, kept, factor});                                 \
  }                                                                                                \
  REGISTER(linear_function##suffix)                                                                \
  KERNEL(threads, linear_several##suffix)                                                          \
  (num* out0, num* out1, num* out2, const num* x, const num* weight0, const num* weight1, const num* weight2, const num* bias0, const num* bias1, \
   const num* bias2, size n, size i, size o0, size o1, size o2) {                                  \
    const Side<const num*, num> sides[] = {{out0, weight0, bias0, o0}, {out1, weight1, bias1, o1}, {out2, weight2, bias2, o2}}; \
    forward<tile>(sides, x, n, i, NOTHING_MORE);                                                   \
  }                                                                                                \
  REGISTER(linear_several##suffix)
#define WIDE_KERNEL(tile, threads, name)                                                           \
  KERNEL(threads, name)(float* out, const num* x, const num* weight, const num* bias, size n, size i, size o) { \
    const Side<const num*, float> sides[] = {{out, weight, bias, o}};                              \
    forward<tile>(sides, x, n, i, NOTHING_MORE);                                                   \
  }                                                                                                \
  REGISTER(name)
#define BACKWARD_KERNELS(tile, threads, suffix)                                                    \
  KERNEL(threads, linear_backward_input##suffix)(num* dx, const num* dout, const num* weight, size n, size i, size o, int adds) { \
    backward<tile>(dx, adds, Operand<true>{dout, o, n, o}, Operand<false>{weight, i, i, o});       \
  }                                                                                                \
  REGISTER(linear_backward_input##suffix)                                                          \
  KERNEL(threads, linear_backward_weight##suffix)(float* dweight, const num* dout, const num* x, size n, size i, size o) { \
    backward<tile>(dweight, true, Operand<false>{dout, o, o, n}, Operand<false>{x, i, i, n});      \
  }                                                                                                \
  REGISTER(linear_backward_weight##suffix)

FORWARD_KERNELS(LARGE, 256, )
FORWARD_KERNELS(SMALL, 128, _small)
BACKWARD_KERNELS(LARGE, 256, )
BACKWARD_KERNELS(SMALL, 128, _small)
#ifdef NUM_BF16
FORWARD_KERNELS(FEW, 128, _few)
WIDE_KERNEL(LARGE, 256, linear_wide)
WIDE_KERNEL(SMALL, 128, linear_wide_small)
WIDE_KERNEL(FEW, 128, linear_wide_few)
#endif

// The three matrix products of a linear layer, on any device of sm_80 or later. See linear_hopper.cu for sm_90a.
//
//   linear:                 out[n,o]      = x[n,i] weight[o,i]^T + bias[o]
//   linear_backward_input:  dx[n,i]      += dout[n,o] weight[o,i]
//   linear_backward_weight: dweight[o,i] += dout[n,o]^T x[n,i],  float in both types
//   linear_backward_bias:   dbias[o]     += sum over n of dout[n,o], float in both types
//
// Who owns what: a block owns a tile of the output, `_small` and `_few` ones where there are not enough large ones to fill the device.
// Numerics. float: every output is one chain of fused multiply-adds in ascending depth, from 0 or from what the output holds: the bits
// of the CPU back end, whatever the tile. bf16: one chain of m16n8k16 tensor-core steps in ascending depth, sums in float, rounded once at the end;
// which tile computes a row, and which rows lie beside it, changes nothing. Depths beyond the matrix are not multiplied, or are zeros
// within the last step of 16. The order of a weight's gradient over rows is that of the rows; in bf16 in groups of 16.
// Determinism: no atomics, no splitting of the depth.
// float: tiles of 128x128x8 in two buffers, a thread 8x8 of it, the next piece on its way in registers (Volkov & Demmel 2008).
// bf16: a ring of cp.async stages, ldmatrix from shared memory swizzled by 16-byte chunks (no bank conflicts), mma.sync.
// Budget, registers a thread / shared memory: float 128 / 17 KiB; bf16 128 / 64 KiB (few rows 128 / 72 KiB).
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

#endif

// A block owns 32 columns: all its threads bring rows to shared memory, one warp adds them up, a lane one chain in row order.
KERNEL(256, linear_backward_bias)(float* dbias, const num* dout, size n, size o) {
  const int COLUMNS = 32, ROWS = 64, EACH = ROWS * COLUMNS / 256;
  __shared__ float rows[2][ROWS][COLUMNS];
  int lane = threadIdx.x % COLUMNS, warp = threadIdx.x / COLUMNS;
  size column = (size)blockIdx.x * COLUMNS + lane;
  bool real = column < o;
  float sum = real && warp == 0 ? dbias[column] : 0.0f;
  float next[EACH];
#pragma unroll
  for (int e = 0; e < EACH; e++) next[e] = real && warp * EACH + e < n ? to_float(dout[(size)(warp * EACH + e) * o + column]) : 0.0f;
  int buffer = 0;
  for (size first = 0; first < n; first += ROWS, buffer ^= 1) {
#pragma unroll
    for (int e = 0; e < EACH; e++) rows[buffer][warp * EACH + e][lane] = next[e];
    __syncthreads();
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      size row = first + ROWS + warp * EACH + e;
      next[e] = real && row < n ? to_float(dout[row * o + column]) : 0.0f;
    }
    if (warp > 0) continue;
    int count = n - first < ROWS ? (int)(n - first) : ROWS;
#pragma unroll 8
    for (int r = 0; r < count; r++) sum += rows[buffer][r][lane];
  }
  if (real && warp == 0) dbias[column] = sum;
}
REGISTER(linear_backward_bias)

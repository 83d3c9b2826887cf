// Sums down the columns of matrices by a block of 256 threads that owns 32 columns: each column one
// chain of fused multiply-adds in row order, continued from what the output holds. Included after
// prelude.cuh.
//
// All eight warps bring the terms of 64 rows to shared memory while the first warp, a lane a
// column, adds up those of the 64 rows before. So the chain, which must be one, hides behind the
// loads: 64 steps of it take less time than a multiprocessor's share of the bandwidth needs for 64
// rows of 32 columns of two matrices.
#pragma once

const int COLUMNS = 32, COLUMN_ROWS = 64;

// sums[i] += a b over the rows, where term(row, i) is {a, b}.
template <class Term> DEVICE void add_columns(float* sums, size n, size d, Term term) {
  __shared__ float2 terms[2][COLUMN_ROWS][COLUMNS];
  const int EACH = COLUMN_ROWS / 8;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  size i = (size)blockIdx.x * COLUMNS + lane;
  bool adds = warp == 0 && i < d;
  float sum = adds ? sums[i] : 0.0f;
  float2 mine[EACH];
  auto bring = [&](size first) {
#pragma unroll
    for (int r = 0; r < EACH; r++) {
      size row = first + warp * EACH + r;
      mine[r] = row < n && i < d ? term(row, i) : make_float2(0.0f, 0.0f);
    }
  };
  bring(0);
  int buffer = 0;
  for (size first = 0; first < n; first += COLUMN_ROWS, buffer ^= 1) {
#pragma unroll
    for (int r = 0; r < EACH; r++) terms[buffer][warp * EACH + r][lane] = mine[r];
    // The other buffer was last read before the barrier of the round before.
    __syncthreads();
    if (first + COLUMN_ROWS < n) bring(first + COLUMN_ROWS);
    int rows = (int)min((size)COLUMN_ROWS, n - first);
    if (!adds) continue;
#pragma unroll 8
    for (int r = 0; r < rows; r++)
      sum = fmaf(terms[buffer][r][lane].x, terms[buffer][r][lane].y, sum);
  }
  if (adds) sums[i] = sum;
}

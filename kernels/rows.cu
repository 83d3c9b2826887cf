// Whole buffers and whole rows.
//
//   fill: out = value.   add: out += x.   sum_squares: sums[piece] = sum of x^2 over a piece, in
//     double.
//   gather_rows (embedding): out[m,d] = x[rows[m],d].
//   scatter_add_rows: dx[rows[m],d] += dout[m,d]; embedding_backward is the same into float in both
//     types; both in row order.
//   add_rows: sums[d] += the rows of x[n,d], in row order; sums is float in both types.
//
// A thread owns elements, in scatter_add_rows of a row of the output, from what it holds; in
// add_rows a block owns 32 columns. For scatter_add_rows the host sorts: target k takes the rows
// order[starts[k]] to order[starts[k+1] - 1] of dout, ascending.
// A block owns a piece of sum_squares: thread t takes elements t, t + 256, ..., then a butterfly,
// then the warps in order.
// Budget of *: 32 registers
// Budget of sum_squares_*: 24 registers, 1 KiB static
// Budget of add_rows_*: 56 registers, 32 KiB static
#include "prelude.cuh"
#include "columns.cuh"

KERNEL(256, fill)(num* out, float value, size n) {
  size i = ((size)blockIdx.x * 256 + threadIdx.x) * VECTOR;
  if (i >= n) return;
  float x[VECTOR];
#pragma unroll
  for (int j = 0; j < VECTOR; j++) x[j] = value;
  store(out, i, n, x);
}
REGISTER(fill)

KERNEL(256, add)(num* out, const num* x, size n) {
  size i = ((size)blockIdx.x * 256 + threadIdx.x) * VECTOR;
  if (i >= n) return;
  float outs[VECTOR], xs[VECTOR];
  load(outs, out, i, n);
  load(xs, x, i, n);
#pragma unroll
  for (int j = 0; j < VECTOR; j++) outs[j] += xs[j];
  store(out, i, n, outs);
}
REGISTER(add)

// sums[pieces], x[n]: a block a piece of `piece` elements.
KERNEL(256, sum_squares)(double* sums, const num* x, size n, size piece) {
  __shared__ double parts[8];
  size first = (size)blockIdx.x * piece, last = min(first + piece, n);
  double sum = 0.0;
#pragma unroll 4
  for (size i = first + threadIdx.x; i < last; i += 256) {
    double value = (double)to_float(x[i]);
    sum = fma(value, value, sum);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int warp = 1; warp < 8; warp++) sum += parts[warp];
  sums[blockIdx.x] = sum;
}
REGISTER(sum_squares)

// out[m,d], x[...,d], rows[m]: a warp a row.
KERNEL(256, gather_rows)(num* out, const num* x, const uint32_t* rows, size m, size d) {
  size row = (size)blockIdx.x * 8 + threadIdx.x / 32;
  if (row >= m) return;
  const num* from = x + (size)rows[row] * d;
  num* to = out + row * d;
  float xs[VECTOR];
  for (size i = threadIdx.x % 32 * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, from, i, d);
    store(to, i, d, xs);
  }
}
REGISTER(gather_rows)

// Block (k, c): columns 256 c on of target k.
template <class T>
DEVICE void scatter_add(T* dx, const num* dout, const uint32_t* targets, const uint32_t* starts,
                        const uint32_t* order, size d) {
  size i = (size)blockIdx.y * 256 + threadIdx.x;
  if (i >= d) return;
  T* to = dx + (size)targets[blockIdx.x] * d + i;
  float sum = to_float(*to);
#pragma unroll 4
  for (uint32_t at = starts[blockIdx.x]; at < starts[blockIdx.x + 1]; at++)
    sum += to_float(dout[(size)order[at] * d + i]);
  store(to, sum);
}

// dx[...,d] +=; dout[m,d], targets[k], starts[k+1], order[m]
KERNEL(256, scatter_add_rows)(num* dx, const num* dout, const uint32_t* targets,
                              const uint32_t* starts, const uint32_t* order, size d) {
  scatter_add(dx, dout, targets, starts, order, d);
}
REGISTER(scatter_add_rows)

// dtable[...,d] +=, float
KERNEL(256, embedding_backward)(float* dtable, const num* dout, const uint32_t* targets,
                                const uint32_t* starts, const uint32_t* order, size d) {
  scatter_add(dtable, dout, targets, starts, order, d);
}
REGISTER(embedding_backward)

// sums[d] +=; x[n,d]
KERNEL(256, add_rows)(float* sums, const num* x, size n, size d) {
  add_columns(sums, n, d,
              [&](size row, size i) { return make_float2(to_float(x[row * d + i]), 1.0f); });
}
REGISTER(add_rows)

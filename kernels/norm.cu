// Root-mean-square normalisation (Zhang & Sennrich 2019).
//
// Forward: x += delta, where there is one, then of what is stored of x: rstd[n] = 1 /
// sqrt(mean(x^2) + epsilon), out = x rstd weight. Backward, with y = x rstd and m = mean(weight
// dout y): dx += rstd (weight dout - y m), dweight += sum over rows of dout y.
//
// A warp owns a row; in the gradient of the weight, a block owns 32 columns and takes the rows in
// order, from what dweight holds.
// Sums in float: along a row in the order of the prelude's rows, down a column as one chain of
// fused multiply-adds.
// Budget of rms_norm_*: 56 registers
// Budget of rms_norm_backward_weight_*: 56 registers, 32 KiB static
#include "prelude.cuh"
#include "columns.cuh"
#include "residual.cuh"

// out[n,d], rstd[n], x[n,d], delta[n,d] or null, weight[d]. x is written where there is a delta
// alone.
KERNEL(256, rms_norm)(num* out, float* rstd, num* x, const num* delta, const num* weight, size n,
                      size d, float epsilon) {
  size row = (size)blockIdx.x * 8 + threadIdx.x / 32;
  int lane = threadIdx.x % 32;
  if (row >= n) return;
  num* x_row = x + row * d;
  float sum = 0.0f, xs[VECTOR], weights[VECTOR];
  for (size i = lane * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, x_row, i, d);
    if (delta) add_row(x_row, xs, delta + row * d, i, d);
#pragma unroll
    for (int j = 0; j < VECTOR; j++) sum = fmaf(xs[j], xs[j], sum);
  }
  float r = 1.0f / sqrtf(warp_sum(sum) / (float)d + epsilon);
  if (lane == 0) rstd[row] = r;
  for (size i = lane * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, x_row, i, d);
    load(weights, weight, i, d);
#pragma unroll
    for (int j = 0; j < VECTOR; j++) xs[j] = xs[j] * r * weights[j];
    store(out + row * d, i, d, xs);
  }
}
REGISTER(rms_norm)

// dx[n,d] +=; dout[n,d], x[n,d], weight[d], rstd[n]
KERNEL(256, rms_norm_backward)(num* dx, const num* dout, const num* x, const num* weight,
                               const float* rstd, size n, size d) {
  size row = (size)blockIdx.x * 8 + threadIdx.x / 32;
  int lane = threadIdx.x % 32;
  if (row >= n) return;
  float r = rstd[row], sum = 0.0f, xs[VECTOR], douts[VECTOR], weights[VECTOR], dxs[VECTOR];
  for (size i = lane * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, x + row * d, i, d);
    load(douts, dout + row * d, i, d);
    load(weights, weight, i, d);
#pragma unroll
    for (int j = 0; j < VECTOR; j++) sum = fmaf(weights[j] * douts[j], xs[j] * r, sum);
  }
  float m = warp_sum(sum) / (float)d;
  for (size i = lane * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, x + row * d, i, d);
    load(douts, dout + row * d, i, d);
    load(weights, weight, i, d);
    load(dxs, dx + row * d, i, d);
#pragma unroll
    for (int j = 0; j < VECTOR; j++) dxs[j] += r * fmaf(xs[j] * r, -m, weights[j] * douts[j]);
    store(dx + row * d, i, d, dxs);
  }
}
REGISTER(rms_norm_backward)

// dweight[d] +=; dout[n,d], x[n,d], rstd[n]
KERNEL(256, rms_norm_backward_weight)(float* dweight, const num* dout, const num* x,
                                      const float* rstd, size n, size d) {
  add_columns(dweight, n, d, [&](size row, size i) {
    return make_float2(to_float(dout[row * d + i]), to_float(x[row * d + i]) * rstd[row]);
  });
}
REGISTER(rms_norm_backward_weight)

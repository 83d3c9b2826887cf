// Layer normalisation (Ba et al. 2016).
//
// Forward: x += delta, where there is one, then of what is stored of x: mean[n] and variance of a
// row in two passes (the second sums squares of deviations, so that a mean that is large beside
// them costs no digits), rstd[n] = 1 / sqrt(variance + epsilon), out = (x - mean) rstd weight +
// bias. Backward, with y = (x - mean) rstd and g = weight dout: dx += rstd (g - mean(g) - y mean(g
// y)), dweight += sum over rows of dout y, dbias += sum over rows of dout.
//
// A warp owns a row; in the gradients of weight and bias, a block owns 32 columns and takes the
// rows in order, from what they hold.
// Sums in float: along a row in the order of the prelude's rows, down a column as one chain.
// Elements behind a row's end add nothing.
// Budget of layer_norm_*: 56 registers
// Budget of layer_norm_backward_weight_*: 56 registers, 32 KiB static
#include "prelude.cuh"
#include "columns.cuh"
#include "residual.cuh"

// out[n,d], mean[n], rstd[n], x[n,d], delta[n,d] or null, weight[d], bias[d]. x is written where
// there is a delta alone.
KERNEL(256, layer_norm)
(num* out, float* mean, float* rstd, num* x, const num* delta, const num* weight, const num* bias,
 size n, size d, float epsilon) {
  size row = (size)blockIdx.x * 8 + threadIdx.x / 32;
  int lane = threadIdx.x % 32;
  if (row >= n) return;
  float sum = 0.0f, squares = 0.0f, xs[VECTOR], weights[VECTOR], biases[VECTOR];
  for (size i = lane * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, x + row * d, i, d);
    if (delta) add_row(x + row * d, xs, delta + row * d, i, d);
#pragma unroll
    for (int j = 0; j < VECTOR; j++) sum += xs[j];
  }
  float m = warp_sum(sum) / (float)d;
  for (size i = lane * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, x + row * d, i, d);
#pragma unroll
    for (int j = 0; j < VECTOR; j++)
      if (i + j < d) squares = fmaf(xs[j] - m, xs[j] - m, squares);
  }
  float r = 1.0f / sqrtf(warp_sum(squares) / (float)d + epsilon);
  if (lane == 0) mean[row] = m;
  if (lane == 0) rstd[row] = r;
  for (size i = lane * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, x + row * d, i, d);
    load(weights, weight, i, d);
    load(biases, bias, i, d);
#pragma unroll
    for (int j = 0; j < VECTOR; j++) xs[j] = fmaf((xs[j] - m) * r, weights[j], biases[j]);
    store(out + row * d, i, d, xs);
  }
}
REGISTER(layer_norm)

// dx[n,d] +=; dout[n,d], x[n,d], weight[d], mean[n], rstd[n]
KERNEL(256, layer_norm_backward)
(num* dx, const num* dout, const num* x, const num* weight, const float* mean, const float* rstd,
 size n, size d) {
  size row = (size)blockIdx.x * 8 + threadIdx.x / 32;
  int lane = threadIdx.x % 32;
  if (row >= n) return;
  float m = mean[row], r = rstd[row], sum_g = 0.0f, sum_gy = 0.0f, xs[VECTOR], douts[VECTOR],
        weights[VECTOR], dxs[VECTOR];
  for (size i = lane * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, x + row * d, i, d);
    load(douts, dout + row * d, i, d);
    load(weights, weight, i, d);
#pragma unroll
    for (int j = 0; j < VECTOR; j++) {
      sum_g = fmaf(weights[j], douts[j], sum_g);
      sum_gy = fmaf(weights[j] * douts[j], (xs[j] - m) * r, sum_gy);
    }
  }
  float mean_g = warp_sum(sum_g) / (float)d, mean_gy = warp_sum(sum_gy) / (float)d;
  for (size i = lane * VECTOR; i < d; i += 32 * VECTOR) {
    load(xs, x + row * d, i, d);
    load(douts, dout + row * d, i, d);
    load(weights, weight, i, d);
    load(dxs, dx + row * d, i, d);
#pragma unroll
    for (int j = 0; j < VECTOR; j++)
      dxs[j] += r * fmaf((xs[j] - m) * r, -mean_gy, fmaf(weights[j], douts[j], -mean_g));
    store(dx + row * d, i, d, dxs);
  }
}
REGISTER(layer_norm_backward)

// dweight[d] +=; dout[n,d], x[n,d], mean[n], rstd[n]
KERNEL(256, layer_norm_backward_weight)(float* dweight, const num* dout, const num* x,
                                        const float* mean, const float* rstd, size n, size d) {
  add_columns(dweight, n, d, [&](size row, size i) {
    return make_float2(to_float(dout[row * d + i]),
                       (to_float(x[row * d + i]) - mean[row]) * rstd[row]);
  });
}
REGISTER(layer_norm_backward_weight)

// Functions of one number, and SwiGLU (Shazeer 2020): out = silu(gate) up. Element by element; a
// thread owns VECTOR of them.
//
//   activation: out = f(x).   activation_backward: dx = dout f'(x).   which: 0 relu, 1 gelu, 2 gelu
//     by tanh, 3 silu, 4 tanh.
//   swiglu: out = silu(gate) up.   swiglu_backward: dup = dout silu(gate), dgate = dout up s (1 +
//     gate (1 - s)).
// Budget of *: 40 registers
#include "prelude.cuh"
#include "functions.cuh"

KERNEL(256, activation)(num* out, const num* x, size n, int which) {
  size i = ((size)blockIdx.x * 256 + threadIdx.x) * VECTOR;
  if (i >= n) return;
  float xs[VECTOR];
  load(xs, x, i, n);
#pragma unroll
  for (int j = 0; j < VECTOR; j++) xs[j] = value(xs[j], which);
  store(out, i, n, xs);
}
REGISTER(activation)

KERNEL(256, activation_backward)(num* dx, const num* dout, const num* x, size n, int which) {
  size i = ((size)blockIdx.x * 256 + threadIdx.x) * VECTOR;
  if (i >= n) return;
  float xs[VECTOR], douts[VECTOR];
  load(xs, x, i, n);
  load(douts, dout, i, n);
#pragma unroll
  for (int j = 0; j < VECTOR; j++) xs[j] = douts[j] * derivative(xs[j], which);
  store(dx, i, n, xs);
}
REGISTER(activation_backward)

KERNEL(256, swiglu)(num* out, const num* gate, const num* up, size n) {
  size i = ((size)blockIdx.x * 256 + threadIdx.x) * VECTOR;
  if (i >= n) return;
  float gates[VECTOR], ups[VECTOR];
  load(gates, gate, i, n);
  load(ups, up, i, n);
#pragma unroll
  for (int j = 0; j < VECTOR; j++) gates[j] = gates[j] * plain_logistic(gates[j]) * ups[j];
  store(out, i, n, gates);
}
REGISTER(swiglu)

KERNEL(256, swiglu_backward)(num* dgate, num* dup, const num* dout, const num* gate, const num* up,
                             size n) {
  size i = ((size)blockIdx.x * 256 + threadIdx.x) * VECTOR;
  if (i >= n) return;
  float douts[VECTOR], gates[VECTOR], ups[VECTOR];
  load(douts, dout, i, n);
  load(gates, gate, i, n);
  load(ups, up, i, n);
#pragma unroll
  for (int j = 0; j < VECTOR; j++) {
    float s = plain_logistic(gates[j]), silu = gates[j] * s;
    gates[j] = douts[j] * ups[j] * s * fmaf(gates[j], 1.0f - s, 1.0f);
    ups[j] = douts[j] * silu;
  }
  store(dgate, i, n, gates);
  store(dup, i, n, ups);
}
REGISTER(swiglu_backward)

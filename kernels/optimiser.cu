// AdamW (Loshchilov & Hutter 2019, algorithm 2), in one pass.
//
// With g the scaled gradient: m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, weight -= lr (m /
// (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + wd weight). master[n], first[n], second[n], gradient[n]
// are float in both types; copy[n], where there is one, is the master rounded to `num`.
// A thread owns an element. 28 bytes a parameter in bf16, 28 in float.
// Budget of *: 24 registers
#include "prelude.cuh"


KERNEL(256, adamw)
(float* master, num* copy, float* first, float* second, const float* gradient, size n, float beta1,
 float rest1, float beta2, float rest2, float correction1, float correction2, float epsilon,
 float scale, float rate, float keep) {
  size i = (size)blockIdx.x * 256 + threadIdx.x;
  if (i >= n) return;
  float g = gradient[i] * scale;
  float m = fmaf(beta1, first[i], rest1 * g), v = fmaf(beta2, second[i], rest2 * g * g);
  float change = m * correction1 / (sqrtf(v * correction2) + epsilon);
  float weight = fmaf(-rate, change, master[i] * keep);
  first[i] = m;
  second[i] = v;
  master[i] = weight;
  if (copy) store(&copy[i], weight);
}
REGISTER(adamw)

// Log-probability, entropy and gradient of one token under a row of logits.
//
//   token_logprobs: for each row of logits[m,v], at temperature T: logprob[m] of targets[m], lse[m]
//     of logits / T, entropy[m] in nats; float.
//   token_logprobs_backward: dlogits[m,v] = dlogprob[m] (onehot(target) - softmax) / T, rounded to
//     num; logits are float.
//
// Who owns what: forward, a block a row; backward, a thread 8 logits of a row (grid: rows, pieces
// of 2048).
// Numerics and determinism: distribution.cuh; the log-probabilities of `sample` come from the same
// function. The gradient is element by element.
// Floors: the logits, 4 bytes each, are read once; backward too, and their gradient is written
// once.
// Budget of *: 32 registers, 1 KiB static
#include "prelude.cuh"
#include "distribution.cuh"

KERNEL(256, token_logprobs)
(float* logprob, float* lse, float* entropy, const float* logits, const uint32_t* targets,
 float inverse_temperature, size v) {
  size row = blockIdx.x;
  logits += row * v;
  Softmax of = softmax(logits, inverse_temperature, v);
  if (threadIdx.x > 0) return;
  logprob[row] = of.logprob(logits[targets[row]], inverse_temperature);
  lse[row] = of.max + of.log_sum;
  entropy[row] = of.entropy;
}
REGISTER(token_logprobs)

KERNEL(256, token_logprobs_backward)
(num* dlogits, const float* logits, const float* dlogprob, const float* lse,
 const uint32_t* targets, float inverse_temperature, size v) {
  size row = blockIdx.x, at = ((size)blockIdx.y * THREADS + threadIdx.x) * EACH;
  if (at >= v) return;
  logits += row * v;
  dlogits += row * v;
  float x[EACH], scale = dlogprob[row] * inverse_temperature, row_lse = lse[row];
  size target = targets[row];
  load_logits(x, logits, at, v);
  union Wide {
    uint4 words[EACH * sizeof(num) / 16];
    num numbers[EACH];
  } wide;
#pragma unroll
  for (int e = 0; e < EACH; e++) {
    float p = power(x[e] * inverse_temperature - row_lse);
    store(wide.numbers + e, at + e == target ? scale * (1.0f - p) : -scale * p);
  }
  if (at + EACH <= v && ((uint64_t)(dlogits + at) & 15) == 0) {
#pragma unroll
    for (int w = 0; w < (int)(EACH * sizeof(num) / 16); w++)
      ((uint4*)(dlogits + at))[w] = wide.words[w];
  } else {
#pragma unroll
    for (int e = 0; e < EACH; e++)
      if (at + e < v) dlogits[at + e] = wide.numbers[e];
  }
}
REGISTER(token_logprobs_backward)

// Log-probability, entropy and gradient of one token under a row of logits.
//
//   token_logprobs: for each row of logits[m,v], at temperature T: logprob[m] of targets[m], lse[m]
//     of logits / T, entropy[m] in nats; float.
//   token_logprobs_backward: dlogits[m,v] = dlogprob[m] (onehot(target) - softmax) / T, rounded to
//     num; logits are float.
//   token_scores_backward: dlogits[m,v] = (dlogprob[m] (onehot(target) - p) - dentropy[m] p (ln p +
//     entropy[m])) / T with p the softmax, likewise; 0 where p is 0.
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

// The gradients of EACH logits of a row, in the order of memory.
union Wide {
  uint4 words[EACH * sizeof(num) / 16];
  num numbers[EACH];

  // Stores those of the logits `at` to the end of the row, which has v.
  __device__ __forceinline__ void write(num* row, size at, size v) const {
    if (at + EACH <= v && ((uint64_t)(row + at) & 15) == 0) {
#pragma unroll
      for (int w = 0; w < (int)(EACH * sizeof(num) / 16); w++)
        ((uint4*)(row + at))[w] = words[w];
    } else {
#pragma unroll
      for (int e = 0; e < EACH; e++)
        if (at + e < v) row[at + e] = numbers[e];
    }
  }
};

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
  Wide wide;
#pragma unroll
  for (int e = 0; e < EACH; e++) {
    float p = power(x[e] * inverse_temperature - row_lse);
    store(wide.numbers + e, at + e == target ? scale * (1.0f - p) : -scale * p);
  }
  wide.write(dlogits, at, v);
}
REGISTER(token_logprobs_backward)

KERNEL(256, token_scores_backward)
(num* dlogits, const float* logits, const float* dlogprob, const float* dentropy, const float* lse,
 const float* entropy, const uint32_t* targets, float inverse_temperature, size v) {
  size row = blockIdx.x, at = ((size)blockIdx.y * THREADS + threadIdx.x) * EACH;
  if (at >= v) return;
  logits += row * v;
  dlogits += row * v;
  float x[EACH], scale = dlogprob[row] * inverse_temperature, row_lse = lse[row];
  float spread = dentropy[row] * inverse_temperature, row_entropy = entropy[row];
  size target = targets[row];
  load_logits(x, logits, at, v);
  Wide wide;
#pragma unroll
  for (int e = 0; e < EACH; e++) {
    float logprob = x[e] * inverse_temperature - row_lse, p = power(logprob);
    // p (ln p) of p = 0 is 0.
    float more = p == 0.0f ? 0.0f : spread * (logprob + row_entropy);
    float gradient = -p * (more + scale);
    store(wide.numbers + e, at + e == target ? scale + gradient : gradient);
  }
  wide.write(dlogits, at, v);
}
REGISTER(token_scores_backward)

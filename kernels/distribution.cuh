// The softmax of one row of logits by one block, in one pass: what log-probabilities, entropies and
// draws are made from. Included after prelude.cuh.
//
// Of the scaled logits z = logits / T, with z' = z - max(z): S = sum exp(z'), lse = max + ln S,
// logprob = z'_target - ln S and entropy = ln S - sum(exp(z') z') / S. A logit of minus infinity
// has probability 0 and adds nothing; NaN makes the row NaN.
// Thread t has logits 8 (t + 256 k) to 8 (t + 256 k) + 7, whatever the alignment of the row; states
// of threads are merged by a butterfly within a warp and in order over the warps (Milakov &
// Gimelshein 2018), so a row's bits depend on the row alone.
#pragma once

const int THREADS = 256, EACH = 8;

// exp of what is not above 0: in float as the CPU back end, beside numbers of bf16 as the hardware.
// Logits are float in both.
DEVICE float power(float x) {
#ifdef NUM_F32
  return exponential(x);
#else
  return power_of_two(x * 1.44269504088896340736f);
#endif
}

// What some of a row's logits add up to: their maximum, sum of e = exp(z - max), sum of e (z -
// max).
struct Partial {
  float max, sum, weighted;
};

// A partial as seen from a maximum not below its own.
DEVICE Partial seen_from(Partial x, float max) {
  // Of nothing yet, or of NaN.
  if (x.max == max || x.max == -INFINITE) return {max, x.sum, x.weighted};
  float distance = x.max - max, factor = power(distance);
  return {max, x.sum * factor, factor == 0.0f ? 0.0f : fmaf(x.sum, distance, x.weighted) * factor};
}

DEVICE Partial merge(Partial a, Partial b) {
  float max = a.max > b.max ? a.max : b.max;
  a = seen_from(a, max);
  b = seen_from(b, max);
  return {max, a.sum + b.sum, a.weighted + b.weighted};
}

// EACH logits from `at` on, minus infinity beyond the row.
DEVICE void load_logits(float (&x)[EACH], const float* logits, size at, size v) {
  if (at + EACH <= v && ((uint64_t)(logits + at) & 15) == 0) {
#pragma unroll
    for (int q = 0; q < EACH; q += 4) {
      float4 four = *(const float4*)(logits + at + q);
      x[q] = four.x, x[q + 1] = four.y, x[q + 2] = four.z, x[q + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int e = 0; e < EACH; e++) x[e] = at + e < v ? logits[at + e] : -INFINITE;
  }
}

struct Softmax {
  // The greatest scaled logit; ln sum exp(z - max); in nats.
  float max, log_sum, entropy;
  __device__ __forceinline__ float logprob(float logit, float inverse_temperature) const {
    return (logit * inverse_temperature - max) - log_sum;
  }
};

// By all threads of the block, for all of them.
DEVICE Softmax softmax(const float* logits, float inverse_temperature, size v) {
  __shared__ Partial warps[THREADS / 32];
  Partial all = {-INFINITE, 0.0f, 0.0f};
  for (size at = (size)threadIdx.x * EACH; at < v; at += THREADS * EACH) {
    float z[EACH], most = all.max;
    load_logits(z, logits, at, v);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      z[e] *= inverse_temperature;
      most = z[e] > most ? z[e] : most;
    }
    all = seen_from(all, most);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      float distance = z[e] - most;
      // exp(-inf) * -inf would be NaN, and where there is no maximum yet the distance is.
      if (z[e] == -INFINITE) continue;
      float power_e = power(distance);
      all.sum += power_e;
      if (power_e != 0.0f) all.weighted = fmaf(power_e, distance, all.weighted);
    }
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    Partial other = {__shfl_xor_sync(0xffffffffu, all.max, distance),
                     __shfl_xor_sync(0xffffffffu, all.sum, distance),
                     __shfl_xor_sync(0xffffffffu, all.weighted, distance)};
    all = merge(all, other);
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = all;
  __syncthreads();
  all = warps[0];
#pragma unroll
  for (int warp = 1; warp < THREADS / 32; warp++) all = merge(all, warps[warp]);
  __syncthreads();
  float log_sum = logarithm(all.sum);
  return {all.max, log_sum, log_sum - all.weighted / all.sum};
}


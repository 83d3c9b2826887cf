// Losses of tokens, forward and backward in one, with the sums that are told of them.
//
//   clipped_ratio_loss: with r = exp(logprob - old) and advantage A, max(-A r, -A clip(r, low,
//     high)), and at most -A dual where A < 0.
//     dlogprob[n] = its derivative / count; sums[5] += loss, (logprob - old)^2, 1 where r was
//     clipped, r - 1, (r - 1)^2. All float.
//   clipped_square_loss: max((value - target)^2, (clip(value, old - range, old + range) -
//     target)^2) / 2.
//     dvalue[n] = its derivative * coef / count, rounded to num; sums[2] += loss, 1 where the value
//     was clipped. What is read is float.
//   add_sum: sums[1] += the numbers of x[n], float.
//
// Who owns what: one block all n tokens, a thread every 512th: they are a few thousand, and the
// launch costs more than the work.
// Numerics: a token is computed in float, with the exponential of every kernel; sums are in double.
// Where a clip acts the gradient is 0, on the kink itself it is that of the unclipped term; what is
// not a number stays so.
// Determinism: a thread's tokens in order, a butterfly within a warp, the warps in order, then what
// the sum held.
// Source: Schulman et al. 2017, eq. 7; Ye et al. 2020, eq. 5.
// Budget of *: 40 registers, 1 KiB static
#include "prelude.cuh"

const int THREADS = 512;

// sums[k] += what all threads of the block have in mine[k].
template <int K> DEVICE void add_sums(double* sums, double (&mine)[K]) {
  __shared__ double parts[THREADS / 32][K];
#pragma unroll
  for (int k = 0; k < K; k++) {
    mine[k] = warp_sum(mine[k]);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32][k] = mine[k];
  }
  __syncthreads();
  if (threadIdx.x >= K) return;
  double sum = 0.0;
  for (int warp = 0; warp < THREADS / 32; warp++) sum += parts[warp][threadIdx.x];
  sums[threadIdx.x] += sum;
}

DEVICE float clip(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// exp(x) - 1 with the digits that it loses near 0, where it is the exponential's own polynomial.
DEVICE float exponential_less_one(float x) {
  if (!(x > -0.34f && x < 0.34f)) return exponential(x) - 1.0f;
  float sum = 1.0f / 5040.0f;
  sum = fmaf(sum, x, 1.0f / 720.0f);
  sum = fmaf(sum, x, 1.0f / 120.0f);
  sum = fmaf(sum, x, 1.0f / 24.0f);
  sum = fmaf(sum, x, 1.0f / 6.0f);
  sum = fmaf(sum, x, 0.5f);
  return fmaf(sum * x, x, x);
}

KERNEL(512, clipped_ratio_loss)
(float* dlogprob, double* sums, const float* logprob, const float* old, const float* advantage,
 float low, float high, float dual, float count, size n) {
  double mine[5] = {0.0, 0.0, 0.0, 0.0, 0.0};
  for (size i = threadIdx.x; i < n; i += THREADS) {
    float log_ratio = logprob[i] - old[i], a = advantage[i], ratio = exponential(log_ratio);
    float free = -a * ratio, held = -a * clip(ratio, low, high);
    bool clipped = held > free;
    float loss = clipped ? held : free, gradient = clipped ? 0.0f : free;
    if (a < 0.0f && loss > -a * dual) {
      loss = -a * dual;
      gradient = 0.0f;
    }
    dlogprob[i] = gradient / count;
    double distance = (double)logprob[i] - (double)old[i],
           less_one = (double)exponential_less_one(log_ratio);
    mine[0] += (double)loss;
    mine[1] = fma(distance, distance, mine[1]);
    mine[2] += clipped ? 1.0 : 0.0;
    mine[3] += less_one;
    mine[4] = fma(less_one, less_one, mine[4]);
  }
  add_sums(sums, mine);
}
REGISTER(clipped_ratio_loss)

KERNEL(512, clipped_square_loss)
(num* dvalue, double* sums, const float* value, const float* old, const float* target, float range,
 float coef, float count, size n) {
  double mine[2] = {0.0, 0.0};
  for (size i = threadIdx.x; i < n; i += THREADS) {
    float free = value[i] - target[i],
          held = clip(value[i], old[i] - range, old[i] + range) - target[i];
    bool clipped = held * held > free * free;
    float distance = clipped ? held : free;
    store(dvalue + i, clipped ? 0.0f : coef * free / count);
    mine[0] += (double)(0.5f * distance * distance);
    mine[1] += clipped ? 1.0 : 0.0;
  }
  add_sums(sums, mine);
}
REGISTER(clipped_square_loss)

KERNEL(512, add_sum)(double* sums, const float* x, size n) {
  double mine[1] = {0.0};
  for (size i = threadIdx.x; i < n; i += THREADS) mine[0] += (double)x[i];
  add_sums(sums, mine);
}
REGISTER(add_sum)

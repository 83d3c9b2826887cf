// Draws one token from each row of logits.
//
// logits[m,v] are float in both types.
//   ids[m]: the first token, in id order, whose cumulative probability exceeds uniforms[m];
//     logprobs[m], float: of the distribution drawn from.
//   Truncation: tokens ranked by (logit descending, id ascending); top-k first, then the smallest
//     prefix of what is left whose renormalised mass
//   reaches top-p, at least one token, then what has min-p times the probability of the likeliest.
//     `greedy`: the greatest logit, the lowest
//   id among equals, and its log-probability at temperature 1 without truncation. A row with NaN or
//     no finite greatest logit: id 2^32 - 1.
//
// Who owns what: a block a row.
// Numerics: weights exp(z - max) are made whole multiples of 2^-44 and added up as integers, so
// that sums are exact in any order, atomics included, and a cumulative sum ends in the very total:
// what is lighter than 2^-44 of the likeliest is never drawn. Log-probabilities without truncation
// are those of token_logprobs, bit for bit.
// 1. What truncation keeps is a bound: the tokens above a logit, and the first ones, a number of
//    them, in id order, of those at it. Both top-k and top-p
//    find theirs digit by digit, in histograms of 256 counts or masses: four passes over the row,
// which is in the second cache by then.
// 2. A cumulative sum is looked up in two steps: segments of the row, each summed by a warp, then
//    32 ids at a time within one.
// Determinism: integers. Vocabularies below 2^20.
// Budget of *: 64 registers, 11 KiB static
#include "prelude.cuh"
#include "distribution.cuh"

const int SEGMENTS = 1024;
const uint32_t NONE = 0xffffffffu;

// Orders as logits do; both zeros are equal.
DEVICE uint32_t rank_of(float logit) {
  uint32_t bits = __float_as_uint(logit + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// What is kept: ranks above `rank`, and of those at it ids up to `last`; with at least `least`
// times the weight of the likeliest.
struct Kept {
  uint32_t rank, last;
  float least;
};

// A row of logits as weights.
struct Row {
  const float* logits;
  size v;
  float inverse_temperature, max;

  __device__ __forceinline__ float logit(size id) const { return logits[id]; }
  __device__ __forceinline__ float weight(float logit) const {
    return power(logit * inverse_temperature - max);
  }
  __device__ __forceinline__ uint64_t mass(float logit) const {
    return (uint64_t)((double)weight(logit) * 17592186044416.0);
  }
  __device__ __forceinline__ bool keeps(const Kept& kept, size id, float logit) const {
    uint32_t rank = rank_of(logit);
    return (rank > kept.rank || (rank == kept.rank && id <= kept.last)) &&
           weight(logit) >= kept.least;
  }
};

struct Shared {
  uint64_t sums[SEGMENTS];
  uint64_t bins[256];
  // Of a search: the bin or the id found, what is before it.
  uint32_t found;
  uint64_t before, total;
};

DEVICE uint64_t warp_total(uint64_t x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}
// The sum of the lanes up to one's own.
DEVICE uint64_t warp_cumulative(uint64_t x) {
  int lane = threadIdx.x % 32;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    uint64_t other = __shfl_up_sync(0xffffffffu, x, distance);
    if (lane >= distance) x += other;
  }
  return x;
}

// Sums of value(id) over the segments of the row and over all of it.
template <class Value> DEVICE size sum_segments(Shared& shared, size v, Value value) {
  size length = (v + SEGMENTS - 1) / SEGMENTS;
  length = (length + 255) / 256 * 256;
  int lane = threadIdx.x % 32, segments = (int)((v + length - 1) / length);
  for (int segment = threadIdx.x / 32; segment < segments; segment += THREADS / 32) {
    uint64_t sum = 0;
    for (size id = segment * length + lane; id < v && id < (segment + 1) * length; id += 32)
      sum += value(id);
    sum = warp_total(sum);
    if (lane == 0) shared.sums[segment] = sum;
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    uint64_t sum = 0;
    for (int segment = lane; segment < segments; segment += 32) sum += shared.sums[segment];
    sum = warp_total(sum);
    if (lane == 0) shared.total = sum;
  }
  __syncthreads();
  return length;
}

// After sum_segments: the first id whose cumulative value exceeds `threshold`, which is below the
// total.
template <class Value>
DEVICE uint32_t crossing(Shared& shared, size v, size length, uint64_t threshold, Value value) {
  int lane = threadIdx.x % 32, segments = (int)((v + length - 1) / length);
  if (threadIdx.x < 32) {
    uint64_t before = 0;
    size first = 0, end = v;
    // Segments first, then the ids of one.
    for (int segment = 0; segment < segments; segment += 32) {
      uint64_t cumulative =
          before + warp_cumulative(segment + lane < segments ? shared.sums[segment + lane] : 0);
      uint32_t above = __ballot_sync(0xffffffffu, cumulative > threshold);
      if (above) {
        int at = __ffs((int)above) - 1;
        first = (segment + at) * length;
        end = first + length < v ? first + length : v;
        uint64_t own = __shfl_sync(0xffffffffu, cumulative, at);
        before = own - shared.sums[segment + at];
        break;
      }
      before = __shfl_sync(0xffffffffu, cumulative, 31);
    }
    for (size id = first; id < end; id += 32) {
      uint64_t cumulative = before + warp_cumulative(id + lane < end ? value(id + lane) : 0);
      uint32_t above = __ballot_sync(0xffffffffu, cumulative > threshold);
      if (above) {
        if (lane == 0) shared.found = (uint32_t)id + (uint32_t)__ffs((int)above) - 1;
        break;
      }
      before = __shfl_sync(0xffffffffu, cumulative, 31);
    }
  }
  __syncthreads();
  uint32_t found = shared.found;
  __syncthreads();
  return found;
}

// The greatest rank at or above which values of at least `wanted` are, wanted > 0; what is above it
// goes to `shared.before`.
template <class Value>
DEVICE uint32_t descend(Shared& shared, const Row& row, uint64_t wanted, Value value) {
  uint32_t prefix = 0;
  uint64_t above = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    shared.bins[threadIdx.x] = 0;
    __syncthreads();
    for (size id = threadIdx.x; id < row.v; id += THREADS) {
      float logit = row.logit(id);
      uint32_t rank = rank_of(logit);
      if (shift < 24 && (rank ^ prefix) >> (shift + 8)) continue;
      uint64_t add = value(id, logit);
      if (add) atomicAdd(&shared.bins[rank >> shift & 255], add);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int bin = 255;
      uint64_t sum = above;
      while (bin > 0 && sum + shared.bins[bin] < wanted) sum += shared.bins[bin--];
      shared.found = (uint32_t)bin;
      shared.before = sum;
    }
    __syncthreads();
    prefix |= shared.found << shift;
    above = shared.before;
    __syncthreads();
  }
  return prefix;
}

// Tightens `kept` to the first tokens in rank order whose values, of what is kept so far, reach
// `wanted`, at least one of them.
template <class Value>
DEVICE void truncate(Shared& shared, Kept& kept, const Row& row, uint64_t wanted, Value value) {
  Kept old = kept;
  auto kept_value = [&](size id, float logit) -> uint64_t {
    return row.keeps(old, id, logit) ? value(logit) : 0;
  };
  kept.rank = descend(shared, row, wanted, kept_value);
  uint64_t rest = wanted - shared.before;
  // All tokens of the rank have one value, which is not 0: the bin was chosen for reaching what was
  // wanted.
  auto at_rank = [&](size id) -> uint64_t {
    float logit = row.logit(id);
    return rank_of(logit) == kept.rank ? kept_value(id, logit) : 0;
  };
  size length = sum_segments(shared, row.v, at_rank);
  kept.last = crossing(shared, row.v, length, rest - 1, at_rank);
}

KERNEL_BLOCKS(256, 4, sample)
(uint32_t* ids, float* logprobs, const float* logits, const double* uniforms, float temperature,
 size top_k, float top_p, float min_p, size v) {
  __shared__ Shared shared;
  size m = blockIdx.x;
  bool greedy = temperature == 0.0f;
  float inverse_temperature = greedy ? 1.0f : 1.0f / temperature;
  logits += m * v;
  Softmax of = softmax(logits, inverse_temperature, v);
  float lse = of.max + of.log_sum;
  // Infinite or NaN.
  if (!(lse - lse == 0.0f)) {
    if (threadIdx.x == 0) ids[m] = NONE, logprobs[m] = lse;
    return;
  }
  Row row = {logits, v, inverse_temperature, of.max};
  Kept kept = {0, NONE, 0.0f};
  auto one = [](float) -> uint64_t { return 1; };
  auto mass = [&](float logit) { return row.mass(logit); };
  bool truncated = !greedy && ((top_k > 0 && top_k < v) || top_p < 1.0f || min_p > 0.0f);
  if (greedy) truncate(shared, kept, row, 1, one);
  if (truncated && top_k > 0 && top_k < v) truncate(shared, kept, row, (uint64_t)top_k, one);
  auto kept_mass = [&](size id) -> uint64_t {
    float logit = row.logit(id);
    return row.keeps(kept, id, logit) ? row.mass(logit) : 0;
  };
  if (truncated && top_p < 1.0f) {
    sum_segments(shared, v, kept_mass);
    double share = (double)top_p * (double)shared.total;
    uint64_t wanted = (uint64_t)share;
    if ((double)wanted < share) wanted++;
    if (wanted > shared.total) wanted = shared.total;
    __syncthreads();
    truncate(shared, kept, row, wanted > 0 ? wanted : 1, mass);
  }
  if (truncated) kept.least = min_p;
  uint32_t id = kept.last;
  uint64_t total = 0;
  if (!greedy) {
    size length = sum_segments(shared, v, kept_mass);
    total = shared.total;
    uint64_t threshold = (uint64_t)(uniforms[m] * (double)total);
    id = crossing(shared, v, length, threshold < total ? threshold : total - 1, kept_mass);
  }
  if (threadIdx.x > 0) return;
  float logit = row.logit(id);
  ids[m] = id;
  logprobs[m] = truncated ? (float)((double)(logit * inverse_temperature - of.max) -
                                    logarithm((double)total * 5.684341886080802e-14))
                          : of.logprob(logit, inverse_temperature);
}
REGISTER(sample)

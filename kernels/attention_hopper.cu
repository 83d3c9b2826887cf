// Softmax attention within packed sequences, forward, for sm_90a: heads of 64 and 128 channels in
// bf16.
//
//   Shapes as in attention.cu; q, k, v by way of maps of [n, heads c], in boxes of 64 channels and
//     as many rows as a block or a step has.
//
// Who owns what: a block owns 128 query rows (64 channels: 192) of one head of one sequence (grid:
// tiles, heads), 64 to a consumer warp group. A warp of the last group brings keys and values by
// tensor copies to two rings, a step to a stage; barriers count bytes on the way in and warps on
// the way out. A group goes over the steps that its own rows see, and hands the others back as they
// come.
// Numerics: attend.cuh, step by step; every sum is one chain of products of 16, as those of
// attention.cu. Where products of warp groups add up as those of warps do (attention_hopper_probe),
// its bits are those of attention.cu and of attention_cached.
// Determinism: no atomics; the order of every sum is that of positions.
// Neighbours: a step at the end of a sequence brings rows of the next one. Their scores become
// weights of 0; their values, which may be no numbers, are overwritten with zeros before a product
// reads them.
// Overlap: the scores of a step and the product of the step before with its values are on their way
// together; the softmax waits for the scores alone.
// Queries and weights are the left sides in registers, so that a product reads 64 bytes of shared
// memory a cycle, half of what there is.
// Source: Shah et al. 2024 (FlashAttention-3), algorithm 2, without its turns between warp groups.
// One block a multiprocessor; registers move at run time, 232 (64 channels: 160) to a consumer's
// threads and 40 (32) to the producer's.
// Budget of attention_hopper_c128_*: 168 registers, 161 KiB dynamic
// Budget of attention_hopper_c64_*: 128 registers, 89 KiB dynamic
// Budget of attention_hopper_probe_*: 168 registers, 24 KiB dynamic
#include "prelude.cuh"
#include "attend.cuh"
#include "attend_hopper.cuh"

#if defined(NUM_BF16) && (defined(EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL))

template <int C, int GROUPS>
DEVICE void attend(num* out, float* lse, const CUtensorMap* q, const CUtensorMap* k,
                   const CUtensorMap* v, const uint32_t* tiles, int h, int g, int c, int causal,
                   size window) {
  const int ROWS = 64 * GROUPS, STAGE = STEP * C;
  DYNAMIC_SHARED(num, shared);
  num *queries = shared, *keys = queries + ROWS * C, *values = keys + STAGES * STAGE;
  uint64_t *keys_full = (uint64_t*)(values + STAGES * STAGE), *keys_empty = keys_full + STAGES,
           *values_full = keys_empty + STAGES;
  uint64_t *values_empty = values_full + STAGES, *queries_full = values_empty + STAGES,
           *values_short = queries_full + 1;
  if (threadIdx.x == 0) {
#pragma unroll 1
    for (int stage = 0; stage < STAGES; stage++) {
      barrier_init(keys_full + stage, 1);
      barrier_init(values_full + stage, 1);
      barrier_init(keys_empty + stage, 4 * GROUPS);
      barrier_init(values_empty + stage, 4 * GROUPS);
    }
    barrier_init(queries_full, 1);
    barrier_init(values_short, 1);
    barrier_init_fence();
  }
  __syncthreads();

  Tile tile = tile_of(tiles);
  int head = blockIdx.y, group = threadIdx.x / 128, lane = threadIdx.x % 32;
  size last = tile.first + ROWS < tile.length ? tile.first + ROWS - 1 : tile.length - 1;
  size at = sees(tile.first, tile.length, causal, window).start / STEP * STEP,
       end = sees(last, tile.length, causal, window).end;
  if (group == GROUPS) {
    if (GROUPS == 2) registers_fewer<40>();
    if (GROUPS == 3) registers_fewer<32>();
    if (threadIdx.x % 128 >= 32) return;
    int column = head / (h / g) * c;
    Ring ring = {0, 0};
    if (lane == 0) {
      barrier_expect(queries_full, ROWS * C * (int)sizeof(num));
      bring_tile<ROWS, C>(queries, q, queries_full, head * c, tile.start + tile.first);
    }
    for (; at < end; at += STEP, ring.advance()) {
      bool whole = at + STEP <= tile.length;
      if (lane == 0) {
        // The first round finds every stage empty: the phase before the first counts as over.
        barrier_wait(keys_empty + ring.stage, ring.parity ^ 1);
        barrier_expect(keys_full + ring.stage, STAGE * (int)sizeof(num));
        bring_tile<STEP, C>(keys + ring.stage * STAGE, k, keys_full + ring.stage, column,
                            tile.start + at);
        barrier_wait(values_empty + ring.stage, ring.parity ^ 1);
        uint64_t* full = whole ? values_full + ring.stage : values_short;
        barrier_expect(full, STAGE * (int)sizeof(num));
        bring_tile<STEP, C>(values + ring.stage * STAGE, v, full, column, tile.start + at);
      }
      if (whole) continue;
      // Only the last step is not: its values are handed on when what is behind the end has become
      // zeros.
      barrier_wait(values_short, 0);
      clear_rows<C>(values + ring.stage * STAGE, (int)(tile.length - at));
      __syncwarp();
      if (lane == 0) barrier_arrive(values_full + ring.stage);
    }
    return;
  }

  if (GROUPS == 2) registers_more<232>();
  if (GROUPS == 3) registers_more<160>();
  // Rows `row` and 8 below it; and what the group's rows see together.
  size first = tile.first + group * 64, row = first + threadIdx.x % 128 / 32 * 16 + lane / 4;
  bool any = first < tile.length;
  size group_last = first + 64 < tile.length ? first + 63 : tile.length - 1;
  Seen earliest = sees(first, tile.length, causal, window),
       latest = sees(group_last, tile.length, causal, window);
  size group_start = any ? earliest.start / STEP * STEP : end, group_end = any ? latest.end : end;
  Ring key_ring = {0, 0}, value_ring = {0, 0};
  auto hand_back_keys = [&] {
    if (lane == 0) barrier_arrive(keys_empty + key_ring.stage);
    key_ring.advance();
  };
  auto hand_back_values = [&] {
    if (lane == 0) barrier_arrive(values_empty + value_ring.stage);
    value_ring.advance();
  };
  auto skip = [&] {
    barrier_wait(keys_full + key_ring.stage, key_ring.parity);
    hand_back_keys();
    barrier_wait(values_full + value_ring.stage, value_ring.parity);
    hand_back_values();
  };
  for (; at < group_start; at += STEP) skip();

  if (any) {
    uint32_t x[C / 16][4], weights[STEP / 16][4];
    float scores[STEP / 2], sums[C / 2], max[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f},
                                         shrink[2], factor = score_factor(C);
#pragma unroll
    for (int i = 0; i < C / 2; i++) sums[i] = 0.0f;
    barrier_wait(queries_full, 0);
#pragma unroll
    for (int i = 0; i < C / 16; i++)
      ldmatrix_x4(x[i], queries + i / 4 * ROWS * LINE +
                            place<LINE>(threadIdx.x / 32 * 16 + lane % 16, i % 4 * 2 + lane / 16));

    auto wait_for_keys = [&] { barrier_wait(keys_full + key_ring.stage, key_ring.parity); };
    auto dot = [&] {
      const num* stage = keys + key_ring.stage * STAGE;
      wgmma_fence();
      wgmma_registers<STEP, false, false>(scores, x[0], along<STEP>(stage, 0, 0));
#pragma unroll
      for (int i = 1; i < C / 16; i++)
        wgmma_registers<STEP, true, false>(scores, x[i], along<STEP>(stage, 0, i));
      wgmma_commit();
    };
    auto weigh = [&] {
      barrier_wait(values_full + value_ring.stage, value_ring.parity);
      const num* stage = values + value_ring.stage * STAGE;
      wgmma_fence();
#pragma unroll
      for (int t = 0; t < STEP / 16; t++)
        wgmma_registers<C, true, true>(sums, weights[t], across(stage, t));
      wgmma_commit();
    };
    // Scores of the step at `at` become weights.
    auto soften = [&] {
      if (at < latest.start || at + STEP > earliest.end) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          Seen seen = sees(row + 8 * half, tile.length, causal, window);
          int from = (int)(seen.start - at) - lane % 4 * 2,
              to = (int)(seen.end - at) - lane % 4 * 2;
#pragma unroll
          for (int i = 0; i < STEP / 4; i++)
            if (i / 2 * 8 + i % 2 < from || i / 2 * 8 + i % 2 >= to)
              scores[i / 2 * 4 + half * 2 + i % 2] = -INFINITE;
        }
      }
#pragma unroll
      for (int half = 0; half < 2; half++) {
        // fmaxf, which is one instruction: what is no number is no maximum either, and zeros of
        // both signs give the same weights.
        float most = max[half], total[4];
#pragma unroll
        for (int i = 0; i < STEP / 4; i++) most = fmaxf(most, scores[i / 2 * 4 + half * 2 + i % 2]);
        most = row_max(most);
        float shift = shift_of(most, factor);
        shrink[half] = power_of_two(max[half] * factor - shift);
        max[half] = most;
#pragma unroll
        for (int i = 0; i < STEP / 4; i++) {
          float& score = scores[i / 2 * 4 + half * 2 + i % 2];
          score = power_of_two(fmaf(score, factor, -shift));
        }
        // By 16 keys, as attention_cached has them on four warps.
#pragma unroll
        for (int t = 0; t < 4; t++) {
          const float* p = scores + 8 * t + 2 * half;
          total[t] = (p[0] + p[1]) + (p[4] + p[5]);
        }
        sum[half] =
            fmaf(sum[half], shrink[half], row_sum(((total[0] + total[1]) + total[2]) + total[3]));
      }
    };

    wait_for_keys();
    dot();
    wgmma_wait<0>();
    settled(scores);
    hand_back_keys();
    soften();
    pack(weights, scores);
    if (at + STEP < group_end) wait_for_keys();
    for (at += STEP; at < group_end; at += STEP) {
      dot();
      weigh();
      wgmma_wait<1>();
      settled(scores);
      hand_back_keys();
      soften();
      settled(scores);
      // Here, since the compiler moves a wait for products up to the last branch, and the softmax
      // would wait for the values' too.
      if (at + STEP < group_end) wait_for_keys();
      wgmma_wait<0>();
      settled(sums);
      hand_back_values();
#pragma unroll
      for (int i = 0; i < C / 2; i++) sums[i] *= shrink[i / 2 % 2];
      pack(weights, scores);
    }
    weigh();
    wgmma_wait<0>();
    settled(sums);
    hand_back_values();

#pragma unroll
    for (int half = 0; half < 2; half++) {
      size position = row + 8 * half, at_row = (tile.start + position) * h + head;
      float reciprocal = 1.0f / sum[half];
      store_sums<C>(out + at_row * C, sums, half, reciprocal, position < tile.length);
      if (lane % 4 == 0 && position < tile.length)
        lse[at_row] = max[half] * factor / LOG2_E + logarithm(sum[half]);
    }
  }
  for (; at < end; at += STEP) skip();
}

#define ATTENTION_KERNEL(threads, name, channels, groups)                                          \
  KERNEL_BLOCKS(threads, 1, name)                                                                  \
  (num* out, float* lse, const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v, \
   const uint32_t* tiles, int h, int g, int c, int causal, size window) {                          \
    attend<channels, groups>(out, lse, &q, &k, &v, tiles, h, g, c, causal, window);                \
  }                                                                                                \
  REGISTER(name)

ATTENTION_KERNEL(512, attention_hopper_c64, 64, 3)
ATTENTION_KERNEL(384, attention_hopper_c128, 128, 2)

// A number of bf16 with a magnitude of up to 2^-spread..2^spread, of a counter.
DEVICE bf16 number(uint32_t counter, int spread) {
  uint32_t x = counter * 0x9e3779b9u;
  x = (x ^ x >> 16) * 0x85ebca6bu;
  x = (x ^ x >> 13) * 0xc2b2ae35u;
  x ^= x >> 16;
  uint32_t exponent = 127 - spread + (x >> 8 & 0xffff) % (2 * spread + 1);
  return {(uint16_t)((x >> 31) << 15 | exponent << 7 | (x & 0x7f))};
}

// Sums of products with a left side in registers, of warp groups and of warps: how many of this
// thread's differ in a bit. ACROSS: as weights with values of N channels, else as queries with
// keys.
template <int N, bool ACROSS>
DEVICE uint32_t differing(num* left, num* right, uint32_t counter, int spread) {
  const int ROUNDS = 2;
  int lane = threadIdx.x % 32;
  float ours[N / 2], theirs[N / 8][4];
#pragma unroll
  for (int i = 0; i < N / 2; i++) ours[i] = theirs[i / 4][i % 4] = 0.0f;
#pragma unroll 1
  for (int round = 0; round < ROUNDS; round++, counter += 64 * LINE + N * LINE) {
    for (int i = threadIdx.x; i < (64 + N) * LINE; i += 128)
      (i < 64 * LINE ? left : right - 64 * LINE)[i] = number(counter + i, spread);
    async_fence();
    __syncthreads();
    uint32_t x[4][4];
#pragma unroll
    for (int t = 0; t < 4; t++)
      ldmatrix_x4(x[t], left + place<LINE>(threadIdx.x / 32 * 16 + lane % 16, 2 * t + lane / 16));
    wgmma_fence();
#pragma unroll
    for (int t = 0; t < 4; t++)
      wgmma_registers<N, true, ACROSS>(ours, x[t],
                                       ACROSS ? across(right, t) : along<STEP>(right, 0, t));
    wgmma_commit();
    wgmma_wait<0>();
    settled(ours);
#pragma unroll
    for (int t = 0; t < 4; t++)
#pragma unroll
      for (int n = 0; n < N / 8; n += 2) {
        uint32_t r[4];
        if (ACROSS)
          ldmatrix_x4_trans(r, right + n / 8 * STEP * LINE +
                                   place<LINE>(16 * t + lane / 8 % 2 * 8 + lane % 8,
                                               n % 8 + lane / 16));
        else
          ldmatrix_x4(r,
                      right + place<LINE>(8 * n + lane / 16 * 8 + lane % 8, 2 * t + lane / 8 % 2));
        uint32_t y[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
        mma_m16n8k16_bf16(theirs[n], x[t], y[0]);
        mma_m16n8k16_bf16(theirs[n + 1], x[t], y[1]);
      }
    __syncthreads();
  }
  uint32_t count = 0;
#pragma unroll
  for (int i = 0; i < N / 2; i++)
    count += __float_as_uint(ours[i]) != __float_as_uint(theirs[i / 4][i % 4]);
  return count;
}

// Of block b, whose magnitudes spread over 2^-2b..2^2b: from sums that round at every step to sums
// that lose most of their terms.
DEVICE uint32_t differing_sums(uint32_t block) {
  DYNAMIC_SHARED(num, shared);
  num* right = shared + 64 * LINE;
  uint32_t counter = block << 20;
  return differing<64, false>(shared, right, counter, 2 * block) +
         differing<64, true>(shared, right, counter + (1 << 18), 2 * block) +
         differing<128, true>(shared, right, counter + (2 << 18), 2 * block);
}

// Whether the products of this file add up as those of attention.cu and cached.cu do: counts[block,
// thread] of sums that do not.
KERNEL(128, attention_hopper_probe)(uint32_t* counts) {
  counts[blockIdx.x * 128 + threadIdx.x] = differing_sums(blockIdx.x);
}
REGISTER(attention_hopper_probe)

#endif

// The gradient of softmax attention for sm_90a: heads of 64 and 128 channels in bf16.
//
//   Formula and shapes as in attention_backward.cu, whose attention_backward_delta comes before;
//     all matrices by way of maps of [n, heads c].
//
// Who owns what: attention_backward_query_hopper: a block 128 query rows of one head; it goes over
// the keys. attention_backward_key_hopper: a block 128 keys of one key/value head; it goes over the
// query heads of its group and their rows. 64 rows to a consumer warp group; a warp of the last
// group brings steps of 64 by tensor copies to a ring.
// Numerics: every element of dq, dk, dv is one chain of products of 16 in the order above; the bits
// of attention_backward.cu where products of warp groups add up as those of warps do.
// Determinism: no atomics: p is made twice instead, 7 products where 5 would do.
// Neighbours: rows of the next sequence that a step brings are overwritten with zeros where a
// product would add them up with weights of 0.
// Source: Dao 2023 (FlashAttention-2), algorithm 2; Shah et al. 2024 (FlashAttention-3).
// One block a multiprocessor; registers move at run time, 240 (keys: 232) to a consumer's threads
// and 24 (40) to the producer's.
// Budget of *_c128_bf16: 168 registers, 195 KiB dynamic
// Budget of *_c64_bf16: 168 registers, 99 KiB dynamic
#include "prelude.cuh"
#include "attend.cuh"
#include "attend_hopper.cuh"

#if defined(NUM_BF16) && (defined(EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL))

// Consumer warp groups of a block, and its rows.
const int GROUPS = 2, ROWS = 64 * GROUPS;

// A barrier for what stays, one for steps at the end of a sequence, and two rings.
struct Barriers {
  uint64_t *staying, *shortened, *full, *empty;
};
DEVICE Barriers barriers_at(void* place) {
  uint64_t* at = (uint64_t*)place;
  Barriers barriers = {at, at + 1, at + 2, at + 2 + STAGES};
  if (threadIdx.x == 0) {
    barrier_init(barriers.staying, 1);
    barrier_init(barriers.shortened, 1);
#pragma unroll 1
    for (int stage = 0; stage < STAGES; stage++) {
      barrier_init(barriers.full + stage, 1);
      barrier_init(barriers.empty + stage, 4 * GROUPS);
    }
    barrier_init_fence();
  }
  __syncthreads();
  return barriers;
}

template <int C>
DEVICE void backward_query(num* dq, const CUtensorMap* dout, const float* lse, const float* delta,
                           const CUtensorMap* q, const CUtensorMap* k, const CUtensorMap* v,
                           const uint32_t* tiles, int h, int g, int c, int causal, size window) {
  const int STAGE = 2 * STEP * C;
  DYNAMIC_SHARED(num, shared);
  num *queries = shared, *douts = queries + ROWS * C, *stages = douts + ROWS * C;
  Barriers barriers = barriers_at(stages + STAGES * STAGE);
  Tile tile = tile_of(tiles);
  int head = blockIdx.y, group = threadIdx.x / 128, lane = threadIdx.x % 32;
  size last = tile.first + ROWS < tile.length ? tile.first + ROWS - 1 : tile.length - 1;
  size at = sees(tile.first, tile.length, causal, window).start / STEP * STEP,
       end = sees(last, tile.length, causal, window).end;
  Ring ring = {0, 0};
  if (group == GROUPS) {
    registers_fewer<24>();
    if (threadIdx.x % 128 >= 32) return;
    int column = head / (h / g) * c;
    if (lane == 0) {
      barrier_expect(barriers.staying, 2 * ROWS * C * (int)sizeof(num));
      bring_tile<ROWS, C>(queries, q, barriers.staying, head * c, tile.start + tile.first);
      bring_tile<ROWS, C>(douts, dout, barriers.staying, head * c, tile.start + tile.first);
    }
    for (; at < end; at += STEP, ring.advance()) {
      num* keys = stages + ring.stage * STAGE;
      bool whole = at + STEP <= tile.length;
      if (lane == 0) {
        barrier_wait(barriers.empty + ring.stage, ring.parity ^ 1);
        uint64_t* full = whole ? barriers.full + ring.stage : barriers.shortened;
        barrier_expect(full, STAGE * (int)sizeof(num));
        bring_tile<STEP, C>(keys, k, full, column, tile.start + at);
        bring_tile<STEP, C>(keys + STEP * C, v, full, column, tile.start + at);
      }
      if (whole) continue;
      // Only the last step is not.
      barrier_wait(barriers.shortened, 0);
      clear_rows<C>(keys, (int)(tile.length - at));
      __syncwarp();
      if (lane == 0) barrier_arrive(barriers.full + ring.stage);
    }
    return;
  }

  registers_more<240>();
  size first = tile.first + group * 64, row = first + threadIdx.x % 128 / 32 * 16 + lane / 4;
  bool any = first < tile.length;
  size group_last = first + 64 < tile.length ? first + 63 : tile.length - 1;
  Seen earliest = sees(first, tile.length, causal, window),
       latest = sees(group_last, tile.length, causal, window);
  size group_start = any ? earliest.start / STEP * STEP : end, group_end = any ? latest.end : end;
  auto wait_for_stage = [&] { barrier_wait(barriers.full + ring.stage, ring.parity); };
  auto hand_back = [&](int stage) {
    if (lane == 0) barrier_arrive(barriers.empty + stage);
  };
  auto skip = [&] {
    wait_for_stage();
    hand_back(ring.stage);
    ring.advance();
  };
  for (; at < group_start; at += STEP) skip();
  if (any) {
    uint32_t x[C / 16][4], y[C / 16][4], weights[STEP / 16][4];
    float scores[STEP / 2], ds[STEP / 2], sums[C / 2], shifts[2], deltas[2],
        factor = score_factor(C);
#pragma unroll
    for (int i = 0; i < C / 2; i++) sums[i] = 0.0f;
    auto row_of = [&](int half) { return (tile.start + row + 8 * half) * h + head; };
#pragma unroll
    for (int half = 0; half < 2; half++) {
      bool real = row + 8 * half < tile.length;
      shifts[half] = real ? lse[row_of(half)] * LOG2_E : 0.0f;
      deltas[half] = real ? delta[row_of(half)] : 0.0f;
    }
    barrier_wait(barriers.staying, 0);
#pragma unroll
    for (int i = 0; i < C / 16; i++) {
      int from = i / 4 * ROWS * LINE +
                 place<LINE>(threadIdx.x / 32 * 16 + lane % 16, i % 4 * 2 + lane / 16);
      ldmatrix_x4(x[i], queries + from);
      ldmatrix_x4(y[i], douts + from);
    }
    wait_for_stage();
    int before = -1;
    for (; at < group_end; at += STEP) {
      const num *keys = stages + ring.stage * STAGE, *values = keys + STEP * C;
      wgmma_fence();
      wgmma_registers<STEP, false, false>(scores, x[0], along<STEP>(keys, 0, 0));
#pragma unroll
      for (int i = 1; i < C / 16; i++)
        wgmma_registers<STEP, true, false>(scores, x[i], along<STEP>(keys, 0, i));
      wgmma_commit();
      wgmma_registers<STEP, false, false>(ds, y[0], along<STEP>(values, 0, 0));
#pragma unroll
      for (int i = 1; i < C / 16; i++)
        wgmma_registers<STEP, true, false>(ds, y[i], along<STEP>(values, 0, i));
      wgmma_commit();
      wgmma_wait<1>();
      settled(scores);
      // The product of the step before with its keys is done too.
      if (before >= 0) hand_back(before);
      before = ring.stage;
      ring.advance();
#pragma unroll
      for (int i = 0; i < STEP / 2; i++)
        scores[i] = power_of_two(fmaf(scores[i], factor, -shifts[i / 2 % 2]));
      settled(scores);
      // Here, since the compiler moves a wait for products up to the last branch.
      if (at + STEP < group_end) wait_for_stage();
      wgmma_wait<0>();
      settled(ds);
      bool whole = at >= latest.start && at + STEP <= earliest.end;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        int from = 0, to = STEP;
        if (!whole) {
          Seen seen = sees(row + 8 * half, tile.length, causal, window);
          from = (int)(seen.start - at) - lane % 4 * 2;
          to = (int)(seen.end - at) - lane % 4 * 2;
        }
#pragma unroll
        for (int n = 0; n < STEP / 8; n++)
#pragma unroll
          for (int e = 0; e < 2; e++) {
            int i = 4 * n + 2 * half + e;
            float x = scores[i] * (ds[i] - deltas[half]);
            ds[i] = n * 8 + e >= from && n * 8 + e < to ? x : 0.0f;
          }
      }
      pack(weights, ds);
      wgmma_fence();
#pragma unroll
      for (int t = 0; t < STEP / 16; t++)
        wgmma_registers<C, true, true>(sums, weights[t], across(keys, t));
      wgmma_commit();
    }
    wgmma_wait<0>();
    settled(sums);
    hand_back(before);
#pragma unroll
    for (int half = 0; half < 2; half++)
      store_sums<C>(dq + row_of(half) * C, sums, half, factor / LOG2_E,
                    row + 8 * half < tile.length);
  }
  for (; at < end; at += STEP) skip();
}

template <int C>
DEVICE void backward_key(num* dk, num* dv, const CUtensorMap* dout, const float* lse,
                         const float* delta, const CUtensorMap* q, const CUtensorMap* k,
                         const CUtensorMap* v, const uint32_t* tiles, int h, int g, int c,
                         int causal, size window) {
  const int STAGE = 2 * STEP * C;
  DYNAMIC_SHARED(num, shared);
  num *keys = shared, *values = keys + ROWS * C, *stages = values + ROWS * C;
  // Of the rows of a stage: lse * log2(e), then delta.
  float* rows = (float*)(stages + STAGES * STAGE);
  Barriers barriers = barriers_at(rows + STAGES * 2 * STEP);
  Tile tile = tile_of(tiles);
  int kept = blockIdx.y, group = threadIdx.x / 128, lane = threadIdx.x % 32, heads = h / g;
  size last = tile.first + ROWS < tile.length ? tile.first + ROWS - 1 : tile.length - 1;
  size start = seen_by(tile.first, tile.length, causal, window).start / STEP * STEP,
       end = seen_by(last, tile.length, causal, window).end;
  Ring ring = {0, 0};
  if (group == GROUPS) {
    registers_fewer<40>();
    if (threadIdx.x % 128 >= 32) return;
    if (lane == 0) {
      barrier_expect(barriers.staying, 2 * ROWS * C * (int)sizeof(num));
      bring_tile<ROWS, C>(keys, k, barriers.staying, kept * c, tile.start + tile.first);
      bring_tile<ROWS, C>(values, v, barriers.staying, kept * c, tile.start + tile.first);
    }
    int parity = 0;
    for (int head = kept * heads; head < (kept + 1) * heads; head++)
      for (size at = start; at < end; at += STEP, ring.advance()) {
        num* queries = stages + ring.stage * STAGE;
        float* numbers = rows + ring.stage * 2 * STEP;
        bool whole = at + STEP <= tile.length;
        if (lane == 0) barrier_wait(barriers.empty + ring.stage, ring.parity ^ 1);
        __syncwarp();
#pragma unroll
        for (int r = lane; r < STEP; r += 32) {
          bool real = at + r < tile.length;
          numbers[r] = real ? lse[(tile.start + at + r) * h + head] * LOG2_E : 0.0f;
          numbers[STEP + r] = real ? delta[(tile.start + at + r) * h + head] : 0.0f;
        }
        __syncwarp();
        if (lane == 0) {
          uint64_t* full = whole ? barriers.full + ring.stage : barriers.shortened;
          barrier_expect(full, STAGE * (int)sizeof(num));
          bring_tile<STEP, C>(queries, q, full, head * c, tile.start + at);
          bring_tile<STEP, C>(queries + STEP * C, dout, full, head * c, tile.start + at);
        }
        if (whole) continue;
        // The last step of a head.
        barrier_wait(barriers.shortened, parity);
        parity ^= 1;
        clear_rows<C>(queries, (int)(tile.length - at));
        clear_rows<C>(queries + STEP * C, (int)(tile.length - at));
        __syncwarp();
        if (lane == 0) barrier_arrive(barriers.full + ring.stage);
      }
    return;
  }

  registers_more<232>();
  size first = tile.first + group * 64, row = first + threadIdx.x % 128 / 32 * 16 + lane / 4;
  bool any = first < tile.length;
  size group_last = first + 64 < tile.length ? first + 63 : tile.length - 1;
  Seen earliest = seen_by(first, tile.length, causal, window),
       latest = seen_by(group_last, tile.length, causal, window);
  size group_start = any ? earliest.start / STEP * STEP : end, group_end = any ? latest.end : end;
  float dk_sums[C / 2], dv_sums[C / 2], factor = score_factor(C);
#pragma unroll
  for (int i = 0; i < C / 2; i++) dk_sums[i] = dv_sums[i] = 0.0f;
  auto hand_back = [&] {
    // The warp's lanes have read what belongs to the rows.
    __syncwarp();
    if (lane == 0) barrier_arrive(barriers.empty + ring.stage);
    ring.advance();
  };
  auto wait_for_stage = [&] { barrier_wait(barriers.full + ring.stage, ring.parity); };
  auto skip = [&] {
    wait_for_stage();
    hand_back();
  };
  barrier_wait(barriers.staying, 0);
  for (int head = 0; head < heads; head++) {
    size at = start;
    for (; at < group_start; at += STEP) skip();
    for (; at < group_end; at += STEP) {
      wait_for_stage();
      const num *queries = stages + ring.stage * STAGE, *douts = queries + STEP * C;
      const float* numbers = rows + ring.stage * 2 * STEP + lane % 4 * 2;
      float p[STEP / 2], ds[STEP / 2];
      uint32_t p_weights[STEP / 16][4], ds_weights[STEP / 16][4];
      wgmma_fence();
      wgmma_first<STEP>(p, along<ROWS>(keys, group * 64, 0), along<STEP>(queries, 0, 0));
#pragma unroll
      for (int i = 1; i < C / 16; i++)
        wgmma<STEP, false, false>(p, along<ROWS>(keys, group * 64, i), along<STEP>(queries, 0, i));
      wgmma_commit();
      wgmma_first<STEP>(ds, along<ROWS>(values, group * 64, 0), along<STEP>(douts, 0, 0));
#pragma unroll
      for (int i = 1; i < C / 16; i++)
        wgmma<STEP, false, false>(ds, along<ROWS>(values, group * 64, i), along<STEP>(douts, 0, i));
      wgmma_commit();
      wgmma_wait<1>();
      settled(p);
#pragma unroll
      for (int n = 0; n < STEP / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
          p[4 * n + e] = power_of_two(fmaf(p[4 * n + e], factor, -numbers[n * 8 + e % 2]));
      settled(p);
      // Behind what was made of scores, since the compiler moves a wait for products up to the last
      // branch.
      if (at < latest.start || at + STEP > earliest.end) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          Seen seen = seen_by(row + 8 * half, tile.length, causal, window);
          int from = (int)(seen.start - at) - lane % 4 * 2,
              to = (int)(seen.end - at) - lane % 4 * 2;
#pragma unroll
          for (int i = 0; i < STEP / 4; i++)
            if (i / 2 * 8 + i % 2 < from || i / 2 * 8 + i % 2 >= to)
              p[i / 2 * 4 + half * 2 + i % 2] = 0.0f;
        }
      }
      wgmma_wait<0>();
      settled(ds);
#pragma unroll
      for (int n = 0; n < STEP / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          float x = p[4 * n + e];
          ds[4 * n + e] = x == 0.0f ? 0.0f : x * (ds[4 * n + e] - numbers[STEP + n * 8 + e % 2]);
        }
      pack(p_weights, p);
      pack(ds_weights, ds);
      wgmma_fence();
#pragma unroll
      for (int t = 0; t < STEP / 16; t++)
        wgmma_registers<C, true, true>(dv_sums, p_weights[t], across(douts, t));
#pragma unroll
      for (int t = 0; t < STEP / 16; t++)
        wgmma_registers<C, true, true>(dk_sums, ds_weights[t], across(queries, t));
      wgmma_commit();
      wgmma_wait<0>();
      settled(dk_sums);
      settled(dv_sums);
      hand_back();
    }
    for (; at < end; at += STEP) skip();
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    size at_row = ((tile.start + row + 8 * half) * g + kept) * C;
    bool real = row + 8 * half < tile.length;
    store_sums<C>(dk + at_row, dk_sums, half, factor / LOG2_E, real);
    store_sums<C>(dv + at_row, dv_sums, half, 1.0f, real);
  }
}

#define QUERY_KERNEL(name, channels)                                                               \
  KERNEL_BLOCKS(384, 1, name)                                                                      \
  (num* dq, const __grid_constant__ CUtensorMap dout, const float* lse, const float* delta, const __grid_constant__ CUtensorMap q, \
   const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v, const uint32_t* tiles, int h, int g, int c, int causal, size window) { \
    backward_query<channels>(dq, &dout, lse, delta, &q, &k, &v, tiles, h, g, c, causal, window);   \
  }                                                                                                \
  REGISTER(name)
#define KEY_KERNEL(name, channels)                                                                 \
  KERNEL_BLOCKS(384, 1, name)                                                                      \
  (num* dk, num* dv, const __grid_constant__ CUtensorMap dout, const float* lse, const float* delta, const __grid_constant__ CUtensorMap q, \
   const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v, const uint32_t* tiles, int h, int g, int c, int causal, size window) { \
    backward_key<channels>(dk, dv, &dout, lse, delta, &q, &k, &v, tiles, h, g, c, causal, window); \
  }                                                                                                \
  REGISTER(name)

QUERY_KERNEL(attention_backward_query_hopper_c64, 64)
QUERY_KERNEL(attention_backward_query_hopper_c128, 128)
KEY_KERNEL(attention_backward_key_hopper_c64, 64)
KEY_KERNEL(attention_backward_key_hopper_c128, 128)

#endif

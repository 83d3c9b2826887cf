// The three matrix products of a linear layer in bf16 for sm_90a: tensor copies, products of warp groups, one persistent block a multiprocessor.
// Shapes as in linear.cu; rows of every operand must be whole chunks of 16 bytes (i and o multiples of 8).
//
// Who owns what: a block goes over tiles of the output, 64 rows a consumer warp group. One thread of the last warp group brings stages of 64
// depths by tensor copies to a ring, as far ahead as it has room, into the next tile too; consumers wait for a stage to be full, multiply, and
// hand it back. Barriers count bytes on the way in and warps on the way out.
// Numerics: every output is one chain of m64nNk16 steps in ascending depth from 0 or from what the output holds, sums in float, rounded once; the tile
// changes nothing, and rows beyond the matrix are zeros. So the choice of a tile may follow n; the choice of this file over linear.cu must not.
// Determinism: no atomics, no splitting of the depth.
// Operands lie with the 128-byte swizzle. Where the depth runs down the matrix in memory (the right side of linear_backward_input, both of
// linear_backward_weight), tiles are taken as they are, and the product reads them across (tnspA, tnspB of wgmma).
// Source: PTX ISA 8, "Asynchronous warpgroup level matrix instructions"; the order of techniques as in CUTLASS' persistent cooperative kernel.
// One block a multiprocessor; registers move at run time, 232 to a consumer's threads and 40 to the producer's.
// Budget of linear*_hopper_*: 168 registers, 198 KiB
// Budget of linear*_hopper_few_*: 48 registers, 198 KiB
#include "prelude.cuh"

#if defined(NUM_BF16) && (defined(EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL))

// Depths of a stage: a line of 128 bytes.
const int DEPTH = 64;

struct Place {
  size row, column;
};
// Bands of 8 rows of tiles, columns within, so that blocks which run at the same time share what they read in the second cache.
DEVICE Place place(size tile, size rows, size columns) {
  const size BAND = 8;
  size band = tile / (BAND * columns), within = tile - band * BAND * columns;
  size height = rows - band * BAND < BAND ? rows - band * BAND : BAND;
  return {band * BAND + within % height, within / height};
}

// Numbers of one stage of ROWS rows. Across, 64 rows to a block of DEPTH lines.
template <int ROWS, bool ACROSS> struct Stage {
  static const int NUMBERS = ROWS * DEPTH;
  // Brings rows from `row` and depths from `depth` on.
  static __device__ __forceinline__ void bring(num* to, const CUtensorMap* map, uint64_t* full, int row, int depth) {
    if constexpr (ACROSS) {
#pragma unroll
      for (int block = 0; block < ROWS / 64; block++) tensor_copy(to + block * 64 * DEPTH, map, full, row + block * 64, depth);
    } else {
      tensor_copy(to, map, full, depth, row);
    }
  }
  // Rows from `row` (a multiple of 64) and 16 depths from `depth` on.
  static __device__ __forceinline__ shared_descriptor part(const num* stage, int row, int depth) {
    return ACROSS ? swizzled_across(stage + row * DEPTH + depth * 64, 64 * DEPTH * (int)sizeof(num)) : swizzled(stage + row * DEPTH + depth);
  }
};

DEVICE void store_pair(bf16* at, float x, float y) { *(uint32_t*)at = pack_bf16x2(x, y); }
DEVICE void store_pair(float* at, float x, float y) { *(float2*)at = make_float2(x, y); }

// c[rows, columns] = (0 or c) + a b (+ bias), in tiles of 64 GROUPS rows and N columns.
template <int GROUPS, int N, int STAGES, bool A_ACROSS, bool B_ACROSS, bool ACCUMULATE, class C>
DEVICE void product(C* c, const CUtensorMap* a, const CUtensorMap* b, const num* bias, size rows, size columns, size depth) {
  typedef Stage<64 * GROUPS, A_ACROSS> Left;
  typedef Stage<N, B_ACROSS> Right;
  DYNAMIC_SHARED(num, shared);
  num *lefts = shared, *rights = lefts + STAGES * Left::NUMBERS;
  uint64_t *full = (uint64_t*)(rights + STAGES * Right::NUMBERS), *empty = full + STAGES;
  size down = (rows + 64 * GROUPS - 1) / (64 * GROUPS), across = (columns + N - 1) / N;
  int steps = (int)((depth + DEPTH - 1) / DEPTH), group = threadIdx.x / 128;
  if (threadIdx.x == 0) {
#pragma unroll 1
    for (int stage = 0; stage < STAGES; stage++) {
      barrier_init(full + stage, 1);
      barrier_init(empty + stage, 4 * GROUPS);
    }
    barrier_init_fence();
  }
  __syncthreads();

  // The stage that comes next, and the parity of its round.
  int stage = 0, parity = 0;
  auto advance = [&] {
    if (++stage < STAGES) return;
    stage = 0;
    parity ^= 1;
  };
  if (group == GROUPS) {
    registers_fewer<40>();
    if (threadIdx.x % 128 > 0) return;
    for (size tile = blockIdx.x; tile < down * across; tile += gridDim.x) {
      Place at = place(tile, down, across);
      for (int step = 0; step < steps; step++) {
        // The first round finds every stage empty: the phase before the first counts as over.
        barrier_wait(empty + stage, parity ^ 1);
        barrier_expect(full + stage, (Left::NUMBERS + Right::NUMBERS) * (int)sizeof(num));
        Left::bring(lefts + stage * Left::NUMBERS, a, full + stage, (int)at.row * 64 * GROUPS, step * DEPTH);
        Right::bring(rights + stage * Right::NUMBERS, b, full + stage, (int)at.column * N, step * DEPTH);
        advance();
      }
    }
    return;
  }

  if (GROUPS > 1) registers_more<232>();
  int lane = threadIdx.x % 32;
  for (size tile = blockIdx.x; tile < down * across; tile += gridDim.x) {
    Place at = place(tile, down, across);
    size first_row = at.row * 64 * GROUPS + threadIdx.x / 32 * 16 + lane / 4, first_column = at.column * N + lane % 4 * 2;
    float sums[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
      size row = first_row + (i >> 1 & 1) * 8, column = first_column + i / 4 * 8 + i % 2;
      sums[i] = ACCUMULATE && row < rows && column < columns ? to_float(c[row * columns + column]) : 0.0f;
    }
    int before = 0;
    for (int step = 0; step < steps; step++) {
      barrier_wait(full + stage, parity);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < DEPTH; k += 16)
        wgmma<N, A_ACROSS, B_ACROSS>(sums, Left::part(lefts + stage * Left::NUMBERS, group * 64, k), Right::part(rights + stage * Right::NUMBERS, 0, k));
      wgmma_commit();
      // The products of the stage before are done: it is free.
      wgmma_wait<1>();
      if (step > 0 && lane == 0) barrier_arrive(empty + before);
      before = stage;
      advance();
    }
    wgmma_wait<0>();
    if (steps > 0 && lane == 0) barrier_arrive(empty + before);

    auto shifted = [&](int i) {
      size column = first_column + i / 4 * 8 + i % 2;
      return bias && column < columns ? sums[i] + to_float(bias[column]) : sums[i];
    };
    if constexpr (sizeof(C) == 2) {
      // Four lanes exchange what they have of four groups of 8 columns, so that each writes one of them: where another has read.
      __syncwarp();
      if (columns % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N / 2; i += 16)
#pragma unroll
          for (int half = 0; half < 4; half += 2) {
            uint32_t words[4];
#pragma unroll
            for (int s = 0; s < 4; s++) words[s] = pack_bf16x2(shifted(i + 4 * s + half), shifted(i + 4 * s + half + 1));
            quad_transpose(words);
            size row = first_row + half * 4, column = at.column * N + i * 2 + lane % 4 * 8;
            if (row < rows && column < columns) *(uint4*)(c + row * columns + column) = make_uint4(words[0], words[1], words[2], words[3]);
          }
        continue;
      }
    }
    bool pairs = columns % 2 == 0;
#pragma unroll
    for (int i = 0; i < N / 2; i += 2) {
      size row = first_row + (i >> 1 & 1) * 8, column = first_column + i / 4 * 8;
      if (row >= rows || column >= columns) continue;
      C* to = c + row * columns + column;
      if (pairs) {
        store_pair(to, shifted(i), shifted(i + 1));
        continue;
      }
      store(to, shifted(i));
      if (column + 1 < columns) store(to + 1, shifted(i + 1));
    }
  }
}

// Tiles: consumer warp groups, columns, stages.
#define LARGE 2, 256, 4
#define SMALL 2, 128, 6
#define FEW 1, 32, 16

#define FORWARD_KERNEL(tile, threads, name, out_type)                                                                                                     \
  KERNEL(threads, name)                                                                                                                                   \
  (out_type* out, const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap weight, const num* bias, size n, size i, size o) {           \
    product<tile, false, false, false>(out, &x, &weight, bias, n, o, i);                                                                                  \
  }                                                                                                                                                       \
  REGISTER(name)
#define BACKWARD_KERNELS(tile, threads, suffix)                                                                                                           \
  KERNEL(threads, linear_backward_input_hopper##suffix)                                                                                                          \
  (num* dx, const __grid_constant__ CUtensorMap dout, const __grid_constant__ CUtensorMap weight, size n, size i, size o) {                               \
    product<tile, false, true, true>(dx, &dout, &weight, nullptr, n, i, o);                                                                               \
  }                                                                                                                                                       \
  REGISTER(linear_backward_input_hopper##suffix)                                                                                                                 \
  KERNEL(threads, linear_backward_weight_hopper##suffix)                                                                                                         \
  (float* dweight, const __grid_constant__ CUtensorMap dout, const __grid_constant__ CUtensorMap x, size n, size i, size o) {                             \
    product<tile, true, true, true>(dweight, &dout, &x, nullptr, o, i, n);                                                                                \
  }                                                                                                                                                       \
  REGISTER(linear_backward_weight_hopper##suffix)

FORWARD_KERNEL(LARGE, 384, linear_hopper, num)
FORWARD_KERNEL(SMALL, 384, linear_hopper_small, num)
FORWARD_KERNEL(FEW, 256, linear_hopper_few, num)
FORWARD_KERNEL(LARGE, 384, linear_wide_hopper, float)
FORWARD_KERNEL(SMALL, 384, linear_wide_hopper_small, float)
FORWARD_KERNEL(FEW, 256, linear_wide_hopper_few, float)
BACKWARD_KERNELS(LARGE, 384, )
BACKWARD_KERNELS(SMALL, 384, _small)

#endif

// The three matrix products of a linear layer in bf16 for sm_90a: tensor copies, products of warp
// groups, one persistent block a multiprocessor.
// Shapes as in linear.cu; rows of every operand must be whole chunks of 16 bytes (i and o multiples
// of 8).
//
// Who owns what: a block goes over tiles of the output, 64 rows a consumer warp group. One thread
// of the last warp group brings stages of 64 depths by tensor copies to a ring, as far ahead as it
// has room, into the next tile too; consumers wait for a stage to be full, multiply, and hand it
// back. Barriers count bytes on the way in and warps on the way out.
// Numerics: every output is one chain of m64nNk16 steps in ascending depth from 0 or from what the
// output holds, sums in float, rounded once; the tile changes nothing, and rows beyond the matrix
// are zeros. So the choice of a tile may follow n; the choice of this file over linear.cu must not.
// Determinism: no atomics, no splitting of the depth.
// Operands are stored with the 128-byte swizzle. Where the depth runs down the matrix in memory
// (the right side of linear_backward_input, both of
// linear_backward_weight), tiles are taken as they are, and the product reads them across (tnspA,
// tnspB of wgmma).
// Source: PTX ISA 8, "Asynchronous warpgroup level matrix instructions"; the order of techniques as
// in CUTLASS' persistent cooperative kernel.
// One block a multiprocessor; registers move at run time, 232 to a consumer's threads and 40 to the
// producer's.
// Budget of linear*_hopper_*: 168 registers, 198 KiB dynamic
// Budget of linear*_hopper_few_*: 72 registers, 198 KiB dynamic
#include "prelude.cuh"
#include "linear.cuh"

#if defined(NUM_BF16) && (defined(EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL))

// Depths of a stage: a line of 128 bytes.
const int DEPTH = 64;

// Numbers of one stage of ROWS rows. Across, 64 rows to a block of DEPTH lines.
template <int ROWS, bool ACROSS> struct Stage {
  static const int NUMBERS = ROWS * DEPTH;
  // Brings rows from `row` and depths from `depth` on.
  static __device__ __forceinline__ void bring(num* to, const CUtensorMap* map, uint64_t* full,
                                               int row, int depth) {
    if constexpr (ACROSS) {
#pragma unroll
      for (int block = 0; block < ROWS / 64; block++)
        tensor_copy(to + block * 64 * DEPTH, map, full, row + block * 64, depth);
    } else {
      tensor_copy(to, map, full, depth, row);
    }
  }
  // Rows from `row` (a multiple of 64) and 16 depths from `depth` on.
  static __device__ __forceinline__ shared_descriptor part(const num* stage, int row, int depth) {
    return ACROSS ? swizzled_across(stage + row * DEPTH + depth * 64, 64 * DEPTH * (int)sizeof(num))
                  : swizzled(stage + row * DEPTH + depth);
  }
};

// What a lane has of a tile, its first row, and the tile's first column.
template <int N> struct Sums {
  float (&x)[N / 2];
  size row, column, rows, columns;
  // f(two neighbouring sums, their row, the column of the first, whether the second is in the
  // output) of all that are in the output.
  template <class F> __device__ __forceinline__ void everywhere(F f) const {
#pragma unroll
    for (int i = 0; i < N / 2; i += 2) {
      size at_row = row + (i >> 1 & 1) * 8, at_column = column + i / 4 * 8 + threadIdx.x % 4 * 2;
      if (at_row < rows && at_column < columns)
        f(x[i], x[i + 1], at_row, at_column, at_column + 1 < columns);
    }
  }
  // Where rows are whole chunks of 16 bytes, four lanes exchange what they have of four groups of 8
  // columns, so that each writes one of them: where another has read.
  template <class T> __device__ __forceinline__ void put(T* to) const {
    if constexpr (sizeof(T) == 2) {
      __syncwarp();
      if (columns % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N / 2; i += 16)
#pragma unroll
          for (int half = 0; half < 4; half += 2) {
            uint32_t words[4];
#pragma unroll
            for (int s = 0; s < 4; s++)
              words[s] = pack_bf16x2(x[i + 4 * s + half], x[i + 4 * s + half + 1]);
            quad_transpose(words);
            size at_row = row + half * 4, at_column = column + i * 2 + threadIdx.x % 4 * 8;
            if (at_row < rows && at_column < columns)
              *(uint4*)(to + at_row * columns + at_column) =
                  make_uint4(words[0], words[1], words[2], words[3]);
          }
        return;
      }
    }
    put_pairs(*this, to);
  }
};

// Layers of the same rows: c[rows, columns] = (0 or c) + a b (+ bias ...), in tiles of 64 GROUPS
// rows and N columns.
template <int GROUPS, int N, int STAGES, bool A_ACROSS, bool B_ACROSS, int COUNT, class C>
DEVICE void product(const Side<const CUtensorMap*, C> (&sides)[COUNT], bool adds,
                    const CUtensorMap* a, size rows, size depth, Finish more) {
  typedef Stage<64 * GROUPS, A_ACROSS> Left;
  typedef Stage<N, B_ACROSS> Right;
  DYNAMIC_SHARED(num, shared);
  num *lefts = shared, *rights = lefts + STAGES * Left::NUMBERS;
  uint64_t *full = (uint64_t*)(rights + STAGES * Right::NUMBERS), *empty = full + STAGES;
  size down = (rows + 64 * GROUPS - 1) / (64 * GROUPS), across = tiles_across<N>(sides);
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
      const CUtensorMap* b = side_of<N>(sides, at.column).right;
      for (int step = 0; step < steps; step++) {
        // The first round finds every stage empty: the phase before the first counts as over.
        barrier_wait(empty + stage, parity ^ 1);
        barrier_expect(full + stage, (Left::NUMBERS + Right::NUMBERS) * (int)sizeof(num));
        Left::bring(lefts + stage * Left::NUMBERS, a, full + stage, (int)at.row * 64 * GROUPS,
                    step * DEPTH);
        Right::bring(rights + stage * Right::NUMBERS, b, full + stage, (int)at.column * N,
                     step * DEPTH);
        advance();
      }
    }
    return;
  }

  if (GROUPS > 1) registers_more<232>();
  int lane = threadIdx.x % 32;
  for (size tile = blockIdx.x; tile < down * across; tile += gridDim.x) {
    Place at = place(tile, down, across);
    Side<const CUtensorMap*, C> side = side_of<N>(sides, at.column);
    C* c = side.c;
    size columns = side.columns;
    size first_row = at.row * 64 * GROUPS + threadIdx.x / 32 * 16 + lane / 4,
         first_column = at.column * N + lane % 4 * 2;
    // What the output holds, in `held` rows, the products are added to.
    size held = adds ? rows : 0;
    float sums[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
      size row = first_row + (i >> 1 & 1) * 8, column = first_column + i / 4 * 8 + i % 2;
      sums[i] = row < held && column < columns ? to_float(c[row * columns + column]) : 0.0f;
    }
    int before = 0;
    settled(sums);
    for (int step = 0; step < steps; step++) {
      barrier_wait(full + stage, parity);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < DEPTH; k += 16)
        wgmma<N, A_ACROSS, B_ACROSS>(sums, Left::part(lefts + stage * Left::NUMBERS, group * 64, k),
                                     Right::part(rights + stage * Right::NUMBERS, 0, k));
      wgmma_commit();
      // The products of the stage before are done: it is free.
      wgmma_wait<1>();
      if (step > 0 && lane == 0) barrier_arrive(empty + before);
      before = stage;
      advance();
    }
    wgmma_wait<0>();
    settled(sums);
    if (steps > 0 && lane == 0) barrier_arrive(empty + before);

    if (more.which < 0 && !more.residual) {
      finish(Sums<N>{sums, first_row, at.column * N, rows, columns}, c, side.bias, NOTHING_MORE);
      continue;
    }
    // 32 columns at a time, the others moving up, so that the code of what follows is there for 32
    // columns.
#pragma unroll 1
    for (int part = 0; part < N / 32; part++) {
      float some[16];
#pragma unroll
      for (int i = 0; i < 16; i++) some[i] = sums[i];
#pragma unroll
      for (int i = 16; i < N / 2; i++) sums[i - 16] = sums[i];
      finish(Sums<32>{some, first_row, at.column * N + part * 32, rows, columns}, c, side.bias,
             more);
    }
  }
}

// Tiles: consumer warp groups, columns, stages.
#define LARGE 2, 256, 4
#define SMALL 2, 128, 6
#define FEW 1, 32, 16

#define MAP const __grid_constant__ CUtensorMap
#define FORWARD_KERNELS(tile, threads, suffix)                                                     \
  KERNEL(threads, linear_hopper##suffix)                                                           \
  (num* out, MAP x, MAP weight, const num* bias, const num* residual, size n, size i, size o) {    \
    const Side<const CUtensorMap*, num> sides[] = {{out, &weight, bias, o}};                       \
    product<tile, false, false>(sides, false, &x, n, i, {residual, -1, nullptr, nullptr});         \
  }                                                                                                \
  REGISTER(linear_hopper##suffix)                                                                  \
  KERNEL(threads, linear_function_hopper##suffix)                                                  \
  (num* out, num* kept, MAP x, MAP weight, const num* bias, const num* factor, size n, size i, size o, int which) { \
    const Side<const CUtensorMap*, num> sides[] = {{out, &weight, bias, o}};                       \
    product<tile, false, false>(sides, false, &x, n, i, {nullptr, which, kept, factor});           \
  }                                                                                                \
  REGISTER(linear_function_hopper##suffix)                                                         \
  KERNEL(threads, linear_several_hopper##suffix)                                                   \
  (num* out0, num* out1, num* out2, MAP x, MAP weight0, MAP weight1, MAP weight2, const num* bias0, const num* bias1, const num* bias2, size n, \
   size i, size o0, size o1, size o2) {                                                            \
    const Side<const CUtensorMap*, num> sides[] = {{out0, &weight0, bias0, o0}, {out1, &weight1, bias1, o1}, {out2, &weight2, bias2, o2}}; \
    product<tile, false, false>(sides, false, &x, n, i, NOTHING_MORE);                             \
  }                                                                                                \
  REGISTER(linear_several_hopper##suffix)                                                          \
  KERNEL(threads, linear_wide_hopper##suffix)(float* out, MAP x, MAP weight, const num* bias, size n, size i, size o) { \
    const Side<const CUtensorMap*, float> sides[] = {{out, &weight, bias, o}};                     \
    product<tile, false, false>(sides, false, &x, n, i, NOTHING_MORE);                             \
  }                                                                                                \
  REGISTER(linear_wide_hopper##suffix)
#define BACKWARD_KERNELS(tile, threads, suffix)                                                    \
  KERNEL(threads, linear_backward_input_hopper##suffix)(num* dx, MAP dout, MAP weight, size n, size i, size o, int adds) { \
    const Side<const CUtensorMap*, num> sides[] = {{dx, &weight, nullptr, i}};                     \
    product<tile, false, true>(sides, adds, &dout, n, o, NOTHING_MORE);                            \
  }                                                                                                \
  REGISTER(linear_backward_input_hopper##suffix)                                                   \
  KERNEL(threads, linear_backward_weight_hopper##suffix)(float* dweight, MAP dout, MAP x, size n, size i, size o) { \
    const Side<const CUtensorMap*, float> sides[] = {{dweight, &x, nullptr, i}};                   \
    product<tile, true, true>(sides, true, &dout, o, n, NOTHING_MORE);                             \
  }                                                                                                \
  REGISTER(linear_backward_weight_hopper##suffix)

FORWARD_KERNELS(LARGE, 384, )
FORWARD_KERNELS(SMALL, 384, _small)
FORWARD_KERNELS(FEW, 256, _few)
BACKWARD_KERNELS(LARGE, 384, )
BACKWARD_KERNELS(SMALL, 384, _small)

#endif

// What the attention kernels for sm_90a share: rings of stages, boxes that tensor copies bring, and
// what becomes of rows behind the end of a sequence.
// Included after attend.cuh.
#pragma once

#if defined(NUM_BF16) && (defined(EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL))

// Channels of a box: a line of 128 bytes.
const int LINE = 64;
// Steps that what is gone over may be ahead.
const int STAGES = 4;

// A stage of a ring, and the parity of its round.
struct Ring {
  int stage, parity;
  __device__ __forceinline__ void advance() {
    if (++stage < STAGES) return;
    stage = 0;
    parity ^= 1;
  }
};

// A tile of ROWS rows and C channels, in boxes of a line, from `row` of a matrix and `column` on.
template <int ROWS, int C>
DEVICE void bring_tile(num* to, const CUtensorMap* map, uint64_t* full, int column, size row) {
#pragma unroll
  for (int box = 0; box < C / LINE; box++)
    tensor_copy(to + box * ROWS * LINE, map, full, column + box * LINE, (int)row);
}

// Zeros in the rows of a step's tile from `beyond` on, by the lanes of a warp; tensor copies and
// products may follow.
template <int C> DEVICE void clear_rows(num* tile, int beyond) {
  for (int chunk = beyond * 8 + threadIdx.x % 32; chunk < STEP * 8; chunk += 32)
#pragma unroll
    for (int box = 0; box < C / LINE; box++)
      *(uint4*)(tile + box * STEP * LINE + chunk * 8) = make_uint4(0, 0, 0, 0);
  async_fence();
}

// Depths 16 i..+16 of 64 rows from `row` on, of a tile of ROWS rows.
template <int ROWS>
DEVICE shared_descriptor along(const num* tile, int row, int i) {
  return swizzled(tile + i / 4 * ROWS * LINE + row * LINE + i % 4 * 16);
}
// The same tile of a step, its rows as depths: 16 t..+16, all channels.
DEVICE shared_descriptor across(const num* tile, int t) {
  return swizzled_across(tile + t * 16 * LINE, STEP * LINE * (int)sizeof(num));
}

// Sums of a step become the left side of the next product, in registers.
DEVICE void pack(uint32_t (&a)[STEP / 16][4], const float (&x)[STEP / 2]) {
#pragma unroll
  for (int i = 0; i < STEP / 4; i++) a[i / 4][i % 4] = pack_bf16x2(x[2 * i], x[2 * i + 1]);
}

// Four lanes that hold a row of sums exchange what they have of four groups of 8 channels, so that
// each writes one of them: out = sums * factor.
template <int C>
DEVICE void store_sums(num* out, const float (&sums)[C / 2], int half, float factor, bool real) {
#pragma unroll
  for (int n = 0; n < C / 8; n += 4) {
    uint32_t words[4];
#pragma unroll
    for (int s = 0; s < 4; s++) {
      const float* pair = sums + 4 * (n + s) + 2 * half;
      words[s] = pack_bf16x2(pair[0] * factor, pair[1] * factor);
    }
    quad_transpose(words);
    if (real)
      *(uint4*)(out + (n + threadIdx.x % 4) * 8) =
          make_uint4(words[0], words[1], words[2], words[3]);
  }
}

#endif

// What every kernel uses, and the only header that kernels include: types, arithmetic with one
// rounding a step, warp sums, and all
// inline PTX. Three compilers take it: NVRTC (freestanding, no CUDA headers), nvcc, and a C++
// compiler for the CPU, where `EMULATOR` is defined and kernels/emulator/ is the device.
//
// 1. A kernel is written once for a storage type `num`, float or bf16, picked by -DNUM_F32 or
//    -DNUM_BF16; it computes in float. Its extern "C" name is the method of the trait and the type:
//    KERNEL(256, rms_norm)(...) { ... } REGISTER(rms_norm) makes rms_norm_f32.
// 2. Nothing is contracted behind the source's back (NVRTC gets --fmad=false, the C++ compiler
//    -ffp-contract=off): what is to be fused says fmaf. Division and sqrtf are correctly rounded on
//    both. So a kernel that keeps to +, -, *, /, fmaf and sqrtf has the same bits on the device, in
//    the emulator, and, where it sums in the same order, in the CPU back end.
// 3. exponential, logarithm and what is made of them are sequences of such operations, the very
//    ones of src/backend/cpu/number.rs and special.rs.
// 4. Sizes are 64-bit (`size`), guards `if (i >= n) return;`, and no thread returns before a
//    barrier that others wait in.
#pragma once

#if defined(NUM_F32) == defined(NUM_BF16)
#error "define NUM_F32 or NUM_BF16"
#endif

#ifdef EMULATOR
#include "device.h"
#define DEVICE static inline
#define DYNAMIC_SHARED(type, name) type* name = (type*)emulator::dynamic_shared()
#else
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define DEVICE static __device__ __forceinline__
// Shared memory whose size the launch gives, aligned for the 128-byte swizzle.
#define DYNAMIC_SHARED(type, name)                              \
  extern __shared__ __align__(1024) uint8_t dynamic_shared_[]; \
  type* name = (type*)dynamic_shared_
#define REGISTER(name)
#endif

typedef int64_t size;

struct alignas(2) bf16 {
  uint16_t bits;
};

#ifdef NUM_F32
typedef float num;
#define NAME(name) name##_f32
#else
typedef bf16 num;
#define NAME(name) name##_bf16
#endif

// The head of a kernel of at most `threads` threads a block; the emulator notes how many, as
// machine code does.
#ifdef EMULATOR
#define BOUND(threads, name) static const unsigned NAME(most_threads_##name) = threads;
#else
#define BOUND(threads, name)
#endif
#define KERNEL(threads, name) BOUND(threads, name) extern "C" __global__ void __launch_bounds__(threads) NAME(name)
// The same where the compiler must leave registers for this number of blocks a multiprocessor: it
// spills where it aims for more by itself.
#define KERNEL_BLOCKS(threads, blocks, name) BOUND(threads, name) extern "C" __global__ void __launch_bounds__(threads, blocks) NAME(name)

// ---- numbers

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }

// To nearest, ties to even.
#ifdef EMULATOR
DEVICE bf16 to_bf16(float x) {
  uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return {0x7fff};
  return {(uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
// Two in one register, `low` in the low half.
DEVICE uint32_t pack_bf16x2(float low, float high) {
  return to_bf16(low).bits | (uint32_t)to_bf16(high).bits << 16;
}
#else
DEVICE bf16 to_bf16(float x) {
  bf16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
  return r;
}
DEVICE uint32_t pack_bf16x2(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
#endif

#ifdef EMULATOR
DEVICE uint64_t double_bits(double x) { return emulator::bits<uint64_t>(x); }
DEVICE double double_from_bits(uint64_t x) { return emulator::bits<double>(x); }
#else
DEVICE uint64_t double_bits(double x) { return (uint64_t)__double_as_longlong(x); }
DEVICE double double_from_bits(uint64_t x) { return __longlong_as_double((int64_t)x); }
#endif

DEVICE void store(float* at, float x) { *at = x; }
DEVICE void store(bf16* at, float x) { *at = to_bf16(x); }
// What is, or would be, stored of a number.
DEVICE float rounded(float x) {
  num stored;
  store(&stored, x);
  return to_float(stored);
}

// ---- rows: element i of a row belongs to lane i / VECTOR % 32 of the warp that owns the row, so
// that a lane loads 16 bytes of `num` at a time. That is also the order of every sum along a row:
// each lane its own elements, ascending, then the butterfly of warp_sum.

const int VECTOR = 16 / sizeof(num);

// Elements i to i + VECTOR - 1 of a row of d; zeros behind its end. Rows begin at multiples of 16
// bytes where VECTOR divides d.
template <class T> DEVICE void load(float (&x)[VECTOR], const T* row, size i, size d) {
  if (d % VECTOR == 0) {
    struct alignas(16) pack {
      T x[16 / sizeof(T)];
    };
#pragma unroll
    for (int j = 0; j < VECTOR; j += 16 / sizeof(T)) {
      pack part = *(const pack*)(row + i + j);
#pragma unroll
      for (int k = 0; k < (int)(16 / sizeof(T)); k++) x[j + k] = to_float(part.x[k]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < VECTOR; j++) x[j] = i + j < d ? to_float(row[i + j]) : 0.0f;
  }
}
template <class T> DEVICE void store(T* row, size i, size d, const float (&x)[VECTOR]) {
  if (d % VECTOR == 0) {
    struct alignas(16) pack {
      T x[16 / sizeof(T)];
    };
#pragma unroll
    for (int j = 0; j < VECTOR; j += 16 / sizeof(T)) {
      pack part;
#pragma unroll
      for (int k = 0; k < (int)(16 / sizeof(T)); k++) store(&part.x[k], x[j + k]);
      *(pack*)(row + i + j) = part;
    }
  } else {
#pragma unroll
    for (int j = 0; j < VECTOR; j++)
      if (i + j < d) store(&row[i + j], x[j]);
  }
}

#define INFINITE __uint_as_float(0x7f800000u)

// ---- exponential and logarithm: the operations of src/backend/cpu/number.rs, one for one

// Within two units in the last place; 0 where it would be subnormal; NaN stays NaN.
DEVICE float exponential(float self) {
  const float LEAST = -87.336f;           // just above ln of the least normal number
  const float ROUND = 12582912.0f;        // 1.5 * 2^23: adding it rounds to the nearest integer, which is then in the low bits
  const float LN2_HIGH = 0.6933594f;      // has trailing zeros enough for k * LN2_HIGH to be exact
  const float LN2_LOW = -2.1219444e-4f;
  float low = self < LEAST ? LEAST : self;
  float x = low > 89.0f ? 89.0f : low;
  float shifted = fmaf(x, 1.44269504088896340736f, ROUND);
  int32_t k = (int32_t)(__float_as_uint(shifted) - __float_as_uint(ROUND));
  float whole = shifted - ROUND;
  float r = fmaf(-whole, LN2_LOW, fmaf(-whole, LN2_HIGH, x));
  float sum = 1.0f / 5040.0f;
  sum = fmaf(sum, r, 1.0f / 720.0f);
  sum = fmaf(sum, r, 1.0f / 120.0f);
  sum = fmaf(sum, r, 1.0f / 24.0f);
  sum = fmaf(sum, r, 1.0f / 6.0f);
  sum = fmaf(sum, r, 0.5f);
  sum = fmaf(sum * r, r, r) + 1.0f;
  int32_t half = k >> 1;
  float first = __uint_as_float((uint32_t)(half + 127) << 23);
  float second = __uint_as_float((uint32_t)(k - half + 127) << 23);
  return self < LEAST ? 0.0f : sum * first * second;
}

// The natural logarithm of a positive, finite, normal number, in double precision; NaN of NaN.
DEVICE double logarithm(double x) {
  const double LN2_HIGH = 6.931471803691238e-1, LN2_LOW = 1.9082149292705877e-10;
  uint64_t bits = double_bits(x);
  double exponent = (double)((int32_t)(bits >> 52) - 1023);
  double mantissa = double_from_bits((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
  bool halve = mantissa > 1.41421356237309504880;
  double k = halve ? exponent + 1.0 : exponent;
  double f = (halve ? mantissa * 0.5 : mantissa) - 1.0;
  double s = f / (2.0 + f);
  double square = s * s;
  double rest = 0.0;
#pragma unroll
  for (int odd = 25; odd >= 3; odd -= 2) rest = (rest + 2.0 / (double)odd) * square;
  double half_square = 0.5 * f * f;
  double result = k * LN2_HIGH - ((half_square - (s * (half_square + rest) + k * LN2_LOW)) - f);
  return x != x ? x : result;
}
DEVICE float logarithm(float x) { return (float)logarithm((double)x); }

// 2^x of the device's special function unit, within two units in the last place; 0 where it would
// be subnormal. Its bits are the hardware's own: for bf16 only.
#ifdef EMULATOR
DEVICE float power_of_two(float x) {
  float power = exp2f(x);
  return power < 1.17549435e-38f ? 0.0f : power;
}
#else
DEVICE float power_of_two(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
#endif

// The logistic function s and what it lacks, 1 - s, both to their last digits.
struct Logistic {
  float s, rest;
};
DEVICE Logistic logistic(float x) {
  float e = exponential(x < 0.0f ? x : -x), large = 1.0f / (1.0f + e), small = e * large;
  return x < 0.0f ? Logistic{small, large} : Logistic{large, small};
}

// ---- warps. A butterfly adds the same two numbers in both lanes, so every lane has the same bits.

DEVICE float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}
DEVICE double warp_sum(double x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}
// The greatest that is a number.
DEVICE float warp_max(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    float other = __shfl_xor_sync(0xffffffffu, x, distance);
    x = other > x || x != x ? other : x;
  }
  return x;
}


// Four lanes that hold a row of a tile have four words each: lane t's word s becomes lane s's word
// t.
DEVICE void quad_transpose(uint32_t (&words)[4]) {
  int lane = threadIdx.x % 4;
#pragma unroll
  for (int bit = 1; bit < 4; bit *= 2)
#pragma unroll
    for (int s = 0; s < 4; s++) {
      if (s & bit) continue;
      bool upper = lane & bit;
      uint32_t other = __shfl_xor_sync(0xffffffffu, upper ? words[s] : words[s | bit], bit);
      words[s] = upper ? other : words[s];
      words[s | bit] = upper ? words[s | bit] : other;
    }
}

// ---- sm_80: asynchronous copies, matrix fragments, tensor cores. Fragments as in the PTX manual,
// "Matrix fragments for mma.m16n8k16".

#ifdef EMULATOR
// 16 or 4 bytes from global to shared memory, behind the thread's back; zeros where not `wanted`.
DEVICE void copy_async_16(void* shared, const void* global, bool wanted, SITE) {
  emulator::copy_async(shared, global, 16, wanted, site);
}
DEVICE void copy_async_4(void* shared, const void* global, bool wanted, SITE) {
  emulator::copy_async(shared, global, 4, wanted, site);
}
// Ends a group of copies.
DEVICE void copy_async_commit(SITE) { emulator::copy_async_commit(site); }
// Waits until at most N groups of this thread are on their way.
template <int N> DEVICE void copy_async_wait(SITE) { emulator::copy_async_wait(N, site); }
// c[16,8] += a[16,16] b[16,8], bf16 factors, float sums.
DEVICE void mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SITE) {
  emulator::mma_m16n8k16_bf16(c, a, b, site);
}
// Four (two) 8x8 matrices of 16-bit numbers; lane l gives the address of a row.
DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row, SITE) {
  emulator::ldmatrix(r, 4, false, row, site);
}
DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, SITE) {
  emulator::ldmatrix(r, 4, true, row, site);
}
DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void* row, SITE) {
  emulator::ldmatrix(r, 2, false, row, site);
}
DEVICE void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, SITE) {
  emulator::ldmatrix(r, 2, true, row, site);
}
#else
DEVICE uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }
DEVICE void copy_async_16(void* shared, const void* global, bool wanted) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(wanted ? 16 : 0)
               : "memory");
}
DEVICE void copy_async_4(void* shared, const void* global, bool wanted) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(wanted ? 4 : 0)
               : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
DEVICE void mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
#endif

// ---- sm_90a: barriers that count bytes, tensor copies, tensor cores of a warp group. Not yet met
// by hardware.

#ifdef EMULATOR
typedef emulator::SharedDescriptor shared_descriptor;
DEVICE void barrier_init(uint64_t* barrier, int count, SITE) {
  emulator::barrier_init(barrier, count, site);
}
DEVICE void barrier_init_fence() {}
DEVICE void barrier_arrive(uint64_t* barrier, SITE) { emulator::barrier_arrive(barrier, 0, site); }
// Arrives, and announces bytes that tensor copies will bring.
DEVICE void barrier_expect(uint64_t* barrier, int bytes, SITE) {
  emulator::barrier_arrive(barrier, bytes, site);
}
DEVICE void barrier_wait(uint64_t* barrier, int parity, SITE) {
  emulator::barrier_wait(barrier, parity, site);
}
// A box of a matrix from `column`, `row` on; what is outside of the matrix becomes 0.
DEVICE void tensor_copy(void* shared, const CUtensorMap* map, uint64_t* barrier, int column,
                        int row, SITE) {
  emulator::tensor_copy(shared, map, barrier, column, row, site);
}
// A tile in shared memory with the 128-byte swizzle: rows of 64 depths, 8 rows to 1024 bytes.
DEVICE shared_descriptor swizzled(const void* p) { return {(const char*)p, 1024, 0}; }
// The same as 64 rows to a line, 8 depths to 1024 bytes, the next 64 rows `next` bytes on.
DEVICE shared_descriptor swizzled_across(const void* p, int next) {
  return {(const char*)p, 1024, (uint32_t)next};
}
DEVICE void wgmma_fence() {}
DEVICE void wgmma_commit(SITE) { emulator::wgmma_commit(site); }
template <int N> DEVICE void wgmma_wait(SITE) { emulator::wgmma_wait(N, site); }
// d[64,N] += a[64,16] b[N,16]^T; *_ACROSS: the operand's tile is swizzled_across.
template <int N, bool A_ACROSS, bool B_ACROSS>
DEVICE void wgmma(float (&d)[N / 2], shared_descriptor a, shared_descriptor b, SITE) {
  emulator::wgmma_bf16(d, N, a, b, A_ACROSS, B_ACROSS, site);
}
// d[64,N] = a[64,16] b[N,16]^T, added to d where it is to be KEPT; a is in registers: of each warp
// 16 rows, as mma_m16n8k16_bf16 has them. They keep what
// they hold until the product has been waited for.
template <int N, bool KEEP, bool B_ACROSS>
DEVICE void wgmma_registers(float (&d)[N / 2], const uint32_t (&a)[4], shared_descriptor b, SITE) {
  emulator::wgmma_registers_bf16(d, N, a, b, KEEP, B_ACROSS, site);
}
// d[64,N] = a[64,16] b[N,16]^T: the first of a chain, whatever d held.
template <int N>
DEVICE void wgmma_first(float (&d)[N / 2], shared_descriptor a, shared_descriptor b, SITE) {
  emulator::wgmma_first_bf16(d, N, a, b, site);
}
// None of these numbers is read from before here, nor computed after: sums behind a wait, and what
// is to be done before one.
template <int N> DEVICE void settled(float (&)[N]) {}
// What the thread knows of shared memory, tensor copies and products of warp groups know from here
// on.
DEVICE void async_fence(SITE) { emulator::async_fence(site); }
template <int N> DEVICE void registers_more() {}
template <int N> DEVICE void registers_fewer() {}
// A barrier of `threads` threads of the block.
DEVICE void named_barrier(int id, int threads, SITE) { emulator::named_barrier(id, threads, site); }
#else
struct alignas(128) CUtensorMap {
  uint64_t opaque[16];
};
typedef uint64_t shared_descriptor;
DEVICE void barrier_init(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count)
               : "memory");
}
DEVICE void barrier_arrive(uint64_t* barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared::cta.b64 state, [%0];\n}"
               ::"r"(shared_address(barrier))
               : "memory");
}
DEVICE void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
#if __CUDA_ARCH__ >= 900
DEVICE void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;\n fence.proxy.async.shared::cta;"
               ::: "memory");
}
DEVICE void async_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void barrier_expect(uint64_t* barrier, int bytes) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n}"
               ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
#ifdef WATCH
// Builds with -DWATCH="name" end a wait of more than two seconds with a trap, and say where it was.
DEVICE uint64_t nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}
DEVICE void barrier_wait(uint64_t* barrier, int parity) {
  uint64_t begin = nanoseconds();
  for (uint32_t tries = 1, done = 0; !done; tries++) {
    asm volatile("{\n.reg .pred over;\nmbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\nselp.u32 %0, 1, 0, over;\n}"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
    if (!done && tries % 1024 == 0 && nanoseconds() - begin > 2000000000) {
      printf("%s: block %d,%d,%d thread %d waits without end for phase %d of the barrier at byte %u of shared memory\n",
             WATCH, (int)blockIdx.x, (int)blockIdx.y, (int)blockIdx.z, (int)threadIdx.x, parity,
             shared_address(barrier));
      asm volatile("trap;");
    }
  }
}
#else
DEVICE void barrier_wait(uint64_t* barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}"
      ::"r"(shared_address(barrier)), "r"(parity)
      : "memory");
}
#endif
DEVICE void tensor_copy(void* shared, const CUtensorMap* map, uint64_t* barrier, int column,
                        int row) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4}], [%2];"
               ::"r"(shared_address(shared)),
               "l"(map), "r"(shared_address(barrier)), "r"(column), "r"(row)
               : "memory");
}
DEVICE shared_descriptor swizzled(const void* p) {
  return ((uint64_t)(shared_address(p) & 0x3FFFF) >> 4) | (uint64_t)1 << 16 |
         (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
DEVICE shared_descriptor swizzled_across(const void* p, int next) {
  return ((uint64_t)(shared_address(p) & 0x3FFFF) >> 4) | (uint64_t)(next >> 4) << 16 |
         (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
#endif
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
#define TEN(tens) "%" #tens "0,%" #tens "1,%" #tens "2,%" #tens "3,%" #tens "4,%" #tens "5,%" #tens "6,%" #tens "7,%" #tens "8,%" #tens "9,"
#define EIGHT(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
template <int N, bool A_ACROSS, bool B_ACROSS>
DEVICE void wgmma(float (&d)[N / 2], shared_descriptor a, shared_descriptor b) {
  static_assert(N == 32 || N == 64 || N == 128 || N == 256,
                "products of a warp group are wrapped for these widths");
  if constexpr (N == 32)
    asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" TEN()
                 "%10,%11,%12,%13,%14,%15}, %16, %17, 1, 1, 1, %18, %19;"
                 : EIGHT(0), EIGHT(8)
                 : "l"(a), "l"(b), "n"((int)A_ACROSS), "n"((int)B_ACROSS));
  else if constexpr (N == 64)
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" TEN() TEN(1) TEN(2)
                 "%30,%31}, %32, %33, 1, 1, 1, %34, %35;"
                 : EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24)
                 : "l"(a), "l"(b), "n"((int)A_ACROSS), "n"((int)B_ACROSS));
  else if constexpr (N == 128)
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" TEN() TEN(1) TEN(2)
                 TEN(3) TEN(4) TEN(5) "%60,%61,%62,%63}, %64, %65, 1, 1, 1, %66, %67;"
                 : EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40), EIGHT(48),
                   EIGHT(56)
                 : "l"(a), "l"(b), "n"((int)A_ACROSS), "n"((int)B_ACROSS));
  else if constexpr (N == 256)
    asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" TEN() TEN(1) TEN(2)
                 TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) TEN(11)
                 "%120,%121,%122,%123,%124,%125,%126,%127}, %128, %129, 1, 1, 1, %130, %131;"
                 : EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40), EIGHT(48),
                   EIGHT(56), EIGHT(64), EIGHT(72), EIGHT(80), EIGHT(88), EIGHT(96), EIGHT(104),
                   EIGHT(112), EIGHT(120)
                 : "l"(a), "l"(b), "n"((int)A_ACROSS), "n"((int)B_ACROSS));
}
#define FOUR(a) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
template <int N, bool KEEP, bool B_ACROSS>
DEVICE void wgmma_registers(float (&d)[N / 2], const uint32_t (&a)[4], shared_descriptor b) {
  static_assert(N == 64 || N == 128,
                "products of a warp group with one side in registers are wrapped for these widths");
  if constexpr (N == 64)
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" TEN() TEN(1) TEN(2)
                 "%30,%31}, {%32,%33,%34,%35}, %36, %37, 1, 1, %38;"
                 : EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24)
                 : FOUR(a), "l"(b), "n"((int)KEEP), "n"((int)B_ACROSS));
  else if constexpr (N == 128)
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" TEN() TEN(1) TEN(2)
                 TEN(3) TEN(4) TEN(5) "%60,%61,%62,%63}, {%64,%65,%66,%67}, %68, %69, 1, 1, %70;"
                 : EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40), EIGHT(48),
                   EIGHT(56)
                 : FOUR(a), "l"(b), "n"((int)KEEP), "n"((int)B_ACROSS));
}
#undef FOUR
template <int N>
DEVICE void wgmma_first(float (&d)[N / 2], shared_descriptor a, shared_descriptor b) {
  static_assert(N == 64, "the first product of a chain is wrapped for this width");
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" TEN() TEN(1) TEN(2)
               "%30,%31}, %32, %33, 0, 1, 1, 0, 0;"
               : EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24)
               : "l"(a), "l"(b));
}
template <int N> DEVICE void settled(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}
#undef TEN
#undef EIGHT
template <int N>
DEVICE void registers_more() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
DEVICE void registers_fewer() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
#endif
#endif

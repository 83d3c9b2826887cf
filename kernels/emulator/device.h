// The CUDA language as C++ for the CPU: what a kernel may say, in terms of the emulator's runtime.
// Included by prelude.cuh alone, where EMULATOR is defined. One fiber a CUDA thread; the blocks of
// a launch run one after another on one thread of the host.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// ---- words of the language

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
#define __shared__ static  // one block at a time, so a static is shared by its fibers

struct uint3 {
  uint32_t x, y, z;
};
struct dim3 {
  uint32_t x = 1, y = 1, z = 1;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  return {x, y, z, w};
}

// ---- what the runtime does for a kernel

// Where a kernel calls on the runtime: two lanes that meet from different places are an error.
#define SITE emulator::Site site = {__builtin_FILE(), __builtin_LINE()}

namespace emulator {
struct Site {
  const char* file;
  int line;
};

// What a running thread knows of itself.
struct Thread {
  uint3 thread, block;
  dim3 block_size, grid_size;
  uint32_t index, lane, warp;  // within the block
};
extern Thread* current;

[[noreturn]] void fail(Site site, const char* format, ...) __attribute__((format(printf, 2, 3)));
void* dynamic_shared();

enum Vote { ANY, ALL, COUNT };
void sync_threads(Site site);
int sync_threads_vote(Site site, int value, Vote vote);
void named_barrier(int id, int threads, Site site);

// A step that the lanes of `mask` take together: the last to arrive runs `step` over all lanes'
// `in` and `out`. With `fence`, what each lane wrote before is seen by all of them after.
typedef void (*WarpStep)(void** in, void** out, uint32_t mask);
void warp_step(Site site, const char* what, uint32_t mask, void* in, void* out, WarpStep step,
               bool fence);

// Checked accesses of the runtime on behalf of the running thread.
void check_read(const void* p, size_t bytes, Site site);
void check_write(void* p, size_t bytes, Site site);
void check_atomic(void* p, size_t bytes, Site site);
// The same by tensor copies and products of warp groups, and the fence that a thread's own writes
// need before those.
void check_async_read(const void* p, size_t bytes, Site site);
void check_async_write(void* p, size_t bytes, Site site);
void check_async_fence();

void copy_async(void* shared, const void* global, int bytes, bool wanted, Site site);
void copy_async_commit(Site site);
void copy_async_wait(int groups, Site site);
void ldmatrix(uint32_t* r, int matrices, bool transposed, const void* row, Site site);
void mma_m16n8k16_bf16(float* c, const uint32_t* a, const uint32_t* b, Site site);
}  // namespace emulator

struct alignas(128) CUtensorMap {
  uint64_t opaque[16];
};

namespace emulator {
void barrier_init(uint64_t* barrier, int count, Site site);
void barrier_arrive(uint64_t* barrier, int bytes, Site site);
void barrier_wait(uint64_t* barrier, int parity, Site site);
void tensor_copy(void* shared, const CUtensorMap* map, uint64_t* barrier, int column, int row,
                 Site site);
// `leading`: bytes to the next 64 rows, where a line holds rows.
struct SharedDescriptor {
  const char* p;
  uint32_t stride, leading;
};
void wgmma_bf16(float* d, int n, SharedDescriptor a, SharedDescriptor b, bool a_across,
                bool b_across, Site site);
void wgmma_first_bf16(float* d, int n, SharedDescriptor a, SharedDescriptor b, Site site);
void wgmma_registers_bf16(float* d, int n, const uint32_t* a, SharedDescriptor b, bool keep,
                          bool b_across, Site site);
void async_fence(Site site);
void wgmma_commit(Site site);
void wgmma_wait(int groups, Site site);

template <class To, class From> static inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace emulator

#define threadIdx (emulator::current->thread)
#define blockIdx (emulator::current->block)
#define blockDim (emulator::current->block_size)
#define gridDim (emulator::current->grid_size)
static const int warpSize = 32;

// ---- synchronisation

static inline void __syncthreads(SITE) { emulator::sync_threads(site); }
static inline int __syncthreads_or(int value, SITE) {
  return emulator::sync_threads_vote(site, value, emulator::ANY);
}
static inline int __syncthreads_and(int value, SITE) {
  return emulator::sync_threads_vote(site, value, emulator::ALL);
}
static inline int __syncthreads_count(int value, SITE) {
  return emulator::sync_threads_vote(site, value, emulator::COUNT);
}
static inline void __syncwarp(uint32_t mask = ~0u, SITE) {
  auto nothing = [](void**, void**, uint32_t) {};
  emulator::warp_step(site, "__syncwarp", mask, nullptr, nullptr, nothing, true);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// ---- shuffles and votes

namespace emulator {
struct Shuffle {
  uint64_t value;
  int source;
};
// A lane that reads from one that takes no part gets what no test accepts: on the device that is
// undefined.
static inline void shuffle_step(void** in, void** out, uint32_t mask) {
  for (int lane = 0; lane < 32; lane++) {
    if (!(mask >> lane & 1)) continue;
    int source = ((Shuffle*)in[lane])->source;
    *(uint64_t*)out[lane] =
        mask >> source & 1 ? ((Shuffle*)in[source])->value : 0x7ff7dead7fc0deadull;
  }
}
template <class T>
static inline T shuffle(Site site, const char* what, uint32_t mask, T value, int source) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  Shuffle in{0, source};
  uint64_t out = 0;
  memcpy(&in.value, &value, sizeof value);
  warp_step(site, what, mask, &in, &out, shuffle_step, false);
  memcpy(&value, &out, sizeof value);
  return value;
}
}  // namespace emulator

template <class T>
static inline T __shfl_sync(uint32_t mask, T value, int source, int width = 32, SITE) {
  int lane = emulator::current->lane;
  return emulator::shuffle(site, "__shfl_sync", mask, value,
                           (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
static inline T __shfl_xor_sync(uint32_t mask, T value, int distance, int width = 32, SITE) {
  int lane = emulator::current->lane, source = lane ^ distance;
  return emulator::shuffle(site, "__shfl_xor_sync", mask, value,
                           (source & ~(width - 1)) > (lane & ~(width - 1)) ? lane : source);
}
template <class T>
static inline T __shfl_down_sync(uint32_t mask, T value, int distance, int width = 32, SITE) {
  int lane = emulator::current->lane, source = lane + distance;
  return emulator::shuffle(site, "__shfl_down_sync", mask, value,
                           (source ^ lane) & ~(width - 1) ? lane : source);
}
template <class T>
static inline T __shfl_up_sync(uint32_t mask, T value, int distance, int width = 32, SITE) {
  int lane = emulator::current->lane, source = lane - distance;
  return emulator::shuffle(site, "__shfl_up_sync", mask, value,
                           source < (lane & ~(width - 1)) ? lane : source);
}
static inline uint32_t __ballot_sync(uint32_t mask, int predicate, SITE) {
  uint32_t votes = 0;
  auto step = [](void** in, void** out, uint32_t mask) {
    uint32_t votes = 0;
    for (int lane = 0; lane < 32; lane++)
      if (mask >> lane & 1 && *(int*)in[lane]) votes |= 1u << lane;
    for (int lane = 0; lane < 32; lane++)
      if (mask >> lane & 1) *(uint32_t*)out[lane] = votes;
  };
  emulator::warp_step(site, "__ballot_sync", mask, &predicate, &votes, step, false);
  return votes;
}
static inline int __any_sync(uint32_t mask, int predicate, SITE) {
  return __ballot_sync(mask, predicate, site) != 0;
}
static inline int __all_sync(uint32_t mask, int predicate, SITE) {
  return __ballot_sync(mask, predicate, site) == mask;
}

// ---- atomics: one host thread, so plain arithmetic; checked as atomic. Of integers alone: the
// order of a sum of floats would be left to chance.

#define UNCHECKED __attribute__((no_sanitize("thread")))
#define ATOMIC(name, result)                                                                  \
  template <class T> UNCHECKED static inline T name(T* p, std::common_type_t<T> value, SITE) { \
    static_assert(std::is_integral_v<T>, "no atomics on floats");                             \
    emulator::check_atomic(p, sizeof(T), site);                                               \
    T old = *p;                                                                               \
    *p = result;                                                                              \
    return old;                                                                               \
  }
ATOMIC(atomicAdd, old + value)
ATOMIC(atomicMax, old > value ? old : value)
ATOMIC(atomicMin, old < value ? old : value)
ATOMIC(atomicExch, value)
ATOMIC(atomicOr, old | value)
#undef ATOMIC
template <class T>
UNCHECKED static inline T atomicCAS(T* p, std::common_type_t<T> expected,
                                    std::common_type_t<T> value, SITE) {
  emulator::check_atomic(p, sizeof(T), site);
  T old = *p;
  if (old == expected) *p = value;
  return old;
}

// ---- arithmetic and cached loads

static inline float __uint_as_float(uint32_t x) { return emulator::bits<float>(x); }
static inline uint32_t __float_as_uint(float x) { return emulator::bits<uint32_t>(x); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline T __ldcg(const T* p) { return *p; }
template <class T> static inline void __stcs(T* p, T value) { *p = value; }
template <class T> static inline T min(T a, std::common_type_t<T> b) { return a < b ? a : b; }
template <class T> static inline T max(T a, std::common_type_t<T> b) { return a > b ? a : b; }
static inline int __popc(uint32_t x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((uint32_t)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

// ---- kernels make themselves known: name, module, and how to call them with cuLaunchKernel's
// array of arguments

namespace emulator {
typedef void (*Call)(void** arguments);
struct Kernel {
  const char *module, *name;
  Call call;
  int parameters;
  const size_t* sizes;
  unsigned most_threads;  // of a block, as __launch_bounds__ has it
  Kernel* next;
  Kernel(const char* module, const char* name, Call call, int parameters, const size_t* sizes,
         unsigned most_threads);
};
template <auto function> struct Signature;
template <class... A, void (*function)(A...)> struct Signature<function> {
  template <size_t... I> UNCHECKED static void call(void** arguments, std::index_sequence<I...>) {
    function(*(std::remove_const_t<A>*)arguments[I]...);
  }
  UNCHECKED static void call(void** arguments) { call(arguments, std::index_sequence_for<A...>{}); }
  static constexpr int parameters = sizeof...(A);
  static constexpr size_t sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};
};
}  // namespace emulator
#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define REGISTER_AS(name)                                                                          \
  static emulator::Kernel kernel_##name(MODULE, #name, emulator::Signature<&name>::call,           \
                                        emulator::Signature<&name>::parameters,                    \
                                        emulator::Signature<&name>::sizes, most_threads_##name);
#define REGISTER_NAMED(name) REGISTER_AS(name)
#define REGISTER(name) REGISTER_NAMED(NAME(name))

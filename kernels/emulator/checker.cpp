// Device memory, and in builds with CHECK a look at every access: out of bounds, uninitialised
// reads, and races.
//
// 1. Kernels are compiled with -fsanitize=thread, but linked without its runtime: the calls that
//    the compiler puts before every access (__tsan_read4 and its like) land here.
// 2. Each byte of device memory has a state (absent, uninitialised, initialised) and a cell: who
//    wrote it last and who read it since. A cell counts for one launch, or for shared memory for
//    one block; older ones are as good as empty.
// 3. Happens-before by vector clocks: a barrier, __syncwarp or an mbarrier makes what each of its
//    threads did known to the others. Blocks of a launch are unordered, except through an atomic on
//    the same address. So a race is found whatever the schedule was.
// 4. Tensor copies and products of warp groups reach shared memory by a separate way (the
//    asynchronous proxy): what a thread wrote there
//    they may touch once a fence.proxy.async, before which the write happened, has happened before
//    them.
// 5. Two accesses race if they touch the same byte, one of them writes, neither happened before the
//    other, and not both are atomic.
#include "block.h"

#include <cstdlib>

namespace emulator {

#ifndef CHECK

void check_start_launch(void*) {}
void check_start_block() {}
void check_together(const std::vector<int>&) {}
void check_release(Clock&) {}
void check_acquire(int, const Clock&) {}
void check_shared(char*, size_t, bool) {}
char* check_shared_place() { return nullptr; }
void check_read(const void*, size_t, Site) {}
void check_write(void*, size_t, Site) {}
void check_atomic(void*, size_t, Site) {}
void check_async_read(const void*, size_t, Site) {}
void check_async_write(void*, size_t, Site) {}
void check_async_fence() {}

}  // namespace emulator

// From the allocator of the process: the address sanitizer knows its bounds.
extern "C" void* emulator_allocate(size_t bytes) {
  void* p = aligned_alloc(256, (bytes + 255) & ~(size_t)255);
#ifdef WITH_ADDRESS_SANITIZER
  free(p);
  if (posix_memalign(&p, 256, bytes ? bytes : 1)) return nullptr;
#endif
  if (p) memset(p, 0xff, bytes);
  return p;
}
extern "C" void emulator_free(void* p) { free(p); }
extern "C" int emulator_host_access(void*, size_t, int) { return 0; }
extern "C" int emulator_checks() { return 0; }

#else

}  // namespace emulator

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <mutex>

namespace emulator {

// Threads are numbered from 1 over the whole launch; 0 is none.
struct Cell {
  uint32_t epoch;
  uint32_t writer, write_time;
  uint32_t readers[2], read_times[2];
  bool atomic, written, asynchronous;  // the last write: by an asynchronous copy or product
};
enum Byte : uint8_t { ABSENT, UNINITIALISED, INITIALISED };
enum Access { READ, WRITE, ATOMIC };

// ---- memory

const size_t ARENA = 1ull << 34, GAP = 512, SHARED_MOST = 256 << 10;
static char* arena;
static Byte* bytes_of;
static Cell* cells_of;
static size_t top = 4096;  // addresses are never used again: a late access is out of bounds
static std::map<size_t, size_t> allocations;
static std::mutex allocating;

static char* shared_place;
static size_t shared_now;
static Cell* shared_cells;

// A loaded segment of the library that holds the kernels; what can be written in it are __shared__
// variables.
struct Segment {
  uintptr_t low, high;
  Cell* cells;
};
static std::vector<Segment> segments;

static void* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    perror("the emulator's memory");
    abort();
  }
  return p;
}

static void start_memory() {
  if (arena) return;
  bytes_of = (Byte*)reserve(ARENA);
  cells_of = (Cell*)reserve(ARENA * sizeof(Cell));
  shared_place = (char*)(((uintptr_t)reserve(SHARED_MOST + 1024) + 1023) & ~(uintptr_t)1023);
  shared_cells = (Cell*)reserve(SHARED_MOST * sizeof(Cell));
  arena = (char*)reserve(ARENA);
}

static int add_segments(dl_phdr_info* library, size_t, void* code) {
  auto low = [&](int i) { return library->dlpi_addr + library->dlpi_phdr[i].p_vaddr; };
  auto high = [&](int i) { return low(i) + library->dlpi_phdr[i].p_memsz; };
  auto loaded = [&](int i) { return library->dlpi_phdr[i].p_type == PT_LOAD; };
  bool here = false;
  for (int i = 0; i < library->dlpi_phnum; i++)
    here |= loaded(i) && (uintptr_t)code >= low(i) && (uintptr_t)code < high(i);
  for (int i = 0; here && i < library->dlpi_phnum; i++) {
    bool writable = library->dlpi_phdr[i].p_flags & PF_W;
    if (loaded(i))
      segments.push_back({low(i), high(i),
                          writable ? (Cell*)reserve((high(i) - low(i)) * sizeof(Cell)) : nullptr});
  }
  return here;
}

// ---- clocks

static std::map<std::pair<void*, std::string>, int> told;  // faults of this launch, by place
static uint32_t epoch, launch_epoch, block_epoch;
// [threads, 2 threads]: what each has synchronised with, and what of it is behind a
// fence.proxy.async.
static std::vector<uint32_t> clocks;
// blocks that did an atomic on an address
static std::map<const void*, std::vector<uint64_t>> released;
// blocks that happened before what the running block does
static std::vector<uint64_t> acquired;

static int clock_size() { return 2 * block->threads; }
static uint32_t* clock_of(int thread) { return &clocks[(size_t)thread * clock_size()]; }

static bool happened_before(uint32_t number, uint32_t time) {
  uint32_t other = (number - 1) / block->threads, thread = (number - 1) % block->threads;
  if (other != block->index)
    return std::find(acquired.begin(), acquired.end(), other) != acquired.end();
  return clock_of(block->running->index)[thread] >= time;
}

// Whether a fence.proxy.async is between a write by a thread of this block and what the running
// thread does.
static bool fenced(const Cell& cell) {
  int threads = block->threads;
  return clock_of(block->running->index)[threads + (cell.writer - 1) % threads] >= cell.write_time;
}

void check_start_launch(void* code) {
  start_memory();
  if (segments.empty()) dl_iterate_phdr(add_segments, code);
  launch_epoch = ++epoch;
  clocks.assign((size_t)block->threads * clock_size(), 0);
  released.clear();
  told.clear();
}

void check_start_block() {
  block_epoch = ++epoch;
  acquired.clear();
  std::fill(clocks.begin(), clocks.end(), 0);
  for (int i = 0; i < block->threads; i++) clock_of(i)[i] = 1;
}

void check_together(const std::vector<int>& threads) {
  static Clock all;
  all.assign(clock_size(), 0);
  for (int thread : threads)
    for (int i = 0; i < clock_size(); i++) all[i] = std::max(all[i], clock_of(thread)[i]);
  for (int thread : threads) {
    std::copy(all.begin(), all.end(), clock_of(thread));
    clock_of(thread)[thread]++;
  }
}

void check_release(Clock& into) {
  uint32_t* own = clock_of(block->running->index);
  into.resize(clock_size());
  for (int i = 0; i < clock_size(); i++) into[i] = std::max(into[i], own[i]);
  own[block->running->index]++;
}

void check_acquire(int thread, const Clock& from) {
  for (size_t i = 0; i < from.size(); i++)
    clock_of(thread)[i] = std::max(clock_of(thread)[i], from[i]);
}

void check_async_fence() {
  int self = block->running->index, threads = block->threads;
  uint32_t* own = clock_of(self);
  for (int i = 0; i < threads; i++) own[threads + i] = std::max(own[threads + i], own[i]);
  own[self]++;
}

void check_shared(char*, size_t bytes, bool present) {
  if (bytes > SHARED_MOST) abort();
  shared_now = present ? bytes : 0;
}
char* check_shared_place() { return shared_place; }

// ---- what is told of a fault

static const Site* site_now;     // of an access that the runtime makes
static bool asynchronous_now;    // an access of a copy or a product behind the thread's back

static std::string source_line(void* code) {
  char text[600] = "?";
  if (site_now) {
    const char* slash = strrchr(site_now->file, '/');
    snprintf(text, sizeof text, "%s:%d", slash ? slash + 1 : site_now->file, site_now->line);
    return text;
  }
  Dl_info library;
  if (!dladdr(code, &library) || !library.dli_fname) return text;
  char command[600];
  snprintf(command, sizeof command, "addr2line -s -e '%s' %#zx 2>/dev/null", library.dli_fname,
           (uintptr_t)code - (uintptr_t)library.dli_fbase - 1);
  if (FILE* pipe = popen(command, "r")) {
    if (fgets(text, sizeof text, pipe)) text[strcspn(text, "\n ")] = 0;
    pclose(pipe);
  }
  return text;
}

// Once for each place in the source.
static void tell(void* code, const std::string& what, const std::string& rest) {
  counts.races++;
  if (told[{code, what}]++) return;
  report(source_line(code) + ": " + what + rest + ": " + where(*block->running));
}

// An access that cannot go on ends the block.
static void end(void* code, const std::string& what, const std::string& rest) {
  tell(code, what, rest);
  site_now = nullptr;
  asynchronous_now = false;
  block->failed = true;
  wait(RUNNING, {}, "");
}

static std::string address(const void* p) {
  char text[40];
  snprintf(text, sizeof text, " %p", p);
  return text;
}

// ---- an access

static bool race(Cell& cell, uint32_t self, Access access, uint32_t& other) {
  auto against = [&](uint32_t number, uint32_t time) {
    other = number;
    return number && number != self && !happened_before(number, time);
  };
  if (!(access == ATOMIC && cell.atomic) && against(cell.writer, cell.write_time)) return true;
  if (access == READ) return false;
  return against(cell.readers[0], cell.read_times[0]) ||
         against(cell.readers[1], cell.read_times[1]);
}

// Two readers are remembered; a later one takes the place of one that happened before it.
static void note(Cell& cell, uint32_t self, uint32_t time, Access access) {
  if (access != READ) {
    cell.writer = self;
    cell.write_time = time;
    cell.atomic = access == ATOMIC;
    cell.written = true;
    cell.asynchronous = asynchronous_now;
    cell.readers[0] = cell.readers[1] = 0;
    return;
  }
  for (int i = 0; i < 2; i++) {
    if (cell.readers[i] && cell.readers[i] != self &&
        !happened_before(cell.readers[i], cell.read_times[i]))
      continue;
    cell.readers[i] = self;
    cell.read_times[i] = time;
    return;
  }
}

// Blocks that did an atomic on this address before happened before what follows.
static void meet_blocks(const void* p) {
  auto& blocks = released[p];
  for (uint64_t other : blocks)
    if (std::find(acquired.begin(), acquired.end(), other) == acquired.end())
      acquired.push_back(other);
  if (blocks.empty() || blocks.back() != block->index) blocks.push_back(block->index);
}

// `aligned`: the type is aligned to its size, and a device faults at any other address.
static void look(const void* p, size_t bytes, Access access, void* code, bool aligned = false) {
  if (!block || !block->running || block->failed || block->quiet) return;
  uintptr_t at = (uintptr_t)p;
  Fiber* self = block->running;
  if (at - (uintptr_t)self->stack < STACK) return;  // its own variables
  // threadIdx and its like
  if (at - (uintptr_t)self < sizeof(Fiber) || p == (void*)&current) return;
  if (aligned && at % bytes)
    return end(code, "misaligned access of " + std::to_string(bytes) + " bytes", address(p));
  const char* verb = access == READ ? "read" : "write";
  Byte* states = nullptr;
  Cell* cells = nullptr;
  uint32_t now = block_epoch;
  if (at - (uintptr_t)arena < ARENA) {
    states = bytes_of + (at - (uintptr_t)arena);
    cells = cells_of + (at - (uintptr_t)arena);
    now = launch_epoch;
  } else if (at - (uintptr_t)shared_place < SHARED_MOST) {
    if (at + bytes > (uintptr_t)shared_place + shared_now)
      return end(code, std::string(verb) + " out of bounds of dynamic shared memory", address(p));
    cells = shared_cells + (at - (uintptr_t)shared_place);
  } else {
    for (auto& segment : segments) {
      if (at < segment.low || at >= segment.high) continue;
      if (!segment.cells) return;  // constants
      cells = segment.cells + (at - segment.low);
    }
    if (!cells) return end(code, std::string(verb) + " of what is no device memory", address(p));
  }
  const char* kind = states ? "global" : "shared";
  if (access == ATOMIC && states) meet_blocks(p);
  uint32_t number = block->index * block->threads + self->index + 1,
           time = clock_of(self->index)[self->index], other = 0;
  for (size_t i = 0; i < bytes; i++) {
    if (states && states[i] == ABSENT)
      return end(code, std::string(verb) + " out of bounds", address((char*)p + i));
    Cell& cell = cells[i];
    if (cell.epoch != now) cell = {now, 0, 0, {}, {}, false, false, false};
    if (access != WRITE && !(states ? states[i] == INITIALISED : cell.written))
      return tell(code, std::string("read of uninitialised ") + kind + " memory",
                  address((char*)p + i));
    if (race(cell, number, access, other)) {
      std::string against = " against block " + std::to_string((other - 1) / block->threads) +
                            " thread " + std::to_string((other - 1) % block->threads);
      return tell(code, std::string("race: ") + verb + " of " + kind + " memory",
                  address((char*)p + i) + against);
    }
    if (asynchronous_now && !states && cell.written && !cell.asynchronous && !fenced(cell))
      return tell(code,
                  std::string("no fence.proxy.async between a thread's write and this ") + verb +
                      " of shared memory",
                  address((char*)p + i));
    note(cell, number, time, access);
    if (states && access != READ) states[i] = INITIALISED;
  }
}

static void look_from(Site site, const void* p, size_t bytes, Access access) {
  site_now = &site;
  // some place that is the same for the same line
  look(p, bytes, access, (char*)site.file + site.line);
  site_now = nullptr;
}
void check_read(const void* p, size_t bytes, Site site) { look_from(site, p, bytes, READ); }
void check_write(void* p, size_t bytes, Site site) { look_from(site, p, bytes, WRITE); }
void check_atomic(void* p, size_t bytes, Site site) { look_from(site, p, bytes, ATOMIC); }
static void look_asynchronously(Site site, const void* p, size_t bytes, Access access) {
  asynchronous_now = true;
  look_from(site, p, bytes, access);
  asynchronous_now = false;
}
void check_async_read(const void* p, size_t bytes, Site site) {
  look_asynchronously(site, p, bytes, READ);
}
void check_async_write(void* p, size_t bytes, Site site) {
  look_asynchronously(site, p, bytes, WRITE);
}
}  // namespace emulator

using namespace emulator;

// ---- what the compiler calls

#define HERE __builtin_return_address(0)
#define ACCESSES(n)                                                            \
  void __tsan_read##n(void* p) { look(p, n, READ, HERE, true); }               \
  void __tsan_write##n(void* p) { look(p, n, WRITE, HERE, true); }             \
  void __tsan_unaligned_read##n(void* p) { look(p, n, READ, HERE); }           \
  void __tsan_unaligned_write##n(void* p) { look(p, n, WRITE, HERE); }         \
  void __tsan_volatile_read##n(void* p) { look(p, n, READ, HERE, true); }      \
  void __tsan_volatile_write##n(void* p) { look(p, n, WRITE, HERE, true); }    \
  void __tsan_unaligned_volatile_read##n(void* p) { look(p, n, READ, HERE); }  \
  void __tsan_unaligned_volatile_write##n(void* p) { look(p, n, WRITE, HERE); } \
  void __tsan_read_write##n(void* p) {                                         \
    look(p, n, READ, HERE, true);                                              \
    look(p, n, WRITE, HERE, true);                                             \
  }
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(void* p, size_t bytes) { look(p, bytes, READ, HERE); }
void __tsan_write_range(void* p, size_t bytes) { look(p, bytes, WRITE, HERE); }
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  look(from, bytes, READ, HERE);
  look(to, bytes, WRITE, HERE);
  return memcpy(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
  look(to, bytes, WRITE, HERE);
  return memset(to, value, bytes);
}

void* emulator_allocate(size_t bytes) {
  std::lock_guard<std::mutex> lock(allocating);
  start_memory();
  size_t at = (top + 255) & ~(size_t)255;
  if (at + bytes + GAP > ARENA) return nullptr;
  top = at + bytes + GAP;
  allocations[at] = bytes;
  memset(bytes_of + at, UNINITIALISED, bytes);
  memset(arena + at, 0xff, bytes);
  return arena + at;
}

void emulator_free(void* p) {
  std::lock_guard<std::mutex> lock(allocating);
  size_t at = (char*)p - arena, bytes = allocations[at];
  allocations.erase(at);
  memset(bytes_of + at, ABSENT, bytes);
  // The pages go back to the system.
  size_t first = (at + 4095) & ~(size_t)4095, last = (at + bytes) & ~(size_t)4095;
  if (first >= last) return;
  madvise(arena + first, last - first, MADV_DONTNEED);
  madvise((char*)(cells_of + first), (last - first) * sizeof(Cell), MADV_DONTNEED);
}

int emulator_host_access(void* p, size_t bytes, int write) {
  size_t at = (char*)p - arena;
  if (!arena || at >= ARENA) return 1;
  for (size_t i = 0; i < bytes; i++) {
    if (bytes_of[at + i] == ABSENT) return 1;
    if (write) bytes_of[at + i] = INITIALISED;
  }
  return 0;
}
int emulator_checks() { return 1; }
}
#endif

// What the parts of the emulator share: the block that runs, its fibers, and what they wait for.
// Kernels never see it.
#pragma once
#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "device.h"
#include "emulator.h"
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ADDRESS_SANITIZER
#endif

namespace emulator {
// Times of the block's threads, as one of them knows them: entry t is the last step of thread t
// that happened before.
typedef std::vector<uint32_t> Clock;

enum State { RUNNING, AT_BARRIER, AT_WARP_STEP, AT_NAMED_BARRIER, AT_COUNTING_BARRIER, EXITED };

struct Copy {
  void* shared;
  const void* global;
  int bytes;
  bool wanted;
};

struct GroupProduct;

// One CUDA thread.
struct Fiber : Thread {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  State state = RUNNING;
  Site site{};
  const char* what = "";
  int named = 0;
  std::vector<Copy> copies;
  std::deque<std::vector<Copy>> copy_groups;
  uint64_t* counting = nullptr;
  int parity = 0;
  std::vector<GroupProduct*> products;
  std::deque<std::vector<GroupProduct*>> product_groups;
  void* fake_stack = nullptr;  // of the address sanitizer
};

struct NamedBarrier {
  std::vector<int> waiting;
};

// An mbarrier: its phase ends when no arrival and no byte is outstanding.
struct CountingBarrier {
  int count, pending, bytes, phase;
  Clock arriving, done;
};

// A matrix that tensor copies read, as emulator_tensor_map writes it into a CUtensorMap.
struct Map {
  uint64_t magic;
  char* base;
  uint64_t sizes[2], stride;
  uint32_t box[2], element, swizzle;
};
const uint64_t MAP_MAGIC = 0x7a3e;

struct TensorCopy {
  char* shared;
  Map map;
  uint64_t* barrier;
  int column, row;
  Clock clock;
};

// A step that lanes of a warp take together, while some are missing.
struct Meeting {
  uint32_t mask, arrived;
  Site site;
  const char* what;
  void *in[32], *out[32];
  WarpStep step;
  bool fence;
};

// The block that runs.
struct Block {
  std::vector<Fiber> fibers;
  std::vector<std::vector<Meeting>> meetings;  // of each warp
  std::deque<int> ready;
  int threads = 0, at_barrier = 0, exited = 0;
  Site barrier{};
  int votes[3] = {}, result[3] = {};  // by Vote
  std::map<int, NamedBarrier> named;
  std::map<uint64_t*, CountingBarrier> counting;
  std::deque<TensorCopy> tensor_copies;
  // by warp group and position in its threads' sequences
  std::map<std::pair<int, uint64_t>, GroupProduct*> products;
  std::vector<uint64_t> products_issued;
  char* shared = nullptr;
  size_t shared_bytes = 0;
  Call call = nullptr;
  void** arguments = nullptr;
  EmulatorOptions options{};
  std::mt19937_64 random;
  Fiber* running = nullptr;
  void* scheduler = nullptr;
  bool failed = false, quiet = false;
  uint64_t index = 0;
  // For the address sanitizer.
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_bytes = 0;
};
extern Block* block;
extern EmulatorCounts counts;

#ifdef WITH_ADDRESS_SANITIZER
const size_t STACK = 256 << 10;
#else
const size_t STACK = 64 << 10;
#endif

// Lets others run until someone wakes the running fiber.
void wait(State state, Site site, const char* what);
void wake(int thread);
// Notes an error; the launch fails with it.
void report(const std::string& text);
std::string where(const Thread& thread);

// The checker's side of synchronisation; nothing in builds without it.
void check_start_launch(void* code);
void check_start_block();
// all of them know now what each of them knew
void check_together(const std::vector<int>& threads);
// the running thread tells what it knows
void check_release(Clock& into);
void check_acquire(int thread, const Clock& from);           // a thread learns
// dynamic shared memory comes and goes
void check_shared(char* shared, size_t bytes, bool present);
char* check_shared_place();

void counting_start_block();
bool counting_progress();  // lands one tensor copy, if any is on its way
}  // namespace emulator

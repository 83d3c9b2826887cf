// Runs a launch: blocks one after another, each thread of a block a fiber, switched by hand where
// it waits. Knows nothing of
// what it waits for.
#include "block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#ifdef WITH_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace emulator {
Thread* current;
Block* block;
EmulatorCounts counts;
static std::string error;
static std::mutex one_launch;

// ---- switching

#ifdef __x86_64__
// Saves the registers that a call preserves and the stack pointer; takes up those of another fiber.
extern "C" void emulator_switch(void** save, void* to);
asm(R"(
.text
.p2align 4
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch,.-emulator_switch
)");
static void prepare(Fiber& fiber, void (*start)()) {
  void** top = (void**)(fiber.stack + STACK);
  *--top = nullptr;  // the stack is 8 off 16 where a function begins
  *--top = (void*)start;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber.stack_pointer = top;
}
static void change(void** save, void* to) { emulator_switch(save, to); }
#else
// Where the few lines of assembly are not written: ten times as slow.
static void prepare(Fiber& fiber, void (*start)()) {
  ucontext_t* context = (ucontext_t*)fiber.stack;
  getcontext(context);
  context->uc_stack.ss_sp = fiber.stack + sizeof *context;
  context->uc_stack.ss_size = STACK - sizeof *context;
  context->uc_link = nullptr;
  makecontext(context, start, 0);
  fiber.stack_pointer = context;
}
static void change(void** save, void* to) {
  static ucontext_t scheduler;
  if (!*save) *save = &scheduler;
  swapcontext((ucontext_t*)*save, (ucontext_t*)to);
}
#endif

static void to_scheduler() {
  Fiber* self = block->running;
  counts.switches++;
#ifdef WITH_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(self->state == EXITED ? nullptr : &self->fake_stack,
                                 block->scheduler_stack, block->scheduler_stack_bytes);
#endif
  change(&self->stack_pointer, block->scheduler);
#ifdef WITH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(self->fake_stack, &block->scheduler_stack,
                                  &block->scheduler_stack_bytes);
#endif
}

static void to_fiber(Fiber* fiber) {
  block->running = fiber;
  current = fiber;
#ifdef WITH_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&block->scheduler_fake_stack, fiber->stack, STACK);
#endif
  change(&block->scheduler, fiber->stack_pointer);
#ifdef WITH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(block->scheduler_fake_stack, nullptr, nullptr);
#endif
  current = nullptr;
}

static void start() {
#ifdef WITH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_stack, &block->scheduler_stack_bytes);
#endif
  block->call(block->arguments);
  block->running->state = EXITED;
  block->exited++;
  to_scheduler();
  __builtin_trap();
}

// Stacks are kept for later launches. A page below each that nothing may touch.
static std::vector<char*> stacks;
static char* new_stack() {
  const size_t page = 4096;
  if (!stacks.empty()) {
    char* stack = stacks.back();
    stacks.pop_back();
    return stack;
  }
  char* p = (char*)mmap(nullptr, STACK + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    perror("the emulator's stacks");
    abort();
  }
  mprotect(p, page, PROT_NONE);
  return p + page;
}

void wait(State state, Site site, const char* what) {
  Fiber* self = block->running;
  self->state = state;
  self->site = site;
  self->what = what;
  to_scheduler();
}

void wake(int thread) {
  block->fibers[thread].state = RUNNING;
  block->ready.push_back(thread);
}

// ---- errors

std::string where(const Thread& thread) {
  char text[160];
  snprintf(text, sizeof text, "block (%u,%u,%u) thread (%u,%u,%u)", thread.block.x, thread.block.y,
           thread.block.z, thread.thread.x, thread.thread.y, thread.thread.z);
  return text;
}

void report(const std::string& text) {
  if (error.size() < 4000) error += text + "\n";
}

void fail(Site site, const char* format, ...) {
  char text[1000], place[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  const char* slash = strrchr(site.file, '/');
  snprintf(place, sizeof place, "%s:%d: ", slash ? slash + 1 : site.file, site.line);
  report(place + std::string(text) + ": " + where(*block->running));
  block->failed = true;
  to_scheduler();
  __builtin_trap();
}

// ---- blocks and launches

static Kernel*& kernels() {
  static Kernel* first;
  return first;
}
Kernel::Kernel(const char* module, const char* name, Call call, int parameters, const size_t* sizes,
               unsigned most_threads)
    : module(module),
      name(name),
      call(call),
      parameters(parameters),
      sizes(sizes),
      most_threads(most_threads),
      next(kernels()) {
  kernels() = this;
}
static Kernel* find(const char* module, const char* name) {
  Kernel* kernel = kernels();
  while (kernel && (strcmp(kernel->name, name) || strcmp(kernel->module, module)))
    kernel = kernel->next;
  return kernel;
}

void* dynamic_shared() { return block->shared; }

static void start_block(uint3 index, dim3 size, dim3 grid) {
  Block& b = *block;
  b.at_barrier = b.exited = 0;
  b.ready.clear();
  b.named.clear();
  b.failed = false;
  b.votes[ANY] = b.votes[COUNT] = 0;
  b.votes[ALL] = 1;
  for (auto& meetings : b.meetings) meetings.clear();
  if (b.shared_bytes) memset(b.shared, 0xff, b.shared_bytes);
  counting_start_block();
  check_start_block();
  for (int i = 0; i < b.threads; i++) {
    Fiber& fiber = b.fibers[i];
    uint32_t t = i;
    (Thread&)fiber = {{t % size.x, t / size.x % size.y, t / (size.x * size.y)},
                      index,
                      size,
                      grid,
                      t,
                      t % 32,
                      t / 32};
    fiber.state = RUNNING;
    fiber.copies.clear();
    fiber.copy_groups.clear();
    fiber.products.clear();
    fiber.product_groups.clear();
    prepare(fiber, start);
    b.ready.push_back(i);
  }
  if (b.options.schedule == 2) std::reverse(b.ready.begin(), b.ready.end());
  if (b.options.schedule == 1) std::shuffle(b.ready.begin(), b.ready.end(), b.random);
}

// What the threads of a block in a deadlock wait for.
static void report_standstill() {
  std::map<std::string, int> waiting;
  for (auto& fiber : block->fibers) {
    char text[200];
    snprintf(text, sizeof text, "in %s at line %d", fiber.what, fiber.site.line);
    waiting[fiber.state == EXITED ? "exited" : text]++;
  }
  std::string text =
      "deadlock in " + where(block->fibers[0]).substr(0, where(block->fibers[0]).find(" thread"));
  for (auto& [what, count] : waiting) text += "; " + std::to_string(count) + " threads " + what;
  report(text);
}

static bool run_block(uint3 index, dim3 size, dim3 grid) {
  Block& b = *block;
  start_block(index, size, grid);
  while (!b.ready.empty() || counting_progress()) {
    if (b.ready.empty()) continue;
    if (b.options.schedule == 1) std::swap(b.ready[0], b.ready[b.random() % b.ready.size()]);
    int next = b.ready.front();
    b.ready.pop_front();
    to_fiber(&b.fibers[next]);
    if (b.failed) return false;
  }
  if (b.exited == b.threads) return true;
  report_standstill();
  return false;
}

static std::vector<uint64_t> block_order(uint64_t blocks) {
  std::vector<uint64_t> order(blocks);
  for (uint64_t i = 0; i < blocks; i++) order[i] = i;
  if (block->options.schedule == 1) std::shuffle(order.begin(), order.end(), block->random);
  if (block->options.schedule == 2) std::reverse(order.begin(), order.end());
  return order;
}

static int launch(Kernel* kernel, const uint32_t grid[3], const uint32_t size[3], size_t shared,
                  void** arguments, const EmulatorOptions* options) {
  if (!block) block = new Block;
  Block& b = *block;
  b.options = options ? *options : EmulatorOptions{};
  b.random.seed(b.options.seed);
  b.call = kernel->call;
  b.arguments = arguments;
  b.threads = size[0] * size[1] * size[2];
  for (size_t i = b.threads; i < b.fibers.size(); i++) stacks.push_back(b.fibers[i].stack);
  b.fibers.resize(b.threads);
  for (auto& fiber : b.fibers)
    if (!fiber.stack) fiber.stack = new_stack();
  b.meetings.resize((b.threads + 31) / 32);
  check_start_launch((void*)kernel->call);
  b.shared_bytes = shared;
  b.shared = check_shared_place();
  bool own = shared && !b.shared;
  if (own) b.shared = (char*)aligned_alloc(1024, (shared + 1023) & ~1023ull);
  dim3 grid_size{grid[0], grid[1], grid[2]}, block_size{size[0], size[1], size[2]};
  bool whole = true;
  for (uint64_t i : block_order((uint64_t)grid[0] * grid[1] * grid[2])) {
    b.index = i;
    counts.blocks++;
    uint3 index{(uint32_t)(i % grid[0]), (uint32_t)(i / grid[0] % grid[1]),
                (uint32_t)(i / ((uint64_t)grid[0] * grid[1]))};
    check_shared(b.shared, shared, true);
    whole = run_block(index, block_size, grid_size);
    if (!whole) break;
  }
  check_shared(b.shared, shared, false);
  if (own) free(b.shared);
  b.running = nullptr;
  return whole && error.empty() ? 0 : 1;
}
}  // namespace emulator

using namespace emulator;

extern "C" int emulator_launch(const char* module, const char* name, const uint32_t grid[3],
                               const uint32_t size[3], size_t shared, void** arguments,
                               const EmulatorOptions* options) {
  std::lock_guard<std::mutex> lock(one_launch);
  error.clear();
  counts = {};
  Kernel* kernel = find(module, name);
  uint64_t threads = (uint64_t)size[0] * size[1] * size[2];
  if (!kernel) error = std::string("no kernel ") + name + " in module " + module;
  if (threads < 1 || threads > 1024) error = "a block has 1 to 1024 threads";
  return error.empty() ? launch(kernel, grid, size, shared, arguments, options) : 1;
}

extern "C" int emulator_find(const char* module, const char* name, int* parameters,
                             const size_t** sizes, unsigned* most_threads) {
  Kernel* kernel = find(module, name);
  if (!kernel) return 1;
  *parameters = kernel->parameters;
  *sizes = kernel->sizes;
  *most_threads = kernel->most_threads;
  return 0;
}

extern "C" const char* emulator_error() { return error.c_str(); }
extern "C" EmulatorCounts emulator_counts() { return counts; }

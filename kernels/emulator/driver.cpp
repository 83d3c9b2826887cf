// A libcuda over the emulator, so that the back end runs as it is, without a device. It has the
// entry points that the back end uses, and no others: a missing symbol is a loud panic, so a gap
// cannot pass for success. It refuses what a driver refuses: sizes of grids and blocks, more
// threads than a kernel was compiled for, more registers than a multiprocessor has, static and
// dynamic shared memory beyond 48 KiB without the attribute and 227 KiB with it, tensor maps that
// are not aligned, memory that is not the device's, a kernel that another module holds; and dynamic
// shared memory beyond a kernel's own budget.
//
// Environment: EMULATOR_MEMORY, bytes of the device (8 GiB); EMULATOR_CAPABILITY, such as 80 (90);
// EMULATOR_DRIVER, its version (13000); EMULATOR_DEVICES (1); EMULATOR_SEED, which lets threads,
// blocks and copies run at random.
#include <fnmatch.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "emulator.h"

typedef int Result;
typedef unsigned long long Pointer;
#define CALL extern "C" __attribute__((visibility("default"))) Result

enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NO_DEVICE = 100,
  INVALID_IMAGE = 200,
  NOT_FOUND = 500,
  LAUNCH_OUT_OF_RESOURCES = 701,
  LAUNCH_FAILED = 719,
  STREAM_CAPTURE_UNSUPPORTED = 900
};

static long setting(const char* name, long otherwise) {
  const char* text = getenv(name);
  return text ? strtol(text, nullptr, 0) : otherwise;
}

// ---- streams and graphs: what is queued runs when the stream is waited for, as late as a device
// may, unless it is being captured. So what a copy reads from pinned memory is what is there then.

typedef std::function<Result()> Work;
struct Graph {
  std::vector<Work> work;
};
struct Stream {
  Graph* captured = nullptr;
  std::vector<Work> waiting;
};
struct Event {
  double milliseconds = 0;
};
struct Module {
  std::string name;
  std::vector<std::string> budgets;  // "NAMES: R registers, S KiB static, D KiB dynamic"
};
struct Function {
  std::string module, name;
  int parameters;
  const size_t* sizes;
  unsigned most_threads;
  size_t registers;                      // a thread
  // bytes that the code declares, and that a launch may ask for
  size_t static_shared, dynamic_budget;
  // bytes that a launch may ask for without, or after, cuFuncSetAttribute
  long dynamic_limit;
};
// Shared memory of a block: what every kernel may have, and what one may that asks for it (compute
// capability 9.0).
static const long SHARED_DEFAULT = 48 << 10, SHARED_MOST = 227 << 10;
// Registers of a multiprocessor. A warp gets a multiple of 256 of them, a block a multiple of 4
// warps.
static const size_t REGISTERS = 64 << 10, WARP_REGISTERS = 256, WARPS = 4;

static Stream default_stream;
static Result failed = SUCCESS;  // as on a device, nothing works after a fault
static int context;

static Stream* stream_of(void* handle) {
  return (uintptr_t)handle > 2 ? (Stream*)handle : &default_stream;
}

// Calls from several threads take turns.
static std::recursive_mutex calling;
enum Counted { LAUNCHES, GRAPH_LAUNCHES, CAPTURES, COPIES_TO_DEVICE, WAITS, KINDS };
static size_t calls[KINDS];

// How often a call was made since the last time that this was asked with `reset`. What a graph
// holds is not counted.
extern "C" __attribute__((visibility("default"))) size_t emulator_calls(int what, int reset) {
  std::lock_guard<std::recursive_mutex> lock(calling);
  size_t count = calls[what];
  if (reset) calls[what] = 0;
  return count;
}

static Result run_waiting(Stream* stream) {
  std::vector<Work> work;
  work.swap(stream->waiting);
  for (auto& one : work)
    if (Result result = one()) failed = failed ? failed : result;
  return failed;
}

static Result queue(void* handle, Work work) {
  std::lock_guard<std::recursive_mutex> lock(calling);
  if (failed) return failed;
  Stream* stream = stream_of(handle);
  if (stream->captured) {
    stream->captured->work.push_back(work);
    return SUCCESS;
  }
  stream->waiting.push_back(work);
  // A device may begin at any time; and memory is not without end.
  return stream->waiting.size() < 4096 ? SUCCESS : run_waiting(stream);
}

// As if the stream were waited for: for the library of products, which computes at once.
extern "C" __attribute__((visibility("default"))) Result emulator_wait(void* handle) {
  std::lock_guard<std::recursive_mutex> lock(calling);
  return run_waiting(stream_of(handle));
}

static Result counted(void* handle, Counted what, Work work) {
  std::lock_guard<std::recursive_mutex> lock(calling);
  if (!stream_of(handle)->captured) calls[what]++;
  return queue(handle, work);
}

static double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

CALL cuStreamCreate(void** stream, unsigned) {
  *stream = new Stream;
  return SUCCESS;
}
CALL cuStreamCreateWithPriority(void** stream, unsigned, int) { return cuStreamCreate(stream, 0); }
CALL cuStreamDestroy_v2(void* stream) {
  emulator_wait(stream);
  delete (Stream*)stream;
  return SUCCESS;
}
CALL cuStreamSynchronize(void* stream) {
  std::lock_guard<std::recursive_mutex> lock(calling);
  if (stream_of(stream)->captured) return STREAM_CAPTURE_UNSUPPORTED;
  calls[WAITS]++;
  return run_waiting(stream_of(stream));
}
CALL cuStreamWaitEvent(void*, void*, unsigned) { return SUCCESS; }
CALL cuStreamBeginCapture_v2(void* stream, int) {
  std::lock_guard<std::recursive_mutex> lock(calling);
  if (stream_of(stream)->captured) return INVALID_VALUE;
  calls[CAPTURES]++;
  stream_of(stream)->captured = new Graph;
  return SUCCESS;
}
CALL cuStreamEndCapture(void* stream, void** graph) {
  *graph = stream_of(stream)->captured;
  stream_of(stream)->captured = nullptr;
  return SUCCESS;
}
CALL cuStreamIsCapturing(void* stream, int* status) {
  *status = stream_of(stream)->captured != nullptr;
  return SUCCESS;
}
CALL cuGraphInstantiateWithFlags(void** instance, void* graph, unsigned long long) {
  *instance = new Graph(*(Graph*)graph);
  return SUCCESS;
}
CALL cuGraphUpload(void*, void*) { return SUCCESS; }
CALL cuGraphLaunch(void* instance, void* stream) {
  std::lock_guard<std::recursive_mutex> lock(calling);
  calls[GRAPH_LAUNCHES]++;
  for (auto& work : ((Graph*)instance)->work)
    if (Result result = queue(stream, work)) return result;
  return SUCCESS;
}
CALL cuGraphExecDestroy(void* instance) {
  delete (Graph*)instance;
  return SUCCESS;
}
CALL cuGraphDestroy(void* graph) {
  delete (Graph*)graph;
  return SUCCESS;
}
CALL cuEventCreate(void** event, unsigned) {
  *event = new Event;
  return SUCCESS;
}
CALL cuEventDestroy_v2(void* event) {
  delete (Event*)event;
  return SUCCESS;
}
CALL cuEventRecord(void* event, void*) {
  ((Event*)event)->milliseconds = now();
  return SUCCESS;
}
CALL cuEventSynchronize(void*) { return failed; }
CALL cuEventQuery(void*) { return SUCCESS; }
CALL cuEventElapsedTime_v2(float* milliseconds, void* from, void* to) {
  *milliseconds = ((Event*)to)->milliseconds - ((Event*)from)->milliseconds;
  return SUCCESS;
}

// ---- the device

CALL cuInit(unsigned) { return setting("EMULATOR_DEVICES", 1) ? SUCCESS : NO_DEVICE; }
CALL cuDriverGetVersion(int* version) {
  *version = setting("EMULATOR_DRIVER", 13000);
  return SUCCESS;
}
CALL cuDeviceGetCount(int* count) {
  *count = setting("EMULATOR_DEVICES", 1);
  return SUCCESS;
}
CALL cuDeviceGet(int* device, int index) {
  *device = index;
  return SUCCESS;
}
CALL cuDeviceGetName(char* name, int length, int) {
  snprintf(name, length, "CPU emulator (no GPU)");
  return SUCCESS;
}
CALL cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = setting("EMULATOR_MEMORY", 8l << 30);
  return SUCCESS;
}
CALL cuDeviceGetUuid_v2(void* uuid, int) {
  memset(uuid, 0, 16);
  return SUCCESS;
}
CALL cuDeviceGetAttribute(int* value, int attribute, int) {
  static const std::map<int, int> known = {{10, 32},        {16, 132},        {81, 228 << 10},
                                           {97, 227 << 10}, {106, 228 << 10}, {115, 1}};
  int capability = setting("EMULATOR_CAPABILITY", 90);
  auto found = known.find(attribute);
  *value = attribute == 75        ? capability / 10
           : attribute == 76      ? capability % 10
           : found == known.end() ? 1
                                  : found->second;
  return SUCCESS;
}
CALL cuDevicePrimaryCtxRetain(void** made, int) {
  *made = &context;
  return SUCCESS;
}
CALL cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
CALL cuCtxGetCurrent(void** current) {
  *current = &context;
  return SUCCESS;
}
CALL cuCtxSetCurrent(void*) { return SUCCESS; }
CALL cuCtxSynchronize() { return emulator_wait(nullptr); }
CALL cuGetErrorName(Result result, const char** name) {
  static const std::map<int, const char*> names = {
      {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
      {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
      {NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
      {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
      {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
      {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
      {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
      {STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}};
  auto found = names.find(result);
  *name = found == names.end() ? "CUDA_ERROR_UNKNOWN" : found->second;
  return SUCCESS;
}
CALL cuGetErrorString(Result result, const char** text) {
  static std::string kept;
  kept = result == LAUNCH_FAILED ? emulator_error() : "as said";
  *text = kept.c_str();
  return SUCCESS;
}

// ---- memory

static std::mutex counting;
static std::map<Pointer, size_t> held;
static size_t in_use, most_in_use;

// Bytes that are allocated, and the most that were since the last call with `reset`.
extern "C" __attribute__((visibility("default"))) size_t emulator_most_in_use(int reset) {
  std::lock_guard<std::mutex> lock(counting);
  size_t most = most_in_use;
  if (reset) most_in_use = in_use;
  return most;
}
CALL cuMemGetInfo_v2(size_t* free, size_t* total) {
  std::lock_guard<std::mutex> lock(counting);
  *total = setting("EMULATOR_MEMORY", 8l << 30);
  *free = *total - in_use;
  return SUCCESS;
}
CALL cuMemAlloc_v2(Pointer* p, size_t bytes) {
  if (failed) return failed;
  if (!bytes) return INVALID_VALUE;
  std::lock_guard<std::mutex> lock(counting);
  if (in_use + bytes > (size_t)setting("EMULATOR_MEMORY", 8l << 30)) return OUT_OF_MEMORY;
  *p = (Pointer)emulator_allocate(bytes);
  if (!*p) return OUT_OF_MEMORY;
  held[*p] = bytes;
  in_use += bytes;
  most_in_use = in_use > most_in_use ? in_use : most_in_use;
  return SUCCESS;
}
CALL cuMemFree_v2(Pointer p) {
  emulator_wait(nullptr);
  std::lock_guard<std::mutex> lock(counting);
  auto found = held.find(p);
  if (found == held.end()) return INVALID_VALUE;
  in_use -= found->second;
  held.erase(found);
  emulator_free((void*)p);
  return SUCCESS;
}
CALL cuMemAllocAsync(Pointer* p, size_t bytes, void* stream) {
  return stream_of(stream)->captured ? STREAM_CAPTURE_UNSUPPORTED : cuMemAlloc_v2(p, bytes);
}
// Counted as free from now on; there for what was queued before.
CALL cuMemFreeAsync(Pointer p, void* stream) {
  {
    std::lock_guard<std::mutex> lock(counting);
    auto found = held.find(p);
    if (found == held.end()) return INVALID_VALUE;
    in_use -= found->second;
    held.erase(found);
  }
  if (stream_of(stream)->captured) return STREAM_CAPTURE_UNSUPPORTED;
  return queue(stream, [=]() -> Result {
    emulator_free((void*)p);
    return SUCCESS;
  });
}
CALL cuDeviceGetDefaultMemPool(void** pool, int) {
  *pool = &context;
  return SUCCESS;
}
CALL cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
// Memory of the host that a device reads and writes by itself, whenever a kernel does so.
static std::map<uintptr_t, size_t> pinned;
CALL cuMemHostAlloc(void** p, size_t bytes, unsigned) {
  std::lock_guard<std::mutex> lock(counting);
  *p = malloc(bytes);
  pinned[(uintptr_t)*p] = bytes;
  return SUCCESS;
}
CALL cuMemFreeHost(void* p) {
  std::lock_guard<std::mutex> lock(counting);
  if (!pinned.erase((uintptr_t)p)) return INVALID_VALUE;
  free(p);
  return SUCCESS;
}
static bool is_pinned(const void* p, size_t bytes) {
  std::lock_guard<std::mutex> lock(counting);
  auto next = pinned.upper_bound((uintptr_t)p);
  if (next == pinned.begin()) return false;
  auto found = std::prev(next);
  return (uintptr_t)p + bytes <= found->first + found->second;
}
CALL cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, void* stream) {
  return queue(stream, [=]() -> Result {
    if (emulator_host_access((void*)to, bytes, 1)) return INVALID_VALUE;
    memset((void*)to, value, bytes);
    return SUCCESS;
  });
}
CALL cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, void* stream) {
  // Pageable memory is copied before the call returns, and cannot be captured.
  bool late = is_pinned(from, bytes);
  if (!late && stream_of(stream)->captured) return STREAM_CAPTURE_UNSUPPORTED;
  std::string copied = late ? "" : std::string((const char*)from, bytes);
  return counted(stream, COPIES_TO_DEVICE, [=]() -> Result {
    if (emulator_host_access((void*)to, bytes, 1)) return INVALID_VALUE;
    memcpy((void*)to, late ? from : copied.data(), bytes);
    return SUCCESS;
  });
}
CALL cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, void* stream) {
  bool late = is_pinned(to, bytes);
  if (!late && stream_of(stream)->captured) return STREAM_CAPTURE_UNSUPPORTED;
  Result result = queue(stream, [=]() -> Result {
    if (emulator_host_access((void*)from, bytes, 0)) return INVALID_VALUE;
    memcpy(to, (void*)from, bytes);
    return SUCCESS;
  });
  return result || late ? result : emulator_wait(stream);
}
CALL cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void* stream) {
  return queue(stream, [=]() -> Result {
    if (emulator_host_access((void*)from, bytes, 0) || emulator_host_access((void*)to, bytes, 1))
      return INVALID_VALUE;
    memcpy((void*)to, (void*)from, bytes);
    return SUCCESS;
  });
}

// ---- kernels

// What the fake compiler gives out as machine code begins so; the module's name follows, and then
// its budgets, a line each.
static const char MAGIC[] = "emulator " KERNELS_DIGEST " ";

CALL cuModuleLoadData(void** module, const void* image) {
  if (strncmp((const char*)image, MAGIC, strlen(MAGIC))) return INVALID_IMAGE;
  std::istringstream lines((const char*)image + strlen(MAGIC));
  Module* loaded = new Module;
  std::getline(lines, loaded->name);
  for (std::string line; std::getline(lines, line);) loaded->budgets.push_back(line);
  *module = loaded;
  return SUCCESS;
}
CALL cuModuleUnload(void* module) {
  delete (Module*)module;
  return SUCCESS;
}

// The number before a unit in a line of budgets, or 0.
static size_t number_before(const std::string& line, const char* unit) {
  size_t at = line.find(unit);
  if (at == std::string::npos) return 0;
  size_t begin = line.find_last_not_of("0123456789", at - 1) + 1;
  return strtoul(line.c_str() + begin, nullptr, 10);
}
// Reads the last line of the module's budgets whose names match the kernel. A star matches any
// letters.
static void read_budget(const Module* module, Function* function) {
  for (const std::string& line : module->budgets) {
    if (fnmatch(line.substr(0, line.find(':')).c_str(), function->name.c_str(), 0)) continue;
    function->registers = number_before(line, " registers");
    function->static_shared = number_before(line, " KiB static") << 10;
    function->dynamic_budget = number_before(line, " KiB dynamic") << 10;
  }
  function->dynamic_limit = SHARED_DEFAULT - (long)function->static_shared;
}
CALL cuModuleGetFunction(void** function, void* module, const char* name) {
  Function found{((Module*)module)->name, name, 0, nullptr, 0, 0, 0, 0, 0};
  if (emulator_find(found.module.c_str(), name, &found.parameters, &found.sizes,
                    &found.most_threads))
    return NOT_FOUND;
  read_budget((Module*)module, &found);
  *function = new Function(found);
  return SUCCESS;
}
// Sizes alone: offsets are of no use to those who pass an array of pointers.
CALL cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* bytes) {
  Function* known = (Function*)function;
  if (index >= (size_t)known->parameters) return INVALID_VALUE;
  *offset = 0;
  *bytes = known->sizes[index];
  return SUCCESS;
}
CALL cuFuncGetAttribute(int* value, int, void*) {
  *value = 0;
  return SUCCESS;
}
CALL cuFuncSetAttribute(void* function, int attribute, int value) {
  const int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
  Function* known = (Function*)function;
  if (attribute != MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
      value + (long)known->static_shared > SHARED_MOST)
    return INVALID_VALUE;
  known->dynamic_limit = value;
  return SUCCESS;
}

struct Dimensions {
  unsigned x, y, z;
};

// Arguments are copied at their declared sizes when the kernel is queued.
static Result launch(Function* function, Dimensions grid, Dimensions block, unsigned shared,
                     void* stream, void** parameters) {
  bool sizes = grid.x && grid.y && grid.z && grid.x < 1u << 31 && grid.y < 65536 && grid.z < 65536;
  uint64_t all = (uint64_t)block.x * block.y * block.z;
  bool threads =
      all && block.x <= 1024 && block.y <= 1024 && block.z <= 64 && all <= function->most_threads;
  size_t warps = ((all + 31) / 32 + WARPS - 1) / WARPS * WARPS,
         a_warp = (32 * function->registers + WARP_REGISTERS - 1) / WARP_REGISTERS * WARP_REGISTERS;
  if (shared > function->dynamic_budget)
    fprintf(stderr, "emulator: %s: %u bytes of shared memory, and its budget is %zu\n",
            function->name.c_str(), shared, function->dynamic_budget);
  if (!sizes || !threads || (long)shared > function->dynamic_limit ||
      shared > function->dynamic_budget)
    return INVALID_VALUE;
  if (warps * a_warp > REGISTERS) return LAUNCH_OUT_OF_RESOURCES;
  std::vector<std::string> values;
  for (int i = 0; i < function->parameters; i++)
    values.emplace_back((char*)parameters[i], function->sizes[i]);
  return counted(stream, LAUNCHES, [=]() -> Result {
    std::vector<void*> arguments;
    for (auto& value : values) {
      arguments.push_back(aligned_alloc(128, (value.size() + 127) & ~(size_t)127));
      memcpy(arguments.back(), value.data(), value.size());
    }
    EmulatorOptions options{};
    if (getenv("EMULATOR_SEED")) options = {(uint64_t)setting("EMULATOR_SEED", 0), 1, 2};
    const uint32_t grid_size[3] = {grid.x, grid.y, grid.z},
                   block_size[3] = {block.x, block.y, block.z};
    int fault = emulator_launch(function->module.c_str(), function->name.c_str(), grid_size,
                                block_size, shared, arguments.data(), &options);
    for (void* argument : arguments) free(argument);
    if (fault) fprintf(stderr, "emulator: %s: %s\n", function->name.c_str(), emulator_error());
    if (fault) failed = LAUNCH_FAILED;
    return failed;
  });
}
CALL cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                    unsigned bz, unsigned shared, void* stream, void** parameters, void**) {
  return launch((Function*)function, {gx, gy, gz}, {bx, by, bz}, shared, stream, parameters);
}
struct LaunchConfiguration {
  Dimensions grid, block;
  unsigned shared;
  void *stream, *attributes;
  unsigned count;
};
CALL cuLaunchKernelEx(const LaunchConfiguration* configuration, void* function, void** parameters,
                      void**) {
  return launch((Function*)function, configuration->grid, configuration->block,
                configuration->shared, configuration->stream, parameters);
}
CALL cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* base, const uint64_t* sizes,
                            const uint64_t* strides, const uint32_t* box, const uint32_t* steps,
                            int interleave, int swizzle, int, int) {
  static const unsigned bytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  if (type < 0 || type > 12 || rank != 2 || interleave) return INVALID_VALUE;
  bool aligned = (uintptr_t)map % 64 == 0 && (uintptr_t)base % 16 == 0 && strides[0] % 16 == 0 &&
                 box[0] * bytes[type] % 16 == 0;
  bool large = strides[0] >= 1ull << 40 || strides[0] < sizes[0] * bytes[type] ||
               (swizzle == 3 && box[0] * bytes[type] > 128);
  for (int i = 0; i < 2; i++)
    large |= !sizes[i] || sizes[i] > 1ull << 32 || !box[i] || box[i] > 256 || steps[i] != 1;
  if (!aligned || large) return INVALID_VALUE;
  emulator_tensor_map(map, bytes[type], base, sizes, strides[0], box, swizzle);
  return SUCCESS;
}

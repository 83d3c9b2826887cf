// The emulator as its callers on the host see it: the fake driver, and tests that call a kernel
// directly. Device memory is memory of this process; launches run at once, one at a time.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
// How a launch runs. All zeros: threads and blocks in order, asynchronous copies as late as may be.
struct EmulatorOptions {
  uint64_t seed;
  int schedule;      // 0 in order, 1 at random, 2 in reverse
  int asynchronous;  // copies land 0 as late, 1 as early as may be, 2 at random
};
// Counts of the last launch.
struct EmulatorCounts {
  uint64_t switches, barriers, warp_steps, tensor_steps, ldmatrix_phases, ldmatrix_conflicts,
      blocks, races;
};
// Runs a kernel of a module; 0 if all went well, else emulator_error() says what did not.
// `arguments` as for cuLaunchKernel.
int emulator_launch(const char* module, const char* kernel, const uint32_t grid[3],
                    const uint32_t block[3], size_t shared, void** arguments,
                    const EmulatorOptions* options);
const char* emulator_error();
EmulatorCounts emulator_counts();
// Finds a kernel: 0, with the count and the sizes of its parameters and the most threads of a
// block, or 1.
int emulator_find(const char* module, const char* kernel, int* parameters, const size_t** sizes,
                  unsigned* most_threads);
// Device memory, uninitialised (full of NaN); null where there is no more.
void* emulator_allocate(size_t bytes);
void emulator_free(void* p);
// Whether the device may touch these bytes; `write` says that they are initialised from now on.
int emulator_host_access(void* p, size_t bytes, int write);
// Makes a map of a matrix for tensor copies; `swizzle` 0 or 3, as in the driver.
void emulator_tensor_map(void* map, int element, void* base, const uint64_t sizes[2],
                         uint64_t stride, const uint32_t box[2], int swizzle);
// Whether this build checks every access.
int emulator_checks();
}

// What sm_90a adds: barriers that count bytes, tensor copies with the 128-byte swizzle, and
// products of a warp group that read shared memory until they are waited for. Written from the PTX
// manual; not yet compared with hardware.
//
// Environment: EMULATOR_GROUP_PRODUCTS=reverse, products of warp groups that add up from the last
// depth to the first, as no other does.
#include <algorithm>
#include <cstdlib>

#include "block.h"

namespace emulator {

// The 128-byte swizzle: bits 4 to 6 of an address are XORed with bits 7 to 9.
static uintptr_t swizzle(uintptr_t address) { return address ^ (address >> 7 & 7) << 4; }
static const char* swizzle(const char* p) { return (const char*)swizzle((uintptr_t)p); }

// ---- barriers that count

static CountingBarrier& counting(uint64_t* barrier, Site site) {
  auto found = block->counting.find(barrier);
  if (found == block->counting.end())
    fail(site, "the mbarrier at %p is used before it is initialised", (void*)barrier);
  return found->second;
}

// Ends the phase if nothing is outstanding.
static void complete(uint64_t* barrier, CountingBarrier& state) {
  if (state.pending || state.bytes) return;
  state.phase++;
  state.pending = state.count;
  state.done = state.arriving;
  for (auto& fiber : block->fibers) {
    if (fiber.state != AT_COUNTING_BARRIER || fiber.counting != barrier ||
        (state.phase & 1) == fiber.parity)
      continue;
    check_acquire(fiber.index, state.done);
    wake(fiber.index);
  }
}

void barrier_init(uint64_t* barrier, int count, Site site) {
  check_write(barrier, 8, site);
  block->counting[barrier] = {count, count, 0, 0, {}, {}};
}

void barrier_arrive(uint64_t* barrier, int bytes, Site site) {
  CountingBarrier& state = counting(barrier, site);
  state.bytes += bytes;
  check_release(state.arriving);
  if (--state.pending < 0)
    fail(site, "mbarrier: more arrivals than the %d of this phase", state.count);
  complete(barrier, state);
}

void barrier_wait(uint64_t* barrier, int parity, Site site) {
  CountingBarrier& state = counting(barrier, site);
  Fiber* self = block->running;
  if ((state.phase & 1) != parity) return check_acquire(self->index, state.done);
  self->counting = barrier;
  self->parity = parity;
  wait(AT_COUNTING_BARRIER, site, "mbarrier.try_wait");
}

// ---- tensor copies: they land when nothing else can run, at once, or by a coin

static void land(TensorCopy& copy) {
  Map& map = copy.map;
  uint32_t width = map.box[0] * map.element;
  for (uint32_t r = 0; r < map.box[1]; r++) {
    for (uint32_t c = 0; c < width; c++) {
      int64_t y = (int64_t)copy.row + r, x = (int64_t)copy.column + c / map.element;
      bool inside = y >= 0 && y < (int64_t)map.sizes[1] && x >= 0 && x < (int64_t)map.sizes[0];
      uintptr_t to = (uintptr_t)copy.shared + (uintptr_t)r * width + c;
      if (map.swizzle == 3) to = swizzle(to);
      *(char*)to = inside ? map.base[y * map.stride + x * map.element + c % map.element] : 0;
    }
  }
  CountingBarrier& state = block->counting[copy.barrier];
  state.bytes -= width * map.box[1];
  if (state.arriving.size() < copy.clock.size()) state.arriving.resize(copy.clock.size());
  for (size_t i = 0; i < copy.clock.size(); i++)
    state.arriving[i] = std::max(state.arriving[i], copy.clock[i]);
  complete(copy.barrier, state);
}

static bool overlaps(const GroupProduct& product, const char* shared, size_t bytes);

void tensor_copy(void* shared, const CUtensorMap* source, uint64_t* barrier, int column, int row,
                 Site site) {
  TensorCopy copy{(char*)shared, {}, barrier, column, row, {}};
  Map& map = copy.map;
  memcpy(&map, source, sizeof map);
  if (map.magic != MAP_MAGIC) fail(site, "the tensor map was not made by the driver");
  counting(barrier, site);
  if ((uintptr_t)shared % (map.swizzle == 3 ? 1024 : 128))
    fail(site, "a tensor copy to an address that is not aligned");
  uint32_t bytes = map.box[0] * map.box[1] * map.element;
  check_async_write(shared, bytes, site);
  for (auto& [place, product] : block->products)
    if (overlaps(*product, (char*)shared, bytes))
      fail(site, "race: a tensor copy to what a product that was not waited for still reads");
  check_release(copy.clock);
  for (int64_t y = std::max(row, 0); y < std::min<int64_t>((int64_t)row + map.box[1], map.sizes[1]);
       y++) {
    int64_t from = std::max(column, 0),
            to = std::min<int64_t>((int64_t)column + map.box[0], map.sizes[0]);
    if (from < to)
      check_read(map.base + y * map.stride + from * map.element, (to - from) * map.element, site);
  }
  int when = block->options.asynchronous;
  if (when == 1 || (when == 2 && (block->random() & 1))) return land(copy);
  memset(shared, 0xff, bytes);
  block->tensor_copies.push_back(std::move(copy));
}

bool counting_progress() {
  auto& copies = block->tensor_copies;
  if (copies.empty()) return false;
  size_t next = block->options.asynchronous == 2 ? block->random() % copies.size() : 0;
  TensorCopy copy = std::move(copies[next]);
  copies.erase(copies.begin() + next);
  land(copy);
  return true;
}

// ---- products of a warp group. Its warps may run ahead of each other, so a product is named by
// its place in each thread's sequence. It is computed when all 128 threads have issued it and one
// of them waits for it.

// An operand: with its depths along a line of 128 bytes, or `across` lines, which then hold 64
// rows.
struct GroupOperand {
  SharedDescriptor tile;
  bool across;

  const char* at(int row, int k) const {
    const char* p =
        across ? tile.p + row / 64 * tile.leading + k / 8 * tile.stride + k % 8 * 128 + row % 64 * 2
               : tile.p + row / 8 * tile.stride + row % 8 * 128 + k * 2;
    return swizzle(p);
  }
  bool operator!=(const GroupOperand& other) const {
    return tile.p != other.tile.p || tile.stride != other.tile.stride ||
           tile.leading != other.tile.leading || across != other.across;
  }
  // Rows from `first` on are read, in pieces of 16 bytes.
  void check(int first, int rows, Site site) const {
    for (int row = first; row < first + rows; row += across ? 8 : 1)
      for (int k = 0; k < 16; k += across ? 1 : 8) check_async_read(at(row, k), 16, site);
  }
  // values[k][row].
  void load(float (*values)[256], int rows) const {
    for (int k = 0; k < 16; k++)
      for (int row = 0; row < rows; row++)
        values[k][row] = bits<float>((uint32_t) * (const uint16_t*)at(row, k) << 16);
  }
};

struct GroupProduct {
  float* d[128];
  int n;
  GroupOperand a, b;
  bool keep, in_registers, done;
  const uint32_t* registers[128];  // each thread's part of a, where it is in registers
  uint32_t issued[128][4];         // what they held then
};

// Whether a product that is still to be computed reads any of these bytes.
static bool overlaps(const GroupProduct& product, const char* shared, size_t bytes) {
  auto any = [&](const GroupOperand& operand, int rows) {
    for (int row = 0; row < rows; row++)
      for (int k = 0; k < 16; k++)
        if ((size_t)(operand.at(row, k) - shared) < bytes) return true;
    return false;
  };
  return !product.done &&
         ((!product.in_registers && any(product.a, 64)) || any(product.b, product.n));
}

// a from registers: of each warp 16 rows, laid out as for mma.m16n8k16.
static void load_registers(const GroupProduct& product, float (*values)[256]) {
  for (int thread = 0; thread < 128; thread++)
    for (int i = 0; i < 4; i++) {
      int row = thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8, k = thread % 4 * 2 + i / 2 * 8;
      values[k][row] = bits<float>(product.issued[thread][i] << 16);
      values[k + 1][row] = bits<float>(product.issued[thread][i] & 0xffff0000);
    }
}

static void compute(GroupProduct& product) {
  if (product.done) return;
  product.done = true;
  counts.tensor_steps++;
  static const char* order = getenv("EMULATOR_GROUP_PRODUCTS");
  int last = order && !strcmp(order, "reverse") ? 15 : 0;
  static float a[16][256], b[16][256], sums[64][256];
  if (product.in_registers) load_registers(product, a);
  if (!product.in_registers) product.a.load(a, 64);
  product.b.load(b, product.n);
  for (int row = 0; row < 64; row++) {
    std::fill(sums[row], sums[row] + product.n, 0.0f);
    for (int k = 0; k < 16; k++)
      for (int n = 0; n < product.n; n++) sums[row][n] += a[k ^ last][row] * b[k ^ last][n];
  }
  for (int thread = 0; thread < 128; thread++) {
    int row = thread / 32 * 16 + thread % 32 / 4;
    for (int i = 0; i < product.n / 2; i++) {
      float sum = sums[row + (i >> 1 & 1) * 8][i / 4 * 8 + thread % 4 * 2 + i % 2];
      product.d[thread][i] = (product.keep ? product.d[thread][i] : 0.0f) + sum;
    }
  }
}

// A product of the running thread's group; `registers`: its part of a, or null.
static void issue(float* d, GroupProduct wanted, const uint32_t* registers, Site site) {
  Fiber* self = block->running;
  int group = self->index / 128, thread = self->index % 128;
  if (block->threads < (group + 1) * 128)
    fail(site, "wgmma: the warp group has fewer than 128 threads");
  warp_step(site, "wgmma.mma_async", ~0u, nullptr, nullptr, [](void**, void**, uint32_t) {}, false);
  GroupProduct*& product = block->products[{group, block->products_issued[self->index]++}];
  if (!product) product = new GroupProduct(wanted);
  bool same = product->n == wanted.n && product->keep == wanted.keep &&
              product->in_registers == wanted.in_registers;
  if (!same || product->a != wanted.a || product->b != wanted.b)
    fail(site, "wgmma: the descriptors differ within the warp group");
  product->d[thread] = d;
  product->registers[thread] = registers;
  if (registers) memcpy(product->issued[thread], registers, sizeof product->issued[thread]);
  self->products.push_back(product);
  if (self->lane) return;
  if (!registers) wanted.a.check(self->warp % 4 * 16, 16, site);
  wanted.b.check(0, wanted.n, site);
}

void wgmma_bf16(float* d, int n, SharedDescriptor a, SharedDescriptor b, bool a_across,
                bool b_across, Site site) {
  issue(d, {{}, n, {a, a_across}, {b, b_across}, true, false, false, {}, {}}, nullptr, site);
}

void wgmma_first_bf16(float* d, int n, SharedDescriptor a, SharedDescriptor b, Site site) {
  issue(d, {{}, n, {a, false}, {b, false}, false, false, false, {}, {}}, nullptr, site);
}

void wgmma_registers_bf16(float* d, int n, const uint32_t* a, SharedDescriptor b, bool keep,
                          bool b_across, Site site) {
  issue(d, {{}, n, {}, {b, b_across}, keep, true, false, {}, {}}, a, site);
}

void async_fence(Site) { check_async_fence(); }

void wgmma_commit(Site) {
  Fiber& self = *block->running;
  self.product_groups.push_back(std::move(self.products));
  self.products.clear();
}

void wgmma_wait(int groups, Site site) {
  Fiber* self = block->running;
  while ((int)self->product_groups.size() > groups) {
    for (GroupProduct* product : self->product_groups.front()) {
      for (int tries = 0; std::count(product->d, product->d + 128, nullptr); tries++) {
        if (tries > 100000)
          fail(site, "wgmma.wait_group: some warps of the group never issued the product");
        block->ready.push_back(self->index);
        wait(RUNNING, site, "wgmma.wait_group");
      }
      compute(*product);
      // Until here registers and memory had to stay as they were.
      int thread = self->index % 128;
      const uint32_t* registers = product->registers[thread];
      if (registers && memcmp(registers, product->issued[thread], sizeof product->issued[thread]))
        fail(site, "wgmma: the registers of a product changed before it was waited for");
      if (self->lane == 0 && !registers) product->a.check(self->warp % 4 * 16, 16, site);
      if (self->lane == 0) product->b.check(0, product->n, site);
    }
    self->product_groups.pop_front();
  }
}

void counting_start_block() {
  Block& b = *block;
  b.counting.clear();
  b.tensor_copies.clear();
  for (auto& [place, product] : b.products) delete product;
  b.products.clear();
  b.products_issued.assign(b.threads, 0);
}
}  // namespace emulator

extern "C" void emulator_tensor_map(void* map, int element, void* base, const uint64_t sizes[2],
                                    uint64_t stride, const uint32_t box[2], int swizzle) {
  emulator::Map made{emulator::MAP_MAGIC, (char*)base,       {sizes[0], sizes[1]}, stride,
                     {box[0], box[1]},    (uint32_t)element, (uint32_t)swizzle};
  memset(map, 0, sizeof(CUtensorMap));
  memcpy(map, &made, sizeof made);
}

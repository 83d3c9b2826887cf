// What threads of a block do together: barriers, warp steps, asynchronous copies, matrix fragments,
// tensor cores of a warp. Fragments are laid out as in the PTX manual, "Matrix fragments for
// mma.m16n8k16" (the same as CuTe's MMA_Traits<SM80_16x8x16_F32BF16BF16F32_TN>).
#include <algorithm>

#include "block.h"

namespace emulator {

// ---- barriers

static void open_barrier() {
  Block& b = *block;
  counts.barriers++;
  std::vector<int> threads;
  for (auto& fiber : b.fibers)
    if (fiber.state == AT_BARRIER) threads.push_back(fiber.index);
  check_together(threads);
  std::copy(b.votes, b.votes + 3, b.result);
  b.votes[ANY] = b.votes[COUNT] = 0;
  b.votes[ALL] = 1;
  b.at_barrier = 0;
  for (int thread : threads) wake(thread);
}

// A thread that has exited never arrives: the block is in a deadlock, which is reported, though
// devices are more lenient.
void sync_threads(Site site) {
  Block& b = *block;
  if (b.at_barrier == 0) b.barrier = site;
  if (b.barrier.line != site.line || strcmp(b.barrier.file, site.file))
    fail(site, "divergent __syncthreads: other threads of the block wait at line %d",
         b.barrier.line);
  b.running->state = AT_BARRIER;
  if (++b.at_barrier == b.threads) open_barrier();
  wait(b.running->state, site, "__syncthreads");
}

int sync_threads_vote(Site site, int value, Vote vote) {
  block->votes[ANY] |= value != 0;
  block->votes[ALL] &= value != 0;
  block->votes[COUNT] += value != 0;
  sync_threads(site);
  return block->result[vote];
}

void named_barrier(int id, int threads, Site site) {
  std::vector<int>& waiting = block->named[id].waiting;
  waiting.push_back(block->running->index);
  if ((int)waiting.size() < threads) return wait(AT_NAMED_BARRIER, site, "bar.sync");
  std::vector<int> all;
  all.swap(waiting);
  check_together(all);
  for (int thread : all) wake(thread);
  wait(RUNNING, site, "bar.sync");
}

void warp_step(Site site, const char* what, uint32_t mask, void* in, void* out, WarpStep step,
               bool fence) {
  Block& b = *block;
  Fiber* self = b.running;
  uint32_t first = self->warp * 32,
           present = b.threads - first >= 32 ? ~0u : (1u << (b.threads - first)) - 1;
  if (!(mask >> self->lane & 1))
    fail(site, "%s: the calling lane %u is not in mask %08x", what, self->lane, mask);
  mask &= present;
  auto& meetings = b.meetings[self->warp];
  size_t at = meetings.size();
  for (size_t i = 0; i < meetings.size(); i++) {
    Meeting& other = meetings[i];
    if (!(other.mask & mask)) continue;
    if (other.mask != mask)
      fail(site, "%s with mask %08x, while lanes wait in %s at line %d with mask %08x", what, mask,
           other.what, other.site.line, other.mask);
    if (strcmp(other.what, what) || other.site.line != site.line)
      fail(site, "divergent warp: %s here, while lanes wait in %s at line %d", what, other.what,
           other.site.line);
    at = i;
  }
  if (at == meetings.size()) meetings.push_back({mask, 0, site, what, {}, {}, step, fence});
  Meeting& meeting = meetings[at];
  meeting.arrived |= 1u << self->lane;
  meeting.in[self->lane] = in;
  meeting.out[self->lane] = out;
  if (meeting.arrived != mask) return wait(AT_WARP_STEP, site, what);
  counts.warp_steps++;
  Meeting whole = meeting;
  meetings.erase(meetings.begin() + at);
  b.quiet = true;  // the step touches what other lanes hold in registers
  whole.step(whole.in, whole.out, mask);
  b.quiet = false;
  std::vector<int> threads;
  for (int lane = 0; lane < 32; lane++)
    if (mask >> lane & 1) threads.push_back(first + lane);
  if (fence) check_together(threads);
  for (int thread : threads)
    if (thread != (int)self->index) wake(thread);
}

// ---- asynchronous copies: until the data land, the destination is full of NaN

static void land(const Copy& copy, Site site) {
  check_write(copy.shared, copy.bytes, site);
  if (copy.wanted) memcpy(copy.shared, copy.global, copy.bytes);
  if (!copy.wanted) memset(copy.shared, 0, copy.bytes);
}

void copy_async(void* shared, const void* global, int bytes, bool wanted, Site site) {
  if ((uintptr_t)shared % bytes || (uintptr_t)global % bytes)
    fail(site, "cp.async: an address is not a multiple of %d", bytes);
  if (wanted) check_read(global, bytes, site);
  check_write(shared, bytes, site);  // it may change at any time from here on
  Copy copy{shared, global, bytes, wanted};
  int when = block->options.asynchronous;
  if (when == 1 || (when == 2 && (block->random() & 1))) return land(copy, site);
  memset(shared, 0xff, bytes);
  block->running->copies.push_back(copy);
}

void copy_async_commit(Site) {
  Fiber& self = *block->running;
  self.copy_groups.push_back(std::move(self.copies));
  self.copies.clear();
}

void copy_async_wait(int groups, Site site) {
  auto& waiting = block->running->copy_groups;
  while ((int)waiting.size() > groups) {
    for (auto& copy : waiting.front()) land(copy, site);
    waiting.pop_front();
  }
}

// ---- matrix fragments

static float from_bf16(uint32_t x) { return bits<float>(x << 16); }

struct FragmentLoad {
  const uint16_t* row;
  uint32_t* r;
  int matrices;
  bool transposed;
};

static void ldmatrix_step(void** in, void**, uint32_t mask) {
  if (mask != ~0u) return;
  FragmentLoad* lanes[32];
  for (int lane = 0; lane < 32; lane++) lanes[lane] = (FragmentLoad*)in[lane];
  for (int matrix = 0; matrix < lanes[0]->matrices; matrix++) {
    FragmentLoad** rows = lanes + matrix * 8;
    int banks[8] = {}, most = 0;
    for (int row = 0; row < 8; row++)
      most = std::max(most, ++banks[(uintptr_t)rows[row]->row >> 4 & 7]);
    counts.ldmatrix_phases++;
    counts.ldmatrix_conflicts += most - 1;
    for (int lane = 0; lane < 32; lane++) {
      int group = lane / 4, pair = lane % 4 * 2;
      uint32_t low = lanes[0]->transposed ? rows[pair]->row[group] : rows[group]->row[pair];
      uint32_t high =
          lanes[0]->transposed ? rows[pair + 1]->row[group] : rows[group]->row[pair + 1];
      lanes[lane]->r[matrix] = low | high << 16;
    }
  }
}

void ldmatrix(uint32_t* r, int matrices, bool transposed, const void* row, Site site) {
  if ((int)current->lane < matrices * 8) {
    if ((uintptr_t)row % 16) fail(site, "ldmatrix: the address of a row is not a multiple of 16");
    check_read(row, 16, site);
  }
  FragmentLoad in{(const uint16_t*)row, r, matrices, transposed};
  warp_step(site, transposed ? "ldmatrix.trans" : "ldmatrix", ~0u, &in, nullptr, ldmatrix_step,
            false);
}

struct FragmentProduct {
  float* c;
  const uint32_t *a, *b;
};

static void mma_step(void** in, void**, uint32_t mask) {
  if (mask != ~0u) return;
  counts.tensor_steps++;
  float a[16][16], b[16][8], sums[16][8] = {};
  for (int lane = 0; lane < 32; lane++) {
    FragmentProduct* x = (FragmentProduct*)in[lane];
    int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 4; i++) {
      int row = group + i % 2 * 8, k = pair + i / 2 * 8;
      a[row][k] = from_bf16(x->a[i] & 0xffff);
      a[row][k + 1] = from_bf16(x->a[i] >> 16);
    }
    for (int i = 0; i < 2; i++) {
      int k = pair + i * 8;
      b[k][group] = from_bf16(x->b[i] & 0xffff);
      b[k + 1][group] = from_bf16(x->b[i] >> 16);
    }
  }
  for (int row = 0; row < 16; row++)
    for (int k = 0; k < 16; k++)
      for (int n = 0; n < 8; n++) sums[row][n] += a[row][k] * b[k][n];
  for (int lane = 0; lane < 32; lane++) {
    float* c = ((FragmentProduct*)in[lane])->c;
    int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 4; i++) c[i] += sums[group + i / 2 * 8][pair + i % 2];
  }
}

void mma_m16n8k16_bf16(float* c, const uint32_t* a, const uint32_t* b, Site site) {
  FragmentProduct in{c, a, b};
  warp_step(site, "mma.m16n8k16", ~0u, &in, nullptr, mma_step, false);
}
}  // namespace emulator

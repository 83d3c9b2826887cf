// What the products of linear.cu and linear_hopper.cu share: which tile a block owns, of which of
// several layers, and what is done to sums before they are stored. Included after prelude.cuh.
#pragma once

#include "functions.cuh"

// The row and column of tiles. Bands of 8 rows of tiles, columns within, so that blocks which run
// at the same time share what they read in the second cache.
struct Place {
  size row, column;
};
DEVICE Place place(size tile, size rows, size columns) {
  const size BAND = 8;
  size band = tile / (BAND * columns), within = tile - band * BAND * columns;
  size height = rows - band * BAND < BAND ? rows - band * BAND : BAND;
  return {band * BAND + within % height, within / height};
}

// One of the layers that read the same rows: c[rows, columns] = a b^T + bias. `right` is what b is
// read by.
template <class Right, class C> struct Side {
  C* c;
  Right right;
  const num* bias;
  size columns;
};
// Columns of tiles of all layers, side by side.
template <int WIDTH, int COUNT, class Right, class C>
DEVICE size tiles_across(const Side<Right, C> (&sides)[COUNT]) {
  size tiles = 0;
#pragma unroll
  for (int s = 0; s < COUNT; s++) tiles += (sides[s].columns + WIDTH - 1) / WIDTH;
  return tiles;
}
// The layer that a column of tiles is of; the column becomes that layer's own.
template <int WIDTH, int COUNT, class Right, class C>
DEVICE Side<Right, C> side_of(const Side<Right, C> (&sides)[COUNT], size& column) {
  Side<Right, C> side = sides[0];
#pragma unroll
  for (int s = 1; s < COUNT; s++) {
    size before = (sides[s - 1].columns + WIDTH - 1) / WIDTH;
    if (column < before) break;
    column -= before;
    side = sides[s];
  }
  return side;
}

// What is done to a sum beside adding a bias, in this order. Matrices have the output's layout;
// null where there is none.
struct Finish {
  // Added.
  const num* residual;
  // The sum becomes what is stored of it; a function of that, of functions.cuh, none where `which`
  // is negative; a factor.
  int which;
  num* kept;
  const num* factor;
};
#define NOTHING_MORE Finish{nullptr, -1, nullptr, nullptr}

// Two neighbours of a row; of the second, where there is one. `whole`: rows have an even number of
// numbers, so there is.
DEVICE void store_pair(bf16* at, float x, float y) { *(uint32_t*)at = pack_bf16x2(x, y); }
DEVICE void store_pair(float* at, float x, float y) { *(float2*)at = make_float2(x, y); }
template <class T> DEVICE void store_pair(T* at, float x, float y, bool whole, bool second) {
  if (whole) return store_pair(at, x, y);
  store(at, x);
  if (second) store(at + 1, y);
}
DEVICE float2 load_pair(const float* at) { return *(const float2*)at; }
DEVICE float2 load_pair(const bf16* at) {
  uint32_t pair = *(const uint32_t*)at;
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}
template <class T> DEVICE float2 load_pair(const T* at, bool whole, bool second) {
  if (whole) return load_pair(at);
  return make_float2(to_float(at[0]), second ? to_float(at[1]) : 0.0f);
}

// Stores sums by twos.
template <class Sums, class T> DEVICE void put_pairs(const Sums& sums, T* to) {
  bool whole = sums.columns % 2 == 0;
  sums.everywhere([&](float& x, float& y, size row, size column, bool second) {
    store_pair(to + row * sums.columns + column, x, y, whole, second);
  });
}

// Does the rest and stores the output.
template <class Sums, class C>
DEVICE void finish(const Sums& sums, C* c, const num* bias, Finish more) {
  bool whole = sums.columns % 2 == 0;
  // Adds what is in rows `stride` apart.
  auto add = [&](const num* from, size stride) {
    sums.everywhere([&](float& x, float& y, size row, size column, bool second) {
      float2 pair = load_pair(from + row * stride + column, whole, second);
      x += pair.x;
      y += pair.y;
    });
  };
  if (bias) add(bias, 0);
  if (more.residual) add(more.residual, sums.columns);
  if (more.which >= 0) {
    if (more.kept) sums.put(more.kept);
    each(sums.x, [](float x) { return rounded(x); });
    apply(sums.x, more.which);
    if (more.factor)
      sums.everywhere([&](float& x, float& y, size row, size column, bool second) {
        float2 pair = load_pair(more.factor + row * sums.columns + column, whole, second);
        x *= pair.x;
        y *= pair.y;
      });
  }
  sums.put(c);
}

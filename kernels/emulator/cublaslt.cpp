// A libcublasLt over the emulator's memory: the entry points that the back end uses. It holds
// callers to the library's rules: layouts that fit the operation, an algorithm of this very
// problem, enough workspace, memory that is the device's, no work on a stream that is being
// captured. As the library may, it adds up in another order for another count of columns; and,
// where sums in parts are not forbidden, in another order at every call.
//
// Environment: EMULATOR_PRODUCTS, `none` (there is no algorithm for anything) or `fail` (products
// fail).
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "emulator.h"

typedef int Status;
#define CALL extern "C" __attribute__((visibility("default"))) Status

enum { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum {
  F32 = 0,
  BF16 = 14,
  COMPUTE_F32 = 68,
  EPILOGUE_DEFAULT = 1,
  EPILOGUE_BIAS = 4,
  ALIGNMENT = 256
};

extern "C" int cuStreamIsCapturing(void* stream, int* status);
extern "C" int emulator_wait(void* stream);

struct Operation {
  int32_t compute, scale, transposed[2] = {0, 0};
  uint32_t epilogue = EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct Layout {
  int32_t type;
  uint64_t rows, columns;
  int64_t leading;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = 0x7;  // all schemes
};
// What fills the 64 bytes that callers keep: the problem that the algorithm is for.
struct Algorithm {
  uint64_t m, n, k, workspace;
  uint32_t types, transposed, epilogue, parts;
};
struct Choice {
  union {
    Algorithm algorithm;
    uint64_t data[8];
  };
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Algorithm) <= 64 && sizeof(Choice) == 64 + 8 + 4 + 4 + 16,
              "as the library has it");

static bool told(const char* what) {
  const char* text = getenv("EMULATOR_PRODUCTS");
  return text && !strcmp(text, what);
}

CALL cublasLtCreate(void** handle) {
  *handle = new int(0);
  return SUCCESS;
}
CALL cublasLtDestroy(void* handle) {
  delete (int*)handle;
  return SUCCESS;
}
extern "C" __attribute__((visibility("default"))) size_t cublasLtGetVersion() { return 130100; }

CALL cublasLtMatmulDescCreate(Operation** made, int compute, int scale) {
  if (compute != COMPUTE_F32 || scale != F32) return NOT_SUPPORTED;
  *made = new Operation{compute, scale};
  return SUCCESS;
}
CALL cublasLtMatmulDescDestroy(Operation* operation) {
  delete operation;
  return SUCCESS;
}
CALL cublasLtMatmulDescSetAttribute(Operation* operation, int attribute, const void* value,
                                    size_t bytes) {
  switch (attribute) {
    case 3:
    case 4:
      if (bytes != 4) return INVALID_VALUE;
      memcpy(&operation->transposed[attribute - 3], value, bytes);
      return SUCCESS;
    case 7:
      if (bytes != 4) return INVALID_VALUE;
      memcpy(&operation->epilogue, value, bytes);
      return SUCCESS;
    case 8:
      if (bytes != 8) return INVALID_VALUE;
      memcpy(&operation->bias, value, bytes);
      return SUCCESS;
  }
  return INVALID_VALUE;
}
CALL cublasLtMatrixLayoutCreate(Layout** made, int type, uint64_t rows, uint64_t columns,
                                int64_t leading) {
  if (!rows || !columns || leading < (int64_t)rows || (type != F32 && type != BF16))
    return INVALID_VALUE;
  *made = new Layout{type, rows, columns, leading};
  return SUCCESS;
}
CALL cublasLtMatrixLayoutDestroy(Layout* layout) {
  delete layout;
  return SUCCESS;
}
CALL cublasLtMatmulPreferenceCreate(Preference** made) {
  *made = new Preference;
  return SUCCESS;
}
CALL cublasLtMatmulPreferenceDestroy(Preference* preference) {
  delete preference;
  return SUCCESS;
}
CALL cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value,
                                          size_t bytes) {
  if (attribute == 1 && bytes == 8) return memcpy(&preference->workspace, value, bytes), SUCCESS;
  if (attribute == 3 && bytes == 4) return memcpy(&preference->reductions, value, bytes), SUCCESS;
  return INVALID_VALUE;
}

// The problem of an operation on these layouts, or why there is none.
static Status problem(Algorithm* out, const Operation* operation, const Layout* a, const Layout* b,
                      const Layout* c, const Layout* d) {
  auto size = [](const Layout* layout, bool transposed, bool rows) {
    return rows != transposed ? layout->rows : layout->columns;
  };
  *out = Algorithm{d->rows, d->columns, size(a, operation->transposed[0], false), 0, 0, 0,
      operation->epilogue, 0};
  bool fits = size(a, operation->transposed[0], true) == out->m &&
              size(b, operation->transposed[1], true) == out->k &&
              size(b, operation->transposed[1], false) == out->n && c->rows == d->rows &&
              c->columns == d->columns;
  if (!fits) return INVALID_VALUE;
  if (a->type != b->type || c->type != d->type || (a->type == F32 && d->type != F32))
    return NOT_SUPPORTED;
  if (operation->epilogue != EPILOGUE_DEFAULT && operation->epilogue != EPILOGUE_BIAS)
    return NOT_SUPPORTED;
  out->types = a->type << 8 | d->type;
  out->transposed = operation->transposed[0] << 1 | operation->transposed[1];
  return SUCCESS;
}
CALL cublasLtMatmulAlgoGetHeuristic(void*, const Operation* operation, const Layout* a,
                                    const Layout* b, const Layout* c, const Layout* d,
                                    const Preference* preference, int asked, Choice* choices,
                                    int* count) {
  *count = 0;
  if (asked < 1) return INVALID_VALUE;
  Algorithm algorithm;
  if (Status status = problem(&algorithm, operation, a, b, c, d)) return status;
  if (told("none")) return NOT_SUPPORTED;
  algorithm.workspace = preference->workspace < 4096 ? preference->workspace : 4096;
  algorithm.parts = preference->reductions != 0;
  memset(choices, 0, sizeof *choices);
  choices->algorithm = algorithm;
  choices->workspace = algorithm.workspace;
  *count = 1;
  return SUCCESS;
}

static float number(const void* base, int type, uint64_t at) {
  if (type == F32) return ((const float*)base)[at];
  uint32_t bits = (uint32_t)((const uint16_t*)base)[at] << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
static void store(void* base, int type, uint64_t at, float x) {
  if (type == F32) {
    ((float*)base)[at] = x;
    return;
  }
  uint32_t bits;
  memcpy(&bits, &x, 4);
  ((uint16_t*)base)[at] = x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static bool there(const void* base, const Layout* layout, int write) {
  size_t bytes = layout->type == F32 ? 4 : 2,
         all = (layout->leading * (layout->columns - 1) + layout->rows) * bytes;
  return (uintptr_t)base % ALIGNMENT == 0 && !emulator_host_access((void*)base, all, write);
}

CALL cublasLtMatmul(void*, const Operation* operation, const float* alpha, const void* a,
                    const Layout* a_layout, const void* b, const Layout* b_layout,
                    const float* beta, const void* c, const Layout* c_layout, void* d,
                    const Layout* d_layout, const Algorithm* algorithm, void* workspace,
                    size_t workspace_bytes, void* stream) {
  if (told("fail")) return EXECUTION_FAILED;
  int capturing = 0;
  cuStreamIsCapturing(stream, &capturing);
  if (!capturing && emulator_wait(stream)) return EXECUTION_FAILED;
  Algorithm asked;
  if (problem(&asked, operation, a_layout, b_layout, c_layout, d_layout)) return INVALID_VALUE;
  asked.workspace = algorithm->workspace;
  asked.parts = algorithm->parts;
  bool same = !memcmp(&asked, algorithm, sizeof asked),
       room = workspace_bytes >= algorithm->workspace &&
              !emulator_host_access(workspace, algorithm->workspace, 1);
  if (capturing || !same || !room || !there(a, a_layout, 0) || !there(b, b_layout, 0) ||
      !there(c, c_layout, 0) || !there(d, d_layout, 1))
    return INVALID_VALUE;
  bool biased = operation->epilogue == EPILOGUE_BIAS;
  if (biased &&
      emulator_host_access((void*)operation->bias, asked.m * (d_layout->type == F32 ? 4 : 2), 0))
    return INVALID_VALUE;
  memset(workspace, 0xff, algorithm->workspace);
  static uint64_t calls;
  uint64_t step = 4 << ((algorithm->parts ? calls++ : asked.n) % 3);
  auto at = [](const Layout* layout, bool transposed, uint64_t row, uint64_t column) {
    return transposed ? row * layout->leading + column : column * layout->leading + row;
  };
  for (uint64_t column = 0; column < asked.n; column++)
    for (uint64_t row = 0; row < asked.m; row++) {
      float sum = 0;
      for (uint64_t first = 0; first < asked.k; first += step) {
        float part = 0;
        for (uint64_t k = first; k < asked.k && k < first + step; k++)
          part += number(a, a_layout->type, at(a_layout, operation->transposed[0], row, k)) *
                  number(b, b_layout->type, at(b_layout, operation->transposed[1], k, column));
        sum += part;
      }
      sum *= *alpha;
      // What is not added to is not read: it may hold anything.
      if (*beta != 0) sum += *beta * number(c, c_layout->type, at(c_layout, false, row, column));
      if (biased) sum += number(operation->bias, d_layout->type, row);
      store(d, d_layout->type, at(d_layout, false, row, column), sum);
    }
  return SUCCESS;
}

// Rotary position embedding (Su et al. 2021) in the Hugging Face layout: channel j pairs with j +
// r/2.
//
// With the angles of the row's position: (a, b) becomes (a cos - b sin, b cos + a sin); back by
// them with sign -1, which is also the backward pass. In place: x[n,heads,c] and, beside it,
// y[n,others,c], the first r channels of each head; cos, sin [positions,r/2] float.
// A thread owns a pair. Two roundings a number, as in the CPU back end.
// Budget of *: 32 registers
#include "prelude.cuh"

KERNEL(256, rotary)
(num* x, num* y, const float* cosines, const float* sines, const uint32_t* positions, size n,
 size heads, size others, size channels, size rotated, float sign) {
  size half = rotated / 2, pair = (size)blockIdx.x * 256 + threadIdx.x;
  if (pair >= n * (heads + others) * half) return;
  size j = pair % half, head = pair / half, row = head / (heads + others);
  head -= row * (heads + others);
  size angle = (size)positions[row] * half + j;
  num *a = (head < heads ? x + (row * heads + head) * channels
                         : y + (row * others + head - heads) * channels) +
           j,
      *b = a + half;
  float x_a = to_float(*a), x_b = to_float(*b), cosine = cosines[angle], sine = sines[angle] * sign;
  store(a, fmaf(-x_b, sine, x_a * cosine));
  store(b, fmaf(x_a, sine, x_b * cosine));
}
REGISTER(rotary)

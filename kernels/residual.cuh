// What is added to rows before they are normed. Included after prelude.cuh.
#pragma once

// x += delta for elements i to i + VECTOR - 1 of a row, which `xs` has; they become what is stored.
DEVICE void add_row(num* x, float (&xs)[VECTOR], const num* delta, size i, size d) {
  float deltas[VECTOR];
  load(deltas, delta, i, d);
#pragma unroll
  for (int j = 0; j < VECTOR; j++) xs[j] = rounded(xs[j] + deltas[j]);
  store(x, i, d, xs);
}

// Functions of one number, for the kernels of activation.cu and for linear layers that apply one to
// what they store. Included after prelude.cuh.
//
// The operations are those of src/backend/cpu/activation.rs and special.rs, one for one, where the
// formulas are explained: the same bits.
#pragma once

// As the back end numbers them. GATE is the silu of swiglu, which the CPU back end writes
// otherwise.
enum { RELU, GELU, GELU_TANH, SILU, TANH, GATE };

// Beyond them the functions are 0 or x.
const float SILU_LIMIT = 750.0f, GELU_LIMIT = 40.0f;

DEVICE float at_least(float x, float limit) { return x < -limit ? -limit : x; }
DEVICE float within(float x, float limit) {
  x = at_least(x, limit);
  return x > limit ? limit : x;
}
DEVICE float magnitude(float x) { return x < 0.0f ? -x : x; }

DEVICE float tanh_value(float x) {
  float size = magnitude(x), square = x * x, h = 0.0023707657f;
  float large = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
  h = fmaf(h, square, -0.008410071f);
  h = fmaf(h, square, 0.021788321f);
  h = fmaf(h, square, -0.053961553f);
  h = fmaf(h, square, 0.13333313f);
  h = fmaf(h, square, -0.33333334f);
  float small = fmaf(x * square, h, x);
  return size < 0.5625f ? small : x < 0.0f ? -large : large;
}
DEVICE float tanh_derivative(float x) {
  float e = exponential(-2.0f * magnitude(x)), sum = 1.0f + e;
  return 4.0f * e / (sum * sum);
}

// The normal distribution's Phi(x), and exp(-x^2 / 2).
struct Normal {
  float phi, bell;
};
DEVICE Normal normal(float x) {
  float t = magnitude(x);
  t = t > 40.0f ? 40.0f : t;
  float square = t * t, rest = fmaf(t, t, -square);
  float bell = exponential(-0.5f * square) * fmaf(rest, -0.5f, 1.0f);
  float share = 1.0f / (t + 4.0f), y = fmaf(share, -8.0f, 1.0f), p = -0.00011713775f;
  p = fmaf(p, y, 0.00020846617f);
  p = fmaf(p, y, 0.0015760097f);
  p = fmaf(p, y, -0.0035287556f);
  p = fmaf(p, y, -0.0075315344f);
  p = fmaf(p, y, 0.060406823f);
  p = fmaf(p, y, -0.18652235f);
  p = fmaf(p, y, 0.3871367f);
  p = fmaf(p, y, -0.6078966f);
  p = fmaf(p, y, 0.75528514f);
  float tail = bell * (share * p);
  return {x < 0.0f ? tail : 1.0f - tail, bell};
}

// The gate of the tanh form of gelu, s(2u) and 1 - s(2u), and 2u'.
struct Gate {
  Logistic gate;
  float slope;
};
DEVICE Gate gelu_gate(float x) {
  x = within(x, GELU_LIMIT);
  const float FACTOR = 1.5957691216057308f, CUBIC = 0.044715f;
  float square = x * x;
  return {logistic(FACTOR * fmaf(x * square, CUBIC, x)), FACTOR * fmaf(0.134145f, square, 1.0f)};
}

DEVICE float value(float x, int which) {
  switch (which) {
    case RELU: return x <= 0.0f ? 0.0f : x;
    case GELU: return at_least(x, GELU_LIMIT) * normal(x).phi;
    case GELU_TANH: return at_least(x, GELU_LIMIT) * gelu_gate(x).gate.s;
    case SILU: x = at_least(x, SILU_LIMIT); return x * logistic(x).s;
    default: return tanh_value(x);
  }
}

DEVICE float derivative(float x, int which) {
  switch (which) {
    case RELU: return x <= 0.0f ? 0.0f : x > 0.0f ? 1.0f : x;
    case GELU: {
      Normal at = normal(x);
      return fmaf(within(x, GELU_LIMIT) * 0.3989422804014327f, at.bell, at.phi);
    }
    case GELU_TANH: {
      Gate at = gelu_gate(x);
      return fmaf(within(x, GELU_LIMIT) * at.gate.s * at.gate.rest, at.slope, at.gate.s);
    }
    case SILU: {
      x = within(x, SILU_LIMIT);
      Logistic at = logistic(x);
      return at.s * fmaf(x, at.rest, 1.0f);
    }
    default: return tanh_derivative(x);
  }
}

// 1 / (1 + exp(-x)), as the CPU back end has it in swiglu.
DEVICE float plain_logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }

// f of a number, or of each of an array.
template <class F> DEVICE void each(float& x, F f) { x = f(x); }
template <class T, int COUNT, class F> DEVICE void each(T (&x)[COUNT], F f) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) each(x[i], f);
}

// A function of every number of an array in registers. It is picked once, so that no number waits
// for a branch.
template <class T> DEVICE void apply(T& x, int which) {
  switch (which) {
    case RELU: return each(x, [](float x) { return value(x, RELU); });
    case GELU: return each(x, [](float x) { return value(x, GELU); });
    case GELU_TANH: return each(x, [](float x) { return value(x, GELU_TANH); });
    case SILU: return each(x, [](float x) { return value(x, SILU); });
    case TANH: return each(x, [](float x) { return value(x, TANH); });
    default: return each(x, [](float x) { return x * plain_logistic(x); });
  }
}

"""What src/backend/cpu/special.rs and tests/ops/activation.rs take from mpmath 1.3: `python3 tests/ops/special.py`.

Prints the coefficients of the polynomials in the order of the source, and writes special.txt: on each line x, then value and derivative
of gelu, its tanh form, silu and tanh at x. Every x is exact in single precision.
"""

import os

from mpmath import cos, cosh, erfc, exp, mp, mpf, nstr, pi, sqrt, tanh

mp.dps = 60


def interpolate(f, low, high, degree):
    """Coefficients, ascending, of the polynomial that equals f at the Chebyshev nodes of [low, high]."""
    n = degree + 1
    nodes = [(low + high) / 2 + (high - low) / 2 * cos(pi * (2 * j + 1) / (2 * n)) for j in range(n)]
    # Newton's divided differences, then powers.
    differences = [f(x) for x in nodes]
    for order in range(1, n):
        for j in range(n - 1, order - 1, -1):
            differences[j] = (differences[j] - differences[j - 1]) / (nodes[j] - nodes[j - order])
    powers = [mpf(0)]
    for j in range(n - 1, -1, -1):
        powers = [a - nodes[j] * b for a, b in zip([mpf(0)] + powers, powers + [mpf(0)])]
        powers[0] += differences[j]
    return powers[:n]


def tail(y):
    """P of the tail Q(t) = exp(-t^2/2) P(y) / (t + 4), y = (t - 4) / (t + 4)."""
    t = 4 * (1 + y) / (1 - y)
    return (t + 4) * exp(t * t / 2) * erfc(t / sqrt(2)) / 2


def rest(square):
    """H of tanh x = x + x^3 H(x^2)."""
    x = sqrt(square)
    return (tanh(x) / x - 1) / square


def gelu(x):
    phi, bell = erfc(-x / sqrt(2)) / 2, exp(-x * x / 2) / sqrt(2 * pi)
    return x * phi, phi + x * bell


def gelu_tanh(x):
    factor = sqrt(2 / pi)
    u, slope = factor * (x + mpf("0.044715") * x**3), factor * (1 + 3 * mpf("0.044715") * x**2)
    t = tanh(u)
    return x * (1 + t) / 2, (1 + t) / 2 + x * slope / cosh(u) ** 2 / 2


def silu(x):
    s, rest = 1 / (1 + exp(-x)), 1 / (1 + exp(x))
    return x * s, s + x * s * rest


def main():
    for name, end in (("f32", mpf("13.5")), ("f64", mpf("38.7"))):
        high = (end - 4) / (end + 4)
        print("TAIL", name, [nstr(x, 17) for x in reversed(interpolate(tail, mpf(-1), high, {"f32": 9, "f64": 23}[name]))])
    for name in ("f32", "f64"):
        print("TANH", name, [nstr(x, 17) for x in reversed(interpolate(rest, mpf(0), mpf("0.36"), {"f32": 5, "f64": 11}[name]))])
    # Differences 1 + tanh u of the far tail need as many digits as it has zeros.
    mp.dps = 900
    sizes = [mpf(2) ** -k for k in (100, 40, 24, 12, 8, 6, 5)] + [mpf(k) / 8 + mpf(k % 5) / 64 for k in range(1, 104)]
    sizes += [mpf(k) + mpf(k % 8) / 8 for k in list(range(14, 40)) + [50, 80, 87, 88, 89, 100, 400, 700, 708, 720, 1000, 10**6, 2**60]]
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "special.txt"), "w") as out:
        for x in [-x for x in reversed(sizes)] + [mpf(0)] + sizes:
            small = abs(x) < 10000
            values = [x]
            for function in (gelu, gelu_tanh, silu):
                values += function(x) if small else ((x, 1) if x > 0 else (0, 0))
            values += [tanh(x), 1 / cosh(x) ** 2] if small else [1 if x > 0 else -1, 0]
            # Below the least double.
            values = [mpf(0) if abs(value) < mpf(10) ** -320 else mpf(value) for value in values]
            out.write(" ".join(nstr(value, 17, strip_zeros=True) for value in values) + "\n")


main()

"""Intervals and p values by the formulas of docs/evaluation.md, section Intervals. An interval is
{mean, low, high, n, interval}; its ends are None where there is none."""

import bisect
import functools
import math
import statistics

Z = statistics.NormalDist().inv_cdf(0.975)
FEWEST, FEWEST_CLUSTERS, FEWEST_VENDI = 8, 20, 20
SHARES = ("rm_accuracy", "rm_accuracy_clean", "noise_ceiling", "exact")


def interval(mean, low, high, n, kind):
    return {"mean": mean, "low": low, "high": high, "n": n, "interval": kind}


def exact(mean, n):
    return interval(mean, mean, mean, n, "exact")


def none(mean, n, kind):
    return interval(mean, None, None, n, kind)


def bisected(rises, target, low, high):
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < target else (low, middle)
    return (low + high) / 2


def student_cdf(t, freedom):
    """Of a whole number of degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    theta = math.atan2(t, math.sqrt(freedom))
    c2, term, total = math.cos(theta) ** 2, 1.0, 0.0
    odd = freedom % 2
    for at in range(freedom // 2):
        total += term
        k = 2 * at + 1 + odd
        term *= c2 * k / (k + 1)
    if odd:
        inside = (theta + math.sin(theta) * math.cos(theta) * total) * 2 / math.pi
    else:
        inside = math.sin(theta) * total
    return (1 + inside) / 2


@functools.cache
def student_quantile(share, freedom):
    return bisected(lambda t: student_cdf(t, freedom), share, -700.0, 700.0)


def gamma_cdf(x, shape):
    """The regularised lower incomplete gamma function, by its series."""
    term = math.exp(shape * math.log(x) - x - math.lgamma(shape + 1)) if x > 0 else 0.0
    total = 0.0
    for k in range(1, 400):
        total += term
        term *= x / (shape + k)
    return total


class Skewed:
    """At each end the wider of Student's t and the same with Hall's correction for skewness."""

    def __init__(self, values, fewest=FEWEST):
        n = len(values)
        self.n = n
        self.kind = "skew_t"
        if n < fewest:
            self.kind = "none_too_few"
            return
        mean = statistics.fmean(values)
        second, third = (statistics.fmean([(x - mean) ** k for x in values]) for k in (2, 3))
        if max(values) == min(values):
            self.kind = "none_all_equal"
            return
        self.deviation = math.sqrt(second * n / (n - 1))
        self.skewness = third / second**1.5

    def transform(self, t):
        g, n = self.skewness, self.n
        return math.sqrt(n) * (t + g * t**2 / 3 + g**2 * t**3 / 27 + g / (6 * n))

    def around(self, mean):
        q = student_quantile(0.975, self.n - 1)
        # The cubic rises for every t.
        hall = [mean - self.deviation * bisected(self.transform, x, -1e4, 1e4) for x in (q, -q)]
        reach = self.deviation * q / math.sqrt(self.n)
        return [min(hall[0], mean - reach), max(hall[1], mean + reach)]

    def p(self, mean):
        t = mean / self.deviation
        levels = (abs(self.transform(t)), math.sqrt(self.n) * abs(t))
        return max(2 * student_cdf(-level, self.n - 1) for level in levels)


def of_mean(values, keys=None):
    """The mean of values; with keys, those of one key are a cluster."""
    n, mean = len(values), statistics.fmean(values)
    clusters, fewest = values, FEWEST
    if keys is not None and len(set(keys)) < n:
        own = grouped(values, keys)
        size = n / len(own)
        clusters, fewest = [sum(x - mean for x in one) / size for one in own], FEWEST_CLUSTERS
    skewed = Skewed(clusters, fewest)
    if skewed.kind != "skew_t":
        return none(mean, n, skewed.kind)
    return interval(mean, *skewed.around(mean), n, "skew_t")


def grouped(values, keys):
    groups = {}
    for key, value in zip(keys, values):
        groups.setdefault(key, []).append(value)
    return list(groups.values())


def effective(outcomes, keys=None):
    """The share, and how many independent outcomes tell as much of it."""
    clusters = grouped(outcomes, keys if keys is not None else range(len(outcomes)))
    n, k, added = len(outcomes), len(clusters), Z * Z / 2
    size = n / k
    p = (sum(outcomes) + added * size) / (n + 2 * added * size)
    squares = sum((sum(x - p for x in own) / size) ** 2 for own in clusters)
    variance = (squares + added * (p * p + (1 - p) ** 2)) / (k + 2 * added)
    return sum(outcomes) / n, k * p * (1 - p) / variance


def of_share(outcomes, keys=None):
    share, n = effective(outcomes, keys)
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    reach = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))

    def poisson(count):
        if count > 3 + 1e-9:
            return 1.0
        return bisected(lambda x: gamma_cdf(x, count), 0.05, 0.0, 50.0) / n if count > 1e-9 else 0.0

    low = max(0.0, min(middle - reach, poisson(share * n)))
    high = min(1.0, max(middle + reach, 1 - poisson((1 - share) * n)))
    return interval(share, low, high, len(outcomes), "wilson")


def is_share(metric):
    return metric.startswith(("win_rate", "coverage_")) or metric in SHARES


def of_values(metric, values):
    return of_share(values) if is_share(metric) else of_mean(values)


def of_differences(metric, values):
    if not is_share(metric):
        return of_mean(values)
    found = of_share([(1 + x) / 2 for x in values])
    return {**found, **{end: 2 * found[end] - 1 for end in ("mean", "low", "high")}}


def apart(a, b):
    """The first minus the second, of two sets of inputs."""
    mean, n = a["mean"] - b["mean"], a["n"] + b["n"]
    for one in (a, b):
        if one["low"] is None:
            return none(mean, n, one["interval"])
    low = mean - math.hypot(a["mean"] - a["low"], b["high"] - b["mean"])
    high = mean + math.hypot(a["high"] - a["mean"], b["mean"] - b["low"])
    return interval(mean, low, high, n, "two_sets")


def jackknife(n, most, fewest, statistic, mean, forth=lambda x, n: x, back=lambda x: x):
    """Of `statistic`, a function of the inputs that are left, around `mean`; both are put through
    `forth`, with the number of inputs, and the ends back."""
    if n < fewest:
        return none(mean, n, "none_too_few")
    size = math.ceil(n / most)
    groups = n // size
    whole = statistic(list(range(n)))
    values = []
    for group in range(groups):
        left = [at for at in range(n) if at // size != group]
        values.append((n - size) / size * (whole - statistic(left)))
    middle, scale = statistics.fmean(values), math.sqrt(groups * size / n)
    values = [scale * (x - middle) for x in values]
    if max(map(abs, values)) <= 1e-9 * max(abs(whole), 1e-9):
        return none(mean, n, "none_all_equal")
    low, high = map(back, Skewed(values, 2).around(forth(mean, n)))
    return interval(mean, low, high, n, "jackknife")


def sums_of_signs(values):
    """All sums of the values with either sign, in order."""
    sums = [0.0]
    for value in values:
        sums = [x + value for x in sums] + [x - value for x in sums]
    return sorted(sums)


def signs_p(values):
    """The share of all 2^n signs of the values whose sum is as far from 0."""
    n = len(values)
    half = [sums_of_signs(part) for part in (values[: n // 2], values[n // 2 :])]
    least = abs(sum(values)) - 1e-9 * sum(map(abs, values))
    if least <= 0:
        return 1.0
    far = 0
    for x in half[0]:
        far += len(half[1]) - bisect.bisect_left(half[1], least - x)
        far += bisect.bisect_right(half[1], -least - x)
    return far / 2**n


def interval_p(metric, values):
    """The level at which the interval ends at 0; 0 where there is none."""
    if is_share(metric):
        share, n = effective([(1 + x) / 2 for x in values])
        return math.erfc(abs(share - 0.5) / math.sqrt(0.25 / n) / math.sqrt(2))
    skewed = Skewed(values)
    return skewed.p(statistics.fmean(values)) if skewed.kind == "skew_t" else 0.0


def holm(p):
    order, corrected, least = sorted(range(len(p)), key=lambda at: p[at]), [0.0] * len(p), 0.0
    for place, at in enumerate(order):
        least = min(1.0, max(least, p[at] * (len(p) - place)))
        corrected[at] = least
    return corrected

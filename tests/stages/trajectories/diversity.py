"""Diversity in the objective: what each source does to the rewards or advantages of a group.

A response has its `text`, `reward` (after the missing-EOS rule), log-probabilities `logp` (of
sampling) and `ref`. Every function takes the responses to one prompt and returns a number for each.
"""

import math
from collections import Counter
from itertools import combinations


def good_ones(rule, rewards):
    if "at_least" in rule:
        return [r >= rule["at_least"] for r in rewards]
    # At least as great as that share of the group is below.
    least = sorted(rewards)[math.floor(rule["quantile"] * len(rewards))]
    return [r >= least for r in rewards]


def cosine(a, b):
    if a == b:
        return 1.0
    norm = lambda x: math.sqrt(sum(n * n for n in x.values()))
    return sum(a[key] * b[key] for key in a) / (norm(a) * norm(b)) if a and b else 0.0


def similarity(a, b):
    """Mean over n = 1, 2 of the cosine of counts of n-grams of words, without full stops."""
    count = lambda words, n: Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))
    a, b = (text.replace(".", "").split() for text in (a, b))
    return sum(cosine(count(a, n), count(b, n)) for n in (1, 2)) / 2


def novelties(texts):
    n = len(texts)
    others = lambda at: [similarity(texts[at], texts[it]) for it in range(n) if it != at]
    return [1 - sum(others(at)) / (n - 1) for at in range(n)]


def alike(a, b):
    """NoveltyBench's rule of words (Zhang et al. 2025, released code)."""
    words, others = a.lower().split(), b.lower().split()
    longer = max(len(words), len(others))
    if longer <= 5:
        return 2 * len(set(words) & set(others)) >= longer
    parts = lambda text: Counter("".join(c if c.isalnum() else " " for c in text.lower()).split())
    a, b = parts(a), parts(b)
    return 2 * (a & b).total() / max(a.total() + b.total(), 1) > 0.458


def classes(texts):
    """A text joins the first class whose first member it is like."""
    first, found = [], []
    for text in texts:
        for at, member in enumerate(first):
            if alike(member, text):
                found.append(at)
                break
        else:
            found.append(len(first))
            first.append(text)
    return found


def raised(rewards):
    """Rewards without negative ones, so that a product keeps their order (DARLING, released)."""
    least = min(min(rewards), 0)
    return [r - least for r in rewards]


def shaped(config, group, kl_coef):
    """Rewards afterwards, and what is reported of the group."""
    rewards = [r["reward"] for r in group]
    n = len(group)
    ((method, rule),) = config.items()
    good = good_ones(rule["good"], rewards) if rule.get("good") else None
    told = [float(x) for x in good] if good else []
    sums = lambda key: [sum(r[key]) for r in group]
    if method == "novelty":
        told = novel = novelties([r["text"] for r in group])
        if rule.get("combine", "add") == "add":
            rewards = [r + rule.get("weight", 1) * x for r, x in zip(rewards, novel)]
        else:
            mean = sum(novel) / n
            rewards = [r * x / mean for r, x in zip(raised(rewards), novel)]
    elif method == "darling":
        found = classes([r["text"] for r in group])
        told = [float(len(set(found)))]
        part = [at for at in range(n) if good is None or good[at]]
        size = lambda at: sum(found[it] == found[at] for it in part)
        share = lambda at: (len(part) - size(at)) / (len(part) - 1) if len(part) > 1 else 1.0
        factors = [max(share(at), 0.1) if at in part else 0.1 for at in range(n)]
        rewards = [r * f for r, f in zip(raised(rewards), factors)]
    elif method == "mara":
        ref, beta = sums("ref"), rule.get("beta") or kl_coef
        part = [at for at in range(n) if good[at]]
        z = max(part, key=lambda at: ref[at])
        new = [rewards[z] + beta * (ref[z] - ref[at]) for at in range(n)]
        rewards = [new[at] if good[at] else rewards[at] for at in range(n)]
    elif method == "unlikeliness":
        logp = sums("logp")
        rank = [sum(other > own for other in logp) for own in logp]
        factors = [1 - rule["beta"] * (n - rank[at]) / n if good[at] else 1 for at in range(n)]
        rewards = [r * f for r, f in zip(raised(rewards), factors)]
    return rewards, told


FIGURES = {
    "novelty": "diversity/novelty",
    "darling": "diversity/classes",
    "mara": "diversity/good",
    "ucpo": "diversity/good",
    "unlikeliness": "diversity/good",
}


def factors(config, group, rewards):
    """What UCPO multiplies advantages by."""
    if "ucpo" not in config:
        return [1.0] * len(group)
    rule = config["ucpo"]
    good = good_ones(rule["good"], rewards)
    part = [at for at in range(len(group)) if good[at]]
    power = {at: math.exp(sum(group[at]["logp"]) / len(group[at]["logp"])) for at in part}
    v = {at: 1 / max(power[at] / sum(power.values()), 1e-6) for at in part}
    tau, n = rule["tau"], len(part)
    weight = lambda at: (1 - tau) / n + tau * v[at] / sum(v.values())
    return [n * weight(at) if good[at] else 1.0 for at in range(len(group))]


def max_at_k(rewards, k):
    """n times the mean over all subsets of k of what a response adds to the greatest reward."""
    n, subsets = len(rewards), list(combinations(range(len(rewards)), k))
    added = [0.0] * n
    for subset in subsets:
        for at in subset:
            others = max(rewards[it] for it in subset if it != at)
            added[at] += max(rewards[at] - others, 0)
    return [n * x / len(subsets) for x in added]


def pair(rule, group):
    """DivPO: places of the most diverse of the best and the least diverse of the worst."""
    n = len(group)
    by = rule.get("by", "likelihood")
    if by == "novelty":
        own = [round(x, 12) for x in novelties([r["text"] for r in group])]
    else:
        own = [-sum(r["logp"]) for r in group]
    pool = math.ceil(rule["pool"] * n)
    ranked = sorted(range(n), key=lambda at: -group[at]["reward"])
    best, worst = sorted(ranked[:pool]), sorted(ranked[-pool:])
    chosen, rejected = max(best, key=lambda at: own[at]), min(worst, key=lambda at: own[at])
    return (chosen, rejected) if chosen != rejected else None

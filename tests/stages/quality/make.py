#!/usr/bin/env python3
"""Writes golden.json: samples of three methods, and what `quality` of the stage `evaluate` is to
find in them, by the formulas of docs/evaluation.md, section Quality beside diversity.

    python3 make.py

Needs numpy. The exact score, EAD and intervals are those of tests/end_to_end/independent; classes,
utilities, pass@k and best@k are worked out here, the last two over all subsets of k samples.
"""

import itertools
import json
import math
import pathlib
import random
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "end_to_end"))
from independent import intervals, texts  # noqa: E402
from independent.gold import Grader  # noqa: E402

GRADER = Grader(HERE.parents[2] / "src" / "world" / "posts" / "words.rs")
INPUTS = range(70, 84)
# Samples of an input, the share of right values, inputs that there are samples of.
METHODS = {
    "base": (4, 0.35, INPUTS),
    "sft": (5, 0.75, INPUTS),
    "ppo": (4, 0.95, [at for at in INPUTS if at != 73]),
}
WHO = ["boss", "manager", "client", "intern", "director"]
VERB = ["lost", "broke", "sold", "hid"]
OBJ = ["laptop", "badge", "invoice", "printer", "contract"]
DONE = ["told hr", "checked logs", "sent emails", "wrote letters", "called police"]
WHEN = ["monday", "friday", "noon", "easter", "tonight"]
ASK = ["quit", "sue", "wait", "pay", "complain"]
LISTS = {"who": WHO, "verb": VERB, "obj": OBJ, "done": DONE, "when": WHEN, "ask": ASK}
CASES = [
    {"by": "gold", "good": 0.3, "classes": "gold", "k": 3},
    {
        "by": "gold",
        "good": -0.2,
        "classes": "rouge1",
        "patience": 0.5,
        "utility_thresholds": [-0.5, 0.15],
    },
]


def facts(at):
    """As tests/stages/fixture.rs has them."""
    return {
        "who": WHO[at % 5],
        "verb": VERB[at % 4],
        "obj": OBJ[at // 5 % 5],
        "done": DONE[at // 2 % 5],
        "when": WHEN[at // 3 % 5],
        "ask": ASK[at // 4 % 5],
    }


def sample(at, right, draws):
    """A summary some of whose parts are left out and some of whose values are wrong."""
    own = facts(at)
    value = {
        slot: own[slot] if draws.random() < right else draws.choice(values)
        for slot, values in LISTS.items()
    }
    parts = [
        "{who} {verb} my {obj}",
        draws.choice(["i {done}", "already {done}"]),
        draws.choice(["due {when}", "deadline is {when}"]),
        draws.choice(["should i {ask} ?", "do i {ask} ?"]),
    ]
    kept = [part for part in parts[:3] if draws.random() < 0.3 + 0.65 * right]
    said = [part + " ." for part in kept] + [parts[3]]
    return " " + " ".join(said).format(**value)


def is_similar(a, b):
    short = [text.lower().split() for text in (a, b)]
    longer = max(map(len, short))
    if longer <= 5:
        return 2 * len(set(short[0]) & set(short[1])) >= longer
    a, b = texts.rouge_words(a), texts.rouge_words(b)
    shared = sum(min(a.count(word), b.count(word)) for word in set(a))
    return 2 * shared / (len(a) + len(b)) > 0.458


def classes(own, kind):
    """By lists of members: the first list whose first member a sample is like, or a new one."""

    def same(a, b):
        if kind == "gold":
            return set(GRADER.read(a.split())[0]) == set(GRADER.read(b.split())[0])
        return is_similar(a, b)

    members, found = [], []
    for text in own:
        at = next((at for at, one in enumerate(members) if same(one[0], text)), len(members))
        members[at : at + 1] = [members[at] + [text]] if at < len(members) else [[text]]
        found.append(at)
    return found


def pairs(values):
    return list(itertools.combinations(values, 2))


def simpson(own):
    return statistics.fmean(a != b for a, b in pairs(own))


def utility(own, levels, patience):
    """Position by position, as a user meets the samples."""
    weights = [patience**at for at in range(len(own))]
    new = [at for at in range(len(own)) if own[at] not in own[:at]]
    return sum(weights[at] * levels[at] for at in new) / sum(weights)


def subsets(values, k):
    return list(itertools.combinations(values, k))


def measured(own, case):
    """What is found in the samples of one input, and their scores and classes."""
    tau = case["good"] - 1e-9
    scores = [score for _, score in own]
    kinds = classes([text for text, _ in own], case["classes"])
    good = [score >= tau for score in scores]
    k = case.get("k", len(own))
    thresholds = case.get("utility_thresholds", [at / 5 - 1 for at in range(1, 10)])
    levels = [1 + sum(score > one + 1e-9 for one in thresholds) for score in scores]
    curves = {
        "pass_at_k": [
            statistics.fmean(any(one) for one in subsets(good, k)) for k in range(1, len(own) + 1)
        ],
        "best_at_k": [
            statistics.fmean(max(one) for one in subsets(scores, k))
            for k in range(1, len(own) + 1)
        ],
    }
    shares = [kinds.count(one) / len(kinds) for one in set(kinds)]
    figures = {
        "good_share": statistics.fmean(good),
        "distinct_k": len(set(kinds[:k])),
        "utility_k": utility(kinds[:k], levels, case.get("patience", 0.8)),
        **{metric: curve[k - 1] for metric, curve in curves.items()},
        "effective_semantic_diversity": statistics.fmean(
            a[0] and b[0] and a[1] != b[1] for a, b in pairs(list(zip(good, kinds)))
        ),
        "class_entropy": abs(-sum(share * math.log(share) for share in shares)),
    }
    places = [at for at, one in enumerate(good) if one]
    if len(places) >= 2:
        lines = [texts.words(text) for text, _ in own]
        for name, of in [
            ("simpson", lambda at: simpson([kinds[one] for one in at])),
            ("ead", lambda at: texts.ead([lines[one] for one in at])),
        ]:
            total, of_good = of(range(len(own))), of(places)
            figures |= {
                f"{name}_per_input_total": total,
                f"{name}_per_input_good": of_good,
                f"{name}_per_input_quality_control": total - of_good,
            }
    return {"scores": scores, "classes": kinds, "figures": figures, "curves": curves}


def is_share(metric):
    return metric in ("good_share", "pass_at_k")


def of_values(metric, values):
    return intervals.of_share(values) if is_share(metric) else intervals.of_mean(values)


def of_differences(metric, values):
    if not is_share(metric):
        return intervals.of_mean(values)
    half = intervals.of_share([(1 + value) / 2 for value in values])
    ends = {end: 2 * half[end] - 1 for end in ("mean", "low", "high")}
    return {**half, **ends}


def case(config, samples):
    least = min(len(own) for rows in samples.values() for own in rows.values())
    found = {
        method: {at: measured(own[:least], config) for at, own in rows.items()}
        for method, rows in samples.items()
    }
    each = [one["figures"] for rows in found.values() for one in rows.values()]
    metrics = list(dict.fromkeys(metric for figures in each for metric in figures))
    rows, differences, curves = [], [], []
    for method, own in found.items():
        for metric in metrics:
            values = [one["figures"][metric] for one in own.values() if metric in one["figures"]]
            if values:
                rows.append({"method": method, "metric": metric, **of_values(metric, values)})
        for metric in ("pass_at_k", "best_at_k"):
            by_k = zip(*(one["curves"][metric] for one in own.values()))
            by_k = [of_values(metric, list(values)) for values in by_k]
            curves.append({"method": method, "metric": metric, "by_k": by_k})
    names = list(found)
    everywhere = [at for at in INPUTS if all(at in own for own in found.values())]
    for with_, method in itertools.combinations(names, 2):
        for metric in metrics:
            a, b = found[method], found[with_]
            part = metric.rsplit("_per_input_", 1)[-1] in ("total", "good", "quality_control")
            ids = [at for at in INPUTS if at in a and at in b] if part else everywhere
            both = [
                (a[at]["figures"][metric], b[at]["figures"][metric])
                for at in ids
                if metric in a[at]["figures"] and metric in b[at]["figures"]
            ]
            if both:
                values = [x - y for x, y in both]
                figure = of_differences(metric, values)
                differences.append({"method": method, "with": with_, "metric": metric, **figure})
    inputs = [
        {"method": method, "id": f"row-{at}", "scores": one["scores"], "classes": one["classes"]}
        for method, own in found.items()
        for at, one in own.items()
    ]
    return {
        "quality": config,
        "rows": rows,
        "differences": differences,
        "curves": curves,
        "inputs": inputs,
    }


def main():
    draws = random.Random(3)
    drawn = {
        method: {at: [sample(at, right, draws) for _ in range(count)] for at in own}
        for method, (count, right, own) in METHODS.items()
    }
    graded = {
        method: {
            at: [(text, GRADER.grade(facts(at), text.split(), True)["gold"]) for text in own]
            for at, own in rows.items()
        }
        for method, rows in drawn.items()
    }
    golden = {"samples": drawn, "cases": [case(config, graded) for config in CASES]}
    # One list a line, so that a diff is read.
    lines = json.dumps(golden).replace("}, {", "},\n{").replace("], \"", "],\n\"")
    (HERE / "golden.json").write_text(lines + "\n")


main()

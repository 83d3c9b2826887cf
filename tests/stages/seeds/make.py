#!/usr/bin/env python3
"""Writes golden.json: evaluations of several seeds of training, and what `over_seeds` with
`statistics: full` is to make of them, by the formulas of docs/evaluation.md, section Seeds.

    python3 make.py

Needs numpy and scipy, whose distributions (Student's t, central and not), root finder and false
discovery rates are used; the analysis of variance is worked out here by least squares.
"""

import json
import math
import pathlib
import random

import numpy
from scipy import optimize, stats

HERE = pathlib.Path(__file__).resolve().parent
LEVEL = 0.05
POWER = 0.8
MOST = 1000


def evaluation(rng, seed, prompts, shift, spread, matched):
    """The files of one evaluation: prompts by test set, shifts of methods and of this seed."""
    inputs, golds = [], {}
    for test_set, names in prompts.items():
        for at, (name, ease) in enumerate(names):
            answers = []
            for method, level in shift.items():
                own = level[test_set] + spread * seed * (1 if method == "ppo" else 0)
                gold = round(own + ease + rng.gauss(0, 0.15), 3)
                golds.setdefault((method, test_set), []).append(gold)
                answers.append({"method": method, "text": "t", "scores": {"gold": gold}})
            inputs.append(
                {"test_set": test_set, "id": f"row-{at}", "prompt": name, "answers": answers}
            )
    rows, differences, gaps = [], [], []
    for (method, test_set), own in golds.items():
        rows.append({"method": method, "test_set": test_set, "metric": "gold", **around(own)})
        kl = round(0.5 + 0.1 * rng.random(), 3)
        if method == "ppo":
            interval = {"mean": kl, "low": kl - 0.05, "high": kl + 0.05, "n": len(own)}
            rows.append({"method": method, "test_set": test_set, "metric": "kl", **interval})
    for test_set in prompts:
        own = [a - b for a, b in zip(golds["ppo", test_set], golds["sft", test_set])]
        names = {"metric": "gold", "test_set": test_set, "method": "ppo", "with": "sft"}
        differences.append({**names, **around(own), "p": 0.5, "p_holm": 0.5})
    for method in shift:
        a, b = (numpy.mean(golds[method, test_set]) for test_set in ("id", "ood"))
        interval = {"mean": a - b, "low": a - b - 0.2, "high": a - b + 0.2, "n": 21}
        names = {"metric": "gold", "method": method, "from": "id", "to": "ood"}
        gaps.append({**names, **interval})
    found = []
    for test_set in matched:
        own, best = round(0.4 + 0.05 * rng.random(), 3), round(0.3 + 0.05 * rng.random(), 3)
        kl = round(0.5 + 0.1 * rng.random(), 3)
        interval = {"mean": own - best, "low": own - best - 0.1, "high": own - best + 0.1, "n": 9}
        names = {"metric": "gold", "test_set": test_set, "method": "ppo", "with": "best_of_n"}
        kl_interval = {"mean": kl, "low": kl - 0.1, "high": kl + 0.1, "n": 9}
        found.append(
            {
                "kl": kl,
                "kl_interval": kl_interval,
                "temperature": 1.0,
                "own": own,
                "best": best,
                **names,
                **interval,
                "p": 0.5,
                "p_holm": 0.5,
            }
        )
    comparisons = {"differences": differences, "gaps": gaps, "matched": found}
    return {"table": {"rows": rows}, "comparisons": comparisons, "inputs": inputs}


def around(values):
    """A mean with some interval over inputs: what is read of it is its width."""
    mean, n = float(numpy.mean(values)), len(values)
    reach = 2.0 * float(numpy.std(values, ddof=1)) / math.sqrt(n)
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "n": n}


def components(matrix):
    """Variances of the mean of seeds (rows) by inputs (columns): of seeds with the rest, of inputs
    with the rest, of the rest; by least squares on indicators."""
    k, n = matrix.shape
    y = matrix.ravel()

    def left(seeds, inputs):
        columns = [numpy.ones(k * n)]
        if seeds:
            columns += [numpy.repeat(numpy.arange(k) == s, n) for s in range(1, k)]
        if inputs:
            columns += [numpy.tile(numpy.arange(n) == i, k) for i in range(1, n)]
        design = numpy.array(columns, dtype=float).T
        solution = numpy.linalg.lstsq(design, y, rcond=None)[0]
        return float(((y - design @ solution) ** 2).sum())

    rest = left(True, True)
    of_seeds = (left(False, True) - rest) / (k - 1)
    of_inputs = (left(True, False) - rest) / (n - 1)
    return [square / (k * n) for square in (of_seeds, of_inputs, rest / ((k - 1) * (n - 1)))]


def reach(parts, tail):
    return math.sqrt(sum(stats.t.isf(tail, freedom) ** 2 * variance for variance, freedom in parts))


def tail(parts, distance):
    if distance < 0:
        return 1 - tail(parts, -distance)
    if all(variance == 0 for variance, _ in parts[1:]):
        return float(stats.t.sf(distance / math.sqrt(parts[0][0]), parts[0][1]))
    log = optimize.brentq(
        lambda log: reach(parts, math.exp(log)) - distance, math.log(1e-30), math.log(0.5),
        xtol=1e-14
    )
    return math.exp(log)


def plan(parts, passes):
    """The smallest number of seeds for which `passes(parts)` is at least POWER."""
    k = parts[0][1] + 1
    for seeds in range(2, MOST + 1):
        moved = [(parts[0][0] * k / seeds, seeds - 1)] + parts[1:]
        total = sum(variance for variance, _ in moved)
        freedom = total**2 / sum(variance**2 / freedom for variance, freedom in moved)
        if passes(moved, math.sqrt(total), freedom) >= POWER:
            return seeds
    return None


def seeds_for_difference(parts, mean, level):
    def passes(moved, error, freedom):
        critical = reach(moved, level / 2) / error
        shift = abs(mean) / error
        return stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift)

    return None if mean == 0 else plan(parts, passes)


def seeds_for_equivalence(parts, mean, margin, level):
    def passes(moved, error, freedom):
        critical = reach(moved, level) / error
        each = [(margin + mean) / error, (margin - mean) / error]
        return sum(stats.nct.sf(critical, freedom, shift) for shift in each) - 1

    return None if abs(mean) >= margin else plan(parts, passes)


def holm(p):
    order = sorted(range(len(p)), key=lambda at: p[at])
    found, least = [0.0] * len(p), 0.0
    for place, at in enumerate(order):
        least = max(least, min(1.0, p[at] * (len(p) - place)))
        found[at] = least
    return found


CORRECTIONS = {
    "holm": holm,
    "benjamini_hochberg": lambda p: stats.false_discovery_control(p, method="bh").tolist(),
}


def figures(evaluations, inputs):
    """Every figure over seeds, without its test."""
    found = []

    def scores(evaluation, method, test_set):
        own = [one for one in evaluation["inputs"] if one["test_set"] == test_set]
        answers = [one["answers"] for one in own]
        return [
            answer["scores"]["gold"]
            for own in answers
            for answer in own
            if answer["method"] == method
        ]

    def add(quantity, names, values, own, matrices):
        values, k = numpy.array(values), len(values)
        mean, std = float(values.mean()), float(values.std(ddof=1))
        parts = [(std**2 / k, k - 1)]
        interval, training, alone = "student_t", None, None
        errors = [(high - low) / 2 / 1.96 for low, high in own]
        square = sum(error**2 for error in errors) / k if len(errors) == k else None
        if inputs == "different" and square is not None:
            training = math.sqrt(max(0.0, std**2 - square))
        if inputs == "same" and matrices:
            each = [components(numpy.array(matrix)) for matrix in matrices]
            rest = sum(one[2] for one in each)
            for one, matrix in zip(each, matrices):
                parts.append((max(0.0, one[1] - one[2]), len(matrix[0]) - 1))
            if len(matrices) == 1:
                assert math.isclose(parts[0][0], each[0][0])
            training = math.sqrt(max(0.0, k * (parts[0][0] - rest)))
            half = stats.t.isf(0.025, k - 1) * std / math.sqrt(k)
            interval, alone = "crossed", [mean - half, mean + half]
        half = reach(parts, 0.025)
        found.append(
            {
                "quantity": quantity,
                **names,
                "interval": interval,
                "mean": mean,
                "low": mean - half,
                "high": mean + half,
                "std": std,
                "p": min(1.0, 2 * tail(parts, abs(mean))),
                "n": k,
                "lacking": len(evaluations) - k,
                "inputs": inputs,
                "error_over_inputs": None if square is None else math.sqrt(square),
                "training": training,
                "seeds_alone": alone,
                "parts": parts,
            }
        )

    def ends(one):
        return [one["low"], one["high"]]

    rows = [
        {(row["method"], row["test_set"], row["metric"]): row for row in one["table"]["rows"]}
        for one in evaluations
    ]
    for method, test_set, metric in rows[0]:
        own = [one[method, test_set, metric] for one in rows]
        gold = [scores(one, method, test_set) for one in evaluations]
        matrix = [gold] if metric == "gold" else []
        names = {"metric": metric, "method": method, "test_set": test_set}
        add("level", names, [row["mean"] for row in own], [ends(row) for row in own], matrix)
    lists = [one["comparisons"] for one in evaluations]
    for at, difference in enumerate(lists[0]["differences"]):
        own = [one["differences"][at] for one in lists]
        names = {key: difference[key] for key in ("metric", "method", "with", "test_set")}
        matrix = [
            numpy.array(scores(one, "ppo", difference["test_set"]))
            - numpy.array(scores(one, "sft", difference["test_set"]))
            for one in evaluations
        ]
        add("difference", names, [one["mean"] for one in own], [ends(one) for one in own], [matrix])
    for at, gap in enumerate(lists[0]["gaps"]):
        own = [one["gaps"][at] for one in lists]
        names = {"metric": gap["metric"], "method": gap["method"], "test_set": "id", "to": "ood"}
        matrices = [
            [scores(one, gap["method"], test_set) for one in evaluations]
            for test_set in ("id", "ood")
        ]
        add("gap", names, [one["mean"] for one in own], [ends(one) for one in own], matrices)
    for test_set in ("id", "ood"):
        own = [one for each in lists for one in each["matched"] if one["test_set"] == test_set]
        if len(own) < 3 and len(own) < len(evaluations):
            continue
        names = {"metric": "gold", "method": "ppo", "with": "best_of_n", "test_set": test_set}
        add("matched", names, [one["mean"] for one in own], [ends(one) for one in own], [])
        for quantity in ("own", "best"):
            add(f"matched_{quantity}", names, [one[quantity] for one in own], [], [])
        kls = [one["kl_interval"] for one in own]
        add("matched_kl", names, [one["kl"] for one in own], [ends(kl) for kl in kls], [])
    return found


def test(found, config):
    """Adds the tests of every family."""
    for quantity in ("difference", "gap", "matched"):
        for metric in ("gold", "kl"):
            family = [
                one for one in found if (one["quantity"], one["metric"]) == (quantity, metric)
            ]
            if not family:
                continue
            correct = CORRECTIONS[config.get("correction", "holm")]
            margin, level = config["equivalence"].get(metric), LEVEL / len(family)
            corrected = correct([one["p"] for one in family])
            equivalent = [None] * len(family)
            if margin:
                for one in family:
                    mean, parts = one["mean"], one["parts"]
                    one["p_equivalence"] = max(
                        tail(parts, margin - mean), tail(parts, margin + mean)
                    )
                equivalent = correct([one["p_equivalence"] for one in family])
            for one, p, p_equivalent in zip(family, corrected, equivalent):
                one["of"], one["p_corrected"] = len(family), p
                one["p_equivalence_corrected"] = p_equivalent
                if p_equivalent is not None and p_equivalent < LEVEL:
                    one["verdict"] = "equivalent"
                elif p < LEVEL:
                    one["verdict"] = "greater" if one["mean"] > 0 else "less"
                else:
                    one["verdict"] = "open"
                parts, mean = one["parts"], one["mean"]
                one["seeds_for_difference"] = seeds_for_difference(parts, mean, level)
                one["seeds_for_equivalence"] = (
                    seeds_for_equivalence(parts, mean, margin, level) if margin else None
                )
    for one in found:
        del one["parts"]
    return found


def main():
    rng = random.Random(7)
    shift = {"sft": {"id": 0.2, "ood": 0.15}, "ppo": {"id": 0.5, "ood": 0.2}}
    shared = {
        test_set: [(f"{test_set} {at}", rng.gauss(0, 0.3)) for at in range(count)]
        for test_set, count in (("id", 12), ("ood", 9))
    }
    offsets = [-0.04, 0.01, 0.02, 0.06]
    # The first seed lacks one comparison at equal KL, two lack the other.
    matched = [["id"], ["id"], ["id", "ood"], ["ood"]]
    same = [
        evaluation(rng, seed, shared, shift, 1.0, own) for seed, own in zip(offsets, matched)
    ]
    different = []
    for number, seed in enumerate([-0.3, 0.02, 0.25]):
        prompts = {
            test_set: [(f"{test_set} {number} {at}", rng.gauss(0, 0.3)) for at in range(count)]
            for test_set, count in (("id", 12), ("ood", 9))
        }
        different.append(evaluation(rng, seed, prompts, shift, 1.0, ["id"]))
    cases = []
    for inputs, evaluations, config in (
        ("same", same, {"equivalence": {"gold": 0.25}}),
        ("same", same, {"equivalence": {}, "correction": "benjamini_hochberg"}),
        ("different", different, {"equivalence": {"gold": 0.6}}),
    ):
        expected = test(figures(evaluations, inputs), config)
        cases.append({"evaluations": inputs, "config": config, "figures": expected})
    golden = {"evaluations": {"same": same, "different": different}, "cases": cases}
    (HERE / "golden.json").write_text(json.dumps(golden, indent=0) + "\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Recomputes every figure of the smoke study's evaluation and judges from the artefacts that they
were made of, and holds every form in which they are told against them:
python3 recompute.py CACHE NODES CSV JSON PAGE

NODES is the run's nodes.jsonl; CSV, JSON and PAGE are what `posttrain report` makes. Prints what
does not agree and ends with 1, else how many figures agree. A printed figure that nothing here
works out does not agree. Needs numpy; ends with 77 where there is none.

From texts come lengths, ROUGE-L, EAD, Vendi scores and gold (independent/texts.py, gold.py); from
weights and texts the scores of reward models, from weights and tokens log p of policies
(models.py). From these come means, differences, gaps, wins, intervals and p values (intervals.py).
What is taken as it is: labels of preference pairs; scores and KL of PPO's rollouts, of whose
policies the artefact has the last one alone.
"""

import itertools
import json
import math
import pathlib
import statistics
import sys

try:
    import numpy  # noqa: F401
except ImportError:
    sys.exit(77)

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "independent"))
from forms import HELD, OF_TEXTS, WRONG, Near, Shown, by, hold, hold_csv, near
from gold import Grader
from intervals import (
    FEWEST,
    FEWEST_VENDI,
    apart,
    exact,
    holm,
    interval_p,
    jackknife,
    of_differences,
    of_mean,
    of_share,
    of_values,
    signs_p,
)
from models import Llama
from texts import (
    ORDERS,
    cosines,
    ead,
    ead_by_n,
    expected_share,
    ngrams,
    rouge_l,
    split,
    vendi,
    vendi_of,
    words,
)

METHODS = {"base": "base", "sft": "sft", "best_of_n": "best", "ppo": "ppo"}
JUDGED = {"sft": "sft", "best_of_n": "best", "ppo": "ppo"}
# The program computes in float32: scores have an error of 1e-5.
OF_MODELS = 2e-4


def jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def kl_bound(n):
    return math.log(n) - (n - 1) / n


def best(scores):
    return max(range(len(scores)), key=lambda at: (scores[at], -at))


def minus(x, y):
    """A difference; what differs by rounding does not differ."""
    return 0.0 if abs(x - y) <= 1e-12 * max(abs(x), abs(y)) else x - y


def outcomes(a, b):
    return [(x > y) + (x == y) / 2 for x, y in zip(a, b)]


def best_of(scores, values, n):
    """Mean over all subsets of n candidates of the value of the best."""
    picks = [
        values[max(subset, key=lambda at: (scores[at], -at))]
        for subset in itertools.combinations(range(len(scores)), n)
    ]
    return statistics.fmean(picks)


def tolerance(metric):
    return OF_MODELS if metric in ("rm", "raw_rm", "kl") else OF_TEXTS


class Study:
    """The artefacts of a run, and every figure of them in the shape of the evaluation's files."""

    def __init__(self, cache, nodes):
        made = {row["name"]: row["object"] for row in jsonl(nodes) if row.get("object")}
        self.folder = lambda node: cache / "v1/objects" / made[node]
        self.told = jsonl(self.folder("evaluation") / "inputs.jsonl")
        self.test_sets = list(dict.fromkeys(row["test_set"] for row in self.told))
        self.grader = Grader(HERE / "../../src/world/posts/words.rs")
        self.models = {
            name: Llama(self.folder(name))
            for name in ("base", "sft", "ppo", "reward_model", "judge_model")
        }
        self.normal, self.judge_normal = (
            json.loads((self.folder(name) / "normalisation.json").read_text())
            for name in ("reward_model", "judge_model")
        )
        # (metric, test set, method) to one value an input: what methods are compared by.
        self.measured = {}
        # The same for values of the table that nothing is compared by, and (method, test set,
        # metric) to figures.
        self.table = {}
        self.curves, self.matched, self.accuracy, self.diversity = {}, {}, {}, {}
        for name in self.test_sets:
            self.test_set(name)

    def rows(self, node, name):
        rows = jsonl(self.folder(node) / "samples.jsonl")
        return [row for row in rows if row["split"] == f"test/{name}"]

    def normalised(self, raw):
        return (raw - self.normal["mean"]) / self.normal["std"]

    def rm(self, prompt, text):
        return self.normalised(self.models["reward_model"].score(prompt, text))

    def gold(self, example, output):
        return self.grader.grade(example["facts"], split(output["text"]), output["ended"])

    def compared(self, method, name, metric, values):
        self.measured[metric, name, method] = values
        self.put(method, name, metric, of_values(metric, values))

    def put(self, method, name, metric, figure):
        self.table[method, name, metric] = near(figure, tolerance(metric))

    def test_set(self, name):
        examples = jsonl(self.folder("world") / f"test/{name}.jsonl")
        answers = {
            method: {row["id"]: row["outputs"][0] for row in self.rows(f"{node}_outputs", name)}
            for method, node in METHODS.items()
        }
        answers["reference"] = {
            row["id"]: {"text": row["completion"], "ended": True} for row in examples
        }
        values = {}
        for method, own in answers.items():
            assert list(own) == [row["id"] for row in examples], f"{method}: other inputs"
            values[method] = self.scores(name, method, examples, list(own.values()))
        reference = values["reference"]
        for method, own in values.items():
            won = outcomes(own["gold"], reference["gold"])
            own["win_rate"] = won
            if method == "reference":
                for metric in ("gold", "rm", "length", "rouge_l"):
                    self.put(method, name, metric, of_values(metric, own[metric]))
                self.put(method, name, "win_rate", exact(0.5, len(won)))
                continue
            for metric in ("gold", "rm", "win_rate", "length", "rouge_l"):
                self.compared(method, name, metric, own[metric])
        for method, node in JUDGED.items():
            won = [score for _, score, _ in self.verdicts(f"{node}_judged", f"test/{name}")]
            values[method]["win_rate_held_out"] = won
            self.compared(method, name, "win_rate_held_out", won)
        self.hold_inputs(name, examples, answers, values)
        self.samples(name, examples)
        self.spread(name, examples)
        self.pairs(name)

    def scores(self, name, method, examples, outputs):
        """Values of every answer; the parts of gold go to the table."""
        grades = [self.gold(*pair) for pair in zip(examples, outputs)]
        for part in grades[0]:
            if part != "gold":
                own = [grade[part] for grade in grades]
                self.put(method, name, part, of_values(part, own))
        return {
            "gold": [grade["gold"] for grade in grades],
            "rm": [self.rm(e["prompt"], o["text"]) for e, o in zip(examples, outputs)],
            "length": [len(split(output["text"])) for output in outputs],
            "rouge_l": [rouge_l(o["text"], e["completion"]) for e, o in zip(examples, outputs)],
        }

    def hold_inputs(self, name, examples, answers, values):
        """The file inputs.jsonl."""
        told = [row for row in self.told if row["test_set"] == name]
        assert [row["id"] for row in told] == [row["id"] for row in examples]
        for at, row in enumerate(told):
            right = {
                method: {
                    "text": answers[method][row["id"]]["text"],
                    "scores": {m: Near(v[at], tolerance(m)) for m, v in own.items()},
                }
                for method, own in values.items()
            }
            found = {
                a["method"]: {"text": a["text"], "scores": a["scores"]} for a in row["answers"]
            }
            hold(f"inputs.jsonl {name} {row['id']}", found, right)

    def samples(self, name, examples):
        """KL, best-of-n, and policies at best-of-n's KL."""
        prompts = {row["id"]: row for row in examples}
        kls = {}
        for method, node in METHODS.items():
            rows = self.rows(f"{node}_samples", name)
            self.own_pairs(name, method, rows, prompts)
            if method == "best_of_n":
                bound = kl_bound(rows[0]["best_of"])
                self.put(method, name, "kl", exact(bound, len(examples)))
                continue
            own = [statistics.fmean(self.log_ratios(node, row)) for row in rows]
            kls[method] = dict(zip((row["id"] for row in rows), own))
            # A policy has no distance from itself, and no error of it.
            figure = exact(0.0, len(own)) if method == "sft" else of_mean(own)
            assert method != "sft" or max(map(abs, own)) < OF_MODELS, own
            self.put(method, name, "kl", figure)
        self.best_of_n(name, prompts, kls["ppo"])

    def log_ratios(self, policy, row):
        """log p - log p of the reference policy of each sample of a row."""
        for output in row["outputs"]:
            own, reference = (
                self.models[model].logprob(row["prompt"], output["tokens"], row["temperature"])
                for model in (policy, "sft")
            )
            hold(f"samples.jsonl {row['id']}", output["logprob"], Near(own, OF_MODELS))
            yield own - reference

    def best_of_n(self, name, prompts, kl):
        rows = self.rows("best_outputs", name)
        rewards = lambda row: [one["reward"] for one in row["candidates"]]
        raws = lambda row: [one.get("raw_reward", one["reward"]) for one in row["candidates"]]
        golds = lambda row: [
            self.gold(prompts[row["id"]], one)["gold"] for one in row["candidates"]
        ]
        of = {"rm": rewards, "gold": golds}
        if any("raw_reward" in one for row in rows for one in row["candidates"]):
            of["raw_rm"] = raws
        most = min(len(row["candidates"]) for row in rows)
        for row in rows:
            for raw, one in zip(raws(row), row["candidates"]):
                own = self.normalised(
                    self.models["reward_model"].score_tokens(row["prompt"], one["tokens"])
                )
                hold(f"samples.jsonl {row['id']}", raw, Near(own, OF_MODELS))
                # The pipeline's rule for a missing EOS.
                hold(f"samples.jsonl {row['id']}", one["reward"], raw if one["ended"] else -2.0)
        for metric, values in of.items():
            by_n = [
                of_mean([best_of(rewards(row), values(row), n) for row in rows])
                for n in range(1, most + 1)
            ]
            self.curve(name, metric, by_n)
        rows = self.rows("best_samples", name)
        most = rows[0]["best_of"]
        drawn = {
            n: {row["id"]: self.ead_of_best(row, n, most, rewards) for row in rows}
            for n in range(1, most + 1)
        }
        by_n = [of_mean(list(drawn[n].values())) for n in drawn]
        self.curve(name, "ead_per_input", by_n)

        rows = {row["id"]: row for row in rows}
        own = [row for row in self.rows("ppo_samples", name) if row["id"] in rows]
        distances = [kl[row["id"]] for row in own]
        text_scores = {
            "gold": lambda row: statistics.fmean(
                self.gold(prompts[row["id"]], one)["gold"] for one in row["outputs"]
            ),
            "rm": lambda row: statistics.fmean(
                self.rm(row["prompt"], one["text"]) for one in row["outputs"]
            ),
            "ead_per_input": lambda row: ead([words(one["text"]) for one in row["outputs"]]),
        }
        candidates = {"gold": golds, "rm": raws}
        for metric, score in text_scores.items():
            if metric == "ead_per_input":
                reach, at = len(drawn), lambda n: [drawn[n][row["id"]] for row in own]
            else:
                reach = min(len(row["candidates"]) for row in rows.values())
                value = candidates[metric]
                at = lambda n: [
                    best_of(rewards(rows[row["id"]]), value(rows[row["id"]]), n) for row in own
                ]
            mean = statistics.fmean(distances)
            if 0 < mean <= kl_bound(reach):
                self.match(name, metric, distances, list(map(score, own)), at)

    def ead_of_best(self, row, n, most, rewards):
        """Of samples that are each the best of the first n of their own candidates."""
        scores, texts = rewards(row), [words(one["text"]) for one in row["candidates"]]
        own = range(0, len(scores), most)
        return ead([texts[first + best(scores[first : first + n])] for first in own])

    def curve(self, name, metric, by_n):
        self.curves["best_of_n", name, metric] = {
            "method": "best_of_n",
            "test_set": name,
            "metric": metric,
            "by_n": [near(one, tolerance(metric)) for one in by_n],
            "kl_bound": [kl_bound(n + 1) for n in range(len(by_n))],
        }

    def match(self, name, metric, kl, own, at):
        """PPO minus best-of-n at PPO's KL, between two n linear in KL."""
        mean = statistics.fmean(kl)
        n = next(n for n in range(1, 1000) if kl_bound(n) >= mean)
        width = kl_bound(n) - kl_bound(n - 1)
        low, high = at(n - 1), at(n)
        slope = (statistics.fmean(high) - statistics.fmean(low)) / width
        theirs = [a + (mean - kl_bound(n - 1)) * (b - a) / width for a, b in zip(low, high)]
        moved = [x - slope * (distance - mean) for x, distance in zip(own, kl)]
        # What is interpolated has the error of the KL.
        loose = lambda figure: near(figure, 10 * OF_MODELS)
        self.matched[metric, name, "ppo", "best_of_n"] = {
            "kl": Near(mean, OF_MODELS),
            "kl_interval": near(of_mean(kl), OF_MODELS),
            "temperature": 1.0,
            **loose({"own": statistics.fmean(own), "best": statistics.fmean(theirs)}),
            **self.difference(metric, name, "ppo", "best_of_n", moved, theirs, 10 * OF_MODELS),
        }

    def difference(self, metric, name, method, other, a, b, error):
        values = list(map(minus, a, b))
        p = max(signs_p(values), interval_p(metric, values))
        # Beyond 13 inputs the program draws 10,000 signs.
        drawn = 5 * math.sqrt(p * (1 - p) / 10_000) + 2e-4 if len(values) > 13 else 0
        return {
            "metric": metric,
            "test_set": name,
            "method": method,
            "with": other,
            **near(of_differences(metric, values), error),
            "p": Near(p, drawn + (1e-3 if error > OF_TEXTS else 1e-9)),
        }

    def spread(self, name, examples):
        """Diversity per input and across inputs, of whole texts and of texts of one length."""
        sets = {}
        for method, node in METHODS.items():
            rows = self.rows(f"{node}_samples", name)
            sets[method] = [[words(output["text"]) for output in row["outputs"]] for row in rows]
            ids = {row["id"] for row in rows}
        sets["reference"] = [[words(row["completion"])] for row in examples if row["id"] in ids]
        # The length that at least half of the texts of every method, and of the references, reach.
        lengths = [sorted(len(text) for row in own for text in row) for own in sets.values()]
        common = min(own[(len(own) - 1) // 2] for own in lengths)
        for method, own in sets.items():
            metrics = {}
            for ending in ("", "_matched"):
                texts = own if not ending else [[text[:common] for text in row] for row in own]
                for metric, found in (("ead", spread_ead(texts)), ("vendi", spread_vendi(texts))):
                    metrics[metric + ending] = found
                    across = found["across_inputs"]
                    if method != "reference":
                        self.compared(
                            method, name, f"{metric}_per_input{ending}", found.pop("each")
                        )
                    found.pop("each", None)
                    self.put(method, name, f"{metric}_across_inputs{ending}", across["all"])
                    self.put(method, name, f"{metric}_across_inputs_first{ending}", across["first"])
                    first = {f"first_{end}": across["first"][end] for end in ("low", "high")}
                    found["across_inputs"] = {
                        "first": across["first"]["mean"],
                        **first,
                        "first_interval": across["first"]["interval"],
                        **{key: across["all"][key] for key in ("mean", "low", "high", "interval")},
                    }
            self.diversity[method, name] = {
                "method": method,
                "test_set": name,
                "matched_length": common,
                "metrics": metrics,
            }

    def pairs(self, name):
        """The reward model on held-out pairs of preferences."""
        pairs = jsonl(self.folder("preferences") / f"test/{name}.jsonl")
        keys = [pair["prompt"] for pair in pairs]
        score = lambda pair, text: self.rm(pair["prompt"], pair[text])
        margins = [
            (score(pair, "chosen") - score(pair, "rejected")) * self.normal["std"] for pair in pairs
        ]
        right = [(margin > 0) + (margin == 0) / 2 for margin in margins]
        clean = [x if pair["clean"] else 1 - x for x, pair in zip(right, pairs)]
        ceiling = [float(pair["clean"]) for pair in pairs]
        accuracy = of_share(right, keys)
        for metric, own in (
            ("rm_accuracy", right),
            ("rm_accuracy_clean", clean),
            ("noise_ceiling", ceiling),
        ):
            self.put("reward_model", name, metric, of_share(own, keys))
        sure = lambda at: 1 / (1 + math.exp(-abs(margins[at])))

        def bin_of(part):
            confidences = [sure(at) for at in part]
            return {
                **near(
                    {
                        "low": min(confidences),
                        "high": max(confidences),
                        "confidence": statistics.fmean(confidences),
                    },
                    OF_MODELS,
                ),
                "accuracy": of_share([right[at] for at in part], [keys[at] for at in part]),
            }

        order = sorted(range(len(pairs)), key=lambda at: abs(margins[at]))
        edge = lambda k: math.ceil(k * len(order) / 5)
        fifths = [order[edge(k) : edge(k + 1)] for k in range(5)]
        place = lambda at: min(9, int((sure(at) - 0.5) * 20))
        ranges = [[at for at in range(len(pairs)) if place(at) == k] for k in range(10)]
        bins = [bin_of(part) for part in ranges if part]
        error = sum(
            one["accuracy"]["n"] * abs(one["accuracy"]["mean"] - one["confidence"]) for one in bins
        )
        brier = of_mean([(1 / (1 + math.exp(margin))) ** 2 for margin in margins], keys)
        loss = of_mean([math.log1p(math.exp(-margin)) for margin in margins], keys)
        self.accuracy[name] = {
            "test_set": name,
            "prompts": len(set(keys)),
            "accuracy": accuracy,
            "by_confidence": [bin_of(part) for part in fifths if part],
            "calibration": {
                "bins": bins,
                "error": Near(error / len(pairs), OF_MODELS),
                "brier": Near(brier["mean"], OF_MODELS),
                "brier_interval": near(brier, OF_MODELS),
                "log_loss": Near(loss["mean"], OF_MODELS),
                "log_loss_interval": near(loss, OF_MODELS),
            },
            "by_source": {},
        }

    def verdicts(self, node, name):
        """Of each pair of a judge's split: its prompt, 1 where the first won, and the distance of
        the two scores."""
        told = [
            row for row in jsonl(self.folder(node) / "judgements.jsonl") if row["split"] == name
        ]
        if node == "judge_validity":
            pairs = jsonl(self.folder("judge_preferences") / f"{name}.jsonl")
            texts = {row["id"]: (row["prompt"], row["chosen"], row["rejected"]) for row in pairs}
        else:
            rows = jsonl(self.folder(node.replace("judged", "outputs")) / "samples.jsonl")
            own = {row["id"]: row["outputs"][0]["text"] for row in rows if row["split"] == name}
            world = jsonl(self.folder("world") / f"{name}.jsonl")
            texts = {row["id"]: (row["prompt"], own[row["id"]], row["completion"]) for row in world}
        assert [row["id"] for row in told] == list(texts), f"{node}: other pairs"
        found = []
        for row in told:
            prompt, a, b = texts[row["id"]]
            margin = self.models["judge_model"].score(prompt, a, 216)
            margin -= self.models["judge_model"].score(prompt, b, 216)
            margin /= self.judge_normal["std"]
            hold(f"judgements.jsonl {node} {row['id']}", row["margin"], Near(margin, OF_MODELS))
            score = {"a": 1.0, "b": 0.0, "tie": 0.5}[row["verdict"]]
            assert score == (margin > 0) + (margin == 0) / 2, f"{node}: {row} for {margin}"
            found.append((prompt, score, abs(row["margin"])))
        return found

    def judging(self, node):
        """What is printed of a stage `judge`."""
        splits = {}
        for name in self.test_sets:
            found = self.verdicts(node, f"test/{name}")
            share = lambda part: of_share([one[1] for one in part], [one[0] for one in part])
            order = sorted(found, key=lambda one: one[2])
            edge = lambda k: k * len(order) // 3
            thirds = {
                word: share(order[edge(k) : edge(k + 1)])
                for k, word in enumerate(("low", "middle", "high"))
            }
            splits[f"test/{name}"] = {
                "win_rate": share(found),
                "ties": sum(one[1] == 0.5 for one in found),
                "unclear": 0,
                "by_confidence": thirds if len(found) >= 3 else {},
            }
        return splits

    def over_optimisation(self):
        prompts = {row["id"]: row for row in jsonl(self.folder("world") / "prompts.jsonl")}
        steps = []
        for at, path in enumerate(sorted((self.folder("ppo") / "rollouts").iterdir())):
            rollouts = jsonl(path)
            keys = [row["id"] for row in rollouts]
            column = lambda name: [row[name] for row in rollouts]
            gold = [
                self.gold(prompts[row["id"]], {"text": row["response"], "ended": row["ended"]})[
                    "gold"
                ]
                for row in rollouts
            ]
            kl = column("kl")
            steps.append(
                {
                    "step": at + 1,
                    "kl": of_mean(kl, keys) if any(kl) else exact(0.0, len(kl)),
                    "rm": of_mean(column("score"), keys),
                    "raw_rm": of_mean(column("raw_score"), keys),
                    "gold": of_mean(gold, keys),
                }
            )
        return [{"method": "ppo", "steps": steps}]

    def gains(self):
        """Differences of methods on the first test set less the same on each other."""
        found, methods, first = {}, list(METHODS), self.test_sets[0]
        for (metric, name, method), values in self.measured.items():
            for other in methods[: methods.index(method)] if name != first else []:
                pairs = [
                    (self.measured.get((metric, place, method)), self.measured.get((metric, place, other)))
                    for place in (first, name)
                ]
                if any(theirs is None for pair in pairs for theirs in pair):
                    continue
                of = [of_differences(metric, list(map(minus, a, b))) for a, b in pairs]
                figure, error = apart(*of), tolerance(metric)
                p = 1.0
                if figure["low"] is not None:
                    below = figure["mean"] < 0
                    end = figure["high"] if below else figure["low"]
                    reach = abs(end - figure["mean"])
                    p = math.erfc(1.959963984540054 * abs(figure["mean"]) / reach / math.sqrt(2))
                key = (metric, method, other, first, name)
                found[key] = {
                    **dict(zip(("metric", "method", "with", "from", "to"), key)),
                    **near(figure, error),
                    "p": Near(p, 1e-3 if error > OF_TEXTS else 1e-9),
                }
        return found

    def own_pairs(self, name, method, rows, prompts):
        """The reward model's accuracy on the pairs of a method's samples that differ in gold."""
        shares = []
        for row in rows:
            graded = [
                (self.gold(prompts[row["id"]], one)["gold"], self.rm(row["prompt"], one["text"]))
                for one in row["outputs"]
            ]
            right = [
                (gold_a > gold_b) == (a > b) if a != b else 0.5
                for (gold_a, a), (gold_b, b) in itertools.combinations(graded, 2)
                if abs(gold_a - gold_b) > 1e-9
            ]
            shares += [statistics.fmean(right)] if right else []
        if shares:
            self.put(method, name, "rm_accuracy_own", of_share(shares))

    def comparisons(self):
        differences, wins, gaps = {}, {}, {}
        methods = list(METHODS)
        for (metric, name, method), values in self.measured.items():
            error = tolerance(metric)
            for other in methods[: methods.index(method)]:
                theirs = self.measured.get((metric, name, other))
                if theirs is None:
                    continue
                key = (metric, name, method, other)
                differences[key] = self.difference(*key, values, theirs, error)
                if metric in ("gold", "rm"):
                    names = dict(zip(("metric", "test_set", "method", "with"), key))
                    wins[key] = {**names, **of_share(outcomes(values, theirs))}
            if name != self.test_sets[0]:
                first = self.measured[metric, self.test_sets[0], method]
                gaps[metric, method, self.test_sets[0], name] = {
                    **dict(
                        zip(
                            ("metric", "method", "from", "to"),
                            (metric, method, self.test_sets[0], name),
                        )
                    ),
                    **near(apart(of_values(metric, first), of_values(metric, values)), error),
                }
        return {
            "differences": differences,
            "head_to_head": wins,
            "gaps": gaps,
            "gains": self.gains(),
            "matched": self.matched,
        }


def spread(texts, each, across, by_n):
    """`each` is one value an input; `across` maps the number of choices of a sample to a figure."""
    per_input = of_mean(each)
    deviation = statistics.stdev(each) if len(each) > 1 else 0.0
    return {
        "each": each,
        "per_input": {
            **{key: per_input[key] for key in ("mean", "low", "high", "interval")},
            "std": deviation,
        },
        "across_inputs": {"first": across(1), "all": across(len(texts[0]))},
        **({"by_n": by_n} if by_n else {}),
    }


def spread_ead(texts):
    n = len(texts)
    found = [[[ngrams([row[k]], m) for row in texts] for m in ORDERS] for k in range(len(texts[0]))]
    sets = [[list(map(set, rows)) for rows in of_order] for of_order in found]

    def of(k, left):
        """EAD of the k-th samples of some inputs, from the n-grams of each."""
        counts = [sum(len(rows[at]) for at in left) for rows in found[k]]
        distinct = [len(set().union(*(rows[at] for at in left))) for rows in sets[k]]
        return statistics.fmean(map(expected_share, distinct, counts))

    def across(choices):
        statistic = lambda left: statistics.fmean(of(k, left) for k in range(choices))
        return jackknife(n, 40, FEWEST, statistic, statistic(range(n)))

    each = [ead_by_n(row) for row in texts]
    by_n = {
        "per_input": [statistics.fmean(column) for column in zip(*each)],
        "across_inputs": ead_by_n([row[0] for row in texts]),
    }
    return spread(texts, [statistics.fmean(one) for one in each], across, by_n)


def spread_vendi(texts):
    n = len(texts)
    kernels = [cosines([row[k] for row in texts]) for k in range(len(texts[0]))]
    of = lambda k, left: vendi_of(kernels[k][numpy.ix_(left, left)])
    logit = lambda share, size: math.log((share - 0.5 / size) / (1 + 1 / size - share))

    def back(x):
        odds = math.exp(x)
        share = (odds * (1 + 1 / n) + 0.5 / n) / (1 + odds)
        return n * min(1.0, max(1 / n, share))

    def across(choices):
        mean = statistics.fmean(of(k, range(n)) for k in range(choices))
        share = lambda left: statistics.fmean(of(k, left) / len(left) for k in range(choices))
        statistic = lambda left: logit(share(left), len(left))
        forth = lambda score, size: logit(score / size, size)
        return jackknife(n, 25, FEWEST_VENDI, statistic, mean, forth, back)

    return spread(texts, [vendi(row) for row in texts], across, None)


COMPARED = {
    "differences": ("metric", "test_set", "method", "with"),
    "head_to_head": ("metric", "test_set", "method", "with"),
    "gaps": ("metric", "method", "from", "to"),
    "gains": ("metric", "method", "with", "from", "to"),
    "matched": ("metric", "test_set", "method", "with"),
}


def hold_evaluation(study, folder, report):
    """The files of the evaluation, and the same in the report's JSON. Gives its rows."""
    read = lambda name: json.loads((folder / name).read_text())
    own = report["evaluations"][0]
    rows = by(read("table.json")["rows"], "method", "test_set", "metric")
    plain = lambda row: {k: v for k, v in row.items() if k not in ("method", "test_set", "metric")}
    hold("table.json", {key: plain(row) for key, row in rows.items()}, study.table)
    right = study.comparisons()
    for part, names in COMPARED.items():
        found = by(read("comparisons.json")[part], *names)
        if part in ("differences", "matched", "gains"):
            # Corrected over a metric, from the printed p, which may be drawn.
            for metric in {key[0] for key in found}:
                family = [key for key in found if key[0] == metric]
                for key, p in zip(family, holm([found[key]["p"] for key in family])):
                    right[part].get(key, {})["p_holm"] = p
        hold(f"comparisons.json {part}", found, right[part])
    hold("best_of_n.json", by(read("best_of_n.json"), "method", "test_set", "metric"), study.curves)
    hold("diversity.json", by(read("diversity.json"), "method", "test_set"), study.diversity)
    accuracy = by(read("reward_model.json"), "test_set")
    hold("reward_model.json", accuracy, {(k,): v for k, v in study.accuracy.items()})
    training = read("over_optimisation.json")
    hold("over_optimisation.json", training, study.over_optimisation())
    as_rows = {
        tuple(name.split("/")): mean for name, mean in jsonl(folder / "metrics.jsonl")[0].items()
    }
    hold("metrics.jsonl", as_rows, {key: row["mean"] for key, row in rows.items()})

    # The report has the same.
    told = {key: own[key] for key in own if key not in ("node", "judges", "leaks", "left_out")}
    for sentence in own.get("left_out", []):
        # Where all samples of each input have one gold score.
        if not sentence.startswith("Left out: `rm_accuracy_own` of "):
            WRONG.append(f"left out without a reason: {sentence}")
    sampled = [{"method": name, "outputs": 0.7, "samples": 1.0} for name in METHODS]
    hold("temperatures.json", read("temperatures.json"), sampled)
    same = {
        "table": read("table.json"),
        "comparisons": read("comparisons.json"),
        "temperatures": sampled,
        "best_of_n": read("best_of_n.json"),
        "over_optimisation": training,
        "reward_model": read("reward_model.json"),
    }
    hold("json", told, same)
    judges = {judging["node"]: judging["splits"] for judging in report["judgings"]}
    hold("json judgings", judges, {node: study.judging(node) for node in judges})
    return rows


def main():
    cache, nodes, table_csv, report, page = map(pathlib.Path, sys.argv[1:])
    study, report = Study(cache, nodes), json.loads(report.read_text())
    folder = study.folder("evaluation")
    rows = hold_evaluation(study, folder, report)
    hold_csv(table_csv, report)
    shown = Shown(rows, report)
    shown.page(page.read_text())
    shown.markdown("table.md", (folder / "table.md").read_text())
    shown.text("table.txt", (folder / "table.txt").read_text())
    # A form of which next to nothing is understood would agree with anything.
    for form in ("page", "table.md", "table.txt", "csv", "json"):
        if HELD[form] < len(rows):
            WRONG.append(f"{form}: only {HELD[form]} figures")
    print(*WRONG[:40], sep="\n")
    print(f"{len(WRONG)} differ;", ", ".join(f"{form} {n}" for form, n in sorted(HELD.items())))
    sys.exit(bool(WRONG))


main()

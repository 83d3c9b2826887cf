#!/usr/bin/env python3
"""Recomputes the figures of an evaluation from the artefacts that it was made of, and holds every
form in which they are told against them: python3 recompute.py CACHE NODES CSV JSON PAGE

NODES is the run's nodes.jsonl; CSV, JSON and PAGE are what `posttrain report` makes. Prints what
does not agree and ends with 1, else how many figures agree. Needs the standard library alone.

Texts give lengths, ROUGE-L (Lin 2004), EAD (Liu et al. 2022) and Vendi scores (Friedman and Dieng
2023); prompts, references and labels are the dataset's, verdicts the judges'. Scores of a reward
model and gold are taken as they are for each text, the accuracy of the reward model for each bin of
pairs; means and win rates are worked out from them. The KL of best-of-n is its bound,
log n - (n - 1) / n. Not worked out, but held against each other in all forms: `OF_A_MODEL`, and the
parts of gold.
"""

import collections
import csv
import json
import math
import pathlib
import re
import statistics
import sys

VOCABULARY = 50257
METHODS = {"base": "base", "sft": "sft", "best_of_n": "best", "ppo": "ppo"}
# Figures that only a model can tell anew.
OF_A_MODEL = {("base", "kl"), ("ppo", "kl"), ("reward_model", "rm_accuracy_clean")}


def jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# Unicode's white space, to which the separators U+001C to U+001F do not belong.
SPACE = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def split(text):
    return [word for word in SPACE.split(text) if word]


def words(text):
    return split(text.replace(".", "").replace("\n", ""))


def rouge_words(text):
    """As the package rouge_score has them, without stemming."""
    return re.findall("[a-z0-9]+", text.lower())


def rouge_l(text, reference):
    """F1 of the longest common subsequence of words."""
    row = [0] * (len(reference) + 1)
    for word in text:
        before = row
        row = [0]
        for at, other in enumerate(reference):
            row.append(before[at] + 1 if word == other else max(before[at + 1], row[at]))
    return 2 * row[-1] / (len(text) + len(reference)) if text and reference else 0.0


def ngrams(texts, n):
    return [tuple(line[at : at + n]) for line in texts for at in range(len(line) - n + 1)]


def ead(texts):
    """Mean over n = 1 to 5 of distinct n-grams over those expected of as many draws."""

    def of(n):
        found = ngrams(texts, n)
        expected = VOCABULARY * (1 - ((VOCABULARY - 1) / VOCABULARY) ** len(found))
        return len(set(found)) / expected if found else 0.0

    return statistics.fmean(map(of, range(1, 6)))


def eigenvalues(a):
    """Of a symmetric matrix, by Jacobi's rotations."""
    a, size = [row[:] for row in a], len(a)
    for _ in range(60):
        for p in range(size):
            for q in range(p + 1, size):
                if abs(a[p][q]) < 1e-18:
                    continue
                theta = math.atan2(2 * a[p][q], a[q][q] - a[p][p]) / 2
                c, s = math.cos(theta), math.sin(theta)
                for row in a:
                    row[p], row[q] = c * row[p] - s * row[q], s * row[p] + c * row[q]
                a[p], a[q] = (
                    [c * x - s * y for x, y in zip(a[p], a[q])],
                    [s * x + c * y for x, y in zip(a[p], a[q])],
                )
    return [a[at][at] for at in range(size)]


def vendi(texts):
    """Exponential of the entropy of eigenvalues of the mean cosine of n-grams, n = 1 and 2."""

    def cosine(a, b, n):
        a, b = (collections.Counter(ngrams([text], n)) for text in (a, b))
        length = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
        return (
            sum(count * b[gram] for gram, count in a.items()) / length if length else float(a == b)
        )

    kernel = [[(cosine(a, b, 1) + cosine(a, b, 2)) / 2 / len(texts) for b in texts] for a in texts]
    return math.exp(-sum(x * math.log(x) for x in eigenvalues(kernel) if x > 1e-15))


class Study:
    """The artefacts of a run, and what they come to: (method, test set, metric) to (mean, n)."""

    def __init__(self, cache, nodes):
        made = {row["name"]: row["object"] for row in jsonl(nodes) if row["object"]}
        self.folder = lambda node: cache / "v1/objects" / made[node]
        self.inputs = jsonl(self.folder("evaluation") / "inputs.jsonl")
        self.figures = {}

    def rows(self, node, split):
        return [row for row in jsonl(self.folder(node) / "samples.jsonl") if row["split"] == split]

    def put(self, method, test_set, metric, values):
        self.figures[method, test_set, metric] = (statistics.fmean(values), len(values))

    def test_set(self, name):
        examples = jsonl(self.folder("world") / f"test/{name}.jsonl")
        references = {row["id"]: row["completion"] for row in examples}
        told = {row["id"]: row for row in self.inputs if row["test_set"] == name}
        assert list(told) == list(references), f"{name}: other inputs"
        texts = {"reference": references}
        for method, node in METHODS.items():
            rows = self.rows(f"{node}_outputs", f"test/{name}")
            texts[method] = {row["id"]: row["outputs"][0]["text"] for row in rows}
        scores = lambda method, id: next(a for a in told[id]["answers"] if a["method"] == method)
        for method, own in texts.items():
            ids = list(references)
            answers = [scores(method, id) for id in ids]
            assert [a["text"] for a in answers] == [own[id] for id in ids], f"{method}: other texts"
            gold, other = (
                [scores(m, id)["scores"]["gold"] for id in ids] for m in (method, "reference")
            )
            self.put(method, name, "gold", gold)
            self.put(method, name, "rm", [a["scores"]["rm"] for a in answers])
            self.put(method, name, "length", [len(split(own[id])) for id in ids])
            overlap = [rouge_l(rouge_words(own[id]), rouge_words(references[id])) for id in ids]
            self.put(method, name, "rouge_l", overlap)
            self.put(
                method, name, "win_rate", [(a > b) + (a == b) / 2 for a, b in zip(gold, other)]
            )
        for node, method in (("sft", "sft"), ("best", "best_of_n"), ("ppo", "ppo")):
            verdicts = jsonl(self.folder(f"{node}_judged") / "judgements.jsonl")
            own = [row["verdict"] for row in verdicts if row["split"] == f"test/{name}"]
            won = {"a": 1.0, "b": 0.0, "tie": 0.5}
            self.put(method, name, "win_rate_held_out", [won[verdict] for verdict in own])
        self.diversity(name, references)
        best = [len(row["candidates"]) for row in self.rows("best_outputs", f"test/{name}")]
        self.put("best_of_n", name, "kl", [math.log(n) - (n - 1) / n for n in best])
        samples = self.rows("sft_samples", f"test/{name}")
        self.put("sft", name, "kl", [0.0] * len(samples))
        pairs = jsonl(self.folder("preferences") / f"test/{name}.jsonl")
        self.put("reward_model", name, "noise_ceiling", [float(pair["clean"]) for pair in pairs])
        told = json.loads((self.folder("evaluation") / "reward_model.json").read_text())
        bins = next(row["by_confidence"] for row in told if row["test_set"] == name)
        right = [round(b["accuracy"]["mean"] * b["accuracy"]["n"] * 2) / 2 for b in bins]
        assert sum(b["accuracy"]["n"] for b in bins) == len(pairs), f"{name}: other pairs"
        self.figures["reward_model", name, "rm_accuracy"] = (sum(right) / len(pairs), len(pairs))

    def diversity(self, name, references):
        sets = {}
        for method, node in METHODS.items():
            rows = self.rows(f"{node}_samples", f"test/{name}")
            sets[method] = [[words(output["text"]) for output in row["outputs"]] for row in rows]
            ids = [row["id"] for row in rows]
        sets["reference"] = [[words(references[id])] for id in ids]
        # The length that at least half of the texts of every method, and of the references, reach.
        lengths = [sorted(len(text) for row in own for text in row) for own in sets.values()]
        common = min(own[(len(own) - 1) // 2] for own in lengths)
        for method, own in sets.items():
            cut = [[text[:common] for text in row] for row in own]
            for ending, inputs in (("", own), ("_matched", cut)):
                for metric, measure in (("ead", ead), ("vendi", vendi)):
                    whole = f"{metric}_per_input{ending}"
                    if method != "reference":
                        self.put(method, name, whole, [measure(row) for row in inputs])
                    choices = [
                        [row[k] for row in inputs if k < len(row)] for k in range(len(inputs[0]))
                    ]
                    mean = statistics.fmean(map(measure, choices))
                    self.figures[method, name, f"{metric}_across_inputs{ending}"] = (
                        mean,
                        len(inputs),
                    )
                    first = (measure(choices[0]), len(inputs))
                    self.figures[method, name, f"{metric}_across_inputs_first{ending}"] = first


def blocks_of(page, markdown, text):
    """Every table whose title is one word: (form, metric, method, test set, cell)."""
    for block in re.findall(r"<table class=block>(.*?)</table>", page, re.S):
        title, columns = (
            re.search(r"<b>(.*?)</b>", block)[1],
            re.findall(r"<th scope=col>([^<]*)", block)[1:],
        )
        for row in block.split("<th scope=row>")[1:]:
            method, *cells = re.split("<td[^>]*>", row)
            for column, cell in zip(columns, cells):
                yield "page", title, method, column, re.sub("<[^>]*>", "", cell)
    for block in markdown.split("### ")[1:]:
        rows = [
            line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| ")
        ]
        for method, *cells in rows[1:]:
            yield from (
                ("markdown", block.split("\n")[0], method, *pair)
                for pair in zip(rows[0][1:], cells)
            )
    for block in text.split("\n\n"):
        title, *lines = block.strip().splitlines() or [""]
        while lines and lines[0].split() and not lines[0].startswith("    "):
            lines = lines[1:]
        columns = lines[0].split() if lines else []
        for line in lines[1:]:
            method, *cells = re.findall(r"(?:\[[^]]*\]|[^\s[]+)(?:\s+\[[^]]*\])?", line)
            yield from (
                ("text", title.split(":")[0], method, *pair) for pair in zip(columns, cells)
            )


def told_wrongly(cell, row):
    """Whether a cell's mean and interval are not those of the row, to the digits that it shows."""
    numbers = re.findall(r"-?\d+(?:\.\d+)?", cell)
    right = [number for number in (row["mean"], row["low"], row["high"]) if number is not None]
    near = [
        abs(float(n) - x) <= 0.5001 * 10.0 ** -len(n.partition(".")[2])
        for n, x in zip(numbers, right)
    ]
    return len(numbers) not in (1, len(right)) or not all(near)


def is_of_a_grader(metric):
    """Parts of gold, which tests of the world hold against another grader."""
    return metric.split("_")[0] in ("coverage", "invented", "repeated", "malformed", "exact")


def main():
    cache, nodes, table_csv, report, page = map(pathlib.Path, sys.argv[1:])
    study, wrong = Study(cache, nodes), []
    for name in dict.fromkeys(row["test_set"] for row in study.inputs):
        study.test_set(name)
    folder = study.folder("evaluation")
    rows = {
        (r["method"], r["test_set"], r["metric"]): r
        for r in json.loads((folder / "table.json").read_text())["rows"]
    }
    for key, row in rows.items():
        if key in study.figures:
            mean, n = study.figures[key]
            if abs(row["mean"] - mean) > 1e-9 or row["n"] != n:
                wrong.append(f"{key}: {row['mean']} of {row['n']} for {mean} of {n}")
        elif (key[0], key[2]) not in OF_A_MODEL and not is_of_a_grader(key[2]):
            wrong.append(f"{key}: nothing here works it out")
        if row["low"] is not None and not row["low"] <= row["high"]:
            wrong.append(f"{key}: its interval is from {row['low']} to {row['high']}")
    told = {metric for _, _, metric in rows}
    wrong += [
        f"{key}: not in the table" for key in study.figures if key not in rows and key[2] in told
    ]

    metrics = jsonl(folder / "metrics.jsonl")[0]
    as_rows = {tuple(name.split("/")): mean for name, mean in metrics.items() if name != "step"}
    number = lambda text: float(text) if text else None
    with open(table_csv) as file:
        lines = [line for line in csv.DictReader(file) if line["kind"] == "result"]
    of_csv = {
        (line["method"], line["test_set"], line["metric"]): [
            number(line[x]) for x in ("mean", "low", "high", "n")
        ]
        for line in lines
    }
    evaluation = json.loads(report.read_text())["evaluations"][0]["table"]["rows"]
    forms = {
        "metrics.jsonl": (as_rows, {key: row["mean"] for key, row in rows.items()}),
        "csv": (
            of_csv,
            {key: [row[x] for x in ("mean", "low", "high", "n")] for key, row in rows.items()},
        ),
        "json": (dict(enumerate(evaluation)), dict(enumerate(rows.values()))),
    }
    for form, (found, right) in forms.items():
        differ = [key for key in found.keys() | right.keys() if found.get(key) != right.get(key)]
        wrong += [f"{form}: {key} is {found.get(key)} for {right.get(key)}" for key in differ]
    cells = collections.Counter()
    texts = (
        page.read_text(),
        (folder / "table.md").read_text(),
        (folder / "table.txt").read_text(),
    )
    for form, metric, method, test_set, cell in blocks_of(*texts):
        row = rows.get((method, test_set, metric))
        if row is not None:
            cells[form] += 1
            if told_wrongly(cell, row):
                wrong.append(f"{form}: {metric} of {method} on {test_set} is {cell} for {row}")
    # A form of which next to nothing is understood would agree with anything.
    wrong += [
        f"{form}: only {cells[form]} cells"
        for form in ("page", "markdown", "text")
        if cells[form] < 100
    ]
    print(*wrong[:40], sep="\n")
    print(
        f"{len(study.figures)} of {len(rows)} figures worked out; cells:",
        dict(sorted(cells.items())),
    )
    sys.exit(bool(wrong))


main()

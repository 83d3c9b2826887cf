#!/usr/bin/env python3
"""What independent programs say of the diversity of samples: python3 independent.py FILE.jsonl [--encoder FOLDER] [--nli FOLDER]

A row is {"outputs": [texts]}, as `posttrain diversity` reads it. Prints one JSON object {metric: {"per_input": mean, "across_inputs": first}}.
Needs sacrebleu, vendi-score and scikit-learn; with --encoder sentence-transformers, with --nli transformers. Vendi scores' n-grams are of the
words that EAD counts. golden.json beside this file was made from golden.jsonl (of make_texts below) with sacrebleu 2.6, vendi-score 0.0.3,
scikit-learn 1.9 on Python 3.11.
"""
import argparse
import collections
import gzip
import itertools
import json
import math
import random

import numpy
import sacrebleu
import sklearn.feature_extraction.text
from vendi_score import vendi

VOCABULARY = 50257


def words(text):
    return text.replace(".", "").replace("\n", "").split()


def by_order(measure):
    def mean(texts):
        return sum(measure(texts, n) for n in range(1, 6)) / 5
    return mean


def ngrams(texts, n):
    return [tuple(line[at:at + n]) for line in map(words, texts) for at in range(len(line) - n + 1)]


def ead(texts, n):
    found = ngrams(texts, n)
    return len(set(found)) / (VOCABULARY * (1 - ((VOCABULARY - 1) / VOCABULARY) ** len(found))) if found else 0.0


def distinct(texts, n):
    found = ngrams(texts, n)
    return len(set(found)) / len(found) if found else 0.0


def entropy(texts, n):
    counts = collections.Counter(ngrams(texts, n)).values()
    total = sum(counts)
    return -sum(count / total * math.log(count / total) for count in counts)


def self_bleu(texts):
    if len(texts) < 2:
        return 0.0
    scores = [sacrebleu.sentence_bleu(text, texts[:at] + texts[at + 1:]).score for at, text in enumerate(texts)]
    return sum(scores) / len(scores) / 100


def ngram_vendi(texts):
    kernels = []
    for n in (1, 2):
        counter = sklearn.feature_extraction.text.CountVectorizer(analyzer=lambda text, n=n: ngrams([text], n))
        counts = counter.fit_transform(texts).toarray().astype(float)
        counts /= numpy.linalg.norm(counts, axis=1, keepdims=True)
        kernels.append(counts @ counts.T)
    return float(vendi.score_K(numpy.mean(kernels, axis=0)))


def compression(texts):
    text = " ".join(texts).encode()
    return len(text) / len(gzip.compress(text, 9))


def length(texts):
    return sum(len(words(text)) for text in texts) / len(texts)


def embedding_measures(folder):
    import sentence_transformers
    from sklearn.metrics.pairwise import cosine_similarity
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    known = {}

    def vectors(texts):
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, model.encode(new, batch_size=32)))
        return numpy.array([known[text] for text in texts], dtype=numpy.float64)

    def distance(texts):
        similarities = cosine_similarity(vectors(texts))
        return float(1 - numpy.mean(similarities[numpy.triu_indices(len(texts), 1)]))

    return {"embedding": distance, "embedding_vendi": lambda texts: float(vendi.score_X(vectors(texts), normalize=True))}


def nli_measure(folder):
    import torch
    import transformers
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    signs = {"contradiction": 1, "neutral": 0, "entailment": -1}

    @torch.no_grad()
    def judge(a, b):
        inputs = tokenizer(a + ".", b + ".", return_tensors="pt", truncation=True, max_length=512)
        probabilities = model(**inputs).logits[0].double().softmax(-1)
        best = int(probabilities.argmax())
        return signs[model.config.id2label[best].lower()] * float(probabilities[best])

    def nli(texts):
        pairs = list(itertools.combinations(texts, 2))
        return sum(judge(a, b) + judge(b, a) for a, b in pairs) / len(pairs)

    return {"nli": nli}


def make_texts():
    """Texts of a few hundred words by Zipf's law, with punctuation and repetition; seeded."""
    draw = random.Random(0)
    vocabulary = ["".join(draw.choice("bdklmnprst") + draw.choice("aeiou") for _ in range(draw.randint(1, 3))) for _ in range(400)]

    def text():
        chosen = [vocabulary[int(400 ** draw.random()) - 1] + draw.choice(["", "", "", "", ",", "'s", "-2", " 3.5", "!", "\n"])
                  for _ in range(draw.randint(3, 24))]
        return " ".join(chosen).capitalize() + "."

    rows = []
    for _ in range(12):
        outputs = [text() for _ in range(6)]
        outputs[draw.randrange(6)] = outputs[0]
        rows.append({"outputs": outputs})
    return rows


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("file", help="rows, or `golden` to write golden.jsonl and golden.json here")
    arguments.add_argument("--encoder")
    arguments.add_argument("--nli")
    arguments = arguments.parse_args()
    if arguments.file == "golden":
        with open("golden.jsonl", "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in make_texts())
        arguments.file = "golden.jsonl"
    with open(arguments.file) as lines:
        inputs = [json.loads(line)["outputs"] for line in lines if line.strip()]
    measures = {"ead": by_order(ead), "distinct": by_order(distinct), "entropy": by_order(entropy), "self_bleu": self_bleu,
                "vendi": ngram_vendi, "compression": compression, "length": length}
    if arguments.encoder:
        measures |= embedding_measures(arguments.encoder)
    first = [outputs[0] for outputs in inputs]
    found = {name: {"per_input": sum(map(measure, inputs)) / len(inputs), "across_inputs": measure(first)}
             for name, measure in measures.items()}
    if arguments.nli:
        # All pairs across inputs are too many to be judged here.
        found |= {name: {"per_input": sum(map(measure, inputs)) / len(inputs)} for name, measure in nli_measure(arguments.nli).items()}
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.file == "golden.jsonl":
        with open("golden.json", "w") as out:
            out.write(text + "\n")


main()

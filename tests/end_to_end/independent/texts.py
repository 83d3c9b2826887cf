"""Measures of texts: words, ROUGE-L (Lin 2004), EAD (Liu et al. 2022), Vendi scores (Friedman and
Dieng 2023)."""

import collections
import math
import re
import statistics

import numpy

VOCABULARY = 50257
ORDERS = range(1, 6)
# Unicode's white space, to which the separators U+001C to U+001F do not belong.
SPACE = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def split(text):
    return [word for word in SPACE.split(text) if word]


def words(text):
    """Words as EAD counts them."""
    return split(text.replace(".", "").replace("\n", ""))


def rouge_words(text):
    """As the package rouge_score has them, without stemming."""
    return re.findall("[a-z0-9]+", text.lower())


def rouge_l(text, reference):
    """F1 of the longest common subsequence of words."""
    text, reference = rouge_words(text), rouge_words(reference)
    row = [0] * (len(reference) + 1)
    for word in text:
        before = row
        row = [0]
        for at, other in enumerate(reference):
            row.append(before[at] + 1 if word == other else max(before[at + 1], row[at]))
    return 2 * row[-1] / (len(text) + len(reference)) if text and reference else 0.0


def ngrams(texts, n):
    return [tuple(line[at : at + n]) for line in texts for at in range(len(line) - n + 1)]


def expected_share(distinct, count):
    """Distinct n-grams over those expected of as many draws."""
    expected = VOCABULARY * (1 - ((VOCABULARY - 1) / VOCABULARY) ** count)
    return distinct / expected if count else 0.0


def ead_by_n(texts):
    found = [ngrams(texts, n) for n in ORDERS]
    return [expected_share(len(set(one)), len(one)) for one in found]


def ead(texts):
    return statistics.fmean(ead_by_n(texts))


def cosines(texts):
    """Mean over n = 1 and 2 of the cosines of n-gram counts."""

    def cosine(a, b):
        length = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
        return sum(x * b[gram] for gram, x in a.items()) / length if length else float(a == b)

    total = numpy.zeros((len(texts), len(texts)))
    for n in (1, 2):
        counts = [collections.Counter(ngrams([text], n)) for text in texts]
        for i, a in enumerate(counts):
            for j, b in enumerate(counts[:i]):
                total[i, j] = total[j, i] = total[i, j] + cosine(a, b)
    return total / 2 + numpy.eye(len(texts))


def vendi_of(kernel):
    """Exponential of the entropy of the eigenvalues."""
    eigenvalues = numpy.linalg.eigvalsh(kernel / len(kernel))
    return math.exp(-sum(x * math.log(x) for x in eigenvalues if x > 1e-15))


def vendi(texts):
    return vendi_of(cosines(texts))

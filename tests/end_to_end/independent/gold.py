"""The exact score of a summary of a forum post, by docs/evaluation.md, section The gold score. The
words of the world (src/world/posts/words.rs, data alone) are read; the grader is not."""

import re

SLOTS = ("who", "verb", "obj", "done", "when", "ask")
WORTH = (0.2, 0.1, 0.1, 0.2, 0.2, 0.2)


class Grader:
    def __init__(self, words_rs):
        text = re.sub(r"//[^\n]*", "", words_rs.read_text())
        listed = lambda body: re.findall(r'"([^"]*)"', body)
        lists = {
            name: listed(body)
            for name, body in re.findall(r"const (\w+): &\[&str\] =\s*&\[(.*?)\];", text, re.S)
        }
        self.values = {slot: [] for slot in SLOTS}
        self.values["verb"] += lists["VERB"]
        self.values["when"] += lists["WHEN"]
        self.values["done"] += lists["DONE"]
        self.values["ask"] += lists["ASK"]
        forums = re.findall(r'Forum \{\s*name: "\w+",(.*?)\n\s*\}', text, re.S)
        for forum in forums:
            for slot in ("who", "obj", "done", "ask"):
                self.values[slot] += listed(re.search(rf"\b{slot}: &\[(.*?)\]", forum, re.S)[1])
        assert len(forums) == 5 and all(self.values.values())
        self.by_words = {
            tuple(value.split()): (slot, value)
            for slot, values in self.values.items()
            for value in values
        }
        self.allowed = self.neighbours(lists)

    def neighbours(self, lists):
        """Pairs of words that a writer can put side by side: parts of a summary in any order, with
        `.`, `,` or `and` between them, but after a question mark no separator."""
        parts = [
            tuple(part.split())
            for name in (
                "CORE",
                "CORE_WHO",
                "CORE_OBJ",
                "TOLD_DONE",
                "TOLD_WHEN",
                "TOLD_ASK",
                "CHATTER",
            )
            for part in lists[name]
        ]
        questions = {tuple(part.split()) for part in lists["TOLD_ASK"]}
        pairs = {(".", None), ("?", None)}
        for part in parts:
            pairs.update(zip(part, part[1:]))
            pairs.update((before, part[0]) for before in (None, ".", ",", "and"))
            asks = part[-1] == "?"
            if asks or part not in questions:
                pairs.add(("?", part[0]))
            if not asks:
                pairs.update((part[-1], after) for after in (".", ",", "and"))
        for junk in lists["JUNK"]:
            sentence = (None, *junk.split(), ".")
            pairs.update(zip(sentence, sentence[1:]))
        return pairs

    def read(self, words):
        """The values that are named, in order, and the words with slots for values."""
        found, classes, at = [], [], 0
        while at < len(words):
            for length in (3, 2, 1):
                value = self.by_words.get(tuple(words[at : at + length]))
                if value and at + length <= len(words):
                    found.append(value)
                    classes.append("{%s}" % value[0])
                    at += length
                    break
            else:
                classes.append(words[at])
                at += 1
        return found, [None, *classes, None]

    def grade(self, facts, words, ended):
        """The score and its parts, by name."""
        found, classes = self.read(words)
        named = set(found)
        stated = [(slot, facts[slot]) in named for slot in SLOTS]
        coverage = sum(worth for worth, one in zip(WORTH, stated) if one)
        invented = sum(facts[slot] != value for slot, value in named)
        triples = list(zip(words, words[1:], words[2:]))
        repeated = len(found) - len(named) + len(triples) - len(set(triples))
        malformed = sum(pair not in self.allowed for pair in zip(classes, classes[1:]))
        malformed += 0 if ended else 3
        over = max(0, len(words) - 20)
        score = 2 * coverage - 1 - 0.3 * invented - 0.05 * over - 0.25 * repeated - 0.1 * malformed
        parts = {f"coverage_{slot}": float(one) for slot, one in zip(SLOTS, stated)}
        return {
            "gold": max(-1.0, min(1.0, score)),
            **parts,
            "coverage": coverage,
            "invented": float(invented),
            "repeated": float(repeated),
            "malformed": float(malformed),
        }

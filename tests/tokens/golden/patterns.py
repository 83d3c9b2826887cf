#!/usr/bin/env python3
"""Writes patterns.json: how the tokenizers library, whose regular expressions are Oniguruma's, splits texts by patterns.

    pip install tokenizers && python3 patterns.py

The patterns are those of tokenizers in use (GPT-2, GPT-4, Llama 3, Qwen2, DeepSeek, o200k), and such that other engines read otherwise:
an interval that is repeated, anchors of lines, hexadecimal digits, possessive quantifiers, sets of sets, text segments.
"""
import json
import pathlib

import tokenizers
from tokenizers import Regex, pre_tokenizers

PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "thousands": r"\A\p{Nd}{1,2}(?=\p{Nd}{3}+\z)",
    "groups": r"\d{1,3}(?=(?:\d{3})*\b)",
    "interval repeated": r"a{2}+",
    "interval possessive": r"a{1,2}+a",
    "possessive": r"a++b|a+",
    "lines": r"^\w+$",
    "text": r"\A\w+|\w+\Z",
    "hexadecimal": r"\h+",
    "hexadecimal and others": r"\h{2}|\H",
    "intersection": r"[a-z&&[^aeiou]]+",
    "posix": r"[[:alpha:]]+|[[:punct:]]",
    "ignored case": r"(?i)straße|ſ|k",
    "look behind": r"(?<=\d)[a-z]+|(?<!\w)[A-Z]",
    "named": r"(?<c>[a-z])\k<c>",
    "graphemes": r"\X",
    "line ends": r"\R",
    "atomic": r"(?>a|ab)c|ab",
    "dot": r".+",
    "dot over lines": r"(?m:.+)",
    "keep": r"a\Kb",
    "empty": r"x*",
}
TEXTS = [
    "",
    "1234567",
    "12345 12345678 1234567890123",
    "They're here, aren't they? I'LL see 1234 things.",
    "aaaaa aab abc ac ab",
    "first line\nsecond\r\nthird  \n\n  fourth",
    "cafe deadBEEF 0x1F ghi",
    "STRASSE straße ſK K\u212a",
    "e\u0301te\u0301 \U0001F468\u200D\U0001F469\u200D\U0001F467 \U0001F1E9\U0001F1EA 한국어 नमस्ते",
    "日本語とEnglish、混ぜる。 Ünïcode",
    "hello bookkeeper 3rd A1b x+y==z; foo(bar)[0]",
    "\u00a0non\u2003breaking\u3000spaces\t tabs",
    "١٢٣ ½ Ⅷ 𝟘𝟙",
]


def main():
    cases = []
    for name, pattern in PATTERNS.items():
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        for text in TEXTS:
            cases.append({"name": name, "pattern": pattern, "text": text, "pieces": [piece for piece, _ in split.pre_tokenize_str(text)]})
    golden = {"tokenizers": tokenizers.__version__, "cases": cases}
    path = pathlib.Path(__file__).with_name("patterns.json")
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()

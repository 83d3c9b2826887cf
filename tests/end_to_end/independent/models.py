"""A tokenizer (byte-level BPE) and a model (LLaMA), from their files, in float64."""

import functools
import json
import re
import struct
import unicodedata

import numpy

# Unicode's white space, to which the separators U+001C to U+001F do not belong.
SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def bytes_as_letters():
    """GPT-2's letters for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + at) for at, b in enumerate(rest)}}


@functools.cache
def pieces():
    """GPT-2's expression: contractions, letters, numbers, others, white space."""
    plane = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    of = lambda kind: "".join(x for x in plane if unicodedata.category(x)[0] == kind)
    kinds = {"L": of("L"), "N": of("N"), "S": SPACES}
    pattern = "'(?:s|t|re|ve|m|ll|d)| ?[{L}]+| ?[{N}]+| ?[^{S}{L}{N}]+|[{S}]+(?![^{S}])|[{S}]+"
    return re.compile(pattern.format(**kinds))


class Tokenizer:
    def __init__(self, folder):
        file = json.loads((folder / "tokenizer.json").read_text())
        self.ids = file["model"]["vocab"]
        pairs = (m if isinstance(m, list) else m.split(" ") for m in file["model"]["merges"])
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(pairs)}
        self.added = {token["content"]: token["id"] for token in file["added_tokens"]}
        self.letters = bytes_as_letters()
        self.eos = self.added["<eos>"]

    @functools.lru_cache(maxsize=None)
    def merged(self, piece):
        parts = [self.letters[byte] for byte in piece.encode()]
        while len(parts) > 1:
            rank, at = min(
                (self.ranks.get(pair, 10**9), at) for at, pair in enumerate(zip(parts, parts[1:]))
            )
            if rank == 10**9:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self.ids[part] for part in parts]

    @functools.lru_cache(maxsize=None)
    def encode(self, text):
        beyond = [x for x in text if x > "\uffff" and unicodedata.category(x)[0] in "LN"]
        assert not beyond, f"letters beyond the first plane: {beyond}"
        tokens = []
        for part in re.split("(" + "|".join(map(re.escape, self.added)) + ")", text):
            if part in self.added:
                tokens.append(self.added[part])
            else:
                tokens += [
                    token for piece in pieces().findall(part) for token in self.merged(piece)
                ]
        return tokens

    def pair(self, prompt, text):
        """The tokens of a prompt, and those of a text after it with the end of text. A text that
        begins with a blank is a piece apart; any other is read with the prompt where it leaves the
        prompt's tokens as they are."""
        head = self.encode(prompt)
        apart = not prompt[-1:].isspace() and text.startswith(" ")
        whole = [] if apart else self.encode(prompt + text)
        joined = not apart and whole[: len(head)] == head
        tail = whole[len(head) :] if joined else self.encode(text)
        return head, [*tail, self.eos]


class Llama:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.tokenizer = Tokenizer(folder)
        data = (folder / "model.safetensors").read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        self.tensors = {}
        for name, entry in json.loads(data[8 : 8 + size]).items():
            if name != "__metadata__":
                assert entry["dtype"] == "F32", entry
                begin, end = (8 + size + offset for offset in entry["data_offsets"])
                flat = numpy.frombuffer(data[begin:end], "<f4").astype(numpy.float64)
                self.tensors[name] = flat.reshape(entry["shape"])

    def normed(self, x, name):
        scale = numpy.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"])
        return x / scale * self.tensors[name]

    def rotated(self, x, positions):
        half = x.shape[-1] // 2
        frequencies = self.config["rope_theta"] ** (-numpy.arange(half) / half)
        angles = positions[:, None] * frequencies
        cos, sin = numpy.cos(angles)[:, None], numpy.sin(angles)[:, None]
        a, b = x[..., :half], x[..., half:]
        return numpy.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def hidden(self, tokens, past=None):
        """Hidden states of tokens after `past`, keys and values layer by layer, and the keys and
        values of both."""
        start = past[0][0].shape[0] if past else 0
        positions = numpy.arange(start, start + len(tokens))
        x = self.tensors["model.embed_tokens.weight"][numpy.array(tokens, int)]
        heads, width = self.config["num_attention_heads"], self.config["head_dim"]
        kept = []
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}."
            weight = lambda part: self.tensors[f"{name}{part}_proj.weight"].T
            y = self.normed(x, name + "input_layernorm.weight")
            q, k, v = (
                (y @ weight(f"self_attn.{part}")).reshape(len(tokens), -1, width) for part in "qkv"
            )
            q, k = self.rotated(q, positions), self.rotated(k, positions)
            if past:
                k, v = (numpy.concatenate(two) for two in zip(past[layer], (k, v)))
            kept.append((k, v))
            assert k.shape[1] == heads
            q, k, v = (x.transpose(1, 0, 2) for x in (q, k, v))
            scores = q @ k.transpose(0, 2, 1) / numpy.sqrt(width)
            scores[:, numpy.arange(k.shape[1]) > positions[:, None]] = -numpy.inf
            scores = numpy.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            mixed = (scores @ v).transpose(1, 0, 2).reshape(len(tokens), -1)
            x = x + mixed @ weight("self_attn.o")
            y = self.normed(x, name + "post_attention_layernorm.weight")
            gate = y @ weight("mlp.gate")
            x = x + (gate / (1 + numpy.exp(-gate)) * (y @ weight("mlp.up"))) @ weight("mlp.down")
        return self.normed(x, "model.norm.weight"), kept

    @functools.lru_cache(maxsize=None)
    def prompt(self, tokens):
        return self.hidden(tokens)

    @functools.lru_cache(maxsize=None)
    def score(self, prompt, text, most=10**9):
        """The scalar head's number at the last token of a text after the last `most` tokens of a
        prompt."""
        head, tail = self.tokenizer.pair(prompt, text)
        return self.scalar(head[-most:], tail)

    def score_tokens(self, prompt, tokens):
        """The same for a text that was sampled, as tokens, with or without the end of text."""
        end = [] if tokens[-1:] == [self.tokenizer.eos] else [self.tokenizer.eos]
        return self.scalar(self.tokenizer.encode(prompt), [*tokens, *end])

    def scalar(self, head, tail):
        state, _ = self.hidden(tail, self.prompt(tuple(head))[1])
        return float(state[-1] @ self.tensors["score.weight"][0])

    def logprob(self, prompt, tokens, temperature):
        """The log-probability of tokens after a prompt, in nats."""
        last, past = self.prompt(tuple(self.tokenizer.encode(prompt)))
        after = self.hidden(tokens[:-1], past)[0] if len(tokens) > 1 else last[:0]
        states = numpy.concatenate([last[-1:], after])
        logits = states @ self.tensors["model.embed_tokens.weight"].T / temperature
        logits -= logits.max(-1, keepdims=True)
        logs = logits - numpy.log(numpy.exp(logits).sum(-1, keepdims=True))
        return float(logs[numpy.arange(len(tokens)), tokens].sum())

#!/usr/bin/env python3
"""What people use, measured on the shapes of a report of `posttrain bench`, in the same way: PyTorch (cuBLASLt, flash attention, torch.compile,
fused AdamW) and transformers, with weights at random, in bf16.

    tests/gpu/yardsticks.py kernels|train|generate|ppo --rows REPORT --json FILE [--seconds S] [--tiny] [--device cuda|cpu]

Rows have the names and the shapes of the report's, so that they can be laid side by side. They are written as they come: what was measured before a
time limit is kept. PyTorch trains weights and moments in bf16 alone, which moves fewer bytes than a master in single precision does. `--tiny` is for
reports of `--quick`, whose models are tiny; `--device cpu` shows that this file runs where there is no GPU, and measures nothing worth telling.
"""

import argparse
import json
import pathlib
import re
import statistics
import sys
import time

# The exit code that says that there is nothing here to measure with.
ABSENT = 3

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("PyTorch is not installed here")
    sys.exit(ABSENT)

DEVICE = "cuda"
TINY = False
TYPE = torch.bfloat16


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def measure(body, seconds, calls_at_most=500):
    """The median time of a call: some calls between two waits, seven times."""
    def run(calls):
        synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            body()
        synchronize()
        return (time.perf_counter() - start) / calls

    run(1)
    once = run(1)
    calls = int(min(max(seconds / 7 / once, 1), calls_at_most))
    times, begun = [once] if calls == 1 else [], time.perf_counter()
    while not times or len(times) < 7 and time.perf_counter() - begun + once * calls <= seconds:
        times.append(run(calls))
    return statistics.median(times)


def random(*shape):
    return torch.randn(*shape, device=DEVICE, dtype=TYPE) * 0.02


def copies(size):
    """How many buffers of `size` bytes no cache of a device holds; 2 of tiny ones."""
    return 2 if TINY else max(1, (256 << 20) // size)


def sizes(shape):
    """`7B 4096 x 11008 x 4096` to the numbers of its product."""
    return [int(number) for number in re.search(r"(\d+(?: x \d+)*)$", shape).group(1).split(" x ")]


def product(what, shape):
    n, i, o = sizes(shape)
    by = "cuBLASLt" if DEVICE == "cuda" else "PyTorch"
    x, dout = random(n, i), random(n, o)
    if what == "linear, few rows":
        weights = [random(o, i) for _ in range(copies(2 * i * o))]
        turn = [0]

        def step():
            turn[0] += 1
            F.linear(x, weights[turn[0] % len(weights)])
        return step, by
    weight = random(o, i)
    if what == "linear":
        return lambda: F.linear(x, weight), by
    if what == "linear_backward_input":
        return lambda: dout @ weight, by
    return lambda: dout.T @ x, by


def attention(what, shape):
    sequences, length, heads, channels = (int(x) for x in re.match(r"(\d+) x (\d+), (\d+) heads of (\d+)", shape).groups())
    q, k, v = (random(sequences, heads, length, channels).requires_grad_() for _ in range(3))
    dout = random(sequences, heads, length, channels)
    flash = torch.nn.attention.SDPBackend.FLASH_ATTENTION

    def forward():
        with torch.nn.attention.sdpa_kernel(flash):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if what == "attention":
        def plain():
            with torch.no_grad():
                forward()
        return plain, "flash attention"
    out = forward()
    return lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True), "flash attention"


def cached(_, shape):
    batch, length, query, key_value, channels = (int(x) for x in re.match(r"(\d+) x (\d+), (\d+) heads on (\d+) of (\d+)", shape).groups())
    count = copies(4 * batch * length * key_value * channels)
    caches = [[random(batch, key_value, length, channels) for _ in range(2)] for _ in range(count)]
    q, turn = random(batch, query, 1, channels), [0]

    def step():
        turn[0] += 1
        k, v = caches[turn[0] % count]
        F.scaled_dot_product_attention(q, k, v, enable_gqa=query != key_value)
    return step, "scaled_dot_product_attention"


def norm(what, shape):
    n, d = sizes(shape)
    x, weight, bias, dout = random(n, d).requires_grad_(), random(d).requires_grad_(), random(d).requires_grad_(), random(n, d)
    functions = {"rms_norm": lambda: F.rms_norm(x, (d,), weight), "layer_norm": lambda: F.layer_norm(x, (d,), weight, bias)}
    name = what.removesuffix("_backward")
    compiled = torch.compile(functions[name])
    if what == name:
        def plain():
            with torch.no_grad():
                compiled()
        return plain, "torch.compile"
    out, of = functions[name](), (x, weight) if name == "rms_norm" else (x, weight, bias)
    return lambda: torch.autograd.grad(out, of, dout, retain_graph=True), "PyTorch"


def cross_entropy(_, shape):
    m, v = sizes(shape)
    logits, targets = random(m, v), torch.zeros(m, dtype=torch.long, device=DEVICE)

    def both(logits):
        logprobs = torch.log_softmax(logits.float(), -1)
        return logprobs.gather(1, targets[:, None]), -(logprobs.exp() * logprobs).sum(-1)
    compiled = torch.compile(both)
    return lambda: compiled(logits), "torch.compile"


def adamw(_, shape):
    (n,) = sizes(shape)
    weight = torch.nn.Parameter(torch.randn(n, device=DEVICE))
    weight.grad = torch.randn(n, device=DEVICE)
    optimiser = torch.optim.AdamW([weight], lr=1e-4, fused=True)
    return optimiser.step, "fused AdamW"


def copy(_, shape):
    (n,) = sizes(shape)
    x, out = random(n), random(n)
    return lambda: out.copy_(x), "PyTorch"


KERNELS = {
    "linear": product, "linear_backward_input": product, "linear_backward_weight": product, "linear, few rows": product,
    "attention": attention, "attention_backward": attention, "attention_cached": cached, "rms_norm": norm, "rms_norm_backward": norm,
    "layer_norm": norm, "layer_norm_backward": norm, "token_logprobs": cross_entropy, "adamw": adamw, "copy": copy,
}


def kernels(rows, seconds, write):
    for row in rows:
        make = KERNELS.get(row["what"])
        if make:
            try:
                body, by = make(row["what"], row["shape"])
                write(row, measure(body, seconds), by)
            except (RuntimeError, torch.cuda.OutOfMemoryError) as error:
                print(row["what"], row["shape"], error, flush=True)
            del make
            body = None
            torch.cuda.empty_cache()


def model(name):
    """A model of transformers of this size, or a tiny one in its place, with random weights; the lowest blocks of 7B frozen."""
    import transformers as t
    tiny = {
        "124M": {"vocab_size": 201, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 48, "bos_token_id": None,
                 "eos_token_id": None},
        "1.3B": {"vocab_size": 201, "max_position_embeddings": 64, "hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 48,
                 "num_attention_heads": 4, "word_embed_proj_dim": 32},
        "7B": {"vocab_size": 128, "max_position_embeddings": 64, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48,
               "num_attention_heads": 4, "num_key_value_heads": 4, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
    }[name] if TINY else {}
    config = {
        "124M": lambda: t.GPT2Config(**{**dict(vocab_size=50257, n_positions=1024, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0), **tiny}),
        "1.3B": lambda: t.OPTConfig(**{**dict(vocab_size=50272, hidden_size=2048, num_hidden_layers=24, ffn_dim=8192, num_attention_heads=32,
                                              max_position_embeddings=2048, word_embed_proj_dim=2048, dropout=0.0), **tiny}),
        "7B": lambda: t.LlamaConfig(**{**dict(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
                                              num_attention_heads=32, max_position_embeddings=4096), **tiny}),
    }[name]()
    torch.set_default_dtype(TYPE)
    try:
        with torch.device(DEVICE):
            made = t.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    finally:
        torch.set_default_dtype(torch.float32)
    if name == "7B":
        for parameter in made.parameters():
            parameter.requires_grad_(False)
        for layer in made.model.layers[int((0.5 if TINY else 0.8) * len(made.model.layers)):]:
            layer.requires_grad_(True)
        made.model.norm.requires_grad_(True)
    made.generation_config.pad_token_id, made.generation_config.eos_token_id = 0, None
    return made


def optimiser_of(*models):
    trained = [parameter for made in models for parameter in made.parameters() if parameter.requires_grad]
    return trained, torch.optim.AdamW(trained, lr=1e-6, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def tokens_of(made, count, length):
    return torch.randint(0, made.config.vocab_size, (count, length), device=DEVICE)


def train(rows, seconds, write):
    for row in rows:
        name, count, length = re.match(r"(\S+), (\d+) x (\d+)", row["shape"]).groups()
        made = model(name).train()
        trained, optimiser = optimiser_of(made)
        tokens = tokens_of(made, int(count), int(length))

        def step(run):
            loss = run(input_ids=tokens, labels=tokens, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        eager = measure(lambda: step(made), seconds)
        write(row, eager, "transformers, eager")
        compiled = torch.compile(made)
        quick = measure(lambda: step(compiled), seconds)
        if quick < eager:
            write(row, quick, "transformers, torch.compile")
        del made, compiled, trained, optimiser, step
        torch.compiler.reset()
        torch.cuda.empty_cache()


def generation(made, tokens, new):
    with torch.no_grad():
        return made.generate(tokens, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=new, min_new_tokens=new)


def generate(rows, seconds, write):
    made, of = None, None
    for row in [row for row in rows if row["what"] == "generation"]:
        name, batch, prompt, many = re.match(r"(\S+), batch (\d+), (\d+) and (\d+) tokens", row["shape"]).groups()
        if of != name:
            made = None
            torch.cuda.empty_cache()
            made, of = model(name).eval(), name
        tokens, many = tokens_of(made, int(batch), int(prompt)), int(many)
        few = min(8, many // 2)
        short, long = (measure(lambda: generation(made, tokens, new), 0.0) for new in (few, many))
        write(row, long, "transformers generate")
        step = next(other for other in rows if other["what"] == "decode step" and other["shape"] == f"{name}, batch {batch}")
        write(step, (long - short) / (many - few), "transformers generate")


def scored(made, sequences, prompt):
    """Log-probabilities of the tokens after the prompt, eight sequences at a time."""
    out = []
    for part in sequences.split(8):
        logits = made(input_ids=part, use_cache=False).logits[:, prompt - 1:-1]
        out.append(torch.log_softmax(logits.float(), -1).gather(-1, part[:, prompt:, None])[..., 0])
    return torch.cat(out)


class Scalar(torch.nn.Module):
    """A trunk with a head of one number a position."""

    def __init__(self, name):
        super().__init__()
        whole = model(name)
        self.trunk = whole.base_model
        self.head = torch.nn.Linear(getattr(whole.config, "word_embed_proj_dim", whole.config.hidden_size), 1, device=DEVICE, dtype=TYPE)

    def forward(self, tokens):
        return torch.cat([self.head(self.trunk(input_ids=part, use_cache=False).last_hidden_state)[..., 0] for part in tokens.split(8)])


def ppo(rows, seconds, write):
    """A step as TRL's trainer does it: policy, reference, critic and reward model are separate networks."""
    for row in [row for row in rows if row["what"] == "ppo step"]:
        name, count, prompt, new, updates = re.match(r"(\S+), (\d+) x \((\d+) \+ (\d+)\), (\d+) updates", row["shape"]).groups()
        count, prompt, new, updates = int(count), int(prompt), int(new), int(updates)
        try:
            policy, reference, critic, reward = model(name), model(name), Scalar(name), Scalar(name)
            trained, optimiser = optimiser_of(policy, critic)
            prompts = tokens_of(policy, count, prompt)

            def step():
                sequences = generation(policy, prompts, new)
                with torch.no_grad():
                    old, base = scored(policy, sequences, prompt), scored(reference, sequences, prompt)
                    values, score = critic(sequences)[:, prompt - 1:-1], reward(sequences)[:, -1]
                    rewards = -0.05 * (old - base)
                    rewards[:, -1] += score
                    advantages, last = torch.zeros_like(rewards), 0.0
                    for at in reversed(range(new)):
                        after = values[:, at + 1] if at + 1 < new else 0.0
                        last = rewards[:, at] + after - values[:, at] + 0.95 * last
                        advantages[:, at] = last
                    returns = advantages + values
                    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
                # Two epochs of two minibatches, or as many as there are.
                for update in range(updates):
                    half = slice(update % 2 * count // 2, (update % 2 + 1) * count // 2)
                    for part in range(half.start, half.stop, 8):
                        some = slice(part, min(part + 8, half.stop))
                        ratio = (scored(policy, sequences[some], prompt) - old[some]).exp()
                        loss = torch.max(-advantages[some] * ratio, -advantages[some] * ratio.clamp(0.8, 1.2)).mean()
                        value = critic(sequences[some])[:, prompt - 1:-1]
                        (loss + 0.05 * (value - returns[some]).square().mean()).backward()
                    torch.nn.utils.clip_grad_norm_(trained, 1.0)
                    optimiser.step()
                    optimiser.zero_grad(set_to_none=True)
            write(row, measure(step, seconds), "TRL-style, transformers")
        except torch.cuda.OutOfMemoryError as error:
            print(row["shape"], error, flush=True)
        policy = reference = critic = reward = trained = optimiser = step = None
        torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kernels", "train", "generate", "ppo"])
    parser.add_argument("--rows", required=True)
    parser.add_argument("--json", required=True)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--tiny", action="store_true", help="tiny models, as those of `posttrain bench --quick`")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options = parser.parse_args()
    global DEVICE, TINY
    DEVICE, TINY = options.device, options.tiny
    if DEVICE == "cuda" and not torch.cuda.is_available():
        print("PyTorch sees no device here")
        sys.exit(ABSENT)
    report = json.loads(pathlib.Path(options.rows).read_text())
    found = {}

    def write(row, seconds, by):
        found[row["what"], row["shape"]] = {"what": row["what"], "shape": row["shape"], "seconds": seconds, "by": by}
        path = pathlib.Path(options.json)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(list(found.values())))
        new.replace(path)
        print(row["what"], row["shape"], f"{seconds * 1e3:.4f} ms", by, flush=True)
    globals()[options.what](report["rows"], options.seconds, write)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes whole trajectories of training, computed in float64 by PyTorch.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 safetensors==0.8.0 numpy==2.4.6
    venv/bin/python make.py

`inputs/` holds a tiny tokenizer, policies, a reward model and datasets. `cases/NAME.json` holds a
stage kind, its config, the metrics of every step and, of PPO, every rollout; NAME.safetensors holds
the final weights. Paths in a config are names in `inputs/`; `reference_policy` is that of
`reference_logprobs`, whose numbers are in `reference`, or of `kto` in `references`, by split: those
of the answers of a row, then those of its prompt with answers to other prompts.

Everything is computed from the rules of the sources that `rules.py`, `pairs.py`,
`labelled.py`, `groups.py`, `diversity.py` and the functions below name:
the transformer is Llama's (Touvron et al. 2023), gradients are autograd's, updates are those of
torch.optim.AdamW with the matrices in the groups that decay, a sequence is never padded. Rollouts
are drawn anew by the counter-based generator (`draws.py`). The order of rows, prompts and
minibatches is the program's choice, which src/data/batches.rs and src/train/ppo.rs document.

A decision that float32 could take otherwise (a draw, a clip) must have a margin of `MARGIN`.
"""

import json
import math
import pathlib
import struct

import numpy
import torch
from safetensors.numpy import save

import diversity
import groups
from draws import Draws, batches
from labelled import kto_loss, partner, reference_point
from pairs import pair_loss, reward
from rules import (
    PRESETS,
    adapted,
    estimate,
    gae_positions,
    objective,
    optimised_score,
)

torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent
PAD, EOS, CHARACTERS = 0, 1, " .abcdefghijklmnop"
VOCABULARY, WIDTH, LAYERS, HEADS, INNER, CONTEXT = len(CHARACTERS) + 2, 8, 2, 2, 12, 64
CHANNELS, EPSILON, THETA = WIDTH // HEADS, 1e-5, 1e4
MARGIN = 1e-5
SCORE, SCORE_BIAS, EMBEDDING = "score.weight", "score.bias", "model.embed_tokens.weight"
LAYER = {
    "input_layernorm": (WIDTH,),
    "post_attention_layernorm": (WIDTH,),
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (CHANNELS, WIDTH),
    "self_attn.v_proj": (CHANNELS, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}
SHAPES = {EMBEDDING: (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)} | {
    f"model.layers.{at}.{name}.weight": shape
    for at in range(LAYERS)
    for name, shape in LAYER.items()
}


# ---- the model


def normed(x, weight):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPSILON) * weight


def rotated(x):
    """Rotary positions (Su et al. 2021): channel j turns with channel j + CHANNELS / 2."""
    half = CHANNELS // 2
    frequency = THETA ** (-torch.arange(half, dtype=torch.float64) * 2 / CHANNELS)
    angle = torch.arange(len(x), dtype=torch.float64)[:, None, None] * frequency
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def hidden(p, tokens):
    """[n,d]: what heads read."""
    n, x = len(tokens), p[EMBEDDING][tokens]
    later = torch.ones(n, n).triu(1).bool()
    for at in range(LAYERS):
        w = lambda name: p[f"model.layers.{at}.{name}.weight"]
        h = normed(x, w("input_layernorm"))
        q, k = (
            rotated((h @ w("self_attn.q_proj").T).view(n, HEADS, -1)),
            h @ w("self_attn.k_proj").T,
        )
        k, v = rotated(k.view(n, 1, -1)), (h @ w("self_attn.v_proj").T).view(n, 1, -1)
        scores = torch.einsum("ihc,jgc->hij", q, k) / math.sqrt(CHANNELS)
        weights = scores.masked_fill(later, -math.inf).softmax(-1)
        x = x + torch.einsum("hij,jgc->ihc", weights, v).reshape(n, -1) @ w("self_attn.o_proj").T
        h = normed(x, w("post_attention_layernorm"))
        gate = torch.nn.functional.silu(h @ w("mlp.gate_proj").T) * (h @ w("mlp.up_proj").T)
        x = x + gate @ w("mlp.down_proj").T
    return normed(x, p["model.norm.weight"])


def logprobs(p, states, temperature=1.0):
    """[n,v]; the head is the embedding."""
    return (states @ p[EMBEDDING].T / temperature).log_softmax(-1)


def scalars(p, states):
    values = states @ p[SCORE][0]
    return values + p[SCORE_BIAS] if SCORE_BIAS in p else values


def score(p, tokens):
    return scalars(p, hidden(p, tokens)[-1])


def copied(p):
    return {name: tensor.detach().clone() for name, tensor in p.items()}


# ---- the optimiser


def rate(optimiser, step, total):
    """Linear warm-up from 1 / (w + 1) of the peak, then to the final ratio over what is left."""
    schedule = optimiser.get("schedule", {})
    warmup, final = schedule.get("warmup", {"steps": 0}), schedule.get("final_ratio", 0.0)
    warmup = warmup["steps"] if "steps" in warmup else round(warmup["fraction"] * total)
    done = (step - warmup) / max(total - warmup, 1)
    left = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    share = left[schedule.get("shape", "cosine")]
    share = share if schedule.get("shape") == "constant" else final + (1 - final) * share
    return optimiser["learning_rate"] * ((step + 1) / (warmup + 1) if step < warmup else share)


class Trained:
    """Parameters in training. The lowest blocks, the embedding and its head may be frozen."""

    def __init__(self, p, optimiser, frozen=0.0, head_ratio=1.0):
        self.p, self.clip = copied(p), optimiser.get("clip_norm", 1.0)
        still = [f"model.layers.{at}." for at in range(int(frozen * LAYERS))] + [EMBEDDING] * (
            frozen > 0
        )
        self.learn = [name for name in self.p if not name.startswith(tuple(still))]
        groups = []
        for name in self.learn:
            tensor, decay = self.p[name].requires_grad_(), optimiser.get("weight_decay", 0.0)
            ratio = head_ratio if name in (SCORE, SCORE_BIAS) else 1.0
            groups.append(
                dict(params=[tensor], ratio=ratio, weight_decay=decay if tensor.dim() > 1 else 0)
            )
        betas = (optimiser.get("beta1", 0.9), optimiser.get("beta2", 0.999))
        epsilon = optimiser.get("epsilon", 1e-8)
        self.adam = torch.optim.AdamW(groups, betas=betas, eps=epsilon, foreach=False)

    def update(self, loss, learning_rate, only=None):
        """One step on `loss`; returns the global gradient norm, which is taken before clipping."""
        names = [name for name in self.learn if only is None or name in only]
        self.adam.zero_grad(set_to_none=True)
        tensors = [self.p[name] for name in names]
        gradients = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
        gradients = [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, gradients)]
        norm = math.sqrt(sum((g * g).sum().item() for g in gradients))
        scale = self.clip / norm if self.clip is not None and norm > self.clip else 1.0
        for tensor, gradient in zip(tensors, gradients):
            tensor.grad = gradient * scale
        for group in self.adam.param_groups:
            group["lr"] = learning_rate * group["ratio"]
        self.adam.step()
        return norm


# ---- texts


def encode(text):
    return [CHARACTERS.index(character) + 2 for character in text]


def rows_of(dataset, split):
    text = (HERE / "inputs" / dataset / f"{split}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def prompt_of(row, config):
    tokens = encode(row["prompt"])
    return tokens[-config["max_prompt_tokens"] :] if config.get("max_prompt_tokens") else tokens


# ---- the stages


def sft(config):
    rows = rows_of(config["dataset"], "sft")
    prompts = [prompt_of(row, config) for row in rows]
    sequences = [a + encode(row["completion"]) + [EOS] for a, row in zip(prompts, rows)]
    lengths, seed = [len(sequence) for sequence in sequences], config.get("seed", 0)
    order = [
        b
        for e in range(config.get("epochs", 1))
        for b in batches(lengths, config["batch_size"], seed, e)
    ]
    model, metrics = (
        Trained(inputs(config["policy"]), config["optimiser"], config.get("frozen", 0)),
        [],
    )
    for step, batch in enumerate(order):
        losses, entropies = [], []
        for row in batch:
            first, tokens = max(len(prompts[row]), 1), sequences[row]
            logp = logprobs(model.p, hidden(model.p, tokens))[first - 1 : -1]
            losses.append(-logp[range(len(logp)), tokens[first:]])
            entropies.append(-(logp.exp() * logp).sum(-1))
        loss, lr = torch.cat(losses).mean(), rate(config["optimiser"], step, len(order))
        entropy = torch.cat(entropies).mean().item()
        norm = model.update(loss, lr)
        metrics.append(
            {
                "loss": loss.item(),
                "entropy": entropy,
                "num_tokens": sum(map(len, losses)),
                "grad_norm": norm,
                "learning_rate": lr,
            }
        )
    return dict(metrics=metrics), model.p


def reward_model(config):
    """Bradley-Terry; a prompt weighs the same however many pairs it has (Ouyang et al. 2022, 3.5);
    centring as TRL and Eisenstein et al. 2023, eq. 2."""
    groups, seed, centre = {}, config.get("seed", 0), config.get("center_rewards_coefficient", 0)
    for row in rows_of(config["dataset"], "preferences"):
        texts, pairs = groups.setdefault(row["prompt"], ({}, []))
        for side in ("chosen", "rejected"):
            texts.setdefault(row[side], prompt_of(row, config) + encode(row[side]) + [EOS])
        pairs.append((row["chosen"], row["rejected"]))
    groups = list(groups.values())
    lengths = [sum(map(len, texts.values())) for texts, _ in groups]
    order = [
        b
        for e in range(config.get("epochs", 1))
        for b in batches(lengths, config["batch_size"], seed, e)
    ]
    head = Draws(seed, "init scalar.weight").normals(0, WIDTH)
    head = torch.tensor([head], dtype=torch.float64) / math.sqrt(WIDTH + 1)
    policy = inputs(config["policy"]) | {SCORE: head.float().double()}
    model, metrics = Trained(policy, config["optimiser"], config.get("frozen", 0)), []
    scored = lambda texts: {text: score(model.p, tokens) for text, tokens in texts.items()}
    for step, batch in enumerate(order):
        losses, chosen, rejected = [], [], []
        for texts, pairs in (groups[at] for at in batch):
            scores = scored(texts)
            c, r = (torch.stack([scores[pair[side]] for pair in pairs]) for side in (0, 1))
            losses.append((torch.nn.functional.softplus(r - c) + centre * (c + r) ** 2).mean())
            chosen, rejected = chosen + c.tolist(), rejected + r.tolist()
        loss, lr = torch.stack(losses).mean(), rate(config["optimiser"], step, len(order))
        norm, margins = model.update(loss, lr), [c - r for c, r in zip(chosen, rejected)]
        assert all(abs(margin) > MARGIN for margin in margins)
        n, both = len(margins), chosen + rejected
        metrics.append(
            {
                "loss": loss.item(),
                "accuracy": sum(margin > 0 for margin in margins) / n,
                "margin": sum(margins) / n,
                "min_reward": min(both),
                "mean_reward": sum(both) / 2 / n,
                "max_reward": max(both),
                "num_pairs": n,
                "num_prompts": len(batch),
                "grad_norm": norm,
                "learning_rate": lr,
            }
        )
    scores = []
    with torch.no_grad():
        for texts, pairs in groups[: config.get("normalisation_prompts", 500)]:
            own = scored(texts)
            scores += [own[text] for pair in pairs for text in pair]
    scores = torch.stack(scores)
    normalisation = dict(mean=scores.mean().item(), std=scores.std().item())
    return dict(metrics=metrics, normalisation=normalisation), model.p


def dpo(config, reference_policy):
    rows = rows_of(config["dataset"], "preferences")
    prompts = [prompt_of(row, config) for row in rows]
    sequences = [
        [a + encode(row[side]) + [EOS] for side in ("chosen", "rejected")]
        for a, row in zip(prompts, rows)
    ]

    def answers(p, at):
        first = len(prompts[at])
        of = lambda tokens: logprobs(p, hidden(p, tokens))[first - 1 : -1]
        logp = [(of(tokens), tokens[first:]) for tokens in sequences[at]]
        return [own[range(len(own)), tokens].sum() for own, tokens in logp]

    told, references = {}, [[0.0, 0.0]] * len(rows)
    if reference_policy is not None:
        with torch.no_grad():
            p = inputs(reference_policy)
            references = [[x.item() for x in answers(p, at)] for at in range(len(rows))]
        ids = [row["id"] for row in rows]
        told = dict(reference_policy=reference_policy, reference=dict(zip(ids, references)))
    counts = [[len(tokens) - len(a) for tokens in s] for a, s in zip(prompts, sequences)]
    lengths, seed = [sum(map(len, s)) for s in sequences], config.get("seed", 0)
    order = [
        b
        for e in range(config.get("epochs", 1))
        for b in batches(lengths, config["batch_size"], seed, e)
    ]
    model, metrics = (
        Trained(inputs(config["policy"]), config["optimiser"], config.get("frozen", 0)),
        [],
    )
    for step, batch in enumerate(order):
        losses, rewards, logps = [], [], []
        for at in batch:
            p, ref, n = answers(model.p, at), references[at], counts[at]
            losses.append(pair_loss(config, p, ref, n))
            logps.append([x.item() for x in p])
            rewards.append([reward(config, *of).item() for of in zip(p, ref, n)])
            if config["loss"] == "hinge":
                margin(rewards[-1][0] - rewards[-1][1], 1)
        gaps = [c - r for c, r in rewards]
        assert all(gap == 0 or abs(gap) > MARGIN for gap in gaps), gaps
        loss, lr = torch.stack(losses).mean(), rate(config["optimiser"], step, len(order))
        mean = lambda numbers: sum(numbers) / len(batch)
        metrics.append(
            {
                "loss": loss.item(),
                "rewards/chosen": mean([c for c, _ in rewards]),
                "rewards/rejected": mean([r for _, r in rewards]),
                "rewards/margins": mean(gaps),
                "rewards/accuracies": mean([0.5 if gap == 0 else float(gap > 0) for gap in gaps]),
                "logps/chosen": mean([c for c, _ in logps]),
                "logps/rejected": mean([r for _, r in logps]),
                "num_pairs": len(batch),
                "grad_norm": model.update(loss, lr),
                "learning_rate": lr,
            }
        )
    return dict(told, metrics=metrics), model.p


def kto(config, reference_policy):
    has_z0 = config.get("z0") != "none"
    names = dict.fromkeys([config["desirable"], config["undesirable"]])
    p, rows, references = inputs(reference_policy), [], {}

    def answer(p, prompt, tokens):
        logp = logprobs(p, hidden(p, prompt + tokens))[len(prompt) - 1 : -1]
        return logp[range(len(tokens)), tokens].sum()

    def referenced(prompt, tokens):
        with torch.no_grad():
            return prompt, tokens, answer(p, prompt, tokens).item()

    for split in names:
        read = rows_of(config["dataset"], split)
        prompts, own = [prompt_of(row, config) for row in read], {row["id"]: [] for row in read}
        others = {row["id"]: [] for row in read}
        columns = ("chosen", "rejected") if "chosen" in read[0] else ("completion",)
        for column in columns:
            answers = [encode(row[column]) + [EOS] for row in read]
            desirable = column == "chosen" or (
                column == "completion" and split == config["desirable"]
            )
            is_used = split == config["desirable" if desirable else "undesirable"]
            for at, row in enumerate(read):
                found = [referenced(prompts[at], answers[at])]
                own[row["id"]].append(found[0][2])
                if has_z0:
                    other = partner(prompts, answers, at, CONTEXT)
                    found.append(referenced(prompts[at], answers[other]))
                    others[row["id"]].append(found[1][2])
                if is_used:
                    place = (list(names).index(split), at, columns.index(column))
                    rows.append((place, desirable, found))
        references[split] = {name: own[name] + others[name] for name in own}
    rows = [row[1:] for row in sorted(rows, key=lambda row: row[0])]
    lengths = [sum(len(a) + len(b) for a, b, _ in found) for _, found in rows]
    order = [
        b
        for e in range(config.get("epochs", 1))
        for b in batches(lengths, config["batch_size"], config.get("seed", 0), e)
    ]
    model, metrics = (
        Trained(inputs(config["policy"]), config["optimiser"], config.get("frozen", 0)),
        [],
    )
    mean = lambda numbers: sum(numbers) / len(numbers)
    for step, batch in enumerate(order):
        ratio = lambda prompt, tokens, ref: answer(model.p, prompt, tokens) - ref
        z0 = reference_point(config, [ratio(*rows[at][1][1]) for at in batch if has_z0])
        losses, rewards, logps = [], {True: [], False: []}, {True: [], False: []}
        for at in batch:
            desirable, found = rows[at]
            h = ratio(*found[0])
            losses.append(kto_loss(config, h, z0, desirable))
            rewards[desirable].append(config["beta"] * h.item())
            logps[desirable].append(h.item() + found[0][2])
        loss, lr = torch.stack(losses).mean(), rate(config["optimiser"], step, len(order))
        line = {"loss": loss.item(), "kl": z0.item()}
        for desirable, side in ((True, "chosen"), (False, "rejected")):
            if rewards[desirable]:
                line[f"rewards/{side}"] = mean(rewards[desirable])
                line[f"logps/{side}"] = mean(logps[desirable])
            line["num_desirable" if desirable else "num_undesirable"] = len(rewards[desirable])
        if rewards[True] and rewards[False]:
            line["rewards/margins"] = line["rewards/chosen"] - line["rewards/rejected"]
        line |= {"grad_norm": model.update(loss, lr), "learning_rate": lr}
        metrics.append(line)
    told = dict(reference_policy=reference_policy, references=references)
    return dict(told, metrics=metrics), model.p


def margin(x, bound):
    assert abs(x - bound) > MARGIN, (x, bound)


def sampled(p, prompt, config, row, draws):
    """Tokens by inversion of the cumulative distribution, their log-probabilities, if EOS came."""
    tokens, logp = [], []
    while len(tokens) < config["max_new_tokens"] and EOS not in tokens:
        own = logprobs(p, hidden(p, prompt + tokens)[-1], config["temperature"])
        uniform, total = draws.uniform(row, len(tokens)), own.exp().cumsum(0).tolist()
        token = next(at for at, mass in enumerate(total) if mass > uniform)
        for bound in total[max(token - 1, 0) : token + 1]:
            margin(bound, uniform)
        tokens.append(token)
        logp.append(own[token].item())
    return tokens, logp, EOS in tokens


def convention(config):
    """The preset with the keys that the config gives otherwise."""
    rule, given = dict(PRESETS[config.get("compat")]), dict(config.get("conventions", {}))
    kl = given.pop("kl", {})
    rule.update({"kl": kl.get("estimator", rule["kl"])}, **kl.get("clamp", {}))
    names = dict(gamma="gamma", reward_whitening="whiten_rewards", whitening="whiten")
    rule.update(
        {"lam": given.pop("lambda", rule["lam"])},
        **{names[key]: value for key, value in given.items()},
    )
    return rule


class Varied:
    """Annealed KL, diversity in the objective and the entropy bonus (He et al. 2025)."""

    def begin_varied(self):
        self.bonus = self.config.get("entropy")
        self.entropy_coef, self.seen = (self.bonus or {}).get("coef", 0), None

    def kl_coef(self, step):
        kl = self.config["kl"]
        if "anneal" not in kl:
            return kl["coef"]
        over = kl["anneal"].get("over") or self.config["steps"] - 1
        return kl["coef"] + (kl["anneal"]["to"] - kl["coef"]) * min(step / over, 1)

    def shape(self, batch, places):
        """Rewards after what is done for diversity, and its metrics."""
        varied, told = self.config.get("diversity"), []
        for r in batch:
            r["text"] = "".join(CHARACTERS[t - 2] for t in r["tokens"][r["prompt"] :] if t > EOS)
            r["shaped"] = r["reward"]
        if not varied:
            return {}
        for own in places:
            group = [batch[at] for at in own]
            after, seen = diversity.shaped(varied, group, self.config["kl"]["coef"])
            told += seen
            for r, reward in zip(group, after):
                r["shaped"] = reward
        metrics = {"objective/shaped_scores": sum(r["shaped"] for r in batch) / len(batch)}
        name = diversity.FIGURES.get(*varied)
        return metrics | ({name: sum(told) / len(told)} if name else {})

    def bonus_applied(self):
        """The coefficient of the entropy bonus of a step, as a metric."""
        if not self.bonus:
            return {}
        target = self.bonus.get("target")
        above = target and self.seen is not None and self.seen > target["entropy"]
        self.applied = 0.0 if above else self.entropy_coef
        return {"policy/entropy_coef": self.applied}

    def bonus_after(self, entropy):
        target = (self.bonus or {}).get("target")
        if target:
            margin(entropy, target["entropy"])
            way = 1 if entropy < target["entropy"] else -1
            moved = self.entropy_coef + way * target["step"]
            self.entropy_coef = min(max(moved, target.get("least", 0)), target.get("most", 1))
            self.seen = entropy


class Ppo(Varied):
    """Schulman et al. 2017. A shared critic is a zero head on the policy; a separate one begins as
    the reward model with normalised scores (Huang et al. 2024)."""

    def __init__(self, config):
        self.config, self.rule = config, convention(config)
        self.reward = inputs(config["reward_model"])
        self.normal = json.loads(
            (HERE / "inputs" / config["reward_model"] / "normalisation.json").read_text()
        )
        self.reference, self.coef = inputs(config["policy"]), config["kl"]["coef"]
        self.start, self.scores, self.ended = self.reference, [], False
        value, frozen = config.get("value", {}), config.get("frozen", 0)
        clip = value.get("clip", {})
        self.value_range, self.value_coef = clip.get("range", 0.2), clip.get("coef", 0.1)
        self.warmup, ratio = value.get("warmup", 0), value.get("head_ratio", 1.0)
        policy, self.critic = dict(self.reference), None
        if value.get("critic") == "separate":
            weight, bias = (
                self.reward[SCORE] / self.normal["std"],
                -self.normal["mean"] / self.normal["std"],
            )
            head = {SCORE: weight, SCORE_BIAS: torch.tensor([bias], dtype=torch.float64)}
            head = {name: tensor.float().double() for name, tensor in head.items()}
            self.critic = Trained(self.reward | head, config["optimiser"], frozen, ratio)
        else:
            policy |= {SCORE: torch.zeros(1, WIDTH).double(), SCORE_BIAS: torch.zeros(1).double()}
        self.policy = Trained(policy, config["optimiser"], frozen, ratio)
        self.prompts = rows_of(config["dataset"], "prompts")
        self.acted = []
        self.begin_varied()

    def values(self, tokens):
        p = (self.critic or self.policy).p
        return scalars(p, hidden(p, tokens))

    def rollout(self, row, at, draws):
        config, prompt = self.config, prompt_of(row, self.config)
        tokens, logp, ended = sampled(self.policy.p, prompt, config, at, draws)
        whole, first, limit = prompt + tokens, len(prompt), config["max_new_tokens"]
        under = lambda p: logprobs(p, hidden(p, whole), config["temperature"])[
            range(first - 1, len(whole) - 1), tokens
        ].tolist()
        # Values behind the end are those of a sequence that is filled with pad tokens.
        filled = whole + [PAD] * (limit - len(tokens) if self.rule["padded"] else 0)
        raw = score(self.reward, whole if ended else whole + [EOS]).item()
        return dict(
            id=row["id"],
            prompt=first,
            tokens=whole,
            logp=logp,
            ended=ended,
            limit=limit,
            ref=under(self.reference),
            start=under(self.start),
            filled=filled,
            values=self.values_before(filled, first, len(tokens)),
            score=(raw - self.normal["mean"]) / self.normal["std"],
        )

    def values_before(self, filled, first, tokens):
        positions = gae_positions(self.rule, tokens, self.config["max_new_tokens"])
        return self.values(filled)[first - 1 : first - 1 + positions].tolist()

    def scaled(self, batch):
        """The scores that rewards are made of: divided by the deviation of all so far (numpy's,
        unbiased), then clipped; and the metrics of that."""
        scores = [r["shaped"] for r in batch]
        self.scores += scores
        scaling = self.config.get("reward_scaling")
        if scaling is None:
            return scores, {}
        by, most = 1.0, scaling.get("clip") or math.inf
        if scaling.get("scale") == "running_std":
            by = float(numpy.std(self.scores, ddof=1))
        scores = [score / by for score in scores]
        for score in scores:
            margin(abs(score), most)
        clipped = [min(max(score, -most), most) for score in scores]
        return clipped, {
            "objective/scaled_scores": sum(clipped) / len(clipped),
            "reward_scaling/divisor": by,
            "reward_scaling/clipfrac": sum(a != b for a, b in zip(scores, clipped)) / len(scores),
        }

    def estimated(self, batch, scores):
        """Gives the responses their advantages and returns."""
        kept = dict(self.rule, missing=("keep", 0.0))
        coef = 0.0 if self.in_loss else self.coef
        own = [dict(r, score=score) for r, score in zip(batch, scores)]
        for r, advantages, returns in zip(batch, *estimate(own, coef, kept)):
            r.update(advantages=advantages, returns=returns)

    @property
    def in_loss(self):
        return self.config["kl"].get("in") == "loss"

    def minibatch(self, members, tally, learning_rate, warming):
        clip = self.config.get("policy_clip", {})
        epsilon, dual = clip.get("range", 0.2), clip.get("dual")
        upper = clip.get("high", epsilon)
        policy_losses, value_losses, kls, entropies = [], [], [], []
        for r in members:
            first, tokens = r["prompt"], r["tokens"]
            states = hidden(self.policy.p, tokens)
            own = logprobs(self.policy.p, states[first - 1 : -1], self.config["temperature"])
            entropies.append(-(own.exp() * own).sum(-1))
            tally["entropy"] += entropies[-1].tolist()
            new = own[range(len(own)), tokens[first:]]
            change = new - torch.tensor(r["logp"], dtype=torch.float64)
            if self.in_loss:
                estimator = dict(estimator=self.config["kl"].get("estimator", "k3"))
                ref = torch.tensor(r["ref"], dtype=torch.float64)
                kls.append(groups.kl_in_loss(new, ref, estimator))
                tally["kl"] += kls[-1].tolist()
            ratio, advantages = change.exp(), torch.tensor(r["advantages"], dtype=torch.float64)
            free, held = -advantages * ratio, -advantages * ratio.clamp(1 - epsilon, 1 + upper)
            loss = torch.maximum(free, held)
            if dual is not None:
                bound = torch.where(advantages < 0, -advantages * dual, math.inf)
                tally["dual"] += [float(x) for x in loss > bound]
                loss = torch.minimum(loss, bound)
            policy_losses.append(loss)
            tally["change"] += change.tolist()
            tally["ratio"] += ratio.tolist()
            tally["clipped"] += [float(x) for x in held > free]
            tally["policy"] += loss.tolist()
            for x in ratio.tolist():
                margin(x, 1 - epsilon), margin(x, 1 + upper)

            returns = torch.tensor(r["returns"], dtype=torch.float64)
            values = self.values(tokens) if self.critic else scalars(self.policy.p, states)
            values = values[first - 1 : first - 1 + len(returns)]
            free, held = (values - returns) ** 2 / 2, torch.zeros_like(values)
            if self.value_range is not None:
                old = torch.tensor(r["values"][: len(returns)], dtype=torch.float64)
                near = values.clamp(old - self.value_range, old + self.value_range)
                held = (near - returns) ** 2 / 2
                for x in (values - old).tolist():
                    margin(abs(x), self.value_range)
            loss = torch.maximum(free, held)
            value_losses.append(loss)
            tally["value"] += loss.tolist()
            tally["value_clipped"] += [float(x) for x in held > free]
        policy_loss, value_loss = torch.cat(policy_losses).mean(), torch.cat(value_losses).mean()
        if kls:
            policy_loss = policy_loss + self.coef * torch.cat(kls).mean()
        if self.bonus:
            policy_loss = policy_loss - self.applied * torch.cat(entropies).mean()
        heads = (SCORE, SCORE_BIAS)
        if self.critic is None:
            loss = self.value_coef * value_loss + (0 if warming else policy_loss)
            tally["norm"].append(
                self.policy.update(loss, learning_rate, heads if warming else None)
            )
        else:
            tally["norm"].append(0.0 if warming else self.policy.update(policy_loss, learning_rate))
            self.critic.update(self.value_coef * value_loss, learning_rate)

    def step(self, step):
        config, seed = self.config, self.config.get("seed", 0)
        size, parts, epochs = (
            config["batch_size"],
            config.get("minibatches", 1),
            config.get("epochs", 4),
        )
        samples, reset = config.get("samples_per_prompt", 1), config.get("reference")
        an_epoch = len(self.prompts) // size
        order = Draws(seed, "prompts").shuffled(range(len(self.prompts)), step // an_epoch)
        chosen = order[step % an_epoch * size :][:size]
        draws = Draws(seed, "rollouts")
        if reset and step > 0 and step % reset["reset_every"] == 0:
            self.reference = {name: x.detach().clone() for name, x in self.policy.p.items()}
        with torch.no_grad():
            batch = [
                self.rollout(self.prompts[row], (step * size + at) * samples + sample, draws)
                for at, row in enumerate(chosen)
                for sample in range(samples)
            ]
        self.coef = self.kl_coef(step) if "anneal" in config["kl"] else self.coef
        for r in batch:
            r["reward"] = optimised_score(self.rule, r["score"], r["ended"])
        groups_of = [list(range(at * samples, (at + 1) * samples)) for at in range(size)]
        varied = self.shape(batch, groups_of)
        scores, scaling = self.scaled(batch)
        scaling = varied | scaling
        self.estimated(batch, scores)
        charged = dict(self.rule, kl="k1", low=None, high=None) if self.in_loss else self.rule
        told = objective(batch, self.coef, charged)
        each = lambda of: sum(map(of, batch)) / len(batch)
        distance = "objective/kl"
        if reset:
            distance = "objective/kl_initial"
            told[distance] = each(lambda r: sum(r["logp"]) - sum(r["start"]))
        targets = torch.tensor(sum((r["returns"] for r in batch), []), dtype=torch.float64)
        old = sum((r["values"][: len(r["returns"])] for r in batch), [])
        left = (targets - torch.tensor(old, dtype=torch.float64)).var() / targets.var()
        told |= scaling | {"critic/vf_explained_var": 1 - left.item()}
        episode = {"episode": (step + 1) * len(batch)}
        if "stop_at_kl" in config:
            margin(told[distance], config["stop_at_kl"])
            if told[distance] > config["stop_at_kl"]:
                self.ended = True
                return told | episode, batch
        lr, warming = rate(config["optimiser"], step, config["steps"]), step < self.warmup
        names = "change ratio clipped dual policy kl entropy value value_clipped norm".split()
        tally, done, most = {name: [] for name in names}, 0, config.get("epoch_stop_kl")
        told |= self.bonus_applied()
        for epoch in range(epochs):
            if epoch > 0 and config.get("value", {}).get("fit") == "every_epoch":
                with torch.no_grad():
                    for r in batch:
                        own = (r["filled"], r["prompt"], len(r["logp"]))
                        r["values"] = self.values_before(*own)
                self.estimated(batch, scores)
            mixed = Draws(seed, "minibatches").shuffled(range(len(batch)), step * epochs + epoch)
            for part in range(parts):
                bound = lambda part: part * len(batch) // parts
                members, before = mixed[bound(part) : bound(part + 1)], len(tally["change"])
                self.minibatch([batch[at] for at in members], tally, lr, warming)
            done += 1
            last = tally["change"][before:]
            if most is not None:
                away = sum(x * x for x in last) / len(last) / 2
                margin(away, most)
                if away > most:
                    break
        mean = {name: sum(numbers) / max(len(numbers), 1) for name, numbers in tally.items()}
        self.acted += [name for name in ("clipped", "dual", "value_clipped") if mean[name] > 0]
        self.acted += ["left out"] if done < epochs else []
        metrics = told | {
            "policy/approxkl_avg": sum(x * x for x in tally["change"]) / len(tally["change"]) / 2,
            "policy/clipfrac_avg": mean["clipped"],
            "loss/policy_avg": mean["policy"],
            "val/ratio": mean["ratio"],
            "val/ratio_var": torch.tensor(tally["ratio"], dtype=torch.float64)
            .var(correction=0)
            .item(),
            "loss/value_avg": mean["value"],
            "val/clipfrac_avg": mean["value_clipped"],
            "policy/entropy_avg": mean["entropy"],
            "grad_norm": mean["norm"],
            "learning_rate": lr,
        } | episode
        metrics |= {"loss/kl_avg": mean["kl"]} if self.in_loss else {}
        metrics |= {"policy/epochs": done} if most is not None else {}
        self.bonus_after(mean["entropy"])
        if config["kl"].get("adaptive"):
            self.coef = adapted(
                self.coef, metrics["objective/kl"], len(batch), **config["kl"]["adaptive"]
            )
        return metrics, batch


def ppo(config):
    run = Ppo(config)
    steps = []
    while len(steps) < config["steps"] and not run.ended:
        steps.append(run.step(len(steps)))
    assert run.ended == ("stop_at_kl" in config), "training ends early where it may"
    seen = {(r["ended"], len(r["logp"]) == r["limit"]) for _, batch in steps for r in batch}
    assert seen == {
        (True, False),
        (True, True),
        (False, True),
    }, f"{seen}: not every kind of response"
    # What a config asks for is met in its trajectory.
    clips = ["clipped"] + ["dual"] * ("dual" in config.get("policy_clip", {}))
    clips += ["left out"] * ("epoch_stop_kl" in config)
    assert set(run.acted) >= set(clips), f"{run.acted}: not every clip"
    text = lambda tokens: "".join(
        CHARACTERS[t - 2] for t in tokens if t > EOS
    )
    told = lambda r: {
        "id": r["id"],
        "response": text(r["tokens"][r["prompt"] :]),
        "ended": r["ended"],
        "score": optimised_score(run.rule, r["score"], r["ended"]),
        "raw_score": r["score"],
        "kl": sum(r["logp"]) - sum(r["start"]),
    }
    weights = {
        name: tensor for name, tensor in run.policy.p.items() if not name.startswith("score")
    }
    return (
        dict(
            metrics=[m for m, _ in steps], rollouts=[list(map(told, batch)) for _, batch in steps]
        ),
        weights,
    )


class OnPolicy:
    """Groups of responses to the prompts of a step, scored by a reward model."""

    def __init__(self, config):
        self.config = config
        self.reward = inputs(config["reward_model"])
        self.normal = json.loads(
            (HERE / "inputs" / config["reward_model"] / "normalisation.json").read_text()
        )
        self.reference = inputs(config["policy"])
        self.policy = self.begun()
        self.prompts = rows_of(config["dataset"], "prompts")

    def begun(self):
        return Trained(self.reference, self.config["optimiser"], self.config.get("frozen", 0))

    def rollout(self, row, at, draws):
        config, prompt = self.config, prompt_of(row, self.config)
        tokens, logp, ended = sampled(self.policy.p, prompt, config, at, draws)
        whole, first = prompt + tokens, len(prompt)
        own = logprobs(self.reference, hidden(self.reference, whole), config["temperature"])
        raw = score(self.reward, whole if ended else whole + [EOS]).item()
        told = (raw - self.normal["mean"]) / self.normal["std"]
        return dict(
            id=row["id"],
            prompt=first,
            tokens=whole,
            logp=logp,
            ended=ended,
            ref=own[range(first - 1, len(whole) - 1), tokens].tolist(),
            score=told,
            reward=missing(config.get("missing_eos", "keep"), told, ended),
        )

    def drawn(self, step, size):
        """The responses of a step, and the places of those to each prompt."""
        seed, samples = self.config.get("seed", 0), self.config["samples_per_prompt"]
        an_epoch = len(self.prompts) // size
        order = Draws(seed, "prompts").shuffled(range(len(self.prompts)), step // an_epoch)
        chosen = order[step % an_epoch * size :][:size]
        draws = Draws(seed, "rollouts")
        with torch.no_grad():
            batch = [
                self.rollout(self.prompts[row], (step * size + at) * samples + sample, draws)
                for at, row in enumerate(chosen)
                for sample in range(samples)
            ]
        return batch, [list(range(at * samples, (at + 1) * samples)) for at in range(size)]

    def objective(self, batch, places, coef, estimator="k1", in_reward=False):
        wide = lambda numbers: torch.tensor(numbers).double()
        kls = lambda kind: [groups.estimate(kind, wide(r["logp"]) - wide(r["ref"])) for r in batch]
        each = lambda of: sum(of(r) for r in batch) / len(batch)
        distance = sum(kl.sum().item() for kl in kls("k1"))
        non_score = -coef * sum(kl.sum().item() for kl in kls(estimator)) / len(batch)
        lengths, scores = [len(r["logp"]) for r in batch], each(lambda r: r["reward"])
        rewards = torch.tensor([r.get("shaped", r["reward"]) for r in batch], dtype=torch.float64)
        if in_reward:
            rewards -= coef * torch.stack([kl.sum() for kl in kls(estimator)])
        deviations = [rewards[own].std().item() for own in places]
        return {
            "objective/kl": distance / len(batch),
            "objective/kl_token": distance / sum(lengths),
            "objective/kl_coef": coef,
            "objective/entropy": each(lambda r: -sum(r["logp"])),
            "objective/non_score_reward": non_score,
            "objective/rlhf_reward": scores + non_score,
            "objective/scores": scores,
            "objective/raw_scores": each(lambda r: r["score"]),
            "val/num_eos_tokens": sum(r["ended"] for r in batch),
            "response_length/mean": sum(lengths) / len(batch),
            "response_length/max": max(lengths),
            "response_length/clip_ratio": each(lambda r: not r["ended"]),
            "reward_std": sum(deviations) / len(deviations),
            "frac_reward_zero_std": sum(x == 0 for x in deviations) / len(deviations),
            "frac_without_reward": 0.0,
        }

    def best(self, batch, places):
        """The first of the best, and the last of the worst."""
        return [
            (
                max(own, key=lambda at: (batch[at]["reward"], -at)),
                min(own, key=lambda at: (batch[at]["reward"], -at)),
            )
            for own in places
        ]


class Grpo(Varied, OnPolicy):
    """Policies without a value function: `groups.py` has the rules."""

    def __init__(self, config):
        super().__init__(config)
        self.rule, self.clipped = groups.rules(config), set()
        self.begin_varied()

    def minibatch(self, members, tally, learning_rate):
        config, rule, losses, kls, entropies = self.config, self.rule, [], [], []
        for r in members:
            first, tokens = r["prompt"], r["tokens"]
            states = hidden(self.policy.p, tokens)[first - 1 : -1]
            own = logprobs(self.policy.p, states, config["temperature"])
            entropies.append(-(own.exp() * own).sum(-1))
            tally["entropy"] += entropies[-1].tolist()
            new = own[range(len(own)), tokens[first:]]
            old, ref = (torch.tensor(r[key], dtype=torch.float64) for key in ("logp", "ref"))
            loss, ratio, low, high = groups.token_losses(new, old, r["advantages"], rule)
            losses.append(loss)
            kls.append(groups.kl_in_loss(new, ref, rule))
            tally["change"] += (new - old).tolist()
            tally["ratio"] += ratio.tolist()
            tally["low"] += low.double().tolist()
            tally["high"] += high.double().tolist()
            for x in ratio.tolist():
                margin(x, 1 + rule["high"])
                if rule["low"] is not None:
                    margin(x, 1 - rule["low"])
        limit, coef = config["max_new_tokens"], self.coef
        policy, kl = (groups.averaged(own, rule, limit) for own in (losses, kls))
        charges = rule["kl_in"] == "loss" and (coef > 0 or "anneal" in config["kl"])
        tally["policy"].append(policy.item())
        tally["kl"].append(kl.item() if charges else 0.0)
        loss = policy + coef * kl if charges else policy
        if self.bonus:
            loss = loss - self.applied * torch.cat(entropies).mean()
        tally["norm"].append(self.policy.update(loss, learning_rate))

    def step(self, step):
        config, seed = self.config, self.config.get("seed", 0)
        parts, epochs = config.get("minibatches", 1), config.get("epochs", 1)
        batch, places = self.drawn(step, config["batch_size"])
        coef = self.coef = self.kl_coef(step)
        varied = self.shape(batch, places)
        own = groups.advantages(batch, places, self.rule, coef, config.get("diversity"))
        for r, a in zip(batch, own):
            r["advantages"] = a
        varied |= self.bonus_applied()
        lr = rate(config["optimiser"], step, config["steps"])
        tally = {name: [] for name in "change ratio low high policy kl entropy norm".split()}
        for epoch in range(epochs):
            mixed = Draws(seed, "minibatches").shuffled(range(len(batch)), step * epochs + epoch)
            for part in range(parts):
                bound = lambda part: part * len(batch) // parts
                members = mixed[bound(part) : bound(part + 1)]
                self.minibatch([batch[at] for at in members], tally, lr)
        mean = {name: sum(numbers) / len(numbers) for name, numbers in tally.items()}
        self.clipped |= {name for name in ("low", "high") if mean[name] > 0}
        self.bonus_after(mean["entropy"])
        where = self.rule["kl_in"]
        estimator = self.rule["estimator"] if where != "loss" else "k1"
        return self.objective(batch, places, coef, estimator, where == "reward") | varied | {
            "loss/policy_avg": mean["policy"],
            "loss/kl_avg": mean["kl"],
            "policy/approxkl_avg": sum(x * x for x in tally["change"]) / len(tally["change"]) / 2,
            "policy/clipfrac_avg": mean["low"] + mean["high"],
            "clip_ratio/low_mean": mean["low"],
            "clip_ratio/high_mean": mean["high"],
            "val/ratio": mean["ratio"],
            "policy/entropy_avg": mean["entropy"],
            "grad_norm": mean["norm"],
            "learning_rate": lr,
            "episode": (step + 1) * len(batch),
        }, batch


class OnlineDpo(OnPolicy):
    """Guo et al. 2024: the best and the worst response to each prompt are a pair."""

    def step(self, step):
        config, losses, rewards, logps = self.config, [], [], []
        batch, places = self.drawn(step, config["batch_size"])
        varied = config.get("pairs", {}).get("diverse")
        for r in batch:
            r["text"] = "".join(CHARACTERS[t - 2] for t in r["tokens"][r["prompt"] :] if t > EOS)
        pairs = self.best(batch, places)
        if varied:
            groups_of = [[batch[at] for at in own] for own in places]
            found = [diversity.pair(varied, group) for group in groups_of]
            pairs = [tuple(own[at] for at in ends) for own, ends in zip(places, found) if ends]
        for ends in pairs:
            p, ref, n = [], [], []
            for r in (batch[at] for at in ends):
                first, tokens = r["prompt"], r["tokens"]
                states = hidden(self.policy.p, tokens)[first - 1 : -1]
                own = logprobs(self.policy.p, states, config["temperature"])
                p.append(own[range(len(own)), tokens[first:]].sum())
                ref.append(sum(r["ref"]))
                n.append(len(own))
            losses.append(pair_loss(config, p, ref, n))
            logps.append([x.item() for x in p])
            rewards.append([reward(config, *of).item() for of in zip(p, ref, n)])
        # Equal policies differ here by rounding alone.
        gaps = [0.0 if abs(c - r) < 1e-12 else c - r for c, r in rewards]
        assert all(gap == 0 or abs(gap) > MARGIN for gap in gaps), gaps
        loss, lr = torch.stack(losses).mean(), rate(config["optimiser"], step, config["steps"])
        mean = lambda numbers: sum(numbers) / len(losses)
        return self.objective(batch, places, config["beta"]) | {
            "loss": loss.item(),
            "rewards/chosen": mean([c for c, _ in rewards]),
            "rewards/rejected": mean([r for _, r in rewards]),
            "rewards/margins": mean(gaps),
            "rewards/accuracies": mean([0.5 if gap == 0 else float(gap > 0) for gap in gaps]),
            "logps/chosen": mean([c for c, _ in logps]),
            "logps/rejected": mean([r for _, r in logps]),
            "num_pairs": len(losses),
            "grad_norm": self.policy.update(loss, lr),
            "learning_rate": lr,
            "episode": (step + 1) * len(batch),
        }, batch


class ExpertIteration(OnPolicy):
    """Best of N, then likelihood: from the last policy (Dong et al. 2023) or the first (Singh et
    al. 2023)."""

    def step(self, step):
        config, seed = self.config, self.config.get("seed", 0)
        size, rounds = config["prompts_per_round"], config["rounds"]
        epochs, original = config.get("epochs", 1), config.get("begin") == "original"
        batch, places = self.drawn(step, size)
        least = config.get("least_reward", -math.inf)
        winners = [batch[at] for at, _ in self.best(batch, places) if batch[at]["reward"] >= least]
        metrics = self.objective(batch, places, 0.0)
        most = epochs * -(-size // config["batch_size"])
        if original:
            self.policy = self.begun()
        before, total = (0, most) if original else (step * most, rounds * most)
        lengths = [len(r["tokens"]) for r in winners]
        order = [
            own
            for epoch in range(epochs)
            for own in batches(lengths, config["batch_size"], seed, step * epochs + epoch)
        ]
        told = []
        for at, own in enumerate(order):
            losses, entropies = [], []
            for r in (winners[place] for place in own):
                first, tokens = r["prompt"], r["tokens"]
                logp = logprobs(self.policy.p, hidden(self.policy.p, tokens))[first - 1 : -1]
                losses.append(-logp[range(len(logp)), tokens[first:]])
                entropies.append(-(logp.exp() * logp).sum(-1))
            loss, lr = torch.cat(losses).mean(), rate(config["optimiser"], before + at, total)
            entropy = torch.cat(entropies).mean().item()
            norm = self.policy.update(loss, lr)
            told.append((loss.item(), entropy, norm, sum(map(len, losses)), lr))
        mean = lambda at: sum(own[at] for own in told) / len(told)
        return metrics | {
            "num_winners": len(winners),
            "objective/winners_scores": sum(r["reward"] for r in winners) / len(winners),
            "loss": mean(0),
            "entropy": mean(1),
            "grad_norm": mean(2),
            "num_tokens": sum(own[3] for own in told),
            "learning_rate": told[-1][4],
            "episode": (step + 1) * len(batch),
        }, batch


class Distill(OnPolicy):
    """Agarwal et al. 2024: reverse KL of the policy's tokens, likelihood of the teacher's."""

    def __init__(self, config):
        super().__init__(dict(config, reward_model="reward"))
        self.teacher = inputs(config["teacher"])

    def told(self, p, r):
        first, tokens = r["prompt"], r["tokens"]
        own = logprobs(p, hidden(p, tokens)[first - 1 : -1], self.config["temperature"])
        return own[range(len(own)), tokens[first:]], -(own.exp() * own).sum(-1)

    def step(self, step):
        config, size = self.config, self.config["batch_size"]
        forward, samples = config.get("forward", 0.0), config["samples_per_prompt"]
        batch, places = self.drawn(step, size)
        losses, nlls, gaps, entropies = [], [], [], []
        for r in batch:
            new, entropy = self.told(self.policy.p, r)
            with torch.no_grad():
                gap = new.detach() - self.told(self.teacher, r)[0]
            gaps.append(gap)
            # The gradient of the reverse KL of single tokens, as of a policy gradient.
            losses.append(gap * (new - new.detach()).exp())
            entropies.append(entropy)
        loss = (1 - forward) * torch.cat(losses).mean()
        if forward > 0:
            draws = Draws(config.get("seed", 0), "teacher")
            for at, r in enumerate(batch):
                prompt, row = r["tokens"][: r["prompt"]], step * size * samples + at
                with torch.no_grad():
                    tokens, _, _ = sampled(self.teacher, prompt, config, row, draws)
                nlls.append(-self.told(self.policy.p, dict(r, tokens=prompt + tokens))[0])
            loss = loss + forward * torch.cat(nlls).mean()
        lr, token = rate(config["optimiser"], step, config["steps"]), torch.cat(gaps).mean().item()
        likelihood = torch.cat(nlls).mean().item() if nlls else 0.0
        kept = {
            name: value
            for name, value in self.objective(batch, places, 0.0).items()
            if name.startswith(("objective/kl", "objective/entropy", "val", "response"))
            and name != "objective/kl_coef"
        }
        told = {"distill/teacher_loss": likelihood} if nlls else {}
        return kept | told | {
            "loss": (1 - forward) * token + forward * likelihood,
            "distill/reverse_kl": sum(gap.sum().item() for gap in gaps) / len(batch),
            "distill/reverse_kl_token": token,
            "policy/entropy_avg": torch.cat(entropies).mean().item(),
            "grad_norm": self.policy.update(loss, lr),
            "learning_rate": lr,
            "episode": (step + 1) * len(batch),
        }, batch


def missing(rule, score, ended):
    """The score after the missing-EOS rule."""
    if ended or rule == "keep":
        return score
    return rule["replace"] if "replace" in rule else score - rule["subtract"]


def on_policy(kind, config):
    kinds = {
        "grpo": Grpo,
        "online_dpo": OnlineDpo,
        "expert_iteration": ExpertIteration,
        "distill": Distill,
    }
    run = kinds[kind](config)
    steps = [run.step(step) for step in range(config.get("steps") or config["rounds"])]
    if kind == "grpo":
        wanted = {"high"} if run.rule["form"] == "clip" else set()
        assert run.clipped >= wanted, f"{config}: {run.clipped} clipped"
    ends = {r["ended"] for _, batch in steps for r in batch}
    assert ends == {True, False}, f"{config}: not every kind of response"
    text = lambda tokens: "".join(CHARACTERS[t - 2] for t in tokens if t > EOS)
    told = lambda r: {
        "id": r["id"],
        "response": text(r["tokens"][r["prompt"] :]),
        "ended": r["ended"],
        "score": None if kind == "distill" else r["reward"],
        "raw_score": None if kind == "distill" else r["score"],
        "kl": sum(r["logp"]) - sum(r["ref"]),
    }
    rollouts = [list(map(told, batch)) for _, batch in steps]
    return dict(metrics=[m for m, _ in steps], rollouts=rollouts), run.policy.p


# ---- files


def digits(x):
    """Twelve digits of every number are kept."""
    if isinstance(x, float):
        return float(f"{x:.12g}")
    if isinstance(x, dict):
        return {key: digits(value) for key, value in x.items()}
    return [digits(value) for value in x] if isinstance(x, list) else x


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def write_weights(path, p):
    write(
        path,
        save({name: tensor.detach().numpy().astype(numpy.float32) for name, tensor in p.items()}),
    )


def inputs(name):
    """The float32 weights of an input, in float64."""
    data = (HERE / "inputs" / name / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + size])
    take = lambda at: numpy.frombuffer(
        data[8 + size :][at["data_offsets"][0] : at["data_offsets"][1]], "<f4"
    )
    return {
        name: torch.tensor(take(at).astype(numpy.float64).reshape(at["shape"]))
        for name, at in head.items()
    }


def write_model(name, p):
    kind = "SequenceClassification" if SCORE in p else "CausalLM"
    config = dict(
        architectures=["LlamaFor" + kind],
        model_type="llama",
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=CHANNELS,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=EPSILON,
        rope_theta=THETA,
        hidden_act="silu",
        attention_bias=False,
        mlp_bias=False,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=PAD,
        dtype="float32",
        **({"num_labels": 1} if SCORE in p else {}),
    )
    write(HERE / "inputs" / name / "config.json", json.dumps(config, indent=1) + "\n")
    write_weights(HERE / "inputs" / name / "model.safetensors", p)
    special = lambda at, text: dict(
        id=at,
        content=text,
        single_word=False,
        lstrip=False,
        rstrip=False,
        normalized=False,
        special=True,
    )
    vocabulary = {"<pad>": PAD, "<eos>": EOS} | {
        c.replace(" ", "Ġ"): at + 2 for at, c in enumerate(CHARACTERS)
    }
    bytelevel = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    bpe = dict(
        type="BPE",
        dropout=None,
        unk_token=None,
        continuing_subword_prefix=None,
        end_of_word_suffix=None,
        fuse_unk=False,
        byte_fallback=False,
        ignore_merges=False,
        vocab=vocabulary,
        merges=[],
    )
    tokenizer = dict(
        version="1.0",
        truncation=None,
        padding=None,
        normalizer=None,
        added_tokens=[special(PAD, "<pad>"), special(EOS, "<eos>")],
        pre_tokenizer=bytelevel,
        post_processor=bytelevel,
        decoder=bytelevel,
        model=bpe,
    )
    write(HERE / "inputs" / name / "tokenizer.json", json.dumps(tokenizer) + "\n")
    names = json.dumps(dict(eos_token="<eos>", pad_token="<pad>"))
    write(HERE / "inputs" / name / "tokenizer_config.json", names + "\n")


def write_rows(name, rows):
    write(HERE / "inputs" / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def write_datasets():
    """Texts of letters; a summary is letters of its prompt, so that there is something to learn."""
    draws = Draws(0, "texts")
    letter = lambda row, at: CHARACTERS[2 + (draws.bits(row, at) * 16 >> 64)]
    text = lambda row, least, spread: "".join(
        letter(row, at) for at in range(least + (draws.bits(row, 99) * spread >> 64))
    )
    word = lambda row, least, spread: text(row, least, spread)
    row = lambda at, least, spread: {
        "id": f"row-{at}",
        "prompt": f"{(t := word(at, least, spread))}.",
        "completion": f" {t[: 1 + at % 4]}",
    }
    write_rows("dataset/sft", [row(at, 3, 9) for at in range(10)])
    write_rows("dataset/prompts", [row(at, 2, 7) for at in range(20, 29)])
    write_rows("long/sft", [row(at, 40, 8) for at in range(40, 88)])
    pairs = []
    # Prompts with one, two and three pairs, whose rows are not consecutive.
    for turn in range(3):
        for at in range(60, 68):
            if turn <= at % 3:
                prompt = row(at, 3, 6)
                chosen, rejected = (prompt["completion"], " " + word(200 + at, 1, 4))
                rejected = [rejected, rejected[::-1], " "][turn]
                pairs.append(
                    {
                        "id": f"{at}/{turn}",
                        "prompt": prompt["prompt"],
                        "chosen": chosen if turn < 2 else " " + word(200 + at, 1, 4),
                        "rejected": rejected,
                    }
                )
    write_rows("preferences/preferences", pairs)


ADAM = dict(learning_rate=0.01, beta2=0.95, epsilon=1e-5, weight_decay=0.1)
CONSTANT = dict(ADAM, schedule={"shape": "constant"})
WARM = {"shape": "linear", "warmup": {"steps": 2}, "final_ratio": 0.1}
COSINE = {"shape": "cosine", "warmup": {"fraction": 0.3}, "final_ratio": 0.0}
SFT = dict(
    policy="policy", dataset="dataset", batch_size=4, epochs=2, optimiser=dict(ADAM, schedule=WARM)
)
PAIRS = dict(
    policy="tuned",
    dataset="preferences",
    batch_size=3,
    epochs=2,
    optimiser=dict(ADAM, schedule=COSINE),
)
PPO = dict(
    policy="tuned",
    reward_model="reward",
    dataset="dataset",
    steps=4,
    batch_size=4,
    minibatches=2,
    epochs=2,
    max_new_tokens=5,
    temperature=1.0,
    seed=1,
    kl=dict(coef=0.2),
    optimiser=dict(CONSTANT, learning_rate=0.005),
)
# Several short texts to a prompt, some of which are the same.
GROUPED = dict(
    PPO, batch_size=2, samples_per_prompt=4, minibatches=2, temperature=0.5, max_new_tokens=8, seed=7
)
GRPO = dict(
    policy="tuned",
    reward_model="reward",
    dataset="dataset",
    steps=4,
    batch_size=2,
    samples_per_prompt=4,
    minibatches=2,
    epochs=2,
    max_new_tokens=5,
    seed=1,
    temperature=1.0,
    missing_eos={"replace": -2.0},
    kl=dict(coef=0.1),
    optimiser=dict(CONSTANT, learning_rate=0.01),
)
# Short texts, some of which are the same.
VARIED = dict(
    GRPO, temperature=0.5, max_new_tokens=8, seed=3, optimiser=dict(CONSTANT, learning_rate=0.005)
)
ONLINE = {key: GRPO[key] for key in GRPO if key not in ("kl", "minibatches", "epochs")} | {
    "beta": 0.1
}
STUDENT = {
    key: ONLINE[key] for key in ONLINE if key not in ("beta", "reward_model", "missing_eos")
} | {"max_new_tokens": 8}
EXPERTS = dict(
    {key: GRPO[key] for key in GRPO if key not in ("kl", "minibatches", "epochs", "steps")},
    rounds=3,
    prompts_per_round=4,
    batch_size=2,
    optimiser=dict(ADAM, schedule=WARM),
)
SEPARATE = {"critic": "separate"}
# All 15 pairs in each of six steps.
DPO = dict(
    policy="tuned",
    dataset="preferences",
    batch_size=15,
    epochs=6,
    loss="sigmoid",
    beta=0.1,
    optimiser=dict(CONSTANT, learning_rate=0.005),
)
DIRECT = {
    "dpo": (DPO, "tuned"),
    # Batches of pairs, a reference that is another policy, and everything that both stages have.
    "dpo_batches": (
        dict(
            DPO,
            batch_size=4,
            epochs=2,
            max_prompt_tokens=5,
            frozen=0.5,
            seed=3,
            sft_weight=0.5,
            optimiser=dict(ADAM, schedule=COSINE, clip_norm=0.05),
        ),
        "policy",
    ),
    "dpo_cdpo": (dict(DPO, loss="cdpo", label_smoothing=0.1), "tuned"),
    "dpo_robust": (dict(DPO, loss="robust", label_smoothing=0.1), "tuned"),
    "dpo_hinge": (dict(DPO, loss="hinge"), "policy"),
    "dpo_ipo": (dict(DPO, loss="ipo"), "policy"),
    "dpo_ipo_sum": (dict(DPO, loss="ipo_sum"), "tuned"),
    "dpo_sigmoid_norm": (dict(DPO, loss="sigmoid_norm"), "policy"),
    "dpo_apo_zero": (dict(DPO, loss="apo_zero"), "policy"),
    "dpo_apo_down": (dict(DPO, loss="apo_down"), "policy"),
    "dpo_decoupled": (dict(DPO, loss="decoupled", entropy_weight=0.2), "policy"),
    "dpo_simpo": (dict(DPO, loss="simpo", beta=2.0), None),
    "dpo_simpo_gamma": (dict(DPO, loss="simpo", beta=2.0, gamma_over_beta=0.8), None),
    "dpo_cpo": (dict(DPO, loss="cpo"), None),
    "dpo_orpo": (dict(DPO, loss="orpo"), None),
}
# All 30 answers of the 15 pairs in each of six steps.
KTO = dict(
    policy="tuned",
    dataset="preferences",
    desirable="preferences",
    undesirable="preferences",
    batch_size=30,
    epochs=6,
    beta=0.1,
    optimiser=dict(CONSTANT, learning_rate=0.005),
)
LABELLED = {
    "kto": (KTO, "tuned"),
    # Batches of some rows, a reference that is another policy, and every option of both stages.
    "kto_batches": (
        dict(
            KTO,
            batch_size=4,
            epochs=2,
            max_prompt_tokens=5,
            frozen=0.5,
            seed=3,
            beta=0.3,
            desirable_weight=1.5,
            undesirable_weight=0.8,
            optimiser=dict(ADAM, schedule=COSINE, clip_norm=0.05),
        ),
        "policy",
    ),
    # Answers that are no pairs: a split for each label.
    "kto_single": (
        dict(KTO, dataset="dataset", desirable="sft", undesirable="prompts", batch_size=7),
        "policy",
    ),
    "kto_fixed_point": (dict(KTO, z0="none", undesirable_weight=1.33), "policy"),
}
CASES = (
    {
        "sft": ("sft", SFT),
        # 48 rows of about 50 tokens: more than one forward pass takes, so gradients accumulate.
        "sft_accumulated": (
            "sft",
            dict(
                SFT,
                dataset="long",
                batch_size=48,
                max_prompt_tokens=44,
                optimiser=dict(CONSTANT, clip_norm=None),
            ),
        ),
        "sft_frozen": (
            "sft",
            dict(SFT, frozen=0.5, seed=3, optimiser=dict(ADAM, schedule=COSINE, clip_norm=0.05)),
        ),
        "reward_model": ("reward_model", PAIRS),
        "reward_model_centred": (
            "reward_model",
            dict(
                PAIRS, center_rewards_coefficient=0.1, normalisation_prompts=3, frozen=0.5, seed=2
            ),
        ),
        "ppo": (
            "ppo",
            dict(
                PPO,
                steps=6,
                minibatches=3,
                max_prompt_tokens=5,
                seed=4,
                optimiser=dict(ADAM, schedule=WARM),
            ),
        ),
        "ppo_separate": (
            "ppo",
            dict(PPO, value=dict(SEPARATE, clip={"coef": 0.3}, head_ratio=2.0)),
        ),
        "ppo_warmup": ("ppo", dict(PPO, value={"warmup": 2, "clip": {"coef": 0.5, "range": None}})),
        "ppo_warmup_separate": ("ppo", dict(PPO, value=dict(SEPARATE, warmup=2))),
        "ppo_frozen": (
            "ppo",
            dict(
                PPO,
                frozen=0.5,
                temperature=0.75,
                policy_clip={"range": 0.1, "dual": 1.2},
                optimiser=dict(ADAM, schedule=WARM),
            ),
        ),
        "ppo_varied": (
            "ppo",
            dict(
                GROUPED,
                kl={"coef": 0.2, "anneal": {"to": 0.02, "over": 3}},
                diversity={"novelty": {"weight": 0.7}},
                entropy={"coef": 0.05},
            ),
        ),
        "ppo_anchored": (
            "ppo",
            dict(
                GROUPED,
                kl={"coef": 0.05, "in": "loss", "anneal": {"to": 0.1}},
                diversity={"mara": {"good": {"quantile": 0.5}, "beta": 0.1}},
                entropy={"target": {"entropy": 1.5, "step": 0.02, "most": 0.03}},
                reward_scaling={"scale": "running_std"},
            ),
        ),
        "ppo_k3_adaptive": (
            "ppo",
            dict(
                PPO,
                kl=dict(coef=0.2, adaptive={"target": 0.05, "horizon": 20.0}),
                conventions={"kl": {"estimator": "k3"}},
            ),
        ),
        # The options of a run that is not plain, two or three at a time.
        "ppo_samples": (
            "ppo",
            dict(
                PPO,
                batch_size=2,
                samples_per_prompt=3,
                policy_clip={"range": 0.05, "high": 0.12},
                reward_scaling={"scale": "running_std", "clip": 0.9},
                compat="nplus",
            ),
        ),
        "ppo_kl_in_loss": (
            "ppo",
            dict(
                PPO,
                kl={
                    "coef": 0.3,
                    "in": "loss",
                    "adaptive": {"target": 0.05, "horizon": 20.0},
                },
                value=SEPARATE,
            ),
        ),
        "ppo_k2_in_loss": ("ppo", dict(PPO, kl={"coef": 0.4, "in": "loss", "estimator": "k2"})),
        "ppo_k3_plus_in_loss": (
            "ppo",
            dict(
                PPO,
                frozen=0.5,
                kl={"coef": 0.4, "in": "loss", "estimator": "k3_plus"},
                reference={"reset_every": 2},
            ),
        ),
        "ppo_epoch_stop": (
            "ppo",
            dict(PPO, epochs=4, epoch_stop_kl=0.002, reward_scaling={"clip": 0.7}),
        ),
        "ppo_stop": ("ppo", dict(PPO, steps=9, epochs=1, stop_at_kl=1.0)),
        "ppo_reset": (
            "ppo",
            dict(PPO, steps=9, epochs=1, reference={"reset_every": 2}, stop_at_kl=1.0),
        ),
        "ppo_every_epoch": ("ppo", dict(PPO, epochs=3, value={"fit": "every_epoch"})),
        "ppo_every_epoch_padded": (
            "ppo",
            dict(PPO, compat="alpaca_farm", value=dict(SEPARATE, fit="every_epoch")),
        ),
        "ppo_ten_steps": (
            "ppo",
            dict(
                PPO,
                steps=10,
                batch_size=3,
                samples_per_prompt=2,
                epochs=3,
                kl={"coef": 0.2, "in": "loss"},
                policy_clip={"range": 0.1, "high": 0.2},
                reward_scaling={"scale": "running_std"},
                epoch_stop_kl=0.01,
                reference={"reset_every": 4},
                value={"fit": "every_epoch"},
                optimiser=dict(ADAM, learning_rate=0.005, schedule=WARM),
            ),
        ),
        "ppo_trl_whitened": (
            "ppo",
            dict(
                PPO,
                compat="trl",
                conventions={
                    "reward_whitening": "unbiased",
                    "gamma": 0.98,
                    "lambda": 0.9,
                    "kl": {"clamp": {"high": 0.02}},
                },
            ),
        ),
    }
    | {f"ppo_{name}": ("ppo", dict(PPO, compat=name)) for name in PRESETS if name}
    | {
        f"ppo_{name}_separate": ("ppo", dict(PPO, compat=name, value=SEPARATE))
        for name in ("trl", "alpaca_farm")
    }
    | {f"grpo_{name}": ("grpo", dict(GRPO, algorithm=name)) for name in groups.ALGORITHMS}
    | {
        # The gradient of a response's ratio is large: a smaller step keeps float32 close.
        "grpo_rloo": (
            "grpo",
            dict(GRPO, algorithm="rloo", optimiser=dict(CONSTANT, learning_rate=0.003)),
        )
    }
    | {
        "grpo_rules": (
            "grpo",
            dict(
                GRPO,
                batch_size=3,
                frozen=0.5,
                temperature=0.8,
                max_prompt_tokens=5,
                seed=5,
                missing_eos={"subtract": 1.0},
                kl={"coef": 0.2, "in": "loss", "estimator": "k3_plus"},
                advantages={"baseline": "leave_one_out", "scale": "whiten"},
                loss={
                    "average": "sequence_mean_token_sum",
                    "clip": {"low": 0.05, "high": 0.1, "dual": 1.2},
                },
                optimiser=dict(ADAM, schedule=WARM),
            ),
        ),
        "grpo_entropy": ("grpo", dict(GRPO, entropy={"coef": 0.05})),
        "grpo_entropy_target": (
            "grpo",
            dict(
                GRPO,
                seed=9,
                temperature=0.8,
                frozen=0.5,
                entropy={
                    "coef": 0.02,
                    "target": {"entropy": 1.8, "step": 0.015, "most": 0.045},
                },
            ),
        ),
        "grpo_annealed": (
            "grpo",
            dict(
                GRPO,
                kl={"coef": 0.4, "anneal": {"to": 0.05, "over": 3}},
                optimiser=dict(CONSTANT, learning_rate=0.003),
            ),
        ),
        "grpo_annealed_reward": (
            "grpo",
            dict(GRPO, algorithm="reinforce", kl={"coef": 0.0, "anneal": {"to": 0.4}}),
        ),
        "grpo_novelty": ("grpo", dict(VARIED, diversity={"novelty": {"weight": 0.7}})),
        "grpo_novelty_multiplied": (
            "grpo",
            dict(VARIED, diversity={"novelty": {"combine": "multiply"}}),
        ),
        "grpo_darling": (
            "grpo",
            dict(VARIED, algorithm="dr_grpo", diversity={"darling": {"good": {"quantile": 0.25}}}),
        ),
        "grpo_mara": (
            "grpo",
            dict(VARIED, diversity={"mara": {"good": {"quantile": 0.5}, "beta": 0.1}}),
        ),
        "grpo_ucpo": (
            "grpo",
            dict(VARIED, diversity={"ucpo": {"good": {"at_least": 0.0}, "tau": 0.3}}),
        ),
        "grpo_max_at_k": ("grpo", dict(GRPO, diversity={"max_at_k": {"k": 2}})),
        "grpo_max_at_k_unscaled": (
            "grpo",
            dict(GRPO, algorithm="dr_grpo", diversity={"max_at_k": {"k": 3}}),
        ),
        "grpo_unlikeliness": (
            "grpo",
            dict(VARIED, diversity={"unlikeliness": {"good": {"quantile": 0.5}, "beta": 0.5}}),
        ),
        "online_dpo": (
            "online_dpo",
            dict(ONLINE, loss="sigmoid", samples_per_prompt=2, batch_size=4),
        ),
        "online_dpo_diverse": (
            "online_dpo",
            dict(ONLINE, loss="sigmoid", samples_per_prompt=4, pairs={"diverse": {"pool": 0.5}}),
        ),
        "online_dpo_novel": (
            "online_dpo",
            dict(
                ONLINE,
                loss="sigmoid",
                samples_per_prompt=5,
                temperature=0.5,
                max_new_tokens=8,
                pairs={"diverse": {"pool": 0.3, "by": "novelty"}},
            ),
        ),
        "online_dpo_ipo": (
            "online_dpo",
            dict(ONLINE, loss="ipo_sum", beta=0.3, temperature=0.8, frozen=0.5, seed=6),
        ),
        "expert_iteration": ("expert_iteration", dict(EXPERTS, least_reward=0.0, epochs=2)),
        "expert_iteration_original": (
            "expert_iteration",
            dict(EXPERTS, begin="original", frozen=0.5, seed=7, temperature=0.9),
        ),
        "distill": ("distill", dict(STUDENT, policy="policy", teacher="tuned")),
        "distill_mixed": (
            "distill",
            dict(STUDENT, teacher="policy", forward=0.3, frozen=0.5, temperature=0.8, seed=8),
        ),
        "grpo_batch": (
            "grpo",
            dict(
                GRPO,
                kl={"coef": 0.2, "in": "returns", "estimator": "k3"},
                advantages={"scale": "batch"},
                loss={"average": "constant", "clip": {"low": 0.1, "high": 0.1}},
            ),
        ),
    }
)


def write_case(name, kind, config, told, weights):
    case = {"stage": kind, "config": config} | digits(told)
    write(HERE / f"cases/{name}.json", json.dumps(case, indent=1) + "\n")
    write_weights(HERE / f"cases/{name}.safetensors", weights)
    print(name, {key: round(value, 4) for key, value in told["metrics"][-1].items()})


def main():
    write_datasets()
    generator = torch.Generator().manual_seed(0)
    centre = lambda name: 1.0 if "norm" in name else 0.0
    first = {
        name: centre(name) + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in SHAPES.items()
    }
    write_model("policy", first)
    # A policy that ends its texts, and a reward model that has learned something.
    write_model("tuned", sft(dict(SFT, epochs=12, optimiser=dict(CONSTANT, learning_rate=0.02)))[1])
    told, trained = reward_model(
        dict(PAIRS, epochs=6, optimiser=dict(CONSTANT, learning_rate=0.02))
    )
    write_model("reward", trained)
    write(HERE / "inputs/reward/normalisation.json", json.dumps(told["normalisation"]) + "\n")
    for name, (kind, config) in CASES.items():
        stages = {"sft": sft, "reward_model": reward_model, "ppo": ppo}
        on_own = lambda config: on_policy(kind, config)
        told, weights = stages.get(kind, on_own)(config)
        write_case(name, kind, config, told, weights)
    for name, (config, reference_policy) in DIRECT.items():
        told, weights = dpo(config, reference_policy)
        write_case(name, "dpo", config, told, weights)
    for name, (config, reference_policy) in LABELLED.items():
        told, weights = kto(config, reference_policy)
        write_case(name, "kto", config, told, weights)


if __name__ == "__main__":
    main()

"""Advantages of groups and losses of policies without a value function, each from its paper.

A response has its `reward`, log-probabilities `logp` (of sampling) and `ref`; `groups` holds the
places of the responses to each prompt.
"""

import diversity
import torch

ALGORITHMS = {
    # baseline, scale, ratio, form, low, high, average, where KL is charged, its estimator
    "grpo": ("group", "group", "token", "clip", 0.2, 0.2, "sequence_mean_token_mean", "loss", "k3"),
    "dr_grpo": ("group", "none", "token", "clip", 0.2, 0.2, "constant", "loss", "k3"),
    "dapo": ("group", "group", "token", "clip", 0.2, 0.28, "token_mean", "loss", "k3"),
    "gspo": (
        "group",
        "group",
        "sequence",
        "clip",
        3e-4,
        4e-4,
        "sequence_mean_token_mean",
        "loss",
        "k3",
    ),
    "cispo": ("group", "group", "token", "cispo", None, 4.0, "token_mean", "loss", "k3"),
    "rloo": (
        "leave_one_out",
        "none",
        "sequence_sum",
        "clip",
        0.2,
        0.2,
        "sequence_mean_token_mean",
        "reward",
        "k1",
    ),
    "opo": ("length_weighted", "none", "token", "clip", 0.2, 0.2, "token_mean", "loss", "k3"),
    "reinforce_pp": (
        "none",
        "whiten_tokens",
        "token",
        "clip",
        0.2,
        0.2,
        "token_mean",
        "returns",
        "k1",
    ),
    "reinforce_pp_baseline": (
        "group",
        "whiten_tokens",
        "token",
        "clip",
        0.2,
        0.2,
        "token_mean",
        "loss",
        "k2",
    ),
    "reinforce": ("batch", "none", "token", "clip", 0.2, 0.2, "token_mean", "reward", "k1"),
}
NAMES = "baseline scale ratio form low high average kl_in estimator".split()


def rules(config):
    """The algorithm's rules with the keys that the config gives otherwise."""
    rule = dict(zip(NAMES, ALGORITHMS[config.get("algorithm", "grpo")]))
    kl, loss = config["kl"], config.get("loss", {})
    given = config.get("advantages", {}) | {"kl_in": kl.get("in"), "estimator": kl.get("estimator")}
    given |= {key: loss.get(key) for key in ("ratio", "form", "average")} | loss.get("clip", {})
    return rule | {"dual": None} | {key: x for key, x in given.items() if x is not None}


def estimate(kind, d):
    """KL of a token from d = log p - log p_ref (Schulman 2020)."""
    return {"k1": d, "k2": d * d / 2, "k3": torch.exp(-d) - 1 + d}[kind]


def advantages(batch, groups, rule, coef, varied=None):
    """[T] of each response, from the rewards under `shaped`."""
    wide = lambda numbers: torch.tensor(numbers, dtype=torch.float64)
    charged = [
        coef * estimate(rule["estimator"], wide(r["logp"]) - wide(r["ref"]))
        if rule["kl_in"] != "loss"
        else wide([0.0] * len(r["logp"]))
        for r in batch
    ]
    rewards = wide([r["shaped"] for r in batch])
    if rule["kl_in"] == "reward":
        rewards = rewards - torch.stack([kl.sum() for kl in charged])
    own = rewards.clone()
    for places in groups:
        group, n = rewards[places], len(places)
        if varied and "max_at_k" in varied:
            own[places] = wide(diversity.max_at_k(group.tolist(), varied["max_at_k"]["k"]))
            own[places] /= group.std() + 1e-4 if rule["scale"] == "group" else 1
            continue
        lengths = wide([len(batch[at]["logp"]) for at in places])
        match rule["baseline"]:
            case "group":
                own[places] = group - group.mean()
            case "leave_one_out":
                own[places] = group - (group.sum() - group) / (n - 1)
            case "length_weighted":
                own[places] = group - (group * lengths).sum() / lengths.sum()
            case "batch":
                own[places] = group - rewards.mean()
        if rule["scale"] == "group":
            own[places] /= group.std() + 1e-4
    if rule["scale"] == "batch":
        own /= rewards.std() + 1e-4
    if rule["scale"] == "whiten":
        own = (own - own.mean()) / (own.std() + 1e-4)
    for places in groups if varied else []:
        members = [batch[at] for at in places]
        factors = diversity.factors(varied, members, [r["shaped"] for r in members])
        own[places] *= wide(factors)
    rows = [advantage.repeat(len(r["logp"])) for advantage, r in zip(own, batch)]
    if rule["kl_in"] == "returns":
        rows = [row - kl.flip(0).cumsum(0).flip(0) for row, kl in zip(rows, charged)]
    if rule["scale"] == "whiten_tokens":
        every = torch.cat(rows)
        rows = [(row - every.mean()) / (every.var() + 1e-8).sqrt() for row in rows]
    return rows


def token_losses(new, old, advantage, rule):
    """[T], and what the bounds did: the ratio, and whether the lower or the upper one clipped."""
    change = new - old
    change = {
        "token": change,
        "sequence": change.mean().expand_as(change),
        "sequence_sum": change.sum().expand_as(change),
    }[rule["ratio"]]
    ratio, high = change.exp(), 1 + rule["high"]
    if rule["form"] == "cispo":
        bounded = ratio.detach().clamp(max=high)
        return -bounded * advantage * new, ratio, torch.zeros_like(ratio) > 1, ratio > high
    free, held = -advantage * ratio, -advantage * ratio.clamp(1 - rule["low"], high)
    loss, clipped = torch.maximum(free, held), held > free
    low, high = clipped & (advantage < 0), clipped & (advantage > 0)
    if rule["dual"] is not None:
        bound = torch.where(advantage < 0, -advantage * rule["dual"], torch.inf)
        high = high | (loss > bound)
        loss = torch.minimum(loss, bound)
    return loss, ratio, low, high


def averaged(losses, rule, limit):
    """One number of the losses [T] of the responses of a minibatch."""
    n = len(losses)
    match rule["average"]:
        case "token_mean":
            return torch.cat(losses).mean()
        case "sequence_mean_token_mean":
            return torch.stack([own.mean() for own in losses]).mean()
        case "sequence_mean_token_sum":
            return torch.stack([own.sum() for own in losses]).mean()
        case "constant":
            return torch.stack([own.sum() for own in losses]).sum() / (n * limit)


def kl_in_loss(new, ref, rule):
    """[T], where KL is in the loss."""
    d = new - ref
    if rule["estimator"] == "k3_plus":
        square = estimate("k2", d)
        return square + (estimate("k3", d) - square).detach()
    return estimate(rule["estimator"], d)

"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024) of single answers with a label."""

import torch


def partner(prompts, answers, at, context):
    """The row whose answer follows the prompt of row `at` to estimate the reference point: the
    nearest one before it, cyclically, with another prompt and an answer that fits."""
    for back in range(1, len(prompts)):
        other = (at - back) % len(prompts)
        if prompts[other] != prompts[at] and len(prompts[at]) + len(answers[other]) <= context:
            return other
    raise ValueError(f"row {at} has no partner")


def reference_point(config, log_ratios):
    """z0: a number, not a function of the weights."""
    if config.get("z0") == "none":
        return torch.tensor(0.0, dtype=torch.float64)
    return torch.stack(log_ratios).detach().mean().clamp(min=0)


def kto_loss(config, log_ratio, z0, desirable):
    """The weight times (1 - s(.)), of section 4 of the paper."""
    beta = config["beta"]
    if desirable:
        weight, inner = config.get("desirable_weight", 1.0), beta * (log_ratio - z0)
    else:
        weight, inner = config.get("undesirable_weight", 1.0), beta * (z0 - log_ratio)
    return weight * (1 - torch.sigmoid(inner))

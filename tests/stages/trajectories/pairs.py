"""Losses on preference pairs without a reward model, each from its paper; a pair at a time.

`p` and `ref` are log-probabilities of the chosen and the rejected answer under the policy and the
reference, summed over tokens; `n` their numbers of tokens.
"""

import torch
from torch.nn.functional import logsigmoid, relu


def log_odds(mean):
    """Of a probability, from its logarithm (Hong et al. 2024, eq. 4)."""
    return mean - torch.log1p(-mean.exp())


def own_likelihood(config):
    """The weight of the chosen answer's mean negative log-likelihood."""
    return config.get("sft_weight", 1.0 if config["loss"] in ("cpo", "orpo") else 0.0)


def pair_loss(config, p, ref, n):
    beta, e = config["beta"], config.get("label_smoothing")
    (pc, pr), (rc, rr), (nc, nr) = p, ref, n
    c, r = pc - rc, pr - rr
    gap = beta * (c - r)
    match config["loss"]:
        case "sigmoid":  # Rafailov et al. 2023, eq. 7
            loss = -logsigmoid(gap)
        case "cdpo":  # Mitchell 2023
            loss = -(1 - e) * logsigmoid(gap) - e * logsigmoid(-gap)
        case "robust":  # Chowdhury et al. 2024
            loss = (-(1 - e) * logsigmoid(gap) + e * logsigmoid(-gap)) / (1 - 2 * e)
        case "hinge":  # Zhao et al. 2023
            loss = relu(1 - gap)
        case "ipo":  # Azar et al. 2023, eq. 17, with means over tokens
            loss = (c / nc - r / nr - 1 / (2 * beta)) ** 2
        case "ipo_sum":
            loss = (c - r - 1 / (2 * beta)) ** 2
        case "sigmoid_norm":  # Lambert et al. 2024
            loss = -logsigmoid(beta * (c / nc - r / nr))
        case "apo_zero":  # D'Oosterlinck et al. 2024
            loss = 1 - torch.sigmoid(beta * c) + torch.sigmoid(beta * r)
        case "apo_down":
            loss = torch.sigmoid(beta * c) + 1 - torch.sigmoid(gap)
        case "decoupled":  # Slocum et al. 2025, put into the likelihood of Bradley and Terry
            alpha = config["entropy_weight"]
            loss = -logsigmoid((alpha * pc - beta * rc) - (alpha * pr - beta * rr))
        case "simpo":  # Meng et al. 2024, eq. 6
            gamma = config.get("gamma_over_beta", 0.5) * beta
            loss = -logsigmoid(beta / nc * pc - beta / nr * pr - gamma)
        case "cpo":  # Xu et al. 2024
            loss = -logsigmoid(beta * pc - beta * pr)
        case "orpo":  # Hong et al. 2024, eq. 7
            loss = -beta * logsigmoid(log_odds(pc / nc) - log_odds(pr / nr))
    return loss - own_likelihood(config) * pc / nc


def reward(config, p, ref, n):
    """The implicit reward of an answer."""
    match config["loss"]:
        case "simpo" | "orpo":
            return config["beta"] * p / n
        case "decoupled":
            return config["entropy_weight"] * p - config["beta"] * ref
        case _:
            return config["beta"] * (p - ref)

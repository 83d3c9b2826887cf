"""From scores and log-probabilities to advantages and returns, by the rules of each source.

A response is a dict: logp, ref (of its T tokens), values (before each of its positions), score,
ended, limit (the most tokens it may have). A convention is a dict of the keys of `DEFAULT`.
GAE: Schulman et al. 2016, eq. 16. KL estimators: Schulman 2020. Adaptive KL: Ziegler et al. 2019.
"""

import math

DEFAULT = dict(
    kl="k1",
    low=None,
    high=None,
    gamma=1.0,
    lam=0.95,
    after_eos=False,
    padded=False,
    whiten_rewards=None,
    whiten="unbiased",
    missing=("keep", 0.0),
)
AFTER = dict(DEFAULT, after_eos=True)
PRESETS = {
    None: DEFAULT,
    # verl and NeMo-RL.
    "verl": DEFAULT,
    # Kirk et al. 2024, tables 2 to 4.
    "paper": dict(DEFAULT, kl="k2", gamma=0.999),
    # Huang et al. 2024: a response without EOS scores -1.
    "nplus": dict(AFTER, missing=("replace", -1.0)),
    # TRL's `missing_eos_penalty` 1.0.
    "trl": dict(AFTER, missing=("subtract", 1.0)),
    # torchtune's `whiten` adds the mean back.
    "torchtune": dict(AFTER, whiten="keep_mean"),
    "deepspeed_chat": dict(AFTER, whiten=None),
    "openrlhf": dict(DEFAULT, low=-10.0, high=10.0, whiten="biased"),
    "alpaca_farm": dict(
        DEFAULT, low=0.0, lam=1.0, padded=True, whiten_rewards="biased", whiten="biased"
    ),
}


def kl(rule, logp, ref):
    d = logp - ref
    k = {"k1": d, "k2": d * d / 2, "k3": math.exp(-d) - 1 + d}[rule["kl"]]
    k = k if rule["low"] is None else max(k, rule["low"])
    return k if rule["high"] is None else min(k, rule["high"])


def optimised_score(rule, score, ended):
    how, number = rule["missing"]
    return score if ended or how == "keep" else number if how == "replace" else score - number


def has_position_after_eos(rule, tokens, limit):
    """Only a response shorter than the limit has room behind its last token."""
    return rule["after_eos"] and tokens < limit


def fitted_positions(rule, tokens, limit):
    return tokens + has_position_after_eos(rule, tokens, limit)


def gae_positions(rule, tokens, limit):
    return limit if rule["padded"] else fitted_positions(rule, tokens, limit)


def normalised(rows, how, keep_mean):
    flat = [x for row in rows for x in row]
    mean = sum(flat) / len(flat)
    square = sum((x - mean) ** 2 for x in flat) / (len(flat) - (how != "biased"))
    scale, shift = 1 / math.sqrt(square + 1e-8), mean if keep_mean else 0.0
    return [[(x - mean) * scale + shift for x in row] for row in rows]


def estimate(responses, coef, rule):
    """Advantages of the tokens, and returns of the positions whose values are fitted."""
    rewards = []
    for r in responses:
        tokens = len(r["logp"])
        row = [-coef * kl(rule, p, q) for p, q in zip(r["logp"], r["ref"])]
        row += [0.0] * (gae_positions(rule, tokens, r["limit"]) - tokens)
        at = tokens if has_position_after_eos(rule, tokens, r["limit"]) else tokens - 1
        row[at] += optimised_score(rule, r["score"], r["ended"])
        rewards.append(row)
    if rule["whiten_rewards"]:
        rewards = normalised(rewards, rule["whiten_rewards"], keep_mean=True)
    raw = []
    for r, row in zip(responses, rewards):
        advantages, after, value = [], 0.0, 0.0
        for reward, v in zip(reversed(row), reversed(r["values"][: len(row)])):
            after = reward + rule["gamma"] * value - v + rule["gamma"] * rule["lam"] * after
            value = v
            advantages.insert(0, after)
        raw.append(advantages)
    counts = [len(r["logp"]) for r in responses]
    fitted = [fitted_positions(rule, n, r["limit"]) for n, r in zip(counts, responses)]
    returns = [
        [a + v for a, v in zip(row[:n], r["values"])] for row, n, r in zip(raw, fitted, responses)
    ]
    rows = raw if rule["padded"] else [row[:n] for row, n in zip(raw, counts)]
    if rule["whiten"]:
        rows = normalised(rows, rule["whiten"], keep_mean=rule["whiten"] == "keep_mean")
    return [row[:n] for row, n in zip(rows, counts)], returns


def objective(responses, coef, rule):
    """What a batch of rollouts says, under TRL's names; KL is k1, summed over a response."""
    n = len(responses)
    mean = lambda of: sum(map(of, responses)) / n
    tokens = sum(len(r["logp"]) for r in responses)
    own = mean(lambda r: sum(r["logp"]) - sum(r["ref"]))
    charged = mean(lambda r: sum(kl(rule, p, q) for p, q in zip(r["logp"], r["ref"])))
    scores = mean(lambda r: optimised_score(rule, r["score"], r["ended"]))
    ended = sum(r["ended"] for r in responses)
    return {
        "objective/kl": own,
        "objective/kl_token": own * n / tokens,
        "objective/kl_coef": coef,
        "objective/entropy": mean(lambda r: -sum(r["logp"])),
        "objective/non_score_reward": -coef * charged,
        "objective/rlhf_reward": scores - coef * charged,
        "objective/scores": scores,
        "objective/raw_scores": mean(lambda r: r["score"]),
        "val/num_eos_tokens": ended,
        "response_length/mean": tokens / n,
        "response_length/max": max(len(r["logp"]) for r in responses),
        "response_length/clip_ratio": (n - ended) / n,
    }


def adapted(coef, kl, episodes, target, horizon):
    return coef * (1 + min(max(kl / target - 1, -0.2), 0.2) * episodes / horizon)

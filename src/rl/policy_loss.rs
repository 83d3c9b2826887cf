//! Losses of policy gradients on tokens, and how they are averaged: the values and their
//! derivatives by each log-probability. Knows no model.
//!
//! With d_t = log p - log p_old of token t of a response of T tokens, and A_t its advantage:
//! 1. The ratio of a token is exp(d_t) (`token`: PPO, GRPO), exp of the mean of d over the response
//!    (`sequence`: GSPO, Zheng et al. 2025, arXiv 2507.18071) or exp of their sum (`sequence_sum`:
//!    RLOO as TRL has it).
//! 2. `clip`: max(-A r, -A clip(r, 1 - low, 1 + high)) (Schulman et al. 2017); `high` apart from
//!    `low` is DAPO's clip-higher (Yu et al. 2025, arXiv 2503.14476). With `dual`, the loss of a
//!    negative advantage is at most -A times that.
//! 3. `cispo`: -min(r, 1 + high) A log p, the weight without gradient (MiniMax 2025, arXiv
//!    2506.13585).
//! 4. KL in the loss, for each token: k2, k3, `k3_plus` (value of k3, gradient of k2). k1 has the
//!    same gradient whatever the policies are, so there is none.
//! 5. A loss is divided by what its average says, of the WHOLE update, so that the split into
//!    micro-batches changes nothing.

use serde::{Deserialize, Serialize};

use super::kl::{Clamp, Estimator, Kl};
use super::{Metrics, ratio_or_zero};

/// What probability ratio a token has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ratio {
    /// The token's own.
    Token,
    /// Geometric mean over the response's tokens.
    Sequence,
    /// Product over the response's tokens: the ratio of the response.
    SequenceSum,
}

/// The form of the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Clipped surrogate of PPO.
    Clip,
    /// Log-probability weighted by the ratio, which is held below a bound and has no gradient.
    Cispo,
}

/// What token losses are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// Number of tokens of the update (DAPO).
    TokenMean,
    /// Tokens of the response, then number of responses (GRPO).
    SequenceMeanTokenMean,
    /// Number of responses.
    SequenceMeanTokenSum,
    /// Number of responses times `max_new_tokens` (Dr. GRPO, as TRL has it).
    Constant,
}

/// How far the ratio may go from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Below 1.
    pub low: f64,
    /// Above 1.
    pub high: f64,
    /// Dual clip: largest loss of a negative advantage A, as a multiple of -A.
    pub dual: Option<f64>,
}

/// Estimators of KL that are in a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKl {
    /// Half the squared log-ratio.
    K2,
    /// `e^-d - 1 + d`.
    K3,
    /// Value of k3 with the gradient of k2.
    K3Plus,
}

/// A loss with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyLoss {
    /// Ratio of a token.
    pub ratio: Ratio,
    /// Form of the loss.
    pub form: Form,
    /// Bounds of the ratio.
    pub bounds: Bounds,
    /// What token losses are divided by.
    pub average: Average,
    /// KL that is added to the loss, with its coefficient.
    pub kl: Option<(LossKl, f64)>,
}

/// The numbers of one response; all lists have an entry for each of its T tokens.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// Log-probabilities under the policy that is updated.
    pub policy: &'a [f64],
    /// The same under the policy that sampled.
    pub old: &'a [f64],
    /// The same under the reference.
    pub reference: &'a [f64],
    /// Advantages.
    pub advantages: &'a [f64],
}

/// The size of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Its responses.
    pub responses: usize,
    /// Their tokens.
    pub tokens: usize,
    /// `max_new_tokens`.
    pub limit: usize,
}

impl Average {
    /// The weight of the loss of each token of a response of `tokens` tokens.
    fn weight(self, tokens: usize, size: Size) -> f64 {
        let count = match self {
            Average::TokenMean => size.tokens,
            Average::SequenceMeanTokenMean => size.responses * tokens,
            Average::SequenceMeanTokenSum => size.responses,
            Average::Constant => size.responses * size.limit,
        };
        1.0 / count as f64
    }
}

/// Sums over the tokens of the updates of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossStatistics {
    tokens: usize,
    loss: f64,
    kl: f64,
    squared_log_ratio: f64,
    ratio_less_one: f64,
    low: usize,
    high: usize,
}

impl LossStatistics {
    /// `policy/approxkl_avg` of the tokens that came after `before` was noted; 0 of none.
    pub fn approximate_kl_since(&self, before: &LossStatistics) -> f64 {
        let squares = self.squared_log_ratio - before.squared_log_ratio;
        0.5 * ratio_or_zero(squares, self.tokens - before.tokens)
    }

    /// `loss/policy_avg` and `loss/kl_avg` (the mean over `updates` of the losses as they are
    /// averaged, without the KL's coefficient), `policy/approxkl_avg` (half the mean squared
    /// log-ratio), `policy/clipfrac_avg`, `clip_ratio/low_mean` and `clip_ratio/high_mean` (shares
    /// of tokens that the lower and the upper bound clip), `val/ratio`.
    pub fn metrics(&self, updates: usize) -> Metrics {
        let mean = |sum: f64| ratio_or_zero(sum, self.tokens);
        let (low, high) = (mean(self.low as f64), mean(self.high as f64));
        vec![
            ("loss/policy_avg", ratio_or_zero(self.loss, updates)),
            ("loss/kl_avg", ratio_or_zero(self.kl, updates)),
            ("policy/approxkl_avg", 0.5 * mean(self.squared_log_ratio)),
            ("policy/clipfrac_avg", low + high),
            ("clip_ratio/low_mean", low),
            ("clip_ratio/high_mean", high),
            ("val/ratio", 1.0 + mean(self.ratio_less_one)),
        ]
    }
}

impl PolicyLoss {
    /// The same loss, with this coefficient of the KL that is in it.
    pub fn with_kl_coef(self, coef: f64) -> Self {
        PolicyLoss { kl: self.kl.map(|(estimator, _)| (estimator, coef)), ..self }
    }

    /// The derivatives of the loss of one response by the policy's log-probabilities; its figures
    /// are added to `statistics`.
    ///
    /// # Panics
    /// If the lists differ in length.
    pub fn gradients(
        &self,
        response: Scored<'_>,
        size: Size,
        statistics: &mut LossStatistics,
    ) -> Vec<f64> {
        let Scored { policy, old, reference, advantages } = response;
        let tokens = policy.len();
        assert!(
            [old.len(), reference.len(), advantages.len()].iter().all(|length| *length == tokens),
            "one number a token"
        );
        let weight = self.average.weight(tokens, size);
        let differences: Vec<f64> = policy.iter().zip(old).map(|(new, old)| new - old).collect();
        let sum: f64 = differences.iter().sum();
        let log_ratio = |at: usize| match self.ratio {
            Ratio::Token => differences[at],
            Ratio::Sequence => sum / tokens as f64,
            Ratio::SequenceSum => sum,
        };
        // By the log-ratio of each token.
        let mut slopes = Vec::with_capacity(tokens);
        for at in 0..tokens {
            let (ratio, advantage) = (log_ratio(at).exp(), advantages[at]);
            let (loss, slope, clipped) = self.of_token(ratio, advantage, policy[at]);
            statistics.loss += weight * loss;
            match clipped {
                Some(Bound::Low) => statistics.low += 1,
                Some(Bound::High) => statistics.high += 1,
                None => {}
            }
            statistics.squared_log_ratio += differences[at] * differences[at];
            statistics.ratio_less_one += ratio - 1.0;
            slopes.push(weight * slope);
        }
        statistics.tokens += tokens;
        let mut gradients = match (self.form, self.ratio) {
            (Form::Cispo, _) | (_, Ratio::Token) => slopes,
            (Form::Clip, Ratio::Sequence) => {
                vec![slopes.iter().sum::<f64>() / tokens as f64; tokens]
            }
            (Form::Clip, Ratio::SequenceSum) => vec![slopes.iter().sum::<f64>(); tokens],
        };
        if let Some((estimator, coef)) = self.kl {
            for at in 0..tokens {
                let (kl, slope) = estimator.of(policy[at], reference[at]);
                statistics.kl += weight * kl;
                gradients[at] += coef * weight * slope;
            }
        }
        gradients
    }

    /// The loss of a token, its derivative by the log-ratio (of CISPO by the log-probability), and
    /// the bound that clips it, if one does.
    fn of_token(&self, ratio: f64, advantage: f64, log_prob: f64) -> (f64, f64, Option<Bound>) {
        let Bounds { low, high, dual } = self.bounds;
        if self.form == Form::Cispo {
            let weight = ratio.min(1.0 + high) * advantage;
            return (-weight * log_prob, -weight, (ratio > 1.0 + high).then_some(Bound::High));
        }
        let free = -advantage * ratio;
        let held = -advantage * ratio.clamp(1.0 - low, 1.0 + high);
        if held > free {
            return (held, 0.0, Some(if advantage > 0.0 { Bound::High } else { Bound::Low }));
        }
        match dual {
            Some(dual) if advantage < 0.0 && free > -advantage * dual => {
                (-advantage * dual, 0.0, Some(Bound::High))
            }
            _ => (free, free, None),
        }
    }
}

/// A bound of the ratio.
enum Bound {
    Low,
    High,
}

impl LossKl {
    /// The estimate for one token, and its derivative by the policy's log-probability.
    pub fn of(self, log_prob: f64, reference: f64) -> (f64, f64) {
        let value =
            |estimator| Kl { estimator, clamp: Clamp::default() }.value(log_prob, reference);
        let d = log_prob - reference;
        match self {
            LossKl::K2 => (value(Estimator::K2), d),
            LossKl::K3 => (value(Estimator::K3), -(-d).exp_m1()),
            LossKl::K3Plus => (value(Estimator::K3), d),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: [&[f64]; 3] =
        [&[-0.6, -1.5], &[-1.1, -0.2, -2.4, -0.9, -0.4], &[-0.3, -1.9, -0.7, -1.2, -0.5, -2.0]];
    const OLD: [&[f64]; 3] =
        [&[-0.8, -1.4], &[-1.2, -0.3, -2.0, -1.3, -0.4], &[-0.3, -1.5, -0.9, -1.2, -0.8, -2.1]];
    const REFERENCE: [&[f64]; 3] =
        [&[-0.9, -1.3], &[-1.0, -0.5, -1.8, -1.4, -0.4], &[-0.8, -1.6, -0.7, -1.5, -0.9, -1.1]];
    const ADVANTAGES: [f64; 3] = [1.2, -0.7, 0.4];
    const SIZE: Size = Size { responses: 3, tokens: 13, limit: 6 };
    const AVERAGES: [Average; 4] = [
        Average::TokenMean,
        Average::SequenceMeanTokenMean,
        Average::SequenceMeanTokenSum,
        Average::Constant,
    ];

    fn loss(ratio: Ratio, form: Form, low: f64, high: f64) -> PolicyLoss {
        let bounds = Bounds { low, high, dual: None };
        PolicyLoss { ratio, form, bounds, average: Average::SequenceMeanTokenMean, kl: None }
    }

    /// The loss of the fixture and its gradients, response after response.
    fn of_fixture(loss: &PolicyLoss) -> (f64, f64, Vec<f64>) {
        of(loss, &POLICY, 1.0)
    }

    /// `share` of the advantages.
    fn of(loss: &PolicyLoss, policy: &[&[f64]; 3], share: f64) -> (f64, f64, Vec<f64>) {
        let mut statistics = LossStatistics::default();
        let gradients = |at: usize, statistics: &mut LossStatistics| {
            let advantages = vec![share * ADVANTAGES[at]; policy[at].len()];
            let scored = Scored {
                policy: policy[at],
                old: OLD[at],
                reference: REFERENCE[at],
                advantages: &advantages,
            };
            loss.gradients(scored, SIZE, statistics)
        };
        let gradients: Vec<f64> = (0..3).flat_map(|at| gradients(at, &mut statistics)).collect();
        (statistics.loss, statistics.kl, gradients)
    }

    fn close(found: &[f64], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{what}: {found} for {expected}");
        }
    }

    /// Values of verl's and TRL's own functions on one fixture.
    #[test]
    fn losses_of_tokens_have_the_published_values() {
        let plain = loss(Ratio::Token, Form::Clip, 0.2, 0.2);
        let dual = PolicyLoss { bounds: Bounds { dual: Some(1.3), ..plain.bounds }, ..plain };
        for (loss, values, gradient) in [
            (
                plain,
                [-0.088037, -0.301433, -0.381495, -0.063582],
                [
                    0.0, -0.180967, 0.051575, 0.051575, 0.0, 0.069618, 0.046667, -0.022222,
                    -0.014896, 0.0, -0.022222, 0.0, -0.024559,
                ],
            ),
            (
                loss(Ratio::Token, Form::Clip, 0.2, 0.28),
                [-0.093133, -0.307967, -0.403576, -0.067263],
                [
                    -0.244281, -0.180967, 0.051575, 0.051575, 0.0, 0.069618, 0.046667, -0.022222,
                    -0.014896, -0.027142, -0.022222, 0.0, -0.024559,
                ],
            ),
            (
                dual,
                [-0.098366, -0.310385, -0.426254, -0.071042],
                [
                    0.0, -0.180967, 0.051575, 0.051575, 0.0, 0.0, 0.046667, -0.022222, -0.014896,
                    0.0, -0.022222, 0.0, -0.024559,
                ],
            ),
            (
                loss(Ratio::Token, Form::Cispo, 0.2, 0.1),
                [0.141386, 0.336633, 0.612671, 0.102112],
                [
                    -0.22, -0.180967, 0.051333, 0.051333, 0.031282, 0.051333, 0.046667, -0.022222,
                    -0.014896, -0.024444, -0.022222, -0.024444, -0.024444,
                ],
            ),
        ] {
            for (average, expected) in AVERAGES.into_iter().zip(values) {
                let (found, _, _) = of_fixture(&PolicyLoss { average, ..loss });
                close(&[found], &[expected], &format!("{loss:?}, {average:?}"));
            }
            close(&of_fixture(&loss).2, &gradient, &format!("{loss:?}"));
        }
    }

    #[test]
    fn losses_of_sequences_have_the_published_values() {
        let (gspo, _, gradient) = of_fixture(&loss(Ratio::Sequence, Form::Clip, 0.03, 0.04));
        close(&[gspo], &[-0.310997], "GSPO");
        let expected = [[0.0; 2].as_slice(), &[0.048571; 5], &[-0.022975; 6]].concat();
        close(&gradient, &expected, "GSPO");
        let (rloo, _, gradient) = of_fixture(&loss(Ratio::SequenceSum, Form::Clip, 0.2, 0.2));
        close(&[rloo], &[-0.317074], "RLOO");
        let expected = [[-0.442068; 2].as_slice(), &[0.284994; 5], &[0.0; 6]].concat();
        close(&gradient, &expected, "RLOO");
    }

    #[test]
    fn kl_in_the_loss_has_the_published_values() {
        let with = |estimator| PolicyLoss {
            average: Average::TokenMean,
            kl: Some((estimator, 0.04)),
            ..loss(Ratio::Token, Form::Clip, 0.2, 0.2)
        };
        for (estimator, gradient) in [
            (
                LossKl::K3,
                [
                    0.000797, -0.000681, -0.000324, 0.000797, -0.00253, 0.001211, 0.0, 0.001211,
                    -0.001076, 0.0, 0.000797, 0.001014, -0.004491,
                ],
            ),
            (
                LossKl::K3Plus,
                [
                    0.000923, -0.000615, -0.000308, 0.000923, -0.001846, 0.001538, 0.0, 0.001538,
                    -0.000923, 0.0, 0.000923, 0.001231, -0.002769,
                ],
            ),
        ] {
            let (_, kl, found) = of(&with(estimator), &POLICY, 0.0);
            close(&[0.04 * kl], &[0.003889], &format!("{estimator:?}"));
            close(&found, &gradient, &format!("{estimator:?}"));
        }
        assert_eq!(LossKl::K2.of(-1.0, -1.5), (0.125, 0.5));
    }

    /// By enumeration of four tokens: on samples of p the expected gradient of k2 and `k3_plus` is
    /// that of KL(p || q), that of k3 is that of KL(q || p).
    #[test]
    fn expected_gradients_are_those_of_the_two_divergences() {
        let softmax = |logits: &[f64]| -> Vec<f64> {
            let sum: f64 = logits.iter().map(|x| x.exp()).sum();
            logits.iter().map(|x| x.exp() / sum).collect()
        };
        let (logits, q) = ([0.3, -0.8, 1.1, 0.0], softmax(&[-0.2, 0.5, 0.4, -1.0]));
        let kl = |p: &[f64], q: &[f64]| -> f64 {
            p.iter().zip(q).map(|(p, q)| p * (p.ln() - q.ln())).sum()
        };
        for (estimator, reverse) in
            [(LossKl::K2, true), (LossKl::K3Plus, true), (LossKl::K3, false)]
        {
            let p = softmax(&logits);
            let slope = |token: usize| estimator.of(p[token].ln(), q[token].ln()).1;
            for at in 0..4 {
                let of_log = |token: usize| f64::from(u8::from(token == at)) - p[at];
                let expected: f64 =
                    (0..4).map(|token| p[token] * slope(token) * of_log(token)).sum();
                let moved = |step: f64| {
                    let mut logits = logits;
                    logits[at] += step;
                    let p = softmax(&logits);
                    if reverse { kl(&p, &q) } else { kl(&q, &p) }
                };
                let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((expected - difference).abs() < 1e-8, "{estimator:?} {at}");
            }
        }
    }

    #[test]
    fn what_is_clipped_is_counted_by_its_bound() {
        let mut statistics = LossStatistics::default();
        let plain = loss(Ratio::Token, Form::Clip, 0.2, 0.2);
        for at in 0..3 {
            let advantages = vec![ADVANTAGES[at]; POLICY[at].len()];
            let scored = Scored {
                policy: POLICY[at],
                old: OLD[at],
                reference: REFERENCE[at],
                advantages: &advantages,
            };
            plain.gradients(scored, SIZE, &mut statistics);
        }
        // exp(.2), exp(.2) and exp(.3) of positive advantages, exp(-.4) of the negative one.
        assert_eq!((statistics.high, statistics.low, statistics.tokens), (3, 1, 13));
    }

    proptest! {
        /// Away from the bounds, where a loss has a kink.
        #[test]
        fn gradients_are_the_slopes(shift in -0.05f64..0.05, token in 0usize..13) {
            for ratio in [Ratio::Token, Ratio::Sequence, Ratio::SequenceSum] {
                let kl = Some((LossKl::K3, 0.3));
                let loss = PolicyLoss { kl, ..loss(ratio, Form::Clip, 0.9, 9.0) };
                let at = |step: f64| {
                    let mut policy: Vec<Vec<f64>> = POLICY.iter().map(|row| row.to_vec()).collect();
                    *policy.iter_mut().flatten().nth(token).unwrap() += shift + step;
                    let rows: [&[f64]; 3] = [&policy[0], &policy[1], &policy[2]];
                    let (value, kl, gradient) = of(&loss, &rows, 1.0);
                    (value + 0.3 * kl, gradient[token])
                };
                let step = 1e-5;
                let slope = (at(step).0 - at(-step).0) / (2.0 * step);
                let gradient = at(0.0).1;
                prop_assert!((slope - gradient).abs() < 1e-7, "{ratio:?}: {slope}, {gradient}");
            }
        }
    }
}

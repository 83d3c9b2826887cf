//! Losses on preference pairs that need no reward model: of the log-probabilities of both answers
//! under the policy and, for most, under a reference policy. Knows no model.
//!
//! p_c and p_r are the policy's log-probabilities of the chosen and the rejected answer, summed
//! over tokens, EOS included; ref_c and ref_r those of the reference; c = p_c - ref_c and r = p_r -
//! ref_r the log-ratios; n_c and n_r numbers of tokens; s the logistic function; x = beta (c - r);
//! e the smoothing.
//!
//! - `sigmoid`: -log s(x). Rafailov et al. 2023, arXiv 2305.18290, eq. 7.
//! - `cdpo`: -(1 - e) log s(x) - e log s(-x). Mitchell 2023, conservative DPO.
//! - `robust`: (-(1 - e) log s(x) + e log s(-x)) / (1 - 2 e). Chowdhury et al. 2024, arXiv
//!   2403.00409.
//! - `hinge`: max(0, 1 - x). Zhao et al. 2023, arXiv 2305.10425 (SLiC).
//! - `ipo`: (c/n_c - r/n_r - 1/(2 beta))^2. Azar et al. 2023, arXiv 2310.12036, eq. 17, of means
//!   over tokens, as TRL.
//! - `ipo_sum`: (c - r - 1/(2 beta))^2. The same of sums, as the equation and OpenRLHF.
//! - `sigmoid_norm`: -log s(beta (c/n_c - r/n_r)). Lambert et al. 2024, arXiv 2411.15124.
//! - `apo_zero`: 1 - s(beta c) + s(beta r). D'Oosterlinck et al. 2024, arXiv 2408.06266.
//! - `apo_down`: s(beta c) + 1 - s(x). The same.
//! - `decoupled`: -log s(alpha (p_c - p_r) - beta (ref_c - ref_r)). Soft preference learning,
//!   Slocum et al. 2025, arXiv 2511.08594. Its optimum, proportional to p_ref^(beta/alpha)
//!   e^(reward/alpha), gives reward = alpha log p - beta log p_ref + a constant of the prompt, for
//!   the likelihood of Bradley and Terry. alpha weighs the entropy, beta the cross-entropy with the
//!   reference; alpha = beta is `sigmoid`.
//! - `simpo`: -log s(beta (p_c/n_c - p_r/n_r) - gamma). Meng et al. 2024, arXiv 2405.14734, eq. 6.
//! - `cpo`: -log s(beta (p_c - p_r)). Xu et al. 2024, arXiv 2401.08417.
//! - `orpo`: -beta log s(o_c - o_r), o = log(q / (1 - q)), q = exp(p / n). Hong et al. 2024, arXiv
//!   2403.07691, eq. 4 and 7.
//!
//! `simpo`, `cpo` and `orpo` have no reference. To each may be added a weight times the mean
//! negative log-likelihood of the chosen answer, -p_c / n_c; `cpo` and `orpo` have it with the
//! weight 1 in their papers.

use serde::{Deserialize, Serialize};

use super::preference::{log_sigmoid, preferred, sigmoid};
use super::{Metrics, ratio_or_zero};

/// Which loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Direct preference optimisation.
    #[default]
    Sigmoid,
    /// Conservative DPO: labels are wrong with the chance `label_smoothing`.
    Cdpo,
    /// DPO whose expected loss under that noise is the loss without noise.
    Robust,
    /// Sequence likelihood calibration.
    Hinge,
    /// Identity preference optimisation, log-ratios averaged over tokens.
    Ipo,
    /// The same, log-ratios summed over tokens.
    IpoSum,
    /// DPO of log-ratios averaged over tokens.
    SigmoidNorm,
    /// Anchored preference optimisation: chosen up, rejected down.
    ApoZero,
    /// Anchored preference optimisation: both down, rejected further.
    ApoDown,
    /// Soft preference learning: weights of entropy and cross-entropy apart.
    Decoupled,
    /// Simple preference optimisation, without a reference.
    Simpo,
    /// Contrastive preference optimisation, without a reference.
    Cpo,
    /// Odds ratio preference optimisation, without a reference.
    Orpo,
}

impl Objective {
    /// Whether it takes a reference policy.
    pub fn has_reference(self) -> bool {
        !matches!(self, Objective::Simpo | Objective::Cpo | Objective::Orpo)
    }

    /// Whether labels are smoothed.
    pub fn is_smoothed(self) -> bool {
        matches!(self, Objective::Cdpo | Objective::Robust)
    }

    /// The weight of the mean negative log-likelihood of the chosen answer in its paper.
    pub fn own_likelihood_weight(self) -> f64 {
        match self {
            Objective::Cpo | Objective::Orpo => 1.0,
            _ => 0.0,
        }
    }
}

/// A loss with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DirectLoss {
    /// Which.
    pub objective: Objective,
    /// Strength of the pull to the reference, or scale of the margin; above 0.
    pub beta: f64,
    /// The chance that a label is wrong, in [0, 0.5): of `cdpo` and `robust`.
    pub smoothing: f64,
    /// The margin gamma of `simpo` over beta.
    pub gamma_over_beta: f64,
    /// The weight alpha of entropy: of `decoupled`.
    pub entropy: f64,
    /// Weight of the mean negative log-likelihood of the chosen answer.
    pub likelihood: f64,
}

/// An answer of a pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Log-probability under the policy, summed over tokens, in nats.
    pub policy: f64,
    /// The same under the reference; 0 where there is none.
    pub reference: f64,
    /// Number of tokens that the sums are over, above 0.
    pub tokens: usize,
}

/// The loss of a pair and its derivatives by the policy's log-probability of each answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairGradient {
    /// The loss, in the unit of the objective.
    pub loss: f64,
    /// By that of the chosen answer.
    pub chosen: f64,
    /// By that of the rejected answer.
    pub rejected: f64,
}

impl DirectLoss {
    /// Of a pair.
    pub fn of(&self, chosen: Answer, rejected: Answer) -> PairGradient {
        let beta = self.beta;
        let (c, r) = (chosen.policy - chosen.reference, rejected.policy - rejected.reference);
        let (nc, nr) = (chosen.tokens as f64, rejected.tokens as f64);
        // A function of x = beta (c - r), by its value and its derivative.
        let of_margin = |(loss, slope): (f64, f64)| PairGradient {
            loss,
            chosen: beta * slope,
            rejected: -beta * slope,
        };
        let x = beta * (c - r);
        let logistic = |x: f64| (-log_sigmoid(x), -sigmoid(-x));
        // The derivative of s.
        let bump = |x: f64| sigmoid(x) * sigmoid(-x);
        let mut found = match self.objective {
            Objective::Sigmoid => of_margin(logistic(x)),
            Objective::Cdpo => {
                let e = self.smoothing;
                of_margin((
                    -(1.0 - e) * log_sigmoid(x) - e * log_sigmoid(-x),
                    e * sigmoid(x) - (1.0 - e) * sigmoid(-x),
                ))
            }
            Objective::Robust => {
                let e = self.smoothing;
                of_margin((
                    (e * log_sigmoid(-x) - (1.0 - e) * log_sigmoid(x)) / (1.0 - 2.0 * e),
                    (-e * sigmoid(x) - (1.0 - e) * sigmoid(-x)) / (1.0 - 2.0 * e),
                ))
            }
            Objective::Hinge => of_margin(((1.0 - x).max(0.0), if x < 1.0 { -1.0 } else { 0.0 })),
            Objective::Ipo => {
                let distance = c / nc - r / nr - 0.5 / beta;
                PairGradient {
                    loss: distance * distance,
                    chosen: 2.0 * distance / nc,
                    rejected: -2.0 * distance / nr,
                }
            }
            Objective::IpoSum => {
                let distance = c - r - 0.5 / beta;
                PairGradient {
                    loss: distance * distance,
                    chosen: 2.0 * distance,
                    rejected: -2.0 * distance,
                }
            }
            Objective::SigmoidNorm => {
                let (loss, slope) = logistic(beta * (c / nc - r / nr));
                PairGradient { loss, chosen: beta * slope / nc, rejected: -beta * slope / nr }
            }
            Objective::ApoZero => PairGradient {
                loss: sigmoid(-beta * c) + sigmoid(beta * r),
                chosen: -beta * bump(beta * c),
                rejected: beta * bump(beta * r),
            },
            Objective::ApoDown => PairGradient {
                loss: sigmoid(beta * c) + sigmoid(-x),
                chosen: beta * (bump(beta * c) - bump(x)),
                rejected: beta * bump(x),
            },
            Objective::Decoupled => {
                let reference = beta * (chosen.reference - rejected.reference);
                let (loss, slope) =
                    logistic(self.entropy * (chosen.policy - rejected.policy) - reference);
                let slope = self.entropy * slope;
                PairGradient { loss, chosen: slope, rejected: -slope }
            }
            Objective::Simpo => {
                let margin = chosen.policy / nc - rejected.policy / nr - self.gamma_over_beta;
                let (loss, slope) = logistic(beta * margin);
                PairGradient { loss, chosen: beta * slope / nc, rejected: -beta * slope / nr }
            }
            Objective::Cpo => of_margin(logistic(beta * (chosen.policy - rejected.policy))),
            Objective::Orpo => {
                let (mean_c, mean_r) = (chosen.policy / nc, rejected.policy / nr);
                let (loss, slope) = logistic(log_odds(mean_c) - log_odds(mean_r));
                // The derivative of the log odds by log q is 1 / (1 - q). That of the loss by the
                // chosen log q, -s(log odds of r - log odds of c) / (1 - q_c), is written without
                // a division by 1 - q_c, which is 0 where the policy is sure of the answer.
                let odds_r = log_odds(mean_r).exp();
                let by_chosen = -odds_r / (mean_c.exp() - odds_r * mean_c.exp_m1());
                let by_rejected = slope / mean_r.exp_m1();
                PairGradient {
                    loss: beta * loss,
                    chosen: beta * by_chosen / nc,
                    rejected: beta * by_rejected / nr,
                }
            }
        };
        found.loss -= self.likelihood * chosen.policy / nc;
        found.chosen -= self.likelihood / nc;
        found
    }

    /// The reward that the loss gives an answer implicitly: beta times its log-ratio, or of a loss
    /// without a reference beta times its log-probability, averaged over tokens by `simpo` and
    /// `orpo`; of `decoupled` alpha log p - beta log p_reference.
    pub fn reward(&self, answer: Answer) -> f64 {
        let mean = answer.policy / answer.tokens as f64;
        match self.objective {
            Objective::Simpo | Objective::Orpo => self.beta * mean,
            Objective::Decoupled => self.entropy * answer.policy - self.beta * answer.reference,
            _ => self.beta * (answer.policy - answer.reference),
        }
    }
}

/// log(q / (1 - q)) of a probability q, from log q, which is below 0.
fn log_odds(log_q: f64) -> f64 {
    log_q - (-log_q.exp_m1()).ln()
}

/// Sums over pairs that the metrics are made of; those of micro-batches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DirectStatistics {
    pairs: usize,
    loss: f64,
    correct: f64,
    chosen: f64,
    rejected: f64,
    logp_chosen: f64,
    logp_rejected: f64,
}

impl DirectStatistics {
    /// Adds a pair.
    pub fn add(&mut self, loss: &DirectLoss, chosen: Answer, rejected: Answer, of_pair: f64) {
        let (of_chosen, of_rejected) = (loss.reward(chosen), loss.reward(rejected));
        self.pairs += 1;
        self.loss += of_pair;
        self.correct += preferred(of_chosen, of_rejected);
        self.chosen += of_chosen;
        self.rejected += of_rejected;
        self.logp_chosen += chosen.policy;
        self.logp_rejected += rejected.policy;
    }

    /// Mean loss of a pair; 0 of none.
    pub fn loss(&self) -> f64 {
        ratio_or_zero(self.loss, self.pairs)
    }

    /// Share of pairs whose chosen answer has the greater implicit reward, a tie counting half;
    /// 0 of none.
    pub fn accuracy(&self) -> f64 {
        ratio_or_zero(self.correct, self.pairs)
    }

    /// Means over pairs, by the names of TRL: `loss`; implicit rewards ([`DirectLoss::reward`]) of
    /// both sides, their margin and the share of pairs whose chosen answer has the greater one;
    /// log-probabilities of whole answers; and `num_pairs`.
    pub fn metrics(&self) -> Metrics {
        let mean = |sum: f64| ratio_or_zero(sum, self.pairs);
        vec![
            ("loss", self.loss()),
            ("rewards/chosen", mean(self.chosen)),
            ("rewards/rejected", mean(self.rejected)),
            ("rewards/margins", mean(self.chosen - self.rejected)),
            ("rewards/accuracies", self.accuracy()),
            ("logps/chosen", mean(self.logp_chosen)),
            ("logps/rejected", mean(self.logp_rejected)),
            ("num_pairs", self.pairs as f64),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(objective: Objective) -> DirectLoss {
        DirectLoss {
            objective,
            beta: 0.2,
            smoothing: 0.1,
            gamma_over_beta: 0.5,
            entropy: 0.3,
            likelihood: 0.0,
        }
    }

    fn answer(policy: f64, reference: f64, tokens: usize) -> Answer {
        Answer { policy, reference, tokens }
    }

    /// Loss and derivatives by the chosen and the rejected log-probability of two pairs, worked out
    /// in double precision by an independent implementation of the formulas with automatic
    /// differentiation.
    #[test]
    fn losses_and_gradients_are_the_formulas() {
        let pairs = [
            (answer(-6.5, -7.2, 4), answer(-9.0, -8.1, 6)),
            (answer(-11.0, -9.5, 7), answer(-5.5, -6.0, 3)),
        ];
        let with = |objective, likelihood| DirectLoss { likelihood, ..loss(objective) };
        let simpo = DirectLoss { beta: 2.0, ..loss(Objective::Simpo) };
        let cases = [
            (
                loss(Objective::Sigmoid),
                [[0.545893, -0.084135, 0.084135], [0.913015, -0.119738, 0.119738]],
            ),
            (
                loss(Objective::Cdpo),
                [[0.577893, -0.064135, 0.064135], [0.873015, -0.099738, 0.099738]],
            ),
            (
                loss(Objective::Robust),
                [[0.505893, -0.109135, 0.109135], [0.963015, -0.144738, 0.144738]],
            ),
            (loss(Objective::Hinge), [[0.68, -0.2, 0.2], [1.4, -0.2, 0.2]]),
            (loss(Objective::Ipo), [[4.730625, -1.0875, 0.725], [8.299887, -0.823129, 1.920635]]),
            (loss(Objective::IpoSum), [[0.81, -1.8, 1.8], [20.25, -9.0, 9.0]]),
            (
                loss(Objective::SigmoidNorm),
                [[0.661175, -0.024188, 0.016125], [0.731968, -0.01483, 0.034603]],
            ),
            (
                with(Objective::Sigmoid, 0.5),
                [[1.358393, -0.209135, 0.084135], [1.69873, -0.191166, 0.119738]],
            ),
            (simpo, [[1.501929, -0.38865, 0.2591], [0.959323, -0.176242, 0.411232]]),
            (
                with(Objective::Orpo, 1.0),
                [[1.780074, -0.283587, 0.023147], [1.680559, -0.158023, 0.033371]],
            ),
            (
                with(Objective::Cpo, 1.0),
                [[2.099077, -0.325508, 0.075508], [2.958764, -0.292909, 0.150052]],
            ),
            (
                loss(Objective::ApoZero),
                [[0.920178, -0.049756, 0.049597], [1.099422, -0.048892, 0.049875]],
            ),
            (
                loss(Objective::ApoDown),
                [[0.955619, 0.001014, 0.048742], [1.024245, 0.00084, 0.048052]],
            ),
        ];
        for (loss, expected) in cases {
            for ((chosen, rejected), expected) in pairs.iter().zip(expected) {
                let PairGradient { loss: value, chosen, rejected } = loss.of(*chosen, *rejected);
                for (found, expected) in [value, chosen, rejected].iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-6, "{loss:?}: {found} for {expected}");
                }
            }
        }
    }

    const ALL: [Objective; 13] = [
        Objective::Sigmoid,
        Objective::Cdpo,
        Objective::Robust,
        Objective::Hinge,
        Objective::Ipo,
        Objective::IpoSum,
        Objective::SigmoidNorm,
        Objective::ApoZero,
        Objective::ApoDown,
        Objective::Decoupled,
        Objective::Simpo,
        Objective::Cpo,
        Objective::Orpo,
    ];

    #[test]
    fn gradients_are_the_differences_of_losses() {
        for objective in ALL {
            for likelihood in [0.0, 0.7] {
                let loss = DirectLoss { likelihood, ..loss(objective) };
                let (chosen, rejected) = (answer(-6.5, -7.2, 4), answer(-9.3, -8.1, 6));
                let found = loss.of(chosen, rejected);
                let h = 1e-5;
                let moved = |c: f64, r: f64| {
                    let up =
                        |one: Answer, by: f64| answer(one.policy + by, one.reference, one.tokens);
                    loss.of(up(chosen, c), up(rejected, r)).loss
                };
                let by_chosen = (moved(h, 0.0) - moved(-h, 0.0)) / (2.0 * h);
                let by_rejected = (moved(0.0, h) - moved(0.0, -h)) / (2.0 * h);
                assert!((found.chosen - by_chosen).abs() < 1e-8, "{objective:?}");
                assert!((found.rejected - by_rejected).abs() < 1e-8, "{objective:?}");
            }
        }
    }

    /// Where policy and reference are one: log 2, 1, 1/(4 beta²). With alpha = beta soft preference
    /// learning is DPO.
    #[test]
    fn at_the_reference_losses_have_their_constants() {
        let (a, b) = (answer(-3.0, -3.0, 2), answer(-8.0, -8.0, 5));
        let at = |objective| loss(objective).of(a, b).loss;
        assert!((at(Objective::Sigmoid) - std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!(at(Objective::Hinge), 1.0);
        assert!((at(Objective::Ipo) - 6.25).abs() < 1e-12);
        let soft = DirectLoss { entropy: 0.2, ..loss(Objective::Decoupled) };
        let (c, r) = (answer(-6.5, -7.2, 4), answer(-9.0, -8.1, 6));
        let (soft, plain) = (soft.of(c, r), loss(Objective::Sigmoid).of(c, r));
        assert!((soft.loss - plain.loss).abs() < 1e-12);
        assert!((soft.chosen - plain.chosen).abs() < 1e-12);
    }

    /// Where the policy is sure of the chosen answer, its odds are infinite: the loss is 0, and by
    /// the chosen mean the derivative is -odds of the rejected answer.
    #[test]
    fn orpo_of_a_certain_answer_has_a_gradient() {
        let found = loss(Objective::Orpo).of(answer(0.0, 0.0, 4), answer(-9.0, 0.0, 6));
        let odds = (-1.5f64).exp() / (1.0 - (-1.5f64).exp());
        assert_eq!((found.loss, found.rejected), (0.0, 0.0));
        assert!((found.chosen + 0.2 * odds / 4.0).abs() < 1e-15, "{found:?}");
    }

    #[test]
    fn far_log_ratios_overflow_in_no_loss() {
        for objective in ALL {
            let found = loss(objective).of(answer(-900.0, -10.0, 9), answer(-10.0, -900.0, 9));
            let numbers = [found.loss, found.chosen, found.rejected];
            assert!(numbers.iter().all(|x| x.is_finite()), "{objective:?}: {found:?}");
        }
    }

    #[test]
    fn metrics_are_means_over_pairs() {
        let loss = loss(Objective::Sigmoid);
        let mut statistics = DirectStatistics::default();
        assert!(statistics.metrics().iter().all(|(_, value)| *value == 0.0));
        statistics.add(&loss, answer(-6.5, -7.2, 4), answer(-9.0, -8.1, 6), 0.5);
        statistics.add(&loss, answer(-11.0, -9.5, 7), answer(-5.5, -6.0, 3), 1.5);
        let found = statistics.metrics();
        let of = |name: &str| found.iter().find(|(own, _)| *own == name).unwrap().1;
        assert_eq!((of("loss"), of("num_pairs"), of("rewards/accuracies")), (1.0, 2.0, 0.5));
        assert!((of("rewards/chosen") - (0.14 - 0.3) / 2.0).abs() < 1e-12);
        assert!((of("rewards/margins") - (0.32 - 0.4) / 2.0).abs() < 1e-12);
        assert_eq!((of("logps/chosen"), of("logps/rejected")), (-8.75, -7.25));
    }
}

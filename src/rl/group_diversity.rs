//! Diversity in the objective of methods on groups: which arithmetic of [`super::diversity`] acts
//! on the rewards, or on the advantages, of the responses of a step. Knows no text and no model.
//!
//! A response without a reward is in no group: the others are treated as if it had not been drawn.

use serde::{Deserialize, Serialize};

use super::Metrics;
use super::advantage::Response;
use super::diversity::{self, Good};
use super::group::Rewarded;

/// How novelties change rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Weight times novelty is added.
    #[default]
    Add,
    /// Rewards are multiplied by novelty over the group's mean novelty.
    Multiply,
}

/// What is done for the sake of diversity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Diversity {
    /// [`diversity::add`] or [`diversity::multiply`] novelties.
    Novelty(Combine, f64),
    /// [`diversity::multiply`] by [`diversity::class_factors`], of good responses or of all.
    Darling(Option<Good>),
    /// [`diversity::mode_anchored`] with good responses and beta.
    Mara(Good, f64),
    /// [`diversity::uniform_correct`] with good responses and tau.
    Ucpo(Good, f64),
    /// [`diversity::max_at_k`].
    MaxAtK(usize),
    /// [`diversity::multiply`] by [`diversity::unlikeliness`] with good responses and beta.
    Unlikeliness(Good, f64),
}

/// How the responses to one prompt are alike.
#[derive(Clone, Debug, PartialEq)]
pub enum Kin {
    /// Similarity of each two of n responses, `[n,n]`.
    Similarities(Vec<f64>),
    /// The class of each response.
    Classes(Vec<usize>),
}

/// What models say of a response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihoods {
    /// Log-probability under the policy that sampled it, in nats.
    pub policy: f64,
    /// The same under the reference.
    pub reference: f64,
    /// Tokens, EOS included.
    pub tokens: usize,
}

impl Likelihoods {
    /// Of a scored response.
    pub fn of(response: &Response<'_>) -> Self {
        let sum = |numbers: &[f32]| numbers.iter().map(|x| f64::from(*x)).sum();
        Likelihoods {
            policy: sum(response.log_probs),
            reference: sum(response.reference),
            tokens: response.log_probs.len(),
        }
    }
}

/// Responses of one group that have a reward.
struct Members<'a> {
    /// Place of the group's first response among those of the step.
    start: usize,
    /// Responses of the group.
    size: usize,
    /// Places of members in the group.
    places: Vec<usize>,
    rewards: Vec<f64>,
    likelihoods: Vec<&'a Likelihoods>,
}

impl<'a> Members<'a> {
    /// Of each group, in order.
    fn of_groups(responses: &[Rewarded], likelihoods: &'a [Likelihoods]) -> Vec<Self> {
        let mut groups = Vec::new();
        let mut start = 0;
        for group in responses.chunk_by(|one, other| one.group == other.group) {
            let known = group.iter().enumerate().filter_map(|(at, own)| Some((at, own.reward?)));
            let (places, rewards): (Vec<usize>, Vec<f64>) = known.unzip();
            let likelihoods = places.iter().map(|place| &likelihoods[start + place]).collect();
            let size = group.len();
            groups.push(Members { start, size, places, rewards, likelihoods });
            start += size;
        }
        groups
    }

    fn policy(&self) -> Vec<f64> {
        self.likelihoods.iter().map(|own| own.policy).collect()
    }

    fn reference(&self) -> Vec<f64> {
        self.likelihoods.iter().map(|own| own.reference).collect()
    }
}

impl Diversity {
    /// `k`, where advantages are those of the expected maximum of `k` responses.
    pub fn best_of(self) -> Option<usize> {
        match self {
            Diversity::MaxAtK(k) => Some(k),
            _ => None,
        }
    }

    /// Changes rewards, and tells `objective/shaped_scores`, their mean afterwards, with
    /// `diversity/novelty`, the mean novelty, `diversity/classes`, the mean number of classes of a
    /// group, or `diversity/good`, the share of good responses. `likelihoods` has an entry a
    /// response; `kin` one a group where it takes similarities or classes.
    ///
    /// # Panics
    /// If `kin` is not what it takes.
    pub fn shape(
        self,
        responses: &mut [Rewarded],
        likelihoods: &[Likelihoods],
        kin: &[Kin],
    ) -> Metrics {
        let mut seen = Vec::new();
        for (at, members) in Members::of_groups(responses, likelihoods).iter().enumerate() {
            let own = self.shaped(members, kin.get(at), &mut seen);
            for (place, reward) in members.places.iter().zip(own) {
                responses[members.start + place].reward = Some(reward);
            }
        }
        let shaped: Vec<f64> = responses.iter().filter_map(|own| own.reward).collect();
        let mean = |numbers: &[f64]| super::ratio_or_zero(numbers.iter().sum(), numbers.len());
        let mut metrics = vec![("objective/shaped_scores", mean(&shaped))];
        metrics.extend(self.figure().map(|name| (name, mean(&seen))));
        metrics
    }

    /// The metric of what it sees of responses.
    fn figure(self) -> Option<&'static str> {
        match self {
            Diversity::Novelty(..) => Some("diversity/novelty"),
            Diversity::Darling(_) => Some("diversity/classes"),
            Diversity::Mara(..) | Diversity::Ucpo(..) | Diversity::Unlikeliness(..) => {
                Some("diversity/good")
            }
            Diversity::MaxAtK(_) => None,
        }
    }

    /// The rewards of a group afterwards; `seen` gets the numbers that the metric is the mean of.
    fn shaped(self, members: &Members<'_>, kin: Option<&Kin>, seen: &mut Vec<f64>) -> Vec<f64> {
        let Members { size, places, rewards, .. } = members;
        let mut good_of = |good: Good| {
            let good = good.of(rewards);
            seen.extend(good.iter().map(|good| f64::from(u8::from(*good))));
            good
        };
        match self {
            Diversity::Novelty(combine, weight) => {
                let Some(Kin::Similarities(all)) = kin else { panic!("similarities of a group") };
                let part = places.iter().flat_map(|one| places.iter().map(move |it| (one, it)));
                let part: Vec<f64> = part.map(|(one, other)| all[one * size + other]).collect();
                let novelties = diversity::novelties(&part, places.len());
                seen.extend(&novelties);
                match combine {
                    Combine::Add => diversity::add(rewards, &novelties, weight),
                    Combine::Multiply => {
                        diversity::multiply(rewards, &diversity::relative(&novelties))
                    }
                }
            }
            Diversity::Darling(good) => {
                let Some(Kin::Classes(all)) = kin else { panic!("classes of a group") };
                let classes: Vec<usize> = places.iter().map(|place| all[*place]).collect();
                let distinct: std::collections::BTreeSet<&usize> = classes.iter().collect();
                seen.push(distinct.len() as f64);
                let good = good.map(|good| good.of(rewards));
                diversity::multiply(rewards, &diversity::class_factors(&classes, good.as_deref()))
            }
            Diversity::Mara(good, beta) => {
                diversity::mode_anchored(rewards, &members.reference(), &good_of(good), beta)
            }
            Diversity::Unlikeliness(good, beta) => {
                let factors = diversity::unlikeliness(&members.policy(), &good_of(good), beta);
                diversity::multiply(rewards, &factors)
            }
            Diversity::Ucpo(good, _) => {
                good_of(good);
                rewards.clone()
            }
            Diversity::MaxAtK(_) => rewards.clone(),
        }
    }

    /// Changes advantages of responses; their rewards say which are good.
    pub fn reweigh(
        self,
        advantages: &mut [f64],
        responses: &[Rewarded],
        likelihoods: &[Likelihoods],
    ) {
        let Diversity::Ucpo(good, tau) = self else { return };
        for members in Members::of_groups(responses, likelihoods) {
            let mean = |own: &&Likelihoods| super::ratio_or_zero(own.policy, own.tokens);
            let means: Vec<f64> = members.likelihoods.iter().map(mean).collect();
            let factors = diversity::uniform_correct(&means, &good.of(&members.rewards), tau);
            for (place, factor) in members.places.iter().zip(factors) {
                advantages[members.start + place] *= factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: [f64; 5] = [-3.0, -1.0, -2.0, -4.0, -2.5];
    const REFERENCE: [f64; 5] = [-2.0, -5.0, -3.0, -1.0, -2.5];

    fn responses() -> (Vec<Rewarded>, Vec<Likelihoods>) {
        let rewards = [Some(1.0), None, Some(0.4), Some(-0.2), Some(0.8)];
        let groups = [0, 0, 0, 0, 1];
        let rewarded =
            |at: usize| Rewarded { group: groups[at], reward: rewards[at], tokens: at + 1 };
        let likelihoods = |at: usize| Likelihoods {
            policy: POLICY[at],
            reference: REFERENCE[at],
            tokens: at + 1,
        };
        ((0..5).map(rewarded).collect(), (0..5).map(likelihoods).collect())
    }

    /// Similarities and classes of four responses and of one.
    fn kin(diversity: Diversity) -> Vec<Kin> {
        match diversity {
            Diversity::Darling(_) => vec![Kin::Classes(vec![0, 1, 0, 2]), Kin::Classes(vec![0])],
            _ => {
                let of = |at: usize| if at / 4 == at % 4 { 1.0 } else { (at % 5) as f64 / 5.0 };
                let four = (0..16).map(of).collect();
                vec![Kin::Similarities(four), Kin::Similarities(vec![1.0])]
            }
        }
    }

    /// `kin` without the second response of the first group.
    fn without(kin: &[Kin]) -> Vec<Kin> {
        let first = match &kin[0] {
            Kin::Classes(classes) => Kin::Classes([classes[0], classes[2], classes[3]].to_vec()),
            Kin::Similarities(all) => {
                let kept = |at: &usize| at / 4 != 1 && at % 4 != 1;
                Kin::Similarities((0..16).filter(kept).map(|at| all[at]).collect())
            }
        };
        vec![first, kin[1].clone()]
    }

    #[test]
    fn a_response_without_a_reward_changes_no_other() {
        let good = Good::Quantile(0.5);
        for diversity in [
            Diversity::Novelty(Combine::Add, 0.7),
            Diversity::Novelty(Combine::Multiply, 1.0),
            Diversity::Darling(None),
            Diversity::Darling(Some(good)),
            Diversity::Mara(good, 0.1),
            Diversity::Ucpo(good, 0.3),
            Diversity::MaxAtK(2),
            Diversity::Unlikeliness(good, 0.5),
        ] {
            let (mut all, likelihoods) = responses();
            let (mut fewer, mut known) = (all.clone(), likelihoods.clone());
            fewer.remove(1);
            known.remove(1);
            let kin = kin(diversity);
            let told = diversity.shape(&mut all, &likelihoods, &kin);
            let others = diversity.shape(&mut fewer, &known, &without(&kin));
            assert_eq!(told, others, "{diversity:?}");
            assert_eq!(all.remove(1).reward, None);
            let rewards = |of: &[Rewarded]| of.iter().map(|own| own.reward).collect::<Vec<_>>();
            assert_eq!(rewards(&all), rewards(&fewer), "{diversity:?}");
        }
        let (all, likelihoods) = responses();
        let mut advantages = [1.0; 5];
        Diversity::Ucpo(good, 0.3).reweigh(&mut advantages, &all, &likelihoods);
        assert_eq!((advantages[1], advantages[4]), (1.0, 1.0));
        assert!(advantages[0] != 1.0 && advantages[2] != 1.0 && advantages[3] == 1.0);
    }
}

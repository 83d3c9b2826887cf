//! Numbers made of rewards: ensembles of reward models, the penalty of long responses, scaling and
//! clipping of scores. Knows no text and no model.

use serde::{Deserialize, Serialize};

use super::ratio_or_zero;

/// How the scores of several reward models become one (Coste et al. 2023, "Reward model ensembles
/// help mitigate overoptimization", section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Mean of the scores.
    #[default]
    Mean,
    /// Least of the scores: worst-case optimisation.
    Worst,
    /// Mean less this multiple of the biased variance: uncertainty-weighted optimisation.
    LessVariance(f64),
    /// Mean less this multiple of the unbiased standard deviation.
    LessDeviation(f64),
}

impl Combine {
    /// Whether its coefficient, if it has one, is a finite number of 0 or more.
    pub fn is_in_range(self) -> bool {
        match self {
            Combine::Mean | Combine::Worst => true,
            Combine::LessVariance(coef) | Combine::LessDeviation(coef) => {
                coef.is_finite() && coef >= 0.0
            }
        }
    }

    /// The score of a response that reward models gave `scores`.
    ///
    /// # Panics
    /// Without a score.
    pub fn of(self, scores: &[f64]) -> f64 {
        assert!(!scores.is_empty(), "an ensemble has members");
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let squares = || scores.iter().map(|score| (score - mean) * (score - mean)).sum::<f64>();
        match self {
            Combine::Mean => mean,
            Combine::Worst => scores.iter().copied().fold(f64::INFINITY, f64::min),
            Combine::LessVariance(coef) => mean - coef * squares() / count,
            Combine::LessDeviation(coef) => mean - coef * deviation(scores),
        }
    }
}

/// The unbiased standard deviation; 0 of fewer than two numbers.
pub fn deviation(numbers: &[f64]) -> f64 {
    if numbers.len() < 2 {
        return 0.0;
    }
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let squares: f64 = numbers.iter().map(|x| (x - mean) * (x - mean)).sum();
    (squares / (numbers.len() - 1) as f64).sqrt()
}

/// What scores are divided by before they are rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreScale {
    /// Nothing.
    #[default]
    None,
    /// Unbiased standard deviation of all scores of the run so far, those of the step included. The
    /// mean is not taken off.
    RunningStd,
}

/// What is made of scores before they are rewards (Zheng et al. 2023, "Secrets of RLHF in large
/// language models, part I: PPO", arXiv 2307.04964, section 5.3.1; in trlX `scale_reward: running`
/// and `cliprange_reward`): the scale first, then the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardScaling {
    /// What scores are divided by.
    pub scale: ScoreScale,
    /// Largest absolute score; larger ones are clipped. `null` clips none.
    pub clip: Option<f64>,
}

impl RewardScaling {
    /// Whether it is the default, which changes no score.
    pub fn is_default(&self) -> bool {
        *self == RewardScaling::default()
    }

    /// Scales and clips the scores of a step. `moments` are those of the scores before, to which
    /// these are added. While all scores so far are equal, or are fewer than two, none is divided.
    pub fn apply(&self, scores: &mut [f64], moments: &mut Moments) -> Scaled {
        moments.add(scores);
        let deviation = match self.scale {
            ScoreScale::None => 1.0,
            ScoreScale::RunningStd => moments.deviation(),
        };
        let divisor = if deviation > 0.0 { deviation } else { 1.0 };
        let most = self.clip.unwrap_or(f64::INFINITY);
        let mut clipped = 0;
        for score in scores.iter_mut() {
            let scaled = *score / divisor;
            clipped += usize::from(scaled.abs() > most);
            *score = scaled.clamp(-most, most);
        }
        let count = scores.len();
        Scaled {
            divisor,
            mean: ratio_or_zero(scores.iter().sum(), count),
            clipped: ratio_or_zero(clipped as f64, count),
        }
    }
}

/// What [`RewardScaling::apply`] did to the scores of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// What they were divided by.
    pub divisor: f64,
    /// Their mean after that and after clipping.
    pub mean: f64,
    /// Share of them that was clipped.
    pub clipped: f64,
}

/// Mean and spread of numbers that come in parts (Chan, Golub and LeVeque 1983, "Algorithms for
/// computing the sample variance", eq. 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// How many numbers there were.
    pub count: u64,
    /// Their mean; 0 of none.
    pub mean: f64,
    /// Sum of the squares of their distances from the mean.
    pub squares: f64,
}

impl Moments {
    /// Adds numbers to those before.
    pub fn add(&mut self, numbers: &[f64]) {
        let Some(first) = numbers.first() else { return };
        let (count, before) = (numbers.len() as f64, self.count as f64);
        // Equal numbers have no spread, whatever rounding makes of their mean.
        let mean = match numbers.iter().all(|number| number == first) {
            true => *first,
            false => numbers.iter().sum::<f64>() / count,
        };
        let squares: f64 = numbers.iter().map(|x| (x - mean) * (x - mean)).sum();
        let (distance, total) = (mean - self.mean, before + count);
        self.squares += squares + distance * distance * before * count / total;
        self.mean += distance * count / total;
        self.count += numbers.len() as u64;
    }

    /// The unbiased standard deviation; 0 of fewer than two numbers.
    pub fn deviation(&self) -> f64 {
        if self.count < 2 { 0.0 } else { (self.squares / (self.count - 1) as f64).sqrt() }
    }
}

/// The soft penalty of a response of `tokens` tokens, from 0 to -1 (Yu et al. 2025, "DAPO", eq.
/// 13): 0 up to `limit` - `buffer`, then falling in a line to -1 at `limit`.
pub fn overlong(tokens: usize, limit: usize, buffer: usize) -> f64 {
    let free = limit.saturating_sub(buffer);
    match tokens {
        _ if tokens <= free => 0.0,
        _ if tokens >= limit => -1.0,
        _ => -((tokens - free) as f64 / buffer as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand and from numpy: members .9, .2, 1.3, .5, coefficient .5.
    #[test]
    fn ensembles_have_the_published_values() {
        let scores = [0.9, 0.2, 1.3, 0.5];
        for (combine, expected) in [
            (Combine::Mean, 0.725),
            (Combine::Worst, 0.2),
            (Combine::LessVariance(0.5), 0.639_062_5),
            (Combine::LessDeviation(0.5), 0.485_643),
        ] {
            assert!((combine.of(&scores) - expected).abs() < 1e-6, "{combine:?}");
            assert!((combine.of(&[0.3]) - 0.3).abs() < 1e-15, "{combine:?} of one");
        }
        assert!(!Combine::LessVariance(-1.0).is_in_range());
        assert!(!Combine::LessDeviation(f64::NAN).is_in_range());
    }

    /// By hand: of 1, 3 the deviation is sqrt(2); of 1, 3, 5, 7 it is sqrt(20 / 3).
    #[test]
    fn scores_are_divided_by_the_running_deviation_and_then_clipped() {
        let scaling = RewardScaling { scale: ScoreScale::RunningStd, clip: Some(2.0) };
        let (mut moments, mut first) = (Moments::default(), [1.0, 3.0]);
        let told = scaling.apply(&mut first, &mut moments);
        let root = 2.0f64.sqrt();
        assert_eq!((first, told.divisor, told.clipped), ([1.0 / root, 2.0], root, 0.5));
        assert_eq!(told.mean, (1.0 / root + 2.0) / 2.0);
        let mut second = [5.0, 7.0];
        let told = scaling.apply(&mut second, &mut moments);
        let deviation = (20.0f64 / 3.0).sqrt();
        assert!((told.divisor - deviation).abs() < 1e-15, "{told:?}");
        assert!((second[0] - 5.0 / deviation).abs() < 1e-15 && second[1] == 2.0, "{second:?}");
        assert_eq!(moments, Moments { count: 4, mean: 4.0, squares: 20.0 });
        let mut negative = [-9.0];
        let clip = RewardScaling { clip: Some(1.5), ..RewardScaling::default() };
        let told = clip.apply(&mut negative, &mut Moments::default());
        assert_eq!((negative, told), ([-1.5], Scaled { divisor: 1.0, mean: -1.5, clipped: 1.0 }));
    }

    #[test]
    fn scores_that_do_not_differ_are_not_divided() {
        let scaling = RewardScaling { scale: ScoreScale::RunningStd, clip: None };
        for of in [&mut [][..], &mut [0.1][..], &mut [0.1; 3][..]] {
            let before = of.to_vec();
            assert_eq!(scaling.apply(of, &mut Moments::default()).divisor, 1.0);
            assert_eq!(of, before);
        }
    }

    /// The two-pass formula over all numbers at once.
    #[test]
    fn moments_of_parts_are_those_of_the_whole() {
        let numbers: Vec<f64> = (0..40).map(|at| 1e3 + f64::from(at * 37 % 11) / 7.0).collect();
        let mut moments = Moments::default();
        for part in [&numbers[..1], &numbers[1..1], &numbers[1..9], &numbers[9..]] {
            moments.add(part);
        }
        assert!((moments.deviation() - deviation(&numbers)).abs() < 1e-12);
        let mean = numbers.iter().sum::<f64>() / 40.0;
        assert!((moments.mean - mean).abs() < 1e-12 && moments.count == 40);
    }

    /// Limit 64, buffer 16.
    #[test]
    fn the_penalty_of_length_begins_in_the_buffer() {
        let penalties = [40, 48, 52, 64, 70].map(|tokens| overlong(tokens, 64, 16));
        assert_eq!(penalties, [0.0, 0.0, -0.25, -1.0, -1.0]);
        assert_eq!([7, 8, 9].map(|tokens| overlong(tokens, 8, 0)), [0.0, 0.0, -1.0]);
    }
}

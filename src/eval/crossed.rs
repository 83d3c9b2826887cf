//! The variance of a mean over seeds of training and test inputs, where every seed is measured on
//! the same inputs: seeds and inputs are crossed random effects. Knows neither what was trained nor
//! what is measured.
//!
//! 1. Model: value of seed s on input i = mu + a_s + b_i + e_si, with variances A of seeds, B of
//!    inputs and E of the rest (Searle, Casella and McCulloch 1992, "Variance Components", chapter
//!    4). Of k seeds and n inputs the mean has the variance A/k + B/n + E/(kn).
//! 2. Mean squares of the two-way analysis of variance: MS_A = n x variance of the seeds' means,
//!    MS_B = k x variance of the inputs' means, MS_E = sum of squared residuals / ((k-1)(n-1)).
//!    MS_A/(kn) estimates A/k + E/(kn) with k - 1 degrees of freedom, (MS_B - MS_E)/(kn) estimates
//!    B/n with n - 1; below 0 it counts as 0.
//! 3. The interval ([`Variance::reach`]): mean ± sqrt(sum over the parts of t² V), each part V with
//!    the quantile t of that part's degrees of freedom, as for a sum of independent estimates that
//!    have intervals (Zou and Donner 2008, Statistics in Medicine 27, 1693-1702). One t with
//!    Satterthwaite's degrees of freedom covers less with three seeds, and the pigeonhole bootstrap
//!    (Owen 2007, Annals of Applied Statistics 1, 386-411) less still: docs/evaluation.md has the
//!    shares.
//! 4. A gap is a difference of two test sets: the seeds' part is of each seed's own gap, and each
//!    test set has its part of inputs.

use statrs::distribution::ContinuousCDF;

use super::interval::{FEWEST, Interval, Kind, average, student};

/// Steps of the search of a p value; each halves the range.
const STEPS: usize = 60;

/// A part of a variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Of the mean, in squared units of the metric.
    pub variance: f64,
    /// Degrees of freedom of the estimate.
    pub freedom: f64,
}

/// The variance of a mean over seeds, as parts that are estimated independently.
#[derive(Clone, Debug, PartialEq)]
pub struct Variance {
    /// What another seed changes; it shrinks with the number of seeds.
    pub seeds: Part,
    /// What other inputs change, for each test set; empty where the inputs are held as they are,
    /// and where each seed has its own, whose part `seeds` has.
    pub inputs: Vec<Part>,
}

impl Variance {
    /// Of the mean of `k` values with this sample standard deviation.
    pub fn of_seeds(std: f64, k: usize) -> Self {
        let seeds = Part { variance: std * std / k as f64, freedom: k as f64 - 1.0 };
        Variance { seeds, inputs: Vec::new() }
    }

    /// The same parts for another number of seeds.
    pub fn with_seeds(&self, k: usize) -> Self {
        let ratio = (self.seeds.freedom + 1.0) / k as f64;
        let seeds = Part { variance: self.seeds.variance * ratio, freedom: k as f64 - 1.0 };
        Variance { seeds, inputs: self.inputs.clone() }
    }

    fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        std::iter::once(self.seeds).chain(self.inputs.iter().copied())
    }

    /// The sum of the parts.
    pub fn total(&self) -> f64 {
        self.parts().map(|part| part.variance).sum()
    }

    /// Degrees of freedom of the sum (Satterthwaite 1946, Biometrics Bulletin 2, 110-114).
    pub fn freedom(&self) -> f64 {
        let each = self.parts().map(|part| part.variance.powi(2) / part.freedom);
        self.total().powi(2) / each.sum::<f64>()
    }

    /// The distance from the mean at which the one-sided p value is `tail`, in (0, 0.5].
    pub fn reach(&self, tail: f64) -> f64 {
        let square = |part: Part| student(part.freedom).inverse_cdf(tail).powi(2) * part.variance;
        self.parts().filter(|part| part.variance > 0.0).map(square).sum::<f64>().sqrt()
    }

    /// The one-sided p value of a value that is `distance` below the mean: [`Variance::reach`]
    /// undone. More than a half where the distance is negative.
    ///
    /// # Panics
    /// If there is no variance.
    pub fn tail(&self, distance: f64) -> f64 {
        assert!(self.total() > 0.0, "a mean without a variance has no p value");
        if distance < 0.0 {
            return 1.0 - self.tail(-distance);
        }
        let t = distance / self.total().sqrt();
        let of = |part: Part| student(part.freedom).cdf(-t);
        let own: Vec<f64> = self.parts().filter(|part| part.variance > 0.0).map(of).collect();
        let (mut low, mut high) = (
            own.iter().copied().fold(f64::INFINITY, f64::min),
            own.iter().copied().fold(0.0, f64::max),
        );
        // With one part, or parts of equal degrees of freedom, the two are equal.
        if low == high || low == 0.0 {
            return high;
        }
        for _ in 0..STEPS {
            let middle = (low * high).sqrt();
            match self.reach(middle) > distance {
                true => low = middle,
                false => high = middle,
            }
        }
        high
    }

    /// The 95% interval of a mean over `n` seeds.
    pub fn around(&self, mean: f64, n: usize) -> Interval {
        let reach = self.reach(0.025);
        Interval { mean, low: mean - reach, high: mean + reach, n, kind: Kind::Crossed }
    }

    /// The two-sided p value that the mean is 0.
    pub fn p(&self, mean: f64) -> f64 {
        (2.0 * self.tail(mean.abs())).min(1.0)
    }

    /// The p value of equivalence: that the mean is within `margin` of 0, by two one-sided tests
    /// (Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15, 657-680), the larger one's.
    pub fn p_of_equivalence(&self, mean: f64, margin: f64) -> f64 {
        self.tail(margin - mean).max(self.tail(margin + mean))
    }
}

/// The values of one test set: a list a seed, of one value an input, in one order of inputs. They
/// are added with `sign`, 1 or -1.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// 1, or -1 for the test set that a gap subtracts.
    pub sign: f64,
    /// By seed, then by input.
    pub values: Vec<Vec<f64>>,
}

/// What varies in figures of seeds that share their inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossed {
    /// The variance of the mean over seeds, with both sources.
    pub variance: Variance,
    /// The standard deviation of a single seed's figure that is due to training (A): without the
    /// rest E, which the inputs are too few to average out.
    pub training: f64,
}

/// Of one block, or of the two of a gap. `None` where a block has fewer than [`FEWEST`] inputs, or
/// where nothing varies.
///
/// # Panics
/// If there are fewer than two seeds, or seeds have not as many values.
pub fn crossed(blocks: &[Block]) -> Option<Crossed> {
    let k = blocks.first()?.values.len();
    assert!(k >= 2, "one seed has no spread");
    if blocks.iter().any(|block| block.values[0].len() < FEWEST) {
        return None;
    }
    let figure = |seed: usize| -> f64 {
        blocks.iter().map(|block| block.sign * average(&block.values[seed])).sum()
    };
    let figures: Vec<f64> = (0..k).map(figure).collect();
    let seeds = Part { variance: variance(&figures) / k as f64, freedom: k as f64 - 1.0 };
    let (mut inputs, mut residuals) = (Vec::new(), 0.0);
    for block in blocks {
        let n = block.values[0].len();
        assert!(block.values.iter().all(|own| own.len() == n), "one value an input of each seed");
        let of_input =
            |at: usize| average(&block.values.iter().map(|own| own[at]).collect::<Vec<f64>>());
        let means: Vec<f64> = (0..n).map(of_input).collect();
        let grand = average(&means);
        let squares = |own: &Vec<f64>| {
            let middle = average(own);
            own.iter()
                .zip(&means)
                .map(|(value, mean)| (value - middle - mean + grand).powi(2))
                .sum::<f64>()
        };
        let square = block.values.iter().map(squares).sum::<f64>() / ((k - 1) * (n - 1)) as f64;
        let residual = square / (k * n) as f64;
        let of_inputs = (variance(&means) / n as f64 - residual).max(0.0);
        inputs.push(Part { variance: of_inputs, freedom: n as f64 - 1.0 });
        residuals += residual;
    }
    let training = (k as f64 * (seeds.variance - residuals)).max(0.0).sqrt();
    let variance = Variance { seeds, inputs };
    // What differs by rounding alone does not vary.
    let size = figures.iter().map(|value| value.abs()).fold(0.0, f64::max);
    (variance.total().sqrt() > 1e-12 * size).then_some(Crossed { variance, training })
}

/// The sample variance.
fn variance(values: &[f64]) -> f64 {
    let mean = average(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds and inputs that add up without a rest: the parts are the variances of each.
    #[test]
    fn effects_that_add_up_are_told_apart() {
        let (seeds, inputs) = ([0.0, 1.0, 5.0], [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
        let values = seeds.map(|a| inputs.iter().map(|b| a + b).collect()).to_vec();
        let block = Block { sign: 1.0, values };
        let Crossed { variance, training } = crossed(std::slice::from_ref(&block)).unwrap();
        // Of 0, 1, 5 the sample variance is 7; of 0, 2, …, 14 it is 24.
        let close = |part: Part, variance: f64, freedom: f64| {
            (part.variance - variance).abs() < 1e-12 && part.freedom == freedom
        };
        assert!(close(variance.seeds, 7.0 / 3.0, 2.0) && close(variance.inputs[0], 3.0, 7.0));
        assert!((training - 7f64.sqrt()).abs() < 1e-12);
        let found = variance.around(9.0, 3);
        // The 97.5th percentiles of Student's t: 4.302653 and 2.364624.
        let reach = (4.302653f64.powi(2) * 7.0 / 3.0 + 2.364624f64.powi(2) * 3.0).sqrt();
        assert!((found.high - 9.0 - reach).abs() < 1e-5 && (9.0 - found.low - reach).abs() < 1e-5);
        // A gap has the inputs of both test sets, and of the seeds what does not cancel.
        let gap = crossed(&[block.clone(), Block { sign: -1.0, ..block }]).unwrap();
        assert!(gap.variance.seeds.variance.abs() < 1e-24 && gap.training < 1e-12);
        assert!((gap.variance.total() - 6.0).abs() < 1e-12);
    }

    /// A rest whose rows and columns sum to 0, beside seeds that differ less than it lets expect:
    /// no part is below 0.
    #[test]
    fn a_rest_is_neither_training_nor_inputs() {
        let row = |(turn, seed): (f64, f64)| {
            (0..8).map(|at| seed + if at % 2 == 0 { turn } else { -turn }).collect()
        };
        let all = [(1.0, 0.0), (-1.0, 0.1), (1.0, 0.2), (-1.0, 0.3)];
        let values = all.map(row).to_vec();
        let found = crossed(&[Block { sign: 1.0, values }]).unwrap();
        // Of 0, 0.1, 0.2, 0.3 the variance is 1/60; the rest has 32 squares of 1 and 21 degrees of
        // freedom, and is more than 8/60.
        assert!((found.variance.total() - 1.0 / 240.0).abs() < 1e-12, "{found:?}");
        assert_eq!((found.variance.inputs[0].variance, found.training), (0.0, 0.0));
    }

    #[test]
    fn few_inputs_and_figures_that_do_not_vary_have_none() {
        let block = |values: Vec<Vec<f64>>| [Block { sign: 1.0, values }];
        let few: Vec<f64> = (0..7).map(f64::from).collect();
        assert_eq!(crossed(&block(vec![few.clone(), few])), None);
        assert_eq!(crossed(&block(vec![vec![0.1; 9]; 3])), None);
        // Seeds that agree leave the interval over inputs: 0, 2, …, 14 again.
        let inputs: Vec<f64> = (0..8).map(|at| f64::from(at) * 2.0).collect();
        let found = crossed(&block(vec![inputs; 3])).unwrap();
        let reach = 2.364624 * 3f64.sqrt();
        assert!((found.variance.reach(0.025) - reach).abs() < 1e-5 && found.training == 0.0);
    }

    #[test]
    fn a_p_value_is_the_level_whose_interval_ends_at_0() {
        let both = Variance {
            seeds: Part { variance: 0.04, freedom: 2.0 },
            inputs: vec![Part { variance: 0.01, freedom: 19.0 }],
        };
        for tail in [0.3, 0.025, 1e-3, 1e-6] {
            let distance = both.reach(tail);
            assert!((both.tail(distance) / tail - 1.0).abs() < 1e-6, "{tail}");
            assert!((both.tail(-distance) + tail - 1.0).abs() < 1e-6, "{tail}");
            assert!((both.p(-distance) / (2.0 * tail) - 1.0).abs() < 1e-6, "{tail}");
        }
        assert!((both.tail(0.0) - 0.5).abs() < 1e-12 && both.p(0.0) == 1.0);
        // Satterthwaite: 0.05² / (0.04² / 2 + 0.01² / 19).
        assert!((both.freedom() - 0.0025 / (0.0008 + 0.0001 / 19.0)).abs() < 1e-9);
        // Seeds alone are Student's: t = 2.920 is the 95th percentile of 2 degrees of freedom.
        let alone = Variance::of_seeds(3f64.sqrt(), 3);
        assert!((alone.tail(2.919986) - 0.05).abs() < 1e-6, "{}", alone.tail(2.919986));
        // Two one-sided tests: the nearer margin decides.
        let p = alone.p_of_equivalence(0.5, 2.919986 + 0.5);
        assert!((p - 0.05).abs() < 1e-6, "{p}");
        assert_eq!(p, alone.p_of_equivalence(-0.5, 2.919986 + 0.5));
        assert!(alone.p_of_equivalence(2.0, 1.0) > 0.5);
    }
}

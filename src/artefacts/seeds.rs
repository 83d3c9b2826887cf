//! `seeds.json` of an evaluation over seeds of training: figures with each seed's value.

use serde::{Deserialize, Serialize};

use crate::eval::correction::Correction;
use crate::eval::seeds::{Decision, OverSeeds};
use crate::eval::sequential::Anytime;

/// The file.
pub const SEEDS: &str = "seeds.json";

/// What a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// A figure of one method on one test set.
    Level,
    /// One method minus another on one test set.
    Difference,
    /// One method on one test set minus the same on another.
    Gap,
    /// What one method gains over another on one test set minus the same on another.
    GainGap,
    /// A policy minus best-of-n at the policy's KL.
    Matched,
    /// The policy's own mean in that comparison.
    MatchedOwn,
    /// The mean of best-of-n in it.
    MatchedBest,
    /// The KL of the policy in it, in nats.
    MatchedKl,
}

impl Quantity {
    /// Whether its mean is compared with 0.
    pub fn is_comparison(self) -> bool {
        matches!(self, Quantity::Difference | Quantity::Gap | Quantity::GainGap | Quantity::Matched)
    }

    /// Several of it.
    pub fn plural(self) -> &'static str {
        match self {
            Quantity::Level => "figures",
            Quantity::Difference => "differences",
            Quantity::Gap => "gaps",
            Quantity::GainGap => "gaps of gains",
            Quantity::Matched => "differences at equal KL",
            Quantity::MatchedOwn => "means of policies at equal KL",
            Quantity::MatchedBest => "means of best-of-n at equal KL",
            Quantity::MatchedKl => "KLs of policies",
        }
    }
}

/// One figure over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is of; [`Figure::quantity`] where the file does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Quantity>,
    /// The method.
    pub method: String,
    /// What `method` is compared with, where this is a difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// The test set.
    pub test_set: String,
    /// The test set that is subtracted, where this is a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The metric.
    pub metric: String,
    /// Mean, interval and deviation over seeds, and each seed's value.
    #[serde(flatten)]
    pub over: OverSeeds,
    /// Of a difference, with `statistics: basic`: p, Holm-corrected over all differences in this
    /// metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_holm: Option<f64>,
    /// The low and high ends of each seed's own 95% interval over inputs, of the seeds that have
    /// one; with `statistics: basic` of a figure of one method only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_inputs: Vec<[f64; 2]>,
    /// With `statistics: full`: what the spread is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Sources>,
    /// With `statistics: full`, of a comparison: what is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
    /// Of a comparison that seeds are added for until it is decided: what is known at this number
    /// of seeds, and at any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequential: Option<Sequential>,
}

/// A comparison by a test that holds at any number of seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequential {
    /// How many comparisons are decided together.
    pub of: usize,
    /// The level of this one: 0.05 over their number.
    pub level: f64,
    /// p value and interval at that level.
    #[serde(flatten)]
    pub known: Anytime,
    /// The region of practical equivalence: from minus this to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The verdict.
    pub verdict: Decision,
    /// How many seeds in all would decide at the observed mean and spread. `null` where no number
    /// up to 1000 does.
    pub seeds: Option<usize>,
}

/// Which inputs the seeds were measured on, by their prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestInputs {
    /// The same in every seed: an interval over seeds alone is of these inputs only.
    Same,
    /// Others in every seed; at most one in twenty of a seed's is another seed's too.
    Different,
    /// Some are the same; of a gap also where those of one test set alone are.
    Overlapping,
    /// `inputs.jsonl` of a seed has none of this test set.
    Unknown,
}

/// What the spread of a figure over seeds is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    /// The inputs of the seeds.
    pub inputs: TestInputs,
    /// Seeds that lack the figure: it is over the others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lacking: usize,
    /// The standard error over inputs of one seed's figure: the root of the mean square over seeds
    /// of half the width of each seed's own interval over 1.96. `null` where a seed has none.
    pub error_over_inputs: Option<f64>,
    /// The estimated standard deviation over seeds that training makes, without what test inputs
    /// make. `null` where it cannot be told from theirs.
    pub training: Option<f64>,
    /// Where the interval is over seeds and inputs: the ends of the one over seeds alone, by
    /// Student's t, for these inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds_alone: Option<[f64; 2]>,
}

/// What is decided of a comparison, at the level 0.05 of its family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// What the family has, in words.
    pub family: String,
    /// How many comparisons it has.
    pub of: usize,
    /// How p values are corrected.
    pub correction: Correction,
    /// `p`, corrected.
    pub p_corrected: f64,
    /// The region of practical equivalence: from minus this to this, where the metric has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The p value of equivalence, by two one-sided tests; none of seeds that are all equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_equivalence: Option<f64>,
    /// The same, corrected over the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_equivalence_corrected: Option<f64>,
    /// The verdict.
    pub verdict: Decision,
    /// The level of one test that seeds are planned for: 0.05 over the size of the family.
    pub level: f64,
    /// How many seeds in all would find a difference of the observed mean, at the observed spread,
    /// at that level with power 0.8. `null` where no number up to 1000 does.
    pub seeds_for_difference: Option<usize>,
    /// The same of equivalence, where there is a margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds_for_equivalence: Option<usize>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Half a 95% interval of a normal distribution, in standard deviations.
const REACH: f64 = 1.96;

impl Figure {
    /// What it is of. A file that does not say has levels and differences alone.
    pub fn quantity(&self) -> Quantity {
        let plain = if self.with.is_some() { Quantity::Difference } else { Quantity::Level };
        self.quantity.unwrap_or(plain)
    }

    /// The corrected p value of a comparison.
    pub fn p_corrected(&self) -> Option<f64> {
        self.test.as_ref().map(|test| test.p_corrected).or(self.p_holm)
    }

    /// The standard error of one seed's figure over inputs, as its interval has it: half the width
    /// over 1.96, mean over seeds. None where no seed has an interval.
    pub fn error_over_inputs(&self) -> Option<f64> {
        let errors = errors_over_inputs(&self.over_inputs);
        (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64)
    }
}

/// Each seed's standard error over inputs, from the ends of that seed's interval.
pub fn errors_over_inputs(ends: &[[f64; 2]]) -> Vec<f64> {
    ends.iter().map(|[low, high]| (high - low) / 2.0 / REACH).collect()
}

//! `optimum.json` of an evaluation: the optimum of the KL-regularised objective, estimated from
//! candidates of the reference policy, beside best-of-n and the methods. There is no such file
//! where the evaluation does not ask for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::points::family;
use crate::eval::interval::Interval;
use crate::eval::over_optimisation::{Fit, Form};

/// The file: a list of [`Optimum`].
pub const OPTIMUM: &str = "optimum.json";

/// The metric of the expected distance of two independent draws.
pub const DISTANCE: &str = "ngram_distance";

/// Figures by metric: `kl`; `rm`, the reward model's score; `reward`, that score after the
/// missing-EOS rule, where there is one; `gold`; `win_rate`; [`DISTANCE`].
pub type Figures = BTreeMap<String, Interval>;

/// The optimum on a test set, for several betas, and what is compared with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// The test set.
    pub test_set: String,
    /// The temperature at which candidates, and the samples of the methods, were drawn.
    pub temperature: f64,
    /// Inputs that have candidates.
    pub inputs: usize,
    /// Candidates of an input, of the input with the fewest.
    pub candidates: usize,
    /// The effective sample size below which there is no estimate.
    pub min_ess: f64,
    /// In the order of betas.
    pub by_beta: Vec<AtBeta>,
    /// Best-of-n of the same candidates, n rising.
    pub best_of_n: Vec<AtN>,
    /// Methods with samples of the same inputs at the same temperature.
    pub methods: Vec<OfMethod>,
    /// Gold over KL, fitted: of best-of-n, and of methods with several points of a sweep; artefacts
    /// of earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fits: Vec<Fit>,
}

/// The optimum at a beta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtBeta {
    /// The coefficient of the KL, in units of the reward a nat.
    pub beta: f64,
    /// The effective sample size of an input, as
    /// [`effective_over_inputs`](crate::eval::optimum::effective_over_inputs) has it.
    pub ess: f64,
    /// The smallest effective sample size of an input.
    pub least_ess: f64,
    /// None where the effective sample size is too small for an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
}

/// Best-of-n.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtN {
    /// Candidates that each answer is the best of.
    pub n: usize,
    /// Its figures; `kl` is an estimate of the KL itself, not its bound.
    pub figures: Figures,
}

/// A method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfMethod {
    /// Its name.
    pub method: String,
    /// Its figures, all of its samples.
    pub figures: Figures,
}

impl Optimum {
    /// Every point that has figures: what it is of, and the figures.
    pub fn points(&self) -> impl Iterator<Item = (String, &Figures)> {
        let by_beta = self.by_beta.iter().filter_map(|at| Some((at.name(), at.figures.as_ref()?)));
        let best_of_n = self.best_of_n.iter().map(|at| (at.name(), &at.figures));
        let methods = self.methods.iter().map(|of| (of.method.clone(), &of.figures));
        by_beta.chain(best_of_n).chain(methods)
    }

    /// Keeps some metrics of every point, and some methods.
    pub fn retain(&mut self, metric: impl Fn(&str) -> bool, method: impl Fn(&str) -> bool) {
        self.methods.retain(|of| method(&of.method));
        let of_methods = |fit: &Fit| self.methods.iter().any(|of| family(&of.method) == fit.family);
        self.fits.retain(|fit| metric("gold") && (fit.form == Form::BestOfN || of_methods(fit)));
        let by_beta = self.by_beta.iter_mut().filter_map(|at| at.figures.as_mut());
        let best_of_n = self.best_of_n.iter_mut().map(|at| &mut at.figures);
        let methods = self.methods.iter_mut().map(|of| &mut of.figures);
        for figures in by_beta.chain(best_of_n).chain(methods) {
            figures.retain(|name, _| metric(name));
        }
    }

    /// The greatest beta whose effective sample size is too small for an estimate.
    pub fn not_estimated(&self) -> Option<&AtBeta> {
        let without = self.by_beta.iter().filter(|at| at.figures.is_none());
        without.max_by(|one, other| one.beta.total_cmp(&other.beta))
    }

    /// What is to be said of it, a sentence each: what the effective sample size does not allow,
    /// and where gold is past its peak.
    pub fn notes(&self) -> Vec<String> {
        self.too_small().into_iter().chain(self.passed_peaks()).collect()
    }

    /// Where gold is past its peak, a sentence each.
    pub fn passed_peaks(&self) -> Vec<String> {
        self.fits.iter().filter_map(|fit| self.passed(fit)).collect()
    }

    /// Where gold is past its peak; `None` where it is not shown to be.
    fn passed(&self, fit: &Fit) -> Option<String> {
        let fall = fit.fall.as_ref().filter(|fall| fall.is_passed())?;
        let Interval { mean, low, high, .. } = fall.difference;
        let peak = fit.peak_kl.map(|kl| format!("; the fit has its peak at {kl:.2} nats"));
        let of = match fit.form {
            Form::BestOfN => "best-of-n",
            Form::Reinforcement => &fit.family,
        };
        Some(format!(
            "Gold of {of} on `{}` is past its peak: from {} (KL {:.2}) to {} (KL {:.2}) it changes \
             by {mean:.3} [{low:.3}, {high:.3}]{}.",
            self.test_set,
            fall.best,
            fall.best_kl,
            fall.furthest,
            fall.furthest_kl,
            peak.unwrap_or_default()
        ))
    }

    /// What the effective sample size does not allow; `None` where every beta has an estimate.
    fn too_small(&self) -> Option<String> {
        let at = self.not_estimated()?;
        Some(format!(
            "Optimum of the KL-regularised objective on `{}`: no estimate at beta {} and below, \
             where {} candidates an input have an effective sample size of {:.1} or less (`min_ess` \
             is {}).",
            self.test_set, at.beta, self.candidates, at.ess, self.min_ess
        ))
    }
}

impl AtBeta {
    /// What it is called beside others.
    pub fn name(&self) -> String {
        format!("optimum, beta {}", self.beta)
    }
}

impl AtN {
    /// What it is called beside others.
    pub fn name(&self) -> String {
        format!("best of {}", self.n)
    }
}

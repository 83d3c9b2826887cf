//! Sentinels at work: the figures of steps in their order, and what fires at which step.

use serde::{Deserialize, Serialize};

use super::settings::{Guard, Sentinels, guards};
use super::table::{Action, Figure, Measure, Over, RISE, START, named};

/// A sentinel that has fired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fired {
    /// Its name.
    pub sentinel: String,
    /// The step, from 1.
    pub step: usize,
    /// What was measured.
    pub value: f64,
    /// The threshold.
    pub threshold: f64,
    /// What is done.
    pub action: Action,
}

/// What the sentinels of a finished stage say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Those that fired, in the order of steps.
    pub fired: Vec<Fired>,
    /// The names of those that had the figures of enough steps to fire.
    pub judged: Vec<String>,
}

/// The sentinels of a run, and what they have seen.
pub struct Watch {
    total: usize,
    watched: Vec<Watched>,
}

struct Watched {
    guard: Guard,
    series: Series,
    /// The last measured numbers, as many as decide.
    window: Vec<f64>,
    /// Whether the window has been full.
    judged: bool,
    fired: bool,
}

/// What a measure keeps of earlier steps.
#[derive(Default)]
struct Series {
    /// The first figures, of [`Measure::ToStart`].
    start: Vec<f64>,
    /// Of [`Measure::AgainstHeldOut`]: the last scores.
    scores: Vec<f64>,
    /// Likewise: the best held-out score, and the mean of scores then.
    best: Option<(f64, f64)>,
}

impl Watch {
    /// No sentinel.
    pub fn none() -> Self {
        Watch { total: 0, watched: Vec::new() }
    }

    /// The sentinels of a stage kind in a run of `total` steps.
    pub fn new(kind: &str, total: usize, settings: &Sentinels) -> Self {
        let watched = |guard| Watched {
            guard,
            series: Series::default(),
            window: Vec::new(),
            judged: false,
            fired: false,
        };
        Watch { total, watched: guards(kind, settings).into_iter().map(watched).collect() }
    }

    /// Whether there is no sentinel.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// The names of the sentinels that have had the figures of enough steps to fire. An exact check
    /// has them always: its figure is left out where it is 0.
    pub fn judged(&self) -> Vec<String> {
        let own = self.watched.iter().filter(|it| it.judged || it.guard.sentinel.exact);
        own.map(|it| it.guard.sentinel.name.to_owned()).collect()
    }

    /// Takes the figures of step number `step`, from 1, and gives the sentinels that fire at it. Of
    /// two figures of one name the later counts. A sentinel fires once.
    pub fn step(&mut self, step: usize, figures: &[(&str, f64)]) -> Vec<Fired> {
        let find = |name: &str| {
            let found = figures.iter().rev().find(|(own, _)| *own == name);
            found.map(|(_, value)| *value)
        };
        let total = self.total;
        self.watched.iter_mut().filter_map(|own| own.step((step, total), &find)).collect()
    }
}

impl Watched {
    fn step(
        &mut self,
        (step, total): (usize, usize),
        find: &dyn Fn(&str) -> Option<f64>,
    ) -> Option<Fired> {
        let Guard { sentinel, action, threshold } = self.guard;
        let value = self.series.measure(sentinel.measure, find)?;
        if self.fired || step as f64 <= sentinel.after * total as f64 {
            return None;
        }
        let most = sentinel.over.steps();
        if self.window.len() == most {
            self.window.remove(0);
        }
        self.window.push(value);
        let holds = |value: f64| sentinel.side.holds(value, threshold);
        let (value, fires) = match sentinel.over {
            Over::Each(_) => (value, self.window.iter().all(|value| holds(*value))),
            Over::Mean(_) => {
                let mean = mean(&self.window);
                (mean, holds(mean))
            }
        };
        self.judged |= self.window.len() == most;
        self.fired = fires && self.window.len() == most;
        let sentinel = sentinel.name.to_owned();
        self.fired.then_some(Fired { sentinel, step, value, threshold, action })
    }
}

impl Series {
    /// What a step measures; `None` where it has not the figures.
    fn measure(&mut self, measure: Measure, find: &dyn Fn(&str) -> Option<f64>) -> Option<f64> {
        match measure {
            Measure::Plain(figure) => read(figure, find),
            Measure::Size(figure) => read(figure, find).map(f64::abs),
            Measure::ToStart(figure) => {
                let value = read(figure, find)?;
                if self.start.len() < START {
                    self.start.push(value);
                    return None;
                }
                let start = mean(&self.start);
                (start > 0.0).then(|| value / start)
            }
            Measure::AgainstHeldOut => {
                if self.scores.len() == RISE {
                    self.scores.remove(0);
                }
                self.scores.extend(find("objective/scores"));
                let held_out = find("validation/score")?;
                let scores = mean(&self.scores);
                match self.best {
                    Some((best, then)) if best > held_out => {
                        Some(if scores > then { best - held_out } else { 0.0 })
                    }
                    _ => {
                        self.best = Some((held_out, scores));
                        Some(0.0)
                    }
                }
            }
        }
    }
}

fn read(figure: Figure, find: &dyn Fn(&str) -> Option<f64>) -> Option<f64> {
    match figure {
        Figure::Named(name) => find(name),
        Figure::TokenEntropy => match (find("objective/entropy"), find("response_length/mean")) {
            (Some(entropy), Some(length)) => (length > 0.0).then(|| entropy / length),
            _ => find("entropy"),
        },
    }
}

fn mean(numbers: &[f64]) -> f64 {
    crate::ratio_or_zero(numbers.iter().sum(), numbers.len())
}

impl Fired {
    /// In a few words: `kl_runaway at step 12 (2.31, threshold 1.5)`.
    pub fn short(&self) -> String {
        let Fired { sentinel, step, value, threshold, .. } = self;
        format!("{sentinel} at step {step} ({}, threshold {threshold})", number(*value))
    }

    /// What was found, what it means and what to do.
    pub fn message(&self) -> String {
        let Fired { sentinel: name, step, value, threshold, .. } = self;
        let Some(sentinel) = named(name) else { return self.short() };
        format!(
            "sentinel `{name}` at step {step}: found {}, fires at {}. {} {}",
            number(*value),
            sentinel.condition(*threshold),
            sentinel.meaning,
            sentinel.remedy
        )
    }

    /// Whether the program is at fault.
    pub fn is_bug(&self) -> bool {
        named(&self.sentinel).is_some_and(|sentinel| sentinel.exact)
    }
}

/// A number with about four digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        0.001..10_000.0 => {
            let digits = 3 - value.abs().log10().floor().min(3.0) as i32;
            format!("{value:.*}", digits as usize)
        }
        _ => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Setting;
    use super::super::table::SENTINELS;
    use super::*;

    /// The steps at which a sentinel of a kind fires on a series of one figure.
    fn steps(kind: &str, name: &str, figure: &str, series: &[f64]) -> Vec<usize> {
        let mut watch = Watch::new(kind, series.len(), &Sentinels::new());
        let fired = series
            .iter()
            .enumerate()
            .flat_map(|(at, value)| watch.step(at + 1, &[(figure, *value)]));
        let own = fired.filter(|fired| fired.sentinel == name);
        own.map(|fired| fired.step).collect()
    }

    #[test]
    fn a_mean_over_three_steps_fires_once_and_one_noisy_step_does_not() {
        let kl = |series: &[f64]| steps("ppo", "kl_runaway", "objective/kl_token", series);
        assert_eq!(kl(&[0.1, 4.0, 0.1, 0.1]), []);
        // Means 1.4, 1.7, 3.0.
        assert_eq!(kl(&[0.1, 0.1, 4.0, 1.0, 4.0, 4.0]), [4]);
    }

    #[test]
    fn each_step_in_a_row_is_beyond_the_threshold() {
        let eos = |series: &[f64]| steps("grpo", "eos_never", "response_length/clip_ratio", series);
        assert_eq!(eos(&[1.0, 0.9, 1.0, 0.9]), []);
        assert_eq!(eos(&[0.98, 0.99]), [2]);
        assert_eq!(eos(&[0.5, 1.0, 1.0, 1.0]), [3]);
    }

    #[test]
    fn a_figure_is_compared_with_its_first_three_steps() {
        let length =
            |series: &[f64]| steps("ppo", "length_collapse", "response_length/mean", series);
        // The start is 10; means of three after it are 5, 3.9.
        assert_eq!(length(&[9.0, 10.0, 11.0, 6.0, 6.0, 3.0, 2.7]), [7]);
        assert_eq!(length(&[9.0, 10.0, 11.0, 1.0, 6.0]), []);
        assert_eq!(length(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), []);
    }

    #[test]
    fn a_reward_model_is_judged_after_half_of_its_steps() {
        let early = [vec![0.5; 50], vec![0.8; 50]].concat();
        let figure =
            |series: &[f64]| steps("reward_model", "accuracy_at_chance", "accuracy", series);
        assert_eq!(figure(&early), []);
        assert_eq!(figure(&[0.5; 100]), [70]);
        assert_eq!(figure(&[0.5; 30]), []);
    }

    #[test]
    fn a_held_out_score_that_falls_while_the_reward_rises_fires() {
        let run = |scores: &[f64], held_out: &[Option<f64>]| -> Vec<(usize, f64)> {
            let mut watch = Watch::new("ppo", scores.len(), &Sentinels::new());
            let mut found = Vec::new();
            for (at, (score, held_out)) in scores.iter().zip(held_out).enumerate() {
                let mut figures = vec![("objective/scores", *score)];
                figures.extend(held_out.map(|held_out| ("validation/score", held_out)));
                found.extend(watch.step(at + 1, &figures));
            }
            found.iter().map(|fired| (fired.step, fired.value)).collect()
        };
        let held_out = [None, Some(1.0), None, Some(0.5), None, Some(0.625)];
        let rising = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(run(&rising, &held_out), [(6, 0.375)]);
        let falling = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0];
        assert_eq!(run(&falling, &held_out), []);
        let better = [None, Some(1.0), None, Some(0.5), None, Some(1.5)];
        assert_eq!(run(&rising, &better), []);
    }

    #[test]
    fn exact_checks_fire_at_any_difference_and_are_bugs() {
        let exact: Vec<_> = SENTINELS.iter().filter(|sentinel| sentinel.exact).collect();
        assert_eq!(exact.len(), 3);
        for sentinel in exact {
            let Measure::Plain(Figure::Named(figure)) = sentinel.measure else { panic!() };
            let kind = sentinel.kinds[0];
            let mut watch = Watch::new(kind, 9, &Sentinels::new());
            assert_eq!(watch.step(1, &[(figure, 0.0)]), []);
            let fired = watch.step(2, &[(figure, 1e-3)]);
            assert_eq!((fired.len(), fired[0].action), (1, Action::Stop));
            assert!(fired[0].is_bug() && fired[0].message().contains(sentinel.meaning));
        }
    }

    #[test]
    fn what_is_off_is_silent_and_a_threshold_moves_the_step() {
        let run = |setting| {
            let settings = [("kl_runaway".to_owned(), setting)].into();
            let mut watch = Watch::new("ppo", 9, &settings);
            let series =
                (1..=9).flat_map(|step| watch.step(step, &[("objective/kl_token", step as f64)]));
            series.map(|fired| fired.step).collect::<Vec<usize>>()
        };
        assert_eq!(run(Setting::Off), []);
        assert_eq!(run(Setting::WarnAt(5.5)), [7]);
    }

    #[test]
    fn a_sentinel_is_judged_once_its_figures_suffice() {
        let mut watch = Watch::new("reward_model", 10, &Sentinels::new());
        let exact = vec!["frozen_moved".to_owned()];
        assert_eq!(watch.judged(), exact);
        for step in 1..=7 {
            watch.step(step, &[("validation/accuracy", 0.9)]);
            let judged = watch.judged().contains(&"held_out_at_chance".to_owned());
            assert_eq!(judged, step == 7, "two steps after half of ten");
        }
    }

    #[test]
    fn numbers_have_four_digits() {
        let all = [0.0, 1.0, 0.123456, -12.3456, 1234.56, 0.00012345, 123456.0];
        let words = ["0", "1.000", "0.1235", "-12.35", "1235", "1.234e-4", "1.235e5"];
        assert_eq!(all.map(number), words);
    }
}

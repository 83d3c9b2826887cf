//! How often 95% intervals cover what they are of, and how often a p value of nothing is below
//! 0.05, for every measure that is printed, at n = 8, 20, 40 and 200 inputs: whole data sets are
//! drawn from populations whose figure is known, or is the mean over all that are drawn.
//!
//! The suite draws a few at the small n. `POSTTRAIN_COVERAGE=full cargo test --test suite coverage
//! -- --nocapture` draws many at all n and prints the tables of docs/evaluation.md, each share with
//! its standard error. The streams ([`STREAMS`]) are not those on which methods and minima (the
//! fewest inputs of an interval) were chosen.

use posttrain::eval::agreement::{Scale, alpha};
use posttrain::eval::beside::{Beside, Compared, beside};
use posttrain::eval::best_of_n::{at_kl, at_own_kl, expected};
use posttrain::eval::classes::{distinct, entropy, partition, simpson};
use posttrain::eval::compare::{Flips, Measured, gaps, head_to_head, p_value, paired};
use posttrain::eval::interval::{
    self, Clusters, FEWEST, FEWEST_CLUSTERS, Interval, Kind, of_mean, of_share,
};
use posttrain::eval::optimum::{Weighted, over_inputs};
use posttrain::eval::pairs::Pairs;
use posttrain::eval::quality::pass_at_k;
use posttrain::eval::ranks::tau_b;
use posttrain::eval::ratio::of_ratio;
use posttrain::eval::reward::{by_confidence, calibration};
use posttrain::eval::seeds::over_seeds;
use posttrain::eval::spread::{AcrossInputs, FEWEST_SELF_BLEU, FEWEST_VENDI, Inputs, Measure};
use posttrain::random::{Sequence, Stream};
use rayon::prelude::*;

/// The seed of the streams of n inputs is this plus n. Methods and minima were chosen on the
/// streams of seeds n.
const STREAMS: u64 = 30_000;

/// Draws a data set of n inputs and measures it.
type Draw = Box<dyn Fn(&mut Sequence, usize) -> Interval + Send + Sync>;

/// A measure, what its figure is in the population, where that is known beforehand, and one data
/// set of n inputs.
struct Case {
    name: &'static str,
    truth: Option<f64>,
    draw: Draw,
    /// Whether a data set takes long.
    slow: bool,
    /// Inputs below which there is to be no interval.
    fewest: usize,
}

impl Case {
    fn new(
        name: &'static str,
        truth: impl Into<Option<f64>>,
        draw: impl Fn(&mut Sequence, usize) -> Interval + Send + Sync + 'static,
    ) -> Self {
        Case { name, truth: truth.into(), draw: Box::new(draw), slow: false, fewest: 0 }
    }

    /// Without an interval of fewer inputs.
    fn from(self, fewest: usize) -> Self {
        Case { fewest, ..self }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn many<T>(n: usize, mut one: impl FnMut() -> T) -> Vec<T> {
    (0..n).map(|_| one()).collect()
}

/// A gamma variate of a whole shape.
fn gamma(draws: &mut Sequence, shape: usize) -> f64 {
    -(0..shape).map(|_| (1.0 - draws.uniform()).ln()).sum::<f64>()
}

/// An exact score: 1 as often as `right`, else below it, with a long tail. Its mean is 1 - 0.5 (1 -
/// right).
fn gold(draws: &mut Sequence, right: f64) -> f64 {
    if draws.chance(right) { 1.0 } else { 1.0 - 2.0 * draws.uniform() * draws.uniform() }
}

/// Win, tie and loss in the ratio of these.
fn outcome(draws: &mut Sequence, win: f64, tie: f64) -> f64 {
    let at = draws.uniform();
    if at < win { 1.0 } else { f64::from(u8::from(at < win + tie)) / 2.0 }
}

/// How many of an input's samples are good: half, on average; inputs are easy or hard.
fn goods(draws: &mut Sequence, samples: usize) -> usize {
    let chance = draws.uniform().powi(if draws.chance(0.5) { 3 } else { 1 });
    (0..samples).filter(|_| draws.chance(chance)).count()
}

/// The classes of an input's samples, of which some inputs have few.
fn kinds(draws: &mut Sequence, samples: usize) -> Vec<usize> {
    let most = 1 + draws.below(9);
    let kinds = many(samples, || draws.below(most).min(draws.below(most)));
    partition(samples, |i, j| kinds[i] == kinds[j])
}

/// Prompts, each with 1 to 9 pairs that share its difficulty: margins of pairs, their prompts. The
/// chance of a right order is 0.75, on average.
fn margins(draws: &mut Sequence, prompts: usize) -> (Vec<f64>, Vec<usize>) {
    let (mut margins, mut keys) = (Vec::new(), Vec::new());
    for prompt in 0..prompts {
        let ease = 1.0 + 1.2 * draws.normal();
        for _ in 0..1 + draws.below(9) {
            margins.push(ease + draws.normal());
            keys.push(prompt);
        }
    }
    (margins, keys)
}

/// A text: mostly words by Zipf's law, of many a phrase that others have too; some are nearly
/// copies.
fn text(draws: &mut Sequence) -> String {
    let zipf = |draws: &mut Sequence| 1500f64.powf(draws.uniform()) as usize;
    let kind = draws.uniform();
    let mut words: Vec<usize> =
        if kind < 0.15 { (2000..2006).collect() } else { many(3, || zipf(draws)) };
    if kind > 0.6 {
        words.extend(3000..3004);
    }
    let more = if kind < 0.15 { 1 } else { 3 + draws.below(12) };
    words.extend(many(more, || zipf(draws)));
    words.iter().map(|word| format!("w{word} ")).collect()
}

/// The mean over choices with its interval.
fn of_choices(found: AcrossInputs, n: usize) -> Interval {
    Interval { mean: found.mean, low: found.low, high: found.high, n, kind: found.interval }
}

/// Of a measure of one text of each input, or of `samples` texts.
fn of_set(name: &'static str, measure: Measure, samples: usize) -> Case {
    let draw = move |draws: &mut Sequence, n: usize| {
        // Texts of one input share their beginning.
        let texts: Vec<String> = many(n, || {
            let first = text(draws);
            let more =
                many(samples - 1, || first.chars().take(12).collect::<String>() + &text(draws));
            std::iter::once(first).chain(more).collect::<Vec<String>>()
        })
        .concat();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found =
            Inputs::new(std::iter::repeat_n(samples, n)).spread(measure, &texts).across_inputs;
        of_choices(found, n)
    };
    let fewest = match measure {
        Measure::Vendi => FEWEST_VENDI,
        Measure::SelfBleu => FEWEST_SELF_BLEU,
        _ => 0,
    };
    Case { slow: true, fewest, ..Case::new(name, None, draw) }
}

/// The same of vectors around a few centres.
fn of_vectors(name: &'static str, vendi: bool) -> Case {
    let draw = move |draws: &mut Sequence, n: usize| {
        let vector = |draws: &mut Sequence| {
            let centre = draws.below(6);
            (0..8)
                .map(|at| if at == centre { 2.0 } else { 0.0 } + draws.normal())
                .collect::<Vec<f64>>()
        };
        let vectors: Vec<Vec<f64>> = many(n, || vector(draws));
        let vectors: Vec<&[f64]> = vectors.iter().map(Vec::as_slice).collect();
        let found =
            Inputs::new(std::iter::repeat_n(1, n)).spread_of_vectors(&vectors, vendi).across_inputs;
        of_choices(found, n)
    };
    Case { slow: true, fewest: if vendi { FEWEST_VENDI } else { 0 }, ..Case::new(name, None, draw) }
}

/// The same of judgements of pairs: texts of one kind mostly entail each other, of two kinds they
/// contradict each other or are neutral.
fn of_judged_pairs(name: &'static str) -> Case {
    let draw = move |draws: &mut Sequence, n: usize| {
        let kinds = many(n, || draws.below(5));
        let first = Pairs::new(n, |i, j| match kinds[i] == kinds[j] {
            true => -2.0 * draws.uniform(),
            false if draws.chance(0.3) => 2.0 * draws.uniform(),
            false => 0.0,
        });
        let alone = vec![Pairs::new(1, |_, _| 0.0); n];
        let inputs = Inputs::new(std::iter::repeat_n(1, n));
        of_choices(inputs.spread_of_pairs(&alone, &first).across_inputs, n)
    };
    Case { slow: true, ..Case::new(name, None, draw) }
}

/// Candidates whose rewards are normal with variance 1 around the mean of their input, weighted at
/// beta 1: the optimum of each input has a reward that is higher by 1, at a KL of 1/2.
fn tilted(draws: &mut Sequence) -> (Weighted, Vec<f64>) {
    let ease = draws.normal();
    let rewards = many(64, || ease + draws.normal());
    (Weighted::new(&rewards, 1.0), rewards)
}

fn measured(test_set: &str, method: &str, metric: &str, values: Vec<f64>) -> Measured {
    Measured { metric: metric.into(), test_set: test_set.into(), method: method.into(), values }
}

/// The interval of the mean of one metric's values.
fn plain(
    of: fn(&[f64]) -> Interval,
    one: impl Fn(&mut Sequence) -> f64 + Send + Sync,
) -> impl Fn(&mut Sequence, usize) -> Interval {
    move |draws, n| of(&many(n, || one(draws)))
}

/// Changes of a metric on two axes, of inputs that differ in scale.
fn of_response() -> Case {
    Case::new("`wording_response`, the ratio of two means", 0.5, |draws, n| {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let scale = 1.0 + gamma(draws, 3) / 3.0;
            y.push(scale * (1.0 + 0.3 * draws.normal()));
            x.push(scale * (0.5 + 0.3 * draws.normal()));
        }
        of_ratio(&x, &y)
    })
}

/// A metric and a truth of three methods, each of an input's ease, a method's quality and noise.
fn of_sampled_tau() -> Case {
    let draw = |draws: &mut Sequence, n: usize| {
        let rows = many(n, || {
            let ease = draws.normal();
            [0.0, 0.5, 1.0].map(|method| {
                let truth = (4.0 * (ease + method + draws.normal())).round();
                (truth, ease + method + 1.5 * draws.normal())
            })
        });
        let tau = |places: &[usize]| {
            let (truths, values): (Vec<f64>, Vec<f64>) =
                places.iter().flat_map(|at| rows[*at]).unzip();
            tau_b(&values, &truths)
        };
        let whole = tau(&(0..n).collect::<Vec<usize>>());
        interval::of_set(n, 40, FEWEST, tau).around(whole, n)
    };
    Case { slow: true, ..Case::new("`sampled_tau` of three methods", None, draw) }
}

/// What three people say of n items: each sees an item's verdict with this chance, or else says
/// something; b, tie and a are 0, 1 and 2.
fn verdicts(draws: &mut Sequence, n: usize, sees: f64) -> Vec<(usize, Vec<u8>)> {
    let verdict = |draws: &mut Sequence| match draws.uniform() {
        x if x < 0.35 => 0,
        x if x < 0.5 => 1,
        _ => 2,
    };
    let item = |draws: &mut Sequence| {
        let own = verdict(draws);
        many(3, || if draws.chance(sees) { own } else { verdict(draws) })
    };
    many(n, || item(draws)).into_iter().enumerate().collect()
}

/// Krippendorff's alpha of three people. Two who say nothing of the item agree by chance, so that
/// alpha for categories is the square of the chance that one sees it.
fn of_alpha(name: &'static str, scale: Scale, sees: f64) -> Case {
    let truth = (scale == Scale::Nominal).then_some(sees * sees);
    let draw = move |draws: &mut Sequence, n: usize| {
        let items = verdicts(draws, n, sees);
        alpha(&items, scale).unwrap_or(Interval::none(f64::NAN, n, Kind::NoneAllEqual))
    };
    Case { slow: true, ..Case::new(name, truth, draw) }
}

/// A measure that sees the difference of two things with noise, beside the majority of three people
/// who do; of n prompts with 1 to 3 pairs each, or of n pairs.
fn of_beside(name: &'static str, several: bool, of: fn(Beside) -> Interval) -> Case {
    let draw = move |draws: &mut Sequence, n: usize| {
        let mut all = Vec::new();
        for cluster in 0..n {
            let ease = if several { draws.normal() } else { 0.0 };
            for _ in 0..if several { 1 + draws.below(3) } else { 1 } {
                let apart = ease + draws.normal();
                let votes: f64 = many(3, || (apart + draws.normal()).signum()).iter().sum();
                let people = if draws.chance(0.1) { 0.0 } else { votes };
                let measure = [apart + 1.5 * draws.normal(), 0.0];
                all.push(Compared { cluster, measure, people: [people, 0.0] });
            }
        }
        of(beside(&all))
    };
    Case { slow: true, ..Case::new(name, None, draw) }
}

fn cases() -> Vec<Case> {
    let uncertain = |p: f64| plain(of_share, move |draws| f64::from(u8::from(draws.chance(p))));
    let tied = plain(of_share, |draws| outcome(draws, 0.45, 0.3));
    let right = |margins: &[f64]| {
        margins.iter().map(|margin| f64::from(u8::from(*margin > 0.0))).collect::<Vec<f64>>()
    };
    vec![
        Case::new("`rm` (normal)", 0.0, plain(of_mean, |draws| draws.normal())),
        Case::new(
            "`gold` (half of the answers exact)",
            0.75,
            plain(of_mean, |draws| gold(draws, 0.5)),
        ),
        Case::new("`kl` (gamma of shape 3)", 3.0, plain(of_mean, |draws| gamma(draws, 3))),
        Case::new("a skewed mean (exponential)", 1.0, plain(of_mean, |draws| gamma(draws, 1))),
        Case::new(
            "`length` (uniform)",
            20.0,
            plain(of_mean, |draws| (10 + draws.below(21)) as f64),
        ),
        Case::new("`win_rate`, a half", 0.5, uncertain(0.5)),
        Case::new("`win_rate`, 0.8", 0.8, uncertain(0.8)),
        Case::new("`win_rate`, 0.95", 0.95, uncertain(0.95)),
        Case::new("`exact`, 0.98", 0.98, uncertain(0.98)),
        Case::new("`win_rate`, three of ten tied", 0.6, tied),
        of_alpha("alpha (nominal) 0.25 of three people", Scale::Nominal, 0.5),
        of_alpha("alpha (nominal) 0.64 of three people", Scale::Nominal, 0.8),
        of_alpha("alpha (ordinal) of three people", Scale::Ordinal, 0.8),
        of_beside("a measure beside people, agreement", true, |found| found.agreement),
        of_beside("a measure beside people, tau-b", false, |found| found.tau_b),
        of_beside("the same of n prompts", true, |found| found.tau_b).from(FEWEST_CLUSTERS),
        Case::new("difference in `gold`", 0.5 * 0.3, |draws, n| {
            let values = many(n, || gold(draws, 0.7) - gold(draws, 0.4));
            paired("gold", &values)
        }),
        Case::new("difference in `win_rate`", 0.3, |draws, n| {
            let values = many(n, || outcome(draws, 0.6, 0.2) - outcome(draws, 0.3, 0.2));
            paired("win_rate", &values)
        }),
        Case::new("head to head", 0.7, |draws, n| {
            let (a, b) = (many(n, || outcome(draws, 0.6, 0.2)), vec![0.5; n]);
            head_to_head(
                &[measured("id", "b", "gold", b), measured("id", "a", "gold", a)],
                &["gold"],
            )[0]
            .interval
        }),
        Case::new("gap in `gold`", 0.5 * 0.3, |draws, n| {
            let [id, ood] = [0.7, 0.4].map(|right| many(n, || gold(draws, right)));
            gaps(&[measured("id", "a", "gold", id), measured("ood", "a", "gold", ood)])[0].interval
        }),
        Case::new("gap in `win_rate`", 0.25, |draws, n| {
            let [id, ood] = [0.9, 0.65].map(|win| many(n, || outcome(draws, win, 0.0)));
            gaps(&[measured("id", "a", "win_rate", id), measured("ood", "a", "win_rate", ood)])[0]
                .interval
        }),
        Case::new("`rm_accuracy` of n prompts", None, move |draws, n| {
            let (margins, prompts) = margins(draws, n);
            Clusters::of(&prompts).share(&right(&margins))
        }),
        Case::new("`rm_accuracy_clean`, 0.95, of n prompts", 0.95, move |draws, n| {
            // A prompt's pairs are wrong together half of the time.
            let (mut right, mut prompts) = (Vec::new(), Vec::new());
            for prompt in 0..n {
                let (together, same) = (draws.chance(0.5), draws.chance(0.95));
                for _ in 0..1 + draws.below(9) {
                    right.push(f64::from(u8::from(if together {
                        same
                    } else {
                        draws.chance(0.95)
                    })));
                    prompts.push(prompt);
                }
            }
            Clusters::of(&prompts).share(&right)
        }),
        Case::new("`by_confidence`, the middle fifth", None, |draws, n| {
            let (margins, prompts) = margins(draws, n);
            by_confidence(&margins, &prompts, 5)[2].accuracy
        }),
        Case::new("`brier` of n prompts", None, |draws, n| {
            let (margins, prompts) = margins(draws, n);
            calibration(&margins, &prompts).brier_interval
        })
        .from(FEWEST_CLUSTERS),
        Case::new("`log_loss` of n prompts", None, |draws, n| {
            let (margins, prompts) = margins(draws, n);
            calibration(&margins, &prompts).log_loss_interval
        })
        .from(FEWEST_CLUSTERS),
        Case::new("best-of-4 of 8 candidates, `gold`", None, |draws, n| {
            let one = |draws: &mut Sequence| {
                let gold = many(8, || gold(draws, 0.4));
                expected(
                    &gold.iter().map(|gold| gold + draws.normal()).collect::<Vec<f64>>(),
                    &gold,
                    4,
                )
            };
            of_mean(&many(n, || one(draws)))
        }),
        Case::new("`rm` of the optimum at beta 1, 64 candidates", 1.0, |draws, n| {
            over_inputs(&many(n, || {
                let (weighted, rewards) = tilted(draws);
                weighted.mean(&rewards)
            }))
        }),
        Case::new("`kl` of the optimum at beta 1, 64 candidates", 0.5, |draws, n| {
            over_inputs(&many(n, || tilted(draws).0.kl()))
        }),
        Case::new("difference from best-of-n at equal KL", None, |draws, n| {
            let (mut inputs, mut own, mut kl) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..n {
                let ease = draws.normal();
                let scores = many(16, || draws.normal());
                let values = scores.iter().map(|score| ease + score + draws.normal()).collect();
                inputs.push((scores, values));
                kl.push(gamma(draws, 3) / 4.0);
                own.push(ease + 1.0 + 0.5 * draws.normal());
            }
            let middle = mean(&kl);
            // Samples of few inputs may be further than 16 candidates reach: there is nothing to
            // compare then.
            let Some(best) = at_kl(&inputs, middle) else {
                return Interval::none(f64::NAN, n, Kind::NoneTooFew);
            };
            let own = at_own_kl(&own, &kl, best.slope);
            let values: Vec<f64> =
                own.iter().zip(&best.values).map(|(own, best)| own - best).collect();
            paired("gold", &values)
        }),
        Case::new("`pass_at_k`, k 4 of 8 samples", None, |draws, n| {
            of_share(&many(n, || pass_at_k(goods(draws, 8), 8, 4)))
        }),
        Case::new("`pass_at_k`, k 8 of 8 samples", None, |draws, n| {
            of_share(&many(n, || pass_at_k(goods(draws, 8), 8, 8)))
        }),
        Case::new("`distinct_k` of 8 samples", None, |draws, n| {
            of_mean(&many(n, || distinct(&kinds(draws, 8), 8) as f64))
        }),
        Case::new("`class_entropy` of 8 samples", None, |draws, n| {
            of_mean(&many(n, || entropy(&kinds(draws, 8))))
        }),
        Case::new("`simpson_per_input_good`, of the inputs that have it", None, |draws, n| {
            let good = |draws: &mut Sequence| {
                let classes = kinds(draws, 8);
                let places: Vec<usize> = (0..8).filter(|_| draws.chance(0.5)).collect();
                (places.len() > 1).then(|| simpson(&classes, &places))
            };
            of_mean(&many(n, || {
                std::iter::repeat_with(|| good(draws)).find_map(|one| one).unwrap()
            }))
        }),
        of_response(),
        of_sampled_tau(),
        Case::new("over n seeds (normal)", 0.0, |draws, n| {
            over_seeds(many(n, || draws.normal())).interval
        }),
        of_set("`ead`, across inputs", Measure::Ead { vocabulary: 50257.0 }, 1),
        of_set("`ead`, across inputs, 4 samples each", Measure::Ead { vocabulary: 50257.0 }, 4),
        of_set("`distinct`, across inputs", Measure::Distinct, 1),
        of_set("`entropy`, across inputs", Measure::Entropy, 1),
        of_set("`self_bleu`, across inputs", Measure::SelfBleu, 1),
        of_set("`compression`, across inputs", Measure::Compression, 1),
        of_set("`vendi`, across inputs", Measure::Vendi, 1),
        of_set("`vendi`, across inputs, 4 samples each", Measure::Vendi, 4),
        of_vectors("`embedding`, across inputs", false),
        of_vectors("`embedding_vendi`, across inputs", true),
        of_judged_pairs("`nli`, across inputs"),
    ]
}

fn full() -> bool {
    std::env::var("POSTTRAIN_COVERAGE").is_ok_and(|value| value == "full")
}

/// The share of intervals that cover, of those that there are; how many there are.
fn coverage(case: &Case, n: usize, sets: usize) -> (f64, usize) {
    let stream = Stream::new(STREAMS + n as u64, case.name);
    let found: Vec<Interval> = (0..sets as u64)
        .into_par_iter()
        .map(|set| (case.draw)(&mut stream.sequence(set), n))
        .collect();
    let means: Vec<f64> =
        found.iter().map(|one| one.mean).filter(|mean| mean.is_finite()).collect();
    let truth = case.truth.unwrap_or_else(|| mean(&means));
    let covers = |one: &Interval| f64::from(u8::from(one.low <= truth && truth <= one.high));
    let all: Vec<f64> = found.iter().filter(|one| one.has_ends()).map(covers).collect();
    (mean(&all), all.len())
}

/// A share of `count` draws with its standard error.
fn with_error(share: f64, count: usize) -> String {
    format!(" {share:.3} ± {:.3} |", (share * (1.0 - share) / count as f64).sqrt())
}

/// 92 in a hundred at least, less what chance does to the number of data sets, at every n where
/// there is an interval.
#[test]
fn intervals_cover() {
    let sizes: &[usize] = if full() { &[8, 20, 40, 200] } else { &[8, 20] };
    let mut short = Vec::new();
    for case in cases() {
        let mut cells = String::new();
        for &n in sizes {
            let sets = match (full(), case.slow) {
                (true, false) => 10_000,
                (true, true) if n == 200 => 400,
                (true, true) => 1000,
                (false, false) => 500,
                (false, true) => 120,
            };
            if n < case.fewest {
                let interval = (case.draw)(&mut Stream::new(STREAMS, case.name).sequence(0), n);
                assert_eq!(interval.kind, Kind::NoneTooFew, "{} at {n}", case.name);
                cells += " none |";
                continue;
            }
            let (now, count) = coverage(&case, n, sets);
            assert!(
                count * 10 >= sets * 8,
                "{} at {n}: {count} of {sets} have an interval",
                case.name
            );
            cells += &with_error(now, count);
            // Three standard errors of `count` draws.
            if now < 0.92 - 3.0 * (0.92 * 0.08 / count as f64).sqrt() {
                short.push(format!("{} at {n}: {now:.3} of {count}", case.name));
            }
        }
        if full() {
            println!("| {} |{cells}", case.name);
        }
    }
    assert!(short.is_empty(), "{}", short.join("\n"));
}

/// Five in a hundred p values of no difference are below 0.05, or fewer: six at most, beside
/// chance.
#[test]
fn p_values_of_no_difference_are_seldom_small() {
    type Null = (&'static str, &'static str, fn(&mut Sequence) -> f64);
    let nulls: [Null; 5] = [
        ("normal", "rm", |draws| draws.normal()),
        ("two methods with half of the answers exact", "gold", |draws| {
            gold(draws, 0.5) - gold(draws, 0.5)
        }),
        ("every input decided", "win_rate", |draws| outcome(draws, 0.5, 0.0) * 2.0 - 1.0),
        ("wins and ties", "win_rate", |draws| outcome(draws, 0.4, 0.2) - outcome(draws, 0.4, 0.2)),
        ("exponential less its mean", "kl", |draws| gamma(draws, 1) - 1.0),
    ];
    let sets = if full() { 10_000 } else { 600 };
    for (name, metric, one) in nulls {
        let mut cells = String::new();
        for n in if full() { vec![8, 20, 40, 200] } else { vec![8, 20] } {
            let flips = Flips::new(n, &Stream::new(0, "signs"));
            let stream = Stream::new(STREAMS + n as u64, name);
            let small = |set: u64| {
                let mut draws = stream.sequence(set);
                p_value(metric, &many(n, || one(&mut draws)), &flips) < 0.05
            };
            let below =
                (0..sets).into_par_iter().filter(|set| small(*set)).count() as f64 / sets as f64;
            assert!(
                below < 0.06 + 3.0 * (0.06 * 0.94 / sets as f64).sqrt(),
                "{name} at {n}: {below}"
            );
            cells += &with_error(below, sets as usize);
        }
        if full() {
            println!("| {name} |{cells}");
        }
    }
    // And a difference is found: of one standard deviation, at 20.
    let flips = Flips::new(20, &Stream::new(0, "signs"));
    let found = (0..100).filter(|set| {
        let mut draws = Stream::new(5, "a difference").sequence(*set);
        p_value("rm", &many(20, || 1.0 + draws.normal()), &flips) < 0.05
    });
    assert!(found.count() > 90);
}

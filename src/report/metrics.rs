//! What every figure is: heading, unit, direction, and the section of docs/evaluation.md that
//! defines it. The one source of these for every format. Knows names of figures, not how they are
//! computed.
//!
//! 1. A measure of diversity is taken in several ways ([`WAYS`]), each of whole texts and of texts
//!    cut to a common length ([`MATCHED`]).
//! 2. A comparison has the name of the metric compared and an ending ([`COMPARISONS`]).
//! 3. `coverage_NAME` is a part of the gold score, `win_rate_NAME` the win rate by the judge NAME,
//!    `loss_NAME` the loss on the texts NAME of an earlier phase.
//! 4. What a program of the user's measured has a name that is none of these
//!    ([`is_taken_name`]); the table says what it is ([`define_in`]).
//! 5. The rest is listed: [`RESULTS`], [`GRADED`], [`OF_MODELS`], [`SIMILAR`], [`VALIDATED`],
//!    [`PARTS`], [`OPTIMUM`], [`TRAINING`].

pub use super::definition::{Definition, Direction};

use super::definition::Entry;
use super::graded_metrics::{GRADED, QUALITY};
use super::training_metrics::TRAINING;
use super::validated_metrics::VALIDATED;
use crate::artefacts::metric::{Better, OwnMetric};
use crate::artefacts::quality::{GOOD, QUALITY_CONTROL, TOTAL};
use crate::artefacts::table::Table;

use Direction::{HigherIsBetter, HigherIsMoreDiverse, LowerIsBetter, LowerIsMoreDiverse, Neither};

/// Sections of docs/evaluation.md.
const DIVERSE: &str = "diversity";
const GOLD: &str = "the-gold-score";
const JUDGES: &str = "win-rates-by-other-judges";
const COMPARED: &str = "comparisons";
const TABLE: &str = "the-table-of-evaluate";
const OF_OPTIMUM: &str = "the-optimum-of-the-objective";
const ALIKE: &str = "similarity-within-and-between-methods";
const OWN: &str = "a-methods-own-distribution";
const OF_PROGRAMS: &str = "metrics-of-your-own";

/// Figures of methods and of the reward model.
const RESULTS: &[Entry] = &[
    ("gold", "exact score of the text, -1 to 1", "score", HigherIsBetter, GOLD),
    (
        "rm",
        "score of the reward model, normalised over its training pairs",
        "score",
        Neither,
        TABLE,
    ),
    (
        "win_rate",
        "share of inputs won against the reference by the evaluation's `judge`, a tie counting \
         half",
        "share",
        HigherIsBetter,
        TABLE,
    ),
    (
        "kl",
        "KL from the reference policy, summed over the response; of best-of-n its upper bound",
        "nats",
        Neither,
        TABLE,
    ),
    ("length", "words of a response", "words", Neither, TABLE),
    (
        "rouge_l",
        "overlap with the reference, F1 of the longest common subsequence",
        "share",
        HigherIsBetter,
        TABLE,
    ),
    (
        "rm_accuracy",
        "share of pairs that the reward model orders as labelled, a tie counting half",
        "share",
        HigherIsBetter,
        TABLE,
    ),
    (
        "rm_accuracy_clean",
        "share of pairs that the reward model orders as gold does, a tie counting half",
        "share",
        HigherIsBetter,
        TABLE,
    ),
    (
        "rm_accuracy_own",
        "share of the pairs of one input's samples of different gold that the reward model orders \
         as gold does, a tie counting half",
        "share",
        HigherIsBetter,
        TABLE,
    ),
    (
        "noise_ceiling",
        "share of pairs whose label is the order of gold: what `rm_accuracy` would be of gold",
        "share",
        Neither,
        TABLE,
    ),
];

/// Figures of the distributions of methods' models.
const OF_MODELS: &[Entry] = &[
    (
        "token_entropy",
        "entropy of the distribution of the next token, mean over the tokens of the samples of one \
         input",
        "nats",
        HigherIsMoreDiverse,
        OWN,
    ),
    (
        "branching_factor",
        "exp of `token_entropy`, the equally likely tokens of that entropy",
        "tokens",
        HigherIsMoreDiverse,
        OWN,
    ),
    (
        "forward_kl",
        "KL of the reference policy from the method, by samples of the reference policy, summed \
         over the response",
        "nats",
        Neither,
        OWN,
    ),
];

/// How alike samples of one input are.
const SIMILAR: &[Entry] = &[
    (
        "ngram_similarity",
        "cosine of the n-gram counts of two samples of one input, mean over n = 1, 2 and the pairs",
        "cosine",
        LowerIsMoreDiverse,
        ALIKE,
    ),
    (
        "ngram_similarity_high",
        "share of inputs whose `ngram_similarity` is above the threshold",
        "share",
        LowerIsMoreDiverse,
        ALIKE,
    ),
    (
        "embedding_similarity",
        "cosine of the sentence embeddings of two samples of one input, mean over the pairs",
        "cosine",
        LowerIsMoreDiverse,
        ALIKE,
    ),
    (
        "embedding_similarity_high",
        "share of inputs whose `embedding_similarity` is above the threshold",
        "share",
        LowerIsMoreDiverse,
        ALIKE,
    ),
];

/// Parts of the gold score, beside `coverage_NAME`.
const PARTS: &[Entry] = &[
    (
        "coverage",
        "weighted share of what is asked for that a text states",
        "share",
        HigherIsBetter,
        GOLD,
    ),
    ("exact", "share of texts with nothing wrong", "share", HigherIsBetter, GOLD),
    ("invented", "statements that are not in the input", "a text", LowerIsBetter, GOLD),
    ("repeated", "statements made again", "a text", LowerIsBetter, GOLD),
    ("malformed", "breaches of the grammar of the world", "a text", LowerIsBetter, GOLD),
];

/// How the name of a part begins that is the coverage of one fact.
pub(super) const COVERAGE: &str = "coverage_";

/// How the name of a loss on texts of an earlier phase begins.
const LOSS: &str = "loss_";

/// Measures of a set of texts; each is taken in the ways of [`WAYS`].
const MEASURES: &[Entry] = &[
    ("ead", "expectation-adjusted distinct n-grams", "share", HigherIsMoreDiverse, DIVERSE),
    (
        "ead_tokenizer",
        "distinct n-grams over those expected of the tokenizer's vocabulary",
        "share",
        HigherIsMoreDiverse,
        DIVERSE,
    ),
    ("distinct", "share of n-grams that are distinct", "share", HigherIsMoreDiverse, DIVERSE),
    ("entropy", "entropy of n-grams", "nats", HigherIsMoreDiverse, DIVERSE),
    ("self_bleu", "BLEU of each text against the others", "share", LowerIsMoreDiverse, DIVERSE),
    ("vendi", "effective number of texts by their n-grams", "texts", HigherIsMoreDiverse, DIVERSE),
    ("compression", "bytes over bytes as gzip", "ratio", LowerIsMoreDiverse, DIVERSE),
    ("length", "words of a text, as EAD counts words", "words", Neither, DIVERSE),
    (
        "embedding",
        "mean cosine distance of two texts' sentence embeddings",
        "distance",
        HigherIsMoreDiverse,
        DIVERSE,
    ),
    (
        "embedding_vendi",
        "effective number of texts by their sentence embeddings",
        "texts",
        HigherIsMoreDiverse,
        DIVERSE,
    ),
    (
        "nli",
        "contradictions minus entailments of two texts, -2 to 2",
        "score",
        HigherIsMoreDiverse,
        DIVERSE,
    ),
    (
        "nli_released",
        "1 - `nli`, as the released code has it",
        "score",
        LowerIsMoreDiverse,
        DIVERSE,
    ),
    (
        "nli_released_sampled",
        "the released code's variant on single letters, which says nothing of texts",
        "score",
        Neither,
        DIVERSE,
    ),
    (
        "simpson",
        "share of pairs that are of two functional classes",
        "share",
        HigherIsMoreDiverse,
        QUALITY,
    ),
];

/// A way of measuring diversity: the ending of its metrics, the title of a block, what is measured.
pub(super) struct Way {
    pub(super) ending: &'static str,
    pub(super) title: &'static str,
    words: &'static str,
    /// The section of docs/evaluation.md that defines it.
    section: &'static str,
    /// Whether the measure's direction holds.
    is_directed: bool,
}

/// The ways of measuring diversity. An ending comes before a shorter one that it begins with.
pub(super) const WAYS: [Way; 6] = [
    Way {
        ending: "_per_input",
        title: "diversity of the samples of one input, mean over inputs",
        words: "of the samples of one input, mean over inputs",
        section: DIVERSE,
        is_directed: true,
    },
    Way {
        ending: "_across_inputs_first",
        title: "diversity of the first sample of each input",
        words: "of the first sample of each input",
        section: DIVERSE,
        is_directed: true,
    },
    Way {
        ending: "_across_inputs",
        title: "diversity of one sample of each input, mean over the choices of the sample",
        words: "of one sample of each input, mean over the choices of the sample",
        section: DIVERSE,
        is_directed: true,
    },
    Way {
        ending: TOTAL,
        title: "diversity of all samples of one input, mean over inputs with two good samples",
        words: "of all samples of one input, mean over inputs with two good samples",
        section: QUALITY,
        is_directed: true,
    },
    Way {
        ending: GOOD,
        title: "diversity of the good samples of one input, mean over inputs with two",
        words: "of the good samples of one input, mean over inputs with two",
        section: QUALITY,
        is_directed: true,
    },
    Way {
        ending: QUALITY_CONTROL,
        title: "diversity of all samples of one input less that of the good ones, mean over inputs \
            with two",
        words: "of all samples of one input less that of the good ones, mean over inputs with two",
        section: QUALITY,
        is_directed: false,
    },
];

/// How the name of a metric ends that is measured on texts cut to a common length.
pub(super) const MATCHED: &str = "_matched";

/// How the name of a metric ends whose rows are differences between methods.
pub(super) const DIFFERENCE: &str = "_difference";

/// How the name of a metric ends whose rows are gaps of gains.
pub(super) const GAIN_GAP: &str = "_gain_gap";

/// Endings of comparisons by a metric, what they are, and their unit where it is not the metric's.
/// An ending comes before a shorter one that it ends with.
const COMPARISONS: [(&str, &str, Option<&str>); 9] = [
    ("_between", "two methods, mean over the pairs of one sample of each", None),
    (
        "_between_high",
        "two methods, share of inputs whose mean over pairs is above the threshold",
        Some("share"),
    ),
    (
        "_apart",
        "mean within two methods minus that between them: 0 where both give the same answers as \
         often",
        None,
    ),
    (DIFFERENCE, "one method minus another, paired; intervals are not corrected", None),
    (
        GAIN_GAP,
        "the gain of one method over another on the first test set minus that on the other",
        None,
    ),
    ("_gap", "the first test set (in distribution) minus another", None),
    (
        "_head_to_head",
        "share of inputs on which the first method is above the second, a tie counting half",
        Some("share"),
    ),
    ("_at_equal_quality", "a policy minus best-of-n with the n that has the policy's score", None),
    ("_at_equal_kl", "a policy minus best-of-n with the n whose KL bound is the policy's KL", None),
];

/// Figures of the optimum of the objective that are in no table.
const OPTIMUM: &[Entry] = &[
    (
        "ngram_distance",
        "expected distance of two draws for one input, 1 - the mean over n = 1, 2 of the cosine of \
         n-gram counts",
        "distance",
        HigherIsMoreDiverse,
        OF_OPTIMUM,
    ),
    (
        "ess",
        "effective sample size of the candidates of an input",
        "candidates",
        Neither,
        OF_OPTIMUM,
    ),
    (
        "reward",
        "score that the objective has, after the missing-EOS rule",
        "score",
        HigherIsBetter,
        OF_OPTIMUM,
    ),
];

/// What a figure of an evaluation is; `None` of a name that no evaluation writes, and of what a
/// program of the user's measured.
pub fn define(metric: &str) -> Option<Definition> {
    define_with(metric, &[])
}

/// What a figure of a table is, or of the comparisons beside it.
pub fn define_in(table: &Table, metric: &str) -> Option<Definition> {
    define_with(metric, &table.own)
}

/// Whether a name is, or may be, that of a figure that is no program's of the user: of a measure,
/// of a comparison, or of a way of measuring.
pub fn is_taken_name(name: &str) -> bool {
    let endings = COMPARISONS.iter().map(|(ending, ..)| *ending);
    let mut endings = endings.chain(WAYS.iter().map(|way| way.ending)).chain([MATCHED]);
    endings.any(|ending| name.ends_with(ending)) || define(name).is_some()
}

fn define_with(metric: &str, own: &[OwnMetric]) -> Option<Definition> {
    if let Some(of) = own.iter().find(|of| of.metric == metric) {
        let direction = match of.better {
            Better::Higher => HigherIsBetter,
            Better::Lower => LowerIsBetter,
            Better::Neither => Neither,
        };
        let (heading, unit) = (of.description.clone(), of.unit.clone());
        return Some(Definition { heading, unit, direction, section: OF_PROGRAMS });
    }
    for (ending, words, unit) in COMPARISONS {
        if let Some(base) = metric.strip_suffix(ending) {
            let of = define_with(base, own)?;
            let unit = unit.map_or(of.unit, str::to_owned);
            let heading = format!("by {base}: {words}");
            return Some(Definition { heading, unit, direction: Neither, section: COMPARED });
        }
    }
    let listed = [RESULTS, GRADED, OF_MODELS, SIMILAR, VALIDATED, PARTS, OPTIMUM];
    let mut listed = listed.into_iter().flatten();
    if let Some(entry) = listed.find(|entry| entry.0 == metric) {
        return Some(plain(entry));
    }
    if let Some(name) = metric.strip_prefix(COVERAGE).filter(|name| !name.is_empty()) {
        let heading = format!("`{name}`, mean over texts");
        let (unit, direction) = ("share".into(), HigherIsBetter);
        return Some(Definition { heading, unit, direction, section: GOLD });
    }
    if let Some(name) = metric.strip_prefix(LOSS).filter(|name| !name.is_empty()) {
        let heading = format!("loss on the held-out texts `{name}`, mean over their tokens");
        let (unit, direction) = ("nats a token".into(), LowerIsBetter);
        return Some(Definition { heading, unit, direction, section: OWN });
    }
    if let Some(name) = metric.strip_prefix("win_rate_").filter(|name| !name.is_empty()) {
        let heading = format!("share of inputs won, a tie counting half, by the judge `{name}`");
        let (unit, direction) = ("share".into(), HigherIsBetter);
        return Some(Definition { heading, unit, direction, section: JUDGES });
    }
    let (measure, way, matched) = taken(metric)?;
    let (_, heading, unit, direction, _) = measure;
    let cut = if matched { ", texts cut to a common length" } else { "" };
    let heading = format!("{heading} {}{cut}", way.words);
    let direction = if way.is_directed { *direction } else { Neither };
    Some(Definition { heading, unit: unit.to_string(), direction, section: way.section })
}

/// What a figure by step is; `None` of a name that no stage writes.
pub fn define_step(metric: &str) -> Option<Definition> {
    TRAINING.iter().find(|entry| entry.0 == metric).map(plain)
}

fn plain((_, heading, unit, direction, section): &Entry) -> Definition {
    let (heading, unit) = (heading.to_string(), unit.to_string());
    Definition { heading, unit, direction: *direction, section }
}

/// The measure of a metric of diversity, the way it is taken, and whether texts are cut.
fn taken(metric: &str) -> Option<(&'static Entry, &'static Way, bool)> {
    let whole = metric.strip_suffix(MATCHED).unwrap_or(metric);
    let way = WAYS.iter().find(|way| whole.ends_with(way.ending))?;
    let name = whole.strip_suffix(way.ending)?;
    let measure = MEASURES.iter().find(|measure| measure.0 == name)?;
    Some((measure, way, whole.len() < metric.len()))
}

/// The name of the measure of a metric of diversity, without the way it is taken.
pub(super) fn measure(metric: &str) -> Option<&'static str> {
    taken(metric).map(|(measure, ..)| measure.0)
}

/// Which way a metric of diversity is taken.
pub(super) fn is_taken(metric: &str, way: &Way) -> bool {
    taken(metric).is_some_and(|(_, of, _)| of.ending == way.ending)
}

/// Whether a metric is measured on several samples of an input rather than on its first output.
pub fn is_of_samples(metric: &str) -> bool {
    let similar = SIMILAR.iter().any(|entry| entry.0 == metric);
    ["kl", "rm_accuracy_own"].contains(&metric)
        || similar
        || measure(metric).is_some()
        || is_graded(metric)
        || is_of_model(metric)
}

/// Whether a metric is one of the distribution of a method's model.
pub(super) fn is_of_model(metric: &str) -> bool {
    OF_MODELS.iter().any(|entry| entry.0 == metric)
}

/// Whether a metric is one of quality beside diversity.
pub(super) fn is_graded(metric: &str) -> bool {
    GRADED.iter().any(|entry| entry.0 == metric)
}

/// Whether a metric, or a way of measuring diversity, is left to formats with room for it: measures
/// of the first samples alone, and the parts that a difference in the diversity of good samples is
/// made of.
pub(super) fn is_detail(metric: &str) -> bool {
    let whole = metric.strip_suffix(MATCHED).unwrap_or(metric);
    ["_across_inputs_first", TOTAL, QUALITY_CONTROL].iter().any(|ending| whole.ends_with(ending))
}

/// Whether a metric is a loss on texts of an earlier phase, which are no outputs.
pub(super) fn is_loss(metric: &str) -> bool {
    metric.starts_with(LOSS)
}

/// Whether a metric is of texts cut to a common length.
pub(super) fn is_matched(metric: &str) -> bool {
    metric.ends_with(MATCHED)
}

/// Whether a metric is a part of the gold score rather than a result.
pub(super) fn is_part(metric: &str) -> bool {
    metric.starts_with(COVERAGE) || PARTS.iter().any(|entry| entry.0 == metric)
}

/// Whether a metric is a measure of diversity beside EAD, which is in other blocks.
pub(super) fn is_spread(metric: &str) -> bool {
    measure(metric).is_some_and(|name| name != "ead")
}

/// Every name that is listed, and one of each that is made of parts: what documents must have.
pub fn names() -> Vec<(&'static str, &'static str)> {
    let listed =
        [RESULTS, GRADED, OF_MODELS, SIMILAR, VALIDATED, PARTS, MEASURES, OPTIMUM, TRAINING];
    listed.into_iter().flatten().map(|entry| (entry.0, entry.4)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_samples_and_the_mean_over_choices_are_defined_apart() {
        let heading = |metric: &str| define(metric).unwrap().heading;
        let ead = "expectation-adjusted distinct n-grams";
        assert_eq!(
            heading("ead_across_inputs_first"),
            format!("{ead} of the first sample of each input")
        );
        assert!(heading("ead_across_inputs").ends_with("mean over the choices of the sample"));
        assert!(
            heading("ead_per_input_matched")
                .ends_with("mean over inputs, texts cut to a common length")
        );
    }

    #[test]
    fn a_comparison_is_defined_by_what_is_compared() {
        let gap = define("self_bleu_per_input_gap").unwrap();
        assert_eq!((gap.unit.as_str(), gap.direction, gap.section), ("share", Neither, COMPARED));
        assert!(gap.heading.starts_with("by self_bleu_per_input: "), "{}", gap.heading);
        assert_eq!(define("kl_difference").unwrap().unit, "nats");
        assert_eq!(define("kl_head_to_head").unwrap().unit, "share");
        assert_eq!(
            (define("nothing_gap"), define("nothing"), define("coverage_")),
            (None, None, None)
        );
        assert_eq!(
            (define("head_to_head"), define("ead_across"), define("win_rate_")),
            (None, None, None)
        );
    }

    /// By the table, and so are comparisons by it; no name of another figure is free for it.
    #[test]
    fn what_a_program_measured_is_defined_by_the_table() {
        let own = OwnMetric {
            metric: "hedges".into(),
            description: "words that weaken a statement".into(),
            unit: "a text".into(),
            better: Better::Lower,
            of_samples: true,
            partial: Vec::new(),
        };
        let table = Table { own: vec![own], ..Table::default() };
        let hedges = define_in(&table, "hedges").unwrap();
        assert_eq!(hedges.sentence(), "words that weaken a statement; lower is better");
        assert_eq!(hedges.link(), "docs/evaluation.md#metrics-of-your-own");
        let gap = define_in(&table, "hedges_gap").unwrap();
        assert_eq!((gap.unit.as_str(), gap.direction), ("a text", Neither));
        assert!(gap.heading.starts_with("by hedges: "), "{}", gap.heading);
        assert_eq!(define_in(&table, "gold"), define("gold"));
        assert_eq!((define("hedges"), define_in(&table, "hedge")), (None, None));
        let taken =
            ["gold", "coverage_x", "win_rate_x", "loss_x", "x_gap", "x_per_input", "x_apart"];
        assert!(taken.iter().all(|name| is_taken_name(name)));
        assert!(["hedges", "share_hedged", "gaps"].iter().all(|name| !is_taken_name(name)));
    }

    /// Results with parts of gold, measures, and figures by step have names apart from one
    /// another's.
    #[test]
    fn no_name_is_listed_twice() {
        let results = [RESULTS, GRADED, OF_MODELS, SIMILAR, VALIDATED, PARTS, OPTIMUM].concat();
        for list in [results, MEASURES.to_vec(), TRAINING.to_vec()] {
            for (at, (name, ..)) in list.iter().enumerate() {
                assert!(list[..at].iter().all(|other| other.0 != *name), "{name}");
            }
        }
    }
}

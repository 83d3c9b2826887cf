//! `diversity`: how much the samples of anyone's model vary, per input and across inputs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::common::{DeviceAndDtype, columns, print, print_json};
use super::fetch::{Manner, Speaker};
use super::outputs;
use super::rows::{model_bar, read};
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::device::{Precision, Task};
use crate::error::{Result, user};
use crate::eval::diversity::common_length;
use crate::eval::spread::{Inputs, Spread, cut};
use crate::hub;
use crate::inference::diversity::{Metric, Need, Samples};
use crate::inference::pairs::PairModel;
use crate::inference::{Reader, Subject};
use crate::model::batch::MICRO_BATCH_TOKENS;
use crate::model::memory::{Use, of_forward, sequences};
use crate::report::metrics::{Direction, define};
use crate::tokenizer::tokens::Tokenizer;

/// How much samples vary, per input and across inputs
///
/// A row is an input: `outputs`, a list of texts, of lists of token ids, or of objects with `text`;
/// a `samples.jsonl` of this program has such rows. Lines of `posttrain generate` are read too.
/// Every metric comes per input (of each input's outputs, averaged over inputs) and across inputs
/// (of one output of each), with 95% intervals; with `_matched` of texts cut to one length. What
/// each is, and which way it points: docs/evaluation.md.
#[derive(Args)]
pub struct Arguments {
    /// The rows, one JSON object a line; `-` reads standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// The split to measure, where rows name one [default: all rows as one set]
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// What to measure; all that can be, if not given
    #[arg(long, value_enum, value_delimiter = ',')]
    metrics: Vec<Metric>,
    /// A sentence encoder, for `embedding` and `embedding_vendi`: a folder, or
    /// hub:owner/name@revision
    #[arg(long, value_name = "MODEL")]
    encoder: Option<String>,
    /// A classifier of entailment, neutral and contradiction, for `nli` and the released code's
    /// variants of it: a model's folder or hub name, or what the stage `classifier` made
    #[arg(long, value_name = "MODEL")]
    nli: Option<String>,
    /// A tokenizer's folder, whose number of tokens is the V of `ead_tokenizer`
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Words that `_matched` metrics cut to [default: what half of the outputs reach]
    #[arg(long, value_name = "WORDS")]
    length: Option<usize>,
    /// Seed of the letters that the released code draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceAndDtype,
    /// Texts that a model reads at a time; no result depends on it
    #[arg(long, value_name = "N", default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ValueEnum for Metric {
    fn value_variants<'a>() -> &'a [Self] {
        &Metric::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Metric::Ead => "Expectation-adjusted distinct n-grams, V = 50257",
            Metric::EadTokenizer => "The same with the tokenizer's V",
            Metric::Distinct => "Distinct n-grams",
            Metric::Entropy => "Entropy of n-grams",
            Metric::SelfBleu => "Self-BLEU: higher is less diverse",
            Metric::Vendi => "Vendi score of n-gram cosines",
            Metric::Compression => "Compression ratio: higher is less diverse",
            Metric::Length => "Words",
            Metric::Embedding => "Mean pairwise distance of sentence embeddings",
            Metric::EmbeddingVendi => "Vendi score of sentence embeddings",
            Metric::Nli => "Contradiction minus entailment of pairs",
            Metric::NliReleased => "The released code's variant: 1 - that",
            Metric::NliReleasedSampled => "The released code's sampled variant, of single letters",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl Need {
    /// The option that gives it, and whether it was given.
    fn option(self, arguments: &Arguments) -> (&'static str, bool) {
        match self {
            Need::Tokenizer => ("--tokenizer", arguments.tokenizer.is_some()),
            Need::Encoder => ("--encoder", arguments.encoder.is_some()),
            Need::Nli => ("--nli", arguments.nli.is_some()),
        }
    }
}

#[derive(Serialize)]
struct Found {
    inputs: usize,
    outputs: usize,
    matched_length: usize,
    /// The splits that rows name, where several were measured as one set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    splits: Vec<String>,
    #[serde(flatten)]
    metrics: BTreeMap<String, Spread>,
}

/// Measures and prints.
pub fn main(arguments: &Arguments) -> Result<()> {
    let rows =
        outputs::parse(&read(&arguments.input)?, &arguments.input, arguments.split.as_deref())?;
    let metrics = metrics(arguments)?;
    let inputs = Inputs::new(rows.iter().map(|row| row.texts.len()));
    let splits = Some(outputs::splits(&rows)).filter(|splits| splits.len() > 1).unwrap_or_default();
    let texts: Vec<String> = rows.into_iter().flat_map(|row| row.texts).collect();
    let length = arguments.length.unwrap_or_else(|| common_length(&[&texts[..]]));
    let cut: Vec<String> = texts.iter().map(|text| cut(text, length)).collect();
    let tokenizer = arguments
        .tokenizer
        .as_ref()
        .map(|folder| Ok::<_, anyhow::Error>(Tokenizer::open(folder)?.size()))
        .transpose()?;
    let mut found = BTreeMap::new();
    for (suffix, texts) in [("", &texts), ("_matched", &cut)] {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for metric in &metrics {
            if let Some(measure) = metric.measure(tokenizer) {
                found.insert(metric.name().to_string() + suffix, inputs.spread(measure, &texts));
            }
        }
        let samples = Samples { inputs: &inputs, texts: &texts, seed: arguments.seed };
        for (need, model) in [(Need::Encoder, &arguments.encoder), (Need::Nli, &arguments.nli)] {
            let Some(model) =
                model.as_ref().filter(|_| metrics.iter().any(|metric| metric.need() == Some(need)))
            else {
                continue;
            };
            let spreads = ByModel { arguments, samples, need }
                .with(model)?
                .into_iter()
                .filter(|(metric, _)| metrics.contains(metric));
            found.extend(
                spreads.map(|(metric, spread)| (metric.name().to_string() + suffix, spread)),
            );
        }
    }
    let found = Found {
        inputs: inputs.len(),
        outputs: texts.len(),
        matched_length: length,
        splits,
        metrics: found,
    };
    if arguments.json { print_json(&found) } else { print(&found.text(&metrics)) }
}

/// What is asked for, or all that can be measured with what was given.
fn metrics(arguments: &Arguments) -> Result<Vec<Metric>> {
    let option = |metric: &Metric| metric.need().map(|need| need.option(arguments));
    let there = |metric: &Metric| option(metric).is_none_or(|(_, there)| there);
    if arguments.metrics.is_empty() {
        return Ok(Metric::value_variants().iter().copied().filter(there).collect());
    }
    match arguments.metrics.iter().find(|metric| !there(metric)) {
        Some(metric) => {
            let option = option(metric).map_or("", |(option, _)| option);
            Err(user(format!("`{}` needs {option}", metric.name())).into())
        }
        None => Ok(arguments.metrics.clone()),
    }
}

impl Found {
    fn text(&self, metrics: &[Metric]) -> String {
        let number = |x: f64| format!("{x:.4}");
        let ends = |low: f64, high: f64| {
            if low.is_nan() {
                "-".to_owned()
            } else {
                format!("[{}, {}]", number(low), number(high))
            }
        };
        let head = |words: &[&str]| {
            vec![words.iter().map(|word| word.to_string()).collect::<Vec<String>>()]
        };
        let mut each = head(&["per input", "mean", "95%", "std"]);
        let mut across = head(&["across inputs", "mean", "95%", "first", "95%"]);
        let mut lower: Vec<String> = Vec::new();
        for (name, spread) in metrics
            .iter()
            .flat_map(|metric| ["", "_matched"].map(|suffix| metric.name().to_string() + suffix))
            .filter_map(|name| Some((name.clone(), self.metrics.get(&name)?)))
        {
            let (of, over) = (&spread.per_input, &spread.across_inputs);
            let direction = define(&format!("{}_per_input", name.trim_end_matches("_matched")))
                .map(|definition| definition.direction);
            lower.extend((direction == Some(Direction::LowerIsMoreDiverse)).then(|| name.clone()));
            each.push(vec![name.clone(), number(of.mean), ends(of.low, of.high), number(of.std)]);
            let first = ends(over.first_low, over.first_high);
            across.push(vec![
                name,
                number(over.mean),
                ends(over.low, over.high),
                number(over.first),
                first,
            ]);
        }
        let mut text = format!("{}\n{}\n", columns(&each), columns(&across));
        let mut note = |words: String| text.push_str(&format!("{words}\n"));
        note(format!(
            "{} inputs, {} outputs; _matched: cut to {} words",
            self.inputs, self.outputs, self.matched_length
        ));
        note("per input: of each input's outputs, mean and std over inputs".into());
        note("across inputs: of one output of each input, mean over the choices, and first".into());
        if !lower.is_empty() {
            note(format!("lower is more diverse: {}", lower.join(", ")));
        }
        if !self.splits.is_empty() {
            note(format!("measured as one set, --split takes one: {}", self.splits.join(", ")));
        }
        text
    }
}

/// What a model is asked.
struct ByModel<'a> {
    arguments: &'a Arguments,
    samples: Samples<'a>,
    need: Need,
}

impl ByModel<'_> {
    fn with(self, model: &str) -> Result<Vec<(Metric, Spread)>> {
        let mut speaker = Speaker::new(Manner::Text);
        let folder = hub::resolve(model, &mut |progress| speaker.say(progress))?;
        drop(speaker);
        let reader = super::common::reader(&folder)?;
        let tokens =
            (self.arguments.batch_size as usize * reader.spec.context).min(MICRO_BATCH_TOKENS);
        let device = self.arguments.device.alone()?;
        let free = device.free_memory()?;
        let b = Counting::new(device.sizes(Precision::Single), free);
        let pass = sequences(tokens, reader.spec.context);
        let memory = of_forward(&b, &reader.spec, reader.head, std::iter::once(pass), Use::Hidden);
        let name = reader.name().to_string();
        memory.check(&name, free, "a smaller model or a smaller --batch-size takes less")?;
        device.run(Precision::Single, Asked { by: self, reader })
    }
}

struct Asked<'a> {
    by: ByModel<'a>,
    reader: Reader,
}

impl Task for Asked<'_> {
    type Output = Result<Vec<(Metric, Spread)>>;

    fn run<B: Backend>(self, b: B) -> Self::Output {
        let ByModel { arguments, samples, need } = self.by;
        let bar = model_bar(false, "texts");
        let mut progress = |done: usize, total: usize| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            Ok(())
        };
        let batch_size = arguments.batch_size as usize;
        let found = match need {
            Need::Nli => samples.inferred(
                &PairModel::load(b, Precision::Single, self.reader)?,
                batch_size,
                &mut progress,
            )?,
            _ => samples.embedded(
                &Subject::load(b, Precision::Single, self.reader)?,
                batch_size,
                &mut progress,
            )?,
        };
        bar.finish_and_clear();
        Ok(found)
    }
}

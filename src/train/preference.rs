//! Preference pairs as tokens, grouped by prompt, and the pairwise loss of a batch of groups. The
//! score of a text is the caller's: the number of a scalar head (`reward.rs`), or a function of its
//! log-probabilities.
//!
//! 1. Each text of a prompt is one sequence, in however many pairs it is: it is scored once.
//! 2. Each prompt has the same weight (Ouyang et al. 2022, section 3.5), and the pairs of a prompt
//!    share it. Where pairs are asked for instead, a group is one pair, and each pair has the same
//!    weight.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::rows::{Preference, called};
use crate::data::tokenised::{Limits, TooLong};
use crate::error::{Result, user};
use crate::rl::preference::{PairLoss, PairStatistics, Scored, pair_loss};
use crate::tokenizer::tokens::Tokenizer;

/// The texts of one prompt, and its pairs as indices into them.
pub struct PreferenceGroup {
    /// Prompt and response of each text.
    pub sequences: Vec<Vec<u32>>,
    /// (chosen, rejected).
    pub pairs: Vec<(usize, usize)>,
    /// Of each pair, by how much its scores are to differ.
    pub margins: Vec<f64>,
}

/// What a batch is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchOf {
    /// Prompts, each with all its pairs. Each prompt has the same weight.
    #[default]
    Prompts,
    /// Pairs, each of the same weight. A text that is in two pairs is read twice.
    Pairs,
}

impl BatchOf {
    /// Whether it is the default.
    pub fn is_prompts(&self) -> bool {
        *self == BatchOf::Prompts
    }
}

/// By how much the scores of a pair are to differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Margin {
    /// By nothing.
    #[default]
    None,
    /// By the margin that the row has.
    Rows,
    /// By this number, in every pair.
    Constant(f64),
}

impl Margin {
    /// Whether it is the default.
    pub fn is_none(&self) -> bool {
        *self == Margin::None
    }
}

impl PreferenceGroup {
    /// Tokens of all its sequences.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }

    /// Its sequences as slices.
    pub fn slices(&self) -> impl Iterator<Item = &[u32]> {
        self.sequences.iter().map(Vec::as_slice)
    }
}

/// Gathers the pairs of each prompt, wherever its rows are in the split; prompts are in the order
/// of their first rows. Or, by `of`, makes a group of each pair, in the order of the rows.
///
/// # Errors
/// The user's, with all rows of the split that are too long for `reader`; with the first row that
/// has no margin where `margin` asks for it.
pub fn groups(
    rows: &[Preference],
    tokenizer: &Tokenizer,
    limits: Limits,
    (reader, split): (&str, &str),
    (of, margin): (BatchOf, Margin),
) -> Result<Vec<PreferenceGroup>> {
    let mut long = TooLong::new(limits.context, split, reader, limits.field);
    let mut groups: Vec<PreferenceGroup> = Vec::new();
    let mut prompts: BTreeMap<&str, usize> = BTreeMap::new();
    // Texts of a prompt, by the prompt's place.
    let mut texts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for row in rows {
        let own = match of {
            BatchOf::Prompts => *prompts.entry(&row.prompt).or_insert(groups.len()),
            BatchOf::Pairs => groups.len(),
        };
        if own == groups.len() {
            groups.push(PreferenceGroup {
                sequences: Vec::new(),
                pairs: Vec::new(),
                margins: Vec::new(),
            });
        }
        let group = &mut groups[own];
        let mut index = |text: &str, known: Option<usize>| -> Result<usize> {
            if let Some(index) = known {
                return Ok(index);
            }
            let (prompt, response) = tokenizer.encode_row(&row.prompt, text, row.chat)?;
            let prompt = limits.cut(prompt);
            long.pair(&row.id, row.origin.as_ref(), prompt.len(), response.len(), "response");
            group.sequences.push([prompt, response].concat());
            Ok(group.sequences.len() - 1)
        };
        let chosen = index(&row.chosen, texts.get(&(own, row.chosen.as_str())).copied())?;
        texts.insert((own, &row.chosen), chosen);
        let rejected = index(&row.rejected, texts.get(&(own, row.rejected.as_str())).copied())?;
        texts.insert((own, &row.rejected), rejected);
        group.pairs.push((chosen, rejected));
        group.margins.push(margin_of(row, margin, split)?);
    }
    long.check()?;
    Ok(groups)
}

/// The margin of a row.
fn margin_of(row: &Preference, margin: Margin, split: &str) -> Result<f64> {
    let what = match (margin, row.margin) {
        (Margin::None, _) => return Ok(0.0),
        (Margin::Constant(margin), _) => return Ok(margin),
        (Margin::Rows, Some(margin)) if margin.is_finite() => return Ok(margin),
        (Margin::Rows, Some(margin)) => format!("a margin of {margin}"),
        (Margin::Rows, None) => "no margin".to_owned(),
    };
    let row = called(&row.id, row.origin.as_ref());
    Err(user(format!("split `{split}`, {row} has {what}, and `margin: rows` takes it from there"))
        .hint("name its column under `margin` where the rows are read, or give a constant")
        .into())
}

/// The derivative of the loss by each of `scores`, which are those of all sequences of `groups`,
/// one group after the other; adds to `statistics`. The loss is the mean over the `whole` number of
/// groups of the batch, of which `groups` may be a part.
///
/// # Panics
/// If there is not one score a sequence.
pub fn score_gradients(
    statistics: &mut PairStatistics,
    groups: &[&PreferenceGroup],
    scores: &[f32],
    whole: usize,
    loss: PairLoss,
) -> Vec<f64> {
    let mut dscores = vec![0.0; scores.len()];
    let mut start = 0;
    for group in groups {
        let score = |side: fn(&(usize, usize)) -> usize| {
            group.pairs.iter().map(|pair| scores[start + side(pair)]).collect::<Vec<f32>>()
        };
        let (mut dchosen, mut drejected) =
            (vec![0.0; group.pairs.len()], vec![0.0; group.pairs.len()]);
        let (chosen, rejected) = (score(|pair| pair.0), score(|pair| pair.1));
        let scored = Scored { chosen: &chosen, rejected: &rejected, margins: &group.margins };
        let divisor = group.pairs.len() * whole;
        pair_loss(&mut dchosen, &mut drejected, statistics, scored, divisor, loss);
        for (pair, (dchosen, drejected)) in group.pairs.iter().zip(dchosen.iter().zip(&drejected)) {
            dscores[start + pair.0] += f64::from(*dchosen);
            dscores[start + pair.1] += f64::from(*drejected);
        }
        start += group.sequences.len();
    }
    assert_eq!(start, scores.len(), "one score a sequence");
    dscores
}

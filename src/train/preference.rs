//! Preference pairs as tokens, grouped by prompt, and the pairwise loss of a batch of groups. The
//! score of a text is the caller's: the number of a scalar head (`reward.rs`), or a function of its
//! log-probabilities.
//!
//! 1. Each text of a prompt is one sequence, in however many pairs it is: it is scored once.
//! 2. Each prompt has the same weight (Ouyang et al. 2022, section 3.5), and the pairs of a prompt
//!    share it.

use std::collections::BTreeMap;

use crate::data::rows::Preference;
use crate::data::tokenised::{Limits, TooLong};
use crate::data::tokens::Tokenizer;
use crate::error::Result;
use crate::rl::preference::{PairStatistics, PairWeight, pair_loss};

/// The texts of one prompt, and its pairs as indices into them.
pub struct PreferenceGroup {
    /// Prompt and response of each text.
    pub sequences: Vec<Vec<u32>>,
    /// (chosen, rejected).
    pub pairs: Vec<(usize, usize)>,
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
/// of their first rows.
///
/// # Errors
/// The user's, with all rows of the split that are too long for `reader`.
pub fn groups(
    rows: &[Preference],
    tokenizer: &Tokenizer,
    limits: Limits,
    reader: &str,
    split: &str,
) -> Result<Vec<PreferenceGroup>> {
    let mut long = TooLong::new(limits.context, split, reader, limits.field);
    let mut groups: Vec<PreferenceGroup> = Vec::new();
    let mut prompts: BTreeMap<&str, usize> = BTreeMap::new();
    // Texts of a prompt, by the prompt's place.
    let mut texts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for row in rows {
        let own = *prompts.entry(&row.prompt).or_insert(groups.len());
        if own == groups.len() {
            groups.push(PreferenceGroup { sequences: Vec::new(), pairs: Vec::new() });
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
    }
    long.check()?;
    Ok(groups)
}

/// The derivative of the loss by each of `scores`, which are those of all sequences of `groups`,
/// one group after the other; adds to `statistics`. The loss is the mean over the `prompts` of the
/// whole batch, of which `groups` may be a part. `centre` is that of [`PairWeight`].
///
/// # Panics
/// If there is not one score a sequence.
pub fn score_gradients(
    statistics: &mut PairStatistics,
    groups: &[&PreferenceGroup],
    scores: &[f32],
    prompts: usize,
    centre: f64,
) -> Vec<f64> {
    let mut dscores = vec![0.0; scores.len()];
    let mut start = 0;
    for group in groups {
        let score = |side: fn(&(usize, usize)) -> usize| {
            group.pairs.iter().map(|pair| scores[start + side(pair)]).collect::<Vec<f32>>()
        };
        let (mut dchosen, mut drejected) =
            (vec![0.0; group.pairs.len()], vec![0.0; group.pairs.len()]);
        let weight = PairWeight { divisor: group.pairs.len() * prompts, centre };
        pair_loss(
            &mut dchosen,
            &mut drejected,
            statistics,
            &score(|pair| pair.0),
            &score(|pair| pair.1),
            weight,
        );
        for (pair, (dchosen, drejected)) in group.pairs.iter().zip(dchosen.iter().zip(&drejected)) {
            dscores[start + pair.0] += f64::from(*dchosen);
            dscores[start + pair.1] += f64::from(*drejected);
        }
        start += group.sequences.len();
    }
    assert_eq!(start, scores.len(), "one score a sequence");
    dscores
}

//! What a model was trained on, itself and all that it was made of, by content: digests of
//! normalised texts, and a file of them. Uses rows and folders, no model.
//!
//! 1. A text is digested as decontamination compares it (`src/data/decontamination.rs`): the first
//!    64 bits of its BLAKE3 hash. Among 10^6 training rows, 10^3 test rows meet a digest by chance
//!    with probability 10^-10.
//! 2. Texts have roles: prompts (in each of their forms), whole texts (prompt and completion; of a
//!    document its lines too), and of preference pairs the two answers, each with its prompt, and
//!    the pair. A completion alone identifies nothing ("yes").
//! 3. A text is digested whole, however much of it a model's context cut off.
//! 4. The file is one line of JSON, which says how many digests of each role follow, then those
//!    digests: 8 bytes each, little-endian, sorted, each once. 10^6 rows of prompts with
//!    completions take 16 to 32 MB.
//! 5. Where a model came from outside without such a file, its own training rows are unknown, and
//!    the lineage says so.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::decontamination::{Identity, WINDOW, identities, normal, whole_text};
use super::rows::{Example, Preference, Rows};
use crate::error::{Result, user};
use crate::fs;

/// The file in an artefact.
pub const FILE: &str = "trained_on.bin";
/// The role that asks in a conversation.
const USER: &str = "user";
/// How it is written.
const ENCODING: u32 = 1;

/// What a model was trained on. Of a samples artefact: what the models that made it were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Some of it is not known: a model came from outside.
    pub unknown: bool,
    /// The identity of the reward model that this is the lineage of.
    pub own: Option<String>,
    /// The identities of all reward models that had a part in it, `own` included.
    pub reward_models: BTreeSet<String>,
    prompts: Digests,
    texts: Digests,
    answers: Digests,
    pairs: Digests,
}

/// Digests of texts, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Digests(Vec<u64>);

/// The first line of the file.
#[derive(Serialize, Deserialize)]
struct Head {
    encoding: u32,
    unknown: bool,
    own: Option<String>,
    reward_models: BTreeSet<String>,
    /// Digests of prompts, texts, answers, pairs.
    counts: [usize; 4],
}

impl Digests {
    fn new(mut digests: Vec<u64>) -> Self {
        digests.sort_unstable();
        digests.dedup();
        Digests(digests)
    }

    fn has(&self, text: &str) -> bool {
        self.0.binary_search(&digest(text)).is_ok()
    }

    fn join(&mut self, other: Digests) {
        match self.0.is_empty() {
            true => *self = other,
            false => *self = Digests::new([std::mem::take(&mut self.0), other.0].concat()),
        }
    }
}

fn digest(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

/// An answer with its prompt. A line end parts them: no normal text has one.
fn answer(prompt: &str, text: &str) -> String {
    format!("{}\n{}", normal(prompt), normal(text))
}

/// A pair, whichever of the two was chosen.
fn pair(row: &Preference) -> String {
    let mut texts = [normal(&row.chosen), normal(&row.rejected)];
    texts.sort();
    format!("{}\n{}", normal(&row.prompt), texts.join("\n"))
}

impl Lineage {
    /// That of a model from outside, of which nothing is known.
    pub fn unknown() -> Self {
        Lineage { unknown: true, ..Lineage::default() }
    }

    /// That of training on these rows.
    pub fn of_rows(rows: &Rows) -> Self {
        let mut lineage = Lineage::of_examples(&rows.texts());
        match rows {
            Rows::Examples(_) => {}
            Rows::Preferences(rows) => {
                // What is chosen is no text that a model learns to write.
                lineage.texts = Digests::default();
                let answers = rows.iter().flat_map(|row| {
                    [answer(&row.prompt, &row.chosen), answer(&row.prompt, &row.rejected)]
                });
                lineage.answers = Digests::new(answers.map(|text| digest(&text)).collect());
                lineage.pairs = Digests::new(rows.iter().map(|row| digest(&pair(row))).collect());
            }
            Rows::Conversations(rows) => {
                // What is asked later in a conversation may be a prompt elsewhere.
                let asked = rows
                    .iter()
                    .flat_map(|row| &row.messages)
                    .filter(|message| message.role() == USER);
                let long = asked
                    .map(|message| normal(message.content()))
                    .filter(|text| text.split(' ').count() >= WINDOW);
                lineage.prompts.join(Digests::new(long.map(|text| digest(&text)).collect()));
            }
        }
        lineage
    }

    /// That of training on these prompts with completions, or documents.
    pub fn of_examples(rows: &[Example]) -> Self {
        let (documents, prompted): (Vec<&Example>, Vec<&Example>) =
            rows.iter().partition(|row| row.prompt.trim().is_empty());
        let forms = |texts: Vec<&str>| -> Vec<u64> {
            identities(&texts)
                .iter()
                .flat_map(|identity| identity.forms().map(digest).collect::<Vec<_>>())
                .collect()
        };
        let prompts = forms(prompted.iter().map(|row| row.prompt.as_str()).collect());
        let mut texts = forms(documents.iter().map(|row| row.completion.as_str()).collect());
        let lines = documents.iter().flat_map(|row| row.completion.lines()).map(normal);
        texts.extend(
            lines.filter(|line| line.split(' ').count() >= WINDOW).map(|line| digest(&line)),
        );
        texts.extend(prompted.iter().map(|row| digest(&whole_text(row))));
        Lineage { prompts: Digests::new(prompts), texts: Digests::new(texts), ..Lineage::default() }
    }

    /// That of training on prompts alone: their completions were the model's own.
    pub fn of_prompts(rows: &[Example]) -> Self {
        Lineage { texts: Digests::default(), ..Lineage::of_examples(rows) }
    }

    /// Both: that of something that was made of two models, or of a model that was trained on.
    pub fn with(mut self, other: Lineage) -> Self {
        self.unknown |= other.unknown;
        self.reward_models.extend(other.reward_models);
        self.prompts.join(other.prompts);
        self.texts.join(other.texts);
        self.answers.join(other.answers);
        self.pairs.join(other.pairs);
        self
    }

    /// That of the reward model with this identity.
    pub fn of_reward_model(mut self, identity: String) -> Self {
        self.reward_models.insert(identity.clone());
        self.own = Some(identity);
        self
    }

    /// Which of the rows of a set were trained on: those whose prompt, or text as a whole, is there
    /// in any form.
    pub fn saw(&self, rows: &[Example]) -> Vec<bool> {
        let contents: Vec<&str> = rows
            .iter()
            .map(|row| {
                if row.prompt.trim().is_empty() {
                    row.completion.as_str()
                } else {
                    row.prompt.as_str()
                }
            })
            .collect();
        let known = |text: &str| self.prompts.has(text) || self.texts.has(text);
        let saw = |(row, identity): (&Example, &Identity)| {
            identity.forms().any(known) || self.texts.has(&whole_text(row))
        };
        rows.iter().zip(&identities(&contents)).map(saw).collect()
    }

    /// Which preference pairs have an answer whose label was trained on. The prompt alone does not
    /// count: other answers to it are new.
    pub fn saw_answers(&self, rows: &[Preference]) -> Vec<bool> {
        let saw = |row: &Preference| {
            [&row.chosen, &row.rejected]
                .into_iter()
                .any(|text| self.answers.has(&answer(&row.prompt, text)))
        };
        rows.iter().map(saw).collect()
    }

    /// How many preference pairs it was trained on, and how many of these the other was.
    pub fn pairs_in_common(&self, other: &Lineage) -> (usize, usize) {
        let common =
            self.pairs.0.iter().filter(|pair| other.pairs.0.binary_search(pair).is_ok()).count();
        (self.pairs.0.len(), common)
    }

    /// Reads that of the artefact, or model folder, in `folder`; unknown where it has no such file.
    ///
    /// # Errors
    /// The user's, if the file is not whole.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(Lineage::unknown()) };
        let broken = || {
            user(format!("{} is not whole", path.display()))
                .hint("remove it: then the lineage counts as unknown")
        };
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
        let head: Head = serde_json::from_slice(&bytes[..end]).map_err(|_| broken())?;
        let body = &bytes[end + 1..];
        let total = head
            .counts
            .iter()
            .try_fold(0usize, |total, count| total.checked_add(*count))
            .ok_or_else(broken)?;
        if head.encoding != ENCODING || total.checked_mul(8) != Some(body.len()) {
            return Err(broken().into());
        }
        let mut digests = body
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
        let [prompts, texts, answers, pairs] =
            head.counts.map(|count| Digests::new(digests.by_ref().take(count).collect()));
        let Head { unknown, own, reward_models, .. } = head;
        Ok(Lineage { unknown, own, reward_models, prompts, texts, answers, pairs })
    }

    /// Writes it into the artefact in `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let all = [&self.prompts, &self.texts, &self.answers, &self.pairs];
        let head = Head {
            encoding: ENCODING,
            unknown: self.unknown,
            own: self.own.clone(),
            reward_models: self.reward_models.clone(),
            counts: all.map(|digests| digests.0.len()),
        };
        let head = serde_json::to_vec(&head)?;
        fs::write_atomic_with(&folder.join(FILE), |file| {
            file.write_all(&head)?;
            file.write_all(b"\n")?;
            all.iter()
                .flat_map(|digests| &digests.0)
                .try_for_each(|digest| file.write_all(&digest.to_le_bytes()))
        })
    }
}

//! Names of files of artefacts whose content has no separate type.

/// Of an evaluation: the diversity of samples by all measures, with its parameters.
pub const DIVERSITY_FILE: &str = "diversity.json";
/// Of an evaluation: the judges whose win rates have names, with their summaries.
pub const JUDGES: &str = "judges.json";
/// Of an evaluation: a sentence on each of these judges, a list.
pub const NOTES: &str = "notes.json";
/// Of most artefacts: figures by step, one JSON object a line.
pub const METRICS: &str = "metrics.jsonl";

//! Names given on the command line: whole, or as much of one as makes it the only one.

use super::diagnostic::advice;
use crate::error::{Failure, user};

/// Candidates that a message lists at most.
const LISTED: usize = 12;

/// The one of `names` that `word` is, or begins if only one does; `None` if none does. A name that
/// occurs twice counts once.
///
/// # Errors
/// Several names begin with `word`: they are listed.
pub fn complete<'a>(
    word: &str,
    names: impl IntoIterator<Item = &'a str>,
    what: &str,
) -> Result<Option<&'a str>, Failure> {
    let mut found: Vec<&str> = Vec::new();
    for name in names {
        if name == word {
            return Ok(Some(name));
        }
        if !word.is_empty() && name.starts_with(word) && !found.contains(&name) {
            found.push(name);
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [name] => Ok(Some(name)),
        several => Err(user(format!("`{word}` begins several {what}"))
            .hint(format!("give more of one of {}", listed(several)))),
    }
}

/// The names of a list, of a long one the first.
pub fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(LISTED).filter(|rest| *rest > 0) {
        Some(rest) => format!("{} and {rest} more", names[..LISTED].join(", ")),
        None => names.join(", "),
    }
}

/// Stages in their order, each with the names of its nodes.
pub type Stages<'a> = Vec<(&'a str, Vec<&'a str>)>;

/// The nodes that a name on the command line means: those of a stage, or the node of this name; of
/// both, a beginning that is of one alone will do. `None` if no stage and no node has it.
///
/// # Errors
/// Several stages, or several nodes, begin with the word: they are listed.
pub fn find<'a>(word: &str, stages: &Stages<'a>) -> Result<Option<Vec<&'a str>>, Failure> {
    let of_stage = |name: &str| {
        let found = stages.iter().find(|(stage, _)| *stage == name);
        found.map(|(_, nodes)| nodes.clone())
    };
    if let Some(nodes) = of_stage(word) {
        return Ok(Some(nodes));
    }
    let all = stages.iter().flat_map(|(_, nodes)| nodes.iter().copied());
    // A point is part of the name of a node alone.
    if word.contains('[') {
        return Ok(complete(word, all, "nodes")?.map(|node| vec![node]));
    }
    Ok(complete(word, stages.iter().map(|(stage, _)| *stage), "stages")?.and_then(of_stage))
}

/// The same where a stage or a node must have the name; `place` is what the message calls the
/// whole.
///
/// # Errors
/// As of [`find`]; and no stage and no node has the name.
pub fn nodes<'a>(word: &str, stages: &Stages<'a>, place: &str) -> Result<Vec<&'a str>, Failure> {
    if let Some(found) = find(word, stages)? {
        return Ok(found);
    }
    let near = stages.iter().find(|(stage, _)| word.starts_with(&format!("{stage}[")));
    let help = match near {
        Some((stage, nodes)) => format!("nodes of `{stage}`: {}", listed(nodes)),
        None => advice(word, stages.iter().map(|(stage, _)| *stage), "stages"),
    };
    Err(user(format!("there is no stage `{word}` in {place}")).hint(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_of_one_name_alone_is_that_name() {
        let names = ["sft", "sft_outputs", "evaluation", "evaluation"];
        let complete = |word| complete(word, names, "stages");
        assert_eq!(complete("sft").unwrap(), Some("sft"));
        assert_eq!(complete("sft_").unwrap(), Some("sft_outputs"));
        assert_eq!(complete("eval").unwrap(), Some("evaluation"));
        assert_eq!(complete("ppo").unwrap(), None);
        assert_eq!(complete("").unwrap(), None);
        let error = complete("s").unwrap_err();
        assert_eq!(error.message, "`s` begins several stages");
        assert_eq!(error.hint.as_deref(), Some("give more of one of sft, sft_outputs"));
    }

    #[test]
    fn a_stage_means_its_nodes_and_a_node_itself() {
        let stages = vec![
            ("world", vec!["world"]),
            ("ppo", vec!["ppo[kl=0.1,seed=0]", "ppo[kl=0.1,seed=1]", "ppo[kl=0.2,seed=0]"]),
        ];
        let of = |word| nodes(word, &stages, "the pipeline `p`");
        assert_eq!(of("pp").unwrap(), stages[1].1);
        assert_eq!(of("ppo[kl=0.2").unwrap(), ["ppo[kl=0.2,seed=0]"]);
        assert_eq!(of("ppo[kl=0.1,seed=1]").unwrap(), ["ppo[kl=0.1,seed=1]"]);
        assert_eq!(of("ppo[kl=0.1").unwrap_err().message, "`ppo[kl=0.1` begins several nodes");
        let absent = of("ppo[kl=9]").unwrap_err();
        assert!(absent.hint.is_some_and(|hint| hint.starts_with("nodes of `ppo`: ")));
        assert_eq!(of("word").unwrap_err().message, "there is no stage `word` in the pipeline `p`");
    }
}

//! The doc comments of configs, read from the sources that this program was built from. There is
//! no second text that could differ from them. Independent of stage kinds.
//!
//! A type is found by its name and its members, as serde names them ([`super::fields`]), so that
//! two types of one name in different files are told apart. The reader depends on the layout of
//! rustfmt: a member is indented by four more columns than its type.

/// The files that define types of configs.
const SOURCES: &[&str] = &[
    include_str!("artefact.rs"),
    include_str!("best_of_n.rs"),
    include_str!("classifier.rs"),
    include_str!("command.rs"),
    include_str!("dataset.rs"),
    include_str!("distill.rs"),
    include_str!("diversity.rs"),
    include_str!("dpo.rs"),
    include_str!("equivalence.rs"),
    include_str!("evaluate/config.rs"),
    include_str!("evaluate/distributions_config.rs"),
    include_str!("evaluate/diversity.rs"),
    include_str!("evaluate/mod.rs"),
    include_str!("evaluate/quality.rs"),
    include_str!("evaluate/optimum_config.rs"),
    include_str!("evaluate/own_metrics_config.rs"),
    include_str!("evaluate/similarity.rs"),
    include_str!("expert_iteration.rs"),
    include_str!("generate.rs"),
    include_str!("generation.rs"),
    include_str!("group_diversity.rs"),
    include_str!("grpo.rs"),
    include_str!("import.rs"),
    include_str!("judge.rs"),
    include_str!("judge_client.rs"),
    include_str!("kto.rs"),
    include_str!("lineage.rs"),
    include_str!("made.rs"),
    include_str!("merge.rs"),
    include_str!("metric/mod.rs"),
    include_str!("metric_validation/config.rs"),
    include_str!("metric_validation/mod.rs"),
    include_str!("online_dpo.rs"),
    include_str!("over_seeds/mod.rs"),
    include_str!("over_seeds/sequential.rs"),
    include_str!("pair_choice.rs"),
    include_str!("people.rs"),
    include_str!("policy_validation.rs"),
    include_str!("ppo.rs"),
    include_str!("ppo_config.rs"),
    include_str!("pretrain.rs"),
    include_str!("reference_logprobs.rs"),
    include_str!("replay.rs"),
    include_str!("reward_model.rs"),
    include_str!("reward_pairs.rs"),
    include_str!("rewards/command.rs"),
    include_str!("rewards/grader.rs"),
    include_str!("rewards/mod.rs"),
    include_str!("rewards/rules.rs"),
    include_str!("score.rs"),
    include_str!("select.rs"),
    include_str!("sft.rs"),
    include_str!("tokenizer.rs"),
    include_str!("../artefacts/leaks.rs"),
    include_str!("../artefacts/metric.rs"),
    include_str!("../data/contrast.rs"),
    include_str!("../data/fitting.rs"),
    include_str!("../data/subset.rs"),
    include_str!("../data/record_formats.rs"),
    include_str!("../data/source.rs"),
    include_str!("../world/lib.rs"),
    include_str!("../world/preferences.rs"),
    include_str!("../eval/correction.rs"),
    include_str!("../eval/grade.rs"),
    include_str!("../inference/diversity.rs"),
    include_str!("../model/init.rs"),
    include_str!("../model/merge.rs"),
    include_str!("../model/transformer.rs"),
    include_str!("../rl/advantage.rs"),
    include_str!("../rl/compat.rs"),
    include_str!("../rl/critic_free.rs"),
    include_str!("../rl/direct.rs"),
    include_str!("../rl/diversity.rs"),
    include_str!("../rl/entropy.rs"),
    include_str!("../rl/group.rs"),
    include_str!("../rl/group_diversity.rs"),
    include_str!("../rl/kl.rs"),
    include_str!("../rl/policy_loss.rs"),
    include_str!("../rl/kto.rs"),
    include_str!("../rl/ppo.rs"),
    include_str!("../rl/rewards.rs"),
    include_str!("../rl/sentinels/settings.rs"),
    include_str!("../train/average.rs"),
    include_str!("../train/optimiser.rs"),
    include_str!("../train/preference.rs"),
    include_str!("../train/schedule.rs"),
    include_str!("../train/validation.rs"),
];

/// The doc comments of all types of configs.
pub struct Meanings {
    types: Vec<Type>,
    /// The first paragraphs of files whose comment begins with a name: the name, the text.
    heads: Vec<(String, String)>,
}

/// A struct or an enum.
struct Type {
    name: String,
    /// Columns before it.
    indent: usize,
    /// Fields, or variants in snake case; each with its doc comment.
    members: Vec<(String, String)>,
}

impl Meanings {
    /// Those of this program.
    pub fn read() -> Meanings {
        let mut meanings = Meanings { types: Vec::new(), heads: Vec::new() };
        for source in SOURCES {
            meanings.types.extend(types(source));
            meanings.heads.extend(head(source));
        }
        meanings
    }

    /// The meaning of a stage kind; `None` if no source has it.
    pub fn kind(&self, name: &str) -> Option<String> {
        let (_, text) = self.heads.iter().find(|(kind, _)| kind == name)?;
        Some(plain(text))
    }

    /// The meaning of the member `member` of the type `name` that has these members; `None` if no
    /// source has it, or several types differ in it.
    pub fn member(&self, name: &str, members: &[&str], member: &str) -> Option<String> {
        let same = |known: &&Type| {
            known.name == name && known.members.iter().map(|(name, _)| name).eq(members)
        };
        let mut found = self.types.iter().filter(same).filter_map(|known| known.meaning(member));
        let first = found.next()?;
        if found.any(|other| other != first) {
            return None;
        }
        let other = first.strip_prefix("See [`").and_then(|rest| rest.strip_suffix("`]."));
        match other.and_then(|link| link.split_once("::")) {
            Some((name, member)) => {
                let mut types = self.types.iter().filter(|known| known.name == name);
                types.find_map(|known| known.meaning(member)).map(plain)
            }
            None => Some(plain(first)),
        }
    }
}

impl Type {
    /// The doc comment of a member; `None` if it has none.
    fn meaning(&self, member: &str) -> Option<&str> {
        let (_, meaning) = self.members.iter().find(|(name, _)| name == member)?;
        (!meaning.is_empty()).then_some(meaning.as_str())
    }
}

/// A doc comment as a text: links are their names.
fn plain(comment: &str) -> String {
    comment.replace("[`", "`").replace("`]", "`")
}

/// The name and the first paragraph of the comment of a file that begins with a name.
fn head(source: &str) -> Option<(String, String)> {
    let lines = source.lines().map_while(|line| line.strip_prefix("//! "));
    let text = lines.collect::<Vec<_>>().join(" ");
    let (name, text) = text.strip_prefix('`')?.split_once("`: ")?;
    let mut letters = text.chars();
    let first = letters.next()?.to_uppercase();
    Some((name.to_owned(), first.chain(letters).collect()))
}

/// The structs and enums of a file.
fn types(source: &str) -> Vec<Type> {
    let (mut done, mut open): (Vec<Type>, Vec<Type>) = (Vec::new(), Vec::new());
    let (mut docs, mut in_attribute) = (Vec::new(), false);
    for line in source.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if in_attribute || text.starts_with("#[") {
            in_attribute = !text.ends_with(']');
            continue;
        }
        if let Some(doc) = text.strip_prefix("///") {
            docs.push(doc.trim());
            continue;
        }
        let doc = std::mem::take(&mut docs).join(" ");
        if open.last().is_some_and(|kind| kind.indent == indent && text.starts_with('}')) {
            done.extend(open.pop());
        } else if let Some(name) = type_name(text) {
            open.push(Type { name: name.to_owned(), indent, members: Vec::new() });
        } else if let Some(kind) = open.last_mut().filter(|kind| kind.indent + 4 == indent)
            && let Some(member) = member_name(text)
        {
            kind.members.push((snake(member), doc));
            if text.ends_with('{') {
                let name = format!("{}::{}", kind.name, snake(member));
                open.push(Type { name, indent, members: Vec::new() });
            }
        }
    }
    done
}

/// A declaration without `pub` or `pub(...)`.
fn private(text: &str) -> &str {
    match text.strip_prefix("pub") {
        Some(rest) => match rest.strip_prefix('(').and_then(|rest| rest.split_once(") ")) {
            Some((_, rest)) => rest,
            None => rest.strip_prefix(' ').unwrap_or(text),
        },
        None => text,
    }
}

/// The name of the struct or enum whose members begin after this line.
fn type_name(text: &str) -> Option<&str> {
    let text = private(text);
    let rest = text.strip_prefix("struct ").or_else(|| text.strip_prefix("enum "))?;
    rest.ends_with('{').then(|| word(rest))
}

/// The name of the field or variant that begins on this line.
fn member_name(text: &str) -> Option<&str> {
    let text = private(text);
    // A field may have the name of a keyword.
    let text = text.strip_prefix("r#").unwrap_or(text);
    let name = word(text);
    let rest = &text[name.len()..];
    let variant = name.starts_with(|first: char| first.is_ascii_uppercase())
        && (rest.is_empty() || rest.starts_with([',', '(']) || rest == " {");
    (variant || (!name.is_empty() && rest.starts_with(':'))).then_some(name)
}

/// The word that a text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    &text[..end.unwrap_or(text.len())]
}

/// A name in snake case, as serde renames variants.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! `kind`: makes a thing.\n//! Slowly.\n//!\n//! More.\n\n\
        /// Not read.\npub(super) struct Outer {\n    /// First\n    /// line.\n    \
        #[serde(\n        default\n    )]\n    pub a: usize,\n    b: Vec<(usize, usize)>,\n}\n\n\
        impl Outer {\n    fn a(&self) -> usize {\n        self.a\n    }\n}\n\n\
        pub enum OuterKind {\n    /// One.\n    One,\n    /// Two.\n    TwoMore(usize),\n    \
        /// Three.\n    Three {\n        /// See [`Outer::a`].\n        inner: bool,\n    },\n}\n\n\
        struct Outer {\n    /// Another.\n    c: usize,\n}\n";

    #[test]
    fn doc_comments_are_found_by_the_name_and_the_members_of_a_type() {
        let meanings = Meanings { types: types(SOURCE), heads: head(SOURCE).into_iter().collect() };
        assert_eq!(meanings.kind("kind").as_deref(), Some("Makes a thing. Slowly."));
        let outer = |members: &[&str], member: &str| meanings.member("Outer", members, member);
        assert_eq!(outer(&["a", "b"], "a").as_deref(), Some("First line."));
        assert_eq!(outer(&["a", "b"], "b"), None);
        assert_eq!(outer(&["c"], "c").as_deref(), Some("Another."));
        assert_eq!(outer(&["a"], "a"), None);
        let variants = ["one", "two_more", "three"];
        let variant = |member: &str| meanings.member("OuterKind", &variants, member);
        assert_eq!(variant("two_more").as_deref(), Some("Two."));
        let inner = meanings.member("OuterKind::three", &["inner"], "inner");
        assert_eq!(inner.as_deref(), Some("First line."));
    }
}

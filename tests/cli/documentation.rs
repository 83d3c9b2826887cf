//! The documentation: every example of the language can be planned, every command that a document
//! or `--help` shows is read by the program, and run where it takes neither models nor a network.

use std::path::Path;

use super::place::Place;

/// The blocks of a language in a Markdown text, each with the line it starts at.
pub fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        match (inside, line.strip_prefix("```")) {
            (false, Some(found)) if found == language => {
                blocks.push((index + 1, String::new()));
                inside = true;
            }
            (true, Some(_)) => inside = false,
            (true, None) => {
                let block = &mut blocks.last_mut().expect("a block has begun").1;
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn every_example_of_the_language_is_planned() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipeline.md")).unwrap();
    let examples = blocks(&text, "yaml");
    assert!(examples.len() >= 5);
    for (line, example) in examples {
        let place = Place::new(&example);
        place.write("posts.jsonl", "{\"post\": \"a post\", \"summary\": \"a summary\"}\n");
        std::fs::create_dir(place.path("classifier")).unwrap();
        let said = place.say(&["plan", "p.yaml"]);
        assert_eq!(said.code, 0, "docs/pipeline.md, line {line}\n{}", said.err);
    }
}

#[test]
fn every_mistake_of_the_documentation_is_shown_as_it_is_printed() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipeline.md")).unwrap();
    let wrong = blocks(&text, "yaml wrong");
    let shown = blocks(&text, "text error");
    assert!(!wrong.is_empty() && wrong.len() == shown.len());
    for ((line, example), (_, error)) in wrong.iter().zip(&shown) {
        let said = Place::new(example).say(&["plan", "p.yaml"]);
        assert_eq!(
            (said.code, &said.err),
            (2, error),
            "docs/pipeline.md, line {line}: correct the block `text error` after it"
        );
    }
}

/// A pipeline on which commands of documents are tried.
const TRIED: &str = "\
name: tried
params: {kl: 0.02}
stages:
  greet: {uses: command, run: [sh, -c, \"echo ${kl} > kl.txt\"]}
";

/// Commands that are read and not run: they serve, measure, or take models, evaluations, folders,
/// earlier results or a remote cache. So is `plan --diff`, which takes a repository.
const READ_ALONE: &[&str] = &[
    "accept", "adopt", "bisect", "export", "import", "verify", "serve", "annotate", "bench",
    "exec", "generate", "embed", "classify", "doctor", "results", "cache",
];

/// The commands of a document: code between backquotes, and lines of blocks of `sh`.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut inside, mut is_shell) = (false, false);
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            (inside, is_shell) = (!inside, language == "sh");
            continue;
        }
        let spans: Vec<&str> = match (inside, is_shell) {
            (true, true) => vec![line.split(" # ").next().unwrap_or_default()],
            (true, false) => Vec::new(),
            (false, _) => line.split('`').skip(1).step_by(2).collect(),
        };
        found.extend(spans.into_iter().filter_map(|span| {
            let words = ["posttrain ", "cargo run --release -- "]
                .iter()
                .find_map(|start| span.trim().strip_prefix(start))?;
            Some(words.to_owned())
        }));
    }
    found
}

/// The words of a command, with something instead of what means anything; alternatives
/// (`a|b`) are separate commands.
fn words(command: &str) -> Vec<Vec<String>> {
    let root = env!("CARGO_MANIFEST_DIR");
    let filled = |word: &str| match word.trim_matches(['[', ']']) {
        "FILE" => "p.yaml".to_owned(),
        "STAGE" | "STAGE…" => "greet".into(),
        "RUN" | "A" | "B" => "latest".into(),
        "DIR" => format!("{root}/tests/model/golden/opt"),
        "FILE.jsonl" => "rows.jsonl".into(),
        "KIND" => "sft".into(),
        "FOLDER" => "new".into(),
        "NAME" => "greet".into(),
        "N" => "3".into(),
        _ if word.starts_with("pipelines/") => format!("{root}/{word}"),
        _ => word.trim_matches('\'').to_owned(),
    };
    // A place in brackets is one word: `<work folder>`.
    let command = match command.split_once('<').zip(command.split_once('>')) {
        Some(((before, _), (_, after))) => format!("{before}PLACE{after}"),
        None => command.to_owned(),
    };
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    for word in command.split_whitespace() {
        let choices: Vec<&str> = word.split('|').collect();
        all = choices
            .iter()
            .flat_map(|choice| {
                all.iter().map(|words| [words.clone(), vec![filled(choice)]].concat())
            })
            .collect();
    }
    all
}

#[test]
fn every_command_of_the_documents_is_one_of_the_program() {
    let place = Place::new(TRIED);
    place.write("rows.jsonl", "{\"tokens\": [5, 6, 7], \"outputs\": [\"a b\", \"a c\"]}\n");
    place.write("samples.jsonl", "{\"outputs\": [\"a b\", \"a c\"]}\n");
    place.good(&["run", "p.yaml"]);
    place.good(&["run", "p.yaml", "--set", "kl=0.1"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut read, mut run) = (0, 0);
    for document in [
        "README.md",
        "docs/pipeline.md",
        "docs/evaluation.md",
        "docs/algorithms.md",
        "docs/report.md",
        "docs/kernels.md",
        "docs/troubleshooting.md",
        "docs/json.md",
        "docs/remote.md",
        "docs/cluster.md",
        "docs/glossary.md",
        "cache/README.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for words in commands(&text).iter().flat_map(|command| words(command)) {
            let whole = [vec!["posttrain".to_owned()], words.clone()].concat();
            let parse =
                |words: &[String]| posttrain::cli::command().try_get_matches_from(words).err();
            if let Some(error) = parse(&whole) {
                // `posttrain bench`: the name of a command alone; `posttrain diversity --nli`: an
                // option without its value.
                use clap::error::ErrorKind::{
                    DisplayHelpOnMissingArgumentOrSubcommand, MissingRequiredArgument,
                    MissingSubcommand,
                };
                let lacks = [
                    DisplayHelpOnMissingArgumentOrSubcommand,
                    MissingRequiredArgument,
                    MissingSubcommand,
                ];
                let named = lacks.contains(&error.kind())
                    && words.iter().all(|word| !word.starts_with('-'));
                let option = words.last().is_some_and(|word| word.starts_with("--"));
                let valued =
                    option && parse(&[whole.clone(), vec!["value".into()]].concat()).is_none();
                assert!(named || valued, "{document}: {whole:?}\n{error}");
                read += 1;
                continue;
            }
            read += 1;
            let has = |flag: &str| words.iter().any(|word| word == flag);
            // A name alone is talked of; these take nothing more.
            let talked_of =
                words.len() == 1 && !["report", "ls", "stages"].contains(&words[0].as_str());
            if talked_of
                || READ_ALONE.contains(&words[0].as_str())
                || words.iter().any(|word| word == "--diff")
                || ["--encoder", "--open", "--metrics", "--nli"].iter().any(|flag| has(flag))
            {
                continue;
            }
            // What runs is planned, without the options of runs alone.
            let first = if words[0] == "run" { "plan" } else { &words[0] };
            let mut rest: Vec<&str> = words[1..].iter().map(String::as_str).collect();
            rest.retain(|word| *word != "--sequential");
            for option in ["--budget", "--executor"] {
                if let Some(at) = rest.iter().position(|word| *word == option) {
                    rest.drain(at..at + 2);
                }
            }
            let arguments: Vec<&str> = [first].into_iter().chain(rest).collect();
            let said = place.say(&arguments);
            assert_eq!(said.code, 0, "{document}: {arguments:?}\n{}", said.err);
            run += 1;
        }
    }
    assert!(read > 30 && run > 15, "{read} are read, {run} are run");
}

#[test]
fn every_example_of_set_in_the_help_can_be_given() {
    let command = posttrain::cli::command();
    let plan = command.find_subcommand("plan").unwrap();
    let set = plan.get_arguments().find(|argument| argument.get_long() == Some("set")).unwrap();
    let help = set.get_help().unwrap().to_string();
    let examples: Vec<&str> = help.split('`').skip(1).step_by(2).collect();
    assert_eq!(examples.len(), 3, "{help}");
    let pipeline = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/summarisation.yaml");
    let place = Place::new("");
    for example in examples {
        let said = place.say(&["plan", pipeline, "--set", example]);
        assert_eq!(said.code, 0, "--set {example}\n{}", said.err);
    }
    let list = place.say(&["plan", pipeline, "--set", "kl=[0.02,0.05]"]);
    assert_eq!(list.code, 2);
    assert!(list.err.contains("--set 'matrix.kl=[0.02,0.05]'"), "{}", list.err);
    place.good(&["plan", pipeline, "--set", "matrix.kl=[0.02,0.05]"]);
}

/// Lays a fragment over the smallest study: its sections, and fields and stages under
/// `stages`.
fn laid_over_a_study(fragment: &str) -> String {
    let study = include_str!("../../pipelines/smoke.yaml");
    let (sections, stages) = match fragment.split_once("stages:\n") {
        Some((sections, stages)) => (sections, stages),
        None => ("", fragment),
    };
    let mut study = study.replacen("\nstages:\n", &format!("\n{sections}\nstages:\n"), 1);
    let mut stage = String::new();
    let mut blocks: Vec<(String, String)> = Vec::new();
    for line in stages.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if line.starts_with("  ") && !line.starts_with("   ") {
            stage = line.trim_end().to_owned();
            blocks.push((stage.clone(), String::new()));
        } else if !stage.is_empty() {
            blocks.last_mut().unwrap().1.push_str(&format!("{line}\n"));
        }
    }
    for (stage, fields) in blocks {
        let head = format!("{stage}\n");
        match study.contains(&format!("\n{head}")) {
            // Fields of a stage that is there, without those that it has.
            true => {
                let new: String = fields
                    .lines()
                    .filter(|line| !line.contains("uses:"))
                    .map(|line| format!("{line}\n"))
                    .collect();
                study = study.replacen(&format!("\n{head}"), &format!("\n{head}{new}"), 1);
            }
            false => {
                study = study.replacen("\nstages:\n", &format!("\nstages:\n{head}{fields}\n"), 1)
            }
        }
    }
    study
}

#[test]
fn every_fragment_of_the_other_documents_can_be_laid_over_a_study() {
    for document in ["evaluation", "report"] {
        let path = format!("{}/docs/{document}.md", env!("CARGO_MANIFEST_DIR"));
        let fragments = blocks(&std::fs::read_to_string(&path).unwrap(), "yaml");
        assert!(!fragments.is_empty());
        for (line, fragment) in fragments {
            let study = laid_over_a_study(&fragment);
            let said = Place::new(&study).say(&["plan", "p.yaml"]);
            assert_eq!(said.code, 0, "{path}, line {line}\n{}\n{study}", said.err);
        }
    }
}

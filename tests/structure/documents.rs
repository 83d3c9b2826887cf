//! The documents against the program: the maps, the paths they name, exit codes, the commands of
//! the README.

use std::path::Path;

use posttrain::error::Kind;

use super::{modules, none, quoted, read, table};

const ARCHITECTURE: &str = "docs/architecture.md";

#[test]
fn both_maps_name_exactly_the_modules_of_the_library() {
    let mut declared = modules();
    declared.sort();
    let named = |text: &str| {
        let rows = table(text, "| module |");
        let mut names: Vec<String> = rows
            .iter()
            .flat_map(|row| quoted(row[0]))
            .map(|name| name.trim_matches(['[', ']']).to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(named(&read(ARCHITECTURE)), declared);
    // The map in the crate's documentation; its names are links: [`dag`].
    let library = read("src/lib.rs").replace("//! ", "").replace("[`", "`").replace("`]", "`");
    assert_eq!(named(&library), declared);
}

/// Paths of this project between backticks: `src/dag/key.rs`, `docs/`, `tests/ops/norm.rs`.
fn paths(text: &str) -> Vec<&str> {
    let roots = ["src/", "tests/", "docs/", "pipelines/", "kernels/", "cache/", ".ci/"];
    let is_path = |name: &&str| {
        roots.iter().any(|root| name.starts_with(root)) && !name.contains(['<', '*', '{', ' ', '$'])
    };
    quoted(text).into_iter().filter(is_path).collect()
}

#[test]
fn every_path_in_the_documents_for_contributors_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in [ARCHITECTURE, "CONTRIBUTING.md"] {
        let text = read(document);
        let paths = paths(&text);
        assert!(paths.len() > 20);
        let absent = paths.into_iter().filter(|path| !root.join(path).exists());
        none(absent.map(|path| format!("{document}: there is no {path}")).collect());
    }
}

#[test]
fn a_path_is_told_from_other_code() {
    assert_eq!(
        paths("`src/a.rs` and `src/<kind>.rs`, `cargo test`, `docs/`"),
        ["src/a.rs", "docs/"]
    );
}

#[test]
fn exit_codes_are_as_documented() {
    let text = read(ARCHITECTURE);
    let documented: Vec<(String, u8)> = table(&text, "| kind |")
        .iter()
        .map(|row| (quoted(row[0])[0].to_owned(), row[1].parse().unwrap()))
        .collect();
    let kinds = [Kind::Stage, Kind::User, Kind::Environment, Kind::Bug, Kind::Interrupted];
    let actual: Vec<(String, u8)> =
        kinds.iter().map(|kind| (format!("{kind:?}"), kind.exit_code())).collect();
    assert_eq!(documented, actual);
}

/// Every line of a block of commands between the markers that `.ci/run` reads as well.
fn commands(readme: &str) -> Vec<&str> {
    let block = readme
        .split_once("<!-- commands -->")
        .and_then(|(_, rest)| rest.split_once("<!-- end -->"));
    block
        .map(|(block, _)| block.lines().filter(|line| line.starts_with("cargo ")).collect())
        .unwrap_or_default()
}

#[test]
fn the_readme_has_its_two_commands() {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md").exists() {
        return;
    }
    let text = read("README.md");
    let commands = commands(&text);
    assert_eq!(commands.len(), 2, "the main job and the tests, between the markers: {commands:?}");
    assert_eq!(commands[0], "cargo run --release -- run pipelines/summarisation.yaml");
    assert!(commands[1].starts_with("cargo test"), "{}", commands[1]);
}

#[test]
fn the_example_of_the_readme_is_a_shipped_pipeline() {
    let text = read("README.md");
    let example = text
        .split_once("<!-- example -->\n```yaml\n")
        .and_then(|(_, rest)| rest.split_once("```\n<!-- end example -->"))
        .map(|(example, _)| example);
    let shipped = read("pipelines/first.yaml");
    let (modeline, shown) = shipped.split_once('\n').expect("the file has lines");
    assert!(modeline.starts_with("# yaml-language-server:"), "{modeline}");
    assert_eq!(example, Some(shown));
}

#[test]
fn commands_are_read_between_the_markers() {
    assert_eq!(
        commands(
            "cargo a\n<!-- commands -->\n```sh\ncargo b\ncargo c\n```\n<!-- end -->\ncargo d\n"
        ),
        ["cargo b", "cargo c"]
    );
    assert!(commands("cargo a").is_empty());
}

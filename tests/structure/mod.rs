//! The shape of the project, read off its own text: imports between modules, words that only some
//! places may use, and whether the documents agree. Every check is also tried on a text that breaks
//! it.

mod cargo;
mod circles;
mod documents;
mod files;
mod imports;
mod kernels;
mod numerics;
mod source;
mod words;

use std::path::Path;

use source::File;

/// The text of a file of the project.
fn read(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The Rust files below some folders of the project, sorted by path.
fn files(folders: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| collect(folder, &mut paths));
    paths.sort();
    assert!(paths.len() > 20, "the files of {folders:?} are not found");
    paths.iter().map(|path| File::new(path, read(path))).collect()
}

fn collect(folder: &str, paths: &mut Vec<String>) {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    for entry in std::fs::read_dir(&full).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let entry = entry.expect("a folder of the project can be listed");
        let path =
            format!("{folder}/{}", entry.file_name().to_str().expect("names here are UTF-8"));
        match full.join(entry.file_name()).is_dir() {
            true => collect(&path, paths),
            false if path.ends_with(".rs") => paths.push(path),
            false => {}
        }
    }
}

/// The top-level modules that `src/lib.rs` declares: the program's, and the crates below it, by the
/// names that it gives them.
fn modules() -> Vec<String> {
    let text = read("src/lib.rs");
    let mut modules = Vec::new();
    for line in text.lines() {
        let declared = |start: &str| line.strip_prefix(start)?.strip_suffix(';');
        if let Some(module) = declared("pub mod ") {
            modules.push(module.to_owned());
        } else if let Some(list) = declared("pub use posttrain_base::{") {
            modules.extend(list.trim_end_matches('}').split(", ").map(str::to_owned));
        } else if let Some((_, name)) =
            declared("pub use ").and_then(|used| used.split_once(" as "))
        {
            modules.push(name.to_owned());
        }
    }
    assert!(modules.len() > 10);
    modules
}

/// The folders of the crates below the program.
fn crates() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let entries = std::fs::read_dir(root).expect("a folder of the project can be listed");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a folder of the project can be listed").path())
        .filter(|path| path.join("Cargo.toml").exists())
        .map(|path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 5);
    names
}

/// The first table of a Markdown text whose heading line begins with `heading`: the cells of each
/// row, trimmed.
fn table<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let rows: Vec<_> = text
        .lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(!rows.is_empty(), "there is no table `{heading}`");
    rows.into_iter()
        .map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Panics with all findings, one a line.
#[track_caller]
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

//! `Cargo.toml`: every dependency is defended in a comment and used.

use super::source::word;
use super::{files, none, read};

/// A dependency as it is declared.
struct Dependency {
    name: String,
    defended: bool,
    /// For tests alone.
    development: bool,
}

/// The dependencies of a manifest. One line of comment may defend several that follow one another.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let (mut section, mut defended) = ("", false);
    let mut found = Vec::new();
    for line in manifest.lines() {
        match line.split_once(" = ") {
            _ if line.starts_with('[') => (section, defended) = (line, false),
            _ if line.starts_with('#') => defended = line.len() > 10,
            Some((name, _)) if section.ends_with("dependencies]") => {
                let development = section == "[dev-dependencies]";
                found.push(Dependency { name: name.to_owned(), defended, development });
            }
            _ => defended = false,
        }
    }
    found
}

#[test]
fn every_dependency_is_defended_and_used() {
    let dependencies = dependencies(&read("Cargo.toml"));
    assert!(dependencies.len() > 10);
    let (program, all) = (files(&["src"]), files(&["src", "tests"]));
    let mut findings = Vec::new();
    for Dependency { name, defended, development } in &dependencies {
        findings.extend(
            (!defended).then(|| format!("Cargo.toml: no comment above `{name}` gives its purpose")),
        );
        let files = if *development { &all } else { &program };
        let forms = ["::", "!"].map(|end| name.replace('-', "_") + end);
        let used = files
            .iter()
            .any(|file| forms.iter().any(|form| word(&file.code, form).next().is_some()));
        findings.extend((!used).then(|| format!("Cargo.toml: `{name}` is not used")));
    }
    none(findings);
}

#[test]
fn a_dependency_without_a_defence_is_seen() {
    let manifest = "[dependencies]\n# Errors, in one type.\na = \"1\"\nb-c = \
        { version = \"1\" }\n\nd = \"1\"\n[dev-dependencies]\ne = \"1\"\n[lints]\nf = 1\n";
    let found: Vec<_> = dependencies(manifest)
        .into_iter()
        .map(|found| (found.name, found.defended, found.development))
        .collect();
    let expected =
        [("a", true, false), ("b-c", true, false), ("d", false, false), ("e", false, true)];
    assert_eq!(
        found,
        expected.map(|(name, defended, development)| (name.to_owned(), defended, development))
    );
}

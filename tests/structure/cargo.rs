//! The manifests: every dependency is defended in a comment of the workspace's manifest, and used
//! by each crate that has it; lints are those of the workspace.

use super::source::{File, word};
use super::{crates, files, none, read};

/// A dependency as a manifest has it.
struct Dependency {
    name: String,
    /// Below a comment, or taken from the workspace, where it is below one.
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
                let (name, defended) = match name.strip_suffix(".workspace") {
                    Some(name) => (name, true),
                    None => (name, defended),
                };
                found.push(Dependency { name: name.to_owned(), defended, development });
            }
            _ => defended = false,
        }
    }
    found
}

/// The dependencies that some files do not use.
fn unused<'a>(dependencies: impl Iterator<Item = &'a Dependency>, files: &[File]) -> Vec<&'a str> {
    let used = |name: &str| {
        let forms = ["::", "!", ";", " as "].map(|end| name.replace('-', "_") + end);
        let mut words = files.iter().flat_map(|file| forms.iter().map(move |form| (file, form)));
        words.any(|(file, form)| word(&file.text, form).next().is_some())
    };
    dependencies.map(|found| found.name.as_str()).filter(|name| !used(name)).collect()
}

/// The manifest of a crate, and its files: those of `src` that are in no crate below, for the
/// program.
fn manifests() -> Vec<(String, Vec<File>)> {
    let below = crates();
    let folders: Vec<String> = below.iter().map(|name| format!("src/{name}/")).collect();
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    let program = files(&["src"]).into_iter().filter(|file| !file.is_in(&folders)).collect();
    let mut all = vec![("Cargo.toml".to_owned(), program)];
    for folder in folders {
        let own = files(&["src"]).into_iter().filter(|file| file.is_in(&[folder])).collect();
        all.push((format!("{folder}Cargo.toml"), own));
    }
    all
}

#[test]
fn every_dependency_is_defended_and_used() {
    let (mut findings, tests) = (Vec::new(), files(&["tests"]));
    for (manifest, own) in manifests() {
        let text = read(&manifest);
        let (workspace, package) = match text.split_once("[package]\n") {
            Some((workspace, package)) => (workspace, package),
            None => panic!("{manifest} has no package"),
        };
        for Dependency { name, defended, .. } in
            dependencies(workspace).iter().chain(&dependencies(package))
        {
            let line = || format!("{manifest}: no comment above `{name}` gives its purpose");
            findings.extend((!defended).then(line));
        }
        let found = dependencies(package);
        let program = found.iter().filter(|found| !found.development);
        let mut idle = unused(program, &own);
        let tested = found.iter().filter(|found| found.development);
        let all: Vec<File> = match manifest == "Cargo.toml" {
            true => tests.iter().map(|file| File::new(&file.path, file.text.clone())).collect(),
            false => Vec::new(),
        };
        let all: Vec<File> = own.into_iter().chain(all).collect();
        idle.extend(unused(tested, &all));
        findings.extend(idle.into_iter().map(|name| format!("{manifest}: `{name}` is not used")));
        if !package.contains("[lints]\nworkspace = true\n") {
            findings.push(format!("{manifest}: the lints are not the workspace's"));
        }
    }
    none(findings);
}

#[test]
fn every_dependency_of_the_workspace_is_some_crates() {
    let text = read("Cargo.toml");
    let (workspace, _) = text.split_once("[package]\n").expect("a package");
    let declared = dependencies(workspace);
    assert!(declared.len() > 10);
    let used: Vec<String> = manifests()
        .iter()
        .flat_map(|(path, _)| dependencies(&read(path)))
        .map(|d| d.name)
        .collect();
    let once = |name: &str| used.iter().filter(|used| *used == name).count() < 2;
    // The root's manifest has the declaration as well.
    none(declared.into_iter().map(|found| found.name).filter(|name| once(name)).collect());
}

#[test]
fn a_dependency_without_a_defence_is_seen() {
    let manifest = "[dependencies]\n# Errors, in one type.\na = \"1\"\nb-c = \
        { version = \"1\" }\n\nd = \"1\"\n[dev-dependencies]\ne = \"1\"\n\
        w.workspace = true\n[lints]\nf = 1\n";
    let found: Vec<_> = dependencies(manifest)
        .into_iter()
        .map(|found| (found.name, found.defended, found.development))
        .collect();
    let expected = [
        ("a", true, false),
        ("b-c", true, false),
        ("d", false, false),
        ("e", false, true),
        ("w", true, true),
    ];
    assert_eq!(
        found,
        expected.map(|(name, defended, development)| (name.to_owned(), defended, development))
    );
}

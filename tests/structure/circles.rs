//! Circles of imports inside a folder: none. The entries of a folder are its files and its folders,
//! each with all that is in it; `mod.rs` and `lib.rs`, which declare them, are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::imports_inside;
use super::source::File;
use super::{files, none};

/// For each folder, the entries that each of its entries imports.
type Edges = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The folder and the name of the entry at each level above a module: `["dag", "key"]` is the entry
/// `dag` of the root and `key` of `dag`.
fn edges(files: &[File]) -> Edges {
    let modules: BTreeSet<Vec<String>> = files.iter().map(|file| owned(&file.module())).collect();
    let mut edges = Edges::new();
    for file in files {
        let from = owned(&file.module());
        for (_, path) in imports_inside(file) {
            let to = (0..=path.len()).rev().map(|length| &path[..length]);
            let Some(to) = to.into_iter().find(|path| modules.contains(*path)) else { continue };
            let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            // Equal, or one is the folder of the other.
            let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) else { continue };
            if shared > 0 {
                let folder = edges.entry(from[..shared].join("/")).or_default();
                folder.entry(a.clone()).or_default().insert(b.clone());
            }
        }
    }
    edges
}

fn owned(module: &[&str]) -> Vec<String> {
    module.iter().map(|part| part.to_string()).collect()
}

/// One line for each set of entries that import each other, directly or through others.
fn circles(edges: &Edges) -> Vec<String> {
    let mut findings = Vec::new();
    for (folder, imports) in edges {
        let reached: BTreeMap<&String, BTreeSet<&String>> =
            imports.keys().map(|entry| (entry, reached_from(entry, imports))).collect();
        let together = |a: &String, b: &String| {
            reached.get(a).is_some_and(|set| set.contains(b))
                && reached.get(b).is_some_and(|set| set.contains(a))
        };
        let mut seen = BTreeSet::new();
        for entry in imports.keys() {
            let circle: Vec<&String> =
                imports.keys().filter(|other| together(entry, other)).collect();
            if circle.len() > 1 && seen.insert(circle.clone()) {
                let names: Vec<&str> = circle.iter().map(|name| name.as_str()).collect();
                findings.push(format!("src/{folder}: {} import each other", names.join(", ")));
            }
        }
    }
    findings
}

/// The entries that an entry imports, directly or through others.
fn reached_from<'a>(
    entry: &'a String,
    imports: &'a BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![entry];
    while let Some(entry) = next.pop() {
        for to in imports.get(entry).into_iter().flatten() {
            if reached.insert(to) {
                next.push(to);
            }
        }
    }
    reached
}

#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    none(circles(&edges(&files(&["src"]))));
}

#[test]
fn a_circle_is_found() {
    let found = |files: &[(&str, &str)]| {
        let files: Vec<File> =
            files.iter().map(|(path, text)| File::new(path, text.to_string())).collect();
        circles(&edges(&files))
    };
    let a = ("src/dag/a.rs", "use super::b::B;");
    assert_eq!(found(&[a, ("src/dag/b.rs", "use std::fs;")]), [""; 0]);
    assert_eq!(
        found(&[a, ("src/dag/b.rs", "fn f() { crate::a::g() }")]),
        ["src/dag: a, b import each other"]
    );
    assert_eq!(
        found(&[
            a,
            ("src/dag/b.rs", "use super::c;"),
            ("src/dag/c/mod.rs", "mod d;"),
            ("src/dag/c/d.rs", "use super::super::a::A;"),
        ]),
        ["src/dag: a, b, c import each other"]
    );
    assert_eq!(
        found(&[
            ("src/stages/mod.rs", "mod a; use a::A;"),
            ("src/stages/a.rs", "use super::B;\nuse crate::stages::mod_item;"),
        ]),
        [""; 0]
    );
}

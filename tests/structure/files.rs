//! Every file: its first line, its length, the length of its functions, and leftovers (notes, tests
//! that do not run) that none may have.

use std::path::Path;

use super::source::{File, block_end, strip, word};
use super::{files, none, read};

/// Lines of a file at most; 550 by habit.
const FILE: usize = 840;
/// Lines of a function at most, for loops that go straight on; 70 by habit.
const FUNCTION: usize = 182;

/// Columns of a line at most.
const COLUMNS: usize = 100;

/// Notes to oneself, and tests that do not run.
const LEFTOVERS: &[&str] = &["TODO", "FIXME", "XXX", "HACK", "#[ignore"];

fn findings(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    if !file.text.starts_with("//! ") {
        findings.push(format!("{}: the first line must describe the file (`//! …`)", file.path));
    }
    let lines = file.text.lines().count();
    if lines > FILE {
        findings.push(format!("{}: {lines} lines, more than {FILE}", file.path));
    }
    findings.extend(wide(file));
    for leftover in LEFTOVERS {
        findings.extend(
            file.text
                .match_indices(leftover)
                .map(|(at, _)| format!("{}: {leftover}", file.place(at))),
        );
    }
    for at in word(&file.code, "fn") {
        let body = file.code[at..]
            .find(['{', ';'])
            .map(|open| at + open)
            .filter(|open| file.code.as_bytes()[*open] == b'{');
        let end = body.map_or(at, |open| block_end(file.code.as_bytes(), open));
        let lines = 1 + file.code[at..end].matches('\n').count();
        if lines > FUNCTION {
            findings.push(format!(
                "{}: a function of {lines} lines, more than {FUNCTION}",
                file.place(at)
            ));
        }
    }
    findings
}

/// Lines that are too wide, except rows of tables in comments, lines whose last columns within the
/// width are of a literal, which cannot always be broken, and lines of macros of C: a further line
/// has a further backslash, which is a word of the digest of the kernels and so of keys.
fn wide(file: &File) -> Vec<String> {
    let (_, code) = strip(&file.text);
    let text = file.text.as_bytes();
    let (mut findings, mut start) = (Vec::new(), 0);
    for line in file.text.split_inclusive('\n') {
        let words = line.trim();
        let is_comment = words.starts_with("//");
        let column = |n: usize| line.char_indices().nth(n).map(|(at, _)| start + at);
        let mut last = column(COLUMNS - 20).unwrap_or(start)..start + line.len();
        let in_literal = !is_comment && last.any(|at| text[at] != b' ' && code[at] == b' ');
        let in_macro = words.ends_with('\\') || words.starts_with("#define ");
        let is_row = words.trim_start_matches(['/', '!']).starts_with(" |");
        let is_wide = line.trim_end().chars().count() > COLUMNS;
        let is_table = is_comment && is_row;
        if is_wide && !in_literal && !in_macro && !is_table {
            findings.push(format!("{}: wider than {COLUMNS} columns", file.place(start)));
        }
        start += line.len();
    }
    findings
}

#[test]
fn every_file_says_what_it_is_and_keeps_within_its_length() {
    let mut all = files(&["src", "tests"]);
    // This file names the leftovers.
    all.retain(|file| file.path != "tests/structure/files.rs");
    none(all.iter().flat_map(findings).collect());
}

#[test]
fn kernels_and_their_emulator_keep_within_the_width() {
    let mut findings = Vec::new();
    for folder in ["kernels", "kernels/emulator"] {
        let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in std::fs::read_dir(full).expect("a folder of the project can be listed") {
            let path = entry.expect("a folder of the project can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
            if path.is_file() && !name.ends_with(".md") {
                let path = format!("{folder}/{name}");
                findings.extend(wide(&File::new(&path, read(&path))));
            }
        }
    }
    none(findings);
}

#[test]
fn what_no_file_may_be_is_found() {
    let found = |text: String| findings(&File::new("src/a.rs", text)).len();
    assert_eq!(found("//! A file.\nfn f() {}\n".into()), 0);
    assert_eq!(found("fn f() {}\n".into()), 1);
    assert_eq!(found(format!("//! A file.\n{}", "\n".repeat(FILE))), 1);
    assert_eq!(found(format!("//! A file.\nfn f() {{{}}}", "\n".repeat(FUNCTION))), 1);
    let wide = "x".repeat(COLUMNS);
    assert_eq!(found(format!("//! A file.\nfn f() {{ {wide} }}\n")), 1);
    assert_eq!(found(format!("//! A file.\n// {wide}\n")), 1);
    assert_eq!(found(format!("//! A file.\n//! | {wide} |\nconst A: &str = \"{wide}\";\n")), 0);
    assert_eq!(found(format!("//! A file.\n#define A {wide}\n#define B \\\n{wide} \\\n 0\n")), 0);
    assert_eq!(found("//! A file.\n// TODO\n#[ignore = \"slow\"]\n".into()), 2);
}

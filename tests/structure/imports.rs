//! Imports between modules. The first table of `docs/architecture.md` is the only list of those
//! that are allowed.

use std::collections::BTreeMap;

use super::source::File;
use super::{crates, files, modules, none, quoted, read, table};

/// The modules that all others may import; a module whose row names some of these may import only
/// those.
const UTILITIES: &[&str] = &["error", "check", "fs", "limits", "random"];
/// The cell of a module that may import all of them.
const ALL_UTILITIES: &str = "utilities";

/// For each module, what it may import: modules, or paths of a module.
type Rules = BTreeMap<String, Vec<String>>;

fn rules() -> Rules {
    let text = read("docs/architecture.md");
    let row = |row: Vec<&str>| {
        let mut may: Vec<String> = quoted(row[3]).into_iter().map(str::to_owned).collect();
        if row[3].contains(ALL_UTILITIES) {
            may.extend(UTILITIES.iter().map(|name| name.to_string()));
        }
        (quoted(row[0])[0].to_owned(), may)
    };
    table(&text, "| module |").into_iter().map(row).collect()
}

/// The paths that a file imports from the crate, each with its place: `["dag", "context",
/// "Context"]`.
fn imports(file: &File) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for start in super::source::word(&file.code, "crate") {
        if file.code[..start].ends_with('$') || !file.code[start..].starts_with("crate::") {
            continue;
        }
        paths(&file.code, start + "crate::".len(), &[], &mut found);
    }
    let depth = file.module().len();
    for start in super::source::word(&file.code, "super") {
        // Only what climbs up to the root of the crate leaves the module; from an inner `super` the
        // climb was counted already.
        let climb = &file.code[start..];
        let steps = climb.split("::").take_while(|step| *step == "super").count();
        if steps >= depth
            && !file.code[..start].ends_with("super::")
            && climb["super::".len() * steps - 2..].starts_with("::")
        {
            paths(&file.code, start + "super::".len() * steps, &[], &mut found);
        }
    }
    found
}

/// The paths that a file imports from its own top-level module, from the root of the program:
/// `["dag", "key", "ActionKey"]`. In a crate below the program, `crate` is that module.
pub fn imports_inside(file: &File) -> Vec<(usize, Vec<String>)> {
    let module: Vec<String> = file.module().iter().map(|part| part.to_string()).collect();
    let Some(top) = module.first() else { return Vec::new() };
    let is_crate = crates().contains(top);
    let mut found = Vec::new();
    for start in super::source::word(&file.code, "crate") {
        if !file.code[..start].ends_with('$') && file.code[start..].starts_with("crate::") {
            let root = if is_crate { &module[..1] } else { &[] };
            paths(&file.code, start + "crate::".len(), root, &mut found);
        }
    }
    for start in super::source::word(&file.code, "super") {
        let climb = &file.code[start..];
        let steps = climb.split("::").take_while(|step| *step == "super").count();
        let is_path = steps > 0 && climb["super::".len() * steps - 2..].starts_with("::");
        if steps <= module.len() && is_path && !file.code[..start].ends_with("super::") {
            let root = &module[..module.len() - steps];
            paths(&file.code, start + "super::".len() * steps, root, &mut found);
        }
    }
    found
}

/// The paths of the use tree (or plain path) that begins at `at`, and where it ends.
fn paths(code: &str, at: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let bytes = code.as_bytes();
    let skip = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    let at = skip(at);
    if bytes.get(at) == Some(&b'{') {
        let mut next = skip(at + 1);
        while bytes.get(next).is_some_and(|byte| *byte != b'}') {
            let end = skip(paths(code, next, prefix, found));
            next = skip(if bytes.get(end) == Some(&b',') { end + 1 } else { end });
            assert!(next > at + 1, "a use tree goes on");
        }
        return next + 1;
    }
    let end = at
        + code[at..]
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'*'))
            .count();
    let mut path = prefix.to_vec();
    path.push(code[at..end].to_owned());
    if code[end..].starts_with("::") && !code[end..].starts_with("::<") {
        return paths(code, end + 2, &path, found);
    }
    found.push((at, path));
    // `name as other`
    let renamed = skip(end);
    match code[renamed..].strip_prefix("as ") {
        Some(rest) => {
            renamed
                + 3
                + rest
                    .bytes()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                    .count()
        }
        None => end,
    }
}

/// What is imported against the rules, and what is allowed but never imported.
fn violations(files: &[File], modules: &[String], rules: &Rules) -> Vec<String> {
    let mut findings = Vec::new();
    let mut idle = rules.clone();
    for file in files {
        let module = file.module();
        let Some(&from) = module.first() else { continue };
        for (at, path) in imports(file) {
            let to = &path[0];
            if to == from || !modules.contains(to) {
                continue;
            }
            let path = path.join("::");
            let allows = |may: &String| path == *may || path.starts_with(&format!("{may}::"));
            if !rules.get(from).is_some_and(|may| may.iter().any(allows)) {
                findings.push(format!("{}: `{from}` must not import `{path}`", file.place(at)));
            }
            idle.entry(from.to_owned()).and_modify(|may| may.retain(|may| !allows(may)));
        }
    }
    for (module, may) in idle {
        let never = may.into_iter().filter(|may| !UTILITIES.contains(&may.as_str()));
        findings.extend(never.map(|may| {
            format!("docs/architecture.md: `{module}` may import `{may}`, but never does")
        }));
    }
    findings
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let files: Vec<File> = files(&["src"])
        .into_iter()
        .filter(|file| !file.is_in(&["src/lib.rs", "src/main.rs", "src/base/lib.rs"]))
        .collect();
    none(violations(&files, &modules(), &rules()));
}

#[test]
fn every_form_of_import_is_seen() {
    let file = |text: &str| File::new("src/dag/key.rs", text.into());
    let seen = |text: &str| {
        imports(&file(text)).into_iter().map(|(_, path)| path.join("::")).collect::<Vec<_>>()
    };
    assert_eq!(seen("use crate::fs;\n"), ["fs"]);
    assert_eq!(
        seen("use crate::{fs, data::{rows::Example as Row, world}, rl::*};"),
        ["fs", "data::rows::Example", "data::world", "rl::*"]
    );
    assert_eq!(
        seen("fn f() -> crate::error::Result<()> { crate::fs::read::<u8>(p) }"),
        ["error::Result", "fs::read"]
    );
    assert_eq!(
        seen("use super::super::model::spec; use super::node; use super::super::{eval};"),
        ["model::spec", "eval"]
    );
    assert_eq!(
        seen("// use crate::model;\n#[cfg(test)]\nmod tests { use crate::model; }"),
        [""; 0]
    );
}

#[test]
fn an_import_against_the_table_is_found() {
    let modules = ["dag", "fs", "model"].map(str::to_owned);
    let rules: Rules =
        [("dag".into(), vec!["fs".into()]), ("model".into(), vec!["dag::context".into()])].into();
    let found = |path: &str, text: &str| {
        violations(&[File::new(path, text.into())], &modules, &rules).len()
    };
    // One rule at least is idle in a program of one file.
    assert_eq!(found("src/dag/key.rs", "use crate::fs::read;"), 1);
    assert_eq!(found("src/dag/key.rs", "use crate::{fs, model};"), 2);
    assert_eq!(found("src/model/spec.rs", "use crate::dag::context::Context;"), 0);
    assert_eq!(found("src/model/spec.rs", "use crate::dag::contextual;"), 2);
}

/// The file of a stage kind imports no other stage kind's; code that several share is in separate
/// files.
#[test]
fn stage_kinds_do_not_know_each_other() {
    let files = files(&["src"]);
    let kinds: Vec<&File> = files
        .iter()
        .filter(|file| file.is_in(&["src/stages/"]) && file.code.contains("impl Stage for"))
        .collect();
    assert!(kinds.len() > 5);
    let names: Vec<&str> = kinds.iter().map(|file| file.module()[1]).collect();
    let mut findings = Vec::new();
    for file in &kinds {
        for name in names.iter().filter(|name| **name != file.module()[1]) {
            let forms = [
                format!("super::{name}::"),
                format!("stages::{name}"),
                format!("super::{{{name}::"),
            ];
            findings.extend(
                forms
                    .iter()
                    .filter(|form| file.code.contains(*form))
                    .map(|form| format!("{}: {form}", file.path)),
            );
        }
    }
    none(findings);
}

//! The CUDA sources: their includes, the places of assembly, and that each file has a launcher and
//! is in the program.

use std::path::Path;

use super::{none, read};

/// The files of kernels/, by name, without what is in folders.
fn kernels() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let entries = std::fs::read_dir(folder)
        .expect("the folder can be listed")
        .map(|entry| entry.expect("the folder can be listed"));
    let names = entries.map(|entry| entry.file_name().into_string().expect("names here are UTF-8"));
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".cu") || name.ends_with(".cuh")).collect();
    names.sort();
    assert!(names.len() > 10);
    names
}

/// What is wrong with a file of kernels.
fn findings(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let place = |at: usize| format!("kernels/{name}:{}", 1 + text[..at].matches('\n').count());
    if !text.starts_with("// ") {
        findings.push(format!(
            "kernels/{name}: the first lines must give what the file computes, its shapes, and \
             what each thread owns (`// ...`)"
        ));
    }
    for (at, line) in text
        .match_indices("#include")
        .map(|(at, _)| (at, text[at..].lines().next().unwrap_or_default()))
    {
        let ours =
            line.ends_with(".cuh\"") || (name == "prelude.cuh" && line == "#include \"device.h\"");
        findings.extend((!ours).then(|| {
            format!("{}: `{line}`: kernels include headers of kernels/ alone", place(at))
        }));
    }
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
        .collect();
    for word in ["asm", "__expf", "__logf", "__fdividef", "rsqrtf"] {
        let allowed = name == "prelude.cuh" && word == "asm";
        let found = super::source::word(&code, word).map(|at| 1 + code[..at].matches('\n').count());
        findings.extend(
            found
                .filter(|_| !allowed)
                .map(|line| format!("kernels/{name}:{line}: `{word}` has no place in a kernel")),
        );
    }
    let declared = code.matches("KERNEL(").count() + code.matches("KERNEL_BLOCKS(").count();
    if name.ends_with(".cu") && declared == 0 && !code.contains("FOR_CHANNELS(") {
        findings.push(format!("kernels/{name}: there is no kernel"));
    }
    findings
}

#[test]
fn kernels_say_what_they_are_and_keep_to_the_prelude() {
    none(
        kernels()
            .iter()
            .flat_map(|name| findings(name, &read(&format!("kernels/{name}"))))
            .collect(),
    );
}

#[test]
fn every_file_of_kernels_is_in_the_program_and_has_a_launcher() {
    let listed = read("src/backend/cuda/kernels.rs");
    let mut findings = Vec::new();
    for name in kernels() {
        findings.extend(
            (!listed.contains(&format!("\"{name}\"")))
                .then(|| format!("src/backend/cuda/kernels.rs does not list {name}")),
        );
        if let Some(stem) = name.strip_suffix(".cu") {
            let launcher = format!("src/backend/cuda/{stem}.rs");
            let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(&launcher).exists();
            findings.extend((!there).then(|| format!("kernels/{name} has no {launcher}")));
        }
    }
    none(findings);
}

#[test]
fn what_no_kernel_may_hold_is_found() {
    assert!(
        findings("a.cu", "// A.\n#include \"prelude.cuh\"\nKERNEL(32, a)(num* x) {}\n").is_empty()
    );
    assert_eq!(findings("a.cu", "KERNEL(32, a)() { asm(\"x\"); }\n").len(), 2);
    assert_eq!(
        findings("a.cu", "// A.\n#include <cuda.h>\nKERNEL(32, a)() { __expf(x); } // asm\n").len(),
        2
    );
    assert_eq!(findings("a.cu", "// A.\n").len(), 1);
}

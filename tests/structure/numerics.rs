//! The version of the CPU's kernels: a change of their code must come with a decision on whether a
//! bit may differ.

use super::source::File;
use super::{files, read};

/// The version that the files declare, and a digest of their code, without comments, tests and
/// layout.
fn line(files: &[File]) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut version = None;
    for file in files {
        let words: Vec<&str> = file.literal.split_whitespace().collect();
        // `pub const KERNELS: u32 = 1;`
        let declared =
            words.windows(6).find(|words| words[..5] == ["pub", "const", "KERNELS:", "u32", "="]);
        version = declared.map(|words| words[5].trim_end_matches(';').to_owned()).or(version);
        hasher.update(file.path.as_bytes());
        hasher.update(words.concat().as_bytes());
    }
    format!(
        "{} {}",
        version.expect("src/backend/cpu/mod.rs declares it"),
        &hasher.finalize().to_hex()[..16]
    )
}

#[test]
fn who_changes_a_kernel_of_the_cpu_says_whether_a_bit_may_differ() {
    assert_eq!(
        read("tests/structure/numerics.txt").trim(),
        line(&files(&["src/backend/cpu"])),
        "src/backend/cpu has changed. If what it computes may differ in a bit, raise KERNELS in \
         src/backend/cpu/mod.rs: the keys of all that was made on a CPU then change. If not, leave \
         it. Then write the line on the right into tests/structure/numerics.txt"
    );
}

#[test]
fn a_changed_kernel_is_found() {
    let of = |text: &str| {
        line(&[File::new(
            "src/backend/cpu/mod.rs",
            format!("//! A.\npub const KERNELS: u32 = 3;\n{text}"),
        )])
    };
    let base = of("fn f(x: f32) -> f32 { x + 1.0 }\n");
    assert!(base.starts_with("3 "));
    assert_eq!(
        base,
        of("// Adds.\nfn f(x: f32) -> f32 {\n    x + 1.0\n}\n#[cfg(test)]\nmod tests {}\n")
    );
    assert_ne!(base, of("fn f(x: f32) -> f32 { 1.0 - x }\n"));
}

//! What tests read off a device, written down, so that two devices can be compared: the emulated
//! one and a real one.
//!
//! With `POSTTRAIN_TESTS_RECORD=FOLDER` every test has a file there with a line an output: what it
//! is, its type, its length, a digest of all its numbers, and up to 256 of them, evenly spread, as
//! hexadecimal `f32`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

/// Numbers of an output that are kept.
const KEPT: usize = 256;

static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let folder = PathBuf::from(std::env::var_os("POSTTRAIN_TESTS_RECORD")?);
    std::fs::create_dir_all(&folder).unwrap();
    Some(folder)
});

/// Outputs so far, by test.
static COUNTS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// A line of the record of an output.
fn line(index: usize, what: &str, kind: &str, numbers: &[f64]) -> String {
    let singles: Vec<f32> = numbers.iter().map(|x| *x as f32).collect();
    let mut hasher = blake3::Hasher::new();
    singles.iter().for_each(|x| _ = hasher.update(&x.to_bits().to_le_bytes()));
    let digest = &hasher.finalize().to_hex()[..16];
    let step = singles.len().div_ceil(KEPT).max(1);
    let kept: String =
        singles.iter().step_by(step).map(|x| format!("{:08x}", x.to_bits())).collect();
    format!(
        "{index}\t{}\t{kind}\t{}\t{digest}\t{kept}\n",
        what.replace(['\t', '\n'], " "),
        singles.len()
    )
}

/// Writes down what was read, where that is asked for.
pub fn record(what: &str, kind: &str, numbers: &[f64]) {
    let Some(folder) = FOLDER.as_ref() else { return };
    let thread = std::thread::current();
    let test = thread
        .name()
        .filter(|name| *name != "main")
        .expect("a test has a thread of the test's name: run with --test-threads=2");
    let mut counts = COUNTS.lock().unwrap();
    let index = counts.entry(test.to_owned()).or_default();
    let path = folder.join(format!("{}.tsv", test.replace("::", ".")));
    let mut file = OpenOptions::new()
        .create(true)
        .append(*index > 0)
        .truncate(*index == 0)
        .write(true)
        .open(path)
        .unwrap();
    file.write_all(line(*index, what, kind, numbers).as_bytes()).unwrap();
    *index += 1;
}

#[test]
fn a_record_tells_every_number_by_its_digest_and_shows_some() {
    let numbers: Vec<f64> = (0..1000).map(f64::from).collect();
    let other: Vec<f64> = numbers.iter().map(|x| if *x == 999.0 { 0.0 } else { *x }).collect();
    let fields = |numbers: &[f64]| {
        line(3, "a\tb", "f32", numbers)
            .trim()
            .split('\t')
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let (one, two) = (fields(&numbers), fields(&other));
    assert_eq!((&one[..4], one.len()), (&["3", "a b", "f32", "1000"].map(str::to_owned)[..], 6));
    assert_ne!(one[4], two[4]);
    assert_eq!(one[5], two[5]);
    assert_eq!((one[5].len() / 8, &one[5][8..16]), (250, "40800000"));
}

//! Texts that no one would write: never a panic, and every error names a place.

use posttrain::random::Stream;

use super::toys::try_with;

const RIGHT: &str = "\
name: sweep
params: {rate: 1e-4, seed: 0, set: {beta: 0.5, schedule: cosine}}
profiles: {quick: {rate: 1}}
matrix:
  rate: [1e-4, 0.5]
  exclude: [{rate: 0.5}]
stages:
  posts: {uses: corpus, source: {synthetic: {seed: \"${seed}\"}}, columns: {a: 'b'}}
  sft:
    uses: train # here
    data: posts
    learning_rate: ${rate}
    layers: [1, -2]
    optimiser: ${set}
    note: |
      some $${text}
    resources: {threads: 2}
  all: {uses: compare, policies: [sft, {all: sft}]}
";

/// What is put into the text.
const NOISE: [&str; 32] = [
    "\t", "\n", " ", "  ", ":", ": ", "- ", "{", "}", "[", "]", "'", "\"", "#", " #", "&a ", "*a",
    "!!str ", "|", ">", "?", "---\n", "...\n", "${", "${seed}", "é", "\u{0}", "\u{feff}", "<<: ",
    ",", "%YAML", "\r",
];

#[test]
fn noise_in_a_pipeline_never_panics_and_every_mistake_has_a_place() {
    try_with(RIGHT, &[], &[]).unwrap();
    let stream = Stream::new(0, "noise");
    let (mut right, mut wrong) = (0, 0);
    for row in 0..3000 {
        let mut draws = stream.sequence(row);
        let mut text: Vec<char> = RIGHT.chars().collect();
        for _ in 0..1 + draws.below(3) {
            let at = draws.below(text.len());
            match draws.below(3) {
                0 => drop(text.remove(at)),
                1 => drop(text.splice(at..at, draws.choose(&NOISE).chars()).count()),
                _ => drop(text.drain(at..(at + draws.below(30)).min(text.len())).count()),
            }
        }
        let text: String = text.into_iter().collect();
        match try_with(&text, &["quick"], &["seed=1"]) {
            Ok(_) => right += 1,
            Err(failure) => {
                wrong += 1;
                assert!(
                    failure.message.contains("p.yaml:")
                        || failure.message.contains("--profile quick: "),
                    "{}\n{text}",
                    failure.message
                );
            }
        }
    }
    assert!(
        right > 50 && wrong > 1000,
        "{right} right, {wrong} wrong: the noise is neither too loud nor too low"
    );
}

#[test]
fn noise_in_an_option_never_panics() {
    let stream = Stream::new(0, "options");
    for row in 0..1000 {
        let mut draws = stream.sequence(row);
        let key = *draws.choose(&[
            "rate",
            "set.beta",
            "matrix.seed",
            "matrix.rate",
            "stages.sft.steps",
            "stages.sft.optimiser.beta",
            "set",
            "",
        ]);
        let value: String = (0..draws.below(5)).map(|_| *draws.choose(&NOISE)).collect();
        if let Err(failure) = try_with(RIGHT, &[], &[&format!("{key}={value}")]) {
            assert!(
                failure.message.contains(&format!("--set {key}="))
                    || failure.message.contains("p.yaml:"),
                "{}",
                failure.message
            );
        }
    }
}

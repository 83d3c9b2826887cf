//! The tokenizer of the default pipeline: the same bytes in every process, and no value is split.

use posttrain::data::rows::Example;
use posttrain::tokenizer::tokens::Tokenizer;
use posttrain::world::Options;
use posttrain::world::instructions::Instructions;
use posttrain::world::instructions::prompt::PLACES;
use posttrain::world::instructions::task::LABELS;
use posttrain::world::posts::words::{FORUMS, HELD_OUT, SLOTS};
use posttrain::world::posts::{World, splits};

/// The texts a tokenizer is trained on.
fn texts(rows: &[Example]) -> Vec<&str> {
    rows.iter().flat_map(|row| [row.prompt.as_str(), row.completion.as_str()]).collect()
}

fn default_tokenizer(seed: u64) -> (Vec<Example>, Tokenizer) {
    let options = Options {
        seed,
        sft: 1,
        compare: 1,
        prompts: 1,
        validation: 1,
        test: 1,
        ..Options::default()
    };
    let rows: Vec<Example> =
        splits(&options).into_iter().take(2).flat_map(|(_, rows)| rows).collect();
    let tokenizer = Tokenizer::train(&texts(&rows), 1_200).unwrap();
    (rows, tokenizer)
}

#[test]
fn a_vocabulary_of_1200_splits_no_value() {
    for seed in 0..3 {
        let (rows, tokenizer) = default_tokenizer(seed);
        let mut split = Vec::new();
        for value in FORUMS
            .iter()
            .chain([&HELD_OUT])
            .flat_map(|forum| SLOTS.map(|slot| forum.values(slot)).concat())
        {
            for word in value.split(' ') {
                if tokenizer.encode(&format!(" {word}")).unwrap().len() != 1 {
                    split.push(word);
                }
            }
        }
        let posts = World::new(seed).sft(300);
        let tokens: usize =
            posts.iter().map(|post| tokenizer.encode(&post.prompt).unwrap().len()).sum();
        let words: usize = posts.iter().map(|post| super::words(&post.prompt)).sum();
        let ratio = tokens as f64 / words as f64;
        println!(
            "seed {seed}: {} tokens in the vocabulary of {} documents, {ratio:.3} a word, split \
             {split:?}",
            tokenizer.size(),
            rows.len()
        );
        assert!(split.is_empty(), "{split:?}");
        assert!(ratio < 1.08, "{ratio}");
    }
}

#[test]
fn a_vocabulary_of_1200_splits_no_value_of_the_instructions_in_either_case() {
    let world = Instructions::new(0);
    let rows = [world.notes(6_000), world.pretrain(6_000)].concat();
    let tokenizer = Tokenizer::train(&texts(&rows), 1_200).unwrap();
    let mut split = Vec::new();
    for value in PLACES.iter().flat_map(|forum| LABELS.map(|label| label.values(forum)).concat()) {
        for word in [value.to_string(), value.to_uppercase()] {
            if tokenizer.encode(&format!(" {word}")).unwrap().len() != 1 {
                split.push(word);
            }
        }
    }
    assert!(split.is_empty(), "{split:?}");
}

/// Recorded once: any other process, thread count or machine must give the same file.
#[test]
fn the_trained_tokenizer_has_its_recorded_digest() {
    let rows = World::new(0).pretrain(500);
    let folder = tempfile::tempdir().unwrap();
    Tokenizer::train(&texts(&rows), 800).unwrap().save(folder.path()).unwrap();
    let bytes = std::fs::read(folder.path().join("tokenizer.json")).unwrap();
    assert_eq!(blake3::hash(&bytes).to_hex()[..16], *"56690b0e089c8593");
}

#[test]
fn summaries_survive_their_tokens() {
    let (rows, tokenizer) = default_tokenizer(0);
    for row in rows.iter().step_by(97) {
        let (prompt, completion) = tokenizer.encode_example(&row.prompt, &row.completion).unwrap();
        assert_eq!(tokenizer.decode(&prompt).unwrap(), row.prompt);
        assert_eq!(
            tokenizer.decode_after(&prompt, &completion[..completion.len() - 1]).unwrap(),
            row.completion
        );
    }
}

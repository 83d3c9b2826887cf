//! Noisy preferences: the noise that was asked for, and nothing that depends on what else is drawn.

use posttrain::data::rows::{Example, Preference};
use posttrain::random::Stream;
use posttrain::world::posts::{World, gold};
use posttrain::world::{Candidate, Facts, Noise, noisy_preferences, writers_candidates};

use super::{mean, said};

fn labelled(noise: Noise) -> (Vec<Example>, Vec<Preference>) {
    let posts = World::new(9).compare(3_000);
    let (candidates, labels) = (Stream::new(1, "candidates"), Stream::new(1, "labels"));
    let pairs = posts
        .iter()
        .enumerate()
        .flat_map(|(row, post)| {
            let candidates = writers_candidates(
                &Facts::read(post.facts.as_ref().unwrap()).unwrap(),
                4,
                &mut candidates.sequence(row as u64),
            );
            noisy_preferences(post, &candidates, noise, &labels, row as u64)
        })
        .collect();
    (posts, pairs)
}

#[test]
fn labels_agree_with_gold_as_often_as_the_noise_says() {
    let (_, pairs) = labelled(Noise::default());
    let agreement = mean(pairs.iter().map(|pair| f64::from(pair.clean.unwrap())));
    let expected =
        mean(pairs.iter().map(|pair| 1.0 / (1.0 + (-4.0 * pair.margin.unwrap().abs()).exp())));
    println!("{:.3} of labels agree, {:.2} pairs a post", agreement, pairs.len() as f64 / 3000.0);
    assert!((agreement - expected).abs() < 0.01, "{agreement} {expected}");
    // The prototype: .926 and 4.93.
    assert!((agreement - 0.926).abs() < 0.012 && (pairs.len() as f64 / 3000.0 - 4.93).abs() < 0.1);
}

#[test]
fn pairs_carry_their_margin_and_whether_it_is_right() {
    let (posts, pairs) = labelled(Noise { beta: 1.0, min_gap: 0.5, ..Noise::default() });
    assert!(pairs.iter().any(|pair| !pair.clean.unwrap()));
    for pair in pairs.iter().take(500) {
        let post = posts.iter().find(|post| pair.id.starts_with(&format!("{}/", post.id))).unwrap();
        let score = |text: &str| gold(&said(post), text, true).score;
        assert_eq!(pair.margin.unwrap(), score(&pair.chosen) - score(&pair.rejected));
        assert!(pair.margin.unwrap().abs() >= 0.5);
        assert_eq!(pair.clean, Some(pair.margin.unwrap() > 0.0));
        assert_eq!(pair.prompt, post.prompt);
    }
}

/// A labeller who likes long texts: labels follow sigmoid(beta (gap + per_word words)).
#[test]
fn a_bias_for_length_changes_labels_as_it_says() {
    let words = |text: &str| text.split_whitespace().count() as f64;
    for per_word in [0.1, -0.1] {
        let (_, pairs) = labelled(Noise { per_word, ..Noise::default() });
        let (mut longer, mut expected, mut plain) = (0.0, 0.0, 0.0);
        for pair in &pairs {
            let apart = words(&pair.chosen) - words(&pair.rejected);
            let margin = pair.margin.unwrap();
            // Of the longer text.
            let (gap, apart) = if apart < 0.0 { (-margin, -apart) } else { (margin, apart) };
            let chance = |seen: f64| 1.0 / (1.0 + (-4.0 * seen).exp());
            longer += f64::from(words(&pair.chosen) > words(&pair.rejected))
                + 0.5 * f64::from(apart == 0.0);
            let tie = apart == 0.0;
            expected += if tie { 0.5 } else { chance(gap + per_word * apart) };
            plain += if tie { 0.5 } else { chance(gap) };
        }
        let n = pairs.len() as f64;
        assert!((longer - expected).abs() / n < 0.01, "{} {}", longer / n, expected / n);
        assert!((longer - plain).abs() / n > 0.03, "{} {}", longer / n, plain / n);
    }
}

#[test]
fn texts_that_are_the_same_or_too_near_are_not_compared() {
    let post = &World::new(9).compare(1)[0];
    let facts = said(post);
    let candidate = |text: &str, ended| Candidate { text: text.into(), ended };
    let good = format!(" due {} .", facts.when);
    let candidates = [
        candidate(&good, true),
        candidate(&good, false),
        candidate(" long story .", true),
        candidate(" please help .", true),
    ];
    let pairs = noisy_preferences(
        post,
        &candidates,
        Noise { beta: 1e6, ..Noise::default() },
        &Stream::new(1, "labels"),
        0,
    );
    // Gold: -.6, -.9, -1, -1. The first two say the same; the others differ by .1 or nothing.
    let ids: Vec<&str> = pairs.iter().map(|pair| pair.id.as_str()).collect();
    assert_eq!(ids, ["compare-0/2-0", "compare-0/3-0"]);
    assert!(pairs.iter().all(|pair| pair.chosen == good && pair.clean == Some(true)));
}

//! What writers write: the mean scores that the world was tuned with.

use posttrain::random::Stream;
use posttrain::world::posts::tldr::write;
use posttrain::world::posts::{Writer, gold};

use super::{mean, posts, said, words};

/// Means over 20,000 posts of the prototype that the training budgets were found with: gold,
/// coverage, wrong values, words.
const EXPECTED: [(Writer, [f64; 4]); 5] = [
    (Writer::Reference, [0.342, 0.698, 0.133, 14.53]),
    (Writer::Web, [-0.273, 0.466, 0.326, 12.48]),
    (Writer::Good, [0.789, 0.900, 0.0, 17.29]),
    (Writer::Mid, [0.056, 0.594, 0.416, 13.67]),
    (Writer::Bad, [-0.658, 0.281, 0.777, 10.61]),
];

#[test]
fn writers_are_as_good_as_they_are_meant_to_be() {
    let posts = posts(8_000);
    for (writer, [score, coverage, wrong, length]) in EXPECTED {
        let stream = Stream::new(1, "writers");
        let scored: Vec<_> = posts
            .iter()
            .enumerate()
            .map(|(row, post)| {
                let facts = said(post);
                gold(&facts, &write(&facts, writer, &mut stream.sequence(row as u64)), true)
            })
            .collect();
        let found = [
            mean(scored.iter().map(|gold| gold.score)),
            mean(scored.iter().map(|gold| gold.coverage)),
            mean(scored.iter().map(|gold| gold.wrong as f64)),
            mean(scored.iter().map(|gold| gold.length as f64)),
        ];
        println!(
            "{writer:?}: gold {:.3} coverage {:.3} wrong {:.3} words {:.2}",
            found[0], found[1], found[2], found[3]
        );
        // Four standard errors: scores and wrong values spread by at most 1, lengths by at most 6.
        let allowed = [0.045, 0.02, 0.045, 0.27];
        for (at, expected) in [score, coverage, wrong, length].into_iter().enumerate() {
            assert!((found[at] - expected).abs() < allowed[at], "{writer:?}: {found:?}");
        }
        assert!(scored.iter().all(|gold| gold.malformed == 0), "{writer:?}");
    }
}

#[test]
fn a_summary_is_a_completion_with_its_leading_space() {
    for post in posts(500) {
        let text = post.completion;
        assert!(text.starts_with(' ') && !text.ends_with(' ') && !text.contains("  "), "{text:?}");
        assert!(text.ends_with(" .") || text.ends_with(" ?"), "{text:?}");
        assert!(words(&text) >= 2);
    }
}

#[test]
fn a_mistaken_value_is_often_one_that_the_post_names() {
    let stream = Stream::new(1, "distracted");
    let (mut distracted, mut wrong) = (0, 0);
    for (row, post) in posts(8_000).iter().enumerate() {
        let facts = said(post);
        let Some(distractor) = facts.distractors.get(&posttrain::world::posts::words::Slot::When)
        else {
            continue;
        };
        let text = write(&facts, Writer::Bad, &mut stream.sequence(row as u64));
        wrong += usize::from(
            ["day", "tomorrow", "tonight", "christmas", "easter", "noon"]
                .iter()
                .any(|end| text.contains(end))
                && !text.contains(&facts.when),
        );
        distracted += usize::from(text.contains(distractor));
    }
    // .6 by choice, and one of 11 by chance.
    let share = distracted as f64 / wrong as f64;
    assert!(wrong > 80 && (0.5..0.78).contains(&share), "{distracted} of {wrong}");
}

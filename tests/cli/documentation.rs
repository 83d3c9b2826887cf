//! The documentation of the language: every example in it is a pipeline that can be planned.

use super::place::Place;

/// The blocks of a language in a Markdown text, each with the line it starts at.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        match (inside, line.strip_prefix("```")) {
            (false, Some(found)) if found == language => {
                blocks.push((index + 1, String::new()));
                inside = true;
            }
            (true, Some(_)) => inside = false,
            (true, None) => {
                let block = &mut blocks.last_mut().expect("a block has begun").1;
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn every_example_of_the_language_is_planned() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipeline.md")).unwrap();
    let examples = blocks(&text, "yaml");
    assert!(examples.len() >= 5);
    for (line, example) in examples {
        let place = Place::new(&example);
        place.write("posts.jsonl", "{\"post\": \"a post\", \"summary\": \"a summary\"}\n");
        std::fs::create_dir(place.path("classifier")).unwrap();
        let said = place.say(&["plan", "p.yaml"]);
        assert_eq!(said.code, 0, "docs/pipeline.md, line {line}\n{}", said.err);
    }
}

#[test]
fn every_mistake_of_the_documentation_is_shown_as_it_is_printed() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipeline.md")).unwrap();
    let wrong = blocks(&text, "yaml wrong");
    let shown = blocks(&text, "text error");
    assert!(!wrong.is_empty() && wrong.len() == shown.len());
    for ((line, example), (_, error)) in wrong.iter().zip(&shown) {
        let said = Place::new(example).say(&["plan", "p.yaml"]);
        assert_eq!((said.code, &said.err), (2, error), "docs/pipeline.md, line {line}");
    }
}

//! docs/sentinels.md lists the sentinels that the program has, with their conditions and meanings.

use std::path::Path;

use posttrain::rl::sentinels::table::{Action, SENTINELS, Sentinel};

/// Set to write the lists anew.
const RENEW: &str = "POSTTRAIN_RENEW_SENTINELS";
const BEGIN: &str = "<!-- sentinels: begin -->\n";
const END: &str = "<!-- sentinels: end -->\n";
const COLUMNS: usize = 100;

/// Words in lines that are indented but for the first.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines += &format!("{line}\n");
            line = format!("  {word}");
        } else {
            line = if line.is_empty() { word.into() } else { format!("{line} {word}") };
        }
    }
    lines + &line + "\n"
}

fn entry(sentinel: &Sentinel) -> String {
    let Sentinel { name, kinds, threshold, action, meaning, remedy, .. } = sentinel;
    let does = match action {
        Action::Warn => "warns",
        Action::Stop => "stops",
    };
    let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
    let condition = sentinel.condition(*threshold);
    let text =
        format!("- `{name}` ({}): {does} at {condition}. {meaning} {remedy}", kinds.join(", "));
    wrapped(&text)
}

#[test]
fn the_document_lists_every_sentinel_as_the_program_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sentinels.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the list has a beginning");
    let (list, after) = rest.split_once(END).expect("the list has an end");
    let now: String = SENTINELS.iter().map(entry).collect();
    if std::env::var_os(RENEW).is_some() {
        return std::fs::write(path, format!("{before}{BEGIN}{now}{END}{after}")).unwrap();
    }
    let how = format!("renew it with {RENEW}=1 cargo test --test suite sentinels::documents");
    assert!(list == now, "docs/sentinels.md does not list what the program has: {how}\n{now}");
    for sentinel in SENTINELS {
        let name = format!("`{}`", sentinel.name);
        assert!(after.contains(&name), "the tables of docs/sentinels.md lack {name}");
    }
}

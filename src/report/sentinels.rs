//! The sentinels of training that fired, for a terminal and as a section of the page.

use super::formats::text;
use super::layout::wrapped;
use super::run::Run;
use crate::rl::sentinels::table::named;
use crate::rl::sentinels::watch::{Fired, number};

/// The sentinels that fired in the stages of a run, each with its node.
pub fn fired(run: &Run) -> Vec<(String, Fired)> {
    let of = |node: &super::run::Node| -> Vec<(String, Fired)> {
        let own = node.sentinels.iter().flat_map(|own| &own.fired);
        own.map(|fired| (node.name.clone(), fired.clone())).collect()
    };
    run.nodes.iter().flat_map(of).collect()
}

/// A line for each, at most `width` columns wide: the node, the sentinel, the step, the value and
/// the threshold.
pub fn lines(fired: &[(String, Fired)], width: usize) -> String {
    let line = |(node, fired): &(String, Fired)| {
        wrapped(&format!("{node}: {}", fired.short()), width) + "\n"
    };
    fired.iter().map(line).collect()
}

/// A table with a row for each sentinel that fired; a sentence where none did; nothing where no
/// stage of the run has sentinels.
pub(super) fn html(run: &Run) -> Option<String> {
    let checked = run.nodes.iter().filter(|node| node.sentinels.is_some()).count();
    let rows: String = fired(run)
        .iter()
        .map(|(node, fired)| {
            let meaning = named(&fired.sentinel)
                .map_or_else(String::new, |own| format!("{} {}", own.meaning, own.remedy));
            format!(
                "<tr><th scope=row>{}<td>{}<td>{}<td>{}<td>{}<td>{}\n",
                text(node),
                text(&fired.sentinel),
                fired.step,
                number(fired.value),
                fired.threshold,
                text(&meaning)
            )
        })
        .collect();
    let heads = ["Stage", "Sentinel", "Step", "Value", "Threshold", "Meaning, and what to do"];
    let heads: String = heads.map(|head| format!("<th scope=col>{head}")).concat();
    match (checked, rows.is_empty()) {
        (0, _) => None,
        (_, true) => Some(format!("<p>None fired in {checked} stages of training.</p>\n")),
        (_, false) => Some(format!(
            "<div class=scroll tabindex=0 role=region aria-label=Sentinels><table \
             class=\"fired listing\">\n<thead><tr>{heads}</thead>\n<tbody>\n{rows}</tbody>\n\
             </table></div>\n"
        )),
    }
}

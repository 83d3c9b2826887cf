//! The sentinels of training that fired, as a section of the page.

use super::formats::text;
use super::run::Run;
use crate::rl::sentinels::table::named;
use crate::rl::sentinels::watch::number;

/// A table with a row for each sentinel that fired; a sentence where none did; nothing where no
/// stage of the run has sentinels.
pub(super) fn html(run: &Run) -> Option<String> {
    let checked = run.nodes.iter().filter(|node| node.sentinels.is_some()).count();
    let rows: String = run
        .nodes
        .iter()
        .flat_map(|node| {
            let fired = node.sentinels.iter().flat_map(|own| &own.fired);
            fired.map(|fired| (&node.name, fired))
        })
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
             class=listing>\n<thead><tr>{heads}</thead>\n<tbody>\n{rows}</tbody>\n\
             </table></div>\n"
        )),
    }
}

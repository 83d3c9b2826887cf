//! `explain`: the fields and inputs of a stage that differ from the nearest earlier entry, old and
//! new.

use clap::Args;

use super::common::{Cache, DeviceAndDtype, NumericsOption, Source, print, print_json, request};
use super::fetch::find;
use super::number_format::age;
use super::plan::in_words;
use crate::dag::explain::{Explanation, explain};
use crate::error::Result;

/// Say why a stage would run: what differs from the nearest earlier result, old and new
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// A stage or a node
    stage: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    device: DeviceAndDtype,
    #[command(flatten)]
    numerics: NumericsOption,
}

/// Prints the explanation of every node of the stage.
pub fn main(arguments: &Arguments) -> Result<()> {
    let mut pipeline = arguments.source.load()?;
    let store = arguments.cache.open()?;
    let names = pipeline.select(std::slice::from_ref(&arguments.stage))?;
    find(&mut pipeline, &names)?;
    let (_, classes) = arguments.device.outlook(&arguments.numerics, &store)?;
    let request = request(&pipeline, &[], &classes);
    let explanations = explain(&store, request, &names)?;
    match arguments.json {
        true => print_json(&explanations),
        false => print(&explanations.iter().map(text).collect::<Vec<_>>().join("\n")),
    }
}

fn text(explanation: &Explanation) -> String {
    let (state, why) = in_words(&explanation.state);
    let mut text = format!("{}: {state}", explanation.node);
    text.push_str(&if why.is_empty() { "\n".into() } else { format!(" ({why})\n") });
    let Some(earlier) = &explanation.earlier else {
        return text + "  nothing earlier to compare with\n";
    };
    text.push_str(&format!(
        "  compared with {} as made {} (key {}):\n",
        earlier.node,
        age(earlier.finished_at),
        earlier.key.short()
    ));
    for difference in &explanation.differences {
        text.push_str(&format!("  {difference}\n"));
    }
    if explanation.differences.is_empty() {
        text.push_str("  nothing differs as far as is known\n");
    }
    text
}

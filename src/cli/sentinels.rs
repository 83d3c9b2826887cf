//! `sentinels`: which sentinels fire on the steps that the artefacts of a run have recorded, of all
//! training stages, cached ones too.

use clap::Args;
use serde_json::json;

use super::common::{Cache, columns, print, print_json, terminal_width};
use super::load_run::{find, load_run};
use super::number_format::count;
use crate::error::Result;
use crate::report::run::Node;
use crate::report::sentinels::{fired, lines};
use crate::rl::sentinels::table::{SENTINELS, Sentinel};

/// List the sentinels that fire on what the stages of a run have recorded
#[derive(Args)]
pub struct Arguments {
    /// `latest`, a run's number, its id or the beginning of it, or the folder of its record
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
}

/// Prints a line a sentinel, and one for each time that one fired.
pub fn main(arguments: &Arguments) -> Result<()> {
    let (store, record) = find(&arguments.cache, &arguments.run)?;
    let run = load_run(&store, &record)?;
    if arguments.json {
        let checked = |node: &&Node| node.sentinels.is_some();
        let stage = |node: &Node| json!({"node": node.name, "stage": node.stage, "sentinels": node.sentinels});
        let stages: Vec<_> = run.nodes.iter().filter(checked).map(stage).collect();
        return print_json(&json!({"run": run.id, "stages": stages}));
    }
    let judged = |sentinel: &Sentinel, node: &&Node| {
        let own = node.sentinels.as_ref();
        own.is_some_and(|own| own.judged.iter().any(|name| name == sentinel.name))
    };
    let row = |sentinel: &Sentinel| {
        let nodes: Vec<&Node> = run.nodes.iter().filter(|node| judged(sentinel, node)).collect();
        let fires = |node: &&&Node| {
            let mut own = node.sentinels.iter().flat_map(|own| &own.fired);
            own.any(|fired| fired.sentinel == sentinel.name)
        };
        let fired = nodes.iter().filter(fires).count();
        let stages = count(nodes.len(), "stage");
        (!nodes.is_empty()).then(|| vec![sentinel.name.into(), format!("{fired} of {stages}")])
    };
    let rows: Vec<Vec<String>> = SENTINELS.iter().filter_map(row).collect();
    let mut text = format!("run {}\n{}", run.id, columns(&rows));
    text.push_str(&lines(&fired(&run), terminal_width()));
    print(&text)
}

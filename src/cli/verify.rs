//! `verify`: whether a bundle is what it says, and whether its artefacts can be made again, byte
//! for byte.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::common::{DeviceAndDtype, print, print_json};
use super::number_format::{count, duration};
use crate::bundle::differs::first_difference;
use crate::bundle::manifest::Node;
use crate::bundle::read::{Bundle, Flaw};
use crate::dag::inputs::snapshot;
use crate::dag::node::{Graph, Numerics};
use crate::dag::options::Options;
use crate::dag::process::ProcessExecutor;
use crate::dag::processes::adopt_orphans;
use crate::dag::request::Request;
use crate::dag::run::run;
use crate::dag::stop::Stop;
use crate::dag::store::Store;
use crate::device::{self, Device};
use crate::error::{Context, Failure, Kind, Result, user};
use crate::fs::TemporaryFolder;
use crate::pipeline::names::listed;
use crate::pipeline::rebuild::{self, Read};
use crate::pipeline::registry::Builtin;

/// Check an exported run: its hashes, and on demand that stages make the same bytes again
#[derive(Args)]
#[command(after_help = "\
Ends with 0 if all that was asked for holds, and with 1 if anything differs.")]
pub struct Arguments {
    /// The file that `posttrain export` has written
    file: PathBuf,
    /// Make this stage or node again, from what it needed, and compare the bytes; may be repeated,
    /// `all` is every one
    #[arg(long, value_name = "STAGE")]
    rebuild: Vec<String>,
    /// A file or folder that a rebuilt stage reads, known by its content; may be repeated [default:
    /// those at the paths where they were]
    #[arg(long, value_name = "PATH")]
    input: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceAndDtype,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    /// The id of the run.
    run: String,
    /// Nodes in the bundle.
    nodes: usize,
    /// Whether all that was asked for holds.
    ok: bool,
    /// What is not as the bundle says.
    flaws: Vec<Flaw>,
    /// The nodes that were made again.
    rebuilt: Vec<Rebuilt>,
}

/// A node that was made again.
#[derive(Serialize)]
struct Rebuilt {
    node: String,
    /// Whether its bytes are those of the bundle.
    equal: bool,
    /// Where they first part, or why it was not made.
    differs: Option<String>,
    /// The numerics class that it was made under.
    numerics: String,
    /// The numerics class here.
    here: String,
    seconds: f64,
}

/// Checks, and prints what was found.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let folder = TemporaryFolder::new()?;
    let bundle = Bundle::unpack(&arguments.file, &folder.path().join("bundle"))?;
    let flaws = bundle.flaws()?;
    let mut rebuilt = Vec::new();
    if flaws.is_empty() && !arguments.rebuild.is_empty() {
        let store = Store::open(&folder.path().join("cache"))?;
        rebuilt = rebuild_all(arguments, &bundle, &store)?;
    }
    let ok = flaws.is_empty() && rebuilt.iter().all(|it| it.equal);
    let (run, nodes) = (bundle.manifest.run.clone(), bundle.manifest.nodes.len());
    let found = Found { run, nodes, ok, flaws, rebuilt };
    match arguments.json {
        true => print_json(&found)?,
        false => print(&text(&bundle, &found))?,
    }
    Ok(ExitCode::from(if ok { 0 } else { Kind::Stage.exit_code() }))
}

/// Refuses a bundle that is not what it says.
pub fn sound(bundle: &Bundle, file: &Path) -> Result<()> {
    let flaws = bundle.flaws()?;
    let Some(first) = flaws.first() else { return Ok(()) };
    let message = format!("{} is not what it says: {}: {}", file.display(), first.what, first.why);
    let hint = format!("`posttrain verify` lists all {}", flaws.len());
    Err(user(message).hint(hint).into())
}

fn text(bundle: &Bundle, found: &Found) -> String {
    let manifest = &bundle.manifest;
    let left = manifest.nodes.iter().filter(|node| !node.included).count();
    let mut text = format!(
        "run {} of `{}`, program {}{}\n",
        manifest.run,
        manifest.pipeline,
        manifest.program.version,
        manifest.program.build.as_ref().map_or_else(String::new, |build| {
            format!(", build {}", &build[..build.len().min(12)])
        })
    );
    for Flaw { what, why } in &found.flaws {
        text.push_str(&format!("  {what}: {why}\n"));
    }
    let nodes = count(found.nodes, "node");
    text.push_str(&match found.flaws.len() {
        0 => format!(
            "{nodes}: keys, artefacts and files are what their hashes say; {left} without files\n"
        ),
        flaws => format!("{nodes}: {}\n", count(flaws, "flaw")),
    });
    for one in &found.rebuilt {
        let Rebuilt { node, differs, numerics, here, seconds, .. } = one;
        let class = match numerics == here {
            true => String::new(),
            false => format!("; made under `{numerics}`, here `{here}`"),
        };
        text.push_str(&match differs {
            None => format!("{node}: equal, byte for byte, in {}{class}\n", duration(*seconds)),
            Some(why) => format!("{node}: {why}{class}\n"),
        });
    }
    text
}

fn rebuild_all(arguments: &Arguments, bundle: &Bundle, store: &Store) -> Result<Vec<Rebuilt>> {
    let nodes = wanted(bundle, &arguments.rebuild)?;
    let device = arguments.device.device(store)?;
    let mut inputs = HashMap::new();
    for path in &arguments.input {
        let taken = snapshot(store, path)?;
        inputs.insert(taken.content.to_string(), taken.path);
    }
    for input in &bundle.manifest.inputs {
        let path = Path::new(&input.path);
        let hash = input.content.to_string();
        if !inputs.contains_key(&hash) && path.is_absolute() && path.exists() {
            let taken = snapshot(store, path)?;
            inputs.insert(taken.content.to_string(), taken.path);
        }
    }
    adopt_orphans();
    let stop = Stop::on_signals()?;
    let mut rebuilt = Vec::new();
    for node in nodes {
        rebuilt.push(rebuild_one(bundle, node, store, (&device, &stop), &inputs)?);
    }
    Ok(rebuilt)
}

/// The nodes that words mean, in the order of the bundle.
fn wanted<'a>(bundle: &'a Bundle, words: &[String]) -> Result<Vec<&'a Node>> {
    let nodes = &bundle.manifest.nodes;
    let is_meant = |node: &Node, word: &str| {
        word == "all" || node.name == word || node.name.split('[').next() == Some(word)
    };
    for word in words {
        if !nodes.iter().any(|node| is_meant(node, word)) {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            return Err(user(format!("the bundle has no stage `{word}`"))
                .hint(format!("there are: {}", listed(&names)))
                .into());
        }
    }
    Ok(nodes.iter().filter(|node| words.iter().any(|word| is_meant(node, word))).collect())
}

/// Makes a node again in a store with nothing else, and compares.
fn rebuild_one(
    bundle: &Bundle,
    node: &Node,
    store: &Store,
    (device, stop): (&Device, &Stop),
    inputs: &HashMap<String, PathBuf>,
) -> Result<Rebuilt> {
    let entry = bundle.entry(node)?;
    let place = |read: Read<'_>| match read {
        Read::Object(id) => {
            let folder = bundle.path("objects").join(id);
            let absent =
                || user(format!("the bundle lacks the files of the artefact {}", &id[..12]));
            folder.exists().then_some(folder).ok_or_else(absent)
        }
        Read::Content(hash) => {
            let absent = || {
                let named = bundle.manifest.inputs.iter().find(|it| it.content.to_string() == hash);
                let path = named.map_or("", |input| input.path.as_str());
                user(format!("what was at {path}, with the hash {}, is not here", &hash[..12]))
                    .hint("give it with `--input PATH`")
            };
            inputs.get(hash).cloned().ok_or_else(absent)
        }
    };
    let host = device::host_class();
    let graph = match rebuild::node(&entry, &Builtin, &place) {
        Ok(made) => Graph { nodes: vec![made] },
        Err(failure) => return Ok(not_made(node, &failure)),
    };
    let numerics = Numerics { device: Some(device.numerics()), host };
    let here = graph.nodes[0].numerics(numerics).unwrap_or_default().to_owned();
    let options = Options {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        devices: vec![serde_json::to_value(device)?],
        gpu: device.is_gpu(),
        stop: stop.clone(),
        ..Options::default()
    };
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let request = Request { graph: &graph, targets: &[], numerics };
    let executor = ProcessExecutor { program };
    let outcome = run(store, request, &options, &executor, &mut (), None)?;
    let made = outcome.nodes.first().context("the run has a node")?;
    if outcome.interrupted {
        return Err(Failure::new(Kind::Interrupted, "stopped on request").into());
    }
    let differs = match (made.object, &made.failure) {
        (Some(object), _) if object == node.object => None,
        (Some(object), _) if node.included => {
            first_difference(&bundle.object_path(node.object), &store.object_path(object))?
        }
        (Some(object), _) => {
            Some(format!("it is {} now, whose files the bundle has not", object.short()))
        }
        (None, failure) => {
            Some(failure.as_ref().map_or_else(|| "it failed".into(), |it| it.message.clone()))
        }
    };
    Ok(Rebuilt {
        node: node.name.clone(),
        equal: differs.is_none(),
        differs,
        numerics: node.numerics.clone(),
        here,
        seconds: made.seconds,
    })
}

fn not_made(node: &Node, failure: &Failure) -> Rebuilt {
    Rebuilt {
        node: node.name.clone(),
        equal: false,
        differs: Some(format!("it was not made again: {failure}")),
        numerics: node.numerics.clone(),
        here: node.numerics.clone(),
        seconds: 0.0,
    }
}

//! `cache`: what is shared with other hosts through a remote cache: sends, pulls, compares and
//! checks artefacts, and makes keys that sign them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::common::{
    Cache, DeviceAndDtype, NumericsOption, Source, Targets, columns, print, print_json, request,
    visible,
};
use super::events::warning;
use super::fetch::find;
use super::number_format::{count, size};
use super::remote::{RemoteOptions, tell_warnings};
use crate::dag::digest::{ActionKey, ObjectId};
use crate::dag::observer::Observer;
use crate::dag::plan::{Plan, State, Step, plan};
use crate::dag::pulls::pull_for;
use crate::dag::remote_cache::{Remote, Trouble};
use crate::dag::stop::Stop;
use crate::dag::store::Store;
use crate::error::{Failure, Kind, Result, environment, kind_of, user};
use crate::pipeline::cache_section::CacheSection;
use crate::pipeline::expand::Pipeline;
use crate::remote::audit::{Audit, Fault, audit};
use crate::remote::keys::{PublicKey, SecretKey};
use crate::remote::shared::{Known, Shared};

/// Nodes of which the remote is asked, or which are sent, at once.
const AT_ONCE: usize = 8;

/// Share artefacts with other hosts through a remote cache
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send what is made here and not in the remote cache
    Push(Nodes),
    /// Pull what the remote cache has and a run would read
    Pull(Nodes),
    /// Say which nodes are here, and which are in the remote cache
    Status(Nodes),
    /// Read everything in the remote cache and check hashes and signatures; of a pipeline, what is
    /// of its nodes
    Verify(Verified),
    /// Make a key that signs what is sent, in a new file, and print the key to trust
    Keygen(Keygen),
}

#[derive(Args)]
struct Nodes {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    remote: RemoteOptions,
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

#[derive(Args)]
struct Verified {
    /// A pipeline file, whose nodes alone are checked
    pipeline: Option<PathBuf>,
    /// Take the params of a profile; may be repeated
    #[arg(long = "profile", value_name = "NAME", requires = "pipeline")]
    profiles: Vec<String>,
    /// Set a param, an axis or a field; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "pipeline")]
    sets: Vec<String>,
    #[command(flatten)]
    remote: RemoteOptions,
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

#[derive(Args)]
struct Keygen {
    /// The file of the secret key; its path is what POSTTRAIN_CACHE_KEY takes
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does it, and gives the exit code.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Command::Push(arguments) => push(arguments),
        Command::Pull(arguments) => pull(arguments),
        Command::Status(arguments) => status(arguments),
        Command::Verify(arguments) => verify(arguments),
        Command::Keygen(arguments) => keygen(arguments),
    }
}

/// A pipeline with what is wanted of it, and the two caches.
struct Both {
    pipeline: Pipeline,
    targets: Vec<String>,
    store: Store,
    remote: Shared,
}

impl Nodes {
    fn both(&self) -> Result<Both> {
        let mut pipeline = self.source.load()?;
        let targets = self.targets.of(&pipeline)?;
        let remote = self.remote.needed(&pipeline.cache)?;
        find(&mut pipeline, &targets)?;
        Ok(Both { pipeline, targets, store: self.cache.open()?, remote })
    }

    /// The plan of a run. With `there`, it says what the remote has.
    fn plan(&self, both: &Both, there: bool) -> Result<Plan> {
        let (_, classes) = self.device.outlook(&self.numerics, &both.store)?;
        let request = request(&both.pipeline, &both.targets, &classes);
        if !there {
            return plan(&both.store, request);
        }
        let store = self.remote.attach(self.cache.open()?, &both.pipeline.cache)?;
        let plan = plan(&store, request)?;
        tell_warnings(&store);
        Ok(plan)
    }
}

/// The exit code of a transfer that went on after something went wrong.
fn code(has_faults: bool) -> ExitCode {
    match has_faults {
        true => ExitCode::from(Kind::Environment.exit_code()),
        false => ExitCode::SUCCESS,
    }
}

/// The results of some work on every item, several at once, in the order of the items.
fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some(item) = items.get(at) else { return };
            let result = work(item);
            done.lock().expect("nothing panics while it holds the results").push((at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(items.len()) {
            // Where no thread can be started, the others do the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, run);
        }
        run();
    });
    let mut done = done.into_inner().expect("no thread holds the results");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn failure(remote: &Shared, trouble: Trouble) -> Failure {
    let address = remote.address();
    match trouble {
        Trouble::Away(why) => {
            environment(format!("the remote cache {address} cannot be used: {why}"))
                .hint("look at the address and at the network, then try again")
        }
        Trouble::Denied(why) => {
            environment(format!("the remote cache {address} denies access: {why}"))
                .hint("look at the variables of its cloud in the environment")
        }
        Trouble::Refused(why) | Trouble::Here(why) => environment(why),
        Trouble::Stopped => Failure::new(Kind::Interrupted, "stopped on request"),
    }
}

/// A node whose artefact was sent or pulled.
#[derive(Serialize)]
struct Moved {
    node: String,
    key: ActionKey,
    object: ObjectId,
    /// Bytes that went over the network.
    bytes: u64,
}

fn push(arguments: &Nodes) -> Result<ExitCode> {
    let both = arguments.both()?;
    let Both { store, remote, .. } = &both;
    if let Some(why) = remote.closed() {
        return Err(user(format!("nothing may be sent to the remote cache: {why}"))
            .hint("look at `mode`, `trust` and `key` of the remote cache (docs/remote.md)")
            .into());
    }
    let plan = arguments.plan(&both, false)?;
    let made: Vec<&Step> =
        plan.steps.iter().filter(|step| matches!(step.state, State::Cached { .. })).collect();
    let stop = Stop::on_signals()?;
    let results = each(&made, |step| -> Result<Option<Moved>> {
        let State::Cached { key, object } = step.state else { unreachable!("these are cached") };
        let Some(entry) = store.entry(key)? else { return Ok(None) };
        let pushed = remote.push(&entry, &store.object_path(object), &|| stop.requested());
        let bytes = pushed.map_err(|trouble| {
            if matches!(trouble, Trouble::Away(_) | Trouble::Denied(_)) {
                // The others would end in the same way.
                stop.request();
            }
            failure(remote, trouble)
        })?;
        Ok(bytes.map(|bytes| Moved { node: step.name.clone(), key, object, bytes }))
    });
    let (mut pushed, mut faults, mut worst) = (Vec::new(), Vec::new(), None);
    for (step, result) in made.iter().zip(results) {
        match result {
            Ok(moved) => pushed.extend(moved),
            Err(error) => {
                let kind = kind_of(&error);
                if kind != Kind::Interrupted {
                    faults.push(json!({ "node": step.name, "message": format!("{error:#}") }));
                }
                worst = worst.max(Some(kind == Kind::Environment));
            }
        }
    }
    let there = made.len() - pushed.len() - faults.len();
    if arguments.json {
        print_json(&json!({
            "remote": remote.address(),
            "pushed": pushed,
            "there": there,
            "not_made": plan.steps.len() - made.len(),
            "faults": faults,
        }))?;
    } else {
        faults.iter().for_each(tell_fault);
        let rows: Vec<Vec<String>> =
            pushed.iter().map(|own| vec![own.node.clone(), size(own.bytes)]).collect();
        let bytes = pushed.iter().map(|own| own.bytes).sum();
        print(&format!(
            "{}{} sent, {}; {there} there already, {} not made here\n",
            columns(&rows),
            count(pushed.len(), "artefact"),
            size(bytes),
            plan.steps.len() - made.len(),
        ))?;
    }
    match worst {
        Some(false) => Err(Failure::new(Kind::Interrupted, "stopped on request").into()),
        worst => Ok(code(worst.is_some())),
    }
}

fn tell_fault(fault: &serde_json::Value) {
    let text = |name: &str| fault[name].as_str().unwrap_or_default();
    eprintln!("{}", warning(Some(text("node")), text("message")));
}

/// Notes what is pulled.
#[derive(Default)]
struct Pulled {
    nodes: Vec<(String, u64)>,
    warnings: Vec<String>,
}

impl Observer for Pulled {
    fn pulled(&mut self, node: &str, bytes: u64) {
        self.nodes.push((node.to_owned(), bytes));
    }

    fn warning(&mut self, _: Option<&str>, message: &str) {
        self.warnings.push(message.to_owned());
    }
}

fn pull(arguments: &Nodes) -> Result<ExitCode> {
    let Both { pipeline, targets, store, remote } = arguments.both()?;
    let address = remote.address().to_owned();
    let (_, classes) = arguments.device.outlook(&arguments.numerics, &store)?;
    let store = store.with_remote(Box::new(remote));
    let request = request(&pipeline, &targets, &classes);
    let (stop, mut seen) = (Stop::on_signals()?, Pulled::default());
    let plan = pull_for(&store, request, &stop, &mut seen)?;
    seen.warnings.extend(store.remote().map(|link| link.take_warnings()).unwrap_or_default());
    let moved = |(node, bytes): &(String, u64)| {
        let step = plan.steps.iter().find(|step| step.name == *node)?;
        let State::Cached { key, object } = step.state else { return None };
        Some(Moved { node: node.clone(), key, object, bytes: *bytes })
    };
    let mut pulled: Vec<Moved> = seen.nodes.iter().filter_map(moved).collect();
    pulled.sort_by(|a, b| a.node.cmp(&b.node));
    let (here, left) = plan.steps.iter().fold((0, 0), |(here, left), step| match step.state {
        State::Cached { .. } => (here + 1, left),
        State::Remote { .. } => (here, left + 1),
        State::Run { .. } | State::Unknown { .. } => (here, left),
    });
    let (here, nowhere) = (here - pulled.len(), plan.steps.len() - here - left);
    if arguments.json {
        print_json(&json!({
            "remote": address,
            "pulled": pulled,
            "here": here,
            "left": left,
            "not_made": nowhere,
            "faults": seen.warnings,
        }))?;
    } else {
        seen.warnings.iter().for_each(|message| eprintln!("{}", warning(None, message)));
        let rows: Vec<Vec<String>> =
            pulled.iter().map(|own| vec![own.node.clone(), size(own.bytes)]).collect();
        print(&format!(
            "{}{} pulled, {}; {here} here already, {left} not read and left there, {nowhere} \
             neither here nor there\n",
            columns(&rows),
            count(pulled.len(), "artefact"),
            size(pulled.iter().map(|own| own.bytes).sum()),
        ))?;
    }
    match stop.requested() {
        true => Err(Failure::new(Kind::Interrupted, "stopped on request").into()),
        false => Ok(code(!seen.warnings.is_empty())),
    }
}

/// Where a node's artefact is.
#[derive(Serialize)]
struct Place {
    node: String,
    key: Option<ActionKey>,
    object: Option<ObjectId>,
    here: bool,
    remote: bool,
    signer: Option<PublicKey>,
    bytes: Option<u64>,
    message: Option<String>,
}

fn place(remote: &Shared, step: &Step) -> std::result::Result<Place, Trouble> {
    let (key, here) = match step.state {
        State::Run { key, .. } | State::Remote { key, .. } => (Some(key), false),
        State::Cached { key, .. } => (Some(key), true),
        State::Unknown { .. } => (None, false),
    };
    let place = Place {
        node: step.name.clone(),
        key,
        object: step.state.object(),
        here,
        remote: false,
        signer: None,
        bytes: None,
        message: None,
    };
    let Some(key) = key else { return Ok(place) };
    match remote.known(key) {
        Ok(None) => Ok(place),
        Ok(Some(Known { signer, bytes: None, .. })) => {
            let message = Some("its entry is there, its object is not".into());
            Ok(Place { signer, message, ..place })
        }
        Ok(Some(Known { entry, signer, bytes })) => {
            let differs = place.object.is_some_and(|object| object != entry.object);
            let message = differs.then(|| format!("the object there is {}", entry.object.short()));
            let object = place.object.or(Some(entry.object));
            Ok(Place { object, remote: true, signer, bytes, message, ..place })
        }
        Err(Trouble::Refused(message)) => Ok(Place { message: Some(message), ..place }),
        Err(trouble) => Err(trouble),
    }
}

fn status(arguments: &Nodes) -> Result<ExitCode> {
    let both = arguments.both()?;
    let plan = arguments.plan(&both, true)?;
    let places = each(&plan.steps, |step| place(&both.remote, step));
    let places: Vec<Place> = places
        .into_iter()
        .collect::<std::result::Result<_, Trouble>>()
        .map_err(|trouble| failure(&both.remote, trouble))?;
    let has_faults = places.iter().any(|place| place.message.is_some());
    if arguments.json {
        print_json(&json!({ "remote": both.remote.address(), "nodes": places }))?;
        return Ok(code(has_faults));
    }
    let yes = |is: bool, word: &str| if is { word.to_owned() } else { "-".into() };
    let row = |place: &Place| {
        let object = place.object.map(|object| object.short()).unwrap_or_default();
        let signer = place.signer.map(|key| format!("signed by {key}"));
        let said = place.message.clone().or(signer).unwrap_or_default();
        let bytes = place.bytes.map(size).unwrap_or_default();
        let (here, remote) = (yes(place.here, "here"), yes(place.remote, "remote"));
        vec![here, remote, place.node.clone(), object, bytes, said]
    };
    let here = places.iter().filter(|place| place.here).count();
    let there = places.iter().filter(|place| place.remote).count();
    print(&format!(
        "{}{}: {here} here, {there} in {}\n",
        columns(&places.iter().map(row).collect::<Vec<_>>()),
        count(places.len(), "node"),
        both.remote.address(),
    ))?;
    Ok(code(has_faults))
}

fn verify(arguments: &Verified) -> Result<ExitCode> {
    let Verified { pipeline, profiles, sets, remote, cache, device, numerics, .. } = arguments;
    let stop = Stop::on_signals()?;
    let source = pipeline.clone().map(|pipeline| Source {
        pipeline,
        profiles: profiles.clone(),
        sets: sets.clone(),
    });
    let (shared, keys) = match source {
        None => (remote.needed(&CacheSection::default())?, None),
        Some(source) => {
            let mut pipeline = source.load()?;
            let shared = remote.needed(&pipeline.cache)?;
            find(&mut pipeline, &[])?;
            let store = remote.attach(cache.open()?, &pipeline.cache)?;
            let (_, classes) = device.outlook(numerics, &store)?;
            let plan = plan(&store, request(&pipeline, &[], &classes))?;
            let key = |step: &Step| match step.state {
                State::Run { key, .. } | State::Remote { key, .. } | State::Cached { key, .. } => {
                    Some(key)
                }
                State::Unknown { .. } => None,
            };
            (shared, Some(plan.steps.iter().filter_map(key).collect::<Vec<_>>()))
        }
    };
    let audit = audit(&shared, keys.as_deref(), &|| stop.requested())
        .map_err(|trouble| failure(&shared, trouble))?;
    let Audit { entries, objects, bytes, faults } = &audit;
    if arguments.json {
        let mut value = serde_json::to_value(&audit)?;
        value["remote"] = shared.address().into();
        print_json(&value)?;
        return Ok(code(!faults.is_empty()));
    }
    let row = |fault: &Fault| {
        let Fault { key, object, message } = fault;
        let what = match (key, object) {
            (Some(key), _) => format!("entry {}", key.short()),
            (None, Some(object)) => format!("object {}", object.short()),
            (None, None) => "file".into(),
        };
        vec![what, visible(message).into_owned()]
    };
    print(&format!(
        "{}{} and {} checked, {}: {}\n",
        columns(&faults.iter().map(row).collect::<Vec<_>>()),
        if *entries == 1 { "1 entry".into() } else { format!("{entries} entries") },
        count(*objects, "object"),
        size(*bytes),
        if faults.is_empty() { "all are sound".into() } else { count(faults.len(), "fault") },
    ))?;
    Ok(code(!faults.is_empty()))
}

fn keygen(arguments: &Keygen) -> Result<ExitCode> {
    let key = SecretKey::make(&arguments.file)?.public();
    match arguments.json {
        true => print_json(&json!({ "file": arguments.file, "public": key }))?,
        false => print(&format!("{key}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

//! `doctor`: whether this machine has what runs need, and what to do where it has not.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::common::{Cache, DeviceOption, columns, print, print_json};
use crate::device::Device;
use crate::error::{Kind, Result, kind_of};
use crate::fs;
use crate::hub::Settings;
use crate::model::memory::Bytes;

/// Say what this machine has for runs, and what to do about what it lacks
///
/// Opens the device, compiles its kernels where they are not kept yet, and tries the cache. Ends
/// with 3 where something asked for is not there.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    device: DeviceOption,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What there may be beside the CPU.
const ACCELERATOR: &str = "cuda";

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    /// What.
    what: String,
    state: State,
    /// How it is, or what is wrong and what to do.
    said: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// Not there, and not asked for.
    Absent,
    /// Not as it should be.
    Bad,
}

/// Looks and prints; gives the exit code.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let store = arguments.cache.open()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut findings = vec![
        found(
            "posttrain",
            format!(
                "{}, for {} on {}",
                env!("CARGO_PKG_VERSION"),
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
        ),
        found("threads", threads.to_string()),
    ];
    findings.extend(device("cpu", Ok(Device::Host), State::Bad));
    let asked = arguments.device.device(&store, None);
    findings.extend(match asked {
        // One that was not asked for may be absent.
        Ok(Device::Host) => {
            let accelerator = DeviceOption::of(ACCELERATOR.parse().expect("it is a device's name"));
            device(ACCELERATOR, accelerator.device(&store, None), State::Absent)
        }
        Err(error) if kind_of(&error) == Kind::User => return Err(error),
        asked => {
            let name = asked.as_ref().map_or(ACCELERATOR.into(), Device::to_string);
            device(&name, asked, State::Bad)
        }
    });
    findings.push(match try_to_write(&store) {
        Ok(()) => found("cache", store.root().display().to_string()),
        Err(error) => {
            Finding { what: "cache".into(), state: State::Bad, said: format!("{error:#}") }
        }
    });
    findings.push(match Settings::from_environment() {
        Ok(Settings { cache, endpoint, token, offline }) => {
            let (token, offline) = (
                if token.is_some() { "with a token" } else { "without a token" },
                if offline { ", offline" } else { "" },
            );
            found("hub", format!("{endpoint} {token}{offline}, kept in {}", cache.display()))
        }
        Err(error) => Finding { what: "hub".into(), state: State::Bad, said: format!("{error:#}") },
    });
    if arguments.json {
        print_json(&findings)?;
    } else {
        let word = |state| match state {
            State::Ok => "ok",
            State::Absent => "-",
            State::Bad => "BAD",
        };
        let row = |finding: &Finding| {
            vec![
                word(finding.state).to_owned(),
                finding.what.clone(),
                finding.said.replace('\n', "\n     "),
            ]
        };
        print(&columns(&findings.iter().map(row).collect::<Vec<_>>()))?;
    }
    let bad = findings.iter().any(|finding| finding.state == State::Bad);
    Ok(if bad { ExitCode::from(Kind::Environment.exit_code()) } else { ExitCode::SUCCESS })
}

fn found(what: &str, said: String) -> Finding {
    Finding { what: what.into(), state: State::Ok, said }
}

/// What a device says of itself, or why it cannot be used, which is `otherwise`.
fn device(name: &str, device: Result<Device>, otherwise: State) -> Vec<Finding> {
    match device.and_then(|device| device.facts()) {
        Ok(facts) => {
            let memory = facts.free.map(|free| ("memory", format!("{} free", Bytes(free))));
            facts
                .lines
                .into_iter()
                .chain(memory)
                .map(|(what, said)| found(&format!("{name} {what}"), said))
                .collect()
        }
        Err(error) => {
            // A bug is one, whatever device was named.
            let state = if kind_of(&error) == Kind::Bug { State::Bad } else { otherwise };
            vec![Finding { what: name.into(), state, said: format!("{error:#}") }]
        }
    }
}

/// Writes a file where artefacts go, and takes it away again.
fn try_to_write(store: &crate::dag::store::Store) -> Result<()> {
    drop(store.begin()?);
    let path = store.root().join("doctor");
    fs::write_atomic(&path, b"written by posttrain doctor\n")?;
    fs::remove_all(&path)
}

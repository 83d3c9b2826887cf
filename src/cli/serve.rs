//! `serve`: a model behind OpenAI's API.

use std::net::TcpListener;
use std::path::Path;

use clap::Args;

use super::common::{DeviceAndDtype, print};
use super::fetch::{Manner, Speaker};
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::dag::stop::Stop;
use crate::device::{Precision, Task};
use crate::error::{Context, Failure, Kind, Result, environment, user};
use crate::hub;
use crate::inference::{Reader, Subject};
use crate::sample::Limits;
use crate::serve::{self, Access, Options};

/// Serve a language model by OpenAI's API: completions and chat completions, with streaming
///
/// The same request has the same answer, whatever else is asked at the same time; without a `seed`
/// it is 0. Ends on Ctrl-C or SIGTERM once the answers that have begun are complete.
#[derive(Args)]
pub struct Arguments {
    /// The model: a folder in the Hugging Face layout, or hub:owner/name@revision
    model: String,
    /// The address to listen on; all that can reach it may ask, with --api-key-env those who have
    /// the key
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port; 0 takes a free one, which is printed
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// The environment variable with the key that requests must bring
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// A name, beside localhost, that clients may ask this server by (in `Host`, with any port);
    /// may be repeated. With it, or on a loopback address, others are answered 403
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// An origin (http://localhost:3000) whose pages may ask from a browser; pages of others are
    /// answered 403; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// The model's name in requests [default: its folder's]
    #[arg(long)]
    name: Option<String>,
    /// Texts at work at a time; no text depends on it
    #[arg(long, value_name = "N", default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Requests that may wait; more are answered 429
    #[arg(long, value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..))]
    queue: u32,
    #[command(flatten)]
    device: DeviceAndDtype,
}

/// Serves.
pub fn main(arguments: &Arguments) -> Result<()> {
    let api_key = arguments.api_key_env.as_deref().map(key).transpose()?;
    let stop = Stop::on_signals()?;
    let mut speaker = Speaker::new(Manner::Text);
    let folder = hub::resolve(&arguments.model, &mut |progress| speaker.say(progress))?;
    drop(speaker);
    let reader = super::common::reader(&folder)?;
    serve::check(&reader)?;
    let address = (arguments.host.as_str(), arguments.port);
    let listener = TcpListener::bind(address).map_err(|error| {
        environment(format!("cannot listen on {}:{}: {error}", address.0, address.1))
            .hint("choose another --port, or 0 for a free one")
    })?;

    let (device, precision) = (arguments.device.alone()?, Precision::Single);
    let sizes = device.sizes(precision);
    let rows = arguments.batch_size as usize;
    let within = Limits::within(&reader.spec, device.cache_budget()?, sizes.stored);
    let limits = Limits { rows, positions: within.positions.min(rows * reader.spec.context) };
    let name = reader.name().to_string();
    let free = device.free_memory()?;
    serve::memory(&Counting::new(sizes, free), &reader.spec, limits).check(
        &name,
        free,
        "a smaller --batch-size takes less",
    )?;

    let name = arguments.name.clone().unwrap_or_else(|| name_of(&arguments.model, &folder));
    let bound = listener.local_addr().context("cannot tell the port")?;
    let access =
        Access::new(&arguments.host, bound, &arguments.allow_host, &arguments.allow_origin);
    let options = Options { name, api_key, access, queue: arguments.queue as usize, limits };
    let port = bound.port();
    let place = format!("http://{}:{port}/v1", arguments.host);
    device.run(precision, Serve { reader, listener, options, place, stop })
}

/// The key that a variable holds.
fn key(variable: &str) -> Result<String> {
    let value = std::env::var(variable)
        .ok()
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty());
    Ok(value.ok_or_else(|| {
        user(format!("the environment variable {variable} holds no key"))
            .hint("set it, or leave --api-key-env out")
    })?)
}

/// What a model is called by default: its name in the hub, else its folder's.
fn name_of(model: &str, folder: &Path) -> String {
    let last = || std::path::absolute(folder).ok()?.file_name()?.to_str().map(str::to_owned);
    match model.strip_prefix("hub:") {
        Some(name) => name.split('@').next().unwrap_or(name).to_owned(),
        None => last().unwrap_or_else(|| "model".into()),
    }
}

struct Serve {
    reader: Reader,
    listener: TcpListener,
    options: Options,
    place: String,
    stop: Stop,
}

impl Task for Serve {
    type Output = Result<()>;

    fn run<B: Backend>(self, b: B) -> Result<()> {
        let subject = Subject::load(b, Precision::Single, self.reader)?;
        print(&format!("`{}` is served at {}\n", self.options.name, self.place))?;
        serve::serve(&subject, &self.listener, &self.options, &|| self.stop.requested())?;
        Err(Failure::new(
            Kind::Interrupted,
            "stopped on request; answers that had begun are complete",
        )
        .into())
    }
}

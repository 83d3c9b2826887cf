//! A language model as a server that speaks OpenAI's API: `/v1/models`, `/v1/completions`,
//! `/v1/chat/completions`. Uses no arguments and prints nothing.
//!
//! | module | what it is |
//! |---|---|
//! | [`http`] | one connection: requests in, answers out |
//! | [`api`] | what the API's objects mean |
//! | [`text`] | tokens to text as it grows |
//! | [`access`] | which names and pages may ask |
//!
//! 1. The back end works on the thread that [`serve`] is called on; each connection has a
//!    separate thread, which sends orders to it.
//! 2. Sequences of all requests share the batch, join and leave it between steps, and change
//!    nothing for each other.
//! 3. An order waits in a queue of bounded length; where that is full, the answer is 429. A client
//!    that has left takes its order with it.
//! 4. A page in a browser may not ask unless its origin is allowed, nor may a name that a foreign
//!    page was given for this address ([`Access`]).
//! 5. Told to stop, it takes no connection more and finishes what it has begun, for [`GRACE`] at
//!    most.

pub mod access;
pub mod api;
pub mod http;
pub mod text;

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{
    self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, TrySendError,
};
use std::thread::Builder;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

pub use self::access::Access;
use self::api::{Answer, Ask, Kind, Refused};
use self::http::{Connection, Refusal, Request, TICK};
use self::text::Text;
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::error::{Context, Result, no_thread, user};
use crate::inference::{Reader, Subject};
use crate::model::memory::{Memory, model};
use crate::model::params::HeadKind;
use crate::model::spec::Spec;
use crate::sample::continuous::{ContinuousBatch, GenerationRequest, TokenEvent, can_fit};
use crate::sample::{Limits, footprint};

/// How long answers that have begun may take once the server is to stop.
pub const GRACE: Duration = Duration::from_secs(10);
/// Connections at a time.
const CONNECTIONS: usize = 256;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model's name in requests.
    pub name: String,
    /// What a request must bring as its bearer token.
    pub api_key: Option<String>,
    /// Who may ask by which name.
    pub access: Access,
    /// Requests that may wait.
    pub queue: usize,
    /// How much is done at a time.
    pub limits: Limits,
}

/// What serving takes of the device, counted on `b`.
pub fn memory(b: &Counting, spec: &Spec, limits: Limits) -> Memory {
    let model = model(b, spec, HeadKind::Language);
    footprint::serving(b, &model, limits);
    Memory::of(b, Memory::default())
}

/// Refuses a model that writes nothing, or has no tokenizer.
pub fn check(reader: &Reader) -> Result<()> {
    if !matches!(reader.head, HeadKind::Language | HeadKind::LanguageAndValue) {
        return Err(user("this model has no language head, so it writes nothing").into());
    }
    reader.tokenizer().map(drop)
}

/// A request on its way to the engine.
struct Job {
    order: GenerationRequest,
    /// Where tokens go. Once it is closed, the client is served, or gone.
    events: Sender<TokenEvent>,
}

/// What connections share.
struct Shared<'a> {
    reader: &'a Reader,
    options: &'a Options,
    /// Asks whether to stop.
    stop: &'a (dyn Fn() -> bool + Sync),
    /// The engine has ended.
    ended: AtomicBool,
    requests: AtomicU64,
    connections: AtomicUsize,
}

impl Shared<'_> {
    fn is_over(&self) -> bool {
        self.ended.load(Ordering::SeqCst) || (self.stop)()
    }
}

/// Serves until `stop` says so.
pub fn serve<B: Backend>(
    subject: &Subject<B>,
    listener: &TcpListener,
    options: &Options,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    listener.set_nonblocking(true).context("cannot listen")?;
    let Subject { b, model, reader, .. } = subject;
    let (requests, connections) = (AtomicU64::new(1), AtomicUsize::new(0));
    let shared =
        Shared { reader, options, stop, ended: AtomicBool::new(false), requests, connections };
    let (sender, jobs) = mpsc::sync_channel(options.queue);
    std::thread::scope(|scope| {
        let shared = &shared;
        let accept = move || {
            while !shared.is_over() {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (sender, other) = (sender.clone(), stream.try_clone());
                        shared.connections.fetch_add(1, Ordering::SeqCst);
                        let attended = Builder::new().spawn_scoped(scope, move || {
                            attend(shared, stream, &sender);
                            shared.connections.fetch_sub(1, Ordering::SeqCst);
                        });
                        if attended.is_err() {
                            shared.connections.fetch_sub(1, Ordering::SeqCst);
                            turn_away(other, "the server cannot start a thread for this");
                        }
                    }
                    // No client waits, or too many files are open: look again later.
                    Err(_) => std::thread::sleep(TICK / 10),
                }
            }
        };
        if let Err(error) = Builder::new().spawn_scoped(scope, accept) {
            return Err(no_thread("a thread", error).into());
        }
        // However the engine ends, connections must not wait for it.
        let _ended = OnDrop(|| shared.ended.store(true, Ordering::SeqCst));
        work(&mut ContinuousBatch::within(b, model, options.limits), &jobs);
        Ok(())
    })
}

/// Answers a connection that cannot be served with 503.
fn turn_away(stream: std::io::Result<TcpStream>, why: &str) {
    if let Ok(mut connection) = stream.and_then(Connection::new) {
        connection.close();
        let _ = connection.answer(503, &Refused::new(503, why).body());
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The engine: admits jobs where there is room, in their order, and steps what is at work, until
/// no job can be sent any more.
fn work<B: Backend>(batch: &mut ContinuousBatch<'_, B>, jobs: &Receiver<Job>) {
    let (mut listeners, mut waiting, mut number) = (Listeners::default(), None, 0);
    loop {
        loop {
            let job: Job = match waiting.take() {
                Some(job) => job,
                None if batch.rows() == 0 => {
                    debug_assert_eq!(listeners.count(), 0, "listeners without an order at work");
                    match jobs.recv() {
                        Ok(job) => job,
                        Err(_) => return,
                    }
                }
                None => match jobs.try_recv() {
                    Ok(job) => job,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                },
            };
            if !batch.has_room(&job.order) {
                waiting = Some(job);
                break;
            }
            number += 1;
            listeners.add(number, job.events, job.order.samples);
            batch.admit(number, job.order, &mut |event| listeners.tell(event));
        }
        batch.step(&mut |event| listeners.tell(event));
    }
}

/// Where tokens of orders at work go, and how many samples of each still go on.
#[derive(Default)]
struct Listeners(BTreeMap<u64, (Sender<TokenEvent>, usize)>);

impl Listeners {
    fn add(&mut self, order: u64, events: Sender<TokenEvent>, samples: usize) {
        self.0.insert(order, (events, samples));
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    /// Passes a token on, and removes an order whose samples have all ended or whose client has
    /// disconnected. `Break` stops the sample: its client has disconnected.
    fn tell(&mut self, event: TokenEvent) -> ControlFlow<()> {
        let Some((events, going)) = self.0.get_mut(&event.request) else {
            return ControlFlow::Break(());
        };
        let unheard = events.send(event).is_err();
        *going -= usize::from(event.last);
        if unheard || *going == 0 {
            self.0.remove(&event.request);
        }
        if unheard { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// One connection, to its end.
fn attend(shared: &Shared<'_>, stream: TcpStream, jobs: &SyncSender<Job>) {
    if shared.connections.load(Ordering::SeqCst) > CONNECTIONS {
        return turn_away(Ok(stream), "there are too many connections");
    }
    let Ok(mut connection) = Connection::new(stream) else { return };
    loop {
        let done = match connection.read(&|| shared.is_over()) {
            Ok(request) => answer(shared, &mut connection, &request, jobs),
            Err(Refusal::Over) => return,
            Err(Refusal::Status(status, why)) => {
                let _ = connection.answer(status, &Refused::new(status, why).body());
                return connection.linger();
            }
        };
        if done.is_err() {
            return;
        }
    }
}

/// Answers a request. An error is the connection's, which is of no use any more.
fn answer(
    shared: &Shared<'_>,
    connection: &mut Connection,
    request: &Request,
    jobs: &SyncSender<Job>,
) -> std::io::Result<()> {
    let refuse = |connection: &mut Connection, refused: Refused| {
        connection.answer(refused.status, &refused.body())
    };
    connection.allow(None);
    if let Err(why) =
        shared.options.access.check(request.host.as_deref(), request.origin.as_deref())
    {
        return refuse(connection, Refused::new(403, why));
    }
    connection.allow(request.origin.clone());
    if request.method == "OPTIONS" && request.origin.is_some() {
        return connection.answer_preflight();
    }
    if let Some(key) = &shared.options.api_key {
        let brought =
            request.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
        // Hashes, so that how long the comparison takes says nothing of the key.
        if brought.map(|brought| blake3::hash(brought.as_bytes()))
            != Some(blake3::hash(key.as_bytes()))
        {
            return refuse(connection, Refused::new(401, "the API key is missing or wrong"));
        }
    }
    let name = &shared.options.name;
    let model = || json!({"id": name, "object": "model", "created": 0, "owned_by": "posttrain"});
    let kind = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v1/models") => {
            return connection.answer(200, &json!({"object": "list", "data": [model()]}));
        }
        ("GET", path) if path.strip_prefix("/v1/models/") == Some(name) => {
            return connection.answer(200, &model());
        }
        ("POST", "/v1/completions") => Kind::Completion,
        ("POST", "/v1/chat/completions") => Kind::Chat,
        (_, "/v1/models" | "/v1/completions" | "/v1/chat/completions") => {
            return refuse(
                connection,
                Refused::new(405, format!("{} has no {}", request.path, request.method)),
            );
        }
        (_, path) => {
            return refuse(connection, Refused::new(404, format!("there is nothing at {path}")));
        }
    };
    let ask = match api::ask(kind, &request.body, name, shared.reader) {
        Ok(ask) => ask,
        Err(refused) => return refuse(connection, refused),
    };
    if !can_fit(&ask.order, shared.reader.spec.context, shared.options.limits) {
        return refuse(
            connection,
            Refused::new(
                400,
                "the tokens of these texts are more than this server holds at a time",
            ),
        );
    }
    let (events, heard) = mpsc::channel();
    match jobs.try_send(Job { order: ask.order.clone(), events }) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => {
            return refuse(
                connection,
                Refused::new(429, "too many requests are waiting; try again"),
            );
        }
        Err(TrySendError::Disconnected(_)) => {
            return refuse(connection, Refused::new(503, "the server is about to end"));
        }
    }
    let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    let id = format!("{prefix}-{}", shared.requests.fetch_add(1, Ordering::SeqCst));
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    write(shared, connection, &Answer { ask: &ask, id, created, model: name }, &heard)
}

/// Listens to the engine and writes what comes of it.
fn write(
    shared: &Shared<'_>,
    connection: &mut Connection,
    answer: &Answer<'_>,
    events: &Receiver<TokenEvent>,
) -> std::io::Result<()> {
    let Ask { order, stops, stream, .. } = answer.ask;
    let tokenizer = shared.reader.tokenizer().expect("it was asked for its ends");
    let mut texts: Vec<Text<'_>> =
        (0..order.samples).map(|_| Text::new(tokenizer, &order.prompt, stops)).collect();
    let failed = |connection: &mut Connection, why: &str| {
        connection.close();
        match stream {
            // What has begun cannot become an error; a connection that breaks off is none that
            // has ended.
            true => connection
                .event(&Refused::new(500, why).body().to_string())
                .and(Err(std::io::ErrorKind::ConnectionAborted.into())),
            false => connection.answer(500, &Refused::new(500, why).body()),
        }
    };
    if *stream {
        connection.begin_events()?;
    }
    let (mut looked, mut ends_at) = (Instant::now(), None);
    while texts.iter().any(|text| text.finish.is_none()) {
        if looked.elapsed() >= TICK {
            looked = Instant::now();
            if connection.is_gone() {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            if shared.is_over() && *ends_at.get_or_insert(looked + GRACE) <= looked {
                return failed(connection, "the server ends");
            }
        }
        let drawn = match events.recv_timeout(TICK) {
            Ok(drawn) => drawn,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                return failed(connection, "the model has failed");
            }
        };
        if drawn.logprob.is_nan() {
            return failed(
                connection,
                "the model's logits are not finite: its weights are damaged, or too large for this \
                 precision",
            );
        }
        let text = &mut texts[drawn.sample];
        let (first, over) = (text.tokens.is_empty(), text.finish.is_some());
        if text.push(drawn.token, drawn.logprob, drawn.last).is_err() {
            return failed(connection, "a token has no text");
        }
        if *stream && !over {
            let finish = text.finish;
            let piece = text.next_piece();
            if first || !piece.is_empty() || finish.is_some() {
                connection.event(&answer.piece(drawn.sample, piece, first, finish).to_string())?;
            }
        }
    }
    if !stream {
        return connection.answer(200, &answer.whole(&texts));
    }
    if let Some(last) = answer.last_piece(&texts) {
        connection.event(&last.to_string())?;
    }
    connection.event("[DONE]")?;
    connection.end_events()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_forgotten_with_the_last_sample_of_its_order_or_once_it_is_gone() {
        let mut listeners = Listeners::default();
        let heard: Vec<Receiver<TokenEvent>> = (0..3)
            .map(|order| {
                let (events, heard) = mpsc::channel();
                listeners.add(order, events, 2);
                heard
            })
            .collect();
        let mut goes_on = |request, sample, last| {
            let event = TokenEvent { request, sample, token: 1, logprob: -1.0, last };
            (listeners.tell(event).is_continue(), listeners.count())
        };
        for event in [(0, 0, true), (0, 1, false), (1, 0, false), (2, 0, false)] {
            assert_eq!(goes_on(event.0, event.1, event.2), (true, 3));
        }
        assert_eq!(goes_on(0, 1, true), (true, 2));
        assert_eq!(heard[0].iter().count(), 3, "the sender has gone with it");
        drop(heard);
        assert_eq!(goes_on(1, 0, false), (false, 1));
        assert_eq!(goes_on(1, 1, false), (false, 1));
        assert_eq!(goes_on(2, 0, true), (false, 0));
    }
}

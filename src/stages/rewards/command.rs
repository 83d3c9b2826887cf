//! A reward that a program of the user's computes: it is asked in lines of JSON and answers in
//! lines, and runs as long as the stage does.
//!
//! 1. Each response is a line: `split`, `id`, `prompt`, `response`, `ended`, and `reference`, the
//!    row's completion. The answer to it is a line `{"score": NUMBER}`, in the same order, flushed
//!    at once or after a batch; `null` says that the reward does not apply to this response.
//! 2. A program that ends is started again, and is asked what it has not answered. One that ends a
//!    second time without an answer in between is an error.
//! 3. A line that answers nothing is an error, at the latest when the stage ends, before it makes
//!    anything.
//! 4. It is given arguments, artefacts, files and environment as a stage `command` gives them
//!    (`program.rs`): a script named under `files` is in the stage's key by its bytes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::dag::context::Context;
use crate::error::{Context as _, Failure, Result, user};
use crate::fs;
use crate::json::{self, Json};
use crate::reference::{AnyRef, Input};
use crate::stages::program::{NONE_GATHERED, Program};

/// How often a request to stop is looked for while the program computes.
const TICK: Duration = Duration::from_millis(20);
/// How long the program may take to end after its input has.
const GRACE: Duration = Duration::from_secs(5);
/// What an answer looks like.
const HINT: &str = "expected a line {\"score\": NUMBER} for each line that the program was given, \
    in the same order; null where the reward does not apply";

/// A program that scores responses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program and its arguments.
    pub run: Vec<String>,
    /// Artefacts of other stages, by the name under which the program finds their paths.
    #[serde(default)]
    pub inputs: BTreeMap<String, AnyRef>,
    /// Files and folders from outside, by the name under which the program finds their paths.
    #[serde(default)]
    pub files: BTreeMap<String, Input>,
    /// Further environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl Command {
    /// What is run.
    pub(super) fn program(&self) -> Program<'_> {
        let Command { run, inputs, files, env } = self;
        Program { run, inputs, gather: &NONE_GATHERED, files, env, sandbox: false }
    }
}

/// A response as the program reads it.
#[derive(Serialize)]
pub(super) struct Asked<'a> {
    pub(super) split: &'a str,
    pub(super) id: &'a str,
    pub(super) prompt: &'a str,
    pub(super) response: &'a str,
    pub(super) ended: bool,
    pub(super) reference: &'a str,
}

/// The program of a stage, started when it is first asked.
pub(super) struct Server<'a> {
    program: Program<'a>,
    folder: PathBuf,
    running: Option<Running>,
}

/// A process with what it prints. It ends with this.
struct Running {
    child: Child,
    lines: Receiver<std::io::Result<Vec<u8>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let asked = Instant::now();
        while asked.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // What cannot be killed or waited for has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'a> Server<'a> {
    pub(super) fn new(program: Program<'a>, context: &Context, name: &str) -> Result<Self> {
        let folder = context.checkpoints().join("rewards").join(name);
        fs::create_dir_all(&folder)?;
        Ok(Server { program, folder, running: None })
    }

    /// A score for each of `asked`; `None` where the reward does not apply.
    ///
    /// # Errors
    /// The user's: an answer that is no finite number or null, with its line and row; a program
    /// that ends without answering. The request to stop.
    pub(super) fn scores(
        &mut self,
        context: &Context,
        asked: &[Asked<'_>],
    ) -> Result<Vec<Option<f64>>> {
        let mut scores: Vec<Option<f64>> = Vec::with_capacity(asked.len());
        let mut has_failed = false;
        while scores.len() < asked.len() {
            let before = scores.len();
            let running = match &mut self.running {
                Some(running) => running,
                none => none.insert(Running::start(&self.program, &self.folder)?),
            };
            match running.ask(context, &self.program.run[0], asked, &mut scores)? {
                Ended::Answered => has_failed = false,
                Ended::Early => {
                    let status = self.running.take().map(Running::status).transpose()?;
                    let status = status.unwrap_or_default();
                    has_failed = has_failed && scores.len() == before;
                    if has_failed {
                        return Err(ended_twice(context, &self.program.run[0], &status).into());
                    }
                    context.warn(format!(
                        "`{}` ended ({status}) with {} of {} responses unscored: it is started \
                         again",
                        self.program.run[0],
                        asked.len() - scores.len(),
                        asked.len()
                    ));
                    has_failed = true;
                }
            }
        }
        Ok(scores)
    }

    /// Ends the program, which is asked nothing more.
    ///
    /// # Errors
    /// The user's: lines that answer nothing, of which one before may have been taken for the
    /// answer to another response. The request to stop.
    pub(super) fn finish(&mut self, context: &Context) -> Result<()> {
        match self.running.take() {
            Some(running) => running.finish(context, &self.program.run[0]),
            None => Ok(()),
        }
    }
}

/// How a round of questions ended.
enum Ended {
    /// All are answered.
    Answered,
    /// The program ended first.
    Early,
}

impl Running {
    fn start(program: &Program<'_>, folder: &std::path::Path) -> Result<Self> {
        let mut child = program.start(folder)?;
        let output = child.stdout.take().context("the program's output is a pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = Vec::new();
                let read = match output.read_until(b'\n', &mut line) {
                    Ok(0) => return,
                    read => read.map(|_| line),
                };
                let has_failed = read.is_err();
                if sender.send(read).is_err() || has_failed {
                    return;
                }
            }
        });
        Ok(Running { child, lines })
    }

    /// Ends it, and refuses a line that it still prints: nothing was asked that it would answer.
    fn finish(mut self, context: &Context, program: &str) -> Result<()> {
        drop(self.child.stdin.take());
        let since = Instant::now();
        while since.elapsed() < GRACE {
            match self.lines.recv_timeout(TICK) {
                Ok(line) => {
                    let line = line.context("cannot read what the program prints")?;
                    return Err(too_many(program, &line).into());
                }
                Err(RecvTimeoutError::Timeout) if context.stop_requested() => {
                    return context.interrupted();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    /// Its exit status, in words, when it has ended or has closed its output.
    fn status(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let since = Instant::now();
        loop {
            match self.child.try_wait().context("cannot wait for the program")? {
                Some(status) => return Ok(status.to_string()),
                None if since.elapsed() > GRACE => return Ok("its output is closed".to_owned()),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Asks what `scores` does not hold yet, and adds the answers.
    fn ask(
        &mut self,
        context: &Context,
        program: &str,
        asked: &[Asked<'_>],
        scores: &mut Vec<Option<f64>>,
    ) -> Result<Ended> {
        let mut text = Vec::new();
        for asked in &asked[scores.len()..] {
            serde_json::to_writer(&mut text, asked)?;
            text.push(b'\n');
        }
        if let Ok(Ok(line)) = self.lines.try_recv() {
            return Err(too_many(program, &line).into());
        }
        let Some(mut input) = self.child.stdin.take() else { return Ok(Ended::Early) };
        // A program may answer before it has read everything: a pipe that is full on both sides
        // would wait for ever.
        let writer = std::thread::spawn(move || {
            let written = input.write_all(&text).and_then(|()| input.flush());
            written.map(|()| input)
        });
        while scores.len() < asked.len() {
            let line = match self.lines.recv_timeout(TICK) {
                Ok(line) => line.context("cannot read what the program prints")?,
                Err(RecvTimeoutError::Timeout) if context.stop_requested() => {
                    self.child.kill().context("cannot stop the program")?;
                    return context.interrupted();
                }
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Early),
            };
            let row = &asked[scores.len()];
            scores.push(score(&line).map_err(|error| {
                user(format!(
                    "line {} that `{program}` printed of these responses (row `{}` of split \
                     `{}`): {}",
                    scores.len() + 1,
                    row.id,
                    row.split,
                    error.message
                ))
                .hint(HINT)
            })?);
        }
        while !writer.is_finished() {
            if context.stop_requested() {
                self.child.kill().context("cannot stop the program")?;
                return context.interrupted();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Ok(Ok(input)) = writer.join() {
            self.child.stdin = Some(input);
        }
        Ok(Ended::Answered)
    }
}

/// The score of an answer.
fn score(line: &[u8]) -> Result<Option<f64>, Failure> {
    let text = std::str::from_utf8(line).map_err(|_| user("it is not UTF-8"))?.trim_end();
    let read = json::parse(text).map_err(|_| user(format!("it is no JSON: `{}`", cut(text))))?;
    let Json::Object(fields) = &read else {
        return Err(user(format!("it is {}, expected an object", read.what())));
    };
    if let Some(other) = fields.keys().find(|name| *name != "score") {
        return Err(user(format!("it has a field `{other}`, expected `score` alone")));
    }
    match fields.get("score") {
        None => Err(user("it has no field `score`")),
        Some(Json::Null) => Ok(None),
        Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => {
                Err(user(format!("`score` is {}, expected a finite number or null", value.what())))
            }
        },
    }
}

/// A line that answers nothing.
fn too_many(program: &str, line: &[u8]) -> Failure {
    let line = cut(String::from_utf8_lossy(line).trim_end());
    user(format!("`{program}` printed a line too many: `{line}`")).hint(HINT)
}

/// The beginning of a line, for an error.
fn cut(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn ended_twice(context: &Context, program: &str, status: &str) -> Failure {
    let lines = context.last_printed();
    let printed = match lines.is_empty() {
        true => "; it printed nothing to its standard error".to_owned(),
        false => format!("; the last that it printed:\n    {}", lines.join("\n    ")),
    };
    user(format!("`{program}` ended twice ({status}) without scoring a response{printed}"))
        .hint("it is to read lines until its standard input ends, and to answer each")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_finite_number_or_null() {
        let read = |line: &str| score(line.as_bytes());
        assert_eq!(read("{\"score\": -1.5}\n").unwrap(), Some(-1.5));
        assert_eq!(read("{\"score\": null}").unwrap(), None);
        for (line, words) in [
            ("", "it is no JSON"),
            ("0.5", "a number, expected an object"),
            ("{}", "no field `score`"),
            ("{\"score\": 1, \"why\": \"\"}", "a field `why`"),
            ("{\"score\": \"1\"}", "expected a finite number or null"),
            ("{\"score\": 1e999}", "expected a finite number or null"),
            ("{\"score\": NaN}", "it is no JSON"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.message.contains(words), "{line}: {}", error.message);
        }
    }
}

//! An endpoint that judges by a rule, counts what it is asked, and fails on request.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What goes wrong with one question.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// This status.
    Status(u16),
    /// The connection ends in the middle of the answer.
    Cut,
    /// Nothing comes for this many milliseconds.
    Silence(u64),
}

/// One question as it came.
#[derive(Clone, Debug)]
pub struct Question {
    pub at: Instant,
    pub key: Option<String>,
    pub body: Value,
}

type Rule = dyn Fn(&str) -> String + Send + Sync;

/// The endpoint. It ends with the process.
#[derive(Clone)]
pub struct Fake {
    port: u16,
    rule: Arc<Rule>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    questions: Arc<Mutex<Vec<Question>>>,
}

impl Fake {
    /// Answers what the rule makes of the message.
    pub fn start(rule: impl Fn(&str) -> String + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake =
            Fake { port, rule: Arc::new(rule), faults: Arc::default(), questions: Arc::default() };
        let own = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        fake
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// The next questions go wrong.
    pub fn fail(&self, faults: &[Fault]) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// Nothing goes wrong any more.
    pub fn faults_done(&self) {
        self.faults.lock().unwrap().clear();
    }

    pub fn asked(&self) -> usize {
        self.questions.lock().unwrap().len()
    }

    /// The questions since this was last asked.
    pub fn questions(&self) -> Vec<Question> {
        std::mem::take(&mut self.questions.lock().unwrap())
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some((key, body)) = request(&mut reader) {
            self.questions.lock().unwrap().push(Question {
                at: Instant::now(),
                key: key.clone(),
                body: body.clone(),
            });
            let fault = self.faults.lock().unwrap().pop_front();
            let text = (self.rule)(body["messages"][0]["content"].as_str().unwrap());
            let usage = json!({"prompt_tokens": 100, "completion_tokens": 7});
            let answer = json!({"choices": [{"message": {"role": "assistant", "content": text}}],
                "usage": usage})
            .to_string();
            let whole = |status: u16, more: &str, body: &str| {
                format!(
                    "HTTP/1.1 {status} Said\r\n{more}Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            };
            let said = match fault {
                // As an endpoint may that repeats what it was given.
                Some(Fault::Status(status)) => {
                    let body =
                        json!({"error": {"message": format!("no, {}", key.unwrap_or_default())}})
                            .to_string();
                    whole(status, if status == 429 { "Retry-After: 0\r\n" } else { "" }, &body)
                }
                Some(Fault::Cut) => {
                    let whole = whole(200, "", &answer);
                    let _ = reader.get_mut().write_all(&whole.as_bytes()[..whole.len() - 9]);
                    return;
                }
                Some(Fault::Silence(millis)) => {
                    std::thread::sleep(Duration::from_millis(millis));
                    return;
                }
                None => whole(200, "", &answer),
            };
            if reader.get_mut().write_all(said.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<(Option<String>, Value)> {
    let (mut key, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                key = Some(value.to_owned())
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap()
            }
            None if line == "\r\n" => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((key, serde_json::from_slice(&body).unwrap()))
}

/// The two texts of a question that shows them between these tags.
pub fn shown<'a>(message: &'a str, tag: &str) -> [&'a str; 2] {
    let (open, close) = (format!("<{tag}>\n"), format!("\n</{tag}>"));
    let mut texts = message.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap());
    [texts.next().unwrap(), texts.next().unwrap()]
}

/// The answer of a judge for whom the longer text is better.
pub fn longer(message: &str) -> String {
    let [first, second] = shown(message, "summary").map(str::len);
    let better = if first > second {
        1
    } else if second > first {
        2
    } else {
        0
    };
    json!({"better": better}).to_string()
}

//! `posttrain serve` on the small model of the stages' fixture, on a real socket.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::stages::fixture::fixture;

/// A chat template that needs nothing but characters.
const TEMPLATE: &str = "{% for message in messages %}{{ message.role }}: \
    {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

/// A running server; it ends with its owner.
pub struct Server {
    pub child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer: status, headers, body.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Server {
    /// Starts it on a free port.
    pub fn start(more: &[&str]) -> Server {
        Self::of(chatty, more)
    }

    /// Starts it on a free port with the model that `make` puts into a folder.
    pub fn of(make: impl FnOnce(&Path), more: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("small");
        make(&model);
        let mut child = Command::new(env!("CARGO_BIN_EXE_posttrain"))
            .args(["serve", model.to_str().unwrap(), "--port", "0"])
            .args(more)
            .current_dir(folder.path())
            .env("JUDGES_KEY", "right")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once("127.0.0.1:").unwrap_or_else(|| panic!("{line}")).1;
        Server { child, port: port.strip_suffix("/v1").unwrap().parse().unwrap(), folder }
    }

    /// The folder of its model.
    pub fn model(&self) -> std::path::PathBuf {
        self.folder.path().join("small")
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// What comes back for these bytes.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_answer(&mut BufReader::new(stream))
    }

    pub fn get(&self, path: &str, headers: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").as_bytes())
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw(post(path, &body.to_string()).as_bytes())
    }

    /// A completion that must succeed.
    pub fn complete(&self, more: Value) -> Value {
        let mut body = json!({"model": "small", "prompt": "no 1 my boss"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.post("/v1/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }
}

/// A request's text.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The fixture's policy with a chat template.
fn chatty(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for entry in std::fs::read_dir(fixture().path("policy")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    std::fs::write(folder.join("chat_template.jinja"), TEMPLATE).unwrap();
}

/// The same with a chat template that is given tools and a variable.
pub fn with_tools(folder: &Path) {
    chatty(folder);
    let template = format!(
        "{{{{ mood }}}}{{% for tool in tools or [] %}}{{{{ tool.function.name }}}} {{% endfor %}}{TEMPLATE}"
    );
    std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
}

/// Reads one answer; pieces are put together.
pub fn read_answer(reader: &mut impl BufRead) -> Answer {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the connection ends: {head}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map(|length| length.parse().unwrap());
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body).unwrap();
        }
        None if head.contains("chunked") => loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut piece = vec![0; size + 2];
            reader.read_exact(&mut piece).unwrap();
            assert!(piece.ends_with(b"\r\n"));
            body.extend(&piece[..size]);
            if size == 0 {
                break;
            }
        },
        None => drop(reader.read_to_end(&mut body).unwrap()),
    }
    Answer { status, head, body: String::from_utf8(body).unwrap() }
}

/// The events of a streamed answer, which must have ended.
pub fn events(answer: &Answer) -> Vec<Value> {
    let mut lines: Vec<&str> =
        answer.body.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert_eq!(lines.pop(), Some("data: [DONE]"));
    lines
        .iter()
        .map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

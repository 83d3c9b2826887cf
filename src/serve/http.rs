//! HTTP/1.1 on one connection: requests in, of bounded size and time, answers out, whole or piece
//! by piece. Uses no path and no model.
//!
//! 1. A request must come with `Content-Length`; pieces (`Transfer-Encoding`) are answered 411.
//! 2. What cannot be read is answered once, and the connection ends: where its next request would
//!    begin is unknown.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Bytes of a request before its body.
pub const HEAD: usize = 16 << 10;
/// Header lines of a request.
pub const HEADERS: usize = 64;
/// Bytes of a body.
pub const BODY: usize = 4 << 20;
/// From a request's first byte to its last.
const WHOLE: Duration = Duration::from_secs(10);
/// How long a connection may say nothing between two requests.
const IDLE: Duration = Duration::from_secs(60);
/// How long a client may take no byte of an answer.
const WRITE: Duration = Duration::from_secs(30);
/// How long a client that was refused in the middle may go on.
const LINGER: Duration = Duration::from_secs(2);
/// How often a connection that waits looks at what else happened.
pub const TICK: Duration = Duration::from_millis(100);

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, without what follows a question mark.
    pub path: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
    /// The value of `Host`: the server that the client means. Without one, it is no browser.
    pub host: Option<String>,
    /// The value of `Origin`: the page of a browser that asks.
    pub origin: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection stays open for another.
    keep_alive: bool,
    /// HTTP/1.1, whose answers may come in pieces.
    pieces: bool,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing more comes, or the server ends: no answer is possible.
    Over,
    /// An answer of this status and text is due.
    Status(u16, &'static str),
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    /// What was read beyond the last request.
    rest: Vec<u8>,
    keep_alive: bool,
    pieces: bool,
    /// The page that may read answers.
    origin: Option<String>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(WRITE))?;
        // An answer in pieces is read as it comes.
        stream.set_nodelay(true)?;
        Ok(Connection { stream, rest: Vec::new(), keep_alive: true, pieces: true, origin: None })
    }

    /// The next request. Between requests `over` is asked again and again whether to end.
    pub fn read(&mut self, over: &dyn Fn() -> bool) -> Result<Request, Refusal> {
        if !self.keep_alive {
            return Err(Refusal::Over);
        }
        // Until a request has been read whole, what is answered is the last thing said.
        self.keep_alive = false;
        let (mut since, mut begun) = (Instant::now(), !self.rest.is_empty());
        let (mut request, length, at) = loop {
            if let Some(parsed) = head(&self.rest)? {
                break parsed;
            }
            if self.rest.len() > HEAD {
                return Err(Refusal::Status(431, "the header of the request is too large"));
            }
            self.more(begun, since, over)?;
            if !begun && !self.rest.is_empty() {
                (since, begun) = (Instant::now(), true);
            }
        };
        self.rest.drain(..at);
        if request.expects_continue() && self.rest.len() < length {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| Refusal::Over)?;
        }
        while self.rest.len() < length {
            self.more(true, since, over)?;
        }
        request.0.body = self.rest.drain(..length).collect();
        (self.keep_alive, self.pieces) = (request.0.keep_alive, request.0.pieces);
        Ok(request.0)
    }

    /// Reads more bytes of a request that has `begun` or not.
    fn more(
        &mut self,
        begun: bool,
        since: Instant,
        over: &dyn Fn() -> bool,
    ) -> Result<(), Refusal> {
        if begun && since.elapsed() > WHOLE {
            return Err(Refusal::Status(408, "the request did not come to an end in time"));
        }
        let mut bytes = [0; 8 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Refusal::Over),
            Ok(count) => {
                self.rest.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            Err(error) if is_pause(&error) => match over() || !begun && since.elapsed() > IDLE {
                true => Err(Refusal::Over),
                false => Ok(()),
            },
            Err(_) => Err(Refusal::Over),
        }
    }

    /// Whether the client has closed the connection.
    pub fn is_gone(&self) -> bool {
        let mut byte = [0];
        let look = || {
            self.stream.set_nonblocking(true)?;
            let seen = self.stream.peek(&mut byte);
            self.stream.set_nonblocking(false)?;
            seen
        };
        match { look }() {
            Ok(count) => count == 0,
            Err(error) => !is_pause(&error),
        }
    }

    /// Lets the page of this origin, if there is one, read the answers that follow.
    pub fn allow(&mut self, origin: Option<String>) {
        self.origin = origin;
    }

    fn allowed(&self) -> String {
        self.origin.as_ref().map_or_else(String::new, |origin| {
            format!("Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n")
        })
    }

    /// Answers a browser that asks what a page may ask.
    pub fn answer_preflight(&mut self) -> std::io::Result<()> {
        let connection = if self.keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 204 No Content\r\n{}Access-Control-Allow-Methods: GET, \
             POST\r\nAccess-Control-Allow-Headers: authorization, content-type\r\nConnection: \
             {connection}\r\n\r\n",
            self.allowed()
        );
        self.send(head.as_bytes())
    }

    /// Answers with JSON.
    pub fn answer(&mut self, status: u16, body: &Value) -> std::io::Result<()> {
        let body = body.to_string();
        let retry = if matches!(status, 429 | 503) { "Retry-After: 1\r\n" } else { "" };
        let connection = if self.keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\n{}{retry}Connection: \
             {connection}\r\nContent-Length: {}\r\n\r\n",
            reason(status),
            self.allowed(),
            body.len()
        );
        self.send(&[head.as_bytes(), body.as_bytes()].concat())
    }

    /// No request is read after this answer.
    pub fn close(&mut self) {
        self.keep_alive = false;
    }

    /// Lets a client that still speaks hear what it was answered: a connection closed over unread
    /// bytes may take the answer with it.
    pub fn linger(&mut self) {
        let since = Instant::now();
        let mut bytes = [0; 8 << 10];
        let _ = self.stream.shutdown(Shutdown::Write);
        while since.elapsed() < LINGER
            && self.stream.read(&mut bytes).map_or_else(|error| is_pause(&error), |count| count > 0)
        {
        }
    }

    /// Begins an answer of server-sent events.
    pub fn begin_events(&mut self) -> std::io::Result<()> {
        self.keep_alive &= self.pieces;
        let pieces = if self.pieces { "Transfer-Encoding: chunked\r\n" } else { "" };
        let connection = if self.keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: \
             no-cache\r\n{}{pieces}Connection: {connection}\r\n\r\n",
            self.allowed()
        );
        self.send(head.as_bytes())
    }

    /// One event.
    pub fn event(&mut self, data: &str) -> std::io::Result<()> {
        let event = format!("data: {data}\n\n");
        match self.pieces {
            true => self.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()),
            false => self.send(event.as_bytes()),
        }
    }

    /// Ends an answer of events.
    pub fn end_events(&mut self) -> std::io::Result<()> {
        if self.pieces { self.send(b"0\r\n\r\n") } else { Ok(()) }
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }
}

/// A request without its body, and whether the client waits for a sign to go on.
struct Head(Request, bool);

impl Head {
    fn expects_continue(&self) -> bool {
        self.1
    }
}

/// The head that bytes begin with, the length of the body after it, and where that begins; `None`
/// where more must come.
fn head(bytes: &[u8]) -> Result<Option<(Head, usize, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let at = match parsed.parse(&bytes[..bytes.len().min(HEAD)]) {
        Ok(httparse::Status::Complete(at)) => at,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::Status(431, "the request has too many headers"));
        }
        Err(_) => return Err(Refusal::Status(400, "this is no HTTP request")),
    };
    let values = |name: &str| {
        let own =
            parsed.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        own.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
            .collect::<Vec<String>>()
    };
    let says = |name: &str, word: &str| {
        values(name).iter().any(|value| value.to_ascii_lowercase().contains(word))
    };
    if !values("transfer-encoding").is_empty() {
        return Err(Refusal::Status(411, "send the body with a Content-Length, not in pieces"));
    }
    let length = match values("content-length").as_slice() {
        [] => 0,
        [one] if one.bytes().all(|byte| byte.is_ascii_digit()) => one.parse().unwrap_or(usize::MAX),
        _ => return Err(Refusal::Status(400, "the Content-Length is no number")),
    };
    if length > BODY {
        return Err(Refusal::Status(413, "the body of the request is too large"));
    }
    let only = |name: &str| match values(name).as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(Refusal::Status(400, "the request has one of its headers twice")),
    };
    let pieces = parsed.version == Some(1);
    let path = parsed.path.unwrap_or_default();
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        authorization: values("authorization").pop(),
        host: only("host")?,
        origin: only("origin")?,
        body: Vec::new(),
        keep_alive: pieces && !says("connection", "close"),
        pieces,
    };
    Ok(Some((Head(request, says("expect", "100-continue")), length, at)))
}

/// Whether nothing came just now, but may come yet.
fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<Refusal> {
        head(text.as_bytes()).err()
    }

    #[test]
    fn a_head_is_read_once_it_is_whole_and_says_how_much_follows() {
        let whole =
            "POST /v1/x?y=1 HTTP/1.1\r\nAUTHORIZATION: Bearer k\r\nContent-length: 12\r\n\r\nbody";
        for cut in 0..whole.len() - 4 {
            assert!(head(&whole.as_bytes()[..cut]).unwrap().is_none(), "{cut}");
        }
        let (Head(request, waits), length, at) = head(whole.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), length, &whole[at..]),
            ("POST", "/v1/x", 12, "body")
        );
        assert_eq!(
            (request.authorization.as_deref(), request.keep_alive, waits),
            (Some("Bearer k"), true, false)
        );
    }

    #[test]
    fn what_cannot_be_read_has_a_status_of_its_own() {
        let status = |text: &str| match refused(text) {
            Some(Refusal::Status(status, _)) => status,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(status("what is this\r\n\r\n"), 400);
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400);
        assert_eq!(
            status("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            400
        );
        assert_eq!(
            status("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
            413
        );
        assert_eq!(
            status(&format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", BODY + 1)),
            413
        );
        assert_eq!(status("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 411);
        assert_eq!(
            status(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1))),
            431
        );
        assert_eq!(refused("GET / HTTP/1.0\r\n\r\n"), None);
    }
}

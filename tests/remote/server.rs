//! A plain HTTP server on a real socket that keeps what is put into it, in memory, and misbehaves
//! on request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The connection ends in the middle of the body.
    Cut,
    /// One byte of the body is another.
    Flip,
    /// This status, and nothing is done.
    Status(u16),
    /// No answer comes, and nothing is done.
    Hang,
}

struct Planned {
    method: &'static str,
    path: String,
    fault: Fault,
    /// How often; forever if `None`.
    times: Option<usize>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: Vec<Planned>,
    requests: Vec<(String, String)>,
    authorization: Option<String>,
}

/// The server. It ends with the process; nothing waits for it.
#[derive(Clone)]
pub struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Starts a server that has nothing.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        server
    }

    /// The address of a remote in it.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/shared", self.port)
    }

    /// From now on only requests with this header `Authorization` are let in.
    pub fn authorize(&self, value: &str) {
        self.state.lock().unwrap().authorization = Some(value.into());
    }

    /// Requests of the method whose path has this part go wrong, so often, or for ever.
    pub fn fail(&self, method: &'static str, path: &str, fault: Fault, times: Option<usize>) {
        let planned = Planned { method, path: path.into(), fault, times };
        self.state.lock().unwrap().faults.push(planned);
    }

    /// Nothing goes wrong from now on.
    pub fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// The requests since this was last asked.
    pub fn requests(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// How many requests of a method have come, since they were last taken.
    pub fn count(&self, method: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|(own, _)| own == method).count()
    }

    /// The paths whose name has this part.
    pub fn paths(&self, part: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.files.keys().filter(|path| path.contains(part)).cloned().collect()
    }

    /// Changes the bytes of what is at each path whose name has this part.
    pub fn change(&self, part: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut state = self.state.lock().unwrap();
        let found = state.files.iter_mut().filter(|(path, _)| path.contains(part));
        assert!(found.map(|(_, bytes)| change(bytes)).count() > 0, "there is no {part}");
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(()) = self.answer(&mut reader) {}
    }

    /// Answers one request; `None` if the connection is over.
    fn answer(&self, reader: &mut BufReader<TcpStream>) -> Option<()> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let (mut length, mut authorization) = (0, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok().filter(|count| *count > 0)?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut state = self.state.lock().unwrap();
        state.requests.push((method.clone(), path.clone()));
        let fault = state
            .faults
            .iter_mut()
            .find(|own| own.method == method && path.contains(&own.path) && own.times != Some(0))
            .map(|own| {
                own.times = own.times.map(|times| times - 1);
                own.fault
            });
        let denied = state.authorization.is_some() && state.authorization != authorization;
        drop(state);
        let fault = if denied { Some(Fault::Status(401)) } else { fault };
        if fault == Some(Fault::Hang) {
            std::thread::sleep(Duration::from_secs(120));
            return None;
        }
        let mut body = vec![0; length];
        if method == "PUT" && fault == Some(Fault::Cut) {
            reader.read_exact(&mut body[..length / 2]).ok()?;
            return None;
        }
        reader.read_exact(&mut body).ok()?;
        let mut state = self.state.lock().unwrap();
        let (status, mut found) = match (fault, method.as_str()) {
            (Some(Fault::Status(status)), _) => (status, b"no".to_vec()),
            (_, "PUT") => {
                state.files.insert(path, body);
                (201, Vec::new())
            }
            (_, "GET" | "HEAD") => match state.files.get(&path) {
                Some(bytes) => (200, bytes.clone()),
                None => (404, Vec::new()),
            },
            _ => (405, Vec::new()),
        };
        drop(state);
        if fault == Some(Fault::Flip)
            && let Some(byte) = found.last_mut()
        {
            *byte ^= 1;
        }
        let stream = reader.get_mut();
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nlast-modified: Tue, 03 Nov 2026 \
             10:00:00 GMT\r\n\r\n",
            found.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        if fault == Some(Fault::Cut) {
            stream.write_all(&found[..found.len() / 2]).ok()?;
            return None;
        }
        stream.write_all(if method == "HEAD" { &[] } else { &found }).ok()
    }
}

//! A hub on a real socket: the part of its API that models and datasets are fetched by, on files in
//! memory, with faults on request. Large files are sent from another host, as the real one does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What goes wrong, once, when a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The connection ends after this many bytes of the body.
    Cut(usize),
    /// One byte of the body is another; lengths are right.
    Flip,
    /// The range is not honoured: all is sent, with status 200.
    Whole,
    /// This status, and nothing else.
    Status(u16),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub host: String,
    /// With the query.
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
}

/// A repository.
#[derive(Clone, Default)]
pub struct Repository {
    /// Branches and tags, with the commit of each.
    pub refs: BTreeMap<String, String>,
    /// Files by commit and path.
    pub commits: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Only the token `hf_right` may see its files.
    pub gated: bool,
    /// Only the token `hf_right` may see that it is there.
    pub private: bool,
    /// The listing has no sizes and no checksums, as on some mirrors.
    pub bare: bool,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    faults: Vec<(String, Fault)>,
    requests: Vec<Request>,
    /// Files of the same host that are none of the hub's, below `plain/`.
    plain: BTreeMap<String, Vec<u8>>,
    down: bool,
}

/// The hub. It ends with the process; nothing waits for it.
#[derive(Clone)]
pub struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
}

/// The checksum of a large file.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Git's checksum of a small file.
pub fn git(bytes: &[u8]) -> String {
    hexadecimal(&Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the hub treats a file as large.
fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".bin") || path.ends_with(".parquet")
}

impl Server {
    /// Starts a hub that holds nothing.
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

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes or adds a repository.
    pub fn with(&self, name: &str, change: impl FnOnce(&mut Repository)) {
        change(self.state.lock().unwrap().repositories.entry(name.to_owned()).or_default());
    }

    /// Commits files to `main`, and gives the commit.
    pub fn commit(&self, name: &str, files: &[(&str, &[u8])]) -> String {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(path, bytes)| (path.to_string(), bytes.to_vec())).collect();
        let commit = git(format!("{name} {files:?}").as_bytes());
        self.with(name, |repository| {
            repository.commits.insert(commit.clone(), files);
            repository.refs.insert("main".into(), commit.clone());
        });
        commit
    }

    /// Puts a file beside the hub, and gives its address.
    pub fn put(&self, path: &str, bytes: &[u8]) -> String {
        self.state.lock().unwrap().plain.insert(path.to_owned(), bytes.to_vec());
        format!("{}/plain/{path}", self.endpoint())
    }

    /// The next request for a file that ends with `path` goes wrong.
    pub fn fail(&self, path: &str, fault: Fault) {
        self.state.lock().unwrap().faults.push((path.to_owned(), fault));
    }

    /// What was to go wrong and has not yet.
    pub fn faults(&self) -> Vec<(String, Fault)> {
        self.state.lock().unwrap().faults.clone()
    }

    /// From now on every connection is closed without a word; or no longer.
    pub fn down(&self, down: bool) {
        self.state.lock().unwrap().down = down;
    }

    /// The requests since this was last asked.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            let mut state = self.state.lock().unwrap();
            if state.down {
                return;
            }
            state.requests.push(request.clone());
            let answer = self.answer(&mut state, &request);
            drop(state);
            let head = request.method == "HEAD";
            let Some(answer) = answer.into_bytes(head) else {
                return;
            };
            if reader.get_mut().write_all(&answer.0).is_err() || answer.1 {
                return;
            }
        }
    }

    fn answer(&self, state: &mut State, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api", "models"] => {
                let wanted = query
                    .split('&')
                    .find_map(|part| part.strip_prefix("search="))
                    .unwrap_or_default();
                let found = state.repositories.iter().filter(|(name, repository)| {
                    name.contains(&wanted[..3]) && !repository.private
                });
                Answer::json(&json!(
                    found.map(|(name, _)| json!({ "id": name })).collect::<Vec<_>>()
                ))
            }
            ["api", "models", owner, name, "refs"] => {
                let refs = &state.repositories[&format!("{owner}/{name}")].refs;
                let (tags, branches): (Vec<_>, Vec<_>) =
                    refs.iter().partition(|(name, _)| name.starts_with('v'));
                let list = |refs: Vec<(&String, &String)>| {
                    refs.iter().map(|(name, _)| json!({ "name": name })).collect::<Vec<_>>()
                };
                Answer::json(
                    &json!({ "branches": list(branches), "tags": list(tags), "converts": [] }),
                )
            }
            ["api", "models", owner, name, "revision", revision] => self.info(
                state,
                request,
                &format!("{owner}/{name}"),
                &revision.replace("%2F", "/"),
                query,
            ),
            ["api", "datasets", owner, name, "revision", revision] => self.info(
                state,
                request,
                &format!("datasets/{owner}/{name}"),
                &revision.replace("%2F", "/"),
                query,
            ),
            ["datasets", owner, name, "resolve", commit, path @ ..] => self.file(
                state,
                request,
                &format!("datasets/{owner}/{name}"),
                commit,
                &path.join("/"),
            ),
            ["plain", path @ ..] => match state.plain.get(&path.join("/")).cloned() {
                Some(bytes) => Answer::file(bytes, request, take_fault(state, &path.join("/"))),
                None => Answer::refusal(404, "", "no such page"),
            },
            ["cdn", digest] => {
                let files = || {
                    state
                        .repositories
                        .values()
                        .flat_map(|repository| repository.commits.values())
                        .flatten()
                };
                let found = files()
                    .find(|(_, bytes)| sha256(bytes) == *digest)
                    .map(|(path, bytes)| (path.clone(), bytes.clone()));
                let (path, bytes) = found.expect("only what was redirected to is asked for");
                Answer::file(bytes, request, take_fault(state, &path))
                    .header("ETag", &format!("\"{digest}\""))
            }
            [owner, name, "resolve", commit, path @ ..] => {
                self.file(state, request, &format!("{owner}/{name}"), commit, &path.join("/"))
            }
            _ => Answer::refusal(404, "", "no such page"),
        }
    }

    fn info(
        &self,
        state: &mut State,
        request: &Request,
        name: &str,
        revision: &str,
        query: &str,
    ) -> Answer {
        if request.token.as_deref() == Some("hf_stale") {
            return Answer::refusal(401, "", "Invalid credentials in Authorization header");
        }
        let right = request.token.as_deref() == Some("hf_right");
        let Some(repository) =
            state.repositories.get(name).filter(|repository| right || !repository.private)
        else {
            return if right {
                Answer::refusal(404, "RepoNotFound", "Repository not found")
            } else {
                Answer::refusal(401, "RepoNotFound", "Invalid username or password.")
            };
        };
        let commit = repository.refs.get(revision).cloned().unwrap_or(revision.to_owned());
        let Some(files) = repository.commits.get(&commit) else {
            return Answer::refusal(404, "RevisionNotFound", "Invalid rev id");
        };
        let sibling = |(path, bytes): (&String, &Vec<u8>)| {
            let mut sibling = json!({ "rfilename": path });
            if query.contains("blobs=true") && !repository.bare {
                sibling["size"] = bytes.len().into();
                sibling["blobId"] = git(bytes).into();
                if is_large(path) {
                    sibling["blobId"] = git(format!("pointer to {path}").as_bytes()).into();
                    sibling["lfs"] =
                        json!({ "sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134 });
                }
            }
            sibling
        };
        let siblings: Vec<Value> = files.iter().map(sibling).collect();
        match take_fault(state, &format!("revision/{revision}")) {
            Some(Fault::Status(status)) => Answer::refusal(status, "", ""),
            _ => Answer::json(
                &json!({ "id": name, "sha": commit, "private": false, "siblings": siblings }),
            ),
        }
    }

    fn file(
        &self,
        state: &mut State,
        request: &Request,
        name: &str,
        commit: &str,
        path: &str,
    ) -> Answer {
        let Some(repository) = state.repositories.get(name) else {
            return Answer::refusal(404, "RepoNotFound", "");
        };
        match (repository.gated, request.token.as_deref()) {
            (true, None) => {
                return Answer::refusal(401, "GatedRepo", "Access to this model is restricted.");
            }
            (true, Some(token)) if token != "hf_right" => {
                return Answer::refusal(403, "GatedRepo", "You are not in the authorized list.");
            }
            _ => {}
        }
        let commit = repository.refs.get(commit).cloned().unwrap_or(commit.to_owned());
        let Some(bytes) =
            repository.commits.get(&commit).and_then(|files| files.get(path)).cloned()
        else {
            return Answer::refusal(404, "EntryNotFound", "Entry not found");
        };
        if is_large(path) {
            let digest = sha256(&bytes);
            // Another name of this host, as the large files are on another.
            let address = format!("http://localhost:{}/cdn/{digest}", self.port);
            return Answer::new(302)
                .header("Location", &address)
                .header("X-Repo-Commit", &commit)
                .header("X-Linked-ETag", &format!("\"{digest}\""))
                .header("X-Linked-Size", &bytes.len().to_string());
        }
        let digest = git(&bytes);
        let fault = take_fault(state, path);
        Answer::file(bytes, request, fault)
            .header("ETag", &format!("\"{digest}\""))
            .header("X-Repo-Commit", &commit)
    }
}

fn take_fault(state: &mut State, path: &str) -> Option<Fault> {
    let at = state.faults.iter().position(|(wanted, _)| path.ends_with(wanted.as_str()))?;
    Some(state.faults.remove(at).1)
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Of the body, only so much is sent.
    cut: Option<usize>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Vec::new(), cut: None }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn json(value: &Value) -> Self {
        Answer { body: value.to_string().into_bytes(), ..Answer::new(200) }
            .header("Content-Type", "application/json")
    }

    fn refusal(status: u16, code: &str, message: &str) -> Self {
        Answer::new(status).header("X-Error-Code", code).header("X-Error-Message", message)
    }

    /// A file from the byte that the request names, with a fault.
    fn file(mut bytes: Vec<u8>, request: &Request, fault: Option<Fault>) -> Self {
        let total = bytes.len();
        let from = request.range.as_ref().map(|range| {
            range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse::<usize>().unwrap()
        });
        let from = from.filter(|_| fault != Some(Fault::Whole));
        if let Some(Fault::Status(status)) = fault {
            return Answer::refusal(status, "", "");
        }
        if from.is_some_and(|from| from >= total) {
            return Answer::refusal(416, "", "");
        }
        if fault == Some(Fault::Flip) {
            bytes[total / 2] ^= 1;
        }
        let cut = if let Some(Fault::Cut(cut)) = fault { Some(cut) } else { None };
        match from {
            None => {
                Answer { body: bytes, cut, ..Answer::new(200) }.header("Accept-Ranges", "bytes")
            }
            Some(from) => {
                let range = format!("bytes {from}-{}/{total}", total - 1);
                Answer { body: bytes.split_off(from), cut, ..Answer::new(206) }
                    .header("Content-Range", &range)
            }
        }
    }

    /// The bytes to send, and whether the connection ends with them.
    fn into_bytes(self, head: bool) -> Option<(Vec<u8>, bool)> {
        let mut bytes =
            format!("HTTP/1.1 {} Said\r\nContent-Length: {}\r\n", self.status, self.body.len())
                .into_bytes();
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        if !head {
            bytes.extend(&self.body[..self.cut.unwrap_or(self.body.len())]);
        }
        Some((bytes, self.cut.is_some()))
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = || -> Option<String> {
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { method, host: String::new(), path, range: None, token: None };
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(": ") else {
            return Some(request);
        };
        match name.to_ascii_lowercase().as_str() {
            "host" => request.host = value.to_owned(),
            "range" => request.range = Some(value.to_owned()),
            "authorization" => {
                request.token = Some(value.strip_prefix("Bearer ").unwrap().to_owned())
            }
            _ => {}
        }
    }
}

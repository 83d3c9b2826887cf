//! A headless Chromium, spoken to over the pipe of its DevTools protocol: messages of JSON, a zero
//! byte after each.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What only a failure waits for.
const LIMIT: Duration = Duration::from_secs(120);

/// A browser with one page.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    last: u64,
    /// Errors and warnings that the page or the browser has told of since the page was opened.
    pub complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

/// Where the browser is, if there is one.
pub fn program() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names
        .iter()
        .flat_map(|name| std::env::split_paths(&paths).map(move |folder| folder.join(name)))
        .find(|path| path.exists())
}

impl Browser {
    pub fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol is on descriptors 3 and 4, which a shell can lay.
        let mut child = Command::new("bash")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "bash"])
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-pipe",
                "--no-first-run",
                "--disable-extensions",
            ])
            .args([
                "--disable-background-networking",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let (sender, messages) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let _ = sender.send(serde_json::from_slice(&message).unwrap());
            }
        });
        let input = child.stdin.take().unwrap();
        let mut browser = Browser {
            child,
            input,
            messages,
            session: String::new(),
            last: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target =
            browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached =
            browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// One command of the protocol and what it gives.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.input.write_all(&[message.to_string().as_bytes(), &[0]].concat()).unwrap();
        loop {
            let answer =
                self.messages.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{method}: no answer"));
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let bad = match event["method"].as_str() {
            Some("Runtime.consoleAPICalled") => {
                ["error", "warning", "assert"].iter().any(|kind| parameters["type"] == *kind)
            }
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => true,
            // A page that is one file asks for nothing but itself and what it carries.
            Some("Network.requestWillBeSent") => {
                let url = parameters["request"]["url"].as_str().unwrap_or_default();
                !["file:", "data:", "blob:", "about:"].iter().any(|scheme| url.starts_with(scheme))
            }
            _ => false,
        };
        if bad {
            self.complaints.push(parameters.to_string());
        }
    }

    /// Opens a file in a window of this width.
    pub fn open(&mut self, page: &Path, width: u32, height: u32, theme: &str) {
        self.complaints.clear();
        let narrow = width < 600;
        let window =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": narrow});
        self.call("Emulation.setDeviceMetricsOverride", window);
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.call("Emulation.setEmulatedMedia", media);
        self.call("Page.navigate", json!({"url": format!("file://{}", page.display())}));
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'");
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        while self.value(expression) != true {
            assert!(start.elapsed() < LIMIT, "in vain: {expression}; {:?}", self.complaints);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The whole page as it looks, in base64.
    pub fn picture(&mut self) -> String {
        let shot = self.call(
            "Page.captureScreenshot",
            json!({"format": "png", "captureBeyondViewport": true}),
        );
        shot["data"].as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

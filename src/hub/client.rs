//! Questions to the hub over HTTP: what is sent, how long an answer is waited for, and which
//! failures are worth another try. Uses neither what is asked nor where answers are kept.

use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, RANGE, RETRY_AFTER};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::settings::Settings;

/// Finding the host and connecting to it take no longer.
const CONNECT: Duration = Duration::from_secs(10);
/// Nothing at all comes for no longer than this.
const SILENCE: Duration = Duration::from_secs(30);
/// After the first failure; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(300);
/// The longest wait between two tries, whatever the hub asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Failures in a row that end a question.
pub const TRIES: u32 = 4;
/// An answer that is read as a whole is not longer.
const LONGEST_ANSWER: u64 = 256 << 20;

/// Why a question got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The hub is not there, breaks off, or is in trouble itself: another try may do.
    Away(Away),
    /// It says no.
    Refused(Refusal),
}

/// A hub that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    /// What happened, without the address.
    pub why: String,
    /// When the hub itself says that it may be asked again.
    pub again_in: Option<Duration>,
}

/// A hub that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `X-Error-Code`: `RepoNotFound`, `RevisionNotFound`, `EntryNotFound`, `GatedRepo`; may be
    /// empty.
    pub code: String,
    /// `X-Error-Message`; may be empty.
    pub message: String,
}

/// A trouble of this kind.
pub fn away(why: impl Into<String>) -> Trouble {
    Trouble::Away(Away { why: why.into(), again_in: None })
}

/// Who asks.
pub struct Client<'a> {
    /// Which hub, as whom.
    pub settings: &'a Settings,
    agent: Agent,
    /// The same, but it does not go where an answer sends it.
    still: Agent,
}

impl<'a> Client<'a> {
    /// A client that has not asked anything yet.
    pub fn new(settings: &'a Settings) -> Self {
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .user_agent(concat!("posttrain/", env!("CARGO_PKG_VERSION")))
                // What proves who asks is for the hub, not for the host that it sends us to.
                .redirect_auth_headers(RedirectAuthHeaders::SameHost)
                .timeout_resolve(Some(CONNECT))
                .timeout_connect(Some(CONNECT))
                .timeout_recv_response(Some(SILENCE))
                .timeout_per_read(Some(SILENCE))
        };
        let still = config().max_redirects(0).max_redirects_will_error(false);
        Client { settings, agent: config().build().into(), still: still.build().into() }
    }

    /// The whole answer to one question, asked again as long as that may help.
    pub fn ask(&self, address: &str) -> Result<Vec<u8>, Trouble> {
        persist(|| {
            let mut response = self.open(address, 0)?;
            response
                .body_mut()
                .with_config()
                .limit(LONGEST_ANSWER)
                .read_to_vec()
                .map_err(|error| away(error.to_string()))
        })
    }

    /// An answer of which only the beginning has been read, from byte `from` of the whole on, if
    /// the hub can do that (status 206).
    pub fn open(&self, address: &str, from: u64) -> Result<Response<Body>, Trouble> {
        // Bytes are counted and resumed: they must come as they are.
        let mut request = self.agent.get(address).header(ACCEPT_ENCODING, "identity");
        if let Some(token) = &self.settings.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| away(error.to_string()))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            _ => Err(trouble(&response)),
        }
    }

    /// How long a file is, if that is said; redirections are followed.
    pub fn length(&self, address: &str) -> Result<Option<u64>, Trouble> {
        let length = |response: Response<Body>| {
            response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
        };
        persist(|| self.open(address, 0)).map(length)
    }

    /// What the hub says of a file without sending it: a header's value by its name.
    pub fn headers(
        &self,
        address: &str,
    ) -> Result<impl Fn(&str) -> Option<String> + use<>, Trouble> {
        let response = persist(|| {
            let mut request = self.still.head(address).header(ACCEPT_ENCODING, "identity");
            if let Some(token) = &self.settings.token {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| away(error.to_string()))?;
            match response.status() {
                status if status.is_success() || status.is_redirection() => Ok(response),
                _ => Err(trouble(&response)),
            }
        })?;
        let headers = response.headers().clone();
        Ok(move |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned()))
    }
}

/// What an answer without success means.
fn trouble(response: &Response<Body>) -> Trouble {
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let status = response.status();
    let passing = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if !passing {
        return Trouble::Refused(Refusal {
            status: status.as_u16(),
            code: header("x-error-code"),
            message: header("x-error-message"),
        });
    }
    let why = match status {
        StatusCode::TOO_MANY_REQUESTS => "it is asked too often (429)".to_owned(),
        _ => format!("it answers {status}"),
    };
    let again_in = header(RETRY_AFTER.as_str()).parse().ok().map(Duration::from_secs);
    Trouble::Away(Away { why, again_in })
}

/// Tries until it works, the hub says no, or it has been away [`TRIES`] times.
fn persist<T>(mut attempt: impl FnMut() -> Result<T, Trouble>) -> Result<T, Trouble> {
    let mut failures = 0;
    loop {
        match attempt() {
            Err(Trouble::Away(away)) if failures + 1 < TRIES => {
                failures += 1;
                wait(failures, &away);
            }
            other => return other,
        }
    }
}

/// Waits after this many failures in a row, at least 1.
pub fn wait(failures: u32, away: &Away) {
    let growing = FIRST_WAIT * 2u32.pow(failures.min(10) - 1);
    std::thread::sleep(away.again_in.unwrap_or(growing).min(LONGEST_WAIT));
}

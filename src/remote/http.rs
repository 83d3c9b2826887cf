//! HTTP requests of the object stores, by the client that the hub is asked with: blocking, on the
//! thread that waits for the answer anyway. Uses nothing of what is asked.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use ureq::http::{Method, Request};

use crate::settings::Secret;

/// Finding the host and connecting to it take no longer.
const CONNECT: Duration = Duration::from_secs(10);
/// An answer that is read as a whole is not longer: a part, an entry or a page of a listing.
pub const LONGEST_ANSWER: u64 = 256 << 20;

/// Makes clients.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Nothing at all comes for no longer than this.
    pub silence: Duration,
    /// The header `Authorization` of every request.
    pub authorization: Option<Secret>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_open = options.get_config_value(&ClientConfigKey::AllowHttp);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .https_only(is_open.as_deref() != Some("true"))
            .user_agent(concat!("posttrain/", env!("CARGO_PKG_VERSION")))
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_resolve(Some(CONNECT.min(self.silence)))
            .timeout_connect(Some(CONNECT.min(self.silence)))
            .timeout_recv_response(Some(self.silence))
            .timeout_per_read(Some(self.silence))
            .timeout_per_write(Some(self.silence));
        let agent: Agent = config.build().into();
        Ok(HttpClient::new(Client { agent, authorization: self.authorization.clone() }))
    }
}

#[derive(Debug)]
struct Client {
    agent: Agent,
    authorization: Option<Secret>,
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        // Bytes are counted and hashed: they must come as they are.
        parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(Secret(authorization)) = &self.authorization {
            let value = HeaderValue::from_str(authorization)
                .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            parts.headers.insert(AUTHORIZATION, value);
        }
        let has_body = matches!(parts.method, Method::PUT | Method::POST) || !body.is_empty();
        let answer = match has_body {
            true => self.agent.run(Request::from_parts(parts, &body[..])),
            false => self.agent.run(Request::from_parts(parts, ())),
        };
        let (parts, mut body) = answer.map_err(failure)?.into_parts();
        let bytes = body.with_config().limit(LONGEST_ANSWER).read_to_vec().map_err(failure)?;
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(bytes)))
    }
}

/// The kind decides whether another try may help.
fn failure(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            HttpErrorKind::Connect
        }
        ureq::Error::Io(_) | ureq::Error::Protocol(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    let source: Box<dyn Error + Send + Sync> = Box::new(error);
    HttpError::new_boxed(kind, source)
}

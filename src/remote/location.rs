//! The object store that an address means, with what the environment says of its cloud, and the
//! place of a remote in it. Asks nothing.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::error::{Result, user};
use crate::http::Connector;
use crate::settings::Settings;

/// Tries after the first.
const RETRIES: usize = 2;

/// An object store, and the folder in it.
pub struct Location {
    pub store: Arc<dyn ObjectStore>,
    pub folder: Path,
}

/// Opens the store that the settings name.
///
/// # Errors
/// The user's, if the address or what the environment says of its cloud makes no sense.
pub fn open(settings: &Settings) -> Result<Location> {
    let (url, silence) = (&settings.url, settings.silence);
    let authorization = settings.authorization.clone();
    let connector = Connector { silence, authorization: None };
    let retry = RetryConfig {
        max_retries: RETRIES,
        retry_timeout: 4 * silence,
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
    };
    // An address with `http:` says itself that it is without TLS.
    let options = ClientOptions::new().with_allow_http(url.scheme() == "http");
    let inside = || {
        Path::from_url_path(url.path())
            .map_err(|error| user(format!("the path of the remote cache {url}: {error}")))
    };
    let wrong = |error: object_store::Error| {
        user(format!("the remote cache {url} cannot be used: {error}"))
            .hint("look at the address, and at the variables of its cloud in the environment")
    };
    Ok(match url.scheme() {
        "s3" => Location {
            store: Arc::new(
                AmazonS3Builder::from_env()
                    .with_url(url.as_str())
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .map_err(wrong)?,
            ),
            folder: inside()?,
        },
        "gs" => Location {
            store: Arc::new(
                GoogleCloudStorageBuilder::from_env()
                    .with_url(url.as_str())
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .map_err(wrong)?,
            ),
            folder: inside()?,
        },
        "az" => Location {
            store: Arc::new(
                MicrosoftAzureBuilder::from_env()
                    .with_url(url.as_str())
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .map_err(wrong)?,
            ),
            folder: inside()?,
        },
        "http" | "https" => Location {
            store: Arc::new(
                HttpBuilder::new()
                    .with_url(url.as_str().trim_end_matches('/'))
                    .with_client_options(options)
                    .with_retry(retry)
                    .with_http_connector(Connector { authorization, ..connector })
                    .build()
                    .map_err(wrong)?,
            ),
            folder: Path::default(),
        },
        // The folder is made when something is written.
        _ => {
            Location { store: Arc::new(LocalFileSystem::new().with_fsync(true)), folder: inside()? }
        }
    })
}

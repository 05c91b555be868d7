//! Key sets behind a URL: fetched over TLS, kept, and fetched again when they are old or a token names a key that is not
//! there. The URL is the configuration's, to the letter; nothing in a token can lead anywhere else.
//!
//! One task for each issuer, so there is never more than one fetch of a set under way, however many tokens wait for it.

use std::{io, path::Path, pin::Pin, sync::Arc, time::Duration};

use http::{Request, StatusCode, Uri, header};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    net::TcpStream,
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    issuer::Issuer,
    keys::{self, FileError},
};
use crate::health::Component;

/// Longest time one fetch may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Largest set, bytes.
const MAX_SET: usize = 1 << 20;
/// How old a set may be before it is fetched again: a key that was taken out is believed no longer than that.
const REFRESH: Duration = Duration::from_secs(300);
/// Shortest time between fetches, whatever tokens name.
const PAUSE: Duration = Duration::from_secs(10);
/// How long keys are believed while no set can be fetched.
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);

/// Where a set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
    path: String,
}

impl Address {
    /// Of an https URL that names a host, and nobody to log in as.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        (uri.scheme_str() == Some("https")).then(|| Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(443),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Fetcher {
    issuer: Arc<Issuer>,
    address: Address,
    tls: Arc<ClientConfig>,
    wanted: Notify,
    state: Mutex<State>,
    /// Counts the fetches that have ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    begun: Option<Instant>,
    running: bool,
    /// Somebody waits for a fetch that has not begun.
    wanted: bool,
}

impl Fetcher {
    /// None for an issuer whose keys come from files alone.
    pub(super) fn new(issuer: &Arc<Issuer>) -> Result<Option<Arc<Self>>, FileError> {
        let config = issuer.config();
        let Some(address) = Address::parse(&config.jwks_url) else { return Ok(None) };
        let (state, ended) = (Mutex::default(), watch::Sender::new(0));
        let tls = Arc::new(tls(&config.jwks_ca_file)?);
        Ok(Some(Arc::new(Self { issuer: issuer.clone(), address, tls, wanted: Notify::new(), state, ended })))
    }

    /// The issuer whose keys these are.
    pub(super) fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Has the set fetched, if that may be now, and completes when it has been tried. Cancel-safe.
    pub(super) fn want(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut ended = self.ended.subscribe();
        let mut state = self.state.lock();
        let due = state.begun.is_none_or(|begun| begun.elapsed() >= PAUSE);
        if !state.running && !due {
            return None;
        }
        if !state.running && !std::mem::replace(&mut state.wanted, true) {
            self.wanted.notify_one();
        }
        drop(state);
        Some(async move {
            // Beyond the fetch's own time, for one that is just beginning.
            drop(timeout(TIMEOUT * 2, ended.changed()).await);
        })
    }

    /// Fetches, now and whenever it is time, for as long as it is polled. `health`: not ready until there are keys.
    pub(super) async fn run(self: Arc<Self>, health: Component) {
        let mut believed_until: Option<Instant> = None;
        let mut retry = Duration::from_secs(1);
        loop {
            {
                let mut state = self.state.lock();
                *state = State { begun: Some(Instant::now()), running: true, wanted: false };
            }
            let fetched = timeout(TIMEOUT, self.fetch()).await.unwrap_or_else(|_| Err("it takes too long".to_owned()));
            let wait = match fetched {
                Ok(keys) => {
                    self.issuer.set_fetched_keys(keys);
                    believed_until = Some(Instant::now() + MAX_STALE);
                    retry = Duration::from_secs(1);
                    health.ready();
                    REFRESH
                }
                Err(problem) => {
                    let issuer = self.issuer.config().issuer.as_str();
                    tracing::warn!(issuer, problem, "the keys of an issuer could not be fetched");
                    if believed_until.is_none_or(|until| Instant::now() >= until) {
                        self.issuer.set_fetched_keys(Vec::new());
                        health.not_ready(format!("the keys of {issuer} could not be fetched: {problem}"));
                    }
                    retry = (retry * 2).min(PAUSE);
                    retry
                }
            };
            self.state.lock().running = false;
            self.ended.send_modify(|count| *count += 1);
            self.until_due(wait).await;
        }
    }

    /// Until the time is over, or somebody waits. A notice of what has been fetched meanwhile is none.
    async fn until_due(&self, wait: Duration) {
        let due = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(due) => return,
                () = self.wanted.notified() => if self.state.lock().wanted { return },
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<super::algorithm::Key>, String> {
        let Address { host, port, path } = &self.address;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| said(&error))?;
        let socket = TcpStream::connect((bare, *port)).await.map_err(|error| said(&error))?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, socket).await.map_err(|error| said(&error))?;
        let (mut http, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
        let request = Request::get(path)
            .header(header::HOST, if *port == 443 { host.clone() } else { format!("{host}:{port}") })
            .header(header::ACCEPT, "application/json")
            .body(String::new())
            .map_err(|error| said(&error))?;
        let exchange = async {
            let response = http.send_request(request).await.map_err(|error| said(&error))?;
            if response.status() != StatusCode::OK {
                return Err(format!("the answer is {}", response.status()));
            }
            whole(response.into_body()).await
        };
        // The connection only carries the exchange; that it has ended says nothing of what was received.
        let carried = async {
            drop(connection.await);
            std::future::pending::<()>().await;
        };
        let set = tokio::select! {
            set = exchange => set?,
            () = carried => return Err("the connection was lost".to_owned()),
        };
        keys::from_set(&set, &self.issuer.config().algorithms).map_err(|problem| format!("what was fetched {problem}"))
    }
}

async fn whole(mut body: Incoming) -> Result<Vec<u8>, String> {
    let mut set = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Some(piece) = frame.data_ref() else { continue };
        if set.len() + piece.len() > MAX_SET {
            return Err(format!("it is larger than {MAX_SET} bytes"));
        }
        set.extend_from_slice(piece);
    }
    Ok(set)
}

fn tls(authorities: &Path) -> Result<ClientConfig, FileError> {
    const KEY: &str = "auth.issuers.jwks_ca_file";
    let mut roots = RootCertStore::empty();
    if authorities.as_os_str().is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    } else {
        let wrong = |problem: String| FileError::new(KEY, authorities, problem);
        let pem = keys::read(KEY, authorities, false)?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(format!("is no PEM: {error}")))?;
            roots.add(certificate).map_err(|error| wrong(format!("has no certificate to trust: {error}")))?;
        }
        if roots.is_empty() {
            return Err(wrong("has no certificate in it".to_owned()));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| FileError::new(KEY, authorities, io::Error::other(error).to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

//! How a client is set up, and its first connection.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{Backoff, Client, Error, ErrorKind, Status, shared::Attention, wire, worker};
use crate::types::Secret;

/// Commands that may wait for the worker. Handles wait while it is full; the worker never waits for a handle, so it
/// always gets round to emptying it.
const COMMAND_QUEUE: usize = 256;

/// HTTP/2 connection window. Large, because below about 2,800 unread small frames per MiB h2 takes the server for an
/// attacker and ends the connection; it costs no memory while it is not used.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// HTTP/2 stream window. The worker always reads, so it only needs to cover bandwidth × delay.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// Pings on an idle transport, so that a dead one is found; well above the 15 s servers enforce as a minimum.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach a server and who to be there. Made by [`Client::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    pub(super) url: String,
    pub(super) client_id: String,
    pub(super) token: Secret,
    token_file: Option<PathBuf>,
    pub(super) agent: String,
    pub(super) trace_context: (String, String),
    ca_file: Option<PathBuf>,
    identity_files: Option<(PathBuf, PathBuf)>,
    tls_name: Option<String>,
    pub(super) connect_timeout: Duration,
    pub(super) backoff: Backoff,
    pub(super) wait_for_server: bool,
    pub(super) give_up_after: Option<Duration>,
    /// Another network than the system's.
    #[cfg(test)]
    network: Option<super::network::Network>,
}

impl Builder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            client_id: String::new(),
            token: Secret::default(),
            token_file: None,
            agent: concat!("bowline-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            ca_file: None,
            identity_files: None,
            tls_name: None,
            trace_context: (String::new(), String::new()),
            connect_timeout: Duration::from_secs(10),
            backoff: Backoff::default(),
            wait_for_server: false,
            give_up_after: None,
            #[cfg(test)]
            network: None,
        }
    }

    /// Dials through a network of a test's own, whatever the URL's host.
    #[cfg(test)]
    pub(crate) fn network(mut self, dial: impl Fn() -> super::network::Dialled + Send + Sync + 'static) -> Self {
        self.network = Some(super::network::Network::new(dial));
        self
    }

    /// Who the client is, where authentication does not say. The server makes a name up if it is not set, another one
    /// for each connection: sessions can then not be resumed by id.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = id.into();
        self
    }

    /// Bearer token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Secret::from(token.into());
        self
    }

    /// A file with the bearer token, in place of [`token`](Self::token). Read again for every connection, and before the token
    /// runs out: when there is another one in it by then, that is shown in place, and the connection goes on.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token_file = Some(path.into());
        self
    }

    /// Reads the token's file, if it has one. True if there is another token in it than before.
    pub(super) fn reread_token(&mut self) -> Result<bool, Error> {
        let Some(path) = &self.token_file else { return Ok(false) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::new(ErrorKind::Invalid, format!("{}: {error}", path.display())))?;
        let token = Secret::from(text.trim().to_owned());
        let changed = token != self.token;
        self.token = token;
        Ok(changed)
    }

    /// True if the token can change by itself.
    pub(super) fn has_token_file(&self) -> bool {
        self.token_file.is_some()
    }

    /// What the program calls itself, for operators; at most 128 characters.
    #[must_use]
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        self
    }

    /// The W3C trace context that the client's connections are opened in: a `traceparent`, and the `tracestate` that
    /// belongs to it, or nothing. Events have a context of their own: `NewEvent::traceparent`.
    #[must_use]
    pub fn trace_context(mut self, traceparent: impl Into<String>, tracestate: impl Into<String>) -> Self {
        self.trace_context = (traceparent.into(), tracestate.into());
        self
    }

    /// PEM file of the certificate authorities to trust for `https`, instead of the public ones. Read again for every
    /// connection, so that it may change.
    #[must_use]
    pub fn tls_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// PEM files of the client's own certificate chain, leaf first, and of its private key, for servers that ask for one.
    /// Read again for every connection, so that they may change.
    #[must_use]
    pub fn tls_identity_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity_files = Some((cert.into(), key.into()));
        self
    }

    /// The name the server's certificate must have, if not the host of the URL.
    #[must_use]
    pub fn tls_name(mut self, name: impl Into<String>) -> Self {
        self.tls_name = Some(name.into());
        self
    }

    /// How long one attempt to connect may take, up to the server's Welcome; 10 s unless chosen.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long to wait between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Lets [`connect`](Self::connect) go on trying until the server is there, instead of failing with the first
    /// attempt.
    #[must_use]
    pub fn wait_for_server(mut self) -> Self {
        self.wait_for_server = true;
        self
    }

    /// Ends the client once it has been without a connection for this long. Never unless chosen.
    #[must_use]
    pub fn give_up_after(mut self, limit: Duration) -> Self {
        self.give_up_after = Some(limit);
        self
    }

    /// Connects and waits for the server's Welcome.
    ///
    /// Fails with [`ErrorKind::Invalid`] for a malformed URL or a token file that cannot be read, [`ErrorKind::Connect`] or [`ErrorKind::Refused`] if the
    /// first attempt fails; with [`wait_for_server`](Self::wait_for_server) only for reasons that time does not cure.
    /// Must be called inside a tokio runtime. Cancel-safe: dropping it ends the attempt.
    pub async fn connect(mut self) -> Result<Client, Error> {
        self.reread_token()?;
        self.endpoint().await?;
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let (status, watched) = watch::channel(Status::Connecting);
        let attention = Attention::new();
        // Not by the status: a connection that is lost again at once would be missed there.
        let (first, welcomed) = oneshot::channel();
        worker::spawn(self, queue, Arc::clone(&attention), status, first);
        let client = Client { commands, attention, status: watched };
        match welcomed.await {
            Ok(()) => Ok(client),
            Err(_) => Err(client.ended()),
        }
    }

    /// A channel to the server, with the same settings, for the unary services (`TopicService`, health…).
    pub async fn channel(&self) -> Result<Channel, Error> {
        let endpoint = self.endpoint().await?;
        #[cfg(test)]
        if let Some(network) = &self.network {
            let connected = endpoint.connect_with_connector(network.clone()).await;
            return connected.map_err(|error| wire::transport_error(&error));
        }
        endpoint.connect().await.map_err(|error| wire::transport_error(&error))
    }

    /// Fresh for every connection: a channel that is dialled anew also resolves the name anew, and so may reach
    /// another replica.
    pub(super) async fn endpoint(&self) -> Result<Endpoint, Error> {
        let invalid = |error: &dyn std::fmt::Display| Error::new(ErrorKind::Invalid, format!("{}: {error}", self.url));
        let endpoint = Endpoint::from_shared(self.url.clone()).map_err(|error| invalid(&error))?;
        let endpoint = match endpoint.uri().scheme_str() {
            Some("http") => endpoint,
            Some("https") => endpoint.tls_config(self.tls().await?).map_err(|error| wire::transport_error(&error))?,
            _ => return Err(invalid(&"must begin with http:// or https://")),
        };
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEPALIVE))
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true))
    }

    async fn tls(&self) -> Result<ClientTlsConfig, Error> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca_file {
            None => tls.with_webpki_roots(),
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path).await?)),
        };
        if let Some((cert, key)) = &self.identity_files {
            tls = tls.identity(Identity::from_pem(read(cert).await?, read(key).await?));
        }
        if let Some(name) = &self.tls_name {
            tls = tls.domain_name(name.clone());
        }
        Ok(tls)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| Error::new(ErrorKind::Invalid, format!("{}: {error}", path.display())))
}

//! TLS from files: one certificate chain, one key, the authorities of clients if they have to show certificates, and
//! HTTP/2 only.
//!
//! The files are looked at again and again, and what they hold then is served to whoever comes from then on. Transports
//! that are up keep what they began with.

mod certificate;
mod config;
mod files;
mod reload;

use std::{io, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustls::server::Acceptor;
use tokio::{sync::Semaphore, task::yield_now, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use self::files::{Contents, Loaded};
pub use self::{
    config::{ClientCert, ClientName, MinVersion, TlsConfig},
    files::TlsError,
};
use super::{Config, coalesce::Socket, meter::End};
use crate::types::PeerIdentity;

/// Turns accepted sockets into TLS streams.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsConfig,
    /// What is served with now; replaced by [`Tls::follow`].
    current: RwLock<Arc<Loaded>>,
    /// Answers to a ClientHello being computed. See [`Tls::accept`].
    permits: Semaphore,
    clock: Duration,
}

/// A stream, and who is at its other end, if that showed a certificate.
pub(super) type Secured = (TlsStream<Box<dyn Socket>>, Option<Arc<PeerIdentity>>);

impl Tls {
    /// Reads the files of `[transport.tls]`; `None` when it is off.
    pub(super) fn from_config(config: &Config) -> Result<Option<Arc<Self>>, TlsError> {
        if !config.tls.enabled {
            return Ok(None);
        }
        let files = config.tls.clone();
        let current = RwLock::new(Arc::new(Contents::read(&files).load(&files)?));
        let (permits, clock) = (Semaphore::new(config.max_tls_handshakes), config.tls_timeout);
        Ok(Some(Arc::new(Self { files, current, permits, clock })))
    }

    fn current(&self) -> Arc<Loaded> {
        self.current.read().clone()
    }

    /// The handshake, on its clock.
    pub(super) async fn accept(&self, socket: Box<dyn Socket>) -> Result<Secured, End> {
        match timeout(self.clock, self.handshake(socket)).await {
            Ok(Ok(secured)) => Ok(secured),
            Ok(Err(error)) => {
                tracing::debug!(%error, "tls handshake failed");
                Err(End::TlsFailed)
            }
            Err(_) => Err(End::TlsTimeout),
        }
    }

    async fn handshake(&self, socket: Box<dyn Socket>) -> io::Result<Secured> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        // Of whoever offers other protocols only, rustls takes leave with the alert that is meant for it.
        if hello.client_hello().alpn().is_none() {
            return Err(io::Error::other("the client does not offer h2"));
        }
        let answered = {
            let _permit = self.permits.acquire().await.map_err(io::Error::other)?;
            let config = self.current().config.clone();
            // The costly half, key exchange and signature, is computed right here. Those who are connected get a turn
            // before the permit goes to the next, and whoever says no more after its hello holds no permit.
            let answered = hello.into_stream(config);
            yield_now().await;
            answered
        };
        let stream = answered.await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let identity = shown.map(|shown| certificate::identity(shown, self.files.client_name)).transpose();
        let identity = identity.map_err(io::Error::other)?.map(Arc::new);
        Ok((stream, identity))
    }
}

#[cfg(test)]
mod tests;

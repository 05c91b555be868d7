//! Sockets, TLS and HTTP/2: everything below a call.
//!
//! An accept loop of our own over hyper's HTTP/2, because the usual one has no clock for a silent peer, no end for a
//! shutdown, no stream limit and no way to end a stalled stream. It serves any tower service over HTTP requests and
//! knows nothing of what the calls say.
//!
//! ```text
//! Listener ── accept ── ledger ── Host::run, one task per transport
//!                         tls       handshake on its clock; certificates followed by content
//!                         arrivals  the line of those who have not greeted yet
//!                         coalesce  Wire: one write per turn
//!                         guard     frame headers, both ways: has the peer greeted, does it go too far
//!                         executor  one task per stream, ended by its KillSwitch
//!                         call      extensions in, panics out
//! ```

mod arrivals;
mod call;
mod coalesce;
mod company;
mod config;
mod descriptors;
mod drive;
mod executor;
mod footprint;
mod guard;
mod ledger;
mod listener;
mod meter;
mod tls;
mod turn;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::{lifecycle::Tasks, telemetry::metrics::Metrics};
use drive::Host;
use ledger::Ledger;
use listener::Shortage;
use meter::{End, Metered};

#[cfg(test)]
pub(crate) use coalesce::Socket;
pub use config::Config;
pub use guard::GuardConfig;
#[doc(hidden)]
pub use guard::hold_guard;
pub use listener::{BindError, Listener};
pub use tls::{ClientCert, ClientName, MinVersion, TlsConfig, TlsError};

/// How serving ends.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Cancelled: the listener closes and every transport sends GOAWAY.
    pub begin: CancellationToken,
    /// From then on: how long transports may take to finish their calls before they are cut.
    pub grace: Duration,
}

/// Accepts peers and serves them until `shutdown` begins; returns when every transport has ended, at the latest when the
/// grace is over and the rest has been cut.
///
/// `service` is cloned for each call. Requests carry a [`TransportHandle`](crate::types::TransportHandle) and a
/// [`KillSwitch`](crate::types::KillSwitch) in their extensions. Not cancel-safe: dropped, it accepts no more, but the
/// transports live on.
pub async fn serve<S, B>(
    mut listener: Listener,
    service: S,
    config: &Config,
    tasks: &Tasks,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let host = Arc::new(Host::new(service, listener.tls.take(), config, tasks, metrics.clone()));
    let ledger = Arc::new(Ledger::new(config));
    // One permit per transport; all of them back means that all transports are gone.
    let most = u32::try_from(descriptors::at_most(config.max_transports)).unwrap_or(u32::MAX);
    let permits = Arc::new(Semaphore::new(most as usize));
    let mut shortage = Shortage::default();
    if let Some(tls) = &host.tls {
        tasks.spawn_until_stopped("certificates", tls.clone().follow(metrics.clone()));
    }

    while let Some((socket, peer)) = shutdown.begin.run_until_cancelled(listener.accept(&mut shortage)).await {
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            Metered::open(metrics.clone()).end = End::Refused;
            continue;
        };
        let Some(place) = ledger.enter(peer.ip()) else {
            Metered::open(metrics.clone()).end = End::TooManyFromAddress;
            continue;
        };
        let (host, goaway) = (host.clone(), shutdown.begin.child_token());
        drop(tasks.spawn("transport", host.run(permit, socket, peer, place, goaway)));
    }
    drop(listener);

    let gone = async { drop(permits.acquire_many(most).await) };
    if timeout(shutdown.grace, gone).await.is_err() {
        let left = most as usize - permits.available_permits();
        tracing::info!(transports = left, "cutting the transports that did not end in time");
        host.cut.cancel();
        drop(permits.acquire_many(most).await);
    }
}

#[cfg(test)]
mod tests;

//! The admin port's own thread, runtime and accept loop.
//!
//! Its own, so that probes and metrics are answered when the runtime that serves clients has no time left. The loop is
//! hyper's HTTP/1 with what a server needs besides: a clock for requests that never come, a bound on sockets, an end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, thread, time::Duration};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::guard::{Caller, TokenError};
use crate::lifecycle::Tasks;

/// Most sockets at once; more wait in the kernel's queue.
const MAX_SOCKETS: usize = 256;
/// How long a socket may take to send the head of its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests in progress have when the port closes.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after an accept that failed, which is nearly always for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the admin port could not open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("admin.listen: cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The token cannot be had.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No thread or no runtime.
    #[error("the admin thread cannot start")]
    Thread(#[from] io::Error),
}

/// The port, open. Dropping it does not close it; its stop token does.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    ended: oneshot::Receiver<Infallible>,
}

impl Admin {
    /// Opens the port and serves `router` on it until `stop`.
    pub(super) fn open(address: SocketAddr, router: Router, stop: CancellationToken) -> Result<Self, StartError> {
        let bind = |source| StartError::Bind { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Never sent on: the thread's end drops it, also when that end is a panic.
        let (ending, ended) = oneshot::channel();
        thread::Builder::new().name("admin".into()).spawn(move || {
            let served = runtime.block_on(async { serve(TcpListener::from_std(listener)?, router, stop).await });
            if let Err(error) = served {
                tracing::error!(%error, "the admin port closed");
            }
            drop::<oneshot::Sender<Infallible>>(ending);
        })?;
        tracing::info!(%address, "admin port open");
        Ok(Self { address, ended })
    }

    /// Where it listens, with the port the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Completes when the port has closed, which begins with its stop token and takes at most a second. Not cancel-safe.
    pub async fn ended(self) {
        // The only message there can be is that the other end is gone.
        self.ended.await.ok();
    }
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let (tasks, permits) = (Tasks::default(), Arc::new(Semaphore::new(MAX_SOCKETS)));
    let accept = async {
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let Ok((socket, peer)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let connection = connection(socket, peer, router.clone(), stop.clone());
            drop(tasks.spawn("admin connection", async move {
                connection.await;
                drop(permit);
            }));
        }
    };
    stop.run_until_cancelled(accept).await;
    drop(listener);
    let gone = permits.acquire_many(u32::try_from(MAX_SOCKETS).unwrap_or(u32::MAX));
    // What is still there after that goes with the runtime.
    timeout(END_TIMEOUT, gone).await.ok();
    Ok(())
}

async fn connection(socket: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Caller(peer));
        request
    }));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "admin connection ended");
    }
}

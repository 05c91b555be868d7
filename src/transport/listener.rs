//! The listening socket: made with our own backlog, and accepting without ever spinning.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::{Instant, sleep},
};

use super::{
    Config,
    coalesce::Socket,
    tls::{Tls, TlsError},
};

/// First and longest pause after an accept that failed for want of something.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Accepted one after the other; then others have their turns (ADR 18).
const IN_A_ROW: usize = 8;
/// Between two log lines about it.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// TLS is on and its files are no good.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A bound socket, not yet served.
#[derive(Debug)]
pub struct Listener {
    source: Source,
    address: SocketAddr,
    options: Options,
    /// So far.
    accepted: usize,
    /// Read at once, so that bad files stop the start.
    pub(super) tls: Option<Arc<Tls>>,
}

/// Where peers come from.
#[derive(Debug)]
enum Source {
    Tcp(TcpListener),
    /// A network that a test makes up.
    #[cfg(test)]
    Simulated(tokio::sync::mpsc::Receiver<(Box<dyn Socket>, SocketAddr)>),
}

impl Listener {
    /// Reads the TLS files, binds and listens. Must be called inside a runtime.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        let tls = Tls::from_config(config)?;
        let failed = |source| BindError::Address { address: config.listen, source };
        let socket = listen(config).and_then(TcpListener::from_std).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { source: Source::Tcp(socket), address, options: Options::from(config), accepted: 0, tls })
    }

    /// The address bound, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A listener that peers come to from a network of a test's own, without TLS.
    #[cfg(test)]
    pub(crate) fn simulated(
        config: &Config,
        peers: tokio::sync::mpsc::Receiver<(Box<dyn Socket>, SocketAddr)>,
    ) -> Self {
        let (source, options) = (Source::Simulated(peers), Options::from(config));
        Self { source, address: config.listen, options, accepted: 0, tls: None }
    }

    /// The next peer. Waits out shortages of descriptors or memory itself. Cancel-safe.
    pub(super) async fn accept(&mut self, shortage: &mut Shortage) -> (Box<dyn Socket>, SocketAddr) {
        if self.accepted.is_multiple_of(IN_A_ROW) {
            yield_now().await;
        }
        self.accepted = self.accepted.wrapping_add(1);
        match &mut self.source {
            Source::Tcp(listener) => {
                let (socket, peer) = accept(listener, &self.options, shortage).await;
                (Box::new(socket), peer)
            }
            #[cfg(test)]
            Source::Simulated(peers) => match peers.recv().await {
                Some(peer) => peer,
                None => std::future::pending().await,
            },
        }
    }
}

/// The next peer, its socket's options set.
async fn accept(listener: &TcpListener, options: &Options, shortage: &mut Shortage) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                shortage.over();
                if let Err(error) = options.apply(&socket) {
                    // The peer has gone already, or this kernel lacks an option: not worth a connection.
                    tracing::debug!(%peer, %error, "socket options not set");
                }
                return (socket, peer);
            }
            Err(error) if is_of_the_peer(&error) => {}
            // ENFILE, ENOBUFS, ENOMEM, and whatever is not known: retrying at once would spin. EMFILE is among them only
            // if the rest of the process takes more than what `descriptors` leaves it.
            Err(error) => sleep(shortage.pause(&error)).await,
        }
    }
}

fn listen(config: &Config) -> io::Result<StdListener> {
    let socket = socket2::Socket::new(Domain::for_address(config.listen), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the last process's sockets to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&config.listen.into())?;
    socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Whether an accept failed because of the peer it was about to return, so that the next one is unaffected.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted)
}

/// What every accepted socket gets.
#[derive(Debug)]
struct Options {
    keepalive: TcpKeepalive,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "Linux has these options, others do not"))]
    user_timeout: Duration,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "Linux has these options, others do not"))]
    unsent_limit: u32,
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Self {
        let keepalive = TcpKeepalive::new()
            .with_time(config.tcp_keepalive_idle)
            .with_interval(config.tcp_keepalive_interval)
            .with_retries(config.tcp_keepalive_retries);
        let unsent_limit = u32::try_from(config.tcp_unsent_limit.as_u64()).unwrap_or(u32::MAX);
        Self { keepalive, user_timeout: config.tcp_user_timeout, unsent_limit }
    }
}

impl Options {
    fn apply(&self, socket: &TcpStream) -> io::Result<()> {
        // Nagle's algorithm holds small frames back for up to 40 ms; we coalesce ourselves.
        socket.set_nodelay(true)?;
        let socket = SockRef::from(socket);
        socket.set_tcp_keepalive(&self.keepalive)?;
        #[cfg(target_os = "linux")]
        {
            socket.set_tcp_user_timeout(Some(self.user_timeout))?;
            socket.set_tcp_notsent_lowat(self.unsent_limit)?;
        }
        Ok(())
    }
}

/// How long accepting has been failing: pauses grow, log lines stay rare.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    pause: Option<Duration>,
    reported: Option<Instant>,
}

impl Shortage {
    /// Accepting works again.
    fn over(&mut self) {
        self.pause = None;
    }

    /// How long to wait before the next try.
    fn pause(&mut self, error: &io::Error) -> Duration {
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            self.reported = Some(Instant::now());
            tracing::error!(%error, "cannot accept connections");
        }
        let pause = self.pause.map_or(PAUSES.0, |last| (last * 2).min(PAUSES.1));
        self.pause = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_start_over() {
        let mut shortage = Shortage::default();
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        assert!(!is_of_the_peer(&error));
        let pauses: Vec<_> = (0..9).map(|_| shortage.pause(&error).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        shortage.over();
        assert_eq!(shortage.pause(&error), PAUSES.0);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_accepted_socket_has_the_options_of_the_configuration() {
        let config = Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        let listener = Listener::bind(&config).unwrap();
        let _client = TcpStream::connect(listener.local_addr()).await.unwrap();
        let Source::Tcp(socket) = &listener.source else { panic!("a TCP listener") };
        let (socket, _) = accept(socket, &listener.options, &mut Shortage::default()).await;
        assert!(socket.nodelay().unwrap());
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), config.tcp_keepalive_idle);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), config.tcp_keepalive_retries);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(config.tcp_user_timeout));
        assert_eq!(u64::from(socket.tcp_notsent_lowat().unwrap()), config.tcp_unsent_limit.as_u64());
    }

    #[tokio::test]
    async fn a_taken_address_is_named_in_the_error() {
        let config = Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        let first = Listener::bind(&config).unwrap();
        let config = Config { listen: first.local_addr(), ..config };
        let error = Listener::bind(&config).unwrap_err();
        assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
    }
}

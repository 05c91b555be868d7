//! A transport to the server whose socket the test holds.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// A socket that can be lost at any moment.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<Option<TcpStream>>>);

impl Wire {
    /// A transport of its own to the server.
    pub(crate) async fn dial(address: SocketAddr) -> (Channel, Self) {
        let wire = Self(Arc::new(Mutex::new(Some(TcpStream::connect(address).await.unwrap()))));
        let (endpoint, socket) = (Endpoint::from_shared(format!("http://{address}")).unwrap(), wire.clone());
        let channel = endpoint
            .initial_connection_window_size(16 << 20)
            .initial_stream_window_size(4 << 20)
            .connect_with_connector(service_fn(move |_| {
                // A channel dials again when it has lost its transport; the test wants none but this.
                let once =
                    if socket.0.lock().is_some() { Ok(socket.clone()) } else { Err(io::Error::other("severed")) };
                async move { once.map(TokioIo::new) }
            }))
            .await
            .unwrap();
        (channel, wire)
    }

    /// Loses the transport as a crash does: RST, no GOAWAY, no end of anything.
    pub(crate) fn sever(&self) {
        if let Some(socket) = self.0.lock().take() {
            socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
    }

    fn with<T>(&self, work: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.0.lock().as_mut() {
            Some(socket) => work(Pin::new(socket)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|socket| socket.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_shutdown(cx))
    }
}

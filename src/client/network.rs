//! The place of the system's network, for tests that make up one of their own.

use std::{
    fmt, io,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection being made.
pub(crate) type Dialled = BoxFuture<'static, io::Result<TokioIo<Box<dyn Stream>>>>;

/// Dials through it.
#[derive(Clone)]
pub(crate) struct Network(Arc<dyn Fn() -> Dialled + Send + Sync>);

impl Network {
    pub(crate) fn new(dial: impl Fn() -> Dialled + Send + Sync + 'static) -> Self {
        Self(Arc::new(dial))
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl tower::Service<http::Uri> for Network {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Dialled;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Dialled {
        (self.0)()
    }
}

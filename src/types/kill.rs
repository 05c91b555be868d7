//! The switch that ends a stream whose peer no longer lets us end it politely.

use tokio_util::sync::CancellationToken;

/// Ends the HTTP/2 stream it was made for, with RST_STREAM, whatever its flow control says.
///
/// The transport makes one for each stream and puts it into the request's extensions; the connection pulls it when a
/// polite end has not gone out in time. Dropping a response does not do that: HTTP/2 stops polling a stream that is
/// out of window, so it would stay for as long as the peer likes.
#[derive(Debug, Clone, Default)]
pub struct KillSwitch(CancellationToken);

impl KillSwitch {
    /// Ends the stream now. Idempotent.
    pub fn pull(&self) {
        self.0.cancel();
    }

    /// Completes once pulled. Cancel-safe.
    pub async fn pulled(&self) {
        self.0.cancelled().await;
    }
}

//! What transports and calls can take of the memory.

use super::{Config, coalesce};
use crate::types::TransportHandle;

/// HTTP/2 on a transport with nothing to do: its state, its tables of headers, its buffers. About a third of it is what
/// idle transports were measured to take.
const HTTP2: u64 = 96 * 1024;
/// TLS: a handshake message or a record that is incomplete, and what the socket has not taken.
const TLS: u64 = (64 + 64 + 16) * 1024;
/// The task of a call and what the layers around its service keep.
const CALL: u64 = 16 * 1024;

impl Config {
    /// Most bytes that a transport can take, its calls apart.
    pub fn bytes_of_transport(&self) -> u64 {
        let tls = if self.tls.enabled { TLS } else { 0 };
        // A frame is read whole, beside what is collected of those that are written.
        HTTP2 + tls + coalesce::BOUND as u64 + self.max_frame_size.as_u64()
    }

    /// Most calls that can ask for health at once, and the bytes that each can take: its headers, and a question and an
    /// answer that are smaller than what is reckoned for any call.
    pub fn health_calls(&self) -> (usize, u64) {
        let calls = self.max_transports.saturating_mul(TransportHandle::HEALTH_CALLS);
        (calls, CALL + 2 * self.max_header_list.as_u64())
    }

    /// Most bytes that a call can take below its service: its headers as they came and as they are kept, what it was sent
    /// and has not read, what it has sent and nobody took.
    pub fn bytes_of_call(&self) -> u64 {
        let headers = 2 * self.max_header_list.as_u64();
        CALL + headers + self.stream_window.as_u64() + self.max_send_buffer.as_u64()
    }
}

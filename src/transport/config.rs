//! `[transport]`: the socket, its clocks and its limits.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Largest window HTTP/2 knows, bytes.
const MAX_WINDOW: u64 = (1 << 31) - 1;
/// Smallest and largest frame HTTP/2 knows, bytes.
const FRAME_SIZES: std::ops::RangeInclusive<u64> = 16_384..=16_777_215;

/// `[transport]`: what carries the calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// How many peers the kernel keeps waiting for us; the system's own maximum caps it. A reconnect storm needs room.
    pub backlog: u32,
    /// Most transports at once; the next one is closed as soon as it is accepted.
    pub max_transports: usize,

    /// The whole TLS handshake.
    #[serde(with = "humantime_serde")]
    pub tls_timeout: Duration,
    /// Most TLS handshakes being computed at once; others wait their turn on the same clock.
    pub max_tls_handshakes: usize,
    /// From then on to the peer's HTTP/2 preface and SETTINGS. A peer that says nothing is dropped at this clock.
    #[serde(with = "humantime_serde")]
    pub greeting_timeout: Duration,

    /// Silence on the socket before the kernel's first keepalive probe.
    #[serde(with = "humantime_serde")]
    pub tcp_keepalive_idle: Duration,
    /// Between the kernel's keepalive probes.
    #[serde(with = "humantime_serde")]
    pub tcp_keepalive_interval: Duration,
    /// Unanswered probes before the kernel gives the socket up.
    pub tcp_keepalive_retries: u32,
    /// How long written bytes may stay unacknowledged before the kernel gives the socket up. Without it a socket that
    /// is blocked in writing outlives its HTTP/2 keepalive. Linux only.
    #[serde(with = "humantime_serde")]
    pub tcp_user_timeout: Duration,
    /// Unsent bytes the kernel takes from us per socket, so that a peer that stops reading cannot hold megabytes of
    /// kernel memory. Linux only.
    pub tcp_unsent_limit: ByteSize,

    /// Silence before an HTTP/2 PING is sent. 0 s switches it off.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// How long the PING may stay unanswered before the transport is closed.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// How long a transport may live on after its GOAWAY before it is cut.
    #[serde(with = "humantime_serde")]
    pub goaway_timeout: Duration,

    /// Streams a peer may have open at once on one transport.
    pub max_concurrent_streams: u32,
    /// Bytes a peer may send on one stream before we have read them.
    pub stream_window: ByteSize,
    /// The same over all streams of a transport. Keep it far above `stream_window`: HTTP/2's budget for tiny unread
    /// frames is half of it, and an honest client that bursts is cut off when that is gone.
    pub connection_window: ByteSize,
    /// Bytes buffered for sending per stream.
    pub max_send_buffer: ByteSize,
    /// Largest frame we accept.
    pub max_frame_size: ByteSize,
    /// Largest header list we accept.
    pub max_header_list: ByteSize,
    /// Streams opened and reset by the peer before we saw them; one more ends the transport.
    pub max_pending_reset_streams: usize,
    /// Streams we reset because of the peer's errors, counted over the transport's life; one more ends it.
    pub max_local_reset_streams: usize,

    /// `[transport.tls]`.
    pub tls: TlsConfig,
}

/// `[transport.tls]`: certificate and key from files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Whether the listener speaks TLS, and then only TLS.
    pub enabled: bool,
    /// PEM file with the certificate chain, leaf first.
    pub cert_file: PathBuf,
    /// PEM file with the private key of the leaf.
    pub key_file: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 50051).into(),
            backlog: 4096,
            max_transports: 10_000,
            tls_timeout: Duration::from_secs(5),
            max_tls_handshakes: 64,
            greeting_timeout: Duration::from_secs(5),
            tcp_keepalive_idle: Duration::from_secs(30),
            tcp_keepalive_interval: Duration::from_secs(10),
            tcp_keepalive_retries: 3,
            tcp_user_timeout: Duration::from_secs(15),
            tcp_unsent_limit: ByteSize::kib(64),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            goaway_timeout: Duration::from_secs(60),
            max_concurrent_streams: 128,
            stream_window: ByteSize::kib(256),
            connection_window: ByteSize::mib(16),
            max_send_buffer: ByteSize::kib(64),
            max_frame_size: ByteSize::kib(16),
            max_header_list: ByteSize::kib(8),
            max_pending_reset_streams: 100,
            max_local_reset_streams: 10_000,
            tls: TlsConfig::default(),
        }
    }
}

impl Config {
    /// What is wrong with the values, one sentence each, naming the key inside the section.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let second = Duration::from_secs(1);
        for (key, value) in
            [("tcp_keepalive_idle", self.tcp_keepalive_idle), ("tcp_keepalive_interval", self.tcp_keepalive_interval)]
        {
            must(
                value >= second,
                format!("{key} is {value:?}; the kernel counts it in whole seconds, so at least 1 s"),
            );
        }
        for (key, value) in [
            ("tls_timeout", self.tls_timeout),
            ("greeting_timeout", self.greeting_timeout),
            ("tcp_user_timeout", self.tcp_user_timeout),
            ("keepalive_timeout", self.keepalive_timeout),
            ("goaway_timeout", self.goaway_timeout),
        ] {
            must(!value.is_zero(), format!("{key} must be more than 0 s"));
        }
        for (key, value) in [
            ("backlog", u64::from(self.backlog)),
            ("max_transports", self.max_transports as u64),
            ("max_tls_handshakes", self.max_tls_handshakes as u64),
            ("max_concurrent_streams", u64::from(self.max_concurrent_streams)),
            ("tcp_keepalive_retries", u64::from(self.tcp_keepalive_retries)),
        ] {
            must((1..=1 << 24).contains(&value), format!("{key} is {value}; it must be from 1 to 16777216"));
        }
        for (key, size) in [("stream_window", self.stream_window), ("connection_window", self.connection_window)] {
            let range = (65_535..=MAX_WINDOW).contains(&size.as_u64());
            must(range, format!("{key} is {size}; HTTP/2 allows 65535 bytes to 2 GiB less one byte"));
        }
        must(
            self.connection_window >= self.stream_window,
            format!("connection_window ({}) is below stream_window ({})", self.connection_window, self.stream_window),
        );
        must(
            FRAME_SIZES.contains(&self.max_frame_size.as_u64()),
            format!("max_frame_size is {}; HTTP/2 allows 16 KiB to 16 MiB less one byte", self.max_frame_size),
        );
        for (key, size) in [
            ("tcp_unsent_limit", self.tcp_unsent_limit),
            ("max_send_buffer", self.max_send_buffer),
            ("max_header_list", self.max_header_list),
        ] {
            let range = (1024..=1 << 30).contains(&size.as_u64());
            must(range, format!("{key} is {size}; it must be from 1 KiB to 1 GiB"));
        }
        if self.tls.enabled {
            for (key, file) in [("tls.cert_file", &self.tls.cert_file), ("tls.key_file", &self.tls.key_file)] {
                must(!file.as_os_str().is_empty(), format!("{key} must name a PEM file when tls.enabled is true"));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let config = Config {
            stream_window: ByteSize::b(1),
            max_frame_size: ByteSize::kib(1),
            greeting_timeout: Duration::ZERO,
            max_transports: 0,
            tls: TlsConfig { enabled: true, ..TlsConfig::default() },
            ..Config::default()
        };
        let problems = config.validate();
        for key in
            ["stream_window", "max_frame_size", "greeting_timeout", "max_transports", "tls.cert_file", "tls.key_file"]
        {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} is missing in {problems:?}");
        }
    }
}

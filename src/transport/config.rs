//! `[transport]`: the socket, its clocks and its limits.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::{guard::GuardConfig, tls::TlsConfig};

/// Flow-control windows HTTP/2 knows, bytes.
const WINDOWS: RangeInclusive<u64> = 65_535..=(1 << 31) - 1;
/// Frame sizes HTTP/2 knows, bytes.
const FRAMES: RangeInclusive<u64> = 16_384..=(1 << 24) - 1;
/// Sizes of buffers that make sense, bytes.
const BUFFERS: RangeInclusive<u64> = 1024..=1 << 30;
/// What the kernel takes for its keepalive, whole seconds.
const KERNEL_CLOCKS: RangeInclusive<u64> = 1..=32_767;

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
    /// Most of them from one address (IPv6: from one /64). 0: no limit.
    pub max_transports_per_address: usize,

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
    /// How long a peer may take nothing of what there is for it, and nothing of the answer to a call that is no
    /// conversation.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How old a transport may become, ± 10 %, before it is told to leave. 0 s: as old as it likes.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// How long a transport may live on after its GOAWAY before it is cut.
    #[serde(with = "humantime_serde")]
    pub goaway_timeout: Duration,

    /// Streams a peer may have open at once on one transport.
    pub max_concurrent_streams: u32,
    /// Unary calls at once on the whole server, those for health apart.
    pub max_unary_calls: usize,
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
    /// Most fields in it, those that HTTP/2 needs itself apart.
    pub max_header_fields: usize,
    /// How long a call that is no stream may take, from its headers to its last byte, and one that is until it has been
    /// asked. 0 s: as long as its client lets it.
    #[serde(with = "humantime_serde")]
    pub unary_timeout: Duration,
    /// Streams opened and reset by the peer before we saw them; one more ends the transport.
    pub max_pending_reset_streams: usize,
    /// Streams we reset because of the peer's errors, counted over the transport's life; one more ends it.
    pub max_local_reset_streams: usize,

    /// `[transport.guard]`.
    pub guard: GuardConfig,
    /// `[transport.tls]`.
    pub tls: TlsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 50051).into(),
            backlog: 4096,
            max_transports: 10_000,
            max_transports_per_address: 256,
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
            write_timeout: Duration::from_secs(15),
            max_age: Duration::from_secs(30 * 60),
            goaway_timeout: Duration::from_secs(60),
            max_concurrent_streams: 128,
            max_unary_calls: 256,
            stream_window: ByteSize::kib(256),
            connection_window: ByteSize::mib(16),
            max_send_buffer: ByteSize::kib(64),
            max_frame_size: ByteSize::kib(16),
            max_header_list: ByteSize::kib(8),
            max_header_fields: 64,
            unary_timeout: Duration::from_secs(10),
            max_pending_reset_streams: 100,
            max_local_reset_streams: 10_000,
            guard: GuardConfig::default(),
            tls: TlsConfig::default(),
        }
    }
}

impl Config {
    /// What is wrong with the values, one sentence each; its first word is the key inside the section.
    pub fn validate(&self) -> Vec<String> {
        let ours = self.bad_clocks().chain(self.bad_counts()).chain(self.bad_sizes());
        ours.chain(self.guard.validate()).chain(self.tls.problems()).collect()
    }

    fn bad_clocks(&self) -> impl Iterator<Item = String> {
        let kernel =
            [("tcp_keepalive_idle", self.tcp_keepalive_idle), ("tcp_keepalive_interval", self.tcp_keepalive_interval)];
        let ours = [
            ("tls_timeout", self.tls_timeout),
            ("greeting_timeout", self.greeting_timeout),
            ("tcp_user_timeout", self.tcp_user_timeout),
            ("keepalive_timeout", self.keepalive_timeout),
            ("write_timeout", self.write_timeout),
            ("goaway_timeout", self.goaway_timeout),
        ];
        let kernel = kernel.into_iter().filter(|(_, clock)| !KERNEL_CLOCKS.contains(&clock.as_secs()));
        let kernel = kernel.map(|(key, clock)| format!("{key} is {clock:?}; the kernel allows 1 s to 32767 s"));
        let ours = ours.into_iter().filter(|(_, clock)| clock.is_zero());
        kernel.chain(ours.map(|(key, _)| format!("{key} must be more than 0 s")))
    }

    fn bad_counts(&self) -> impl Iterator<Item = String> {
        let most = 1 << 24;
        let counts = [
            ("backlog", u64::from(self.backlog), most),
            ("max_transports", self.max_transports as u64, most),
            ("max_unary_calls", self.max_unary_calls as u64, most),
            ("max_tls_handshakes", self.max_tls_handshakes as u64, most),
            ("max_header_fields", self.max_header_fields as u64, most),
            ("max_concurrent_streams", u64::from(self.max_concurrent_streams), most),
            ("tcp_keepalive_retries", u64::from(self.tcp_keepalive_retries), 127),
        ];
        let bad = counts.into_iter().filter(|(_, count, most)| !(1..=*most).contains(count));
        bad.map(|(key, count, most)| format!("{key} is {count}; it must be from 1 to {most}"))
    }

    fn bad_sizes(&self) -> impl Iterator<Item = String> {
        let sizes = [
            ("stream_window", self.stream_window, WINDOWS),
            ("connection_window", self.connection_window, WINDOWS),
            ("max_frame_size", self.max_frame_size, FRAMES),
            ("tcp_unsent_limit", self.tcp_unsent_limit, BUFFERS),
            ("max_send_buffer", self.max_send_buffer, BUFFERS),
            ("max_header_list", self.max_header_list, BUFFERS),
        ];
        let bad = sizes.into_iter().filter(|(_, size, allowed)| !allowed.contains(&size.as_u64()));
        let bad = bad.map(|(key, size, allowed)| {
            format!("{key} is {size}; it must be from {} to {} bytes", allowed.start(), allowed.end())
        });
        let (stream, connection) = (self.stream_window, self.connection_window);
        let order = (connection < stream)
            .then(|| format!("connection_window is {connection}, less than stream_window, which is {stream}"));
        bad.chain(order)
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
            tcp_keepalive_idle: Duration::from_millis(900),
            tcp_keepalive_retries: 128,
            tls: TlsConfig { enabled: true, ..TlsConfig::default() },
            ..Config::default()
        };
        let problems = config.validate();
        for key in [
            "stream_window",
            "max_frame_size",
            "greeting_timeout",
            "max_transports",
            "tcp_keepalive_idle",
            "tcp_keepalive_retries",
            "tls.cert_file",
            "tls.key_file",
        ] {
            let of_key = problems.iter().filter(|problem| problem.split(' ').next() == Some(key));
            assert_eq!(of_key.count(), 1, "{key} in {problems:?}");
        }
        assert_eq!(problems.len(), 8, "{problems:?}");
    }
}

//! The whole server, from outside: a module for each face of it. What may be read of it here is the wire, its metrics and
//! its exit code; everything is bounded, on loopback, on ports the system chose.

#![allow(clippy::unwrap_used, reason = "what must not fail fails the test")]

mod admin;
mod age;
mod auth;
#[cfg(feature = "nats")]
mod bridges;
mod cli;
mod client;
#[cfg(feature = "nats")]
mod cluster;
#[path = "../support/collector.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests that use more of it")]
mod collector;
mod delivery;
mod descriptors;
mod gate;
mod handshake;
mod liveness;
mod memory;
mod metrics;
#[cfg(feature = "nats")]
#[path = "../support/nats.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests that use more of it")]
mod nats;
#[cfg(feature = "nats")]
#[path = "../support/nkeys.rs"]
#[allow(unreachable_pub, reason = "its own modules are all that use it")]
mod nkeys;
mod overload;
#[path = "../support/pki.rs"]
#[allow(unreachable_pub, reason = "shared with tests that use more of it")]
mod pki;
mod processes;
mod publish;
#[cfg(feature = "nats")]
mod replicas;
mod rules;
mod secrets;
#[path = "../support/served.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests that use more of it")]
mod served;
mod sessions;
mod shutdown;
#[path = "../support/signals.rs"]
#[allow(unreachable_pub, reason = "shared with tests that are crates of their own")]
mod signals;
mod support;
mod tls;
#[path = "../support/tokens.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests that use more of it")]
mod tokens;
mod tracing;
mod unary;

//! Bowline holds thousands of live, two-way gRPC conversations: resumable, flow-controlled sessions on topics with
//! history, one bidirectional stream per client.
//!
//! Read in the order of the list below; `ARCHITECTURE.md` has the map, the data flow and the invariants. A module may
//! use those of earlier groups, never of later ones; `tests/tidy.rs` holds it to that.

#![forbid(unsafe_code)]

// Words: allowed everywhere.
pub mod error;
mod planted;
pub mod proto;
pub mod types;

// Mechanisms: know nothing of topics.
pub mod health;
pub mod lifecycle;
pub mod telemetry;

// Core: knows no sockets, no TLS, no HTTP.
pub mod bridge;
pub mod broker;
pub mod canary;
pub mod drain;
pub mod hub;
pub mod log;
pub mod registry;
pub mod session;

// Edges.
pub mod admin;
pub mod auth;
pub mod connection;
pub mod service;
pub mod transport;

// The whole: knows everything, has no logic.
pub mod app;
pub mod config;

// Outside: uses words only; `checker` not even those.
pub mod checker;
pub mod cli;
pub mod client;
pub mod witness;

// Beside all of it: sees everything, and nothing sees it.
#[cfg(test)]
mod sim;

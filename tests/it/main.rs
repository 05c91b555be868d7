//! The whole server, from outside: a module for each face of it. What may be read of it here is the wire, its metrics and
//! its exit code; everything is bounded, on loopback, on ports the system chose.

mod admin;
mod cli;
mod client;
mod delivery;
mod handshake;
mod liveness;
mod processes;
mod publish;
mod sessions;
mod shutdown;
mod support;
mod unary;

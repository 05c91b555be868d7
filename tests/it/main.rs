//! The library and the program, from outside, against a real server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cli;
mod client;

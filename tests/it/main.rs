//! The library and the program, from outside, against a real server.

mod cli;
mod client;

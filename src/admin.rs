//! The admin port.

mod config;

pub use config::Config;

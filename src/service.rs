//! The gRPC services and what stands around them.

pub mod health;
pub mod observe;

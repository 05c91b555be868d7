//! Generated code, and the only conversions between the wire and the house's own types.

mod brief;
mod codec;
mod convert;
mod encode;
mod publish;
mod redacted;
mod shape;
mod stored;

/// Package `bowline.v1`, as `build.rs` generated it.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("bowline.v1");
}

/// Package `grpc.health.v1`, as `build.rs` generated it.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

pub use codec::Codec;
pub use encode::{DeliveryHead, Placed, encode_content, encode_event, encoded_event_len, frame, place_event};
pub use publish::publish;
pub use shape::is_modest;
pub use stored::stored;

/// The descriptor set of `proto/` and what it imports: what reflection serves.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

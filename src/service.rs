//! The gRPC services and what stands around them. Thin: each call is checked, handed to the core, and answered.

pub mod caller;
mod connections;
pub mod crowd;
pub mod gate;
pub mod health;
pub mod observe;
mod page;
mod stream;
mod topics;

use std::sync::Arc;

use tonic::service::Routes;

use crate::{
    connection::Shared,
    health::Health,
    proto::{
        self,
        v1::{connection_service_server::ConnectionServiceServer, topic_service_server::TopicServiceServer},
    },
};

/// Full names of the services whose health is told apart.
pub const SERVICES: [&str; 3] = ["bowline.v1.StreamService", "bowline.v1.TopicService", "bowline.v1.ConnectionService"];

/// Largest request of services that are asked short questions, bytes.
const SHORT: usize = 64 * 1024;
/// Largest request for health: the name of a service.
const NAME: usize = 1024;

/// Every service: ours, health, and reflection in both versions. Fails only if the descriptors built into the program
/// are broken.
pub fn routes(shared: &Arc<Shared>, health: &Health) -> Result<Routes, tonic_reflection::server::Error> {
    for name in SERVICES {
        health.set_service(name, true);
    }
    let limit = shared.config.decode_limit();
    let topics = topics::Topics::new(shared);
    let connections = connections::Connections::new(shared.registry.clone(), shared.hub.fleet());
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(proto::DESCRIPTORS);
    Ok(Routes::new(stream::StreamService::new(shared.clone()))
        .add_service(TopicServiceServer::new(topics).max_decoding_message_size(limit))
        .add_service(ConnectionServiceServer::new(connections).max_decoding_message_size(SHORT))
        .add_service(health::service(health.clone()).max_decoding_message_size(NAME))
        .add_service(reflection().build_v1()?.max_decoding_message_size(SHORT))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(SHORT)))
}

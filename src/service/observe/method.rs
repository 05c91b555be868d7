//! The methods this server has, read from the descriptors it serves: the closed set of metric labels.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// One method, as labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Method {
    /// `unary`, `client_stream`, `server_stream` or `bidi_stream`.
    pub(super) grpc_type: &'static str,
    /// The service's full name.
    pub(super) service: &'static str,
    /// The method's name.
    pub(super) name: &'static str,
    /// `service/name`, as spans have it.
    pub(super) full_name: &'static str,
}

impl Method {
    /// Whatever is called that does not exist. Peers choose such names, so they must not become labels.
    const UNKNOWN: Self = Self { grpc_type: "unary", service: "unknown", name: "unknown", full_name: "_OTHER" };

    pub(super) fn is_unary(&self) -> bool {
        self.grpc_type == "unary"
    }
}

/// The methods that may become labels. Make it once: its names live as long as the process.
#[derive(Debug, Default)]
pub struct Methods(HashMap<String, Method>);

impl Methods {
    /// Adds all methods of an encoded `FileDescriptorSet`.
    ///
    /// # Errors
    /// When it is none.
    pub fn with(mut self, descriptors: &[u8]) -> Result<Self, prost::DecodeError> {
        for file in FileDescriptorSet::decode(descriptors)?.file {
            for service in &file.service {
                let service_name: &'static str = format!("{}.{}", file.package(), service.name()).leak();
                for method in &service.method {
                    let name = method.name().to_owned().leak();
                    let path = format!("/{service_name}/{name}");
                    let full_name = path[1..].to_owned().leak();
                    let method = Method { grpc_type: grpc_type(method), service: service_name, name, full_name };
                    self.0.insert(path, method);
                }
            }
        }
        Ok(self)
    }

    /// Whether a call of this path is over with one answer. What does not exist is answered at once.
    pub fn is_unary(&self, path: &str) -> bool {
        self.find(path).is_unary()
    }

    pub(super) fn find(&self, path: &str) -> Method {
        self.0.get(path).copied().unwrap_or(Method::UNKNOWN)
    }
}

fn grpc_type(method: &MethodDescriptorProto) -> &'static str {
    match (method.client_streaming(), method.server_streaming()) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_path_and_strangers_are_all_alike() {
        let methods = Methods::default().with(crate::proto::DESCRIPTORS).unwrap();
        let stream = methods.find("/bowline.v1.StreamService/StreamData");
        assert_eq!(
            (stream.grpc_type, stream.service, stream.name),
            ("bidi_stream", "bowline.v1.StreamService", "StreamData")
        );
        assert!(methods.find("/grpc.health.v1.Health/Check").is_unary());
        assert_eq!(methods.find("/grpc.health.v1.Health/Watch").grpc_type, "server_stream");
        assert_eq!(methods.find("/any/Thing"), Method::UNKNOWN);
        // Those that have neither a clock nor a place among the calls: one more is to be thought about.
        let mut streams: Vec<_> =
            methods.0.iter().filter(|(_, method)| !method.is_unary()).map(|(path, _)| path).collect();
        streams.sort();
        assert_eq!(streams, ["/bowline.v1.StreamService/StreamData", "/grpc.health.v1.Health/Watch"]);
    }
}

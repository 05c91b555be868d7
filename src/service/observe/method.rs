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

/// What a call is, as far as there are limits on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A `StreamData` call, which has clocks and a limit of its own.
    Conversation,
    /// Asks how the server is, from then on.
    Watch,
    /// Asks how the server is, once.
    Check,
    /// Over with one answer, or refused, as is what does not exist. Reflection is among these: it is asked and forgotten.
    Unary,
}

impl Kind {
    /// Whether it is over with one answer.
    pub fn is_unary(self) -> bool {
        matches!(self, Self::Check | Self::Unary)
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

    /// What a call of this path is.
    pub fn kind(&self, path: &str) -> Kind {
        let method = self.find(path);
        match (method.service, method.is_unary()) {
            ("grpc.health.v1.Health", true) => Kind::Check,
            ("grpc.health.v1.Health", false) => Kind::Watch,
            (_, true) => Kind::Unary,
            (_, false) => Kind::Conversation,
        }
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
        // Those that may go on for as long as their client likes: one more is to be thought about.
        let mut streams: Vec<_> =
            methods.0.iter().filter(|(_, method)| !method.is_unary()).map(|(path, _)| path).collect();
        streams.sort();
        assert_eq!(streams, ["/bowline.v1.StreamService/StreamData", "/grpc.health.v1.Health/Watch"]);
        for (path, kind) in [
            ("/bowline.v1.StreamService/StreamData", Kind::Conversation),
            ("/bowline.v1.TopicService/Publish", Kind::Unary),
            ("/grpc.health.v1.Health/Watch", Kind::Watch),
            ("/grpc.health.v1.Health/Check", Kind::Check),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Kind::Unary),
            ("/any/Thing", Kind::Unary),
        ] {
            assert_eq!(methods.kind(path), kind, "{path}");
        }
    }
}

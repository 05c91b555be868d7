//! Health and reflection, as load balancers and tools call them.

use std::collections::BTreeSet;

use bowline::proto::health::{
    HealthCheckRequest, HealthListRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic::Code;

use crate::support::{TestServer, within};

const SERVICES: [&str; 3] = ["bowline.v1.ConnectionService", "bowline.v1.StreamService", "bowline.v1.TopicService"];

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_knows_the_server_its_services_and_nobody_else() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in SERVICES.iter().chain(&[""]) {
        assert_eq!(health.check(asked(service)).await.unwrap().get_ref().status(), ServingStatus::Serving);
    }
    assert_eq!(health.check(asked("no.Such")).await.unwrap_err().code(), Code::NotFound);
    server.leave().await;
}

#[tokio::test]
async fn health_lists_the_server_and_all_its_services() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let statuses = health.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
    assert!(statuses.values().all(|status| status.status() == ServingStatus::Serving), "{statuses:?}");
    let names: BTreeSet<_> = statuses.keys().map(String::as_str).collect();
    assert_eq!(names, SERVICES.into_iter().chain([""]).collect());
    server.leave().await;
}

#[tokio::test]
async fn a_watch_tells_the_status_at_once_and_even_of_a_stranger() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for (service, status) in [
        ("", ServingStatus::Serving),
        (SERVICES[1], ServingStatus::Serving),
        ("no.Such", ServingStatus::ServiceUnknown),
    ] {
        let mut watch = health.watch(asked(service)).await.unwrap().into_inner();
        assert_eq!(within("a status", watch.message()).await.unwrap().unwrap().status(), status);
    }
    server.leave().await;
}

/// The services that one version of reflection lists.
macro_rules! listed {
    ($server:expr, $version:ident) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let wanted = [
            MessageRequest::ListServices(String::new()),
            MessageRequest::FileContainingSymbol("bowline.v1.StreamService".to_owned()),
        ];
        let requests =
            wanted.map(|wanted| ServerReflectionRequest { host: String::new(), message_request: Some(wanted) });
        let mut client = ServerReflectionClient::new($server.channel().await);
        let mut answers = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
        let mut next =
            async || within("an answer", answers.message()).await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = next().await else { panic!("no list") };
        let MessageResponse::FileDescriptorResponse(files) = next().await else { panic!("no file") };
        assert!(!files.file_descriptor_proto.is_empty());
        list.service.into_iter().map(|service| service.name).collect::<BTreeSet<_>>()
    }};
}

#[tokio::test]
async fn reflection_lists_every_service_in_both_of_its_versions() {
    let server = TestServer::start().await;
    for listed in [listed!(server, v1), listed!(server, v1alpha)] {
        for service in SERVICES.iter().chain(&["grpc.health.v1.Health"]) {
            assert!(listed.contains(*service), "{service} is not in {listed:?}");
        }
    }
    server.leave().await;
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_unimplemented() {
    let server = TestServer::start().await;
    for path in ["/bowline.v1.StreamService/Nothing", "/bowline.v1.TopicService/Nothing", "/no.Such/Method"] {
        let mut grpc = tonic::client::Grpc::new(server.channel().await);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
        let status = grpc.unary(tonic::Request::new(asked("")), path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
    server.leave().await;
}

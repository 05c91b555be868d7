//! What an attack is held against: a tonic server as its documentation shows one, with every default, in a process of its
//! own. It must fail where the suite expects it to, or the suite proves nothing.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bowline::proto::{
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus,
        health_server::{Health, HealthServer},
    },
    v1::{
        Heartbeat, StreamDataRequest, StreamDataResponse, Welcome, stream_data_request::Frame as Heard,
        stream_data_response::Frame,
    },
};
use tokio_stream::{Stream, StreamExt as _, once};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, NamedService, StreamingService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::Service;

/// Serves until killed; says where it listens on stderr.
pub async fn serve() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
    eprintln!("listening {}", incoming.local_addr().unwrap());
    let services = Server::builder().add_service(Conversations).add_service(HealthServer::new(Stock));
    services.serve_with_incoming(incoming).await.unwrap();
}

struct Stock;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// `StreamService` as it would be generated: ours is, with a codec of the house, which would be no stock.
#[derive(Clone)]
struct Conversations;

impl NamedService for Conversations {
    const NAME: &'static str = "bowline.v1.StreamService";
}

impl Service<http::Request<Body>> for Conversations {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(Grpc::new(ProstCodec::default()).streaming(Conversation, request).await) })
    }
}

/// Welcomes, answers heartbeats, and takes everything else as it comes.
struct Conversation;

impl StreamingService<StreamDataRequest> for Conversation {
    type Response = StreamDataResponse;
    type ResponseStream = Responses<StreamDataResponse>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<StreamDataRequest>>) -> Self::Future {
        let answers = request.into_inner().filter_map(|request| match request {
            Ok(request) => answer(request.frame?).map(|frame| Ok(StreamDataResponse { frame: Some(frame) })),
            Err(status) => Some(Err(status)),
        });
        let answers: Self::ResponseStream = Box::pin(answers);
        ready(Ok(Response::new(answers)))
    }
}

fn answer(frame: Heard) -> Option<Frame> {
    match frame {
        Heard::Hello(_) => Some(Frame::Welcome(Welcome { version: 1, ..Welcome::default() })),
        Heard::Heartbeat(beat) => Some(Frame::Heartbeat(Heartbeat { nonce: beat.nonce, ..Heartbeat::default() })),
        _ => None,
    }
}

#[tonic::async_trait]
impl Health for Stock {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Ok(Response::new(HealthListResponse::default()))
    }

    type WatchStream = Responses<HealthCheckResponse>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let status = HealthCheckResponse { status: ServingStatus::Serving.into() };
        Ok(Response::new(Box::pin(once(Ok(status)))))
    }
}

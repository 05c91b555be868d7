//! What Bowline is measured beside: the shortest tonic service that does the same work, built by the same profile, with
//! hyper's own defaults. No sessions, no history, no identity, no limits.

use std::{
    convert::Infallible,
    future::Ready,
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use hyper_util::{rt::TokioExecutor, rt::TokioIo, service::TowerToHyperService};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, body::Body, server::Grpc, server::StreamingService};
use tonic_prost::ProstCodec;

/// The only message. `bytes`, so that a fan-out shares it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Blob {
    /// The content.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

/// What a subscriber may have waiting; beyond it a message is lost, which the generator would notice.
const QUEUE: usize = 1024;
/// As Bowline has by default, and as Go has from the kernel.
const BACKLOG: u32 = 4096;

type Subscribers = Arc<Mutex<Vec<mpsc::Sender<Result<Blob, Status>>>>>;
type Answers = Pin<Box<dyn Stream<Item = Result<Blob, Status>> + Send>>;

/// Serves until killed; says where it listens on stderr. With TLS, if there are a certificate's file and its key's.
pub async fn serve(files: impl Iterator<Item = String>) -> std::io::Result<()> {
    let tls = acceptor(files)?;
    let listener = listener()?;
    eprintln!("listening {}", listener.local_addr()?);
    let subscribers = Subscribers::default();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = TowerToHyperService::new(Peer(Arc::clone(&subscribers)));
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(None);
        match &tls {
            None => detach(builder.serve_connection(TokioIo::new(socket), service)),
            Some(tls) => {
                let handshake = Box::pin(tls.accept(socket));
                detach(async move {
                    let Ok(socket) = handshake.await else { return };
                    drop(builder.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        }
    }
}

/// With a backlog as long as that of the others: tokio's own of 128 has the kernel refuse whoever is beyond it, who tries again
/// after a second.
fn listener() -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(BACKLOG)
}

fn acceptor(mut files: impl Iterator<Item = String>) -> std::io::Result<Option<TlsAcceptor>> {
    let (Some(certificate), Some(key)) = (files.next(), files.next()) else { return Ok(None) };
    let chain =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(std::io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(std::io::Error::other)?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(std::io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(Arc::new(config).into()))
}

/// As a plain tonic server does: nobody waits for it.
#[expect(clippy::disallowed_methods, reason = "this is the peer, not the house")]
fn detach<F: Future<Output: Send> + Send + 'static>(connection: F) {
    drop(tokio::spawn(connection));
}

#[derive(Clone)]
struct Peer(Subscribers);

impl tower::Service<http::Request<hyper::body::Incoming>> for Peer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        let method = match request.uri().path() {
            "/peer.Peer/Echo" => Method::Echo,
            "/peer.Peer/Publish" => Method::Publish(Arc::clone(&self.0)),
            _ => Method::Subscribe(Arc::clone(&self.0)),
        };
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).streaming(method, request).await) })
    }
}

enum Method {
    Echo,
    Publish(Subscribers),
    Subscribe(Subscribers),
}

impl StreamingService<Blob> for Method {
    type Response = Blob;
    type ResponseStream = Answers;
    type Future = Ready<Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Blob>>) -> Self::Future {
        let inbound = request.into_inner();
        let answers: Answers = match self {
            Self::Echo => Box::pin(inbound),
            // Its echo is the acknowledgement.
            Self::Publish(subscribers) => {
                let subscribers = Arc::clone(subscribers);
                Box::pin(inbound.map(move |message| {
                    if let Ok(message) = &message {
                        publish(&subscribers, message);
                    }
                    message
                }))
            }
            Self::Subscribe(subscribers) => {
                let (sender, receiver) = mpsc::channel(QUEUE);
                if sender.try_send(Ok(Blob::default())).is_ok() {
                    subscribers.lock().push(sender);
                }
                Box::pin(ReceiverStream::new(receiver))
            }
        };
        std::future::ready(Ok(Response::new(answers)))
    }
}

/// To everybody who is still there; the content is shared, not copied.
fn publish(subscribers: &Subscribers, message: &Blob) {
    subscribers.lock().retain(|subscriber| {
        !matches!(subscriber.try_send(Ok(message.clone())), Err(mpsc::error::TrySendError::Closed(_)))
    });
}

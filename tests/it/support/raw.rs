//! A call over bare HTTP/2: for what a proper gRPC client cannot be made to do.

use std::net::SocketAddr;

use bowline::{
    lifecycle::Tasks,
    proto::v1::{StreamDataRequest, stream_data_request::Frame},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client};
use http::Request;
use prost::Message as _;
use tokio::{net::TcpStream, sync::watch};
use tonic::Status;

use super::within;

/// HTTP/2 to the server.
pub(crate) struct RawTransport {
    http: client::SendRequest<Bytes>,
    address: SocketAddr,
    widened: watch::Sender<bool>,
}

impl RawTransport {
    /// A transport on whose calls the server may send `window` bytes before any is read.
    pub(crate) async fn open(address: SocketAddr, window: u32) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let handshake = client::Builder::new().initial_window_size(window).handshake(socket);
        let (http, mut connection) = within("HTTP/2", handshake).await.unwrap();
        let (widened, mut wide) = watch::channel(false);
        drop(Tasks::default().spawn("raw transport", async move {
            tokio::select! {
                _ = &mut connection => return,
                changed = wide.changed() => if changed.is_ok() {
                    connection.set_initial_window_size(1 << 20).unwrap();
                }
            }
            drop(connection.await);
        }));
        Self { http, address, widened }
    }

    /// From now on there is room for what the server has to say.
    pub(crate) fn widen(&self) {
        self.widened.send_replace(true);
    }

    /// Waits until the server has said that it takes no more calls.
    pub(crate) async fn refuses_calls(&self) {
        let mut http = self.http.clone();
        while within("readiness", std::future::poll_fn(|cx| http.poll_ready(cx))).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// A call with one message, whose answer is not read; it goes on until what is returned is dropped.
    pub(crate) async fn unary(&self, path: &str, message: &impl prost::Message) -> RecvStream {
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut send) = self.http.clone().send_request(request, false).unwrap();
        send.send_data(grpc_message(&message.encode_to_vec()), true).unwrap();
        within("the head of a response", response).await.unwrap().into_body()
    }

    /// Another `StreamData` call.
    pub(crate) async fn call(&self) -> RawCall {
        self.begin(self.stream_data()).await
    }

    /// Another, whose client will wait no longer than this.
    pub(crate) async fn timed_call(&self, grpc_timeout: &str) -> RawCall {
        self.begin(self.stream_data().header("grpc-timeout", grpc_timeout)).await
    }

    fn stream_data(&self) -> http::request::Builder {
        Request::post(format!("http://{}/bowline.v1.StreamService/StreamData", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
    }

    async fn begin(&self, request: http::request::Builder) -> RawCall {
        let request = request.body(()).unwrap();
        let (response, send) = self.http.clone().send_request(request, false).unwrap();
        let body = within("the head of a response", response).await.unwrap().into_body();
        RawCall { send, body }
    }
}

/// A `StreamData` call that reads nothing unless told to.
pub(crate) struct RawCall {
    send: SendStream<Bytes>,
    body: RecvStream,
}

impl RawCall {
    /// A call on a transport of its own, with the usual window.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        RawTransport::open(address, 65_535).await.call().await
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: Bytes) {
        self.send.send_data(bytes, false).unwrap();
    }

    /// Sends a frame as gRPC does.
    pub(crate) fn send_frame(&mut self, frame: Frame) {
        let request = StreamDataRequest { request_id: 0, frame: Some(frame) };
        self.send(grpc_message(&request.encode_to_vec()));
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&mut self) {
        self.send.send_data(Bytes::new(), true).unwrap();
    }

    /// Takes one chunk; its length.
    pub(crate) async fn take(&mut self) -> usize {
        let data = within("data", self.body.data()).await.expect("not the end").unwrap();
        self.body.flow_control().release_capacity(data.len()).unwrap();
        data.len()
    }

    /// Reads to the end; the status in the trailers, or the reset.
    pub(crate) async fn end(&mut self) -> Result<Status, h2::Error> {
        while let Some(data) = within("data or an end", self.body.data()).await {
            self.body.flow_control().release_capacity(data?.len())?;
        }
        let trailers = within("trailers", self.body.trailers()).await?.expect("trailers");
        Ok(Status::from_header_map(&trailers).expect("a status"))
    }
}

/// A message with its gRPC prefix.
pub(crate) fn grpc_message(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap());
    out.put_slice(message);
    out.freeze()
}

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
use tokio::net::TcpStream;
use tonic::Status;

use super::within;

/// A `StreamData` call that reads nothing unless told to.
pub(crate) struct RawCall {
    send: SendStream<Bytes>,
    pub(crate) body: RecvStream,
}

impl RawCall {
    /// Opens a call whose peer may send `window` bytes before this reads any.
    pub(crate) async fn open(address: SocketAddr, window: u32) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let (mut http, connection) =
            client::Builder::new().initial_window_size(window).handshake::<_, Bytes>(socket).await.unwrap();
        drop(Tasks::default().spawn("raw transport", async move { drop(connection.await) }));
        let request = Request::post(format!("http://{address}/bowline.v1.StreamService/StreamData"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, send) = http.send_request(request, false).unwrap();
        let body = within("the head of a response", response).await.unwrap().into_body();
        Self { send, body }
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

//! How the plain server of `limit.rs` is talked to: a byte that says the role, then messages of one length.

use std::{io, net::SocketAddr, sync::LazyLock};

use bowline::proto::v1;
use bytes::{Buf, BufMut, Bytes};
use prost::Message;

use crate::{
    limit::{ECHO, PUBLISHER, SUBSCRIBER},
    socket::Socket,
    talker::{Dialect, Numbers, Role, Shape, content},
};

/// Bytes of a message: as many as Bowline's delivery of one event takes, with the frames around it.
static LENGTH: LazyLock<usize> = LazyLock::new(|| {
    let payload = Bytes::copy_from_slice(&content(1));
    let event = v1::Event { offset: 1000, time_us: 1_800_000_000_000_000, payload, ..Default::default() };
    let delivery = v1::Delivery { session: 1, prev: 999, events: vec![event], ..Default::default() };
    let frame = Some(v1::stream_data_response::Frame::Delivery(delivery));
    let headers_of_frame_and_message = 9 + 5;
    headers_of_frame_and_message + v1::StreamDataResponse { frame }.encoded_len()
});

/// One connection.
pub struct Plain {
    socket: Socket,
}

impl Plain {
    /// See `Stage::open`.
    pub async fn open(address: SocketAddr, role: Role, shape: Shape) -> io::Result<Self> {
        let mut socket = Socket::connect(address, shape).await?;
        socket.outbound.put_u8(match role {
            Role::Echo => ECHO,
            Role::Publisher => PUBLISHER,
            Role::Subscriber => SUBSCRIBER,
        });
        // It is sent back when the server knows the connection.
        while socket.inbound.is_empty() {
            socket.read().await?;
        }
        socket.inbound.advance(1);
        Ok(Self { socket })
    }
}

impl Dialect for Plain {
    fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    fn queue(&mut self, number: u64) {
        let content = content(number);
        self.socket.outbound.put_slice(&content);
        self.socket.outbound.put_bytes(0, *LENGTH - content.len());
    }

    fn take(&mut self, numbers: &mut Numbers) -> io::Result<bool> {
        let inbound = &mut self.socket.inbound;
        if inbound.len() < *LENGTH {
            return Ok(false);
        }
        numbers.take(0, inbound)?;
        inbound.advance(*LENGTH);
        Ok(true)
    }
}

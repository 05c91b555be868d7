//! How the bare gRPC servers are talked to, that of tonic and that in Go: by one message, on methods for each role.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use prost::Message;

use crate::{
    peer::Blob,
    socket::Socket,
    talker::{Dialect, Numbers, Role, Shape, content},
    wire::Wire,
};

/// Calls on one connection. They have no sessions: each stands for one.
pub struct Grpc {
    wire: Wire,
}

impl Grpc {
    /// See `Stage::open`.
    pub async fn open(address: SocketAddr, role: Role, shape: Shape) -> io::Result<Self> {
        let mut wire = Wire::connect(address, shape).await?;
        let path = match role {
            Role::Echo => "/peer.Peer/Echo",
            Role::Publisher => "/peer.Peer/Publish",
            Role::Subscriber => "/peer.Peer/Subscribe",
        };
        let calls = if role == Role::Subscriber { shape.receivers() } else { 1 };
        for _ in 0..calls {
            wire.call(path);
        }
        if role == Role::Subscriber {
            // An empty message says that it has been subscribed.
            for _ in 0..calls {
                wire.next().await?;
            }
        } else {
            wire.socket.flush().await?;
        }
        Ok(Self { wire })
    }
}

impl Dialect for Grpc {
    fn socket(&mut self) -> &mut Socket {
        &mut self.wire.socket
    }

    fn queue(&mut self, number: u64) {
        self.wire.queue(0, &Blob { data: Bytes::copy_from_slice(&content(number)) });
    }

    fn take(&mut self, numbers: &mut Numbers) -> io::Result<bool> {
        let Some((call, message)) = self.wire.ready()? else { return Ok(false) };
        numbers.take(call, &Blob::decode(message).map_err(io::Error::other)?.data)?;
        Ok(true)
    }
}

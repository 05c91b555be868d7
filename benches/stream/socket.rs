//! A socket with what was read from it and not yet understood, and what is to be written to it.

use std::{io, net::SocketAddr};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpSocket,
};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::talker::Shape;

/// What a reader that is to stop takes before its kernel takes no more, bytes (Linux doubles it).
pub const SMALL_BUFFER: u32 = 4096;

/// TCP, or TLS on it.
trait Carrier: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Carrier for T {}

/// See the module.
pub struct Socket {
    stream: Box<dyn Carrier>,
    /// Received.
    pub inbound: BytesMut,
    /// Written by the next flush.
    pub outbound: BytesMut,
}

impl Socket {
    /// Connects, as the shape says that it is carried.
    pub async fn connect(address: SocketAddr, shape: Shape) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if shape.small {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Carrier> = match shape.tls {
            None => Box::new(stream),
            Some(trusting) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                Box::new(trusting().connect(name, stream).await?)
            }
        };
        Ok(Self { stream, inbound: BytesMut::new(), outbound: BytesMut::new() })
    }

    /// Writes what is queued.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.outbound).await?;
        // TLS keeps what its socket did not take.
        self.stream.flush().await
    }

    /// Flushes, then reads at least once.
    pub async fn read(&mut self) -> io::Result<()> {
        self.flush().await?;
        if self.stream.read_buf(&mut self.inbound).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

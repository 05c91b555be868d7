//! A socket with what was read from it and not yet understood, and what is to be written to it.

use std::{io, net::SocketAddr};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// What a reader that is to stop takes before its kernel takes no more, bytes (Linux doubles it).
pub const SMALL_BUFFER: u32 = 4096;

/// See the module.
pub struct Socket {
    stream: TcpStream,
    /// Received.
    pub inbound: BytesMut,
    /// Written by the next flush.
    pub outbound: BytesMut,
}

impl Socket {
    /// Connects. `small`: its kernel takes little that nobody reads.
    pub async fn connect(address: SocketAddr, small: bool) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if small {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, inbound: BytesMut::new(), outbound: BytesMut::new() })
    }

    /// Writes what is queued.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.outbound).await
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

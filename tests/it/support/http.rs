//! HTTP as `curl` speaks it.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::within;

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// GET of a path, with one more header line if it is not empty.
pub(crate) async fn get(address: SocketAddr, path: &str, header: &str) -> Answer {
    ask(address, "GET", path, header, "").await
}

/// A request with this method, one more header line if it is not empty, and a body of JSON if that is not empty.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, header: &str, body: &str) -> Answer {
    within("an answer over HTTP", async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}{kind}\
             content-length: {length}\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    })
    .await
}

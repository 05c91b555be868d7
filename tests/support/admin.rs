//! The admin port of a server under test.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::served::Served;

/// How long an answer may take: nothing is asked that would not be there at once, and a test must not hang.
const ANSWER: Duration = Duration::from_secs(20);
/// How long `wait_for` waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// The admin port, by plain HTTP.
pub struct Admin(SocketAddr);

impl Admin {
    /// That of a server, which has one.
    pub fn of(server: &Served) -> Self {
        Self(server.admin.expect("an admin port"))
    }

    /// The body of a GET.
    pub fn get(&self, path: &str) -> String {
        self.try_get(path).unwrap_or_else(|| panic!("the admin port does not answer {path}"))
    }

    /// The body of a GET, if the port is still there and answers.
    pub fn try_get(&self, path: &str) -> Option<String> {
        let mut socket = TcpStream::connect_timeout(&self.0, ANSWER).ok()?;
        socket.set_read_timeout(Some(ANSWER)).ok()?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics");
        let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// Waits until a metric has a value; panics if it never has.
    pub async fn wait_for(&self, name: &str, value: f64) {
        let reached = async {
            while self.metric(name) != value {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, reached).await;
        assert!(seen.is_ok(), "{name} is {}, not {value}", self.metric(name));
    }
}

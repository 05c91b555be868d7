//! `--server` and its companions: how a command reaches a server, and how it says that it could not.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio::{sync::watch, time::timeout};
use tonic::{Code, Request, Status as RpcStatus, metadata::AsciiMetadataValue, transport::Channel};
use tonic_types::StatusExt;

use super::{
    exit::{Exit, Stop, innermost, plain},
    interrupt::GRACE,
};
use crate::client::{Builder, Client, Error, ErrorKind, Status};

/// Where a server is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerArgs {
    /// The server: http://HOST:PORT, or https://HOST:PORT for TLS.
    #[arg(long, value_name = "URL", env = "BOWLINE_SERVER", default_value = "http://127.0.0.1:50051")]
    pub(super) server: String,
    /// Read the bearer token from this file; again for each connection, and before the token runs out.
    #[arg(long, value_name = "FILE", env = "BOWLINE_TOKEN_FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// For https: trust the certificate authorities in this PEM file instead of the public ones.
    #[arg(long, value_name = "FILE", env = "BOWLINE_CA_FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// For https: show the certificate in this PEM file, to a server that asks for one.
    #[arg(long, value_name = "FILE", env = "BOWLINE_CERT_FILE", requires = "key_file")]
    pub(super) cert_file: Option<PathBuf>,
    /// The private key of that certificate, in a PEM file.
    #[arg(long, value_name = "FILE", env = "BOWLINE_KEY_FILE", requires = "cert_file")]
    pub(super) key_file: Option<PathBuf>,
}

impl ServerArgs {
    /// What the client library needs to know.
    pub(super) fn builder(&self) -> Result<Builder, Stop> {
        let mut builder = Client::builder(&self.server).agent(concat!("bowline-cli/", env!("CARGO_PKG_VERSION")));
        // Read here for the sentence, if that fails; the library reads it for each connection.
        self.token()?;
        if let Some(path) = &self.token_file {
            builder = builder.token_file(path);
        }
        if let Some(path) = &self.ca_file {
            builder = builder.tls_ca_file(path);
        }
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            builder = builder.tls_identity_files(cert, key);
        }
        Ok(builder)
    }

    /// A channel for unary calls.
    pub(super) async fn channel(&self) -> Result<Channel, Stop> {
        self.builder()?.channel().await.map_err(|error| self.stop(&error))
    }

    /// A unary request, with the token.
    pub(super) fn request<T>(&self, message: T) -> Result<Request<T>, Stop> {
        let mut request = Request::new(message);
        if let Some(token) = self.token()? {
            let mut value = AsciiMetadataValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Stop::failure("the token has characters that no token may have; check --token-file"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }

    fn token(&self) -> Result<Option<String>, Stop> {
        let read = |path: &PathBuf| match std::fs::read_to_string(path) {
            Ok(token) => Ok(token.trim().to_owned()),
            Err(error) => Err(Stop::failure(format!("cannot read token file {}: {}", path.display(), plain(&error)))),
        };
        self.token_file.as_ref().map(read).transpose()
    }

    /// What a failure of the client library means for a command.
    pub(super) fn stop(&self, error: &Error) -> Stop {
        match error.kind() {
            ErrorKind::Connect => self.unreachable(&error.to_string()),
            ErrorKind::Invalid => Stop::usage(error.to_string()),
            ErrorKind::Refused | ErrorKind::SessionClosed | ErrorKind::PublishFailed => {
                Stop::new(Exit::Refused, refused(&self.server, error.reason().unwrap_or_default(), &error.to_string()))
            }
            _ => Stop::failure(error.to_string()),
        }
    }

    /// What the status of a unary call means for a command.
    pub(super) fn rpc_stop(&self, status: &RpcStatus) -> Stop {
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        if reason.is_empty() && matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
            return self.unreachable(status.message());
        }
        let separator = if reason.is_empty() { "" } else { ": " };
        let text = format!("{reason}{separator}{}", status.message());
        Stop::new(Exit::Refused, refused(&self.server, &reason, &text))
    }

    fn unreachable(&self, causes: &str) -> Stop {
        let url = &self.server;
        let cause = innermost(causes);
        let advice = if cause.contains("refused") { "; is `bowline serve` running there?" } else { "" };
        Stop::new(Exit::Unreachable, format!("cannot connect to {url}: {cause}{advice}"))
    }
}

/// The sentence for a refusal, with what to do about it.
fn refused(server: &str, reason: &str, text: &str) -> String {
    let advice = match reason {
        "TAKEN_OVER" => "another program uses the same session now; choose another --session or --client-id",
        "TOKEN_INVALID" => "check --token-file",
        "TOKEN_EXPIRED" => "put a new token into the file of --token-file",
        "DENIED" => "the rules of the server say what this client may do",
        "MAX_CONNECTIONS" | "OPEN_RATE" | "DRAINING" | "TOPIC_LIMIT" | "PUBLISH_RATE" => "try again later",
        "UNKNOWN_TOPIC" => "the server's configuration says which topics may exist",
        "" => return format!("{server} refused: {text}"),
        _ => return format!("the server refused: {text}"),
    };
    format!("the server refused: {text}; {advice}")
}

/// Who connects, and how patiently.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ClientArgs {
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// Who to be, where authentication does not say: sessions belong to it, and events carry it as their publisher
    /// (default: cli-USER@HOST).
    #[arg(long, value_name = "ID", env = "BOWLINE_CLIENT_ID")]
    pub(super) client_id: Option<String>,
    #[command(flatten)]
    pub(super) patience: Patience,
}

impl ClientArgs {
    /// The client id: the one chosen, or one that stays the same on this machine, since sessions belong to it.
    pub(super) fn client_id(&self) -> String {
        self.client_id.clone().unwrap_or_else(default_client_id)
    }

    /// See [`Patience::connect`].
    pub(super) async fn connect(&self, limit: Option<Duration>) -> Result<Client, Stop> {
        self.patience.connect(&self.server, &self.client_id(), limit).await
    }
}

/// How patiently a command connects.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct Patience {
    /// Wait for the server if it is not there yet, instead of failing.
    #[arg(long)]
    wait: bool,
    /// End once the server has been away for so long, such as 30s.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    give_up_after: Option<Duration>,
}

impl Patience {
    /// Connects. `limit` is for a command that should not wait for ever unless told so.
    pub(super) async fn connect(&self, server: &ServerArgs, id: &str, limit: Option<Duration>) -> Result<Client, Stop> {
        let mut builder = server.builder()?.client_id(id);
        if self.wait {
            builder = builder.wait_for_server();
        }
        if let Some(limit) = self.give_up_after.or(limit) {
            builder = builder.give_up_after(limit);
        }
        builder.connect().await.map_err(|error| server.stop(&error))
    }
}

fn default_client_id() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("cli-{}@{}", visible(&user, "user"), visible(&host, "localhost"))
}

/// What a client id may contain of a name; its limit is 128 bytes for both parts and what is between them.
fn visible(name: &str, otherwise: &str) -> String {
    let kept: String = name.chars().filter(char::is_ascii_graphic).take(60).collect();
    if kept.is_empty() { otherwise.to_owned() } else { kept }
}

/// Follows how a client stands with its server, in sentences for people.
#[derive(Debug)]
pub(super) struct Standing {
    status: watch::Receiver<Status>,
    away: bool,
}

impl Standing {
    /// Begins with a client that is connected.
    pub(super) fn new(client: &Client) -> Self {
        Self { status: client.status(), away: false }
    }

    /// Why the client has ended for good, or is about to: its publishes fail before it does. `None` if it goes on, or
    /// was asked to end.
    pub(super) async fn end(&mut self) -> Option<Error> {
        let ended = self.status.wait_for(|status| matches!(status, Status::Closed(_)));
        match timeout(GRACE, ended).await.ok()?.as_deref() {
            Ok(Status::Closed(error)) => error.clone(),
            _ => None,
        }
    }

    /// The next thing worth telling; pends for ever once the client has ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> String {
        loop {
            if self.status.changed().await.is_err() {
                return std::future::pending().await;
            }
            match &*self.status.borrow_and_update() {
                Status::Waiting { error, .. } if !self.away => {
                    self.away = true;
                    return format!("connection lost ({}); reconnecting", innermost(&error.to_string()));
                }
                Status::Connected(welcome) if self.away => {
                    self.away = false;
                    return format!("connected again, to {}", welcome.node);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_client_id_is_acceptable_and_stays_the_same() {
        assert_eq!(default_client_id(), default_client_id());
        crate::types::ClientId::parse(&default_client_id()).unwrap();
        assert_eq!(visible("J\u{fc}rgen M", "user"), "JrgenM");
        assert_eq!(visible("\u{fc}", "user"), "user");
    }
}

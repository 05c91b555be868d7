//! `bowline probe`: what `grpc_health_probe` does, with its exit codes, for images without a shell.

mod http;

use std::{process::ExitCode, time::Duration};

use clap::Args as ClapArgs;
use tokio::time::timeout;
use tonic::Code;

use super::{exit::notice, server::ServerArgs};
use crate::proto::health::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// The end of `bowline probe --help`.
const EXAMPLES: &str = "\
Examples:
  bowline probe
  bowline probe --server http://10.0.0.7:50051 --rpc-timeout 3s
  bowline probe --service bowline.v1.StreamService
  bowline probe --http http://127.0.0.1:9090/readyz

Exit codes, those of grpc_health_probe:
  0    SERVING
  1    the command line makes no sense
  2    cannot connect within --connect-timeout
  3    the health check failed, or took longer than --rpc-timeout
  4    an answer, but not SERVING; with --http, not 200 or without the text";

/// Ask a gRPC server for its health, by the standard health service, and exit accordingly.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Ask for this service; the server as a whole if empty.
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// Ask this URL with HTTP instead, as one of the port for operators; 200 is healthy.
    #[arg(long, value_name = "URL", conflicts_with = "service")]
    http: Option<String>,
    /// With --http: only if the answer has this text in it.
    #[arg(long, value_name = "TEXT", requires = "http")]
    contains: Option<String>,
    /// How long connecting may take.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
    /// How long the answer may take.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    rpc_timeout: Duration,
    #[command(flatten)]
    server: ServerArgs,
}

/// The exit codes of `grpc_health_probe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// SERVING.
    Serving = 0,
    /// The arguments make no sense.
    Arguments = 1,
    /// No connection.
    Connection = 2,
    /// The call failed.
    Rpc = 3,
    /// An answer, but not SERVING.
    Unhealthy = 4,
}

impl From<Health> for ExitCode {
    fn from(health: Health) -> Self {
        Self::from(health as u8)
    }
}

/// Runs it.
pub(super) async fn run(args: Args) -> Health {
    if let Some(url) = &args.http {
        let (health, sentence) = http::probe(&args, url).await;
        return say(health, sentence);
    }
    let url = &args.server.server;
    let builder = match args.server.builder() {
        Ok(builder) => builder.connect_timeout(args.connect_timeout),
        Err(stop) => return say(Health::Arguments, stop),
    };
    let channel = match timeout(args.connect_timeout, builder.channel()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) if error.kind() == crate::client::ErrorKind::Invalid => return say(Health::Arguments, error),
        Ok(Err(error)) => return say(Health::Connection, args.server.stop(&error)),
        Err(_) => {
            let limit = humantime::format_duration(args.connect_timeout);
            return say(Health::Connection, format!("cannot connect to {url} within {limit}"));
        }
    };
    let request = match args.server.request(HealthCheckRequest { service: args.service.clone() }) {
        Ok(request) => request,
        Err(stop) => return say(Health::Arguments, stop),
    };
    let limit = humantime::format_duration(args.rpc_timeout);
    match timeout(args.rpc_timeout, HealthClient::new(channel).check(request)).await {
        Err(_) => say(Health::Rpc, format!("{url} did not answer the health check within {limit}")),
        Ok(Err(status)) if status.code() == Code::Unimplemented => {
            say(Health::Rpc, format!("{url} does not offer the health service grpc.health.v1.Health"))
        }
        Ok(Err(status)) if status.code() == Code::NotFound => {
            say(Health::Rpc, format!("{url} knows no service {:?}", args.service))
        }
        Ok(Err(status)) => say(Health::Rpc, args.server.rpc_stop(&status)),
        Ok(Ok(answer)) => match answer.into_inner().status() {
            ServingStatus::Serving => say(Health::Serving, "status: SERVING"),
            other => say(Health::Unhealthy, format!("status: {}", other.as_str_name())),
        },
    }
}

fn say(health: Health, sentence: impl std::fmt::Display) -> Health {
    notice(sentence);
    health
}

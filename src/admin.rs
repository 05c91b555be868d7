//! The port for operators: probes, metrics, what is connected, how it is configured.
//!
//! HTTP/1 on a thread and a runtime of its own. It only reads; nothing here changes the state of the server.

mod config;
mod connections;
mod probe;
mod scrape;
mod server;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use connections::{Connections, Row};
pub use server::{Admin, StartError};

use crate::{
    health::Health,
    lifecycle::Phase,
    telemetry::metrics::{Metrics, REVISION},
};

/// Every path there is.
const PATHS: [&str; 7] = ["/livez", "/readyz", "/startupz", "/metrics", "/connections", "/config", "/version"];

/// What the admin port looks at.
pub struct Parts {
    /// Readiness.
    pub health: Health,
    /// The phase of the process.
    pub phase: watch::Receiver<Phase>,
    /// Every instrument.
    pub metrics: Arc<Metrics>,
    /// Who is connected.
    pub connections: Box<dyn Connections>,
    /// The merged configuration with its sources; secrets redacted by whoever made it.
    pub config: Value,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("health", &self.health).finish_non_exhaustive()
    }
}

/// Opens the admin port; it serves until `stop` is cancelled. Its errors are those of the address and of the system.
pub fn open(config: &Config, parts: Parts, stop: CancellationToken) -> Result<Admin, StartError> {
    Admin::open(config.listen, router(Arc::new(parts)), stop)
}

fn router(parts: Arc<Parts>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/livez", get(probe::live))
        .route("/readyz", get(probe::ready))
        .route("/startupz", get(probe::started))
        .route("/metrics", get(scrape::metrics))
        .route("/connections", get(connections::page))
        .route("/config", get(configuration))
        .route("/version", get(version))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(parts)
        .layer(axum::middleware::map_response(uncached))
}

async fn index() -> Json<Value> {
    Json(json!({ "name": "bowline", "paths": PATHS }))
}

async fn configuration(State(parts): State<Arc<Parts>>) -> Json<Value> {
    Json(parts.config.clone())
}

async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION"), "revision": REVISION }))
}

async fn unknown(uri: Uri) -> Response {
    let message = format!("there is no {}; there are {}", uri.path(), PATHS.join(" "));
    problem(StatusCode::NOT_FOUND, &message)
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}; it takes GET and HEAD", uri.path());
    problem(StatusCode::METHOD_NOT_ALLOWED, &message)
}

/// An error as JSON.
fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// Everything here is about this moment, and is what it says it is.
async fn uncached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;

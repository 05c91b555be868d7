//! The port for operators: probes, metrics, what is connected, how it is configured.
//!
//! HTTP/1 on a thread and a runtime of its own. What only reads is open to whoever reaches the port; what changes
//! something goes through the [`guard`].

mod config;
mod connections;
mod drain;
mod guard;
mod log_level;
mod page;
mod probe;
mod scrape;
mod server;
mod status;
mod topics;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use connections::{Connections, Row, Wanted};
pub use guard::TokenError;
pub use server::{Admin, StartError};
pub use topics::{TopicRow, Topics};

use self::guard::Guard;
use crate::{
    drain::Drain,
    health::Health,
    lifecycle::Lifecycle,
    telemetry::metrics::{Metrics, REVISION},
    types::Timestamp,
};

/// Every path there is, but for what the page for people loads.
const PATHS: [&str; 12] = [
    "/livez",
    "/readyz",
    "/startupz",
    "/metrics",
    "/status",
    "/connections",
    "/connections/{id}",
    "/topics",
    "/drain",
    "/log-level",
    "/config",
    "/version",
];

/// What the admin port looks at.
pub struct Parts {
    /// Readiness.
    pub health: Health,
    /// How clients are moved elsewhere.
    pub drain: Drain,
    /// The name of this replica.
    pub node: String,
    /// When the process began to serve.
    pub started: Timestamp,
    /// The phase of the process.
    pub lifecycle: Lifecycle,
    /// Every instrument.
    pub metrics: Arc<Metrics>,
    /// Who is connected.
    pub connections: Box<dyn Connections>,
    /// What is kept.
    pub topics: Box<dyn Topics>,
    /// The merged configuration with its sources; secrets redacted by whoever made it.
    pub config: Value,
    /// What peers and topics can take of the memory at worst.
    pub memory: Value,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("health", &self.health).finish_non_exhaustive()
    }
}

/// Opens the admin port; it serves until `stop` is cancelled. Its errors are those of the token, of the address and of the
/// system.
pub fn open(config: &Config, parts: Parts, stop: CancellationToken) -> Result<Admin, StartError> {
    let routes = router(Arc::new(parts), &Guard::new(config)?);
    // Nobody can come here but from this machine; what is led here by another name is a browser that was deceived.
    let local = config.listen.ip().to_canonical().is_loopback();
    let routes = if local { routes.layer(middleware::from_fn(called_by_name)) } else { routes };
    // Around the routes as a whole, because what a router itself answers, such as the header Allow, is added outside of
    // the layers of its routes.
    let whole = Router::new().fallback_service(routes).layer(middleware::from_fn(dressed));
    Admin::open(config.listen, whole, stop)
}

fn router(parts: Arc<Parts>, guard: &Guard) -> Router {
    Router::new()
        .route("/", get(page::index))
        .merge(page::files())
        .route("/livez", get(probe::live))
        .route("/readyz", get(probe::ready))
        .route("/startupz", get(probe::started))
        .route("/metrics", get(scrape::metrics))
        .route("/status", get(status::status))
        .route("/connections", get(connections::page))
        .route("/connections/{id}", guard.over(delete(connections::close)).get(connections::one))
        .route("/topics", get(topics::page))
        .route("/log-level", guard.over(put(log_level::change).delete(log_level::reset)).get(log_level::show))
        .route("/drain", guard.over(post(drain::begin).delete(drain::call_off)).get(drain::status))
        .route("/config", get(configuration))
        .route("/version", get(version))
        .fallback(unknown)
        .with_state(parts)
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

/// An error as JSON.
fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// Where only this machine can call, a name that is not this machine's was made to point here by somebody else.
async fn called_by_name(request: Request, next: Next) -> Response {
    // Probes tell nothing, and one that fails for its name would have the process restarted.
    let probes = ["/livez", "/readyz", "/startupz"];
    if probes.contains(&request.uri().path()) || guard::is_local_name(request.headers()) {
        return next.run(request).await;
    }
    problem(StatusCode::FORBIDDEN, "ask for this machine by its loopback address or as localhost")
}

/// What every answer has: it is about this moment and is what it says it is; and a wrong method is told which are right.
async fn dressed(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers_mut().remove(header::ALLOW).unwrap_or(HeaderValue::from_static("GET,HEAD"));
        let allowed = allow.to_str().unwrap_or_default().replace(',', ", ");
        response =
            problem(StatusCode::METHOD_NOT_ALLOWED, &format!("{path} does not take {method}; it takes {allowed}"));
        response.headers_mut().insert(header::ALLOW, allow);
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;

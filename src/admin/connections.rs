//! `/connections`: who is connected, a page at a time.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{Parts, guard::Asked, problem};

/// Rows of a page unless it is asked for otherwise, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// What is known of the live connections. Called on the admin thread; must not block.
pub trait Connections: Send + Sync + 'static {
    /// At most `limit` rows, of one client if one is named, in a fixed order, from behind the row with the place
    /// `after`; 0 is before the first.
    fn page(&self, client_id: Option<&str>, after: u64, limit: usize) -> Vec<Row>;

    /// Live connections.
    fn count(&self) -> usize;

    /// Closes one, and tells its client so; `why` is for people and may be empty. False if there is none of that id.
    fn close(&self, id: &str, why: &str) -> bool;
}

/// A live connection. No payloads, no tokens.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Its place in the order of all, to go on from: the `after` of the next page.
    #[serde(skip)]
    pub place: u64,
    /// Its id, as the client knows it.
    pub connection_id: String,
    /// Whom it serves; empty before its Hello.
    pub client_id: String,
    /// The remote end, address and port.
    pub peer: String,
    /// How it is doing: a word of a closed set.
    pub state: &'static str,
    /// When it was admitted, microseconds since the Unix epoch.
    pub opened_us: u64,
    /// Milliseconds since anything came from it.
    pub idle_ms: u64,
    /// Open sessions.
    pub sessions: u32,
    /// Frames received from it.
    pub received: u64,
    /// Frames sent to it.
    pub sent: u64,
    /// What the client calls its software.
    pub agent: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    limit: Option<usize>,
    #[serde(default)]
    after: u64,
    client_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct Page {
    connections: Vec<Row>,
    /// Live connections in all.
    total: usize,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

pub(super) async fn page(State(parts): State<Arc<Parts>>, filter: Result<Query<Filter>, QueryRejection>) -> Response {
    let Query(filter) = match filter {
        Ok(filter) => filter,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    // One more than asked for tells whether there is another page.
    let mut connections = parts.connections.page(filter.client_id.as_deref(), filter.after, limit + 1);
    let more = connections.len() > limit;
    connections.truncate(limit);
    let next = connections.last().filter(|_| more).map(|row| row.place);
    Json(Page { connections, total: parts.connections.count(), next }).into_response()
}

/// What may be said of a disconnection.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Disconnect {
    /// For people: the client is told.
    reason: String,
}

pub(super) async fn close(
    State(parts): State<Arc<Parts>>,
    Path(id): Path<String>,
    Asked(asked): Asked<Disconnect>,
) -> Response {
    if parts.connections.close(&id, &asked.reason) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        problem(StatusCode::NOT_FOUND, &format!("there is no connection {id}"))
    }
}

//! `/connections`: who is connected, a page at a time or those with the most trouble first; one of them, with its
//! sessions; and its end.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{Parts, guard::Asked, problem};
use crate::registry::SessionStatus;

/// Rows of a page unless it is asked for otherwise, and at most.
pub(super) const DEFAULT_LIMIT: usize = 100;
pub(super) const MAX_LIMIT: usize = 1000;

/// What is known of the live connections. Called on the admin thread; must not block.
pub trait Connections: Send + Sync + 'static {
    /// At most `limit` rows that fit, in a fixed order, from behind the row with the place `after`; 0 is before the first.
    fn page(&self, wanted: &Wanted, after: u64, limit: usize) -> Vec<Row>;

    /// At most `limit` rows that fit: those with most slow sessions first, then those that lag most. Looks at all.
    fn worst(&self, wanted: &Wanted, limit: usize) -> Vec<Row>;

    /// One, with its sessions.
    fn get(&self, id: &str) -> Option<(Row, Vec<SessionStatus>)>;

    /// Live connections.
    fn count(&self) -> usize;

    /// Most there may be.
    fn limit(&self) -> usize;

    /// Closes one, and tells its client so; `why` is for people and may be empty. False if there is none of that id.
    fn close(&self, id: &str, why: &str) -> bool;
}

/// Which connections are asked for; whatever is not said, fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this client.
    pub client_id: Option<String>,
    /// In this state.
    pub state: Option<String>,
    /// With a session that is slow, or without one.
    pub slow: Option<bool>,
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
    /// Those of them that do not keep up.
    pub slow: u32,
    /// Those of them that their client has paused.
    pub paused: u32,
    /// Events that wait for its sessions, together.
    pub lag: u64,
    /// Frames received from it.
    pub received: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
    /// Frames sent to it.
    pub sent: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// What the client calls its software.
    pub agent: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    limit: Option<usize>,
    after: Option<u64>,
    sort: Option<Sort>,
    client_id: Option<String>,
    state: Option<String>,
    slow: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Lag,
}

#[derive(Debug, Serialize)]
struct Page {
    connections: Vec<Row>,
    /// Live connections in all.
    total: usize,
    /// `after` of the next page; absent on the last, and where the worst were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

pub(super) async fn page(State(parts): State<Arc<Parts>>, filter: Result<Query<Filter>, QueryRejection>) -> Response {
    let filter = match filter {
        Ok(Query(filter)) => filter,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let wanted = Wanted { client_id: filter.client_id, state: filter.state, slow: filter.slow };
    let total = parts.connections.count();
    match (filter.sort, filter.after) {
        (Some(Sort::Lag), None) => {
            Json(Page { connections: parts.connections.worst(&wanted, limit), total, next: None }).into_response()
        }
        (Some(_), Some(_)) => {
            let message = "after is for pages in their own order: what lags most is another one at each look";
            problem(StatusCode::BAD_REQUEST, message)
        }
        (None, after) => {
            // One more than asked for tells whether there is another page.
            let mut connections = parts.connections.page(&wanted, after.unwrap_or(0), limit + 1);
            let more = connections.len() > limit;
            connections.truncate(limit);
            let next = connections.last().filter(|_| more).map(|row| row.place);
            Json(Page { connections, total, next }).into_response()
        }
    }
}

#[derive(Debug, Serialize)]
struct One {
    connection: Row,
    sessions: Vec<SessionStatus>,
}

pub(super) async fn one(State(parts): State<Arc<Parts>>, Path(id): Path<String>) -> Response {
    match parts.connections.get(&id) {
        Some((connection, sessions)) => Json(One { connection, sessions }).into_response(),
        None => none(&id),
    }
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
    if parts.connections.close(&id, &asked.reason) { StatusCode::NO_CONTENT.into_response() } else { none(&id) }
}

fn none(id: &str) -> Response {
    problem(StatusCode::NOT_FOUND, &format!("there is no connection {id}"))
}

//! `/topics`: what is kept here, a page at a time.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    Parts,
    connections::{DEFAULT_LIMIT, MAX_LIMIT},
    problem,
};

/// What is known of the topics. Called on the admin thread; must not block.
pub trait Topics: Send + Sync + 'static {
    /// At most `limit` topics, by name, of those whose name begins with `prefix` and comes after `after`.
    fn page(&self, prefix: &str, after: &str, limit: usize) -> Vec<TopicRow>;
}

/// A topic.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TopicRow {
    /// Its name.
    pub name: String,
    /// What it is for: a word of a closed set.
    pub class: &'static str,
    /// Names its log; another one after a restart.
    pub epoch: u64,
    /// The offset below which history is gone.
    pub floor: u64,
    /// The offset of the newest event.
    pub head: u64,
    /// Events kept.
    pub events: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// Sessions that read it.
    pub readers: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    limit: Option<usize>,
    #[serde(default)]
    after: String,
    #[serde(default)]
    prefix: String,
}

#[derive(Debug, Serialize)]
struct Page {
    topics: Vec<TopicRow>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn page(State(parts): State<Arc<Parts>>, filter: Result<Query<Filter>, QueryRejection>) -> Response {
    let filter = match filter {
        Ok(Query(filter)) => filter,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    // One more than asked for tells whether there is another page.
    let mut topics = parts.topics.page(&filter.prefix, &filter.after, limit + 1);
    let more = topics.len() > limit;
    topics.truncate(limit);
    let next = topics.last().filter(|_| more).map(|row| row.name.clone());
    Json(Page { topics, next }).into_response()
}

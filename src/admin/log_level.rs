//! `/log-level`: what is logged, shown and changed.

use std::time::Duration;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{guard::Asked, problem};
use crate::telemetry::LogLevel;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wish {
    directives: String,
    /// For how long; until it is changed again, if not said.
    #[serde(with = "humantime_serde")]
    ttl: Option<Duration>,
}

/// What is in force.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    directives: String,
    configured: String,
    /// When the configured ones come back, microseconds since the Unix epoch; absent if that is not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    until_us: Option<u64>,
}

impl Shown {
    /// Of this process, if it writes logs.
    pub(super) fn now() -> Option<Self> {
        let level = LogLevel::of_process()?;
        let setting = level.setting();
        Some(Self {
            directives: setting.directives.as_ref().to_owned(),
            configured: level.configured().to_owned(),
            until_us: setting.until.map(|until| until.0),
        })
    }
}

pub(super) async fn show() -> Response {
    match Shown::now() {
        Some(shown) => Json(shown).into_response(),
        None => problem(StatusCode::NOT_FOUND, "this process writes no logs of its own"),
    }
}

pub(super) async fn change(Asked(wish): Asked<Wish>) -> Response {
    match LogLevel::of_process().map(|level| level.set(&wish.directives, wish.ttl)) {
        Some(Err(message)) => problem(StatusCode::BAD_REQUEST, &message),
        _ => show().await,
    }
}

pub(super) async fn reset() -> Response {
    LogLevel::of_process().into_iter().for_each(LogLevel::reset);
    show().await
}

//! `/drain`: how this server leaves, ordered and watched by an operator. SIGTERM does the same as a POST with `exit`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Parts, guard::Asked, problem};
use crate::{
    drain::{Order, Status},
    lifecycle::Phase,
    types::Timestamp,
};

/// Longest reason, characters: every client is told it.
const MAX_REASON: usize = 128;

/// What may be wished of a drain. Nothing of it has to be said.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wish {
    reason: String,
    spread: Option<String>,
    grace: Option<String>,
    exit: bool,
}

/// How it stands.
pub(super) async fn status(State(parts): State<Arc<Parts>>) -> Json<Value> {
    Json(shown(&parts.drain.status()))
}

/// Begins: 202. Where one has begun it is hastened, never slowed down: 200.
pub(super) async fn begin(State(parts): State<Arc<Parts>>, Asked(wish): Asked<Wish>) -> Response {
    let order = match order(wish, &parts) {
        Ok(order) => order,
        Err(sentence) => return problem(StatusCode::BAD_REQUEST, &sentence),
    };
    // Of two that come together, both may be told that theirs was the first: it makes no difference to either.
    let first = parts.drain.status().phase < Phase::LameDuck;
    let code = if first { StatusCode::ACCEPTED } else { StatusCode::OK };
    (code, Json(shown(&parts.drain.begin(order)))).into_response()
}

/// Serves again, and also says so where there is nothing to call off: 200. Too late: 409.
pub(super) async fn call_off(State(parts): State<Arc<Parts>>) -> Response {
    match parts.drain.call_off() {
        Ok(status) => Json(shown(&status)).into_response(),
        Err(late) => problem(StatusCode::CONFLICT, &late.to_string()),
    }
}

fn order(wish: Wish, parts: &Parts) -> Result<Order, String> {
    if wish.reason.chars().count() > MAX_REASON || wish.reason.contains(char::is_control) {
        return Err(format!("reason must be at most {MAX_REASON} characters, and none of them a control character"));
    }
    let config = parts.drain.config();
    let reason = if wish.reason.is_empty() { "an operator" } else { &wish.reason };
    Ok(Order {
        reason: reason.into(),
        spread: shorter("spread", wish.spread.as_deref(), config.spread)?,
        grace: shorter("grace", wish.grace.as_deref(), config.grace)?,
        exit: wish.exit,
    })
}

/// A time in place of one that is configured. A longer one would be a promise that nothing keeps.
fn shorter(name: &str, wished: Option<&str>, configured: Duration) -> Result<Option<Duration>, String> {
    let Some(text) = wished else { return Ok(None) };
    let time = humantime::parse_duration(text)
        .map_err(|_| format!("{name} must be a time such as \"10s\" or \"1m 30s\", not {text:?}"))?;
    if time > configured {
        let limit = humantime::format_duration(configured);
        return Err(format!("{name} can only be shorter than drain.{name}, which is {limit}; {text:?} is longer"));
    }
    Ok(Some(time))
}

pub(super) fn shown(status: &Status) -> Value {
    let micros = |time: Option<Timestamp>| time.map(|time| time.0);
    json!({
        "phase": status.phase.as_str(),
        "reason": &*status.reason,
        "since_us": micros(status.since),
        "deadline_us": micros(status.deadline),
        "told": status.told,
        "remaining": status.remaining,
        "forced": status.forced,
        "exit": status.exit,
    })
}

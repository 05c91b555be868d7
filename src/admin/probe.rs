//! `/livez`, `/readyz`, `/startupz`: answered from memory. The status code is the answer; `?verbose` says more, and
//! whoever accepts JSON gets each check with what it lacks.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::Parts;
use crate::{health::Line, lifecycle::Phase};

/// Query parameters; those a probe does not know, it ignores.
type Parameters = Query<HashMap<String, String>>;

/// Alive: this thread answers. Load, dependencies and drain are no reason to be restarted.
pub(super) async fn live(query: Parameters, headers: HeaderMap) -> Response {
    answer(&query, &headers, true, &[])
}

/// Ready for new work.
pub(super) async fn ready(State(parts): State<Arc<Parts>>, query: Parameters, headers: HeaderMap) -> Response {
    answer(&query, &headers, parts.health.ready(), &parts.health.report())
}

/// Started: the first readiness is behind us, or the end is.
pub(super) async fn started(State(parts): State<Arc<Parts>>, query: Parameters, headers: HeaderMap) -> Response {
    let phase = parts.lifecycle.phase();
    let problem = (phase == Phase::Starting).then(|| phase.as_str().into());
    answer(&query, &headers, problem.is_none(), &[Line { component: "phase", problem }])
}

fn answer(query: &Parameters, headers: &HeaderMap, good: bool, lines: &[Line]) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.split(',').any(|kind| kind.trim() == "application/json") {
        let check = |line: &Line| json!({ "name": line.component, "problem": line.problem });
        let checks: Vec<_> = lines.iter().map(check).collect();
        return (status, Json(json!({ "ok": good, "checks": checks }))).into_response();
    }
    let mut body = String::new();
    // A probe that fails says why unasked: it is read in `kubectl describe`. Writing to a String does not fail.
    for Line { component, problem } in lines.iter().filter(|_| !good || query.contains_key("verbose")) {
        match problem {
            None => writeln!(body, "[+]{component} ok").ok(),
            Some(problem) => writeln!(body, "[-]{component} failed: {problem}").ok(),
        };
    }
    body.push_str(if good { "ok\n" } else { "not ok\n" });
    (status, body).into_response()
}

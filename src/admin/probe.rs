//! `/livez`, `/readyz`, `/startupz`: answered from memory. The status code is the answer; `?verbose` says more.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::Parts;
use crate::{health::Line, lifecycle::Phase};

/// Query parameters; those a probe does not know, it ignores.
type Parameters = Query<HashMap<String, String>>;

/// Alive: this thread answers. Load, dependencies and drain are no reason to be restarted.
pub(super) async fn live(query: Parameters) -> Response {
    answer(&query, true, &[])
}

/// Ready for new work.
pub(super) async fn ready(State(parts): State<Arc<Parts>>, query: Parameters) -> Response {
    answer(&query, parts.health.ready(), &parts.health.report())
}

/// Started: the first readiness is behind us, or the end is.
pub(super) async fn started(State(parts): State<Arc<Parts>>, query: Parameters) -> Response {
    let phase = *parts.phase.borrow();
    let problem = (phase == Phase::Starting).then(|| phase.as_str().into());
    answer(&query, problem.is_none(), &[Line { component: "phase", problem }])
}

fn answer(query: &Parameters, good: bool, lines: &[Line]) -> Response {
    let mut body = String::new();
    // A probe that fails says why unasked: it is read in `kubectl describe`. Writing to a String does not fail.
    for Line { component, problem } in lines.iter().filter(|_| !good || query.contains_key("verbose")) {
        match problem {
            None => writeln!(body, "[+]{component} ok").ok(),
            Some(problem) => writeln!(body, "[-]{component} failed: {problem}").ok(),
        };
    }
    body.push_str(if good { "ok\n" } else { "not ok\n" });
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, body).into_response()
}

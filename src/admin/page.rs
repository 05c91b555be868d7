//! `/`: the page for people. Files of plain HTML, CSS and script, compiled in; what it shows, it asks of the other paths.

use axum::{
    Json, Router,
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::PATHS;

const HTML: &str = include_str!("page/index.html");

/// What the page loads: path, kind, content.
const FILES: [(&str, &str, &str); 4] = [
    ("/page/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/page/draw.js", "text/javascript; charset=utf-8", include_str!("page/draw.js")),
    ("/page/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Nothing from elsewhere, nothing inline, in nobody's frame: a name that a client made up can be no more than text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Routes of what the page loads.
pub(super) fn files<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let route = |router: Router<S>, (path, kind, content): (&'static str, &'static str, &'static str)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], content)))
    };
    FILES.into_iter().fold(Router::new(), route)
}

/// The page, for a browser; the list of paths, for whoever else asks.
pub(super) async fn index(headers: HeaderMap) -> Response {
    let vary = [(header::VARY, "accept")];
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wants_html = accept.split([',', ';']).any(|kind| kind.trim().eq_ignore_ascii_case("text/html"));
    if !wants_html {
        return (vary, Json(json!({ "name": "bowline", "paths": PATHS }))).into_response();
    }
    let dressed: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (vary, dressed, HTML).into_response()
}

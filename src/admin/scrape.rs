//! `/metrics`, in the format the scraper asks for.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use super::Parts;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(parts): State<Arc<Parts>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if prefers_open_metrics(accept) {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], parts.metrics.encode_openmetrics()).into_response()
    } else {
        ([(header::CONTENT_TYPE, TEXT)], parts.metrics.encode_text()).into_response()
    }
}

/// Whether a scraper asks for OpenMetrics and likes it at least as much as the text format.
fn prefers_open_metrics(accept: &str) -> bool {
    let (mut open, mut text) = (0.0, 0.0);
    for offer in accept.split(',') {
        let mut parts = offer.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        match kind {
            "application/openmetrics-text" => open = f32::max(open, weight),
            "text/plain" | "text/*" => text = f32::max(text, weight),
            _ => {}
        }
    }
    open > 0.0 && open >= text
}

#[cfg(test)]
mod tests {
    use super::prefers_open_metrics;

    #[test]
    fn the_scraper_gets_what_it_likes_best() {
        // What Prometheus 2 and 3 send.
        assert!(prefers_open_metrics(
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        ));
        assert!(prefers_open_metrics("application/openmetrics-text"));
        for text in ["", "*/*", "text/plain", "text/html,*/*;q=0.8", "application/openmetrics-text;q=0, */*"] {
            assert!(!prefers_open_metrics(text), "{text:?}");
        }
        assert!(!prefers_open_metrics("application/openmetrics-text;q=0.1,text/plain;q=0.9"));
    }
}

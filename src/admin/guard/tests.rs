use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{Method, Request},
    routing::put,
};
use parking_lot::Mutex;
use serde::Deserialize;
use tower::ServiceExt as _;

use super::*;

const TOKEN: &str = "0123456789abcdef";
const HERE: &str = "127.0.0.1:4000";
const MAPPED: &str = "[::ffff:127.0.0.1]:4000";
const ELSEWHERE: &str = "10.0.0.7:4000";

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    level: String,
}

/// A path with one change that notes what was asked for, and one reading method.
struct Door {
    routes: Router,
    asked: Arc<Mutex<Vec<String>>>,
}

fn door(config: &Config) -> Door {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = asked.clone();
    let change = put(move |Asked(wish): Asked<Wish>| async move { note.lock().push(wish.level) });
    let routes = Router::new().route("/x", Guard::new(config).unwrap().over(change).get(|| async { "as it is" }));
    Door { routes, asked }
}

fn with_token() -> Config {
    Config { token: TOKEN.to_owned().into(), ..Config::default() }
}

impl Door {
    async fn ask(&self, method: Method, caller: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
        let mut request = Request::builder().method(method).uri("/x");
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", "localhost:9090");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(Caller(caller.parse().unwrap()));
        self.routes.clone().oneshot(request).await.unwrap()
    }

    async fn put(&self, caller: &str, headers: &[(&str, &str)]) -> u16 {
        let status = self.ask(Method::PUT, caller, headers, "").await.status();
        assert_eq!(self.asked.lock().drain(..).count(), usize::from(status == 200), "done if and only if let in");
        status.as_u16()
    }
}

/// A door, who comes to it from where with what, and the answer.
type Case<'a> = (&'a Door, &'a str, &'a [(&'a str, &'a str)], u16);

#[tokio::test]
async fn this_machine_and_whoever_knows_the_token_may_change_something() {
    let bearer = format!("Bearer {TOKEN}");
    let right: (&str, &str) = ("authorization", &bearer);
    let lower = format!("bearer {TOKEN}");
    let wrong = ("authorization", "Bearer 0123456789abcdeX");
    let (with, without) = (door(&with_token()), door(&Config::default()));
    let evil = ("host", "evil.example:9090");
    let table: &[Case<'_>] = &[
        (&without, HERE, &[], 200),
        (&without, MAPPED, &[], 200),
        (&without, ELSEWHERE, &[], 403),
        // A token where none is configured proves nothing, and is a mistake worth being told of.
        (&without, HERE, &[wrong], 403),
        (&without, ELSEWHERE, &[right], 403),
        (&without, HERE, &[evil], 403),
        (&with, HERE, &[], 200),
        (&with, HERE, &[evil], 403),
        (&with, HERE, &[evil, right], 200),
        (&with, HERE, &[wrong], 401),
        (&with, ELSEWHERE, &[], 401),
        (&with, ELSEWHERE, &[wrong], 401),
        (&with, ELSEWHERE, &[right], 200),
        (&with, ELSEWHERE, &[("authorization", &lower)], 200),
        (&with, ELSEWHERE, &[("authorization", TOKEN)], 401),
        (&with, ELSEWHERE, &[("authorization", "Bearer ")], 401),
        (&with, ELSEWHERE, &[("authorization", "Basic MDEyMzQ1Njc4OWFiY2RlZg==")], 401),
    ];
    for (door, caller, headers, expected) in table {
        assert_eq!(door.put(caller, headers).await, *expected, "{caller} {headers:?}");
    }
    let refused = with.ask(Method::PUT, ELSEWHERE, &[], "").await;
    assert_eq!(refused.headers().get("www-authenticate").unwrap(), "Bearer realm=\"bowline admin\"");
}

#[tokio::test]
async fn what_only_reads_is_not_guarded() {
    let answer = door(&with_token()).ask(Method::GET, ELSEWHERE, &[("origin", "http://evil.example")], "").await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_page_of_somebody_else_changes_nothing_even_from_this_machine() {
    let door = door(&with_token());
    let bearer = format!("Bearer {TOKEN}");
    for (header, expected) in [
        (("origin", "http://localhost:9090"), 200),
        (("origin", "https://localhost:9090"), 200),
        (("origin", "http://LOCALHOST:9090"), 200),
        (("origin", "http://localhost:8080"), 403),
        (("origin", "http://evil.example"), 403),
        (("origin", "null"), 403),
        (("sec-fetch-site", "same-origin"), 200),
        (("sec-fetch-site", "none"), 200),
        (("sec-fetch-site", "same-site"), 403),
        (("sec-fetch-site", "cross-site"), 403),
    ] {
        assert_eq!(door.put(HERE, &[header]).await, expected, "{header:?}");
        assert_eq!(door.put(HERE, &[header, ("authorization", &bearer)]).await, expected, "{header:?} with the token");
    }
}

#[tokio::test]
async fn a_body_is_short_and_json() {
    let door = door(&Config::default());
    let json = ("content-type", "application/json");
    let put = async |headers: &[(&str, &str)], body: String| {
        door.ask(Method::PUT, HERE, headers, body).await.status().as_u16()
    };
    assert_eq!(put(&[json], "{\"level\": \"debug\"}".into()).await, 200);
    assert_eq!(put(&[("content-type", "Application/JSON; charset=utf-8")], "{}".into()).await, 200);
    assert_eq!(put(&[], String::new()).await, 200);
    assert_eq!(*door.asked.lock(), ["debug", "", ""]);
    assert_eq!(put(&[], "{}".into()).await, 415);
    assert_eq!(put(&[("content-type", "text/plain")], "{}".into()).await, 415);
    assert_eq!(put(&[json], "{".into()).await, 400);
    assert_eq!(put(&[json], "{\"colour\": \"red\"}".into()).await, 400);
    assert_eq!(put(&[json], " ".repeat(MAX_BODY) + "{}").await, 413);
    assert_eq!(put(&[json, ("content-length", "999999999999")], String::new()).await, 413);
    assert_eq!(door.asked.lock().len(), 3, "nothing of that was done");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_not_waited_for() {
    let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, io::Error>>());
    assert_eq!(door(&Config::default()).ask(Method::PUT, HERE, &[], body).await.status(), 408);
}

#[tokio::test]
async fn a_token_in_a_file_can_be_replaced_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let config = Config { token_file: file.clone(), ..Config::default() };
    assert!(matches!(Guard::new(&config), Err(TokenError::File { .. })), "there is none yet");
    fs::write(&file, "short\n").unwrap();
    assert!(matches!(Guard::new(&config), Err(TokenError::Content { .. })));
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let door = door(&config);
    let put = async |token: &str| door.put(ELSEWHERE, &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!(put(TOKEN).await, 200);
    fs::write(&file, "fedcba9876543210").unwrap();
    assert_eq!((put(TOKEN).await, put("fedcba9876543210").await), (401, 200));
    fs::remove_file(&file).unwrap();
    assert_eq!(put("fedcba9876543210").await, 500);
}

//! `bowline bench`.

use serde_json::Value;

use super::*;

async fn measured(server: &Server, arguments: &[&str]) -> Value {
    let command =
        [&["bench"], arguments, &["--rate", "200/s", "--duration", "1s", "--warm-up", "200ms", "--json"]].concat();
    let output = server.run(&command).await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    objects(&output).remove(0)
}

#[track_caller]
fn count(found: &Value, what: &str) -> u64 {
    found[what]["count"].as_u64().unwrap_or_else(|| panic!("{what}: {found}"))
}

#[tokio::test]
async fn a_load_is_kept_up_and_every_subscriber_has_all_of_it() {
    let server = Server::start();
    let found = measured(&server, &["bench.load", "--publishers", "2", "--subscribers", "5"]).await;
    let published = found["published"].as_u64().unwrap();
    assert!((198..=202).contains(&published), "{found}");
    assert_eq!((count(&found, "acknowledged"), count(&found, "delivered")), (published, 5 * published), "{found}");
    assert_eq!((&found["lost"], &found["doubled"], &found["gaps"]), (&0.into(), &0.into(), &0.into()), "{found}");
    assert!(found["delivered"]["p50_us"].as_u64().unwrap() > 0, "{found}");
}

#[tokio::test]
async fn an_echo_is_measured_there_and_back() {
    let server = Server::start();
    let found = measured(&server, &["echo.load", "--echo", "--publishers", "3"]).await;
    assert_eq!(found["subscribers"], 3);
    assert_eq!(count(&found, "delivered"), found["published"].as_u64().unwrap(), "{found}");
}

#[tokio::test]
async fn without_subscribers_only_answers_are_measured() {
    let server = Server::start();
    let found = measured(&server, &["bench.load", "--subscribers", "0"]).await;
    assert_eq!(count(&found, "acknowledged"), found["published"].as_u64().unwrap(), "{found}");
    assert_eq!(count(&found, "delivered"), 0);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let server = Server::start();
    for bad in [&["bench", "a..b"][..], &["bench", "bench.load", "--size", "27"], &["bench", "t", "--publishers", "0"]]
    {
        let output = server.run(bad).await;
        assert_eq!(code(&output), 2, "{bad:?}: {}", stderr(&output));
    }
}

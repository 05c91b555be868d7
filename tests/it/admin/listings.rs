//! `/connections` and `/topics`: what an operator who looks for trouble wants to know.

use bowline::proto::v1::OpenSession;
use serde_json::Value;

use crate::support::{TestServer, ask, credit, eventually, get, named, open, paused, publish, put};

async fn rows(server: &TestServer, query: &str) -> Vec<Value> {
    get(server.admin, &format!("/connections?{query}"), "").await.json()["connections"].as_array().unwrap().clone()
}

fn clients(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["client_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn who_is_slow_comes_first_then_who_lags_and_one_can_ask_for_them_alone() {
    let server = TestServer::with(&[("connection.max_sessions", "8")]).await;
    let mut fine = server.connect("fine").await;
    fine.open(open(1, "t")).await;
    let mut paused_one = server.connect("paused").await;
    paused_one.open(named(1, "t", "desk")).await;
    paused_one.send(paused(1, true)).await;
    let mut slow = server.connect("slow").await;
    slow.open(OpenSession { credit: credit(3, 0), ..named(1, "t", "desk") }).await;
    slow.open(named(2, "other", "more")).await;
    // 512 events may wait, by default, before a session counts as slow; of the one with credit, three were sent.
    eventually("the pause is in force", || server.metrics().frames_received.get() >= 7).await;
    server.store("t", &(0..513).map(|n| n.to_string()).collect::<Vec<_>>()).await;
    fine.events(1, 513).await;
    slow.events(1, 3).await;

    let worst = rows(&server, "sort=lag").await;
    assert_eq!(clients(&worst), ["paused", "slow", "fine"]);
    let numbers = |row: &Value| ["sessions", "slow", "paused", "lag"].map(|name| row[name].as_u64().unwrap());
    assert_eq!(numbers(&worst[0]), [1, 1, 1, 513]);
    assert_eq!(numbers(&worst[1]), [2, 0, 0, 510]);
    assert_eq!(numbers(&worst[2]), [1, 0, 0, 0]);
    assert!(worst[2]["received_bytes"].as_u64() > Some(10) && worst[2]["sent_bytes"].as_u64() > Some(513), "{worst:?}");
    assert_eq!(clients(&rows(&server, "sort=lag&limit=1").await), ["paused"]);
    assert_eq!(clients(&rows(&server, "slow=true").await), ["paused"]);
    assert_eq!(clients(&rows(&server, "slow=false").await), ["fine", "slow"]);
    assert_eq!(rows(&server, "state=connected").await.len(), 3);
    assert!(rows(&server, "state=dead").await.is_empty());
    assert!(rows(&server, "client_id=nobody").await.is_empty());

    let path = format!("/connections/{}", worst[1]["connection_id"].as_str().unwrap());
    let one = get(server.admin, &path, "").await.json();
    assert_eq!(one["connection"]["client_id"], "slow");
    let sessions = one["sessions"].as_array().unwrap();
    let names: Vec<_> = sessions.iter().map(|session| session["session_id"].as_str().unwrap()).collect();
    assert_eq!(names, ["desk", "more"]);
    assert_eq!((sessions[0]["topic"].as_str(), sessions[0]["delivered"].as_u64()), (Some("t"), Some(3)));
    assert_eq!((sessions[0]["lag"].as_u64(), sessions[0]["slow"].as_bool()), (Some(510), Some(false)));
    assert_eq!(get(server.admin, "/connections/0", "").await.status, 404);
    assert_eq!(ask(server.admin, "GET", "/connections?sort=lag&after=3", "", "").await.status, 400);
    server.leave().await;
}

#[tokio::test]
async fn more_connections_than_are_looked_at_in_one_go_are_found_all_the_same() {
    let server = TestServer::start().await;
    let mut transport = Vec::new();
    for n in 0..300 {
        transport.push(server.connect(&format!("c{n:03}")).await);
    }
    let mut last = server.connect("last").await;
    last.open(open(1, "t")).await;
    last.send(paused(1, true)).await;
    eventually("the pause is in force", || server.metrics().frames_received.get() >= 303).await;
    server.store("t", &(0..600).map(|n| n.to_string()).collect::<Vec<_>>()).await;
    assert_eq!(clients(&rows(&server, "slow=true&limit=5").await), ["last"]);
    assert_eq!(clients(&rows(&server, "sort=lag&limit=2").await), ["last", "c000"]);
    assert_eq!(rows(&server, "slow=false&limit=1000").await.len(), 300);
    server.leave().await;
}

#[tokio::test]
async fn topics_are_listed_with_what_they_keep_and_who_reads() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "chat.lobby")).await;
    client.publish(publish(1, 1, "hello")).await;
    server.store("prices", &["1", "2", "3"]).await;
    server.publish("state.prices", vec![put("ACME", "1")]).await;
    let page = get(server.admin, "/topics?limit=2", "").await.json();
    let row = |page: &Value, at: usize| page["topics"][at].clone();
    let lobby = row(&page, 0);
    assert_eq!((lobby["name"].as_str(), lobby["class"].as_str()), (Some("chat.lobby"), Some("log")));
    assert_eq!([&lobby["head"], &lobby["floor"], &lobby["events"], &lobby["readers"]], [1, 0, 1, 1]);
    assert!(lobby["bytes"].as_u64() >= Some(5) && lobby["epoch"].as_u64() > Some(0), "{lobby}");
    assert_eq!((row(&page, 1)["events"].as_u64(), page["next"].as_str()), (Some(3), Some("prices")));
    let rest = get(server.admin, "/topics?limit=2&after=prices", "").await.json();
    assert_eq!((row(&rest, 0)["class"].as_str(), rest["next"].as_str()), (Some("state"), None));
    let some = get(server.admin, "/topics?prefix=pri", "").await.json();
    assert_eq!(some["topics"].as_array().unwrap().len(), 1);
    server.leave().await;
}

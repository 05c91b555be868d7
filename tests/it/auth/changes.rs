//! What changes while clients are connected: rules, revocations, keys.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::{CHAT, Files, SECRET, bearer, enter, jwt, list, reason, shown, token};
use crate::{
    support::{Heard, TestClient, assert_failure, eventually, named, publish, within},
    tokens::{Signer, claims},
};

/// In how long a change has to be in force.
const BOUND: Duration = Duration::from_secs(5);

async fn ended(client: &mut TestClient) -> String {
    let end = timeout(BOUND, client.end()).await.expect("the change is in force");
    reason(&Err::<(), _>(end.expect("not a good end")))
}

#[tokio::test]
async fn what_is_revoked_ends_within_five_seconds_and_cannot_come_back() {
    let files = Files::new();
    let revoked = files.write("revoked", "");
    let server = jwt(&files.issuer(""), CHAT, &[("auth.revoked_file", &shown(&revoked))]).await;
    let (by_id, by_name, other) =
        (token("alice", json!({"jti": "t-1"})), token("bob", json!({})), token("alice", json!({"jti": "t-2"})));
    let mut clients = [enter(&server, &by_id).await, enter(&server, &by_name).await];
    let mut bystander = enter(&server, &other).await;
    bystander.open(named(1, "chat.a", "desk")).await;
    files.write("revoked", "# since this morning\njti t-1\n\nsub bob\n");
    for client in &mut clients {
        assert_eq!(ended(client).await, "TOKEN_INVALID");
    }
    for token in [&by_id, &by_name] {
        assert_eq!(reason(&list(&server, &[("authorization", &bearer(token))]).await), "TOKEN_INVALID");
    }
    assert_eq!(bystander.publish(publish(1, 1, "still here")).await.failure, None);
    server.leave().await;
}

#[cfg(feature = "nats")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_at_one_replica_is_at_all() {
    use crate::{nats::NatsServer, replicas::replica_with};
    let Some(nats) = NatsServer::start().await else { return };
    let (files, elsewhere) = (Files::new(), Files::new());
    let (here, there) = (shown(&files.write("revoked", "")), shown(&elsewhere.write("revoked", "")));
    let issuers = files.issuer("");
    let settings = |revoked| {
        [("auth.mode", "jwt"), ("auth.issuers", &*issuers), ("auth.rules", CHAT), ("auth.revoked_file", revoked)]
    };
    let (one, two) = (replica_with(&nats, &settings(&here)).await, replica_with(&nats, &settings(&there)).await);
    let (alice, bob) = (token("alice", json!({})), token("bob", json!({})));
    let mut client = enter(&two, &alice).await;
    files.write("revoked", "sub alice\n");
    assert_eq!(ended(&mut client).await, "TOKEN_INVALID");
    assert_eq!(reason(&list(&two, &[("authorization", &bearer(&alice))]).await), "TOKEN_INVALID");
    assert_eq!(reason(&list(&two, &[("authorization", &bearer(&bob))]).await), "OK");
    // Its own file comes to say so too, and has the last word from then on.
    elsewhere.write("revoked", "sub alice\nsub bob\n");
    within("bob is revoked", async {
        while reason(&list(&two, &[("authorization", &bearer(&bob))]).await) == "OK" {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    elsewhere.write("revoked", "");
    within("alice is let in again", async {
        while reason(&list(&two, &[("authorization", &bearer(&alice))]).await) != "OK" {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    one.leave().await;
    two.leave().await;
}

#[tokio::test]
async fn rules_that_change_concern_those_who_are_connected() {
    let files = Files::new();
    let rule = |rights: &str| format!("[[rules]]\ntopics = [\"chat.>\"]\nallow = [{rights}]\n");
    let policy = files.write("policy.toml", &rule("\"read\", \"publish\""));
    let server = jwt(&files.issuer(""), "", &[("auth.policy_file", &shown(&policy))]).await;
    let mut client = enter(&server, &token("alice", json!({}))).await;
    client.open(named(1, "chat.a", "desk")).await;
    assert_eq!(client.publish(publish(1, 1, "x")).await.failure, None);
    client.events(1, 1).await;

    // A file that cannot be used changes nothing but a metric.
    files.write("policy.toml", "[[rules]]\nallow = [\"everything\"]");
    eventually("the failure is counted", || server.sample("bowline_auth_reload_failures_total") > 0.0).await;
    assert_eq!(client.publish(publish(1, 2, "y")).await.failure, None);
    client.events(1, 1).await;

    files.write("policy.toml", &rule("\"read\""));
    let mut seq = 3;
    timeout(BOUND, async {
        while client.publish(publish(1, seq, "z")).await.failure.is_none() {
            client.events(1, 1).await;
            seq += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the change is in force");

    files.write("policy.toml", &rule("\"publish\""));
    let closed = timeout(BOUND, client.closed()).await.expect("the change is in force");
    assert_failure(closed.failure.as_ref(), Code::PermissionDenied, "DENIED");
    assert!(matches!(client.settled().await.as_slice(), []), "the connection itself goes on");
    server.leave().await;
}

#[tokio::test]
async fn secrets_are_changed_without_a_token_being_refused() {
    let files = Files::new();
    let next = files.write("next", "another secret of thirty-two bytes");
    let keys = format!("secret_files = [{:?}, {next:?}]", files.path("secret"));
    let server = jwt(&super::issuer("HS256", &keys), CHAT, &[]).await;
    let old = bearer(&token("alice", json!({})));
    let new = bearer(&Signer::secret("another secret of thirty-two bytes").sign(&claims("alice", json!({}))));
    for token in [&old, &new] {
        assert_eq!(reason(&list(&server, &[("authorization", token)]).await), "OK");
    }
    let mut client = enter(&server, &token("alice", json!({}))).await;
    files.write("secret", "a third secret of thirty-two bytes");
    for _ in 0..250 {
        assert_eq!(reason(&list(&server, &[("authorization", &new)]).await), "OK");
        if reason(&list(&server, &[("authorization", &old)]).await) == "TOKEN_INVALID" {
            // Whoever is connected stays: their tokens were good when they came.
            assert!(client.is_quiet().await);
            server.leave().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the old secret {SECRET} is still believed");
}

#[tokio::test]
async fn a_connection_that_ended_by_revocation_says_why_and_delivers_nothing_more() {
    let files = Files::new();
    let revoked = files.write("revoked", "");
    let server = jwt(&files.issuer(""), CHAT, &[("auth.revoked_file", &shown(&revoked))]).await;
    let mut reader = enter(&server, &token("alice", json!({}))).await;
    let mut writer = enter(&server, &token("bob", json!({}))).await;
    reader.open(named(1, "chat.a", "desk")).await;
    writer.open(named(1, "chat.b", "pen")).await;
    files.write("revoked", "sub alice\n");
    let end = timeout(BOUND, async {
        loop {
            if let Heard::End(end) = reader.heard().await {
                return end.expect("not a good end");
            }
        }
    });
    let end = end.await.expect("the change is in force");
    assert_eq!((end.code(), end.message()), (Code::Unauthenticated, "the credentials were not accepted"));
    assert_eq!(writer.publish(publish(1, 1, "x")).await.failure, None);
    server.leave().await;
}

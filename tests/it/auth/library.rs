//! The client library and the commands, with tokens.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use bowline::client::{Client, ErrorKind, Item, NewEvent, Open, Status};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::{CHAT, Files, jwt, shown, token};
use crate::{
    support::{TestServer, within},
    tokens::later,
};

const SOON: crate::support::Settings<'_> = &[("auth.expiry_grace", "1s"), ("auth.clock_skew", "0s")];

fn url(server: &TestServer) -> String {
    format!("http://{}", server.address)
}

#[tokio::test]
async fn a_client_with_a_token_in_a_file_outlives_the_token_on_its_connection() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, SOON).await;
    let file = files.write("token", &token("alice", json!({"exp": later(3)})));
    let client = within("a client", Client::builder(url(&server)).token_file(&file).connect()).await.unwrap();
    let mut session = within("a session", client.open(Open::topic("chat.a").session_id("desk"))).await.unwrap();
    files.write("token", &token("alice", json!({"exp": later(3600)})));
    tokio::time::sleep(Duration::from_millis(5500)).await;
    let receipt = session.publish(NewEvent { payload: "still here".into(), ..NewEvent::default() }).await.unwrap();
    within("an answer", receipt).await.unwrap();
    let opened = async {
        let mut opened = 0;
        while let Some(item) = session.next().await {
            opened += u32::from(matches!(item, Item::Opened(_)));
            if matches!(item, Item::Event(_)) {
                return opened;
            }
        }
        opened
    };
    assert_eq!(within("the event", opened).await, 1, "it was never opened again");
    client.close().await;
    server.leave().await;
}

#[tokio::test]
async fn authenticate_replaces_the_token_and_says_when_it_is_not_believed() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, SOON).await;
    let begun = token("alice", json!({"exp": later(3)}));
    let client = within("a client", Client::builder(url(&server)).token(begun).connect()).await.unwrap();
    let refused = within("an answer", client.authenticate("nonsense")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.reason()), (ErrorKind::Refused, Some("TOKEN_INVALID")));
    within("an answer", client.authenticate(token("alice", json!({"exp": later(3600)})))).await.unwrap();
    let Status::Connected(welcome) = client.status().borrow().clone() else { panic!("not connected") };
    assert!(welcome.token_expires_us > u64::try_from(later(3000)).unwrap() * 1_000_000);
    let mut status = client.status();
    let lost = status.wait_for(|status| !matches!(status, Status::Connected(_)));
    assert!(timeout(Duration::from_secs(5), lost).await.is_err(), "the connection goes on");
    client.close().await;
    server.leave().await;
}

#[tokio::test]
async fn a_client_ends_with_the_reason_when_its_token_runs_out_for_good() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, SOON).await;
    let short = token("alice", json!({"exp": later(2)}));
    let client = within("a client", Client::builder(url(&server)).token(short).connect()).await.unwrap();
    let mut status = client.status();
    let ended = status.wait_for(|status| matches!(status, Status::Closed(_)));
    let Status::Closed(Some(error)) = within("the end", ended).await.unwrap().clone() else { panic!("no error") };
    assert_eq!(error.reason(), Some("TOKEN_EXPIRED"));
    server.leave().await;
}

/// A command that reads one line.
async fn run(server: &TestServer, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(args).env("BOWLINE_SERVER", url(server)).kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that is refused may have ended before it reads.
    child.stdin.take().unwrap().write_all(b"x\n").await.ok();
    within("the end of a command", child.wait_with_output()).await.unwrap()
}

#[tokio::test]
async fn a_command_with_a_bad_token_says_so_and_exits_with_4() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, &[]).await;
    let (good, bad) = (files.write("good", &token("alice", json!({}))), files.write("bad", "nonsense\n"));
    let late = files.write("late", &token("alice", json!({"exp": later(-100)})));
    for (file, command, code, said) in [
        (&good, &["pub", "chat.a"][..], 0, ""),
        (&good, &["topics"], 0, ""),
        (&good, &["pub", "other.a"], 4, "DENIED"),
        (&bad, &["pub", "chat.a"], 4, "TOKEN_INVALID: the credentials were not accepted; check --token-file"),
        (&bad, &["topics"], 4, "TOKEN_INVALID"),
        (&late, &["history", "chat.a"], 4, "TOKEN_EXPIRED"),
    ] {
        let output = run(&server, &[command, &["--token-file", &shown(file)]].concat()).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {stderr}");
        assert!(stderr.contains(said), "{command:?}: {stderr}");
    }
    let missing = run(&server, &["topics", "--token-file", "/nowhere"]).await;
    assert_eq!(missing.status.code(), Some(1));
    server.leave().await;
}

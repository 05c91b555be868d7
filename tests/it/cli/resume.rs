//! `sub` that is killed and started again.

use std::fs::File;

use super::*;

/// Enough lines that a kill hits the middle, and of different lengths.
fn many() -> Vec<String> {
    (1..=4000).map(|n: usize| format!("{n} {}", "x".repeat(n * 37 % 211))).collect()
}

/// Publishes slowly enough that readers are killed while it goes on.
fn publish_slowly(server: &Server, lines: &[String]) -> Child {
    let file = server.home.path().join("input");
    std::fs::write(&file, lines.join("\n")).unwrap();
    server.command(&["pub", "prices", "--rate", "2000/s", "--file", file.to_str().unwrap()]).spawn().unwrap()
}

fn append(path: &Path) -> File {
    File::options().append(true).create(true).open(path).unwrap()
}

/// Like `assert_eq!`, without printing thousands of lines.
fn assert_same(printed: &[&str], expected: &[String]) {
    for (number, (printed, expected)) in printed.iter().zip(expected).enumerate() {
        assert_eq!(printed, expected, "line {}", number + 1);
    }
    assert_eq!(printed.len(), expected.len());
}

/// Waits for a moment that is different every time, then kills.
async fn kill_soon(mut child: Child) {
    sleep(Duration::from_millis(fastrand::u64(20..250))).await;
    child.kill().await.unwrap();
}

async fn killed_readers_print_every_line_once(same_file: bool) {
    let server = Server::start();
    let expected = many();
    let publisher = publish_slowly(&server, &expected);
    let follow = ["sub", "prices", "--session", "desk", "--from", "earliest"];
    let mut outputs = Vec::new();
    for life in 0..12 {
        let output = server.home.path().join(if same_file { "out".to_owned() } else { format!("out{life}") });
        kill_soon(server.command(&follow).stdout(append(&output)).spawn().unwrap()).await;
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    assert_eq!(code(&ended(publisher).await), 0);
    let last = outputs.last().unwrap();
    let rest = server.command(&[&follow[..], &["--no-follow"]].concat()).stdout(append(last)).spawn().unwrap();
    assert_eq!(code(&ended(rest).await), 0);
    let printed: String = outputs.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert_same(&printed.lines().collect::<Vec<_>>(), &expected);
}

#[tokio::test]
async fn readers_killed_at_any_moment_print_every_line_once_into_one_file() {
    killed_readers_print_every_line_once(true).await;
}

#[tokio::test]
async fn readers_killed_at_any_moment_print_every_line_once_into_files_of_their_own() {
    killed_readers_print_every_line_once(false).await;
}

#[tokio::test]
async fn a_killed_reader_goes_on_from_the_last_cursor_it_printed() {
    let server = Server::start();
    let expected = many();
    let publisher = publish_slowly(&server, &expected);
    let mut printed: Vec<serde_json::Value> = Vec::new();
    let mut from = "earliest".to_owned();
    for life in 0..10 {
        let output = server.home.path().join(format!("json{life}"));
        let follow = ["sub", "prices", "--json", "--from", &from];
        kill_soon(server.command(&follow).stdout(append(&output)).spawn().unwrap()).await;
        let text = std::fs::read_to_string(&output).unwrap();
        // A killed write may leave a part of a line, which is no line.
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        printed.extend(whole.map(|line| serde_json::from_str(line).unwrap()));
        printed.retain(|object| object.get("cursor").is_some());
        if let Some(last) = printed.last() {
            from = last["cursor"].as_str().unwrap().to_owned();
        }
    }
    assert_eq!(code(&ended(publisher).await), 0);
    let rest = server.run(&["sub", "prices", "--json", "--no-follow", "--from", &from]).await;
    printed.extend(objects(&rest).into_iter().filter(|object| object.get("cursor").is_some()));
    let payloads: Vec<_> = printed.iter().map(|object| object["payload"].as_str().unwrap()).collect();
    assert_same(&payloads, &expected);
}

#[tokio::test]
async fn a_session_goes_on_after_the_events_it_was_told_to_count() {
    let server = Server::start();
    let (_, expected) = stocks();
    server.publish("prices", &expected).await;
    let part = ["sub", "prices", "--session", "part", "--from", "earliest", "--count", "100"];
    assert_eq!(lines(&server.run(&part).await), expected[..100]);
    let second = server.run(&part).await;
    assert_eq!(lines(&second), expected[100..200]);
    assert!(stderr(&second).contains("session part goes on after"), "{}", stderr(&second));
    assert_eq!(lines(&server.run(&[&part[..], &["--fresh"]].concat()).await), expected[..100]);
}

#[tokio::test]
async fn a_restart_of_the_server_is_announced_and_survived() {
    let mut server = Server::start();
    server.publish("prices", &["old"]).await;
    let follow = ["sub", "prices", "--session", "desk", "--from", "earliest", "--count", "1"];
    assert_eq!(lines(&server.run(&follow).await), ["old"]);
    server.restart();
    server.publish("prices", &["new"]).await;
    let after = server.run(&follow).await;
    assert_eq!((code(&after), lines(&after)), (0, vec!["new".to_owned()]), "{}", stderr(&after));
    assert!(stderr(&after).contains("another one now"), "{}", stderr(&after));
    let json = server.run(&["sub", "prices", "--json", "--count", "1", "--from", "00000000deadbeef:7"]).await;
    let kinds: Vec<_> =
        objects(&json).iter().map(|object| object.as_object().unwrap().keys().next().unwrap().clone()).collect();
    assert_eq!(kinds, ["opened", "gap", "cursor"], "{}", stdout(&json));
}

#[tokio::test]
async fn a_reader_survives_a_restart_of_the_server() {
    let mut server = Server::start();
    let reader = server.command(&["sub", "prices", "--from", "earliest", "--count", "2"]).spawn().unwrap();
    server.publish("prices", &["before"]).await;
    // The reader has it once it asks for one event only: its own place is not visible from outside.
    server.run(&["sub", "prices", "--from", "earliest", "--count", "1"]).await;
    sleep(Duration::from_millis(300)).await;
    server.restart();
    server.publish("prices", &["after"]).await;
    let output = ended(reader).await;
    assert_eq!((code(&output), lines(&output)), (0, vec!["before".to_owned(), "after".to_owned()]));
    assert!(stderr(&output).contains("reconnecting"), "{}", stderr(&output));
}

#[tokio::test]
async fn one_session_has_one_reader() {
    let server = Server::start();
    let follow = ["sub", "prices", "--session", "desk", "--json"];
    let mut first = server.command(&follow).spawn().unwrap();
    // `opened` is printed after the session was opened.
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(first.stdout.take().unwrap());
    timeout(LIMIT, tokio::io::AsyncBufReadExt::read_line(&mut reader, &mut line)).await.unwrap().unwrap();
    assert!(line.starts_with("{\"opened\":"), "{line}");

    let second = server.run(&follow).await;
    assert_eq!(code(&second), 1);
    assert!(stderr(&second).contains("another `bowline sub` reads session desk"), "{}", stderr(&second));

    let elsewhere = server.home.path().join("elsewhere");
    let third = [&follow[..], &["--no-follow", "--state-file", elsewhere.to_str().unwrap()]].concat();
    assert_eq!(code(&server.run(&third).await), 0);
    let output = ended(first).await;
    assert_eq!(code(&output), 4);
    assert!(stderr(&output).contains("TAKEN_OVER"), "{}", stderr(&output));
}

#[tokio::test]
async fn readers_without_a_session_do_not_disturb_each_other() {
    let server = Server::start();
    let follow = ["sub", "prices", "--from", "earliest", "--count", "2"];
    let readers: Vec<_> = (0..3).map(|_| server.command(&follow).spawn().unwrap()).collect();
    server.publish("prices", &["a", "b"]).await;
    for reader in readers {
        assert_eq!(lines(&ended(reader).await), ["a", "b"]);
    }
}

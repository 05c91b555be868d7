//! The examples, each as a newcomer runs it.

use std::sync::OnceLock;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;

/// An example, built once: `cargo test --test it` builds the program, but no examples.
fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let built = Path::new(BOWLINE).parent().unwrap();
        let profile = match built.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--offline", "--quiet", "--examples", "--profile", profile, "--target-dir"]);
        cargo.arg(built.parent().unwrap());
        if cfg!(feature = "nats") {
            cargo.args(["--features", "nats"]);
        }
        let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        built.join("examples")
    });
    folder.join(name)
}

async fn run(server: &Server, name: &str, args: &[&str]) -> Output {
    let output = server.program(&example(name), args).output();
    timeout(LIMIT, output).await.expect("an example takes too long").unwrap()
}

type Printed = Lines<BufReader<tokio::process::ChildStdout>>;

fn start(server: &Server, name: &str, args: &[&str]) -> (Child, Printed) {
    let mut child = server.program(&example(name), args).stdin(Stdio::piped()).spawn().unwrap();
    let printed = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, printed)
}

/// Reads on until all of these lines were printed, in any order.
async fn prints(printed: &mut Printed, lines: &[&str]) {
    let mut missing = lines.to_vec();
    let print = async {
        while !missing.is_empty() {
            let line = next_line(printed).await;
            missing.retain(|expected| *expected != line);
        }
    };
    let printed = timeout(LIMIT, print).await;
    assert!(printed.is_ok(), "{missing:?} is not printed");
}

#[tokio::test]
async fn hello_reads_what_it_wrote() {
    let server = Server::start();
    let output = run(&server, "hello", &[&server.url]).await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(lines(&output).last().unwrap().ends_with(" hello"), "{}", stdout(&output));
}

#[tokio::test]
async fn people_see_each_other_in_the_chat() {
    let server = Server::start();
    let (mut alice, mut heard) = start(&server, "chat", &["lobby", "alice"]);
    let mut typing = alice.stdin.take().unwrap();
    prints(&mut heard, &["* alice is here"]).await;
    typing.write_all(b"hello\n").await.unwrap();
    prints(&mut heard, &["alice: hello"]).await;

    let (bob, mut heard_by_bob) = start(&server, "chat", &["lobby", "bob"]);
    prints(&mut heard_by_bob, &["alice: hello", "* alice is here", "* bob is here"]).await;
    prints(&mut heard, &["* bob is here"]).await;
    assert_eq!(code(&ended(bob).await), 0, "its input has ended");
    prints(&mut heard, &["* bob left"]).await;
}

#[tokio::test]
async fn the_ticker_converges_and_its_count_adds_up() {
    let server = Server::start();
    for hertz in ["2", "20"] {
        let output = run(&server, "ticker", &[hertz]).await;
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let printed = lines(&output);
        assert_eq!(printed.len(), 6, "{printed:?}");
        assert!(printed[5].ends_with("left out of 560 changes"), "{printed:?}");
    }
}

#[tokio::test]
async fn players_vanish_when_they_leave_and_when_they_are_lost() {
    let server = Server::with(&[("BOWLINE__SESSION__KEY_GRACE", "500ms")]);
    let (_alice, mut seen) = start(&server, "game", &["alice"]);
    // Their output is held, or printing would end them.
    let (bob, _seen_by_bob) = start(&server, "game", &["bob"]);
    let (mut carol, _seen_by_carol) = start(&server, "game", &["carol"]);
    prints(&mut seen, &["+ alice", "+ bob", "+ carol"]).await;
    signal(&bob, "-INT");
    prints(&mut seen, &["- bob"]).await;
    carol.kill().await.unwrap();
    prints(&mut seen, &["- carol"]).await;
}

#[tokio::test]
async fn an_answer_is_read_from_its_beginning_and_is_cancelled_when_nobody_listens() {
    let server = Server::start();
    let (_model, mut told) = start(&server, "tokens", &["serve"]);
    // The first prompt may come before the model is there, which hears only what comes later.
    let asked = loop {
        let asking = server.program(&example("tokens"), &["ask", "to be or not to be"]).output();
        if let Ok(asked) = timeout(Duration::from_secs(5), asking).await {
            break asked.unwrap();
        }
    };
    assert_eq!((code(&asked), stdout(&asked).as_str()), (0, "to be or not to be\n"), "{}", stderr(&asked));
    let topic = stderr(&asked).lines().next().unwrap().to_owned();
    prints(&mut told, &[&format!("{topic} done")]).await;
    let late = run(&server, "tokens", &["join", &topic]).await;
    assert_eq!((code(&late), stdout(&late).as_str()), (0, "to be or not to be\n"));

    let long = (0..10_000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n ");
    let (asking, mut words) = start(&server, "tokens", &["ask", &long]);
    next_line(&mut words).await;
    signal(&asking, "-INT");
    let topic = stderr(&ended(asking).await).lines().next().unwrap().to_owned();
    prints(&mut told, &[&format!("{topic} cancelled")]).await;
    let rest = run(&server, "tokens", &["join", &topic]).await;
    assert!(long.starts_with(stdout(&rest).trim_end_matches('\n')) && rest.stdout.len() < long.len() / 2);
}

/// Offset of the place a receiver has kept; 0 if none.
fn place(out: &Path) -> u64 {
    let text = std::fs::read_to_string(out.with_extension("place")).unwrap_or_default();
    text.split_once(':').map_or(0, |(_, offset)| offset.parse().unwrap())
}

async fn reaches(out: &Path, offset: u64) {
    let reached = async {
        while place(out) < offset {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("it stays at {} and never comes to {offset}", place(out)));
}

#[tokio::test]
async fn a_file_arrives_whole_whoever_is_killed_on_the_way() {
    let mut server = Server::with(&[("BOWLINE_CONFIG", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bowline.toml"))]);
    let (file, out) = (server.home.path().join("file"), server.home.path().join("out"));
    let mut content = vec![0; 40_000_000];
    fastrand::fill(&mut content);
    std::fs::write(&file, &content).unwrap();
    let (send, receive) =
        (["send", file.to_str().unwrap(), "transfer.file"], ["receive", "transfer.file", out.to_str().unwrap()]);
    let mut sender = server.program(&example("transfer"), &send).spawn().unwrap();
    let mut receiver = server.program(&example("transfer"), &receive).spawn().unwrap();

    reaches(&out, 40).await;
    receiver.kill().await.unwrap();
    receiver = server.program(&example("transfer"), &receive).spawn().unwrap();
    reaches(&out, 80).await;
    sender.kill().await.unwrap();
    sender = server.program(&example("transfer"), &send).spawn().unwrap();
    reaches(&out, 120).await;

    // Paused, it takes no more than it had credit for; the sender waits with it.
    signal(&receiver, "-USR1");
    let mut at = place(&out);
    loop {
        sleep(Duration::from_millis(500)).await;
        if place(&out) == std::mem::replace(&mut at, place(&out)) {
            break;
        }
    }
    assert!(at < 300 && sender.try_wait().unwrap().is_none(), "{at}");
    signal(&receiver, "-USR1");

    reaches(&out, 300).await;
    server.restart();
    for child in [sender, receiver] {
        let output = ended(child).await;
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    assert!(std::fs::read(&out).unwrap() == content, "the copy is another one");
}

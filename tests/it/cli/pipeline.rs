//! Publishing, reading, chatting; exit codes.

use std::{collections::BTreeSet, net::TcpListener};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::*;

#[tokio::test]
async fn all_lines_of_a_file_arrive_at_both_subscribers_in_order() {
    let server = Server::start();
    let (path, expected) = stocks();
    let count = expected.len().to_string();
    let follow = ["sub", "prices", "--from", "earliest", "--count", &count];
    let subscribers = [server.command(&follow).spawn().unwrap(), server.command(&follow).spawn().unwrap()];
    let published = server.run(&["pub", "prices", "--file", path.to_str().unwrap()]).await;
    assert_eq!(code(&published), 0, "{}", stderr(&published));
    assert!(stderr(&published).contains(&format!("published {count} events to prices")), "{}", stderr(&published));
    for subscriber in subscribers {
        let output = ended(subscriber).await;
        assert_eq!((code(&output), lines(&output)), (0, expected.clone()));
    }
}

#[tokio::test]
async fn what_is_published_comes_back_byte_for_byte() {
    let server = Server::start();
    let text = "one\n\n  two \r\n\u{fc}nicode\n\nlast";
    let published = server.feed(&["pub", "copy", "--json"], text).await;
    assert_eq!(code(&published), 0, "{}", stderr(&published));
    let summary = &objects(&published)[0];
    assert_eq!((&summary["published"], &summary["duplicates"]), (&6.into(), &0.into()));
    let read = server.run(&["sub", "copy", "--from", "earliest", "--no-follow"]).await;
    assert_eq!((code(&read), stdout(&read)), (0, format!("{text}\n")));
    assert_eq!(summary["last"], objects(&server.run(&["history", "copy", "--json"]).await)[5]["cursor"]);
}

#[tokio::test]
async fn a_key_column_becomes_the_key() {
    let server = Server::start();
    let csv = "\"Smith, J\",1\nplain,2\n";
    let published = server.feed(&["pub", "keyed", "--key-column", "1"], csv).await;
    assert_eq!(code(&published), 0, "{}", stderr(&published));
    let history = objects(&server.run(&["history", "keyed", "--json"]).await);
    assert_eq!([&history[0]["key"], &history[1]["key"]], ["Smith, J", "plain"]);
    assert!(history[0]["publisher"].as_str().unwrap().starts_with("cli-"));

    let short = server.feed(&["pub", "keyed", "--key-column", "3"], "a,b,c\nd,e\n").await;
    assert_eq!(code(&short), 1);
    assert!(stderr(&short).contains("line 2 has no column 3"), "{}", stderr(&short));
    assert!(stderr(&short).contains("1 of the 2 lines read are stored"), "{}", stderr(&short));
}

#[tokio::test]
async fn a_line_that_is_too_long_ends_a_publisher_and_is_named() {
    let server = Server::start();
    let input = format!("short\n{}\nnever\n", "x".repeat(6 * 1024 * 1024));
    let published = server.feed(&["pub", "long"], &input).await;
    assert_eq!(code(&published), 1);
    assert!(stderr(&published).contains("line 2 is longer than"), "{}", stderr(&published));
    assert_eq!(lines(&server.run(&["history", "long"]).await), ["short"]);
}

#[tokio::test]
async fn a_publisher_resumes_with_the_first_line_that_is_missing() {
    let server = Server::start();
    let resume = ["pub", "load", "--session", "loader", "--resume", "--json"];
    let first = objects(&server.feed(&resume, "1\n2\n3\n").await);
    assert_eq!((&first[0]["published"], &first[0]["duplicates"]), (&3.into(), &0.into()));
    let second = objects(&server.feed(&resume, "1\n2\n3\n4\n").await);
    assert_eq!((&second[0]["published"], &second[0]["duplicates"]), (&1.into(), &3.into()));
    assert_eq!(lines(&server.run(&["history", "load"]).await), ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_publisher_keeps_its_pace() {
    let server = Server::start();
    let begun = tokio::time::Instant::now();
    let published = server.feed(&["pub", "slow", "--rate", "20/s"], &"x\n".repeat(11)).await;
    assert_eq!(code(&published), 0, "{}", stderr(&published));
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn history_has_its_ends() {
    let server = Server::start();
    let numbers: Vec<String> = (1..=2500).map(|n| n.to_string()).collect();
    server.publish("numbers", &numbers).await;
    assert_eq!(lines(&server.run(&["history", "numbers"]).await), numbers);
    assert_eq!(lines(&server.run(&["history", "numbers", "--last", "3"]).await), numbers[2497..]);
    assert_eq!(lines(&server.run(&["history", "numbers", "--last", "1500"]).await), numbers[1000..]);
    let all = objects(&server.run(&["history", "numbers", "--json"]).await);
    let cursor = all[2489]["cursor"].as_str().unwrap();
    assert_eq!(lines(&server.run(&["history", "numbers", "--after", cursor]).await), numbers[2490..]);
    let from = ["sub", "numbers", "--no-follow", "--from"];
    assert_eq!(lines(&server.run(&[&from[..], &[cursor]].concat()).await), numbers[2490..]);
    assert_eq!(lines(&server.run(&[&from[..], &["last:2"]].concat()).await), numbers[2498..]);
    assert_eq!(lines(&server.run(&[&from[..], &["since:1h"]].concat()).await), numbers);
    assert_eq!(stdout(&server.run(&["history", "nothing-here"]).await), "");
    let topics = objects(&server.run(&["topics", "--json"]).await);
    assert!(topics.iter().any(|topic| topic["name"] == "numbers" && topic["events"] == 2500), "{topics:?}");
}

#[tokio::test]
async fn a_reader_that_is_no_longer_read_ends_quietly() {
    let server = Server::start();
    server.publish("pipe", &vec!["x".repeat(1000); 500]).await;
    let mut reader = server.command(&["sub", "pipe", "--from", "earliest"]).spawn().unwrap();
    let mut first = [0; 10];
    let mut output = reader.stdout.take().unwrap();
    output.read_exact(&mut first).await.unwrap();
    drop(output);
    let output = ended(reader).await;
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
}

#[tokio::test]
async fn an_interrupt_ends_a_reader_even_if_nobody_takes_its_output() {
    let server = Server::start();
    server.publish("stuck", &vec!["x".repeat(1000); 500]).await;
    for (name, expected) in [("-INT", 130), ("-TERM", 143)] {
        let mut reader = server.command(&["sub", "stuck", "--from", "earliest"]).spawn().unwrap();
        let mut first = [0; 1];
        let mut output = reader.stdout.take().unwrap();
        output.read_exact(&mut first).await.unwrap();
        signal(&reader, name);
        assert_eq!(code(&ended(reader).await), expected);
        drop(output);
    }
}

#[tokio::test]
async fn people_chat_through_pipes() {
    let server = Server::start();
    let mut alice = server.command(&["chat", "room", "--as", "alice"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut alice_in = alice.stdin.take().unwrap();
    let mut alice_out = BufReader::new(alice.stdout.take().unwrap()).lines();
    alice_in.write_all(b"hello\n").await.unwrap();
    let mut heard = BTreeSet::new();
    while heard.len() < 2 {
        heard.insert(next_line(&mut alice_out).await);
    }
    // The room says first who is there, or first what was said.
    let [alone, own] = &Vec::from_iter(heard)[..] else { panic!("two lines") };
    assert_eq!(alone, "* nobody else is here");
    assert!(own.starts_with('[') && own.ends_with("] alice: hello"), "{own}");

    let bob = server.feed(&["chat", "room", "--as", "bob"], "hi alice\n\n").await;
    assert_eq!(code(&bob), 0, "{}", stderr(&bob));
    let mut heard = lines(&bob);
    heard.sort_by_key(|line| !line.starts_with('*'));
    let ends = ["* here: alice", "alice: hello", "bob: hi alice"];
    assert!(heard.len() == 3 && heard.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{heard:?}");
    for end in ["* bob joined", "] bob: hi alice", "* bob left"] {
        let line = next_line(&mut alice_out).await;
        assert!(line.ends_with(end), "{line}");
    }
    drop(alice_in);
    assert_eq!(code(&ended(alice).await), 0);
}

#[tokio::test]
async fn failures_have_their_codes_and_say_what_to_do() {
    let server = Server::start();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{unused}");
    for command in [&["sub", "t"][..], &["pub", "t"], &["history", "t"], &["topics"], &["chat", "t", "--as", "x"]] {
        let output = server.run(&[command, &["--server", &nobody]].concat()).await;
        let sentence =
            format!("bowline: cannot connect to {nobody}: connection refused; is `bowline serve` running there?\n");
        assert_eq!((code(&output), stderr(&output)), (3, sentence), "{command:?}");
    }
    let cases: [(&[&str], i32); 9] = [
        (&["probe"], 0),
        (&["probe", "--server", &nobody], 2),
        (&["probe", "--no-such-flag"], 1),
        (&["probe", "--service", "no.such.Service"], 3),
        (&["sub", "two words"], 2),
        (&["sub"], 2),
        (&["pub", "t", "--file", "/no/such/file"], 1),
        (&["--help"], 0),
        (&["completions", "bash"], 0),
    ];
    for (command, expected) in cases {
        let output = server.run(command).await;
        assert_eq!(code(&output), expected, "{command:?}: {}", stderr(&output));
    }
}

//! `bowline probe --http`, which is what an image without a shell asks the port for operators with.

use super::*;

#[tokio::test]
async fn the_port_for_operators_is_asked_with_http_and_its_answer_searched() {
    let server = Server::start();
    let admin = server.served.as_ref().unwrap().admin.expect("an admin port");
    let url = |path: &str| format!("http://{admin}{path}");
    let (ready, metrics, none) = (url("/readyz"), url("/metrics"), url("/no-such-page"));
    let cases: [(&[&str], i32); 8] = [
        (&["probe", "--http", &ready], 0),
        (&["probe", "--http", &metrics, "--contains", "bowline_connections_active"], 0),
        (&["probe", "--http", &metrics, "--contains", "no_such_metric"], 4),
        (&["probe", "--http", &none], 4),
        (&["probe", "--http", "http://127.0.0.1:1/readyz"], 2),
        (&["probe", "--http", "https://127.0.0.1:1/readyz"], 1),
        (&["probe", "--contains", "text"], 1),
        (&["probe", "--http", &ready, "--service", "a"], 1),
    ];
    for (command, expected) in cases {
        let output = server.run(command).await;
        assert_eq!(code(&output), expected, "{command:?}: {}", stderr(&output));
    }
}

//! Through the real port, byte by byte.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::{
    drain,
    lifecycle::Lifecycle,
    registry::{self, Registry},
};

struct Fixed(u64);

impl Connections for Fixed {
    fn page(&self, client_id: Option<&str>, after: u64, limit: usize) -> Vec<Row> {
        let row =
            |place| Row { place, connection_id: format!("c{place}"), client_id: "alice".into(), ..Row::default() };
        let rows = (after + 1..=self.0).take(limit).map(row);
        rows.filter(|row| client_id.is_none_or(|client| row.client_id == client)).collect()
    }

    fn count(&self) -> usize {
        usize::try_from(self.0).unwrap()
    }

    fn close(&self, id: &str, _why: &str) -> bool {
        id.strip_prefix('c').and_then(|number| number.parse().ok()).is_some_and(|number: u64| number <= self.0)
    }
}

struct Port {
    lifecycle: Lifecycle,
    health: Health,
    /// Where the clients would be.
    clients: Runtime,
    stop: CancellationToken,
    admin: Option<Admin>,
    address: SocketAddr,
}

fn port() -> Port {
    let (lifecycle, stop) = (Lifecycle::default(), CancellationToken::new());
    let (health, metrics) = (Health::new(&lifecycle), Arc::<Metrics>::default());
    let clients = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let registry = Arc::new(Registry::new(registry::Config::default(), metrics.clone()));
    let drain = clients.block_on(async { Drain::new(drain::Config::default(), &lifecycle, &registry) });
    let parts = Parts {
        health: health.clone(),
        phase: lifecycle.watch(),
        metrics,
        connections: Box::new(Fixed(5)),
        drain,
        config: json!({ "admin.listen": { "value": "127.0.0.1:0", "source": "default" } }),
    };
    let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    let admin = open(&config, parts, stop.clone()).unwrap();
    let address = admin.address();
    Port { lifecycle, health, clients, stop, admin: Some(admin), address }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Port {
    fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(socket, "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "")
    }
}

#[test]
fn probes_follow_the_life_of_the_process() {
    let port = port();
    let probes = || ["/livez", "/startupz", "/readyz"].map(|path| port.get(path).status);
    assert_eq!(probes(), [200, 503, 503]);
    port.lifecycle.advance(Phase::Serving);
    assert_eq!(probes(), [200, 200, 200]);
    port.lifecycle.advance(Phase::LameDuck);
    assert_eq!(probes(), [200, 200, 503]);
    port.lifecycle.advance(Phase::Draining);
    assert_eq!(probes(), [200, 200, 503]);
}

#[test]
fn a_probe_says_why_when_it_fails_or_is_asked() {
    let port = port();
    assert_eq!(port.get("/readyz").body, "[-]phase failed: starting\nnot ok\n");
    port.lifecycle.advance(Phase::Serving);
    assert_eq!(port.get("/readyz").body, "ok\n");
    assert_eq!(port.get("/readyz?verbose").body, "[+]phase ok\nok\n");
    assert_eq!(port.get("/readyz?verbose=1").header("cache-control"), Some("no-store"));
}

#[test]
fn a_check_that_fails_is_named_in_text_and_in_json() {
    let port = port();
    port.lifecycle.advance(Phase::Serving);
    let canary = port.health.component("canary");
    canary.not_ready("no event came back");
    let said = port.get("/readyz");
    assert_eq!((said.status, &*said.body), (503, "[+]phase ok\n[-]canary failed: no event came back\nnot ok\n"));
    let json = "accept: application/json\r\n";
    let said = port.ask("GET", "/readyz", json);
    let checks = json!([{ "name": "phase", "problem": null }, { "name": "canary", "problem": "no event came back" }]);
    assert_eq!((said.status, said.json()), (503, json!({ "ok": false, "checks": checks })));
    assert_eq!(port.get("/livez").status, 200, "that is no reason to be started again");
    canary.ready();
    let said = port.ask("GET", "/readyz", json);
    assert_eq!((said.status, &said.json()["ok"]), (200, &json!(true)));
}

#[test]
fn metrics_come_in_the_format_asked_for() {
    let port = port();
    let text = port.get("/metrics");
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.body.contains("# TYPE bowline_connections_opened_total counter\n"));
    let open = port.ask("GET", "/metrics", "accept: application/openmetrics-text; version=1.0.0\r\n");
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.body.ends_with("# EOF\n"));
}

#[test]
fn connections_come_in_pages() {
    let port = port();
    let ids = |reply: &Value| {
        let rows = reply["connections"].as_array().unwrap().iter();
        rows.map(|row| row["connection_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = port.get("/connections?limit=2").json();
    assert_eq!((ids(&first), &first["next"], &first["total"]), (vec!["c1".into(), "c2".into()], &json!(2), &json!(5)));
    let last = port.get("/connections?limit=3&after=2").json();
    assert_eq!(ids(&last), ["c3", "c4", "c5"]);
    assert!(last.get("next").is_none());
    assert!(ids(&port.get("/connections?client_id=bob").json()).is_empty());
    for bad in ["limit=many", "after=-1", "colour=red"] {
        let reply = port.get(&format!("/connections?{bad}"));
        assert_eq!(reply.status, 400);
        assert!(reply.json()["error"].is_string());
    }
}

#[test]
fn what_is_not_there_or_not_meant_so_is_refused_in_json() {
    let port = port();
    let missing = port.get("/debug");
    assert_eq!((missing.status, missing.header("content-type")), (404, Some("application/json")));
    assert!(missing.json()["error"].as_str().unwrap().contains("/readyz"));
    for path in PATHS.into_iter().chain(["/"]) {
        let reply = port.ask("PATCH", path, "content-length: 0\r\n");
        let allow = match path {
            "/connections/{id}" => "DELETE",
            "/drain" => "POST,DELETE,GET,HEAD",
            _ => "GET,HEAD",
        };
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{path}");
        assert!(reply.json()["error"].as_str().unwrap().ends_with(&allow.replace(',', ", ")));
    }
}

#[test]
fn head_is_get_without_the_body() {
    let port = port();
    for path in PATHS.into_iter().chain(["/"]).filter(|path| !path.contains('{')) {
        let (get, head) = (port.get(path), port.ask("HEAD", path, ""));
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
    }
}

#[test]
fn a_name_that_only_points_here_is_refused_but_by_probes() {
    let port = port();
    let ask = |path: &str, host: &str| {
        let mut socket = TcpStream::connect(port.address).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for host in ["localhost", "127.0.0.1:9090", "[::1]:9090", "bowline.localhost:80", "LOCALHOST"] {
        assert_eq!(ask("/config", host), 200, "{host}");
    }
    for host in ["evil.example", "evil.example:9090", "localhost.evil.example", "10.0.0.1"] {
        assert_eq!((ask("/config", host), ask("/livez", host)), (403, 200), "{host}");
    }
}

#[test]
fn a_connection_is_closed_by_its_id() {
    let port = port();
    let close = |id: &str, headers: &str| port.ask("DELETE", &format!("/connections/{id}"), headers);
    let done = close("c5", "");
    assert_eq!((done.status, done.body.as_str()), (204, ""));
    assert!(close("c6", "").json()["error"].as_str().unwrap().contains("c6"));
    assert_eq!(close("c5", "origin: http://evil.example\r\n").status, 403);
}

#[test]
fn the_configuration_is_shown_as_it_was_handed_in() {
    assert_eq!(port().get("/config").json()["admin.listen"]["source"], "default");
    assert_eq!(port().get("/version").json()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn it_answers_while_the_runtime_of_the_clients_has_no_time() {
    let busy = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let tasks = crate::lifecycle::Tasks::default();
    let port = {
        let _inside = busy.enter();
        let port = port();
        drop(tasks.spawn("hog", async move { blocked.recv() }));
        port
    };
    assert_eq!(port.get("/livez").status, 200);
    drop(release);
}

#[test]
fn silent_sockets_do_not_keep_probes_waiting() {
    let port = port();
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(port.address).unwrap()).collect();
    assert_eq!(port.get("/livez").status, 200);
    drop(silent);
}

#[test]
fn it_closes_when_told_with_idle_sockets_open() {
    let mut port = port();
    let mut idle = TcpStream::connect(port.address).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    port.stop.cancel();
    let ended = port.admin.take().unwrap().ended();
    port.clients.block_on(async { tokio::time::timeout(Duration::from_secs(5), ended).await }).unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    assert!(TcpStream::connect(port.address).is_err());
}

#[test]
fn an_address_that_is_taken_is_named() {
    let port = port();
    let config = Config { listen: port.address, ..Config::default() };
    let error = Admin::open(config.listen, Router::new(), CancellationToken::new()).unwrap_err();
    assert_eq!(error.to_string(), format!("admin.listen: cannot listen on {}", port.address));
    assert!(std::error::Error::source(&error).is_some(), "what the system says");
}

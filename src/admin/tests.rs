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
    lifecycle::Phase,
    registry::{self, Registry, SessionStatus},
};

/// So many connections, and as many topics.
struct Fixed(u64);

fn row(place: u64) -> Row {
    Row { place, connection_id: format!("c{place}"), client_id: "alice".into(), lag: place, ..Row::default() }
}

impl Fixed {
    fn has(&self, id: &str) -> Option<u64> {
        id.strip_prefix('c')?.parse().ok().filter(|number| *number <= self.0)
    }
}

impl Connections for Fixed {
    fn page(&self, wanted: &Wanted, after: u64, limit: usize) -> Vec<Row> {
        let rows = (after + 1..=self.0).take(limit).map(row);
        rows.filter(|row| wanted.client_id.as_ref().is_none_or(|client| row.client_id == *client)).collect()
    }

    fn worst(&self, _wanted: &Wanted, limit: usize) -> Vec<Row> {
        (1..=self.0).rev().take(limit).map(row).collect()
    }

    fn get(&self, id: &str) -> Option<(Row, Vec<SessionStatus>)> {
        Some((row(self.has(id)?), vec![SessionStatus { session_id: "desk".into(), ..SessionStatus::default() }]))
    }

    fn count(&self) -> usize {
        usize::try_from(self.0).unwrap()
    }

    fn limit(&self) -> usize {
        7
    }

    fn close(&self, id: &str, _why: &str) -> bool {
        self.has(id).is_some()
    }
}

impl Topics for Fixed {
    fn page(&self, prefix: &str, after: &str, limit: usize) -> Vec<TopicRow> {
        let names = (1..=self.0).map(|number| format!("t{number}"));
        let fitting = names.filter(|name| name.starts_with(prefix) && name.as_str() > after);
        fitting.take(limit).map(|name| TopicRow { name, ..TopicRow::default() }).collect()
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
        drain,
        node: "b-1".into(),
        started: Timestamp::now(),
        lifecycle: lifecycle.clone(),
        metrics,
        connections: Box::new(Fixed(5)),
        topics: Box::new(Fixed(5)),
        config: json!({ "admin.listen": { "value": "127.0.0.1:0", "source": "default" } }),
        memory: json!({ "bytes": 1 }),
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
    assert_eq!(ids(&port.get("/connections?sort=lag&limit=2").json()), ["c5", "c4"]);
    let one = port.get("/connections/c2").json();
    assert_eq!((&one["connection"]["lag"], &one["sessions"][0]["session_id"]), (&json!(2), &json!("desk")));
    assert_eq!(port.get("/connections/c6").status, 404);
    for bad in ["limit=many", "after=-1", "colour=red", "sort=age", "sort=lag&after=1", "slow=perhaps"] {
        let reply = port.get(&format!("/connections?{bad}"));
        assert_eq!(reply.status, 400);
        assert!(reply.json()["error"].is_string());
    }
}

#[test]
fn a_browser_gets_the_page_and_its_files_and_nothing_from_elsewhere() {
    let port = port();
    let index = port.get("/");
    assert_eq!((index.header("content-type"), index.header("vary")), (Some("application/json"), Some("accept")));
    assert_eq!(index.json()["paths"][0], "/livez");
    let page = port.ask("GET", "/", "accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe") && !policy.contains("http"));
    let linked = page.body.split('"').filter(|text| text.starts_with("/page/"));
    for path in linked.chain(["/page/draw.js"]) {
        let file = port.get(path);
        assert_eq!(file.status, 200, "{path}");
        for elsewhere in ["http://", "https://", "@import", "style=", "innerHTML", "eval("] {
            let allowed = file.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!allowed.contains(elsewhere), "{path}: {elsewhere}");
        }
    }
    assert!(!page.body.contains("style=") && !page.body.contains("onclick"), "nothing inline");
    assert_eq!(port.get("/page/other.js").status, 404);
}

#[test]
fn a_phase_that_changes_meanwhile_holds_nobody_up() {
    let port = port();
    port.lifecycle.advance(Phase::Serving);
    let (lifecycle, over) = (port.lifecycle.clone(), CancellationToken::new());
    let changing = std::thread::spawn({
        let over = over.clone();
        move || {
            while !over.is_cancelled() {
                lifecycle.advance(Phase::LameDuck);
                lifecycle.call_off();
            }
        }
    });
    // A lock taken twice for reading, with a writer in between, would be for ever.
    for _ in 0..200 {
        assert!(["serving", "lame_duck"].contains(&port.get("/status").json()["phase"].as_str().unwrap()));
    }
    over.cancel();
    changing.join().unwrap();
}

#[test]
fn the_status_says_it_all_at_once() {
    let port = port();
    let starting = port.get("/status").json();
    assert_eq!((starting["phase"].as_str(), starting["ready"].as_bool()), (Some("starting"), Some(false)));
    port.lifecycle.advance(Phase::Serving);
    let status = port.get("/status").json();
    assert_eq!((status["phase"].as_str(), status["ready"].as_bool()), (Some("serving"), Some(true)));
    assert_eq!((status["node"].as_str(), status["connections"]["limit"].as_u64()), (Some("b-1"), Some(7)));
    assert_eq!((status["drain"]["phase"].as_str(), status["events"]["published"].as_u64()), (Some("serving"), Some(0)));
    let (bounds, counts) = (&status["latency"]["bounds"], &status["latency"]["counts"]);
    assert_eq!(bounds.as_array().unwrap().len() + 1, counts.as_array().unwrap().len());
    assert!(status["now_us"].as_u64() >= status["started_us"].as_u64());
}

#[test]
fn topics_come_in_pages() {
    let port = port();
    let names = |query: &str| {
        let page = port.get(&format!("/topics?{query}")).json();
        let rows = page["topics"].as_array().unwrap().iter();
        (rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), page["next"].clone())
    };
    assert_eq!(names("limit=2"), (vec!["t1".into(), "t2".into()], json!("t2")));
    assert_eq!(names("limit=3&after=t2"), (vec!["t3".into(), "t4".into(), "t5".into()], Value::Null));
    assert_eq!(names("prefix=t4"), (vec!["t4".into()], Value::Null));
    assert_eq!(port.get("/topics?limit=many").status, 400);
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
            "/connections/{id}" => "DELETE,GET,HEAD",
            "/drain" => "POST,DELETE,GET,HEAD",
            "/log-level" => "PUT,DELETE,GET,HEAD",
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

//! Through proxies that cut what is silent.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use bowline::client::{Client, NewEvent, Open, Status};
use tokio::time::{Instant, sleep, timeout};

use crate::{served::Served, tool, workshop};

/// What the proxies have in place of their minute (nginx) and five minutes (Envoy), as the tests' heartbeats come more
/// often than the server's do.
const PATIENCE: &str = "4s";
/// Twice that, and a little.
const SILENCE: Duration = Duration::from_secs(9);

/// A kind of proxy.
#[derive(Clone, Copy)]
struct Kind {
    program: &'static str,
    /// Name of its configuration: by the ending it knows the language.
    file: &'static str,
    /// Its configuration: where it listens, where the server is, a folder of its own.
    text: fn(SocketAddr, SocketAddr, &Path) -> String,
    arguments: fn(&mut Command, &Path),
}

const NGINX: Kind = Kind {
    program: "nginx",
    file: "nginx.conf",
    text: nginx,
    arguments: |command, home| {
        command.arg("-p").arg(home).arg("-c").arg(home.join("nginx.conf")).arg("-e").arg(home.join("log"));
    },
};

const ENVOY: Kind = Kind {
    program: "envoy",
    file: "envoy.json",
    text: envoy,
    arguments: |command, home| {
        command.arg("-c").arg(home.join("envoy.json")).arg("--log-path").arg(home.join("log"));
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
    },
};

fn nginx(address: SocketAddr, server: SocketAddr, home: &Path) -> String {
    let folder = home.display();
    format!(
        "daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log;
         events {{ worker_connections 64; }}
         http {{
             access_log off;
             client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
             fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
             server {{
                 listen {address} http2;
                 grpc_read_timeout {PATIENCE}; grpc_send_timeout {PATIENCE}; client_body_timeout {PATIENCE};
                 location / {{ grpc_pass grpc://{server}; }}
             }}
         }}"
    )
}

/// Its routes keep their timeout of 15 s, which is for calls that have been asked in full.
fn envoy(address: SocketAddr, server: SocketAddr, _: &Path) -> String {
    let socket = |at: SocketAddr| serde_json::json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let router = serde_json::json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": kind("filters.http.router.v3.Router") },
    });
    let manager = serde_json::json!({
        "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "codec_type": "HTTP2",
        "stream_idle_timeout": PATIENCE,
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "bowline" } }],
        }] },
        "http_filters": [router],
    });
    let upstream = serde_json::json!({
        "@type": kind("upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": { "http2_protocol_options": {} },
    });
    let config = serde_json::json!({ "static_resources": {
        "listeners": [{
            "address": socket(address),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }] }],
        }],
        "clusters": [{
            "name": "bowline",
            "type": "STATIC",
            "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": upstream },
            "load_assignment": {
                "cluster_name": "bowline",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(server) } }] }],
            },
        }],
    } });
    config.to_string()
}

/// A proxy in front of a server; ended when dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    async fn start(kind: Kind, program: &Path, name: &str, server: SocketAddr) -> Self {
        // A port that was free a moment ago: proxies do not say which one they were given.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let home = workshop(name);
        fs::write(home.join(kind.file), (kind.text)(address, server, &home)).expect("written");
        let mut command = Command::new(program);
        (kind.arguments)(&mut command, &home);
        let proxy = Self { child: command.spawn().expect("the proxy starts"), address };
        let listening = timeout(Duration::from_secs(20), async {
            while TcpStream::connect(address).is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        let said = || fs::read_to_string(home.join("log")).unwrap_or_default();
        assert!(listening.await.is_ok(), "{} does not listen: {}", kind.program, said());
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The master of nginx passes SIGTERM on, which SIGKILL would not let it do.
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        told.and_then(|_| self.child.wait()).ok();
    }
}

/// A session on which nobody says anything for longer than the proxy waits; whether its connection was lost meanwhile.
async fn is_lost_in_silence(kind: Kind, name: &str, heartbeats: &str) -> Option<bool> {
    let program = tool(kind.program)?;
    let settings =
        [("BOWLINE__REGISTRY__HEARTBEAT_INTERVAL", heartbeats), ("BOWLINE__TRANSPORT__KEEPALIVE_INTERVAL", "0s")];
    let server = Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &settings);
    let proxy = Proxy::start(kind, &program, name, server.address).await;
    let client =
        Client::builder(format!("http://{}", proxy.address)).client_id("silent").connect().await.expect("connected");
    let session = client.open(Open::topic("t")).await.expect("open");
    let (begun, mut status) = (Instant::now(), client.status());
    let lost = timeout(SILENCE, status.wait_for(|status| matches!(status, Status::Waiting { .. }))).await.is_ok();
    assert!(lost || begun.elapsed() >= SILENCE, "the client has ended");
    let stored =
        session.publish(NewEvent { payload: "still there".into(), ..NewEvent::default() }).await.expect("sent");
    // Lost or not: a client that is back has lost nothing.
    timeout(Duration::from_secs(20), stored).await.expect("an answer in time").expect("stored");
    client.close().await;
    Some(lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_keeps_a_silent_session_because_of_its_heartbeats() {
    let Some(lost) = is_lost_in_silence(NGINX, "nginx-heartbeats", "1s").await else { return };
    assert!(!lost, "the heartbeats did not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_cuts_a_session_without_heartbeats_and_its_client_resumes() {
    let Some(lost) = is_lost_in_silence(NGINX, "nginx-silence", "10m").await else { return };
    assert!(lost, "without heartbeats nothing was cut: the other test shows nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_keeps_a_silent_session_because_of_its_heartbeats() {
    let Some(lost) = is_lost_in_silence(ENVOY, "envoy-heartbeats", "1s").await else { return };
    assert!(!lost, "the heartbeats did not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_cuts_a_session_without_heartbeats_and_its_client_resumes() {
    let Some(lost) = is_lost_in_silence(ENVOY, "envoy-silence", "10m").await else { return };
    assert!(lost, "without heartbeats nothing was cut: the other test shows nothing");
}

//! Through a proxy that cuts what is silent.

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

/// A fifteenth of what nginx allows by default, as the heartbeats are of what the server does.
const PATIENCE: &str = "4s";
/// Twice that, and a little.
const SILENCE: Duration = Duration::from_secs(9);

/// nginx in front of a server; ended when dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    async fn start(program: &Path, name: &str, server: SocketAddr) -> Self {
        // A port that was free a moment ago: nginx does not say which one it was given.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let home = workshop(name);
        let folder = home.display();
        let text = format!(
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
        );
        fs::write(home.join("nginx.conf"), text).expect("written");
        let mut command = Command::new(program);
        command.arg("-p").arg(&home).arg("-c").arg(home.join("nginx.conf")).arg("-e").arg(home.join("log"));
        let child = command.spawn().expect("nginx starts");
        let proxy = Self { child, address };
        let listening = timeout(Duration::from_secs(20), async {
            while TcpStream::connect(address).is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        let said = || fs::read_to_string(home.join("log")).unwrap_or_default();
        assert!(listening.await.is_ok(), "nginx does not listen: {}", said());
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its master passes SIGTERM on, which SIGKILL would not let it do.
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        told.and_then(|_| self.child.wait()).ok();
    }
}

/// A session on which nobody says anything for longer than nginx waits; whether its connection was lost meanwhile.
async fn is_lost_in_silence(name: &str, heartbeats: &str) -> Option<bool> {
    let program = tool("nginx")?;
    let settings =
        [("BOWLINE__REGISTRY__HEARTBEAT_INTERVAL", heartbeats), ("BOWLINE__TRANSPORT__KEEPALIVE_INTERVAL", "0s")];
    let server = Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &settings);
    let proxy = Proxy::start(&program, name, server.address).await;
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
    let Some(lost) = is_lost_in_silence("nginx-heartbeats", "1s").await else { return };
    assert!(!lost, "the heartbeats did not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_cuts_a_session_without_heartbeats_and_its_client_resumes() {
    let Some(lost) = is_lost_in_silence("nginx-silence", "10m").await else { return };
    assert!(lost, "without heartbeats nothing was cut: the other test shows nothing");
}

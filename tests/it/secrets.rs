//! Recognisable secrets in every place that has one, and a server that logs all it can: they are found nowhere.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::Stdio,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bowline::{
    client::{Client, NewEvent, Open, Start},
    proto::v1::{Authenticate, Hello, StreamDataRequest, stream_data_request::Frame},
};
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::process::{Child, Command};

use crate::{
    collector::{Collector, Manner},
    pki::{Authority, Volume},
    signals,
    support::{
        LIMIT, RawCall, Settings, TestClient, ask, close, event, get, grpc_message, hello, open, present, put, with,
        within,
    },
};

const ADMIN_TOKEN: &str = "canary-admin-token-2c9e";
const WRONG_TOKEN: &str = "canary-wrong-admin-token-77ab";
const EXPORT_HEADER: &str = "canary-export-header-51d0";
const METADATA_TOKEN: &str = "canary-metadata-token-9a1f";
const HELLO_TOKEN: &str = "canary-hello-token-e04b";
const NEXT_TOKEN: &str = "canary-next-token-36cc";
const LIBRARY_TOKEN: &str = "canary-library-token-b8d2";
const PAYLOAD: &str = "canary-payload-f7e5";
const TOO_LARGE: &str = "canary-too-large-0d3a";
const UNREADABLE: &str = "canary-unreadable-frame-84c6";
const PRESENCE: &str = "canary-presence-1b97";
#[cfg(feature = "nats")]
const NATS_TOKEN: &str = "canary-nats-token-6f3d";
const ALL: [&str; 11] = [
    ADMIN_TOKEN,
    WRONG_TOKEN,
    EXPORT_HEADER,
    METADATA_TOKEN,
    HELLO_TOKEN,
    NEXT_TOKEN,
    LIBRARY_TOKEN,
    PAYLOAD,
    TOO_LARGE,
    UNREADABLE,
    PRESENCE,
];

/// The ways in which code writes a text that it does not mean to show.
fn disguises(secret: &str) -> [String; 4] {
    let bytes = secret.as_bytes();
    let decimal: Vec<_> = bytes.iter().map(u8::to_string).collect();
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Without what depends on the bytes before it and behind it.
    let base64 = BASE64_STANDARD.encode(&bytes[..bytes.len() / 3 * 3]);
    [secret.to_owned(), decimal.join(", "), hex.concat(), base64]
}

#[track_caller]
fn is_nowhere_in(place: &str, text: &str, secret: &str) {
    for disguise in disguises(secret) {
        let around = |at: usize| text[text[..at].rfind('\n').map_or(0, |start| start + 1)..].lines().next();
        let found = text.find(&disguise).and_then(around);
        assert_eq!(found, None, "{place} shows {secret}");
    }
}

/// `bowline serve` as a process that logs everything into a file.
struct Chatty {
    child: Child,
    log: tempfile::NamedTempFile,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Chatty {
    async fn start(settings: Settings<'_>) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .arg("serve")
            .env("BOWLINE__TRANSPORT__LISTEN", "127.0.0.1:0")
            .env("BOWLINE__ADMIN__LISTEN", "127.0.0.1:0")
            .env("BOWLINE__TELEMETRY__LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::from(File::create(log.path()).unwrap()))
            .kill_on_drop(true);
        let child = command.spawn().unwrap();
        let address = Self::listening(log.path(), "listening for clients").await;
        let admin = Self::listening(log.path(), "admin port open").await;
        Self { child, log, address, admin }
    }

    /// The address in the line of the log that says this.
    async fn listening(log: &Path, says: &str) -> SocketAddr {
        within("a server that listens", async {
            loop {
                let text = fs::read_to_string(log).unwrap();
                let line = text.lines().find(|line| line.contains(says));
                let rest = line.and_then(|line| line.split_once("127.0.0.1:"));
                let port = rest.map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
                if let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) {
                    return ([127, 0, 0, 1], port).into();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Everything that the port for operators tells, to those who may ask and to those who may not.
    async fn told(&self) -> String {
        let mut told = String::new();
        for path in [
            "/config",
            "/metrics",
            "/status",
            "/connections",
            "/topics",
            "/log-level",
            "/drain",
            "/readyz?verbose",
            "/",
        ] {
            let answer = get(self.admin, path, "").await;
            assert_eq!(answer.status, 200, "{path}");
            told.extend([&*answer.head, &answer.body]);
        }
        told.push_str(&get(self.admin, "/metrics", "accept: application/openmetrics-text").await.body);
        for (token, status) in [(ADMIN_TOKEN, 200), (WRONG_TOKEN, 401)] {
            let header = format!("authorization: Bearer {token}");
            let answer = ask(self.admin, "PUT", "/log-level", &header, "{\"directives\": \"trace\"}").await;
            assert_eq!(answer.status, status, "{}", answer.body);
            told.extend([&*answer.head, &answer.body]);
        }
        told
    }

    /// Ends it in order; all that it has logged.
    async fn end(mut self) -> String {
        signals::send(self.child.id().expect("still running"), "-TERM");
        within("the end of the server", self.child.wait()).await.unwrap();
        fs::read_to_string(self.log.path()).unwrap()
    }
}

/// A conversation that has secrets wherever a client can put one, well said and badly said.
async fn converse(address: SocketAddr) {
    let bearer = format!("Bearer {METADATA_TOKEN}");
    let metadata = [("authorization", bearer.as_str()), ("x-api-key", METADATA_TOKEN)];
    let Ok(mut client) = TestClient::call(address, &metadata).await else { return };
    client.send(Hello { token: HELLO_TOKEN.to_owned(), ..hello("alice") }).await;
    client.welcomed().await;
    let mut session = open(1, "t");
    session.presence = present(PRESENCE);
    client.send(session).await;
    client.opened().await;
    client.ask(Authenticate { token: NEXT_TOKEN.to_owned() }).await;
    client.ask(with(1, 1, event(PAYLOAD))).await;
    client.ask(with(1, 2, put("key", PAYLOAD))).await;
    client.ask(with(1, 3, event(TOO_LARGE.repeat(5000)))).await;
    // Of a session that does not exist, and out of turn.
    client.ask(with(9, 1, event(PAYLOAD))).await;
    client.ask(with(1, 99, event(PAYLOAD))).await;
    client.settled().await;
    client.send(close(1)).await;
    client.settled().await;
    client.half_close();
    client.end().await;

    // A token in the wrong place, and frames that are none.
    let mut late = TestClient::call(address, &[]).await.unwrap();
    late.send(Authenticate { token: NEXT_TOKEN.to_owned() }).await;
    late.end().await;
    let request = StreamDataRequest { request_id: 1, frame: Some(Frame::Hello(hello("raw"))) };
    for message in [UNREADABLE.as_bytes().to_vec(), [&request.encode_to_vec(), UNREADABLE.as_bytes()].concat()] {
        let mut call = RawCall::open(address).await;
        call.send(grpc_message(&message));
        call.end().await.ok();
    }
}

/// The same over TLS, by the library.
async fn converse_by_the_library(address: SocketAddr, ca: &Path) {
    let builder = Client::builder(format!("https://{address}")).tls_ca_file(ca).tls_name("localhost");
    let client = within("a connection", builder.client_id("bob").token(LIBRARY_TOKEN).connect()).await.unwrap();
    let mut session = client.open(Open::topic("t").start(Start::Earliest)).await.unwrap();
    let event = NewEvent { payload: PAYLOAD.into(), ..NewEvent::default() };
    within("a receipt", session.publish(event).await.unwrap()).await.unwrap();
    while !matches!(within("an item", session.next()).await, Some(bowline::client::Item::Event(_))) {}
    // Whether a token is wanted is another matter.
    client.authenticate(NEXT_TOKEN).await.ok();
    client.close().await;
}

async fn shows_no_secret(format: &str, tls: bool) {
    let collector = Collector::start(Manner::Takes).await;
    let (authority, url) = (Authority::new("servers"), collector.url());
    let pair = authority.server();
    let volume = Volume::new(&[("tls.crt", &pair.cert), ("tls.key", &pair.key), ("ca.crt", &authority.pem())]);
    let (cert, key) = (volume.name("tls.crt"), volume.name("tls.key"));
    let headers = format!("x-api-key={EXPORT_HEADER}");
    let mut settings = vec![
        ("BOWLINE__TELEMETRY__FORMAT", format),
        ("BOWLINE__ADMIN__TOKEN", ADMIN_TOKEN),
        ("BOWLINE__TELEMETRY__OTLP__ENABLED", "true"),
        ("BOWLINE__TELEMETRY__OTLP__ENDPOINT", &url),
        ("BOWLINE__TELEMETRY__OTLP__HEADERS", &headers),
        ("BOWLINE__TELEMETRY__TRACES__SAMPLE_RATIO", "1.0"),
        ("BOWLINE__CONNECTION__MAX_MESSAGE_SIZE", "64KiB"),
    ];
    if tls {
        settings.extend([
            ("BOWLINE__TRANSPORT__TLS__ENABLED", "true"),
            ("BOWLINE__TRANSPORT__TLS__CERT_FILE", &*cert),
            ("BOWLINE__TRANSPORT__TLS__KEY_FILE", &key),
        ]);
    }
    let server = Chatty::start(&settings).await;
    if tls {
        converse_by_the_library(server.address, &volume.path("ca.crt")).await;
    } else {
        converse(server.address).await;
    }
    let told = server.told().await;
    let log = server.end().await;
    assert!(log.lines().count() > 100 && log.contains("TRACE"), "it was to log everything");
    assert_eq!(collector.header("x-api-key").as_deref(), Some(EXPORT_HEADER), "it goes where it belongs");
    let spans = format!("{:?}", collector.spans());
    assert!(spans.len() > 500, "spans were exported");

    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    let printed = command.arg("config").envs(settings.iter().copied()).output();
    let printed = String::from_utf8(within("the configuration", printed).await.unwrap().stdout).unwrap();
    assert!(printed.contains("token = \"<redacted>\""), "{printed}");

    let key_lines = pair.key.lines().filter(|line| !line.starts_with("-----") && line.len() > 20);
    for secret in ALL.into_iter().chain(key_lines) {
        for (place, text) in
            [("the log", &log), ("the admin port", &told), ("a span", &spans), ("bowline config", &printed)]
        {
            is_nowhere_in(place, text, secret);
        }
    }
}

#[tokio::test]
async fn a_server_that_logs_everything_shows_no_secret() {
    shows_no_secret("json", false).await;
    shows_no_secret("text", true).await;
}

/// What a server shows to NATS; its client library would write it into its traces.
#[cfg(feature = "nats")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_to_nats_is_shown_to_nobody_else() {
    let by_token = format!("authorization {{ token: \"{NATS_TOKEN}\" }}");
    let by_password = format!("authorization {{ user: bowline, password: \"{NATS_TOKEN}\" }}");
    let files = Volume::new(&[("secret", NATS_TOKEN)]);
    let path = files.name("secret");
    let (token, password) = ("BOWLINE__BROKER__NATS__TOKEN_FILE", "BOWLINE__BROKER__NATS__PASSWORD_FILE");
    for (asks, shows) in [
        (by_token, vec![(token, &*path)]),
        (by_password, vec![("BOWLINE__BROKER__NATS__USER", "bowline"), (password, &*path)]),
    ] {
        let Some(nats) = crate::nats::NatsServer::start_with(&asks).await else { return };
        let servers = format!("[\"{}\"]", nats.url());
        let mut settings = vec![
            ("BOWLINE__ADMIN__TOKEN", ADMIN_TOKEN),
            ("BOWLINE__BROKER__KIND", "nats"),
            ("BOWLINE__BROKER__NATS__SERVERS", &servers),
            ("BOWLINE__BROKER__NATS__REPLICAS", "1"),
            ("BOWLINE__BROKER__NATS__PARTITIONS", "1"),
        ];
        settings.extend(shows);
        let server = Chatty::start(&settings).await;
        within("a server that is ready", async {
            while get(server.admin, "/readyz", "").await.status != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        let told = server.told().await;
        let log = server.end().await;
        assert!(log.contains("async_nats::connector"), "it was to log everything");
        is_nowhere_in("the log", &log, NATS_TOKEN);
        is_nowhere_in("the admin port", &told, NATS_TOKEN);
    }
}

/// A test that finds nothing must be able to find something.
#[test]
#[should_panic(expected = "a place shows canary")]
fn a_secret_would_be_found_in_any_disguise() {
    let shown = disguises("canary").map(|text| std::panic::catch_unwind(|| is_nowhere_in("a place", &text, "canary")));
    assert!(shown.iter().all(Result::is_err), "only some were found");
    is_nowhere_in("a place", "before\nfound: canary.\nafter", "canary");
}

/// What is no configuration is told without what it says.
#[tokio::test]
async fn a_bad_configuration_is_told_without_its_secrets() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        file.path(),
        format!("[admin]\ntoken = [\"{ADMIN_TOKEN}\"]\n[telemetry.otlp]\nheaders = {{ a = \"{EXPORT_HEADER}\" }}\n"),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    let output = command.args(["serve", "--config"]).arg(file.path()).env("BOWLINE__ADMIN__TOKEN_FILE", "").output();
    let output = tokio::time::timeout(LIMIT, output).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("admin.token"), "{said}");
    for secret in [ADMIN_TOKEN, EXPORT_HEADER] {
        is_nowhere_in("an error", &said, secret);
    }
}

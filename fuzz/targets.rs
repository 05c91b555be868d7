//! What is fuzzed. Each target takes any bytes, makes of them what the server would, and holds the outcome to what must be
//! true of it; a panic is a finding. `tests/fuzz.rs` runs them for a moment in every build, `make fuzz` for as long as wanted.

use std::{
    convert::Infallible,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    pin::Pin,
    str,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use bowline::{
    auth::{self, Algorithm, Auth, Caller, IssuerConfig, Mode},
    config::{self, Flag, Sources},
    proto::v1::{self, stream_data_request::Frame, StreamDataRequest, StreamDataResponse},
    telemetry::metrics::Metrics,
    types::{Cursor, Timestamp, Topic, TopicPattern, TransportHandle},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http_body::{Body, Frame as Piece};
use prost::Message as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::codec::BufferSettings;

/// Makes something of any bytes.
pub type Target = fn(&[u8]);

/// Every target, with the name of its corpus.
pub const ALL: [(&str, Target); 6] = [
    ("config", config),
    ("cursor", cursor),
    ("frames", frames),
    ("guard", guard),
    ("jwt", jwt),
    ("topic_pattern", topic_pattern),
];

/// Lines `!KEY=VALUE` are flags, lines `!BOWLINE__…=VALUE` environment variables, and the rest is a file: it is refused with
/// a sentence, or it is a configuration that is valid.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut sources = Sources::default();
    let mut file = String::new();
    for line in text.lines() {
        match line.strip_prefix('!').and_then(|line| line.split_once('=')) {
            Some((key, value)) if key.starts_with("BOWLINE__") => sources.environment.push((key.into(), value.into())),
            Some((key, value)) => {
                sources.flags.push(Flag { name: "--set".into(), key: key.into(), value: value.into() });
            }
            None => {
                file.push_str(line);
                file.push('\n');
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bowline.toml");
    fs::write(&path, file).expect("a file");
    sources.files.push(path);
    if let Err(problems) = config::load(&sources) {
        assert!(!problems.to_string().is_empty(), "refused without a word");
    }
}

/// What is read as a cursor is written, and read again, as the same.
pub fn cursor(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(cursor) = text.parse::<Cursor>() else { return };
    assert_eq!(cursor.to_string().parse::<Cursor>().as_ref(), Ok(&cursor), "written and read");
    assert_eq!(Cursor::from(v1::Cursor::from(cursor)), cursor, "sent and received");
}

/// The body of a `StreamData` request, as it comes off HTTP/2: messages are split and decoded until the first that is none;
/// what was decoded can be sent again, and each event in it is taken or refused.
pub fn frames(bytes: &[u8]) {
    let body = Whole(Some(Bytes::copy_from_slice(bytes)));
    let buffers = BufferSettings::new(512, 512);
    let decoder = tonic_prost::ProstCodec::<StreamDataResponse, StreamDataRequest>::raw_decoder(buffers);
    let mut requests = tonic::Streaming::new_request(decoder, body, None, Some(1 << 20));
    while let Some(Some(Ok(request))) = requests.next().now_or_never() {
        let again = StreamDataRequest::decode(&*request.encode_to_vec());
        assert_eq!(again.as_ref(), Ok(&request), "sent and received");
        if let Some(Frame::Publish(publish)) = request.frame {
            drop(publish.event.map(|event| event.into_event(None).check()));
        }
    }
}

/// Bytes of both ends of a transport, in pieces.
pub fn guard(bytes: &[u8]) {
    bowline::transport::hold_guard(bytes);
}

/// Header and claims, with a line end between them, signed as they are by the issuer's own key: it is believed only for what
/// it says, and not at all once a bit of its signature has changed.
pub fn jwt(bytes: &[u8]) {
    let Some((header, claims)) = str::from_utf8(bytes).ok().and_then(|text| text.split_once('\n')) else { return };
    let (message, signature) = signed(header, claims);
    let Some(caller) = admitted(&message, &signature) else { return };

    let said: Value = serde_json::from_str(claims).expect("claims that were read");
    assert_eq!(said["iss"], ISSUER);
    assert!(said["aud"] == AUDIENCE || said["aud"].as_array().is_some_and(|all| all.iter().any(|one| one == AUDIENCE)));
    let now = Timestamp::now().0 as f64 / 1e6;
    assert!(said["exp"].as_f64().is_some_and(|at| at > now - 61.0), "it has run out");
    assert_eq!(caller.identity().client().map(|client| client.as_str()), said["sub"].as_str());
    let mut forged = signature;
    forged[0] ^= 1;
    assert!(admitted(&message, &forged).is_none(), "a signature of nobody");
}

fn signed(header: &str, claims: &str) -> (String, Vec<u8>) {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    (message, signature.as_ref().to_vec())
}

fn admitted(message: &str, signature: &[u8]) -> Option<Caller> {
    let transport = TransportHandle::new(([127, 0, 0, 1], 1).into(), CancellationToken::new(), Duration::ZERO);
    AUTH.admit_by(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)), &transport).ok()
}

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "bowline";
const SECRET: &[u8] = b"a secret of some length, as HS256 wants it";

/// One that believes [`ISSUER`].
static AUTH: LazyLock<Auth> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret).expect("a file");
    file.write_all(SECRET).expect("a file");
    let issuer = IssuerConfig {
        issuer: ISSUER.into(),
        audiences: vec![AUDIENCE.into()],
        algorithms: vec![Algorithm::Hs256],
        secret_files: vec![secret],
        public_key_files: Vec::new(),
        jwks_file: Default::default(),
        jwks_url: String::new(),
        jwks_ca_file: Default::default(),
        client_claim: "sub".into(),
        client_prefix: String::new(),
        rights_claim: "rights".into(),
    };
    let config = auth::Config { mode: Mode::Jwt, issuers: vec![issuer], ..auth::Config::default() };
    Auth::new(config, Arc::new(Metrics::new())).expect("its files can be read")
});

/// Whether [`jwt`] can find anything: of the inputs, one at least has to be believed.
pub fn is_believed(bytes: &[u8]) -> bool {
    let parts = str::from_utf8(bytes).ok().and_then(|text| text.split_once('\n'));
    parts
        .map(|(header, claims)| signed(header, claims))
        .is_some_and(|(message, sum)| admitted(&message, &sum).is_some())
}

/// A body in one piece.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Piece<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Piece::data(bytes))))
    }
}

/// A pattern, a line end, a name: they match as the rule in words says.
pub fn topic_pattern(bytes: &[u8]) {
    let Some((pattern, name)) = str::from_utf8(bytes).ok().and_then(|text| text.split_once('\n')) else { return };
    let (Ok(pattern), Ok(topic)) = (TopicPattern::parse(pattern), Topic::parse(name)) else { return };
    let (wanted, segments): (Vec<_>, Vec<_>) = (pattern.as_str().split('.').collect(), name.split('.').collect());
    assert_eq!(pattern.matches(&topic), covers(&wanted, &segments), "{pattern:?} and {topic:?}");
    assert!(!topic.as_str().contains(['*', '>', ' ']), "what means something to NATS: {topic:?}");
}

/// `*` stands for one segment, a last `>` for one or more.
fn covers(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, name @ ..]) => covers(pattern, name),
        ([literal, pattern @ ..], [segment, name @ ..]) => literal == segment && covers(pattern, name),
        _ => false,
    }
}

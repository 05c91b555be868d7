//! What is fuzzed. Each target takes any bytes, makes of them what the server would, and holds the outcome to what must be
//! true of it; a panic is a finding. `tests/fuzz.rs` runs them for a moment in every build, `make fuzz` for as long as wanted.

use std::{
    convert::Infallible,
    fs,
    os::unix::fs::PermissionsExt as _,
    pin::Pin,
    str,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bowline::{
    auth::{Ask, Auth},
    config::{self, Flag, Sources},
    proto::v1::{self, StreamDataRequest, StreamDataResponse, stream_data_request::Frame},
    telemetry::metrics::Metrics,
    types::{Cursor, Topic, TopicPattern, TransportHandle},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http_body::{Body, Frame as Piece};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::codec::BufferSettings;

/// Makes something of any bytes.
pub type Target = fn(&[u8]);

/// Every target, with the name of its corpus.
pub const ALL: [(&str, Target); 6] = [
    ("claims", claims),
    ("config", config),
    ("cursor", cursor),
    ("frames", frames),
    ("guard", guard),
    ("topic_pattern", topic_pattern),
];

/// What the issuer of `claims` signs with.
const SECRET: &str = "a secret of the fuzzer, which is no secret";

/// Whoever believes that issuer.
fn believer() -> &'static Auth {
    static AUTH: OnceLock<Auth> = OnceLock::new();
    AUTH.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        fs::write(&path, SECRET).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of ours");
        let config = format!(
            "mode = \"jwt\"\n[[issuers]]\nissuer = \"i\"\naudiences = [\"b\"]\nalgorithms = [\"HS256\"]\n\
             rights_claim = \"rights\"\nsecret_files = [{path:?}]"
        );
        let config = toml::from_str(&config).expect("a section");
        Auth::new(config, Arc::new(Metrics::new())).expect("a file that can be read")
    })
}

/// A token is refused, or its issuer has said all that is asked of it. The bytes are a token, and the claims of one that
/// the issuer has signed.
pub fn claims(bytes: &[u8]) {
    let transport =
        TransportHandle::new(([127, 0, 0, 1], 1).into(), CancellationToken::new(), std::time::Duration::ZERO);
    if let Ok(text) = str::from_utf8(bytes) {
        assert!(believer().admit_by(text, &transport).is_err(), "nobody has signed that");
    }
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(bytes));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    let Ok(caller) = believer().admit_by(&token, &transport) else { return };
    let said: serde_json::Value = serde_json::from_slice(bytes).expect("claims that could be read");
    assert_eq!(said["iss"], "i", "another issuer");
    assert!(
        said["aud"] == "b" || said["aud"].as_array().is_some_and(|all| all.iter().any(|one| one == "b")),
        "not for us"
    );
    let client = caller.identity().client().expect("a token names somebody");
    assert_eq!(Some(client.as_str()), said["sub"].as_str(), "another client");
    assert!(caller.identity().expires().is_some() && said["exp"].is_number(), "it never runs out");
    assert!(!caller.may(Ask::Operate), "no claim makes an operator");
}

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

/// A `StreamData` request, read by hand if it is a plain publish; and a body of them, as it comes off HTTP/2: messages are split and decoded until the first that is none;
/// what was decoded can be sent again, and each event in it is taken or refused.
pub fn frames(bytes: &[u8]) {
    let message = Bytes::copy_from_slice(bytes);
    if let Some(request) = bowline::proto::publish(&message) {
        assert_eq!(Ok(&request), StreamDataRequest::decode(message).as_ref(), "read by hand");
    }
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

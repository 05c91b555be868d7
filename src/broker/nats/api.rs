//! What is asked of the servers: JSON over request and reply, as JetStream has it.
//!
//! Whoever leads a stream is asked where the answer must not be old; any server that keeps it where that does no harm.

use std::{collections::HashMap, time::Duration};

use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, Message, Request, RequestErrorKind};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

/// How long an answer may take. What is asked of a server that stands still, or when its connection is lost, is never
/// answered, and asking again is cheap.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long many of them may take.
const BATCH_TIMEOUT: Duration = Duration::from_secs(4);
/// Most bytes that are sent at once in answer to one question.
const BATCH_BYTES: usize = 4 << 20;
/// Most subjects that may be asked for at once.
pub(super) const MAX_SUBJECTS: usize = 1000;

/// No such record.
const NO_MESSAGE: u64 = 10037;
/// A record could not be taken out, because it is not there.
const NOT_THERE: [u64; 3] = [NO_MESSAGE, 10043, 10057];
/// No such stream.
const NO_STREAM: u64 = 10059;
/// The newest record of the subject is another one; the newer number comes without saying which.
const WRONG_LAST: [u64; 2] = [10071, 10164];

/// Why something that was asked of the servers did not come to be.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Problem {
    /// Nobody can be reached.
    #[error("NATS cannot be reached: {0}")]
    Unreachable(String),
    /// Nobody is there who could answer.
    #[error("no NATS server answers for it")]
    Nobody,
    /// No answer came in time.
    #[error("NATS did not answer in time")]
    Late,
    /// The message is larger than the servers take.
    #[error("it is larger than the NATS server takes")]
    TooLarge,
    /// A server says no.
    #[error("NATS: {text} ({code})")]
    Refused {
        /// JetStream's number for it.
        code: u64,
        /// In its words.
        text: String,
    },
    /// An answer that we do not understand.
    #[error("NATS answered something else than was asked")]
    Strange,
    /// Something is set in a way in which it cannot work.
    #[error("{0}")]
    Unfit(String),
}

impl Problem {
    /// Whether trying again may help.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self, Self::Unfit(_) | Self::TooLarge)
    }

    pub(super) fn is_no_stream(&self) -> bool {
        matches!(self, Self::Refused { code: NO_STREAM, .. })
    }

    /// If the newest record is not the one that was expected: which it is, if that was said.
    pub(super) fn wrong_last(&self) -> Option<Option<u64>> {
        match self {
            Self::Refused { code, text } if WRONG_LAST.contains(code) => {
                Some(text.rsplit(' ').next().and_then(|number| number.parse().ok()))
            }
            _ => None,
        }
    }
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// An answer, or what a server has against the question.
#[derive(Debug, Deserialize)]
struct Answer<T> {
    error: Option<ErrorBody>,
    #[serde(flatten)]
    content: Option<T>,
}

/// What there is to know of a stream.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Described {
    /// When it was created, in the server's words: whether it is still the same one.
    pub(super) created: String,
    /// Its settings.
    pub(super) config: Value,
    /// What it holds.
    pub(super) state: StreamState,
    /// Who keeps it.
    #[serde(default)]
    pub(super) cluster: Value,
    /// When it was asked, by its leader's clock.
    #[serde(default)]
    pub(super) ts: String,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct StreamState {
    /// The oldest record kept, or the one that will be.
    pub(super) first_seq: u64,
    /// The newest record there ever was.
    pub(super) last_seq: u64,
}

/// The answer to a publish.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Ack {
    /// Its place.
    pub(super) seq: u64,
    /// It was there already.
    #[serde(default)]
    pub(super) duplicate: bool,
}

/// One record, as the leader of its stream tells it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Stored {
    /// Its place.
    pub(super) seq: u64,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl Stored {
    /// Its content.
    pub(super) fn content(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.data).unwrap_or_default()
    }

    /// Whether it was published under this id.
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.header_lines().iter().any(|(name, value)| name == "Nats-Msg-Id" && value == id)
    }

    fn header_lines(&self) -> Vec<(String, String)> {
        let headers = BASE64_STANDARD.decode(&self.hdrs).unwrap_or_default();
        let headers = String::from_utf8_lossy(&headers);
        let pairs = headers.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }

    /// The same as a message like those that come by [`records`].
    pub(super) fn into_message(self) -> Message {
        let (payload, mut headers) = (Bytes::from(self.content()), HeaderMap::new());
        for (name, value) in self.header_lines() {
            if let Ok(name) = name.parse::<HeaderName>() {
                headers.append(name, value);
            }
        }
        headers.insert("Nats-Sequence", self.seq.to_string());
        headers.insert("Nats-Time-Stamp", self.time);
        let length = payload.len();
        let (reply, status, description) = (None, None, None);
        Message { subject: self.subject.into(), reply, payload, headers: Some(headers), status, description, length }
    }
}

#[derive(Debug, Deserialize)]
struct Found {
    message: Stored,
}

/// Asks, and waits for one answer until `deadline` at the latest.
pub(super) async fn ask(
    client: &Client,
    subject: String,
    headers: Option<HeaderMap>,
    content: Bytes,
    deadline: Instant,
) -> Result<Message, Problem> {
    let mut request = Request::new().payload(content).timeout(None);
    if let Some(headers) = headers {
        request = request.headers(headers);
    }
    match timeout_at(deadline, client.send_request(subject, request)).await {
        Err(_) => Err(Problem::Late),
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) => Err(match error.kind() {
            RequestErrorKind::NoResponders => Problem::Nobody,
            RequestErrorKind::TimedOut => Problem::Late,
            RequestErrorKind::MaxPayloadExceeded => Problem::TooLarge,
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => Problem::Unreachable(error.to_string()),
        }),
    }
}

/// Reads an answer.
pub(super) fn answer<T: for<'de> Deserialize<'de>>(message: &Message) -> Result<T, Problem> {
    let answer: Answer<T> = serde_json::from_slice(&message.payload).map_err(|_| Problem::Strange)?;
    match (answer.error, answer.content) {
        (Some(error), _) => Err(Problem::Refused { code: error.err_code, text: error.description }),
        (None, Some(content)) => Ok(content),
        (None, None) => Err(Problem::Strange),
    }
}

async fn call<T: for<'de> Deserialize<'de>>(client: &Client, what: String, question: &Value) -> Result<T, Problem> {
    let content = if question.is_null() { Bytes::new() } else { question.to_string().into() };
    let message = ask(client, format!("$JS.API.{what}"), None, content, Instant::now() + ANSWER_TIMEOUT).await?;
    answer(&message)
}

/// What there is to know of a stream, from its leader.
pub(super) async fn stream(client: &Client, name: &str) -> Result<Described, Problem> {
    call(client, format!("STREAM.INFO.{name}"), &Value::Null).await
}

/// What there is to know of the account.
pub(super) async fn account<T: for<'de> Deserialize<'de>>(client: &Client) -> Result<T, Problem> {
    call(client, "INFO".to_owned(), &Value::Null).await
}

/// Makes a stream. One that is there with the same settings already is as good.
pub(super) async fn create_stream(client: &Client, name: &str, settings: &Value) -> Result<Described, Problem> {
    call(client, format!("STREAM.CREATE.{name}"), settings).await
}

/// The newest record of a subject, from the stream's leader.
pub(super) async fn newest(client: &Client, stream: &str, subject: &str) -> Result<Option<Stored>, Problem> {
    get(client, stream, &json!({ "last_by_subj": subject })).await
}

/// The record at a place, from the stream's leader.
pub(super) async fn at(client: &Client, stream: &str, seq: u64) -> Result<Option<Stored>, Problem> {
    get(client, stream, &json!({ "seq": seq })).await
}

/// The first record of a subject at place `from` or after it, from the stream's leader.
pub(super) async fn next(client: &Client, stream: &str, subject: &str, from: u64) -> Result<Option<Stored>, Problem> {
    get(client, stream, &json!({ "seq": from.max(1), "next_by_subj": subject })).await
}

async fn get(client: &Client, stream: &str, question: &Value) -> Result<Option<Stored>, Problem> {
    match call::<Found>(client, format!("STREAM.MSG.GET.{stream}"), question).await {
        Ok(found) => Ok(Some(found.message)),
        Err(Problem::Refused { code: NO_MESSAGE, .. }) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Some records, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    /// How many are left after them.
    pub(super) left: u64,
    /// The newest place that whoever answered knew of, if it was said.
    up_to: Option<u64>,
}

/// Records of a subject from place `from` on, at most `limit`: from whichever server keeps the stream, which may be
/// behind.
pub(super) async fn records(
    client: &Client,
    stream: &str,
    subject: &str,
    from: u64,
    limit: usize,
) -> Result<Batch, Problem> {
    let question = json!({ "seq": from.max(1), "next_by_subj": subject, "batch": limit, "max_bytes": BATCH_BYTES });
    direct(client, stream, &question).await
}

/// The newest records of subjects.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// The place of each.
    pub(super) places: HashMap<String, u64>,
    /// The newest place in the stream that whoever answered knew of; none if none of the subjects has a record at all.
    pub(super) up_to: Option<u64>,
}

/// Of those subjects that have a record at `from` or later, which is the newest: from whichever server keeps the stream,
/// which may be behind. At most [`MAX_SUBJECTS`] at once.
pub(super) async fn heads(client: &Client, stream: &str, subjects: &[String], from: u64) -> Result<Heads, Problem> {
    let (mut heads, mut from) = (Heads::default(), from.max(1));
    loop {
        let question = json!({ "multi_last": subjects, "seq": from, "max_bytes": BATCH_BYTES });
        let batch = direct(client, stream, &question).await?;
        heads.up_to = heads.up_to.or(batch.up_to).min(batch.up_to);
        for message in &batch.messages {
            let (Some(subject), Some(seq)) = (header(message, "Nats-Subject"), number(message, "Nats-Sequence")) else {
                continue;
            };
            heads.places.insert(subject.to_owned(), seq);
            from = from.max(seq + 1);
        }
        if batch.left == 0 || batch.messages.is_empty() {
            return Ok(heads);
        }
    }
}

/// The newest record of each of those subjects, which may have wildcards, of a stream that has few: from whichever server
/// keeps it, which may be behind.
pub(super) async fn latest(client: &Client, stream: &str, subjects: &[String]) -> Result<Vec<Message>, Problem> {
    let question = json!({ "multi_last": subjects, "max_bytes": BATCH_BYTES });
    Ok(direct(client, stream, &question).await?.messages)
}

/// Sets a key of a bucket, if `expected` is the place of its newest record; 0: if it has none.
pub(super) async fn put(client: &Client, key: String, content: Bytes, expected: Option<u64>) -> Result<Ack, Problem> {
    let mut headers = HeaderMap::new();
    if let Some(expected) = expected {
        headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
    }
    answer(&ask(client, key, Some(headers), content, Instant::now() + ANSWER_TIMEOUT).await?)
}

/// Takes a record out of a stream that allows it. One that is not there any more is as good.
pub(super) async fn delete(client: &Client, stream: &str, seq: u64) -> Result<(), Problem> {
    let question = json!({ "seq": seq, "no_erase": true });
    match call::<Value>(client, format!("STREAM.MSG.DELETE.{stream}"), &question).await {
        Err(Problem::Refused { code, .. }) if NOT_THERE.contains(&code) => Ok(()),
        other => other.map(drop),
    }
}

/// A header of a message.
pub(super) fn header<'m>(message: &'m Message, name: &'static str) -> Option<&'m str> {
    message.headers.as_ref()?.get(name).map(HeaderValue::as_str)
}

/// A number in a header of a message.
pub(super) fn number(message: &Message, name: &'static str) -> Option<u64> {
    header(message, name)?.parse().ok()
}

/// A question that is answered by several messages and one without content that says that it was the last.
async fn direct(client: &Client, stream: &str, question: &Value) -> Result<Batch, Problem> {
    let deadline = Instant::now() + BATCH_TIMEOUT;
    let unreachable = |error: &dyn std::error::Error| Problem::Unreachable(error.to_string());
    let talk = async {
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| unreachable(&error))?;
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let content = question.to_string().into();
        client.publish_with_reply(subject, inbox, content).await.map_err(|error| unreachable(&error))?;
        let mut batch = Batch::default();
        while let Some(message) = answers.next().await {
            match message.status.map(|status| status.as_u16()) {
                None | Some(200) => batch.messages.push(message),
                Some(204) => {
                    batch.left = number(&message, "Nats-Num-Pending").unwrap_or(0);
                    batch.up_to = number(&message, "Nats-UpTo-Sequence");
                    return Ok(batch);
                }
                Some(404) => return Ok(batch),
                Some(503) => return Err(Problem::Nobody),
                Some(code) => {
                    let text = message.description.unwrap_or_default();
                    return Err(Problem::Refused { code: code.into(), text });
                }
            }
        }
        Err(Problem::Strange)
    };
    timeout_at(deadline, talk).await.unwrap_or(Err(Problem::Late))
}

//! Those who are to notice nothing: stock tonic clients on transports of their own, from another address.

use std::{net::SocketAddr, time::Duration};

use bowline::proto::v1::{
    Heartbeat, Hello, StreamDataRequest, StreamDataResponse, stream_data_request::Frame as Sent,
    stream_data_response::Frame, stream_service_client::StreamServiceClient,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

/// Between two pings.
const EVERY: Duration = Duration::from_millis(20);
/// Nobody would wait longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that says hello, and then plays ping-pong.
pub struct Client {
    requests: mpsc::Sender<StreamDataRequest>,
    responses: Streaming<StreamDataResponse>,
    nonce: u64,
}

impl Client {
    pub async fn connect(to: SocketAddr, name: &str) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(format!("http://{to}")).map_err(|error| error.to_string())?;
        let channel = endpoint.connect_timeout(PATIENCE).connect().await.map_err(|error| error.to_string())?;
        let (requests, sent) = mpsc::channel(4);
        let hello = Sent::Hello(Hello { client_id: name.to_owned(), ..Hello::default() });
        let first = StreamDataRequest { request_id: 0, frame: Some(hello) };
        requests.send(first).await.map_err(|error| error.to_string())?;
        let call = StreamServiceClient::new(channel).stream_data(ReceiverStream::new(sent)).await;
        let mut client =
            Self { requests, responses: call.map_err(|status| status.to_string())?.into_inner(), nonce: 0 };
        while !matches!(client.frame().await?, Frame::Welcome(_)) {}
        Ok(client)
    }

    async fn frame(&mut self) -> Result<Frame, String> {
        loop {
            let response = timeout(PATIENCE, self.responses.message()).await.map_err(|_| "no answer".to_owned())?;
            let response = response.map_err(|status| status.to_string())?.ok_or("the stream has ended")?;
            if let Some(frame) = response.frame {
                return Ok(frame);
            }
        }
    }

    /// Asks for an answer; how long it took.
    pub async fn ping(&mut self) -> Result<Duration, String> {
        self.nonce += 1;
        let begun = Instant::now();
        self.beat(self.nonce, true).await?;
        loop {
            match self.frame().await? {
                Frame::Heartbeat(beat) if beat.reply_requested => self.beat(beat.nonce, false).await?,
                Frame::Heartbeat(beat) if beat.nonce == self.nonce => return Ok(begun.elapsed()),
                _ => {}
            }
        }
    }

    async fn beat(&self, nonce: u64, reply_requested: bool) -> Result<(), String> {
        let frame = Some(Sent::Heartbeat(Heartbeat { nonce, reply_requested, ..Heartbeat::default() }));
        self.requests.send(StreamDataRequest { request_id: 0, frame }).await.map_err(|error| error.to_string())
    }
}

/// What one client saw while others attacked.
#[derive(Debug)]
pub struct Report {
    /// How long each answer took, sorted.
    pub waits: Vec<Duration>,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
}

impl Report {
    /// The wait below which 95 of 100 lie.
    pub fn p95(&self) -> Duration {
        self.waits.len().checked_sub(1).map_or(Duration::ZERO, |last| self.waits[last * 95 / 100])
    }

    /// Nothing went wrong, and no answer took long.
    pub fn unharmed(&self) -> bool {
        self.failure.is_none() && !self.waits.is_empty() && self.p95() < Duration::from_secs(1)
    }
}

/// Ping-pong in the background.
pub struct Witness {
    game: JoinSet<Report>,
    over: watch::Sender<bool>,
}

impl Witness {
    pub async fn start(to: SocketAddr) -> Self {
        let client = Client::connect(to, "witness").await.expect("an honest client gets in");
        let (over, told) = watch::channel(false);
        let mut game = JoinSet::new();
        game.spawn(play(client, told));
        Self { game, over }
    }

    /// Ends the game; what came of it.
    pub async fn report(mut self) -> Report {
        self.over.send_replace(true);
        self.game.join_next().await.expect("one game").expect("no panic")
    }
}

async fn play(mut client: Client, over: watch::Receiver<bool>) -> Report {
    let mut report = Report { waits: Vec::new(), failure: None };
    while !*over.borrow() {
        match client.ping().await {
            Ok(wait) => report.waits.push(wait),
            Err(failure) => {
                report.failure = Some(failure);
                break;
            }
        }
        sleep(EVERY).await;
    }
    report.waits.sort_unstable();
    report
}

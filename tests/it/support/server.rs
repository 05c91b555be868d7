//! A server in this process, as `bowline serve` builds it, with a configuration of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bowline::{
    app::App,
    config::{self, Flag, Sources},
    proto::v1::{
        NewEvent, PublishBatchRequest, PublishResponse, connection_service_client::ConnectionServiceClient,
        topic_service_client::TopicServiceClient,
    },
    telemetry::metrics::Metrics,
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, transport::Channel};

use super::{LIMIT, TestClient, eventually, hello, wire::Wire};

/// Keys and values, as `--set` takes them.
pub(crate) type Settings<'a> = &'a [(&'a str, &'a str)];

fn sources(settings: Settings<'_>) -> Sources {
    let own = [
        ("transport.listen", "127.0.0.1:0"),
        // Whoever calls it comes from loopback.
        ("transport.max_transports_per_address", "0"),
        ("admin.listen", "127.0.0.1:0"),
        ("drain.grace", "2s"),
    ];
    let flag = |(key, value): &(&str, &str)| Flag {
        name: format!("--set {key}"),
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    Sources { flags: own.iter().chain(settings).map(flag).collect(), ..Sources::default() }
}

/// A server that ends with [`leave`](Self::leave).
pub(crate) struct TestServer {
    app: App,
    metrics: Arc<Metrics>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Settings go over the defaults and over ports of their own.
    pub(crate) async fn with(settings: Settings<'_>) -> Self {
        let loaded = config::load(&sources(settings)).unwrap();
        let metrics = Arc::new(Metrics::new());
        let app = App::start(&loaded, metrics.clone()).await.unwrap();
        let (address, admin) = (app.address(), app.admin_address().expect("an admin port"));
        Self { app, metrics, address, admin }
    }

    /// Why a server with these settings does not start.
    pub(crate) async fn refused_start(settings: Settings<'_>) -> String {
        match config::load(&sources(settings)) {
            Ok(loaded) => match App::start(&loaded, Arc::new(Metrics::new())).await {
                Ok(_) => panic!("it starts"),
                Err(error) => format!("{error:#}"),
            },
            Err(problems) => problems.to_string(),
        }
    }

    /// A transport of its own.
    pub(crate) async fn channel(&self) -> Channel {
        Wire::dial(self.address).await.0
    }

    /// A call that has not said anything, on a transport of its own.
    pub(crate) async fn call(&self) -> TestClient {
        self.try_call(&[]).await.unwrap()
    }

    /// A call with these metadata, on a transport of its own, if it is not refused.
    pub(crate) async fn try_call(&self, metadata: Settings<'_>) -> Result<TestClient, Status> {
        TestClient::call(self.address, metadata).await
    }

    /// A client that has been welcomed.
    pub(crate) async fn connect(&self, client_id: &str) -> TestClient {
        let mut client = self.call().await;
        client.send(hello(client_id)).await;
        client.welcomed().await;
        client
    }

    pub(crate) async fn topics(&self) -> TopicServiceClient<Channel> {
        TopicServiceClient::new(self.channel().await).max_encoding_message_size(16 << 20)
    }

    pub(crate) async fn operator(&self) -> ConnectionServiceClient<Channel> {
        ConnectionServiceClient::new(self.channel().await)
    }

    /// Stores events of these payloads, in order, past any session.
    pub(crate) async fn store(&self, topic: &str, payloads: &[impl AsRef<[u8]>]) -> Vec<PublishResponse> {
        self.publish(topic, payloads.iter().map(super::event).collect()).await
    }

    /// Stores events in order, past any session.
    pub(crate) async fn publish(&self, topic: &str, events: Vec<NewEvent>) -> Vec<PublishResponse> {
        let mut topics = self.topics().await;
        let mut stored = Vec::new();
        for batch in events.chunks(1000) {
            let events = batch.to_vec();
            let answer = topics.publish_batch(PublishBatchRequest { topic: topic.to_owned(), events }).await.unwrap();
            assert_eq!(answer.get_ref().failure, None);
            stored.extend(answer.into_inner().stored);
        }
        stored
    }

    /// Entries in the registry.
    pub(crate) fn connections(&self) -> usize {
        self.app.connection_count()
    }

    /// Sessions open.
    pub(crate) fn sessions(&self) -> i64 {
        self.metrics.sessions_active.get()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A sample of the metrics by its line's beginning, labels included; 0 if there is none.
    pub(crate) fn sample(&self, name: &str) -> f64 {
        let text = self.metrics.encode_text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Nothing of any client is left: entries, gauges, sessions.
    pub(crate) async fn emptied(&self) {
        eventually("nothing of a client is left", || {
            let gauges = (self.metrics.connections_active.get(), self.metrics.sessions_active.get());
            self.connections() == 0 && gauges == (0, 0)
        })
        .await;
    }

    /// Leaves without waiting for anybody.
    pub(crate) async fn leave(self) {
        timeout(LIMIT, self.app.leave(std::future::ready(()))).await.expect("leaving takes too long");
    }

    /// Leaves as told by SIGTERM; how long it took.
    pub(crate) async fn leave_politely(self) -> Duration {
        let begun = Instant::now();
        timeout(LIMIT, self.app.leave(std::future::pending())).await.expect("leaving takes too long");
        begun.elapsed()
    }
}

/// Shorter to say in tests than a status.
impl TestServer {
    /// A call that must be refused; its status.
    pub(crate) async fn refused_call(&self, metadata: Settings<'_>) -> Status {
        match self.try_call(metadata).await {
            Ok(_) => panic!("the call was not refused"),
            Err(status) => {
                assert_ne!(status.code(), Code::Ok);
                status
            }
        }
    }
}

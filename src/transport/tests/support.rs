//! A service that does as its path says, a server around it, and a bare HTTP/2 client.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use h2::client::SendRequest;
use http::HeaderMap;
use http_body::Frame;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
};

use super::super::*;
use crate::{
    lifecycle::Lifecycle,
    types::{KillSwitch, TransportHandle},
};

/// Longer than anything here takes; reaching it is a failure.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// What the test holds of a call that was opened with `/open`.
pub(super) struct Call {
    pub(super) switch: KillSwitch,
    pub(super) transport: TransportHandle,
    /// The response's body, until dropped.
    pub(super) body: mpsc::Sender<Bytes>,
}

#[derive(Debug)]
pub(super) enum TestBody {
    Channel(mpsc::Receiver<Bytes>),
    Echo(Incoming),
    Panic,
    Empty,
}

impl http_body::Body for TestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Channel(chunks) => chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk)))),
            Self::Echo(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Panic => panic!("the body panics"),
            Self::Empty => Poll::Ready(None),
        }
    }
}

async fn respond(request: Request<Incoming>, calls: mpsc::Sender<Call>) -> Result<Response<TestBody>, Infallible> {
    Ok(Response::new(match request.uri().path() {
        "/open" => {
            let (body, chunks) = mpsc::channel(4);
            let switch = request.extensions().get::<KillSwitch>().unwrap().clone();
            let transport = request.extensions().get::<TransportHandle>().unwrap().clone();
            calls.send(Call { switch, transport, body }).await.unwrap();
            TestBody::Channel(chunks)
        }
        "/echo" => TestBody::Echo(request.into_body()),
        "/never" => std::future::pending().await,
        "/panic" => panic!("the handler panics"),
        "/panic/body" => TestBody::Panic,
        _ => TestBody::Empty,
    }))
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) metrics: Arc<Metrics>,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) stop: CancellationToken,
    pub(super) lifecycle: Lifecycle,
    pub(super) served: JoinHandle<()>,
}

impl Server {
    pub(super) fn start(config: Config) -> Self {
        let config = Config { listen: ([127, 0, 0, 1], 0).into(), ..config };
        let listener = Listener::bind(&config).unwrap();
        let address = listener.local_addr();
        let (sender, calls) = mpsc::channel(16);
        let lifecycle = Lifecycle::default();
        let stop = CancellationToken::new();
        let metrics = Arc::new(Metrics::new());
        let service = tower::service_fn(move |request| respond(request, sender.clone()));
        let shutdown = Shutdown { begin: stop.clone(), grace: Duration::from_millis(300) };
        let (tasks, counted) = (lifecycle.tasks().clone(), metrics.clone());
        let served = lifecycle
            .tasks()
            .spawn("serve", async move { serve(listener, service, &config, &tasks, counted, shutdown).await });
        Self { address, metrics, calls, stop, lifecycle, served }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A client whose window is `window` bytes per stream, and its connection's end.
    pub(super) async fn client(&self, window: u32) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
        let socket = self.connect().await;
        self.speak(socket, window).await
    }

    pub(super) async fn speak<T>(&self, io: T, window: u32) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>)
    where
        T: tokio::io::AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client, connection) = h2::client::Builder::new()
            .initial_connection_window_size(1 << 24)
            .initial_window_size(window)
            .handshake(io)
            .await
            .unwrap();
        (client, self.lifecycle.tasks().spawn("client", connection))
    }

    /// Closes the next socket at once, which counts as this end.
    pub(super) async fn turns_away(&self, end: &str) {
        let mut refused = self.connect().await;
        let read = timeout(LIMIT, refused.read(&mut [0; 1])).await.expect("closed at once");
        assert!(matches!(read, Ok(0) | Err(_)));
        self.ended(end).await;
    }

    /// Serves another client once this one has gone.
    pub(super) async fn has_room_after(
        &self,
        client: SendRequest<Bytes>,
        connection: JoinHandle<Result<(), h2::Error>>,
    ) {
        drop(client);
        connection.await.unwrap().unwrap();
        self.ended("closed").await;
        let (client, _connection) = self.client(1000).await;
        assert_eq!(get(&client, "/").await.unwrap().status(), 200);
    }

    /// Waits until a transport has ended this way.
    pub(super) async fn ended(&self, end: &str) {
        let line = format!("bowline_transports_closed_total{{cause=\"{end}\"}} 1");
        let reached = async {
            while !self.metrics.encode_text().contains(&line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = timeout(LIMIT, reached).await;
        assert!(seen.is_ok(), "no transport ended as {end}:\n{}", self.metrics.encode_text());
    }
}

pub(super) async fn get(client: &SendRequest<Bytes>, path: &str) -> Result<Response<h2::RecvStream>, h2::Error> {
    let mut client = client.clone().ready().await?;
    let request = Request::get(format!("http://test{path}")).body(()).unwrap();
    timeout(LIMIT, client.send_request(request, true)?.0).await.expect("an answer in time")
}

/// All of a body and its trailers.
pub(super) async fn read(body: &mut h2::RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(chunk) = timeout(LIMIT, body.data()).await.expect("data in time") {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        all.extend_from_slice(&chunk);
    }
    Ok((all, body.trailers().await?))
}

//! Clients that speak the protocol by hand: what the library hides, they do.

mod hear;
mod seat;

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use self::seat::Seat;
use super::{history::Writer, world::World};
use crate::checker::history::Op;
use crate::proto::v1::{
    Heartbeat, Hello, StreamDataRequest, StreamDataResponse, stream_data_request::Frame,
    stream_service_client::StreamServiceClient,
};

/// Requests that may wait to be sent.
const QUEUE: usize = 512;
/// How long a connection may take to be made, and how long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// One client, until the run is over.
pub(super) async fn run(world: World, name: Arc<str>, rival: Option<u32>, mut rng: Rng) {
    sleep(Duration::from_millis(rng.u64(..1000))).await;
    let count = if rival.is_some() { 1 } else { rng.usize(1..=3) };
    let seats = (0..count).map(|number| Seat::new(&world, &name, number, rival.is_some(), &mut rng)).collect();
    let program = rival.map_or_else(|| name.clone(), |number| format!("{name}-{number}").into());
    let writer = Writer { program, ..world.history.writer(&name) };
    let mut client = Frames { world, name, writer, rng, seats, request: 0, alias: 0, sender: None, stood: false };
    while Instant::now() < client.world.read_until {
        let why = match client.connect().await {
            Ok(incoming) => client.converse(incoming).await,
            Err(why) => why,
        };
        client.disconnected(why);
        let pause = Duration::from_millis(client.rng.u64(10..400));
        sleep(pause).await;
    }
    client.stand(false);
}

struct Frames {
    world: World,
    name: Arc<str>,
    writer: Writer,
    rng: Rng,
    seats: Vec<Seat>,
    request: u64,
    alias: u32,
    sender: Option<mpsc::Sender<StreamDataRequest>>,
    /// Where it stands in the end is recorded.
    stood: bool,
}

/// Why a connection is over.
type Over = String;

impl Frames {
    fn record(&self, op: Op) {
        self.writer.record(op);
    }

    fn is_calm(&self) -> bool {
        Instant::now() >= self.world.publish_until
    }

    /// Makes a connection and opens everything in the same breath.
    async fn connect(&mut self) -> Result<Streaming<StreamDataResponse>, Over> {
        // Drawn, so that it is unique in the run.
        self.writer.connection = self.rng.u64(1..);
        let channel = self.world.network.channel(&self.name, PATIENCE).await?;
        let (sender, frames) = mpsc::channel(QUEUE);
        self.sender = Some(sender);
        let hello = Hello { version_max: 1, client_id: self.name.to_string(), ..Hello::default() };
        self.send(0, Frame::Hello(hello))?;
        for index in 0..self.seats.len() {
            self.open(index)?;
        }
        let mut service = StreamServiceClient::new(channel);
        let call = timeout(PATIENCE, service.stream_data(ReceiverStream::new(frames))).await;
        let response = call.map_err(|_| "no answer to the call")?.map_err(|status| status.to_string())?;
        Ok(response.into_inner())
    }

    async fn converse(&mut self, mut incoming: Streaming<StreamDataResponse>) -> Over {
        let mut heard = Instant::now();
        loop {
            let pause = Duration::from_millis(if self.is_calm() { 1500 } else { self.rng.u64(5..250) });
            let frame = timeout_at((Instant::now() + pause).min(self.world.read_until), incoming.message()).await;
            let step = match frame {
                Ok(Ok(Some(frame))) => {
                    heard = Instant::now();
                    self.hear(frame)
                }
                Ok(Ok(None)) => Err("ended well".to_owned()),
                Ok(Err(status)) => Err(said(&status)),
                Err(_) if Instant::now() >= self.world.read_until => return self.leave(incoming).await,
                Err(_) if heard.elapsed() > PATIENCE => Err("the server is silent".to_owned()),
                Err(_) => match self.act().await {
                    Ok(ControlFlow::Continue(())) => Ok(()),
                    Ok(ControlFlow::Break(())) => return self.leave(incoming).await,
                    Err(over) => Err(over),
                },
            };
            if let Err(over) = step {
                return over;
            }
        }
    }

    /// Half-closes and reads what is still due.
    async fn leave(&mut self, mut incoming: Streaming<StreamDataResponse>) -> Over {
        if Instant::now() >= self.world.read_until {
            self.stand(true);
        }
        self.sender = None;
        loop {
            match timeout(PATIENCE, incoming.message()).await {
                Ok(Ok(Some(frame))) => {
                    if let Err(over) = self.hear(frame) {
                        return over;
                    }
                }
                Ok(Ok(None)) => return "left".to_owned(),
                Ok(Err(status)) => return said(&status),
                Err(_) => return "left, and the server did not".to_owned(),
            }
        }
    }

    fn send(&self, request_id: u64, frame: Frame) -> Result<(), Over> {
        let Some(sender) = &self.sender else { return Ok(()) };
        let request = StreamDataRequest { request_id, frame: Some(frame) };
        sender.try_send(request).map_err(|_| "the server does not read".to_owned())
    }

    fn request(&mut self) -> u64 {
        self.request += 1;
        self.request
    }

    /// Does something, or nothing.
    async fn act(&mut self) -> Result<ControlFlow<()>, Over> {
        let index = self.rng.usize(..self.seats.len());
        if self.is_calm() {
            self.send(0, Frame::Heartbeat(Heartbeat::default()))?;
            for index in 0..self.seats.len() {
                self.relax(index)?;
            }
            return Ok(ControlFlow::Continue(()));
        }
        match self.rng.u8(..64) {
            0..24 => self.publish(index)?,
            24..36 => self.grant(index)?,
            36..42 => self.pause(index)?,
            42..48 => self.ack(index)?,
            48..50 => self.close(index)?,
            50..54 => self.reopen(index)?,
            54 => return Ok(ControlFlow::Break(())),
            55 => return Err("dropped it".to_owned()),
            // Neither reads nor answers for a while.
            56 => sleep(Duration::from_millis(self.rng.u64(500..7000))).await,
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn disconnected(&mut self, why: Over) {
        self.sender = None;
        self.record(Op::Disconnected { why });
        for seat in &mut self.seats {
            seat.detached();
        }
    }
}

fn said(status: &Status) -> Over {
    format!("{:?}: {}", status.code(), status.message())
}

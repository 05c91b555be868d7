//! A relay that passes on everything between clients and the server, and notes what is said about pings: what a client does
//! on its own account is nowhere to be seen but on the wire.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::frames::{ENHANCE_YOUR_CALM, Frame, PREFACE, flag, kind};

/// What was said on one transport.
#[derive(Debug, Clone, Default)]
pub struct Talk {
    /// When the client sent each PING that was no answer.
    pub pings: Vec<Instant>,
    /// DATA frames of the client, and of the server.
    pub data: (u64, u64),
    /// WINDOW_UPDATEs of the client.
    pub updates: u64,
    /// How the server called for calm, if it did.
    pub called_for_calm: Option<String>,
}

impl Talk {
    /// The mean time between two PINGs.
    pub fn interval(&self) -> Duration {
        let (Some(first), Some(last)) = (self.pings.first(), self.pings.last()) else { return Duration::ZERO };
        let gaps = u32::try_from(self.pings.len() - 1).expect("not so many");
        (*last - *first).checked_div(gaps).unwrap_or_default()
    }
}

/// See the module. It listens for as long as the test's process lives.
pub struct Relay {
    pub address: SocketAddr,
    talks: Arc<Mutex<Vec<Talk>>>,
}

impl Relay {
    /// In front of a server.
    pub fn before(server: SocketAddr) -> Self {
        Self::with_pauses(server, Duration::ZERO)
    }

    /// In front of a server that hears its client so long after it spoke, and then much at once: as a busy one does.
    pub fn with_pauses(server: SocketAddr, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, talks) = (listener.local_addr().expect("an address"), Arc::<Mutex<Vec<Talk>>>::default());
        let noted = talks.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                carry(client, server, pause, &noted);
            }
        });
        Self { address, talks }
    }

    /// What was said, a transport each, in their order.
    pub fn talks(&self) -> Vec<Talk> {
        self.talks.lock().clone()
    }
}

fn carry(client: TcpStream, server: SocketAddr, pause: Duration, talks: &Arc<Mutex<Vec<Talk>>>) {
    // A server that is gone is the end of the test, which says so itself.
    let Ok(server) = TcpStream::connect(server) else { return };
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a socket");
    }
    let number = {
        let mut talks = talks.lock();
        talks.push(Talk::default());
        talks.len() - 1
    };
    let again = |socket: &TcpStream| socket.try_clone().expect("a descriptor");
    let (to_server, to_client) = (again(&server), again(&client));
    let (of_client, of_server) = (talks.clone(), talks.clone());
    thread::spawn(move || {
        pass(client, to_server, PREFACE.len(), pause, |frame| {
            let talk = &mut of_client.lock()[number];
            match frame.kind {
                kind::PING if !frame.is(kind::PING, flag::ACK) => talk.pings.push(Instant::now()),
                kind::DATA => talk.data.0 += 1,
                kind::WINDOW_UPDATE => talk.updates += 1,
                _ => {}
            }
        });
    });
    thread::spawn(move || {
        pass(server, to_client, 0, Duration::ZERO, |frame| {
            let talk = &mut of_server.lock()[number];
            match frame.kind {
                kind::DATA => talk.data.1 += 1,
                kind::GOAWAY if frame.number(4) == ENHANCE_YOUR_CALM => {
                    let why = frame.payload.get(8..).unwrap_or_default();
                    talk.called_for_calm = Some(String::from_utf8_lossy(why).into_owned());
                }
                _ => {}
            }
        });
    });
}

/// Passes on one direction to its end, each piece after a pause, and shows each frame in it.
#[allow(clippy::disallowed_methods, reason = "a thread of its own, which no runtime uses")]
fn pass(mut from: TcpStream, mut to: TcpStream, mut preface: usize, pause: Duration, mut show: impl FnMut(&Frame)) {
    let (mut buffer, mut unread) = (vec![0; 64 << 10], BytesMut::new());
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        thread::sleep(pause);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        unread.extend_from_slice(&buffer[..length]);
        let skipped = preface.min(unread.len());
        unread.advance(skipped);
        preface -= skipped;
        if preface == 0 {
            while let Some(frame) = Frame::take(&mut unread) {
                show(&frame);
            }
        }
    }
    // Whoever has hung up already need not be told.
    to.shutdown(Shutdown::Write).ok();
}

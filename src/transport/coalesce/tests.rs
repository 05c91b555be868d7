use std::{collections::VecDeque, future::poll_fn};

use futures_util::task::noop_waker_ref;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// What the fake socket does when it is written to: take so many bytes, or not be ready.
#[derive(Debug, Clone)]
enum Turn {
    Take(usize),
    Full,
}

#[derive(Default)]
struct Fake {
    turns: VecDeque<Turn>,
    taken: Vec<u8>,
    closed: bool,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Fake>>);

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut fake = self.0.lock();
        assert!(!fake.closed, "written to after it was closed");
        let taken = match fake.turns.pop_front() {
            Some(Turn::Take(most)) => most.min(bytes.len()),
            Some(Turn::Full) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => bytes.len(),
        };
        fake.taken.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().closed = true;
        Poll::Ready(Ok(()))
    }
}

fn guard() -> Guard {
    Guard::new(Arc::default(), Debts::default(), Instant::now())
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![3 => (1_usize..40_000).prop_map(Turn::Take), 1 => Just(Turn::Full)]
}

/// One write of HTTP/2: the sizes of its slices, and whether its turn ends after it.
fn write() -> impl Strategy<Value = (Vec<usize>, bool)> {
    (prop::collection::vec(0_usize..30_000, 1..4), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_writes_arrive_unchanged_in_order_and_completely(
        writes in prop::collection::vec(write(), 1..24),
        turns in prop::collection::vec(turn(), 0..60),
    ) {
        let socket = Shared::default();
        socket.0.lock().turns = turns.into();
        let mut wire = Wire::new(Box::new(socket.clone()), guard());
        let cx = &mut Context::from_waker(noop_waker_ref());
        let mut expected = Vec::new();
        for (sizes, ends) in writes {
            let next = |at: usize| u8::try_from(at % 251).unwrap();
            let bytes: Vec<u8> = (0..sizes.iter().sum()).map(|i| next(expected.len() + i)).collect();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(sizes[0].min(rest.len()));
                match Pin::new(&mut wire).poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(tail)]) {
                    Poll::Ready(taken) => rest = &rest[taken.unwrap()..],
                    Poll::Pending => { wire.poll_drain(cx).unwrap(); }
                }
                prop_assert!(wire.0.lock().collected.len() <= BOUND);
            }
            expected.extend(bytes);
            if ends {
                wire.poll_drain(cx).unwrap();
            }
        }
        while Pin::new(&mut wire).poll_shutdown(cx).is_pending() {}
        prop_assert_eq!(&socket.0.lock().taken, &expected);
        prop_assert!(socket.0.lock().closed);
    }
}

#[test]
fn writes_wait_for_the_end_of_the_turn() {
    let socket = Shared::default();
    let mut wire = Wire::new(Box::new(socket.clone()), guard());
    let cx = &mut Context::from_waker(noop_waker_ref());
    for _ in 0..3 {
        assert!(Pin::new(&mut wire).poll_write(cx, b"frame").is_ready());
        assert!(Pin::new(&mut wire).poll_flush(cx).is_ready());
    }
    assert_eq!(socket.0.lock().taken.len(), 0);
    assert!(!wire.poll_drain(cx).unwrap());
    assert_eq!(socket.0.lock().taken.len(), 15);
    assert_eq!(wire.0.lock().collected.capacity(), 0, "an idle transport keeps no buffer");
}

#[test]
fn whoever_was_refused_gets_another_turn_when_there_is_room() {
    let socket = Shared::default();
    socket.0.lock().turns = [Turn::Full, Turn::Full, Turn::Take(10)].into();
    let mut wire = Wire::new(Box::new(socket), guard());
    let cx = &mut Context::from_waker(noop_waker_ref());
    let frame = vec![0; BOUND];
    assert!(Pin::new(&mut wire).poll_write(cx, &frame).is_ready());
    assert!(Pin::new(&mut wire).poll_write(cx, &frame).is_pending());
    assert!(!wire.poll_drain(cx).unwrap(), "still full: the socket's readiness wakes the task");
    assert!(Pin::new(&mut wire).poll_write(cx, b"more").is_ready(), "ten bytes went out");
}

#[tokio::test]
async fn a_socket_that_was_full_wakes_the_task_that_drains() {
    let (ours, mut theirs) = tokio::io::duplex(1000);
    let mut wire = Wire::new(Box::new(ours), guard());
    wire.write_all(&vec![1; 5000]).await.unwrap();
    let mut drained = false;
    let drain = poll_fn(|cx| {
        wire.poll_drain(cx).unwrap();
        drained = wire.0.lock().collected.is_empty();
        if drained { Poll::Ready(()) } else { Poll::Pending }
    });
    let mut got = vec![0; 5000];
    let ((), read) = tokio::join!(drain, theirs.read_exact(&mut got));
    assert_eq!(read.unwrap(), 5000);
}

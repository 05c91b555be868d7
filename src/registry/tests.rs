use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{vitals::millis, *};
use crate::error::Reason;

fn registry(config: Config) -> Arc<Registry> {
    Arc::new(Registry::new(config, Arc::new(Metrics::default())))
}

fn addr() -> SocketAddr {
    ([127, 0, 0, 1], 4000).into()
}

fn client(name: &str) -> ClientId {
    ClientId::parse(name).unwrap()
}

#[derive(Default)]
struct Recorder {
    heartbeats: AtomicUsize,
    probes: AtomicUsize,
    deaf: AtomicBool,
    closed: Mutex<Option<Reason>>,
}

impl Peer for Recorder {
    fn heartbeat(&self, reply_requested: bool) -> bool {
        let counter = if reply_requested { &self.probes } else { &self.heartbeats };
        counter.fetch_add(1, Ordering::SeqCst);
        !self.deaf.load(Ordering::SeqCst)
    }

    fn drain(&self, _notice: DrainNotice) {}

    fn close(&self, failure: Failure) {
        self.closed.lock().get_or_insert(failure.reason);
    }

    fn sessions(&self) -> Vec<SessionStatus> {
        Vec::new()
    }

    fn backlog(&self) -> Backlog {
        Backlog::default()
    }
}

/// A connection whose peer records what it is asked.
fn connected(registry: &Arc<Registry>) -> (Admission, Arc<Recorder>) {
    let admission = registry.admit(addr()).unwrap();
    let recorder = Arc::new(Recorder::default());
    let peer: Arc<dyn Peer> = recorder.clone();
    admission.bind(Arc::downgrade(&peer));
    admission.identify(client("c"), "").unwrap();
    (admission, recorder)
}

/// Runs the sweep for so many seconds of paused time.
async fn sweep_for(registry: &Arc<Registry>, seconds: u64) {
    let timed = tokio::time::timeout(Duration::from_secs(seconds), registry.clone().sweep()).await;
    assert!(timed.is_err(), "the sweep never ends by itself");
}

#[test]
fn the_limit_holds_under_a_race_and_a_place_is_free_again_at_once() {
    let registry = registry(Config { max_connections: 50, ..Config::default() });
    let admitted: usize = std::thread::scope(|scope| {
        let try_all = || (0..100).filter_map(|_| registry.admit(addr()).ok()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(try_all)).collect();
        let admissions: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let refused = registry.admit(addr()).unwrap_err();
        assert_eq!(refused.reason, Reason::MaxConnections);
        assert_eq!(refused.message, "maximum connections reached");
        assert!(refused.retry_after.is_some());
        admissions.len()
    });
    assert_eq!((admitted, registry.len()), (50, 0));
    assert!(registry.admit(addr()).is_ok());
}

#[test]
fn a_second_connection_of_a_client_never_removes_the_first() {
    let registry = registry(Config::default());
    let (first, second) = (registry.admit(addr()).unwrap(), registry.admit(addr()).unwrap());
    first.identify(client("alice"), "").unwrap();
    second.identify(client("alice"), "").unwrap();
    drop(second);
    let left = registry.page(Some(&client("alice")), 0, 10);
    assert_eq!(left.iter().map(|entry| entry.id()).collect::<Vec<_>>(), [first.entry().id()]);
    assert!(registry.get(first.entry().id()).is_some());
    drop(first);
    assert!(registry.page(Some(&client("alice")), 0, 10).is_empty());
}

#[test]
fn pages_are_stable_while_connections_come_and_go() {
    let registry = registry(Config::default());
    let mut admissions: Vec<_> = (0..10).map(|_| registry.admit(addr()).unwrap()).collect();
    let first = registry.page(None, 0, 4);
    admissions.drain(..3);
    let second = registry.page(None, first.last().unwrap().number(), 100);
    assert_eq!((first.len(), second.len()), (4, 6));
}

#[test]
fn a_draining_registry_admits_nobody() {
    let registry = registry(Config::default());
    let admissions = [registry.admit(addr()).unwrap(), registry.admit(addr()).unwrap()];
    assert_eq!(registry.metrics.drain_remaining.get(), 0);
    registry.refuse();
    let refused = registry.admit(addr()).unwrap_err();
    assert_eq!(refused.reason, Reason::Draining);
    assert!(refused.retry_after.is_some());
    for (admission, left) in admissions.into_iter().zip([1, 0]) {
        assert_eq!(registry.metrics.drain_remaining.get(), left + 1);
        drop(admission);
        assert_eq!(registry.metrics.drain_remaining.get(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_heard_from_gets_heartbeats_only() {
    let registry = registry(Config::default());
    let (admission, recorder) = connected(&registry);
    for _ in 0..20 {
        sweep_for(&registry, 5).await;
        admission.entry().vitals().received(registry.clock().millis());
    }
    let heartbeats = recorder.heartbeats.load(Ordering::SeqCst);
    assert!((4..=6).contains(&heartbeats), "{heartbeats} in 100 s");
    assert_eq!(recorder.probes.load(Ordering::SeqCst), 0);
    assert_eq!(admission.entry().vitals().state(), State::Connected);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_probed_and_then_dead() {
    let registry = registry(Config::default());
    let (admission, recorder) = connected(&registry);
    sweep_for(&registry, 29).await;
    assert_eq!(admission.entry().vitals().state(), State::Probed);
    assert!(recorder.probes.load(Ordering::SeqCst) >= 1);
    sweep_for(&registry, 10).await;
    assert_eq!(*recorder.closed.lock(), None, "the probe stands behind what goes out before it");
    admission.entry().vitals().control_sent(registry.clock().millis());
    sweep_for(&registry, 12).await;
    assert_eq!(*recorder.closed.lock(), Some(Reason::PeerTimeout));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_half_closed_owes_no_answer_but_must_take_what_is_sent() {
    let registry = registry(Config::default());
    let (admission, recorder) = connected(&registry);
    admission.entry().vitals().half_closed();
    sweep_for(&registry, 200).await;
    assert_eq!(*recorder.closed.lock(), None);
    admission.entry().vitals().sending(registry.clock().millis(), 1, 1);
    sweep_for(&registry, 18).await;
    assert_eq!(*recorder.closed.lock(), Some(Reason::SlowConnection));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_the_probe_saves_it() {
    let registry = registry(Config::default());
    let (admission, recorder) = connected(&registry);
    sweep_for(&registry, 29).await;
    admission.entry().vitals().received(registry.clock().millis());
    sweep_for(&registry, 15).await;
    assert_eq!(admission.entry().vitals().state(), State::Connected);
    assert_eq!(*recorder.closed.lock(), None);
}

#[test]
fn an_answer_that_comes_before_the_clock_moves_on_saves_it() {
    let config = Config::default();
    let (vitals, limit) = (Vitals::new(0, config.heartbeat_interval), millis(config.receive_timeout));
    vitals.examine(limit, Some(limit), &config);
    vitals.probed(limit);
    vitals.received(limit);
    vitals.examine(limit + millis(config.probe_timeout), None, &config);
    assert_eq!(vitals.state(), State::Connected);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_cannot_even_be_queued_is_enough() {
    let registry = registry(Config::default());
    let (_admission, recorder) = connected(&registry);
    recorder.deaf.store(true, Ordering::SeqCst);
    sweep_for(&registry, 30).await;
    assert_eq!(*recorder.closed.lock(), Some(Reason::PeerTimeout), "2 s after it became suspect at 25 s");
}

#[tokio::test(start_paused = true)]
async fn without_a_receive_timeout_the_health_check_finds_the_silent() {
    let config = Config { receive_timeout: Duration::ZERO, ..Config::default() };
    let registry = registry(config);
    let (admission, recorder) = connected(&registry);
    sweep_for(&registry, 110).await;
    assert_eq!(*recorder.closed.lock(), None);
    sweep_for(&registry, 50).await;
    admission.entry().vitals().control_sent(registry.clock().millis());
    sweep_for(&registry, 30).await;
    assert_eq!(*recorder.closed.lock(), Some(Reason::PeerTimeout));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_closed_as_slow() {
    let registry = registry(Config::default());
    let (admission, recorder) = connected(&registry);
    registry.clock().advance();
    admission.entry().vitals().sending(registry.clock().millis(), 1, 1);
    sweep_for(&registry, 18).await;
    assert_eq!(*recorder.closed.lock(), Some(Reason::SlowConnection));
    assert_eq!(registry.metrics.send_errors.get(), 1, "found out once, not at every look until it is gone");
}

use std::{collections::HashMap, net::SocketAddr};

use parking_lot::Mutex;

use super::*;
use crate::{
    health::Health,
    registry::{self, Admission, Backlog, DrainNotice, Peer, SessionStatus},
    telemetry::metrics::Metrics,
    types::ClientId,
};

/// A client that notes when it was told, and leaves then unless it is deaf.
struct Client {
    deaf: bool,
    /// It panics when it is told.
    broken: bool,
    told: Mutex<Option<(Instant, DrainNotice)>>,
    closed: Mutex<Option<Reason>>,
    admission: Mutex<Option<Admission>>,
}

impl Peer for Client {
    fn heartbeat(&self, _reply_requested: bool) -> bool {
        true
    }

    fn drain(&self, notice: DrainNotice) {
        assert!(!self.broken, "as the test says");
        assert!(self.told.lock().replace((Instant::now(), notice)).is_none(), "told twice");
        if !self.deaf {
            self.admission.lock().take();
        }
    }

    fn close(&self, failure: Failure) {
        self.closed.lock().get_or_insert(failure.reason);
        self.admission.lock().take();
    }

    fn sessions(&self) -> Vec<SessionStatus> {
        Vec::new()
    }

    fn backlog(&self) -> Backlog {
        Backlog::default()
    }
}

struct Bench {
    lifecycle: Lifecycle,
    registry: Arc<Registry>,
    drain: Drain,
    begun: Instant,
}

impl Bench {
    fn new(config: Config) -> Self {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Serving);
        let registry = Arc::new(Registry::new(registry::Config::default(), Arc::new(Metrics::default())));
        let drain = Drain::new(config, &lifecycle, &registry);
        Self { lifecycle, registry, drain, begun: Instant::now() }
    }

    fn admit(&self, welcomed: bool, deaf: bool) -> Arc<Client> {
        self.admit_client(welcomed, deaf, false)
    }

    fn admit_client(&self, welcomed: bool, deaf: bool, broken: bool) -> Arc<Client> {
        let address: SocketAddr = ([127, 0, 0, 1], 4000).into();
        let admission = self.registry.admit(address).unwrap();
        if welcomed {
            admission.identify(ClientId::parse("c").unwrap(), "").unwrap();
        }
        let (told, closed, admission_kept) = (Mutex::default(), Mutex::default(), Mutex::default());
        let client = Arc::new(Client { deaf, broken, told, closed, admission: admission_kept });
        let peer: Arc<dyn Peer> = client.clone();
        admission.bind(Arc::downgrade(&peer));
        *client.admission.lock() = Some(admission);
        client
    }

    fn clients(&self, count: usize) -> Vec<Arc<Client>> {
        (0..count).map(|_| self.admit(true, false)).collect()
    }

    /// Until it is over; how long that took.
    async fn drained(&self) -> Duration {
        timeout(Duration::from_secs(600), self.drain.drained()).await.unwrap();
        self.begun.elapsed()
    }

    fn told(&self, client: &Client) -> (Duration, DrainNotice) {
        let (at, notice) = client.told.lock().clone().expect("it was told");
        (at - self.begun, notice)
    }
}

fn order() -> Order {
    Order { reason: "test".into(), ..Order::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_where_nobody_is() {
    let bench = Bench::new(Config::default());
    assert_eq!(bench.drain.status().phase, Phase::Serving);
    bench.drain.begin(order());
    assert!(bench.drained().await < seconds(1));
    assert_eq!(bench.drain.status().phase, Phase::Drained);
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_in_random_order_and_never_faster_than_the_rate() {
    let bench = Bench::new(Config { max_reconnects_per_second: 50, ..Config::default() });
    let clients = bench.clients(500);
    bench.drain.begin(order());
    let took = bench.drained().await;
    assert!((seconds(9)..seconds(11)).contains(&took), "{took:?}");
    let mut each_second = HashMap::<u64, u32>::new();
    let mut times = Vec::new();
    for client in &clients {
        let (at, notice) = bench.told(client);
        *each_second.entry((at + notice.reconnect_delay).as_secs()).or_default() += 1;
        times.push(at);
        assert_eq!(&*notice.reason, "test");
    }
    assert!(each_second.values().all(|count| *count <= 55), "{each_second:?}");
    assert!(!times.is_sorted() && !times.iter().rev().is_sorted(), "in the order they came");
    assert_eq!(bench.drain.status().told, 500);
}

#[tokio::test(start_paused = true)]
async fn where_the_rate_would_take_longer_than_the_spread_it_is_exceeded() {
    let bench = Bench::new(Config { max_reconnects_per_second: 1, spread: seconds(4), ..Config::default() });
    let _clients = bench.clients(100);
    bench.drain.begin(order());
    assert!(bench.drained().await < seconds(5));
}

#[tokio::test(start_paused = true)]
async fn each_is_told_how_long_it_has_and_the_deaf_are_closed_then() {
    let bench = Bench::new(Config {
        max_reconnects_per_second: 1,
        spread: seconds(10),
        grace: seconds(3),
        ..Config::default()
    });
    let clients: Vec<_> = (0..10).map(|n| bench.admit(true, n == 0)).collect();
    bench.drain.begin(order());
    let took = bench.drained().await;
    assert!((seconds(12)..seconds(14)).contains(&took), "{took:?}");
    for client in &clients {
        let (at, notice) = bench.told(client);
        let end = at + notice.deadline.expect("an end");
        assert!((seconds(13)..=seconds(13) + Duration::from_millis(60)).contains(&end), "{at:?} {notice:?}");
        assert_eq!(*client.closed.lock(), client.deaf.then_some(Reason::Draining));
    }
    assert_eq!(bench.drain.status().forced, 1);
}

#[tokio::test(start_paused = true)]
async fn one_who_has_not_been_welcomed_is_closed_and_hears_no_drain_before() {
    let bench = Bench::new(Config::default());
    let client = bench.admit(false, true);
    bench.drain.begin(order());
    bench.drained().await;
    assert!(client.told.lock().is_none());
    assert_eq!(*client.closed.lock(), Some(Reason::Draining));
}

#[tokio::test(start_paused = true)]
async fn a_lame_duck_admits_and_can_be_called_off_and_drain_again() {
    let bench = Bench::new(Config { lame_duck: seconds(10), ..Config::default() });
    assert!(bench.drain.call_off().is_ok(), "there is nothing to call off");
    bench.drain.begin(order());
    sleep(seconds(9)).await;
    assert_eq!(bench.lifecycle.phase(), Phase::LameDuck);
    let _client = bench.admit(true, false);
    assert_eq!(bench.drain.call_off().unwrap().phase, Phase::Serving);
    assert_eq!(bench.lifecycle.phase(), Phase::Serving);
    sleep(seconds(60)).await;
    assert_eq!((bench.registry.len(), bench.drain.status().since), (1, None));
    bench.drain.begin(order());
    bench.drained().await;
    assert_eq!(bench.drain.call_off(), Err(TooLate::Told));
    assert_eq!(bench.registry.admit(([127, 0, 0, 1], 1).into()).unwrap_err().reason, Reason::Draining);
}

#[tokio::test(start_paused = true)]
async fn what_is_to_end_the_process_is_not_called_off() {
    let bench = Bench::new(Config { lame_duck: seconds(10), ..Config::default() });
    bench.drain.begin(Order { exit: true, ..order() });
    assert_eq!(bench.drain.call_off(), Err(TooLate::Ending));
    bench.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_panics_is_over_and_leaves_nobody_waiting() {
    let bench = Bench::new(Config::default());
    let client = bench.admit_client(true, true, true);
    bench.drain.begin(order());
    bench.drained().await;
    assert_eq!(*client.closed.lock(), Some(Reason::Draining));
    assert_eq!(bench.registry.admit(([127, 0, 0, 1], 1).into()).unwrap_err().reason, Reason::Draining);
}

#[test]
fn a_drain_runs_where_the_clients_are_whoever_orders_it() {
    let clients = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bench = clients.block_on(async { Bench::new(Config { lame_duck: seconds(1), ..Config::default() }) });
    let operators = tokio::runtime::Builder::new_current_thread().build().unwrap();
    operators.block_on(async { bench.drain.begin(order()) });
    // Nothing that is asked for there can go on from here.
    drop(operators);
    clients.block_on(bench.drained());
}

#[tokio::test(start_paused = true)]
async fn a_second_order_hastens_and_never_slows_down() {
    let bench = Bench::new(Config { max_reconnects_per_second: 1, spread: seconds(60), ..Config::default() });
    let _clients = bench.clients(100);
    bench.drain.begin(order());
    sleep(seconds(2)).await;
    bench.drain.begin(Order { spread: Some(seconds(5)), ..order() });
    bench.drain.begin(Order { spread: Some(seconds(500)), grace: Some(seconds(500)), ..order() });
    let took = bench.drained().await;
    assert!((seconds(4)..seconds(6)).contains(&took), "{took:?}");
    assert!(!bench.drain.status().exit);
    bench.drain.begin(Order { exit: true, ..order() });
    timeout(seconds(1), bench.drain.exit_wanted()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_ends_the_waiting_for_the_deaf() {
    let bench = Bench::new(Config { grace: seconds(60), ..Config::default() });
    let _client = bench.admit(true, true);
    bench.drain.begin(order());
    sleep(seconds(5)).await;
    bench.drain.begin(Order { grace: Some(seconds(1)), ..order() });
    assert!(bench.drained().await < seconds(6));
}

#[tokio::test(start_paused = true)]
async fn whoever_hurries_waits_for_nobody() {
    for config in
        [Config { lame_duck: seconds(60), ..Config::default() }, Config { grace: seconds(60), ..Config::default() }]
    {
        let bench = Bench::new(config);
        let client = bench.admit(true, true);
        bench.drain.begin(order());
        sleep(seconds(1)).await;
        bench.drain.hurry();
        assert!(bench.drained().await < seconds(2));
        assert_eq!(*client.closed.lock(), Some(Reason::Draining));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_cut_off_tells_its_clients_to_move_lets_nobody_in_and_serves_on_when_its_broker_is_back() {
    let bench = Bench::new(Config { max_reconnects_per_second: 10, ..Config::default() });
    let (health, address) = (Health::new(&bench.lifecycle), SocketAddr::from(([127, 0, 0, 1], 4000)));
    let canary = health.component("canary");
    canary.ready();
    let clients: Vec<_> = (0..40).map(|_| bench.admit(true, true)).collect();
    let told = || clients.iter().filter(|client| client.told.lock().is_some()).count();
    let tasks = bench.lifecycle.tasks();
    tasks.spawn_until_stopped("cut off", bench.drain.clone().follow_broker(health.clone(), Some(seconds(10))));
    for _ in 0..3 {
        canary.not_ready("out of reach");
        sleep(seconds(9)).await;
        canary.ready();
        sleep(seconds(1)).await;
    }
    assert_eq!(told(), 0, "it was never away for so long");
    drop(bench.registry.admit(address).unwrap());

    canary.not_ready("out of reach");
    sleep(seconds(12)).await;
    assert!((18..=22).contains(&told()), "ten in each of two seconds: {}", told());
    let refused = bench.registry.admit(address).unwrap_err();
    let wait = refused.retry_after.unwrap();
    assert!(refused.reason == Reason::Broker && wait >= seconds(1) && wait <= seconds(8), "{wait:?}");
    canary.ready();
    sleep(seconds(30)).await;
    assert!(told() <= 22, "nobody else is told");
    drop(bench.registry.admit(address).unwrap());
    let notices = clients.iter().filter_map(|client| client.told.lock().clone());
    assert!(notices.into_iter().all(|(_, notice)| notice.deadline.is_none()), "and nobody is closed");
    assert!(clients.iter().all(|client| client.closed.lock().is_none()));
    assert_eq!((bench.registry.len(), bench.lifecycle.phase()), (40, Phase::Serving));
}

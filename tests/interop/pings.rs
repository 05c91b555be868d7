//! Stock clients that ping, for their keepalive and to find out how much a connection can carry; and that open their windows.
//! The guard judges them as grpc-go's own server does, or they would not understand each other.
//!
//! Keepalive is tested with every time a tenth of what it is between real ones. `BOWLINE_REAL_TIME=1` takes the real ones,
//! and minutes. Stock grpc-go pings no more often than every 10 s, whatever it is told: a second is 10 s to it, and the
//! small test lowers that bound of its own, and nothing else of it.

use std::{
    env,
    process::{Command, Output},
    thread,
    time::Duration,
};

use crate::{
    ended, nobody_went_too_far, programs,
    relay::{Relay, Talk},
    run,
    served::Served,
};

/// PINGs of a client before the third strike.
const BEFORE_STRIKE: usize = 4;
/// PINGs over which a transport that is not ended has to live.
const LIVES: usize = 4;
/// PINGs that have to be there, or nothing was shown: as many as would be too many, were it not for what comes between.
const PROBES: usize = BEFORE_STRIKE;
/// By how much a server is late that is busy; then its answers to all that came meanwhile share their frames.
const LATE: Duration = Duration::from_millis(100);
/// WINDOW_UPDATEs for each DATA frame that have to be there, or nothing was shown: a client that opens its windows once or
/// twice for a frame does not come near.
const UPDATES: u64 = 5;
/// Messages, each way and all together, that have to be there: what a debug build on a busy machine does in a moment.
const MESSAGES: u64 = 10_000;

/// The times of a keepalive: the server's, those asked of the clients, and the least that grpc-go is to take, if not its own.
struct Pace {
    interval: Duration,
    often: &'static str,
    seldom: &'static str,
    least: Option<&'static str>,
    /// How long each transport may take.
    patience: Duration,
}

impl Pace {
    fn chosen() -> Self {
        match env::var_os("BOWLINE_REAL_TIME") {
            None => Self {
                interval: Duration::from_millis(1500),
                often: "100ms",
                seldom: "3s",
                least: Some("1ms"),
                patience: Duration::from_secs(60),
            },
            Some(_) => Self {
                interval: Duration::from_secs(15),
                often: "1s",
                seldom: "30s",
                least: None,
                patience: Duration::from_secs(280),
            },
        }
    }
}

/// A server that says nothing of its own accord: what it says would clear the strikes of those who ping too often, and put off
/// the pings of those who do not.
fn quiet_server(interval: Duration) -> Served {
    let interval = format!("{}ms", interval.as_millis());
    let settings = [
        ("BOWLINE__REGISTRY__HEARTBEAT_INTERVAL", "10m"),
        ("BOWLINE__REGISTRY__RECEIVE_TIMEOUT", "10m"),
        ("BOWLINE__TRANSPORT__KEEPALIVE_INTERVAL", "0s"),
        ("BOWLINE__TRANSPORT__GUARD__MIN_PING_INTERVAL", &*interval),
    ];
    Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &settings)
}

/// Has a Go client with this keepalive keep a connection until one has lived over so many PINGs.
fn keep_alive(mut go: Command, pace: &Pace, every: &str, address: &str) -> Output {
    if let Some(least) = pace.least {
        go.env("BOWLINE_LEAST_TIME", least);
    }
    go.env("BOWLINE_KEEPALIVE", every).env("BOWLINE_ADDRESS", address);
    go.env("BOWLINE_PATIENCE", format!("{}s", pace.patience.as_secs())).env("BOWLINE_LIVES", LIVES.to_string());
    go.env("BOWLINE_INTERVAL", format!("{}ms", pace.interval.as_millis()));
    run(go.arg("-test.run=^TestGuardKeepalive$"))
}

#[test]
fn a_go_client_that_pings_too_often_slows_down_until_it_lives_and_others_are_left_alone() {
    let (Some(often), Some(seldom)) = (programs::go(), programs::go()) else { return };
    let pace = Pace::chosen();
    let (struck, spared) = (quiet_server(pace.interval), quiet_server(pace.interval));
    let (of_struck, of_spared) = (Relay::before(struck.address), Relay::before(spared.address));
    thread::scope(|scope| {
        scope.spawn(|| keep_alive(often, &pace, pace.often, &of_struck.address.to_string()));
        keep_alive(seldom, &pace, pace.seldom, &of_spared.address.to_string());
    });

    // The transports of the first: each was ended by its pings, and the next pinged half as often, until one was not.
    let talks = of_struck.talks();
    let (last, before) = talks.split_last().expect("a transport");
    for (number, talk) in before.iter().enumerate() {
        assert_eq!(talk.called_for_calm.as_deref(), Some("too_many_pings"), "transport {number} of {talks:?}");
        assert!(talk.pings.len() >= BEFORE_STRIKE, "transport {number}: {talk:?}");
    }
    assert!(!before.is_empty() && last.called_for_calm.is_none(), "{talks:?}");
    assert_eq!(ended(&struck, "too_many_pings"), before.len() as f64);
    // When a PING is seen may be a little late, and the next then seems a little early.
    for pair in talks.windows(2) {
        assert!(pair[1].interval() > pair[0].interval().mul_f64(1.4), "{:?}", intervals(&talks));
    }
    assert!(last.interval() > pace.interval.mul_f64(0.9) && last.pings.len() >= LIVES, "{:?}", intervals(&talks));
    println!("keepalive {}: intervals of its transports {:?}", pace.often, intervals(&talks));

    let talks = of_spared.talks();
    assert!(talks.len() == 1 && talks[0].pings.len() >= LIVES, "{talks:?}");
    nobody_went_too_far(&spared);
    println!("keepalive {}: intervals of its transports {:?}", pace.seldom, intervals(&talks));
}

fn intervals(talks: &[Talk]) -> Vec<Duration> {
    talks.iter().map(Talk::interval).collect()
}

/// A client, with whatever it does by default, has said and heard as much as it can for some seconds. It has probed for
/// bandwidth more often than anybody may ping, and nobody minded.
fn is_never_struck(server: &Served, relay: &Relay, said: &str) {
    let talks = relay.talks();
    let pings: usize = talks.iter().map(|talk| talk.pings.len()).sum();
    assert!(pings >= PROBES, "no probes to speak of: {pings}");
    assert!(talks.iter().all(|talk| talk.called_for_calm.is_none()), "{talks:?}");
    nobody_went_too_far(server);
    let line = said.lines().find_map(|line| line.split_once("load: ")).expect("what it did").1;
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [sent, received, events, millis] = numbers[..] else { panic!("{line}") };
    let rate = |count: u64| count * 1000 / millis.max(1);
    println!(
        "{} messages/s sent, {} received with {} events/s, for {millis} ms; {pings} probes, DATA frames {:?}, WINDOW_UPDATEs {:?}",
        rate(sent),
        rate(received),
        rate(events),
        talks.iter().map(|talk| talk.data).collect::<Vec<_>>(),
        talks.iter().map(|talk| talk.updates).collect::<Vec<_>>(),
    );
    assert!(sent + received + events >= MESSAGES, "{line}");
}

fn server() -> Served {
    Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &[])
}

#[test]
fn a_go_client_that_probes_its_bandwidth_under_load_is_never_struck() {
    let Some(mut go) = programs::go() else { return };
    let server = server();
    let relay = Relay::before(server.address);
    let output = run(go.arg("-test.run=^TestGuardLoad$").env("BOWLINE_ADDRESS", relay.address.to_string()));
    is_never_struck(&server, &relay, &String::from_utf8_lossy(&output.stdout));
}

/// Has a Python client do as much as it can with a server that hears it so late; what was said.
fn loaded_by_python(pause: Duration) -> Option<Relay> {
    let mut python = programs::python()?;
    let server = server();
    let relay = Relay::with_pauses(server.address, pause);
    let output = run(python.arg("load.py").env("BOWLINE_ADDRESS", relay.address.to_string()));
    is_never_struck(&server, &relay, &String::from_utf8_lossy(&output.stdout));
    Some(relay)
}

#[test]
fn a_python_client_that_probes_its_bandwidth_under_load_is_never_struck() {
    loaded_by_python(Duration::ZERO);
}

#[test]
fn a_python_client_that_opens_its_windows_for_each_message_is_never_struck() {
    let Some(relay) = loaded_by_python(LATE) else { return };
    let talks = relay.talks();
    let of_all = |count: fn(&Talk) -> u64| talks.iter().map(count).sum::<u64>();
    assert!(of_all(|talk| talk.updates) >= UPDATES * of_all(|talk| talk.data.1), "{talks:?}");
}

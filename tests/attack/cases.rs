//! Every attack, what has to come of it, and what comes of it where nobody guards.

#[path = "cases/floods.rs"]
mod floods;
#[path = "cases/hoard.rs"]
mod hoard;
#[path = "cases/messages.rs"]
mod messages;
#[path = "cases/requests.rs"]
pub mod requests;
#[path = "cases/resets.rs"]
mod resets;
#[path = "cases/slow.rs"]
mod slow;
#[path = "cases/sockets.rs"]
mod sockets;
#[path = "cases/tokens.rs"]
mod tokens;
#[path = "cases/watchers.rs"]
mod watchers;

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::arena::{Arena, Setup};

/// What was measured, and whether that is good enough.
#[derive(Debug)]
pub struct Verdict {
    pub pass: bool,
    pub measured: String,
}

impl Verdict {
    pub fn new(pass: bool, measured: impl Into<String>) -> Self {
        Self { pass, measured: measured.into() }
    }
}

/// What a tonic server with its defaults makes of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// The attack succeeds: the suite bites. With words of what is then measured, so that it is known to fall by the attack
    /// and not by anything else.
    Falls(&'static str),
    /// HTTP/2 below it has a defence of its own.
    Stands,
    /// It has nothing that could be attacked so.
    NotAsked,
}

/// One line of the scorecard.
pub struct Case {
    /// As the catalogue counts.
    pub number: &'static str,
    pub attack: &'static str,
    pub criterion: &'static str,
    pub setup: Setup,
    pub stock: Stock,
    /// Measures what others would disturb.
    pub alone: bool,
    pub run: for<'a> fn(&'a Arena) -> BoxFuture<'a, Verdict>,
}

const DEFAULTS: Setup = Setup::Plain(&[]);
/// Half a minute is to 15 s as two are to one.
const FAST_PINGS: Setup = Setup::Plain(&[("BOWLINE__TRANSPORT__GUARD__MIN_PING_INTERVAL", "1s")]);

const CASE: Case = Case {
    number: "",
    attack: "",
    criterion: "",
    setup: DEFAULTS,
    stock: Stock::Falls("not run"),
    alone: false,
    run: |_| async { Verdict::new(false, "not run") }.boxed(),
};

/// All of them. Those that take longest come first.
pub const CASES: &[Case] = &[
    Case {
        number: "16",
        attack: "streams that outlive their token, silent or busy",
        criterion: "closed at its end + 25 s ± 2 s; with another token they live",
        setup: Setup::Tokens,
        stock: Stock::NotAsked,
        run: |arena| tokens::outlive(arena).boxed(),
        ..CASE
    },
    Case {
        number: "8a",
        attack: "zero window, 100 streams",
        criterion: "streams end in send_timeout, 15 s; RSS +8 MiB at most",
        stock: Stock::Falls("held"),
        run: |arena| slow::zero_window(arena).boxed(),
        ..CASE
    },
    Case {
        number: "8c",
        attack: "zero window and half questions, on streams of health and reflection alone",
        criterion: "streams end in write_timeout, 15 s; RSS +8 MiB at most",
        stock: Stock::Falls("held"),
        run: |arena| watchers::unheard(arena).boxed(),
        ..CASE
    },
    Case {
        number: "8b",
        attack: "20 peers that never read their socket",
        criterion: "given up in send_timeout, 15 s; RSS +8 MiB at most",
        stock: Stock::NotAsked,
        run: |arena| slow::deaf(arena).boxed(),
        ..CASE
    },
    Case {
        number: "6",
        attack: "HPACK bomb, zero window",
        criterion: "RSS +8 MiB at most, closed in 30 s",
        stock: Stock::Falls("still open"),
        run: |arena| requests::bomb(arena).boxed(),
        ..CASE
    },
    Case {
        number: "1b",
        attack: "rapid reset, 20/s",
        criterion: "closed within 10 s",
        stock: Stock::Falls("still open after"),
        run: |arena| resets::paced(arena).boxed(),
        ..CASE
    },
    Case {
        number: "4b",
        attack: "PING at twice the interval, and with data flowing",
        criterion: "never struck",
        setup: FAST_PINGS,
        stock: Stock::Stands,
        run: |arena| floods::honest_pings(arena).boxed(),
        ..CASE
    },
    Case {
        number: "14",
        attack: "2,000 honest acks in a burst, server held for 5 s",
        criterion: "not closed",
        stock: Stock::NotAsked,
        run: |arena| messages::honest_acks(arena).boxed(),
        ..CASE
    },
    Case {
        number: "1a",
        attack: "rapid reset, burst of 10,000",
        criterion: "GOAWAY by 200",
        stock: Stock::Stands,
        run: |arena| resets::burst(arena, false).boxed(),
        ..CASE
    },
    Case {
        number: "1c",
        attack: "rapid reset, and again from the same address",
        criterion: "30 resets at most on each further transport",
        stock: Stock::Falls("without end"),
        run: |arena| resets::reconnecting(arena).boxed(),
        ..CASE
    },
    Case {
        number: "2",
        attack: "MadeYouReset, 8 triggers × 5,000",
        criterion: "closed by 200 own resets",
        stock: Stock::Falls("not closed: "),
        run: |arena| resets::made_you_reset(arena, false).boxed(),
        ..CASE
    },
    Case {
        number: "3",
        attack: "CONTINUATION flood, empty and full",
        criterion: "closed by 8 frames",
        stock: Stock::Stands,
        run: |arena| floods::continuations(arena).boxed(),
        ..CASE
    },
    Case {
        number: "4a",
        attack: "PING flood",
        criterion: "GOAWAY too_many_pings at the third strike",
        stock: Stock::Falls("still open at PING 200"),
        run: |arena| floods::pings(arena).boxed(),
        ..CASE
    },
    Case {
        number: "5",
        attack: "floods of SETTINGS, PRIORITY, WINDOW_UPDATE, unknown, PING acks",
        criterion: "each closed by 2,000 frames",
        stock: Stock::Falls("SETTINGS never"),
        run: |arena| floods::glitches(arena).boxed(),
        ..CASE
    },
    Case {
        number: "7",
        attack: "header list and fields at the limit ± 1",
        criterion: "431 beyond it, and the next request is fine",
        stock: Stock::Falls("65 fields accepted"),
        run: |arena| requests::limits(arena).boxed(),
        ..CASE
    },
    Case {
        number: "11",
        attack: "messages: length lies, deep nesting, empty sub-messages, gzip",
        criterion: "RSS +2 MiB at most besides their bytes, each answered",
        stock: Stock::Falls("KiB, no answer"),
        run: |arena| messages::bombs(arena).boxed(),
        ..CASE
    },
    Case {
        number: "13a",
        attack: "content types, methods, paths",
        criterion: "415, 405, UNIMPLEMENTED",
        stock: Stock::Falls("as \"text/plain\": 200"),
        run: |arena| requests::tricks(arena).boxed(),
        ..CASE
    },
    Case {
        number: "13b",
        attack: "HTTP/2 without TLS, and HTTP/1, on the TLS port",
        criterion: "closed, nothing else",
        setup: Setup::Tls,
        stock: Stock::NotAsked,
        run: |arena| requests::without_tls(arena).boxed(),
        ..CASE
    },
    Case {
        number: "15a",
        attack: "GOAWAY from the client, then rapid reset",
        criterion: "as 1",
        stock: Stock::Stands,
        run: |arena| resets::burst(arena, true).boxed(),
        ..CASE
    },
    Case {
        number: "15b",
        attack: "GOAWAY from the client, then MadeYouReset",
        criterion: "as 2",
        stock: Stock::Falls("not closed: "),
        run: |arena| resets::made_you_reset(arena, true).boxed(),
        ..CASE
    },
    Case {
        number: "9a",
        attack: "slow handshakes: silent, half a preface, no SETTINGS, a byte a second; 1,000 each",
        criterion: "all gone in 10 s, a new client gets in within 1 s",
        stock: Stock::Falls("4000 left"),
        alone: true,
        run: |arena| slow::handshakes(arena).boxed(),
        ..CASE
    },
    Case {
        number: "9b",
        attack: "slow TLS handshakes: half a ClientHello, done but no preface; 1,000",
        criterion: "all gone in 10 s",
        setup: Setup::Tls,
        stock: Stock::NotAsked,
        run: |arena| slow::tls_handshakes(arena).boxed(),
        ..CASE
    },
    Case {
        number: "9c",
        attack: "300 peers of one address",
        criterion: "256 stay, others get in",
        stock: Stock::Falls("300 held"),
        run: |arena| sockets::crowd(arena).boxed(),
        ..CASE
    },
    Case {
        number: "10",
        attack: "400 peers at a limit of 256 descriptors",
        criterion: "10 % of a core at most, health answers, accepts 2 s after",
        setup: Setup::Descriptors(256),
        stock: Stock::Falls("% of a core"),
        alone: true,
        run: |arena| sockets::exhausted(arena).boxed(),
    },
    Case {
        number: "17",
        attack: "all the memory that the settings of docs/security.md allow",
        criterion: "below what the server reckoned from them at its start",
        setup: Setup::Small,
        stock: Stock::NotAsked,
        alone: true,
        run: |arena| hoard::everything(arena).boxed(),
    },
];

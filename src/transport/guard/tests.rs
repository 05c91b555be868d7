use proptest::prelude::*;

use super::*;

const ACK: u8 = 1;
const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A guard, and a peer that can only talk to it.
struct Bench {
    guard: Guard,
    now: Instant,
}

impl Bench {
    /// Of a peer that has greeted.
    fn new() -> Self {
        let mut bench = Self::silent();
        bench.hears(&frame(kind::SETTINGS, 0, 0, &[]));
        bench
    }

    fn silent() -> Self {
        let now = Instant::now();
        let mut guard = Guard::new(Arc::new(GuardConfig::default()), Debts::default(), now);
        assert_eq!(guard.received(&[b'P'; frames::PREFACE as usize], || now), 24);
        Self { guard, now }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn hears(&mut self, bytes: &[u8]) -> Option<End> {
        let now = self.now;
        self.guard.received(bytes, || now);
        self.guard.verdict()
    }

    fn says(&mut self, bytes: &[u8]) -> Option<End> {
        let now = self.now;
        self.guard.sent(bytes, || now);
        self.guard.verdict()
    }

    /// How many of these the peer sends before it is ended, of at most `most`; and why.
    fn endures(&mut self, most: usize, bytes: &[u8]) -> (usize, Option<End>) {
        (0..most).find_map(|n| self.hears(bytes).map(|end| (n, Some(end)))).unwrap_or((most, None))
    }
}

#[test]
fn a_burst_of_resets_ends_it_and_so_does_a_pace() {
    let pair = [frame(kind::HEADERS, 4, 1, b"h"), reset(1, 8)].concat();
    assert_eq!(Bench::new().endures(10_000, &pair), (100, Some(End::TooManyResets)));

    let mut paced = Bench::new();
    let mut seconds = 0.0;
    while paced.hears(&pair).is_none() {
        paced.wait(Duration::from_millis(50));
        seconds += 0.05;
    }
    assert!((5.0..10.0).contains(&seconds), "20 a second, ended after {seconds} s");

    let mut calm = Bench::new();
    for _ in 0..5000 {
        assert_eq!(calm.hears(&pair), None);
        calm.wait(Duration::from_secs(1));
    }
}

#[test]
fn resets_of_ours_count_where_the_peer_is_at_fault() {
    for (code, counts) in [(0, false), (1, true), (2, false), (3, true), (5, true), (6, true), (7, true), (8, false)] {
        let mut bench = Bench::new();
        let ended = (0..1000).find(|_| bench.says(&reset(1, code)).is_some());
        assert_eq!(ended, counts.then_some(100), "code {code}");
    }
}

#[test]
fn frames_that_nobody_needs_often_end_it() {
    for (what, bytes) in [
        ("SETTINGS", frame(kind::SETTINGS, 0, 0, &[0; 6])),
        ("SETTINGS ack", frame(kind::SETTINGS, ACK, 0, &[])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0; 5])),
        ("PUSH_PROMISE", frame(PUSH_PROMISE, 4, 1, &[0; 4])),
        ("PING ack", frame(kind::PING, ACK, 0, &[0; 8])),
        ("GOAWAY", frame(kind::GOAWAY, 0, 0, &[0; 8])),
        ("unknown", frame(99, 0, 0, b"what")),
    ] {
        assert_eq!(Bench::new().endures(10_000, &bytes), (1000, Some(End::TooManyGlitches)), "{what}");
    }
    let update = frame(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    assert_eq!(Bench::new().endures(10_000, &update), (1100, Some(End::TooManyGlitches)));
}

#[test]
fn what_answers_us_is_no_glitch() {
    let mut bench = Bench::new();
    for _ in 0..5000 {
        bench.says(&frame(kind::PING, 0, 0, &[0; 8]));
        assert_eq!(bench.hears(&frame(kind::PING, ACK, 0, &[0; 8])), None);
        bench.says(&frame(kind::SETTINGS, 0, 0, &[]));
        assert_eq!(bench.hears(&frame(kind::SETTINGS, ACK, 0, &[])), None);
        // A client that gives back both windows for each event.
        bench.says(&frame(kind::DATA, 0, 1, &[0; 40]));
        let update = frame(kind::WINDOW_UPDATE, 0, 1, &40_u32.to_be_bytes());
        assert_eq!(bench.hears(&[update.clone(), update].concat()), None);
    }
    assert_eq!(bench.guard.debts(bench.now), Debts::default());
}

#[test]
fn windows_opened_message_by_message_are_no_glitch_however_many_came_in_a_frame() {
    let (mut bench, message, in_a_frame) = (Bench::new(), 9, 1800);
    let update = frame(kind::WINDOW_UPDATE, 0, 1, &9_u32.to_be_bytes());
    for _ in 0..10 {
        bench.says(&frame(kind::DATA, 0, 1, &vec![0; message * in_a_frame]));
        assert_eq!(bench.hears(&[update.clone(), update.clone()].concat().repeat(in_a_frame)), None);
    }
    assert_eq!(bench.guard.debts(bench.now), Debts::default());
}

#[test]
fn however_much_a_peer_has_been_sent_it_may_open_windows_no_more_than_a_million_times_for_it() {
    let (mut bench, most) = (Bench::new(), MOST_UPDATES as usize);
    for _ in 0..1000 {
        bench.says(&frame(kind::DATA, 0, 1, &[0; 16_384]));
    }
    let update = frame(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    assert_eq!(bench.endures(most + 1001, &update), (most + 1000, Some(End::TooManyGlitches)));
}

#[test]
fn a_window_opened_byte_by_byte_earns_nothing() {
    let mut bench = Bench::new();
    let update = frame(kind::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    let ended = (0..10_000).find(|_| {
        bench.says(&frame(kind::DATA, 0, 1, b"x"));
        bench.hears(&update).is_some()
    });
    assert_eq!(ended, Some(1100));
}

#[test]
fn pings_are_judged_by_what_we_sent_meanwhile() {
    let ping = frame(kind::PING, 0, 0, &[0; 8]);
    assert_eq!(Bench::new().endures(100, &ping), (3, Some(End::TooManyPings)));

    for ours in [frame(kind::DATA, 0, 1, b"event"), frame(kind::HEADERS, 4, 1, b"head")] {
        let mut probing = Bench::new();
        for _ in 0..10_000 {
            probing.says(&ours);
            assert_eq!(probing.hears(&ping), None);
        }
    }
    let mut slow = Bench::new();
    for _ in 0..1000 {
        assert_eq!(slow.hears(&ping), None);
        slow.wait(Duration::from_secs(15));
    }
    let mut answered = Bench::new();
    let ended = (0..100).find(|_| {
        answered.says(&frame(kind::PING, ACK, 0, &[0; 8]));
        answered.hears(&ping).is_some()
    });
    assert_eq!(ended, Some(3), "an answer to a PING is neither HEADERS nor DATA");
}

#[test]
fn a_header_block_has_so_many_pieces() {
    let more = frame(kind::CONTINUATION, 0, 1, &[]);
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.hears(&frame(kind::HEADERS, 0, 1, &[]));
        assert_eq!(bench.endures(8, &more), (8, None));
    }
    assert_eq!(bench.hears(&more), Some(End::TooManyContinuations));
}

#[test]
fn an_honest_client_owes_nothing() {
    let mut bench = Bench::new();
    let update = frame(kind::WINDOW_UPDATE, 0, 0, &65_535_u32.to_be_bytes());
    bench.hears(&update);
    bench.says(&frame(kind::SETTINGS, 0, 0, &[0; 24]));
    bench.hears(&frame(kind::SETTINGS, ACK, 0, &[]));
    for call in 0..2000 {
        // Two thousand calls of a message each, and nothing of ours for any of them.
        let (stream, one) = (1 + 2 * call, frame(kind::WINDOW_UPDATE, 0, 1 + 2 * call, &[0, 0, 1, 0]));
        let call = [frame(kind::HEADERS, 4, stream, b"h"), one, frame(kind::DATA, 1, stream, b"acknowledged")];
        assert_eq!(bench.hears(&call.concat()), None);
    }
    assert_eq!(bench.guard.debts(bench.now), Debts::default());
}

#[test]
fn goaway_says_why_after_a_whole_frame_of_ours() {
    let mut bench = Bench::new();
    bench.hears(&frame(kind::HEADERS, 4, 7, b"h"));
    let ours = frame(kind::DATA, 0, 7, b"0123456789");
    let begun = &ours[..12];
    assert_eq!(bench.says(begun), None);
    assert_eq!(bench.endures(10, &frame(kind::PING, 0, 0, &[0; 8])), (10, None), "not in the middle of a frame");
    assert!(bench.guard.has_judged());

    let now = bench.now;
    let rest = [&ours[12..], &frame(kind::DATA, 0, 7, b"more")[..]].concat();
    assert_eq!(bench.guard.sent(&rest[..3], || now), 3);
    assert_eq!(bench.guard.last_words(), None);
    assert_eq!(bench.guard.sent(&rest[3..], || now), ours.len() - 15, "to the end of the frame under way");
    assert_eq!(bench.guard.sent(b"nothing more", || now), 0);
    let mut expected = frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 11]);
    expected[2] += 14;
    expected.extend_from_slice(b"too_many_pings");
    assert_eq!(bench.guard.last_words(), Some(expected));
}

#[test]
fn debts_of_an_address_leave_a_reserve() {
    let (now, owed) = (Instant::now(), Duration::from_secs(1000));
    let guard = Guard::new(Arc::default(), Debts { resets: owed, glitches: owed }, now);
    let mut bench = Bench { guard, now };
    bench.hears(&[b'P'; frames::PREFACE as usize]);
    bench.hears(&frame(kind::SETTINGS, 0, 0, &[]));
    assert_eq!(bench.endures(1000, &reset(1, 8)), (10, Some(End::TooManyResets)));
}

/// Any frame, whole, often one that is judged.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![4 => 0_u8..=10, 1 => any::<u8>()];
    (kind, any::<u8>(), 0_u32..50, prop::collection::vec(any::<u8>(), 0..30))
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

/// Frames, then bytes that need not be any.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let frames = prop::collection::vec(any_frame(), 0..150).prop_map(|frames| frames.concat());
    (frames, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(frames, tail)| [frames, tail].concat())
}

/// Pieces of these lengths, over and over.
fn pieces<'a>(mut bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    lengths.iter().cycle().map_while(move |length| {
        let (piece, rest) = bytes.split_at_checked(*length).unwrap_or((bytes, &[]));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_split_of_any_bytes_comes_to_the_same(
        theirs in any_bytes(), ours in any_bytes(), cuts in prop::collection::vec(1_usize..60, 1..20),
    ) {
        let config = Arc::new(GuardConfig { reset_burst: 3, glitch_burst: 20, ..GuardConfig::default() });
        let now = Instant::now();
        let course = |cuts: &[usize]| {
            let mut guard = Guard::new(config.clone(), Debts::default(), now);
            let (mut heard, mut said) = (0, 0);
            for piece in pieces(&ours, cuts) {
                said += guard.sent(piece, || now);
            }
            for piece in pieces(&theirs, cuts) {
                if guard.has_judged() {
                    break;
                }
                let passed = guard.received(piece, || now);
                assert!(passed > 0, "HTTP/2 would take it for the end");
                assert!(passed == piece.len() || guard.has_judged(), "bytes pass unless there is a verdict");
                heard += passed;
            }
            (heard, said, format!("{guard:?}"))
        };
        let whole = course(&[usize::MAX]);
        prop_assert_eq!(&course(&[1]), &whole);
        prop_assert_eq!(&course(&cuts), &whole);
    }

    #[test]
    fn the_greeting_is_over_at_the_same_byte(length in 0_usize..200, cuts in prop::collection::vec(1_usize..40, 1..20)) {
        let greeting = [&[b'P'; frames::PREFACE as usize][..], &frame(kind::SETTINGS, 0, 0, &vec![7; length])].concat();
        let all = [greeting.clone(), frame(kind::HEADERS, 4, 1, &[7; 50])].concat();
        let now = Instant::now();
        let mut guard = Guard::new(Arc::default(), Debts::default(), now);
        let mut sent = 0;
        for piece in pieces(&all, &cuts) {
            sent += guard.received(piece, || now);
            prop_assert_eq!(guard.greeted(), sent >= greeting.len(), "after {} bytes", sent);
        }
        prop_assert_eq!(sent, all.len());
    }
}

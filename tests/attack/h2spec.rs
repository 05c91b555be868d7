//! What HTTP/2 asks of a server: the cases of h2spec by their ids, as a table of our own (`h2spec/table.txt`), and the small
//! language it is written in.
//!
//! ```text
//! id | what is done | steps, with `;` between them | what may come of it
//! ```
//!
//! Where h2spec asks for a page, and pages have a body, the table makes a call whose answer has one.

#[path = "h2spec/expect.rs"]
mod expect;
#[path = "h2spec/steps.rs"]
mod steps;

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use expect::Outcome;

use crate::{
    Plan,
    arena::{Arena, Kind, Setup},
};

const TABLE: &str = include_str!("h2spec/table.txt");
/// Cases run at once, each on a transport of its own.
const AT_ONCE: usize = 8;
/// Cases that h2spec has; of them, how many may fail.
const ALL: usize = 147;
/// Those that fail, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[];
/// What each case may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A line of the table.
struct Case {
    id: &'static str,
    what: &'static str,
    steps: &'static str,
    expected: &'static str,
}

fn cases() -> Vec<Case> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let case = |line: &'static str| {
        let parts: Vec<_> = line.split(" | ").map(str::trim).collect();
        let [id, what, steps, expected] = parts[..] else { panic!("not a case: {line}") };
        Case { id, what, steps, expected }
    };
    lines.map(case).collect()
}

/// Runs the table against our server; how many cases failed that must not.
pub async fn run(plan: &Plan) -> usize {
    let cases = cases();
    assert_eq!(cases.len(), ALL, "the table is complete");
    let wanted: Vec<_> = cases.iter().zip(1..).filter(|(case, _)| plan.wants(case.id)).collect();
    if wanted.is_empty() {
        return 0;
    }
    let begun = Instant::now();
    let arena = Arena::open(Kind::Bowline, Setup::Plain(&[])).await;
    let ends: Vec<(&Case, Outcome)> = stream::iter(wanted)
        .map(|(case, number)| conduct(&arena, case, number).map(move |outcome| (case, outcome)))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut failed = 0;
    for (case, Outcome { came, right, .. }) in &ends {
        let exception = EXCEPTIONS.iter().find(|(id, _)| *id == case.id);
        match (right, exception) {
            (true, None) => {}
            (false, Some((_, reason))) => println!("h2spec {}: {}: {came}: as it is: {reason}", case.id, case.what),
            (true, Some(_)) => {
                failed += 1;
                println!("h2spec {}: passes, and stands among the exceptions", case.id);
            }
            (false, None) => {
                failed += 1;
                println!("h2spec {}: {}: {} was expected, and {came} came", case.id, case.what, case.expected);
            }
        }
    }
    let count = |of: fn(&Outcome) -> bool| ends.iter().filter(|(_, outcome)| of(outcome)).count();
    let (right, exact, seconds) = (count(|end| end.right), count(|end| end.exact), begun.elapsed().as_secs_f64());
    println!("\nh2spec: {right} of {} pass, {exact} of them by the very code, in {seconds:.1} s", ends.len());
    failed
}

/// What came of a case. Each has an address of its own: the server keeps scores.
async fn conduct(arena: &Arena, case: &Case, attacker: u16) -> Outcome {
    let played = async {
        let mut wire = arena.dial(attacker).await;
        let (greeted, steps) = match case.steps.strip_prefix("ungreeted;") {
            Some(steps) => (false, steps),
            None => (true, case.steps),
        };
        if greeted {
            wire.greet(&[]).await;
        }
        // To one who has said nothing, everything is an answer: a server need not wait for a greeting.
        let mut heard = if greeted { wire.seen(|seen| seen.frames.len()) } else { 0 };
        for step in steps.split(';').map(str::trim) {
            if let Err(came) = steps::take(&mut wire, step, &mut heard).await {
                return Outcome::failed(format!("at `{step}` {came}"));
            }
        }
        expect::judge(&mut wire, case.expected, heard).await
    };
    let played = std::panic::AssertUnwindSafe(timeout(LIMIT, played)).catch_unwind().await;
    match played {
        Ok(Ok(end)) => end,
        Ok(Err(_)) => Outcome::failed("nothing in time".to_owned()),
        Err(_) => Outcome::failed("a panic".to_owned()),
    }
}

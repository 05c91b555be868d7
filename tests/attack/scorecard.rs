//! Runs the attacks and says what came of them.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use crate::{
    Plan,
    arena::{Arena, Kind, MOST_LINES},
    cases::{CASES, Case, Stock, Verdict},
};

/// Attacks made at once, each on a server of its own: most of them wait.
const AT_ONCE: usize = 6;
/// No attack takes longer.
const LONGEST: Duration = Duration::from_secs(60);

/// One attack and what came of it.
struct Line {
    case: &'static Case,
    verdict: Verdict,
    /// Most lines the server wrote within a second.
    lines: u64,
}

/// Attacks our server; how many cases failed.
pub async fn bowline(plan: &Plan) -> usize {
    let begun = Instant::now();
    let lines = attack(plan, Kind::Bowline, |_| true).await;
    if lines.is_empty() {
        return 0;
    }
    println!("\nattack suite: bowline with its defaults\n");
    let mut failed = 0;
    for Line { case, verdict, lines } in &lines {
        let quiet = *lines <= MOST_LINES;
        failed += usize::from(!(verdict.pass && quiet));
        let log = if quiet { String::new() } else { format!("; {lines} log lines in a second") };
        println!("{:4} {:4} {}", case.number, if verdict.pass && quiet { "pass" } else { "FAIL" }, case.attack);
        println!("          {} · {}{log}", case.criterion, verdict.measured);
    }
    let most = lines.iter().map(|line| line.lines).max().unwrap_or(0);
    let pass = if most <= MOST_LINES { "pass" } else { "FAIL" };
    println!("12   {pass} log lines under any of these\n          {MOST_LINES}/s at most · {most}/s");
    println!("\n{} of {} pass, in {:.0} s", lines.len() - failed, lines.len(), begun.elapsed().as_secs_f64());
    failed
}

/// Attacks the stock server; how many cases did not come out as they had to.
pub async fn stock(plan: &Plan) -> usize {
    let begun = Instant::now();
    let lines = attack(plan, Kind::Stock, |case| case.stock != Stock::NotAsked).await;
    if lines.is_empty() {
        return 0;
    }
    println!("\nthe same attacks: tonic with its defaults\n");
    let mut surprises = 0;
    for Line { case, verdict, .. } in &lines {
        let expected = verdict.pass == (case.stock == Stock::Stands);
        surprises += usize::from(!expected);
        let outcome = if verdict.pass { "stands" } else { "falls" };
        let surprise = if expected { "" } else { ", and was to do the other" };
        println!("{:4} {outcome}{surprise}: {}\n          {}", case.number, case.attack, verdict.measured);
    }
    println!("\n{} of {} as expected, in {:.0} s", lines.len() - surprises, lines.len(), begun.elapsed().as_secs_f64());
    surprises
}

async fn attack(plan: &Plan, kind: Kind, wanted: impl Fn(&Case) -> bool) -> Vec<Line> {
    let cases: Vec<&Case> = CASES.iter().filter(|case| wanted(case) && plan.wants(case.number)).collect();
    let (alone, together): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.alone);
    let mut lines: Vec<Line> =
        stream::iter(together).map(|case| conduct(case, kind)).buffer_unordered(AT_ONCE).collect().await;
    for case in alone {
        lines.push(conduct(case, kind).await);
    }
    // As the catalogue counts, and not as they ended.
    let key = |number: &str| {
        let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
        (digits.parse::<u32>().unwrap(), number.to_owned())
    };
    lines.sort_by_key(|line| key(line.case.number));
    lines
}

/// One attack, on a server of its own, while an honest client looks on. A panic is a failure, of this one.
async fn conduct(case: &'static Case, kind: Kind) -> Line {
    let conducted = std::panic::AssertUnwindSafe(timeout(LONGEST, fight(case, kind))).catch_unwind().await;
    match conducted {
        Ok(Ok(line)) => line,
        Ok(Err(_)) => failed(case, format!("not over after {LONGEST:?}")),
        Err(_) => failed(case, "a panic, see above".to_owned()),
    }
}

fn failed(case: &'static Case, measured: String) -> Line {
    Line { case, verdict: Verdict::new(false, measured), lines: 0 }
}

async fn fight(case: &'static Case, kind: Kind) -> Line {
    let mut arena = Arena::open(kind, case.setup).await;
    let mut verdict = (case.run)(&arena).await;
    let alive = arena.server.child.try_wait().is_ok_and(|ended| ended.is_none());
    if !alive {
        verdict = Verdict::new(false, format!("{}; the server is gone", verdict.measured));
    }
    if let Some(report) = arena.honest().await
        && !report.unharmed()
    {
        let failure = report.failure.clone().unwrap_or_else(|| format!("95 of 100 within {:?}", report.p95()));
        verdict = Verdict::new(false, format!("{}; an honest client: {failure}", verdict.measured));
    }
    Line { case, verdict, lines: arena.most_lines() }
}

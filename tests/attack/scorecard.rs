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
const AT_ONCE: usize = 10;
/// What the catalogue has: each is a case, or several with letters behind the number. The twelfth is held against them all.
const CATALOGUE: [u32; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17];
/// No attack takes longer.
const LONGEST: Duration = Duration::from_secs(60);

/// One attack and what came of it.
struct Line {
    case: &'static Case,
    kind: Kind,
    verdict: Verdict,
    /// Most lines that the server wrote in any one second.
    lines: usize,
    /// Most memory the server had, KiB; and what it had reckoned with at worst, if it does.
    highest_kib: u64,
    worst_kib: Option<u64>,
    /// It was not conducted to its end: no verdict, whatever was expected.
    broken: bool,
}

impl Line {
    /// The server never had more than it had reckoned with.
    fn fits(&self) -> bool {
        self.worst_kib.is_none_or(|worst| self.highest_kib < worst)
    }
}

/// Makes the attacks, on our server and on the stock one; how many cases did not come out as they had to.
pub async fn run(plan: &Plan) -> usize {
    assert!(CATALOGUE.iter().all(|attack| CASES.iter().any(|case| number(case) == *attack)), "an attack is no case");
    let begun = Instant::now();
    let wanted = |kind| {
        let cases = CASES.iter().filter(move |case| plan.wants(case.number) && plan.has(kind));
        cases.filter(move |case| kind == Kind::Bowline || case.stock != Stock::NotAsked).map(move |case| (case, kind))
    };
    let all = wanted(Kind::Bowline).chain(wanted(Kind::Stock));
    let (alone, together): (Vec<_>, Vec<_>) = all.partition(|(case, _)| case.alone);
    let together = stream::iter(together).map(|(case, kind)| conduct(case, kind)).buffer_unordered(AT_ONCE);
    let mut lines: Vec<Line> = together.collect().await;
    for (case, kind) in alone {
        lines.push(conduct(case, kind).await);
    }
    // As the catalogue counts, and not as they ended.
    lines.sort_by_key(|line| (number(line.case), line.case.number));
    let (ours, stock): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.kind == Kind::Bowline);
    let failed = bowline(&ours) + fixture(&stock);
    println!("\nattacks: {} in {:.0} s", ours.len() + stock.len(), begun.elapsed().as_secs_f64());
    failed
}

/// Its number in the catalogue.
fn number(case: &Case) -> u32 {
    case.number.trim_end_matches(|c: char| c.is_ascii_lowercase()).parse().expect("a number and perhaps a letter")
}

fn bowline(lines: &[Line]) -> usize {
    println!("\nattack suite: bowline with its defaults\n");
    let mut failed = 0;
    for line in lines {
        let Line { case, verdict, lines, highest_kib, .. } = line;
        let (quiet, fits) = (*lines <= MOST_LINES, line.fits());
        let pass = verdict.pass && quiet && fits;
        failed += usize::from(!pass);
        let mark = if pass { "pass" } else { "FAIL" };
        let log = if quiet { String::new() } else { format!("; {lines} log lines in a second") };
        let over = if fits { String::new() } else { ", more than it had reckoned with".to_owned() };
        println!("{:4} {mark}: {}\n          {} · {}{log}", case.number, case.attack, case.criterion, verdict.measured);
        println!("          {} MiB at most{over}", highest_kib >> 10);
    }
    let most = lines.iter().map(|line| line.lines).max().unwrap_or(0);
    println!("12   log lines under any of these\n          {MOST_LINES} in any one second · {most}");
    if let Some(highest) = lines.iter().max_by_key(|line| line.highest_kib) {
        println!(
            "\nmemory: {} MiB at most, in {}; at worst, by its settings:",
            highest.highest_kib >> 10,
            highest.case.number
        );
        let mut worst: Vec<_> =
            lines.iter().filter_map(|line| line.worst_kib.map(|kib| (kib >> 10, line.case))).collect();
        worst.sort_by_key(|(mib, _)| *mib);
        worst.dedup_by_key(|(mib, _)| *mib);
        for (mib, case) in worst {
            println!("          {mib} MiB in {} and wherever they are the same", case.number);
        }
    }
    println!("\n{} of {} pass", lines.len() - failed, lines.len());
    failed
}

fn fixture(lines: &[Line]) -> usize {
    println!("\nthe same attacks: tonic with its defaults\n");
    let mut surprises = 0;
    for Line { case, verdict, broken, .. } in lines {
        let expected = !broken
            && match case.stock {
                Stock::Falls(words) => !verdict.pass && verdict.measured.contains(words),
                Stock::Stands => verdict.pass,
                Stock::NotAsked => false,
            };
        surprises += usize::from(!expected);
        let outcome = if verdict.pass { "stands" } else { "falls" };
        let surprise = if expected { String::new() } else { format!(", where {:?} was expected", case.stock) };
        println!("{:4} {outcome}{surprise}: {}\n          {}", case.number, case.attack, verdict.measured);
    }
    println!("\n{} of {} as expected", lines.len() - surprises, lines.len());
    surprises
}

/// One attack, on a server of its own, while an honest client looks on. A panic is a failure, of this one.
async fn conduct(case: &'static Case, kind: Kind) -> Line {
    let conducted = std::panic::AssertUnwindSafe(timeout(LONGEST, fight(case, kind))).catch_unwind().await;
    match conducted {
        Ok(Ok(line)) => line,
        Ok(Err(_)) => broken(case, kind, format!("not over after {LONGEST:?}")),
        Err(_) => broken(case, kind, "a panic, see above".to_owned()),
    }
}

fn broken(case: &'static Case, kind: Kind, measured: String) -> Line {
    Line { case, kind, verdict: Verdict::new(false, measured), lines: 0, highest_kib: 0, worst_kib: None, broken: true }
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
    // Who is gone has none.
    let highest_kib = if alive { arena.highest_kib() } else { 0 };
    let (lines, worst_kib) = (arena.most_lines(), arena.worst_kib);
    Line { case, kind, verdict, lines, highest_kib, worst_kib, broken: false }
}

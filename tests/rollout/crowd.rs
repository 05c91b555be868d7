//! How dense arrivals are, on a machine that now and then stands still.

use std::{sync::Arc, time::Duration};

use bowline::lifecycle::Tasks;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// How often it is looked whether the machine goes on.
const TICK: Duration = Duration::from_millis(10);
/// Less than this is no standstill.
const NOTABLE: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

/// Moments in which this process was not let run: when they ended, and how long they were.
#[derive(Clone, Default)]
pub struct Stalls(Arc<Mutex<Vec<(Instant, Duration)>>>);

impl Stalls {
    /// Notes them from now on.
    pub fn watch() -> Self {
        let (stalls, tasks) = (Self::default(), Tasks::default());
        let noted = stalls.clone();
        drop(tasks.spawn("stalls", async move {
            loop {
                let before = Instant::now();
                sleep(TICK).await;
                let late = before.elapsed().saturating_sub(TICK);
                if late > NOTABLE {
                    noted.0.lock().push((Instant::now(), late));
                }
            }
        }));
        stalls
    }

    /// How much of the time from `from` to `to` was spent so.
    fn between(&self, from: Instant, to: Instant) -> Duration {
        self.0.lock().iter().filter(|(end, length)| *end > from && *end - *length < to).map(|(_, length)| *length).sum()
    }
}

/// The most that arrived in any second, as a multiple of `pace` per second. Who should have come while the machine stood
/// still comes when it goes on: that time is added to the second.
pub fn crowding(arrivals: &[Instant], pace: f64, stalls: &Stalls) -> f64 {
    let mut most = 0.0_f64;
    for (first, begin) in arrivals.iter().enumerate() {
        let count = arrivals[first..].iter().take_while(|at| **at - *begin < SECOND).count();
        let time = SECOND + stalls.between(*begin - SECOND / 4, *begin + SECOND);
        most = most.max(count as f64 / time.as_secs_f64() / pace);
    }
    most
}

#[test]
fn a_crowd_is_a_crowd_unless_the_machine_stood_still() {
    let (begin, even) = (Instant::now() + SECOND, Duration::from_millis(25));
    let evenly: Vec<_> = (0..200).map(|n| begin + even * n).collect();
    assert!((0.99..1.03).contains(&crowding(&evenly, 40.0, &Stalls::default())));
    let at_once = [begin; 100];
    assert!(crowding(&at_once, 40.0, &Stalls::default()) > 2.4);
    let stalls = Stalls::default();
    stalls.0.lock().push((begin, SECOND * 2));
    assert!(crowding(&at_once, 40.0, &stalls) < 0.9);
}

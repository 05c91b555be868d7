//! Somebody whom a storm does not concern: on a thread of their own, a message every two milliseconds, and back.

use std::{
    collections::VecDeque,
    fs, io,
    ops::Range,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    stage::Stage,
    storm::PATIENCE,
    talker::{Role, Shape, Talker},
};

/// From one message to the next, whatever has become of those before; up to a millisecond more, which is how fine tokio's
/// timers are.
const INTERVAL: Duration = Duration::from_millis(2);

/// When a message was sent, and how long after that it was back. Sending waits for nobody, so nothing is left out by not
/// counting from when it was due: the timer's lateness is the generator's, not the server's.
type Wait = (Instant, Duration);

/// See the module.
pub struct Bystander {
    leaves: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Vec<Wait>>>>,
}

impl Drop for Bystander {
    /// Whoever does not wait for it need not have it any longer.
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::Relaxed);
    }
}

impl Bystander {
    /// Comes to a server.
    pub fn come(stage: &Stage) -> Self {
        let leaves = Arc::<AtomicBool>::default();
        let (stage, told) = (stage.clone(), Arc::clone(&leaves));
        Self {
            leaves,
            thread: Some(thread::spawn(move || {
                come_first();
                stand_by(&stage, &told)
            })),
        }
    }

    /// Goes. An answer that was lost, doubled or out of order is an error.
    pub fn go(mut self) -> io::Result<Waits> {
        self.leaves.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.and_then(Result::ok).ok_or_else(|| io::Error::other("the bystander"))?.map(Waits)
    }
}

/// What a bystander has waited for.
pub struct Waits(Vec<Wait>);

impl Waits {
    /// Of the messages that were sent in this time so many percent were back after, ms.
    pub fn percentile(&self, percent: f64, time: Range<Instant>) -> f64 {
        let within = self.0.iter().filter(|(sent, _)| time.contains(sent));
        let mut waits: Vec<Duration> = within.map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        let place = (waits.len() as f64 * percent / 100.0) as usize;
        waits.get(place.min(waits.len().saturating_sub(1))).map_or(f64::NAN, |wait| wait.as_secs_f64() * 1000.0)
    }
}

/// Has this thread run as soon as there is something for it to do, where that is allowed (root). Otherwise it has to wait for the
/// generator's slice of the core to end, now and then until the kernel's next tick, which is 4 ms.
fn come_first() {
    let Ok(thread) = fs::read_link("/proc/thread-self") else { return };
    let Some(thread) = thread.file_name() else { return };
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", "10"]).arg(thread).stdout(Stdio::null()).stderr(Stdio::null());
    drop(command.status());
}

fn stand_by(stage: &Stage, leaves: &AtomicBool) -> io::Result<Vec<Wait>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut talker = Talker::open(stage, Role::Echo, "echo.bystander", Shape::ONE).await?;
        let (mut waits, mut under_way, mut due) = (Vec::new(), VecDeque::new(), Instant::now());
        loop {
            match tokio::time::timeout_at(due, talker.receive()).await {
                Ok(back) => {
                    let back = usize::try_from(back?).unwrap_or(usize::MAX).min(under_way.len());
                    waits.extend(under_way.drain(..back).map(|sent: Instant| (sent, sent.elapsed())));
                }
                Err(_) if !leaves.load(Ordering::Relaxed) => {
                    talker.send();
                    under_way.push_back(Instant::now());
                    due += INTERVAL;
                }
                Err(_) => match under_way.front() {
                    None => return Ok(waits),
                    Some(sent) if sent.elapsed() > PATIENCE => return Err(io::ErrorKind::TimedOut.into()),
                    Some(_) => due += INTERVAL,
                },
            }
        }
    })
}

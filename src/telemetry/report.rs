//! The report line: once an interval, what happened in it, for people who read logs and have no dashboard.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::metrics::Metrics;

/// Logs the report line once every `every`, until dropped; `every` of zero logs nothing. Cancel-safe.
pub async fn run(metrics: Arc<Metrics>, every: Duration) {
    if every.is_zero() {
        return;
    }
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Totals::of(&metrics);
    loop {
        ticks.tick().await;
        let now = Totals::of(&metrics);
        report(&metrics, &now.since(&before), every);
        before = now;
    }
}

fn report(metrics: &Metrics, new: &Totals, every: Duration) {
    tracing::info!(
        seconds = every.as_secs(),
        connections = metrics.connections_active.get(),
        sessions = metrics.sessions_active.get(),
        opened = new.opened,
        received = new.received,
        received_bytes = new.received_bytes,
        sent = new.sent,
        sent_bytes = new.sent_bytes,
        published = new.published,
        delivered = new.delivered,
        receive_errors = new.receive_errors,
        send_errors = new.send_errors,
        "report"
    );
}

/// What is counted up for ever, at one moment; or the difference of two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    opened: u64,
    received: u64,
    received_bytes: u64,
    sent: u64,
    sent_bytes: u64,
    published: u64,
    delivered: u64,
    receive_errors: u64,
    send_errors: u64,
}

impl Totals {
    fn of(metrics: &Metrics) -> Self {
        Self {
            opened: metrics.connections_opened.get(),
            received: metrics.frames_received.get(),
            received_bytes: metrics.frames_received_bytes.get(),
            sent: metrics.frames_sent.get(),
            sent_bytes: metrics.frames_sent_bytes.get(),
            published: metrics.events_published.get(),
            delivered: metrics.events_delivered.get(),
            receive_errors: metrics.receive_errors.get(),
            send_errors: metrics.send_errors.get(),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            opened: self.opened.wrapping_sub(before.opened),
            received: self.received.wrapping_sub(before.received),
            received_bytes: self.received_bytes.wrapping_sub(before.received_bytes),
            sent: self.sent.wrapping_sub(before.sent),
            sent_bytes: self.sent_bytes.wrapping_sub(before.sent_bytes),
            published: self.published.wrapping_sub(before.published),
            delivered: self.delivered.wrapping_sub(before.delivered),
            receive_errors: self.receive_errors.wrapping_sub(before.receive_errors),
            send_errors: self.send_errors.wrapping_sub(before.send_errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::instrument::WithSubscriber as _;

    use super::*;
    use crate::telemetry::written::Written;

    #[tokio::test(start_paused = true)]
    async fn each_line_tells_what_its_own_interval_brought() {
        let (metrics, written) = (Arc::new(Metrics::new()), Written::default());
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let minute = Duration::from_secs(60);
        let reporter = run(metrics.clone(), minute).with_subscriber(subscriber);
        let events = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            metrics.frames_received.inc_by(5);
            metrics.connections_active.set(2);
            tokio::time::sleep(minute).await;
            metrics.frames_received.inc_by(7);
            metrics.send_errors.inc();
            tokio::time::sleep(minute).await;
        };
        tokio::select! {
            () = reporter => unreachable!("it reports for ever"),
            () = events => {}
        }
        let lines = written.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!((&lines[0]["fields"]["received"], &lines[0]["fields"]["connections"]), (&5.into(), &2.into()));
        assert_eq!((&lines[1]["fields"]["received"], &lines[1]["fields"]["send_errors"]), (&7.into(), &1.into()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_of_zero_reports_nothing() {
        tokio::time::timeout(Duration::from_secs(1), run(Arc::default(), Duration::ZERO)).await.unwrap();
    }
}

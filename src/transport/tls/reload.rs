//! Following the files: by content, because orchestrators replace them in ways that say nothing of it, such as a link
//! that leads elsewhere.

use std::{path::Path, sync::Arc};

use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    Tls, TlsConfig,
    files::{Contents, Fingerprint, Loaded, TlsError},
};
use crate::{
    telemetry::metrics::{
        Metrics,
        words::{TlsCertificate, TlsReload},
    },
    types::Timestamp,
};

/// Contents that could not be used, and whether that was said. At the first look it is not: files are replaced one
/// after the other, and half of the new beside half of the old says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad {
    found: Fingerprint,
    said: bool,
}

/// What a look at the files came to.
#[derive(Debug)]
pub(super) enum Look {
    /// They hold what is served.
    Same,
    /// They hold something else that can be served.
    Changed(Loaded),
    /// They hold what could not be used, for the first time, or as was said already.
    Unchanged,
    /// They still hold what could not be used.
    Refused(TlsError),
}

/// Compares what is found with what is served.
pub(super) fn look(files: &TlsConfig, found: &Contents, served: &Loaded, bad: &mut Option<Bad>) -> Look {
    let fingerprint = found.fingerprint();
    if fingerprint == served.fingerprint {
        *bad = None;
        return Look::Same;
    }
    let before = bad.filter(|bad| bad.found == fingerprint);
    if before.is_some_and(|bad| bad.said) {
        return Look::Unchanged;
    }
    match found.load(files).and_then(|loaded| unless_ended(loaded, &files.cert_file)) {
        Ok(loaded) => {
            *bad = None;
            Look::Changed(loaded)
        }
        Err(error) => {
            *bad = Some(Bad { found: fingerprint, said: before.is_some() });
            if before.is_some() { Look::Refused(error) } else { Look::Unchanged }
        }
    }
}

/// A certificate that is over does not take the place of one that may still be good.
fn unless_ended(loaded: Loaded, path: &Path) -> Result<Loaded, TlsError> {
    let ended = loaded.server.not_after <= Timestamp::now();
    if ended { Err(TlsError::Ended { path: path.to_owned() }) } else { Ok(loaded) }
}

impl Tls {
    /// Serves with what the files hold, from each change of them on; ends at once if they are not to be looked at again.
    pub(in crate::transport) async fn follow(self: Arc<Self>, metrics: Arc<Metrics>) {
        self.current().announce(&metrics);
        if self.files.reload_interval.is_zero() {
            return;
        }
        let begin = Instant::now() + self.files.reload_interval;
        let mut ticks = interval_at(begin, self.files.reload_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bad = None;
        loop {
            ticks.tick().await;
            let files = self.files.clone();
            // It fails only when the process ends.
            let Ok(found) = spawn_blocking(move || Contents::read(&files)).await else { return };
            match look(&self.files, &found, &self.current(), &mut bad) {
                Look::Same => {
                    metrics.tls_files_refused.set(0);
                }
                Look::Unchanged => {}
                Look::Changed(loaded) => {
                    let loaded = Arc::new(loaded);
                    *self.current.write() = loaded.clone();
                    loaded.announce(&metrics);
                    metrics.tls_reload(TlsReload::Loaded);
                }
                Look::Refused(error) => {
                    metrics.tls_files_refused.set(1);
                    metrics.tls_reload(TlsReload::Refused);
                    tracing::error!(%error, "what is in the TLS files now cannot be used; what was there before is");
                }
            }
        }
    }
}

impl Loaded {
    /// Says what is served from now on.
    fn announce(&self, metrics: &Metrics) {
        metrics.tls_files_refused.set(0);
        metrics.tls_not_after(TlsCertificate::Server, self.server.not_after);
        if let Some(end) = self.authorities_end {
            metrics.tls_not_after(TlsCertificate::ClientCa, end);
        }
        let serial = &*self.server.serial;
        let days = self.server.not_after.0.saturating_sub(Timestamp::now().0) / 86_400_000_000;
        tracing::info!(serial, days_left = days, "serving a TLS certificate");
        if days == 0 {
            tracing::warn!(serial, "the TLS certificate ends within a day, or has ended");
        }
    }
}

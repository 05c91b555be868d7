//! Revocations as replicas tell each other: what one has read from its file is believed by all, at once.
//!
//! A replica believes what it is told until its own file says so too, which then has the last word; and for ten minutes at
//! most, so that an error of one replica's file is over some day everywhere else.

use std::{sync::OnceLock, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Auth, files::Policy, lists::Revoked};

/// How long others are believed. Kubernetes takes a minute or two to bring a changed file to all.
const BELIEVED: Duration = Duration::from_secs(600);

/// Tells the other replicas. Must not block.
pub type Tell = Box<dyn Fn(String) + Send + Sync>;

/// See the module.
#[derive(Default)]
pub(super) struct Revocations {
    tell: OnceLock<Tell>,
    told: Mutex<Vec<(Instant, Revoked)>>,
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocations").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Revocations {
    /// Our own file has changed: the others are told what is new in it.
    pub(super) fn read(&self, before: &Revoked, now: &Revoked) {
        self.told.lock().iter_mut().for_each(|(_, told)| told.remove(now));
        if let Some(tell) = self.tell.get() {
            now.beyond(before).into_iter().for_each(tell);
        }
    }

    /// What others have said and are believed in; whether that has become less since.
    fn told(&self, now: Instant) -> (Revoked, bool) {
        let mut told = self.told.lock();
        let before = told.len();
        told.retain(|(until, revoked)| now < *until && !revoked.is_empty());
        let mut all = Revoked::default();
        told.iter().for_each(|(_, revoked)| all.join(revoked.clone()));
        (all, told.len() < before)
    }
}

impl Auth {
    /// Has `tell` called with what is newly revoked here, for [`revoke`](Self::revoke) elsewhere. Once.
    pub fn on_revoked(&self, tell: Tell) {
        let set = self.revocations.tell.set(tell);
        debug_assert!(set.is_ok(), "revocations are told once");
    }

    /// Another replica has read that these are revoked. How many were not known here.
    pub fn revoke(&self, text: &str) -> u32 {
        let Ok(mut revoked) = Revoked::parse(text) else {
            tracing::error!("another replica tells of revocations in a form that is not known here");
            return 0;
        };
        let mut policy = self.policy.write();
        revoked.remove(&policy.revoked);
        revoked.remove(&policy.told);
        let count = revoked.len();
        if count > 0 {
            tracing::info!(count, "another replica has read that more is revoked");
            self.revocations.told.lock().push((Instant::now() + BELIEVED, revoked));
            self.believe(&mut policy);
        }
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Forgets what others have said too long ago. To be called now and then.
    pub fn expire_told(&self) {
        if self.revocations.told(Instant::now()).1 {
            self.believe(&mut self.policy.write());
        }
    }

    fn believe(&self, policy: &mut std::sync::Arc<Policy>) {
        let (told, _) = self.revocations.told(Instant::now());
        *policy = std::sync::Arc::new(Policy { version: policy.version + 1, told, ..Policy::clone(policy) });
    }
}

//! What stands in files, and their being read again when their content has changed.
//!
//! By content, because that is what counts: Kubernetes changes what is mounted by swapping links, and editors by new
//! files. A file that cannot be used any more changes nothing but a metric: whoever was denied stays so.

use std::{collections::hash_map::DefaultHasher, fs, hash::Hasher as _, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    Auth, Config,
    credentials::refused,
    identity::Identity,
    keys::{self, FileError},
    lists::{ApiKeys, Revoked},
    rights::{self, Rule},
};
use crate::{error::Failure, health::Health, lifecycle::Tasks};

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// What all callers are judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// Rises with every change.
    pub(super) version: u64,
    pub(super) rules: Vec<Rule>,
    pub(super) revoked: Revoked,
    /// What is revoked as other replicas say.
    pub(super) told: Revoked,
    pub(super) api_keys: ApiKeys,
}

impl Policy {
    pub(super) fn read(config: &Config, version: u64) -> Result<Self, FileError> {
        let named = |path: &PathBuf| Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
        let rules = match named(&config.policy_file) {
            Some(path) => rights::read_policy(&path, config.mode.names_itself())?,
            None => config.rules.clone(),
        };
        let revoked = named(&config.revoked_file).map(|path| Revoked::read(&path)).transpose()?.unwrap_or_default();
        let api_keys = named(&config.api_key_file).map(|path| ApiKeys::read(&path)).transpose()?.unwrap_or_default();
        Ok(Self { version, rules, revoked, told: Revoked::default(), api_keys })
    }

    pub(super) fn has_revoked(&self, identity: &Identity) -> bool {
        self.revoked.names(identity) || self.told.names(identity)
    }

    /// The identity, unless it was revoked: TOKEN_INVALID.
    pub(super) fn admits(&self, identity: Identity) -> Result<Identity, Failure> {
        if self.has_revoked(&identity) { Err(refused("it was revoked")) } else { Ok(identity) }
    }
}

impl Auth {
    /// Starts what keeps keys and files up to date.
    pub fn spawn(self: &Arc<Self>, health: &Health, tasks: &Tasks) {
        for fetcher in &self.fetchers {
            // A name for each issuer; there are few, and they live as long as the process.
            let component = health.component(format!("keys of {}", fetcher.issuer().config().issuer).leak());
            tasks.spawn_until_stopped("key set", fetcher.clone().run(component));
        }
        if !files(&self.config).is_empty() {
            tasks.spawn_until_stopped("auth files", self.clone().follow_files());
        }
    }

    /// Looks at the files for as long as it is polled.
    async fn follow_files(self: Arc<Self>) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.fingerprint;
        loop {
            ticks.tick().await;
            let auth = self.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || fingerprint(&auth.config)).await else { continue };
            if now == seen {
                continue;
            }
            seen = now;
            if let Err(error) = self.reread() {
                self.metrics.auth_reload_failures.inc();
                tracing::error!(error = &error as &dyn std::error::Error, "what stands in files stays as it was");
            }
        }
    }

    /// Reads every file; keeps all that was there if one of them cannot be used.
    fn reread(&self) -> Result<(), FileError> {
        let read = |issuer: &Arc<super::Issuer>| keys::from_files(issuer.config());
        let keys = self.issuers.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let before = self.policy.read().clone();
        let mut policy = Policy::read(&self.config, before.version + 1)?;
        for (issuer, keys) in self.issuers.iter().zip(keys) {
            issuer.set_keys_of_files(keys);
        }
        tracing::info!(version = policy.version, rules = policy.rules.len(), "keys and rules were read again");
        self.revocations.read(&before.revoked, &policy.revoked);
        // Others may have said more meanwhile.
        let mut now = self.policy.write();
        policy.told = now.told.clone();
        policy.told.remove(&policy.revoked);
        policy.version = policy.version.max(now.version + 1);
        *now = Arc::new(policy);
        Ok(())
    }
}

fn files(config: &Config) -> Vec<&PathBuf> {
    let of_issuers = config
        .issuers
        .iter()
        .flat_map(|issuer| issuer.secret_files.iter().chain(&issuer.public_key_files).chain([&issuer.jwks_file]));
    let all = of_issuers.chain([&config.policy_file, &config.revoked_file, &config.api_key_file]);
    all.filter(|path| !path.as_os_str().is_empty()).collect()
}

/// Tells one content of all files from another; nothing else is taken from it.
pub(super) fn fingerprint(config: &Config) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in files(config) {
        match fs::read(path) {
            Ok(content) => {
                hasher.write_usize(content.len());
                hasher.write(&content);
            }
            Err(_) => hasher.write_u8(0),
        }
    }
    hasher.finish()
}

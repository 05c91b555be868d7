//! What is logged: read from directives, and changed while the process runs, for a time or until told otherwise.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tracing::Level;
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    reload,
};

use crate::types::{Timestamp, sleep_until_or_forever};

/// The subscriber is the process's, so what it lets through is as well.
static OF_PROCESS: OnceLock<LogLevel> = OnceLock::new();

/// A crate whose warnings say what peers do, a line for each frame: left out at the usual levels, unless they are asked for.
const HTTP2: &str = "h2";

/// What writes secrets into its traces: what the client library of NATS says to a server when it connects.
const OUTSPOKEN: &str = "async_nats::connection";

/// Longest time a change may be made for.
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the process logs. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct LogLevel {
    configured: Arc<str>,
    filter: reload::Handle<Targets, Registry>,
    setting: watch::Sender<Setting>,
}

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// A level, or directives.
    pub directives: Arc<str>,
    /// When the configured ones come back; none if that is not settled.
    pub until: Option<Timestamp>,
    end: Option<Instant>,
}

impl LogLevel {
    /// A filter for a layer of the process's subscriber, and the way to change it.
    pub(super) fn new(configured: &str) -> Result<(reload::Layer<Targets, Registry>, Self), String> {
        let (layer, filter) = reload::Layer::new(parse(configured)?);
        let configured: Arc<str> = configured.into();
        let setting = watch::Sender::new(Setting { directives: configured.clone(), until: None, end: None });
        Ok((layer, Self { configured, filter, setting }))
    }

    /// That of the process, if it writes logs.
    pub fn of_process() -> Option<&'static Self> {
        OF_PROCESS.get()
    }

    /// Makes it that of the process.
    pub(super) fn adopt(self) {
        // A second one would belong to a subscriber that could not be set.
        drop(OF_PROCESS.set(self));
    }

    /// What the configuration says.
    pub fn configured(&self) -> &str {
        &self.configured
    }

    /// What is in force.
    pub fn setting(&self) -> Setting {
        self.setting.borrow().clone()
    }

    /// Has other directives in force, for a time if one is given. Fails with a sentence if they are none.
    pub fn set(&self, directives: &str, ttl: Option<Duration>) -> Result<(), String> {
        if ttl.is_some_and(|ttl| ttl.is_zero() || ttl > MAX_TTL) {
            return Err("ttl must be longer than zero and at most 30 days".to_owned());
        }
        let until = ttl.map(|ttl| Timestamp(Timestamp::now().0.saturating_add(micros(ttl))));
        self.apply(Setting { directives: directives.into(), until, end: ttl.map(|ttl| Instant::now() + ttl) })
    }

    /// Goes back to the configured ones.
    pub fn reset(&self) {
        // They were in force once, so they can be read.
        self.apply(Setting { directives: self.configured.clone(), until: None, end: None }).ok();
    }

    fn apply(&self, setting: Setting) -> Result<(), String> {
        let filter = parse(&setting.directives).map_err(|problem| format!("directives {problem}"))?;
        // Under the lock of the setting, so that what is said to be in force is.
        let mut gone = false;
        self.setting.send_modify(|current| {
            gone = self.filter.reload(filter).is_err();
            if !gone {
                *current = setting;
            }
        });
        if gone { Err("the process writes no logs any more".to_owned()) } else { Ok(()) }
    }

    /// Goes back to the configured ones whenever the time of others is over. Never completes; cancel-safe.
    pub async fn expire(self) {
        let mut setting = self.setting.subscribe();
        loop {
            let end = setting.borrow_and_update().end;
            let over = sleep_until_or_forever(end);
            tokio::select! {
                biased;
                changed = setting.changed() => debug_assert!(changed.is_ok(), "self holds the sender"),
                () = over => {
                    self.reset();
                    tracing::info!(log = self.configured(), "the configured log level is back");
                }
            }
        }
    }
}

/// A level, or directives of the form `target=level`, separated by commas. Fails with what is wrong, as the end of a
/// sentence.
///
/// What the library would read as a directive that matches nothing is refused: after a slip of the pen nothing would be
/// logged, and nobody would know why.
pub(super) fn parse(text: &str) -> Result<Targets, String> {
    if text.trim().is_empty() {
        return Err("must not be empty; write \"off\" for no logs".to_owned());
    }
    for directive in text.split(',').map(str::trim) {
        check(directive).map_err(|problem| format!("is {text:?}, and {problem}"))?;
    }
    let targets: Targets =
        text.replace(char::is_whitespace, "").parse().map_err(|error| format!("is {text:?}: {error}"))?;
    let is_usual = matches!(targets.default_level(), Some(LevelFilter::WARN | LevelFilter::INFO));
    let is_named = targets.iter().any(|(target, _)| target.split("::").next() == Some(HTTP2));
    let targets = if is_usual && !is_named { targets.with_target(HTTP2, LevelFilter::ERROR) } else { targets };
    let is_traced = targets.would_enable(OUTSPOKEN, &Level::TRACE);
    Ok(if is_traced { targets.with_target(OUTSPOKEN, LevelFilter::DEBUG) } else { targets })
}

fn check(directive: &str) -> Result<(), String> {
    const LEVELS: &str = "off, error, warn, info, debug, trace";
    let is_level = |text: &str| LEVELS.split(", ").any(|level| level.eq_ignore_ascii_case(text));
    match directive.split_once('=') {
        _ if directive.is_empty() => Err("there is an empty directive between its commas".to_owned()),
        None if is_level(directive) => Ok(()),
        None => Err(format!("{directive:?} is no level ({LEVELS}); for a part of the program write {directive}=debug")),
        Some((target, level)) if !is_level(level) => Err(format!("{level:?} of {target:?} is no level ({LEVELS})")),
        Some((target, _)) if is_target(target) => Ok(()),
        Some((target, _)) => {
            Err(format!("{target:?} can match nothing: a target is the path of a module, such as bowline::transport"))
        }
    }
}

/// The path of a module: names of letters, digits and underscores, with `::` between them.
fn is_target(text: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    text.split("::").all(is_name)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{Layer as _, layer::SubscriberExt as _};

    use super::*;

    #[test]
    fn what_can_match_nothing_is_refused_with_a_sentence() {
        for good in ["info", "off", "WARN", "info,bowline=debug", "bowline::transport=trace, h2=off", "tokio_util=warn"]
        {
            parse(good).unwrap_or_else(|problem| panic!("{good} {problem}"));
        }
        for (bad, why) in [
            ("", "must not be empty"),
            ("  ", "must not be empty"),
            ("debgu", "\"debgu\" is no level"),
            ("info,bowline", "write bowline=debug"),
            ("bowline=loud", "\"loud\" of \"bowline\" is no level"),
            ("bowline[x]=info", "\"bowline[x]\" can match nothing"),
            ("[{client}]=debug", "can match nothing"),
            ("bowline:transport=debug", "can match nothing"),
            ("bowline::=debug", "can match nothing"),
            ("=debug", "can match nothing"),
            ("info,,bowline=debug", "empty directive"),
            ("bowline=debug=info", "is no level"),
        ] {
            let problem = parse(bad).expect_err(bad);
            assert!(problem.contains(why), "{bad}: {problem}");
        }
    }

    #[test]
    fn what_would_write_secrets_is_never_traced() {
        for text in ["trace", "async_nats=trace", "info,async_nats::connection=trace"] {
            let enabled = |level| parse(text).unwrap().would_enable("async_nats::connection", &level);
            assert!(enabled(Level::DEBUG) && !enabled(Level::TRACE), "{text}");
            assert_eq!(parse(text).unwrap().would_enable("bowline", &Level::TRACE), text == "trace");
        }
        assert!(!parse("info").unwrap().would_enable("async_nats::connection", &Level::DEBUG));
    }

    #[test]
    fn what_a_peer_can_have_http2_say_is_left_out_unless_it_is_asked_for() {
        let warns = |text: &str| parse(text).unwrap().would_enable("h2::proto", &tracing::Level::WARN);
        for (text, written) in [
            ("info", false),
            ("warn,bowline=debug", false),
            ("info,h2=warn", true),
            ("info,h2::proto=info", true),
            ("debug", true),
        ] {
            assert_eq!(warns(text), written, "{text}");
        }
    }

    /// What a subscriber with this filter would write.
    fn logged(level: &LogLevel, layer: reload::Layer<Targets, Registry>, work: impl FnOnce(&dyn Fn() -> [bool; 2])) {
        let subscriber = tracing_subscriber::registry().with(tracing_subscriber::fmt::layer().with_filter(layer));
        let enabled = || {
            let ours = tracing::enabled!(target: "bowline::x", tracing::Level::DEBUG);
            [ours, tracing::enabled!(target: "h2", tracing::Level::DEBUG)]
        };
        tracing::subscriber::with_default(subscriber, || work(&enabled));
        assert!(level.set("info", None).is_err(), "nobody writes any more");
    }

    #[test]
    fn what_is_set_is_in_force_at_once_and_can_be_taken_back() {
        let (layer, level) = LogLevel::new("info").unwrap();
        logged(&level.clone(), layer, |enabled| {
            assert_eq!(enabled(), [false, false]);
            level.set("info,bowline=debug", None).unwrap();
            assert_eq!(enabled(), [true, false]);
            assert_eq!((&*level.setting().directives, level.setting().until), ("info,bowline=debug", None));
            level.set("bowline[x]=trace", None).unwrap_err();
            assert_eq!((enabled(), &*level.setting().directives), ([true, false], "info,bowline=debug"));
            level.set("debug", None).unwrap();
            assert_eq!(enabled(), [true, true]);
            level.reset();
            assert_eq!((enabled(), &*level.setting().directives), ([false, false], "info"));
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_for_a_time_goes_back_by_itself_and_a_later_one_has_its_own_time() {
        let (_layer, level) = LogLevel::new("info").unwrap();
        let expiring = crate::lifecycle::Tasks::default().spawn("expire", level.clone().expire());
        let second = Duration::from_secs(1);
        level.set("debug", Some(10 * second)).unwrap();
        tokio::time::sleep(6 * second).await;
        level.set("trace", Some(10 * second)).unwrap();
        tokio::time::sleep(6 * second).await;
        assert_eq!(&*level.setting().directives, "trace");
        tokio::time::sleep(5 * second).await;
        assert_eq!((&*level.setting().directives, level.setting().until), ("info", None));
        level.set("debug", Some(10 * second)).unwrap();
        level.set("warn", None).unwrap();
        tokio::time::sleep(3600 * second).await;
        assert_eq!(&*level.setting().directives, "warn", "without a time it stays");
        assert!(level.set("debug", Some(Duration::ZERO)).is_err());
        assert!(level.set("debug", Some(Duration::MAX)).is_err());
        expiring.abort();
    }
}

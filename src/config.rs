//! The whole configuration: one section for each module.
//!
//! Defaults < files < environment < flags. Whoever adds a module with settings adds a field here, a line in `problems`
//! and a section in `config.default.toml`; a test compares the three. A configuration with anything wrong in it stops
//! the start, and everything wrong is said at once.

mod layer;
mod memory;
mod print;
mod problem;
mod server;

use figment::{
    Figment,
    error::Kind,
    value::{Dict, Value},
};
use serde::{Deserialize, Serialize};

use self::layer::{Holder, Layer};
pub use self::{
    layer::{DEFAULTS, Flag, Sources},
    memory::{MemoryLimit, Share, WorstCase},
    print::Entry,
    problem::{Problem, Problems},
    server::Config as ServerConfig,
};
use crate::{admin, auth, broker, connection, drain, health, hub, registry, session, telemetry, transport};

/// Every section. Only the composition root and the commands `serve` and `config` see it whole.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[server]`: the process as a whole.
    pub server: ServerConfig,
    /// `[transport]`: sockets, TLS, HTTP/2.
    pub transport: transport::Config,
    /// `[registry]`: how many connections there may be, and when one counts as lost.
    pub registry: registry::Config,
    /// `[connection]`: what one connection may do and how it is served.
    pub connection: connection::Config,
    /// `[session]`: what outlives a connection.
    pub session: session::Config,
    /// `[topics]`: which topics may exist and what they keep.
    pub topics: hub::Config,
    /// `[broker]`: where events are kept.
    pub broker: broker::Config,
    /// `[auth]`: who may call.
    pub auth: auth::Config,
    /// `[admin]`: the port for operators.
    pub admin: admin::Config,
    /// `[telemetry]`: logs, traces, the report line.
    pub telemetry: telemetry::Config,
    /// `[health]`: how the server finds out whether it is ready.
    pub health: health::Config,
    /// `[drain]`: how the server leaves.
    pub drain: drain::Config,
}

impl Config {
    /// Everything wrong with values that can each be read, as full key and sentence.
    fn problems(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut section = |name: &str, problems: Vec<(String, String)>| {
            all.extend(problems.into_iter().map(|(key, sentence)| (format!("{name}.{key}"), sentence)));
        };
        let split = |text: String| text.split_once(' ').map(|(key, rest)| (key.to_owned(), rest.to_owned()));
        section("server", self.server.problems());
        section("transport", self.transport.validate().into_iter().filter_map(split).collect());
        section("registry", self.registry.problems());
        section("connection", self.connection.problems());
        section("session", self.session.problems());
        section("topics", self.topics.problems());
        section("broker", self.broker.problems(self.topics.dedupe_window));
        section("auth", self.auth.problems());
        section("admin", self.admin.problems());
        section("telemetry", self.telemetry.problems());
        section("health", self.health.problems());
        let short = |(index, rule): (usize, &hub::Rule)| {
            Some((format!("topics.rules[{index}].durability"), self.broker.falls_short(rule.durability)?))
        };
        all.extend(self.topics.rules.iter().enumerate().filter_map(short));
        if self.admin.enabled && self.admin.listen == self.transport.listen && self.admin.listen.port() != 0 {
            let sentence = format!("is {}, which is also transport.listen; they need a port each", self.admin.listen);
            all.push(("admin.listen".to_owned(), sentence));
        }
        if self.drain.longest() > self.transport.goaway_timeout {
            let sentence = format!(
                "and drain.grace make {}, longer than transport.goaway_timeout ({}): clients would be cut before the \
                 time they were given",
                humantime::format_duration(self.drain.longest()),
                humantime::format_duration(self.transport.goaway_timeout)
            );
            all.push(("drain.spread".to_owned(), sentence));
        }
        all.extend(self.worst_case().problem().map(|sentence| ("server.memory_limit".to_owned(), sentence)));
        if self.auth.mode.takes_certificates() && !self.transport.tls.wants_client_certificates() {
            let sentence = format!(
                "is {:?}, but transport.tls asks clients for no certificate; set transport.tls.enabled and \
                 transport.tls.client_ca_file",
                self.auth.mode.as_str()
            );
            all.push(("auth.mode".to_owned(), sentence));
        }
        let admin = self.admin.enabled.then_some(("admin.listen", self.admin.listen));
        for (key, address) in [("transport.listen", self.transport.listen)].into_iter().chain(admin) {
            if self.auth.mode == auth::Mode::Loopback && !address.ip().is_loopback() {
                let sentence = format!(
                    "is \"loopback\", but {key} is {address}: where strangers can call, believing what callers say of \
                     themselves has to be chosen in words, auth.mode = \"anonymous\""
                );
                all.push(("auth.mode".to_owned(), sentence));
            }
        }
        all
    }
}

/// A valid configuration that knows where each of its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    layers: Vec<Layer>,
}

/// Reads, merges and checks. Errors with everything that is wrong.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let (layers, problems) = layer::layers(sources);
    let mut reading = Reading { layers, problems, reported: Vec::new() };
    let config = reading.config();
    let Reading { layers, mut problems, reported } = reading;
    let loaded = Loaded { config: config.unwrap_or_default(), layers };
    for (key, sentence) in loaded.config.problems() {
        // What could not be read was replaced by its default; a sentence about that would only confuse.
        if !reported.contains(&key) {
            let path: Vec<String> = key.replace('[', ".").replace(']', "").split('.').map(str::to_owned).collect();
            problems.push(Problem::at(loaded.source(&path), format!("{key} {sentence}")));
        }
    }
    if problems.is_empty() { Ok(loaded) } else { Err(Problems(problems)) }
}

impl Loaded {
    fn merged(&self) -> Dict {
        Figment::extract(&figment(&self.layers)).unwrap_or_default()
    }
}

fn figment(layers: &[Layer]) -> Figment {
    layers.iter().cloned().fold(Figment::new(), Figment::merge)
}

/// Reading on after an error: what is wrong is noted and taken out of its layer, until the rest can be read.
struct Reading {
    layers: Vec<Layer>,
    problems: Vec<Problem>,
    /// Keys that something was said about.
    reported: Vec<String>,
}

impl Reading {
    fn config(&mut self) -> Option<Config> {
        loop {
            // Lossy: the text of variables and flags becomes a number where a number is wanted, and nowhere else.
            let error = match figment(&self.layers).extract_lossy::<Config>() {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let repaired = match &error.kind {
                Kind::UnknownField(_, siblings) => self.unknown(&error.path, siblings),
                kind => self.bad(&error.path, kind),
            };
            if !repaired {
                self.problems.push(Problem::at("configuration", error.to_string()));
                return None;
            }
        }
    }

    /// A key that does not exist is said of every source that has it, even of those that others cover.
    fn unknown(&mut self, path: &[String], siblings: &[&str]) -> bool {
        let defaults = self.defaults();
        let mut found = false;
        for layer in self.layers.iter_mut().filter(|layer| !layer.is_default()) {
            let Some(value) = layer::get(&layer.values, path) else { continue };
            found = true;
            // Of a section that does not exist, the keys that were meant to be set are named.
            let keys = match value {
                Value::Dict(_, inner) if !inner.is_empty() => problem::flatten(inner, path),
                _ => vec![path.to_vec()],
            };
            for key in keys {
                let siblings = if key.len() == path.len() { siblings } else { &[] };
                let meant = problem::meant(&key, siblings, &defaults).map(|name| layer.spelling(&name));
                let hint = meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
                let sentence = format!("there is no key {}{hint}", problem::key(&key));
                self.problems.push(Problem::at(layer.place(&key), sentence));
            }
            remove(layer, path);
        }
        found
    }

    /// A value that cannot be read is said of the source it came from.
    fn bad(&mut self, path: &[String], kind: &Kind) -> bool {
        let defaults = self.defaults();
        let top = self.layers.iter_mut().rev().find(|layer| layer::get(&layer.values, path).is_some());
        let Some(layer) = top.filter(|layer| !layer.is_default()) else { return false };
        let name = problem::key(path);
        let subject = match kind {
            Kind::MissingField(field) => format!("{name}.{field}"),
            _ => name.clone(),
        };
        if !self.reported.contains(&subject) {
            self.problems.push(Problem::at(layer.place(path), problem::bad_value(&name, kind)));
            self.reported.push(subject);
        }
        // An item of a list gives way to one that is known to be good, so that the numbers of the others stay.
        let template = path.split_last().and_then(|(_, list)| match layer::get(&defaults, list)? {
            Value::Array(_, items) => items.first().cloned(),
            _ => None,
        });
        match (layer::holder(&mut layer.values, path), path.last().map(|last| last.parse::<usize>()), template) {
            (Some(Holder::List(items)), Some(Ok(index)), Some(template)) => {
                items.get_mut(index).map(|item| *item = template).is_some()
            }
            _ => remove(layer, path),
        }
    }

    fn defaults(&self) -> Dict {
        self.layers.first().map(|layer| layer.values.clone()).unwrap_or_default()
    }
}

fn remove(layer: &mut Layer, path: &[String]) -> bool {
    match (layer::holder(&mut layer.values, path), path.last()) {
        (Some(Holder::Table(dict)), Some(name)) => dict.remove(name).is_some(),
        (Some(Holder::List(items)), Some(_)) => !std::mem::take(items).is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;

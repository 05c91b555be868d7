//! The merged configuration, each value with its source.

use std::fmt::Write as _;

use figment::value::{Dict, Value as Raw};
use serde_json::json;
use toml::Value;

use super::{
    Loaded,
    layer::{self, KeyPath},
    problem,
};

/// A key, its value and where that came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Such as `registry.max_connections`.
    pub key: String,
    /// The value as it is used; secrets are redacted.
    pub value: Value,
    /// `default`, a file with the line, an environment variable or a flag.
    pub source: String,
}

impl Loaded {
    /// Every key, grouped by section.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        // Every section is a table of text, numbers, truth values and lists, which TOML can always write.
        if let Ok(Value::Table(sections)) = Value::try_from(&self.config) {
            let merged = self.merged();
            self.walk(&sections, &merged, &mut Vec::new(), &mut entries);
        }
        entries
    }

    fn walk(&self, table: &toml::Table, merged: &Dict, path: &mut Vec<String>, entries: &mut Vec<Entry>) {
        // Keys of a section before its sub-sections, or TOML would take them for theirs.
        let (tables, values): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
        for (name, value) in values.into_iter().chain(tables) {
            path.push(name.clone());
            if let Value::Table(inner) = value {
                self.walk(inner, merged, path, entries);
            } else {
                let value = as_written(value, layer::get(merged, path));
                entries.push(Entry { key: problem::key(path), value, source: self.source(path) });
            }
            path.pop();
        }
    }

    pub(super) fn source(&self, path: &KeyPath) -> String {
        let holder = self.layers.iter().rev().find(|layer| layer::get(&layer.values, path).is_some());
        holder.map_or_else(|| "default".to_owned(), |layer| layer.place(path))
    }

    /// As TOML that can be read again, with the source of each value as a comment behind it.
    pub fn to_toml(&self) -> String {
        let (mut out, mut section) = (String::new(), "");
        let entries = self.entries();
        for Entry { key, value, source } in &entries {
            let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
            if table != section {
                let gap = if out.is_empty() { "" } else { "\n" };
                out.extend([gap, "[", table, "]\n"]);
                section = table;
            }
            let line = format!("{name} = {value}");
            // Writing to a String does not fail.
            writeln!(out, "{line:<44} # {source}").ok();
        }
        out
    }

    /// As a JSON object: key to value and source.
    pub fn to_json(&self) -> serde_json::Value {
        let entries = self.entries().into_iter();
        entries.map(|entry| (entry.key, json!({ "value": entry.value, "source": entry.source }))).collect()
    }
}

/// A value as its source has it, where that says the same: a size read as `65535` and written by the library becomes
/// `64.0 KiB`, which is another one. A redacted value stays so.
fn as_written(used: &Value, raw: Option<&Raw>) -> Value {
    match (used, raw) {
        (Value::String(used), Some(Raw::String(_, raw))) if !used.starts_with("<redacted") => raw.clone().into(),
        (Value::String(used), Some(Raw::Num(_, number))) if !used.starts_with("<redacted") => {
            let number = number.to_u128().and_then(|number| i64::try_from(number).ok());
            number.map_or_else(|| used.clone().into(), Value::Integer)
        }
        (Value::Array(used), Some(Raw::Array(_, raw))) => {
            Value::Array(used.iter().zip(raw).map(|(used, raw)| as_written(used, Some(raw))).collect())
        }
        (Value::Table(used), Some(Raw::Dict(_, raw))) => {
            let pairs = used.iter().map(|(name, used)| (name.clone(), as_written(used, raw.get(name))));
            Value::Table(pairs.collect())
        }
        _ => used.clone(),
    }
}

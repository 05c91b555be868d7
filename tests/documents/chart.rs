//! The chart's values, read from their comments: as a strict schema, and as the table of the chart's README. What stands
//! below `config` is read from `config.default.toml`, so that the chart takes whatever the server takes, and nothing else.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

/// A key of `values.yaml`.
struct Value {
    path: Vec<String>,
    section: String,
    comment: String,
    /// What its `@schema` line adds.
    schema: Map<String, Json>,
    /// None: it has keys of its own.
    default: Option<Json>,
}

impl Value {
    fn is_referred(&self) -> bool {
        self.schema.contains_key("$ref")
    }
}

/// Every key, in the order of the file.
fn values(yaml: &str) -> Vec<Value> {
    let mut values = Vec::new();
    let (mut section, mut comment, mut schema, mut path) = (String::new(), String::new(), Map::new(), Vec::new());
    let mut lines = yaml.lines();
    while let Some(line) = lines.next() {
        let text = line.trim_start();
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut section);
        } else if let Some(json) = text.strip_prefix("# @schema ") {
            schema = serde_json::from_str(json).unwrap_or_else(|error| panic!("{line}: {error}"));
        } else if let Some(more) = text.strip_prefix("# ") {
            comment = format!("{comment} {more}").trim().to_owned();
        } else if let Some((key, rest)) = text.split_once(':') {
            path.truncate((line.len() - text.len()) / 2);
            path.push(key.to_owned());
            let (comment, schema) = (std::mem::take(&mut comment), std::mem::take(&mut schema));
            let default = (!rest.is_empty()).then(|| json_of(rest, &mut lines));
            values.push(Value { path: path.clone(), section: section.clone(), comment, schema, default });
        } else {
            assert!(text.is_empty(), "values.yaml has a line of another form: {line}");
            comment.clear();
        }
    }
    values
}

/// A value in JSON, which may go on in the lines that follow.
fn json_of<'t>(start: &str, lines: &mut impl Iterator<Item = &'t str>) -> Json {
    let mut text = start.to_owned();
    loop {
        match serde_json::from_str(&text) {
            Ok(json) => return json,
            Err(error) if error.is_eof() => text += lines.next().expect("the value ends"),
            Err(error) => panic!("a value of values.yaml is not JSON: {text}: {error}"),
        }
    }
}

/// `values.schema.json`.
pub(super) fn schema(yaml: &str, defaults: &str) -> String {
    let values = values(yaml);
    let mut root = object();
    for value in &values {
        let above = |ancestor: &&Value| ancestor.is_referred() && value.path.starts_with(&ancestor.path);
        if values.iter().find(above).is_some_and(|ancestor| ancestor.path.len() < value.path.len()) {
            continue;
        }
        let (name, parents) = value.path.split_last().expect("a path has a name");
        let parent = parents.iter().fold(&mut root, |node, name| &mut node["properties"][name]);
        let property = property(value);
        let may_be_absent = property["type"].as_array().is_some_and(|types| types.contains(&json!("null")));
        parent["properties"][name] = property;
        if !may_be_absent {
            parent["required"].as_array_mut().expect("a list").push(json!(name));
        }
    }
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Values of the chart bowline");
    root["$comment"] = json!("Rendered from values.yaml and config.default.toml by tests/documents.rs: do not edit.");
    root["$defs"] = json!({
        "config": config(defaults, &required_settings(&values)),
        "named": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "minLength": 1}}},
        "goDuration": {"type": "string", "pattern": "^([0-9]+(h|m|s))+$"},
        "promDuration": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"},
    });
    format!("{root:#}\n")
}

/// An object that takes no other keys than its own.
fn object() -> Json {
    json!({"type": "object", "additionalProperties": false, "properties": {}, "required": []})
}

fn property(value: &Value) -> Json {
    let mut property = match &value.default {
        _ if value.is_referred() => json!({}),
        None => object(),
        Some(default) => json!({"default": default, "type": kind(default)}),
    };
    if !value.comment.is_empty() {
        property["description"] = json!(value.comment);
    }
    property.as_object_mut().expect("an object").extend(value.schema.clone());
    assert_ne!(property["type"], "null", "{} needs a @schema line with its type", value.path.join("."));
    property
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_f64() => "number",
        Json::Number(_) => "integer",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

/// The settings that `values.yaml` has a value for: the templates count on them.
fn required_settings(values: &[Value]) -> Vec<&[String]> {
    let settings = values.iter().filter(|value| value.path[0] == "config" && value.path.len() > 1);
    settings.map(|value| &value.path[1..]).collect()
}

/// The settings of the server.
fn config(defaults: &str, required: &[&[String]]) -> Json {
    let table: toml::Table = defaults.parse().expect("config.default.toml is TOML");
    let comments = comments(defaults);
    let about = |path: &[String]| comments.iter().find(|(key, _)| *key == path.join(".")).map(|(_, text)| text.clone());
    settings(&table, &mut Vec::new(), required, &about)
}

fn settings(
    table: &toml::Table,
    path: &mut Vec<String>,
    required: &[&[String]],
    about: &dyn Fn(&[String]) -> Option<String>,
) -> Json {
    let mut node = object();
    for (name, value) in table {
        path.push(name.clone());
        let mut setting = match value {
            toml::Value::Table(table) => settings(table, path, required, about),
            value => setting(&path.join("."), value),
        };
        if let Some(text) = about(path) {
            setting["description"] = json!(text);
        }
        if required.contains(&path.as_slice()) {
            node["required"].as_array_mut().expect("a list").push(json!(name));
        }
        node["properties"][name] = setting;
        path.pop();
    }
    node
}

/// Comments of `config.default.toml`, by the key they stand above.
fn comments(defaults: &str) -> Vec<(String, String)> {
    let (mut section, mut comment, mut all) = (String::new(), String::new(), Vec::new());
    for line in defaults.lines() {
        if let Some(more) = line.strip_prefix("# ") {
            comment = format!("{comment} {}", more.trim()).trim().to_owned();
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, _)) = line.split_once(" = ") {
            all.push((format!("{section}.{key}"), std::mem::take(&mut comment)));
        } else {
            comment.clear();
        }
    }
    all
}

const DURATION: &str = "^([0-9]+ ?(ms|s|m|min|h|day|days) ?)+$";
const SIZE: &str = "^[0-9]+ ?([KMGT]i?)?B$";

fn setting(key: &str, default: &toml::Value) -> Json {
    let units = |text: &str| text.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    match default {
        toml::Value::Array(_) if key == "topics.rules" => json!({"type": "array", "items": rule()}),
        toml::Value::Array(_) => json!({"type": "array"}),
        toml::Value::Boolean(_) => json!({"type": "boolean"}),
        toml::Value::Integer(_) => json!({"type": "integer", "minimum": 0}),
        toml::Value::Float(_) => json!({"type": "number", "minimum": 0}),
        toml::Value::String(text) if text.starts_with(|c: char| c.is_ascii_digit()) => match units(text).as_str() {
            "ms" | "s" | "m" | "h" | "day" => json!({"type": "string", "pattern": DURATION}),
            "B" | "KiB" | "MiB" | "GiB" => json!({"type": ["string", "integer"], "pattern": SIZE, "minimum": 0}),
            _ => json!({"type": "string"}),
        },
        _ => json!({"type": "string"}),
    }
}

/// A rule of `topics.rules`; that it has the keys the server knows is tested beside this.
fn rule() -> Json {
    let (whole, duration) = (json!({"type": "integer", "minimum": 0}), json!({"type": "string", "pattern": DURATION}));
    let part = |properties: Json| json!({"type": "object", "additionalProperties": false, "properties": properties});
    let policies = json!({"enum": ["lag", "drop_oldest", "conflate", "disconnect"]});
    let mut rule = part(json!({
        "pattern": {"type": "string", "minLength": 1},
        "class": {"enum": ["log", "state", "signal", "echo"]},
        "durability": {"enum": ["accepted", "replicated", "synced"]},
        "history": part(json!({
            "max_events": whole, "max_age": duration,
            "max_bytes": {"type": ["string", "integer"], "pattern": SIZE, "minimum": 0},
        })),
        "delivery": part(json!({
            "policy": policies, "allow": {"type": "array", "items": policies}, "queue_size": whole, "max_rate_hz": whole,
        })),
        "max_keys": whole,
        "max_lag": whole,
    }));
    rule["required"] = json!(["pattern"]);
    rule
}

/// The keys of a rule, and of its parts, that the schema knows.
pub(super) fn rule_keys(part: &str) -> Vec<String> {
    let rule = rule();
    let properties = if part.is_empty() { &rule["properties"] } else { &rule["properties"][part]["properties"] };
    properties.as_object().expect("an object").keys().cloned().collect()
}

const BEGIN: &str = "<!-- Rendered from values.yaml by tests/documents.rs: do not edit. -->\n";
const END: &str = "<!-- End of what is rendered. -->\n";

/// The chart's README with its table of values renewed.
pub(super) fn readme(old: &str, yaml: &str) -> String {
    let (before, rest) = old.split_once(BEGIN).expect("the README has a place for the table");
    let (_, after) = rest.split_once(END).expect("the place has an end");
    let (mut text, mut section) = (format!("{before}{BEGIN}"), String::new());
    for value in values(yaml) {
        let Some(default) = &value.default else { continue };
        if section != value.section {
            section.clone_from(&value.section);
            // Writing to a String does not fail.
            writeln!(text, "\n### {section}\n\n| value | default | |\n|---|---|---|").ok();
        }
        let comment = value.comment.replace('|', "\\|");
        writeln!(text, "| `{}` | `{default}` | {} |", value.path.join("."), comment).ok();
    }
    text + "\n" + END + after
}

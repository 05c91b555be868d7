//! Where values come from: the defaults, files, environment variables and flags, each a layer over the ones before.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};
use toml_edit::{ImDocument, Item, TableLike};

use super::problem::Problem;

/// The documented defaults: the reference of all keys, compiled in.
pub const DEFAULTS: &str = include_str!("../../config.default.toml");
/// What the names of our environment variables begin with. Two underscores, because Kubernetes invents variables like
/// `BOWLINE_PORT` for a service of our name.
const PREFIX: &str = "BOWLINE__";

/// A key, as its segments.
pub(super) type KeyPath = [String];

/// Everything configuration is read from, later ones over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files, in order. One that is missing is an error.
    pub files: Vec<PathBuf>,
    /// The environment; variables without our prefix are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags, in order.
    pub flags: Vec<Flag>,
}

/// A flag that sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// As it was written, such as `--listen`.
    pub name: String,
    /// The key it sets, such as `transport.listen`.
    pub key: String,
    /// The value as text.
    pub value: String,
}

/// One source and its values. The values are as they were read, secrets among them, so it does not print them.
#[derive(Clone)]
pub(super) struct Layer {
    origin: Origin,
    pub(super) values: Dict,
    /// Lines of keys, for files.
    lines: BTreeMap<Vec<String>, usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl Layer {
    /// The defaults.
    pub(super) fn defaults() -> Result<Self, Problem> {
        Self::parse(Origin::Default, Path::new("config.default.toml"), DEFAULTS)
    }

    fn file(path: &Path) -> Result<Self, Problem> {
        let text = fs::read_to_string(path)
            .map_err(|error| Problem::at(path.display(), format!("the file cannot be read: {error}")))?;
        Self::parse(Origin::File(path.to_owned()), path, &text)
    }

    fn parse(origin: Origin, path: &Path, text: &str) -> Result<Self, Problem> {
        // Only the message and the line: the library's own text repeats the line, and it may hold a secret.
        let document = ImDocument::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let message = error.message().replace('\n', ", ");
            Problem::at(format_args!("{}:{line}", path.display()), format!("this is no TOML: {message}"))
        })?;
        let values = toml::from_str(text).map_err(|error: toml::de::Error| {
            Problem::at(path.display(), format!("this is no TOML: {}", error.message()))
        })?;
        let mut lines = BTreeMap::new();
        note_lines(document.as_table(), text, &mut Vec::new(), &mut lines);
        Ok(Self { origin, values, lines })
    }

    fn value(origin: Origin, path: &KeyPath, text: &str, defaults: &Dict) -> Self {
        let value = read(text, get(defaults, path));
        let values = path.iter().rev().fold(None, |inner: Option<Value>, segment| {
            let value = inner.unwrap_or_else(|| value.clone());
            Some(Value::from(Dict::from([(segment.clone(), value)])))
        });
        let values = values.and_then(Value::into_dict).unwrap_or_default();
        Self { origin, values, lines: BTreeMap::new() }
    }

    pub(super) fn is_default(&self) -> bool {
        self.origin == Origin::Default
    }

    /// The place of a key in this source, for people.
    pub(super) fn place(&self, path: &KeyPath) -> String {
        match &self.origin {
            Origin::Default => "default".to_owned(),
            Origin::File(file) => {
                let known = (1..=path.len()).rev().find_map(|length| self.lines.get(path.get(..length)?));
                known.map_or_else(|| file.display().to_string(), |line| format!("{}:{line}", file.display()))
            }
            Origin::Variable(name) => format!("environment variable {name}"),
            Origin::Flag(name) => name.clone(),
        }
    }

    /// How a key is written in this kind of source.
    pub(super) fn spelling(&self, key: &str) -> String {
        match &self.origin {
            Origin::Variable(_) => format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__")),
            Origin::Default | Origin::File(_) | Origin::Flag(_) => key.to_owned(),
        }
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place(&[]))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// All layers, the defaults first, and what could not be read.
pub(super) fn layers(sources: &Sources) -> (Vec<Layer>, Vec<Problem>) {
    let (mut layers, mut problems) = (Vec::new(), Vec::new());
    let mut take = |layer: Result<Layer, Problem>| match layer {
        Ok(layer) => layers.push(layer),
        Err(problem) => problems.push(problem),
    };
    let defaults = Layer::defaults();
    let known = defaults.as_ref().map(|layer| layer.values.clone()).unwrap_or_default();
    take(defaults);
    sources.files.iter().for_each(|file| take(Layer::file(file)));
    variables(&sources.environment, &known).for_each(&mut take);
    for flag in &sources.flags {
        let path = split(&flag.key, ".");
        take(Ok(Layer::value(Origin::Flag(flag.name.clone()), &path, &flag.value, &known)));
    }
    (layers, problems)
}

/// One layer for each of our variables, so that each knows its name.
fn variables<'a>(
    environment: &'a [(OsString, OsString)],
    known: &'a Dict,
) -> impl Iterator<Item = Result<Layer, Problem>> + 'a {
    environment.iter().filter_map(move |(name, value)| {
        let name = name.to_str()?;
        let path = split(&name.strip_prefix(PREFIX)?.to_ascii_lowercase(), "__");
        let layer = value
            .to_str()
            .map(|value| Layer::value(Origin::Variable(name.to_owned()), &path, value, known))
            .ok_or_else(|| Problem::at(format_args!("environment variable {name}"), "the value is not UTF-8".into()));
        Some(layer)
    })
}

fn split(key: &str, separator: &str) -> Vec<String> {
    key.split(separator).map(str::to_owned).collect()
}

/// A value from a source that only has text. It stays text, and is taken for a number or a truth value only where the
/// key wants one: guessing would make a number of a name that happens to be all digits. Where the key has a list, it is
/// a TOML array or items separated by commas.
fn read(text: &str, default: Option<&Value>) -> Value {
    if !matches!(default, Some(Value::Array(..))) {
        return Value::from(text);
    }
    let trimmed = text.trim();
    if trimmed.starts_with('[') {
        let parsed = toml::from_str::<Dict>(&format!("list = {trimmed}")).ok();
        return parsed.and_then(|mut dict| dict.remove("list")).unwrap_or_else(|| Value::from(text));
    }
    let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
    Value::from(items.map(Value::from).collect::<Vec<_>>())
}

fn note_lines(table: &dyn TableLike, text: &str, path: &mut Vec<String>, lines: &mut BTreeMap<Vec<String>, usize>) {
    for (name, item) in table.iter() {
        path.push(name.to_owned());
        let span = table.get_key_value(name).and_then(|(key, item)| key.span().or_else(|| item.span()));
        if let Some(span) = span {
            lines.insert(path.clone(), line_of(text, span.start));
        }
        if let Item::ArrayOfTables(tables) = item {
            for (index, table) in tables.iter().enumerate() {
                path.push(index.to_string());
                if let Some(span) = table.span() {
                    lines.insert(path.clone(), line_of(text, span.start));
                }
                note_lines(table, text, path, lines);
                path.pop();
            }
        } else if let Some(inner) = item.as_table_like() {
            note_lines(inner, text, path, lines);
        }
        path.pop();
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

/// The value at a key; segments of lists are numbers.
pub(super) fn get<'a>(values: &'a Dict, path: &KeyPath) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(values.get(first)?, |value, segment| match value {
        Value::Dict(_, dict) => dict.get(segment),
        Value::Array(_, items) => items.get(segment.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The place that holds the last segment of a key.
pub(super) enum Holder<'a> {
    Table(&'a mut Dict),
    List(&'a mut Vec<Value>),
}

/// Finds what holds the last segment of `path`.
pub(super) fn holder<'a>(values: &'a mut Dict, path: &KeyPath) -> Option<Holder<'a>> {
    let (_, parents) = path.split_last()?;
    parents.iter().try_fold(Holder::Table(values), |holder, segment| {
        let value = match holder {
            Holder::Table(dict) => dict.get_mut(segment)?,
            Holder::List(items) => items.get_mut(segment.parse::<usize>().ok()?)?,
        };
        match value {
            Value::Dict(_, dict) => Some(Holder::Table(dict)),
            Value::Array(_, items) => Some(Holder::List(items)),
            _ => None,
        }
    })
}

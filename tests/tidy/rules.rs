//! Rules that concern one file at a time.

use crate::source::Source;

/// Lines of a file, inline tests apart: what is aimed at, and what fails.
pub const FILE_LINES: (usize, usize) = (300, 400);
/// Lines of a function: what is aimed at, and what fails.
pub const FUNCTION_LINES: (usize, usize) = (40, 60);

/// Words a name must not have: they say that something is there, not what it does.
const EMPTY_WORDS: &[&str] = &["Manager", "Helper", "Util", "Utils", "Data", "Info"];

/// Files over the ceiling. Tests in a file of their own do not count, as those inside a file do not.
pub fn long_files(sources: &[Source]) -> Vec<String> {
    files_over(sources, FILE_LINES.1)
}

/// Files longer than `limit`.
pub fn files_over(sources: &[Source], limit: usize) -> Vec<String> {
    let long = sources.iter().filter(|s| s.lines() > limit && !s.is_test());
    long.map(|s| format!("{}: {} lines, {limit} are allowed", s.path, s.lines())).collect()
}

/// Functions over the ceiling.
pub fn long_functions(sources: &[Source]) -> Vec<String> {
    functions_over(sources, FUNCTION_LINES.1)
}

/// Functions longer than `limit`.
pub fn functions_over(sources: &[Source], limit: usize) -> Vec<String> {
    let all = sources.iter().flat_map(Source::functions);
    let long = all.filter(|(.., lines)| *lines > limit);
    long.map(|(name, place, lines)| format!("{place}: fn {name} has {lines} lines, {limit} are allowed")).collect()
}

/// Files that do not begin by saying what they are; of `foo/tests.rs` the name says it.
pub fn silent_files(sources: &[Source]) -> Vec<String> {
    let silent = sources.iter().filter(|s| !s.text.starts_with("//!") && !s.path.ends_with("/tests.rs"));
    silent.map(|s| format!("{}: does not begin with //!", s.path)).collect()
}

/// `mod.rs` beside `foo.rs`: two ways to say the same.
pub fn mod_files(sources: &[Source]) -> Vec<String> {
    let named_mod = sources.iter().filter(|s| s.path.ends_with("/mod.rs"));
    named_mod.map(|s| format!("{}: is to be called after its folder", s.path)).collect()
}

/// A failed gRPC status built anywhere but in `error`. Turning a `Failure` into one, with `into` or `Status::from`, is
/// right.
pub fn built_statuses(sources: &[Source]) -> Vec<String> {
    let elsewhere = sources.iter().filter(|s| s.module()[0] != "error");
    elsewhere
        .flat_map(|source| {
            let places = source.words("Status::").into_iter().filter(|&at| {
                let name: String =
                    source.code[at + 8..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let call = source.code[at + 8 + name.len()..].starts_with('(');
                let constructor =
                    name.starts_with(|c: char| c.is_ascii_lowercase()) && !matches!(name.as_str(), "from" | "ok");
                constructor && call && names_tonic_status(source, at)
            });
            places.map(|at| format!("{}: builds a Status; make a Failure and convert it", source.place(at)))
        })
        .collect()
}

/// Whether `Status` at this place is tonic's: written out, or imported.
fn names_tonic_status(source: &Source, at: usize) -> bool {
    if source.code[..at].ends_with("::") {
        return source.code[..at].ends_with("tonic::");
    }
    source.code.split(';').map(str::trim_start).any(|item| {
        item.rfind("use tonic::")
            .is_some_and(|i| item[i..].split(|c: char| !c.is_alphanumeric()).any(|w| w == "Status"))
    })
}

/// Who may spawn: the tracker itself, and the client's one worker, whose parent is the program that uses the client.
const SPAWNERS: &[&str] = &["src/lifecycle.rs", "src/client/worker.rs"];

/// Tasks that nobody waits for.
pub fn detached_tasks(sources: &[Source]) -> Vec<String> {
    let elsewhere = sources.iter().filter(|s| !SPAWNERS.contains(&s.path.as_str()));
    elsewhere
        .flat_map(|source| {
            let calls = ["tokio::spawn", "task::spawn", "Handle::current().spawn"];
            let places = calls.into_iter().flat_map(|call| {
                let whole =
                    |at: &usize| !source.code[at + call.len()..].starts_with(|c: char| c == '_' || c.is_alphanumeric());
                source.words(call).into_iter().filter(whole).collect::<Vec<_>>()
            });
            places.map(|at| format!("{}: spawns without lifecycle::Tasks", source.place(at))).collect::<Vec<_>>()
        })
        .collect()
}

/// Names that say nothing.
pub fn empty_names(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let stem = source.module().last().map_or("", |m| m).to_owned();
        if matches!(stem.as_str(), "util" | "utils" | "helper" | "helpers" | "common" | "misc" | "manager") {
            found.push(format!("{}: the file's name does not say what is in it", source.path));
        }
        for keyword in ["struct ", "enum ", "trait ", "type "] {
            for at in source.words(keyword) {
                // An indented `type` belongs to a trait, whose author named it.
                if keyword == "type " && source.code[..at].trim_end_matches("pub ").ends_with(' ') {
                    continue;
                }
                let rest = &source.code[at + keyword.len()..];
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                if let Some(word) = camel_words(&name).into_iter().find(|w| EMPTY_WORDS.contains(&w.as_str())) {
                    found.push(format!("{}: {name}: `{word}` says nothing", source.place(at)));
                }
            }
        }
    }
    found
}

fn camel_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in name.chars() {
        match words.last_mut() {
            Some(word) if !c.is_uppercase() => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    words
}

/// Packages that stand in a lock file more than once though they must not.
pub fn doubled_packages(lock: &str) -> Vec<String> {
    let count = |name: &str| lock.lines().filter(|line| *line == format!("name = \"{name}\"")).count();
    let once = ["tonic", "prost", "rustls", "hyper", "h2", "aws-lc-rs"];
    once.into_iter().filter(|name| count(name) != 1).map(|name| format!("{name}: {} versions", count(name))).collect()
}

/// TLS providers and bindings besides aws-lc-rs, in the output of `cargo tree --prefix none`.
pub fn other_tls(tree: &str) -> Vec<String> {
    let banned = ["ring", "openssl", "openssl-sys", "native-tls", "boring"];
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| banned.contains(name)).map(|name| format!("{name} is in the tree")).collect()
}

/// Links of a document that lead to no file. `exists` is asked about paths relative to the document.
pub fn dead_links(document: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let targets = document.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.map(|t| t.split('#').next().unwrap_or(t)).filter(|t| !t.is_empty() && !t.contains("://"));
    files.filter(|file| !exists(file)).map(|file| format!("a link leads to {file}, which is not there")).collect()
}

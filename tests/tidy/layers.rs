//! Who may import whom, as tables, and the check that reads them.

use crate::source::Source;

/// Modules from the lowest to the highest. A module may use itself and those above it in this list, which are lower in
/// the house; never those below.
const ORDER: &[(&str, &[&str])] = &[
    ("words", &["types", "error", "proto", "planted"]),
    ("mechanisms", &["lifecycle", "telemetry", "health"]),
    ("core", &["registry", "log", "broker", "hub", "bridge", "session", "drain", "canary"]),
    ("edges", &["auth", "transport", "connection", "service", "admin"]),
    ("the whole", &["config", "app"]),
];

/// Modules beside the order: what they may use, and nothing else.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("checker", &[]),
    ("witness", &["checker", "client"]),
    ("client", &["types", "error", "proto"]),
    ("cli", &["types", "error", "proto", "client"]),
    ("cli::serve", &["types", "error", "proto", "client", "cli", "config", "app", "telemetry", "lifecycle"]),
    ("cli::config", &["types", "error", "proto", "client", "cli", "config", "app", "telemetry"]),
    ("cli::check", &["checker"]),
    ("cli::doctor", &["types", "cli", "config", "broker"]),
    // Ctrl-C is the same signal for a client as for the server.
    ("cli::interrupt", &["lifecycle"]),
    ("main", &["cli", "app", "config", "telemetry", "lifecycle"]),
];

/// Uses the order would forbid, and why they are right.
const ALLOWED: &[(&str, &str)] = &[
    // Shows the merged configuration, at `/config`.
    ("admin", "config"),
];

/// Uses the order would allow, and that would mix two things that change for different reasons.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("broker", "registry", "a broker never sees a connection"),
    ("log", "registry", "a log never sees a connection"),
    ("hub", "registry", "the hub wakes readers, whoever they are"),
    ("auth", "log", "auth never sees topics' contents"),
    ("auth", "broker", "auth never sees topics' contents"),
    ("auth", "hub", "auth never sees topics' contents"),
    ("auth", "session", "auth never sees topics' contents"),
    ("transport", "registry", "transport never sees what it carries"),
    ("transport", "log", "transport never sees what it carries"),
    ("transport", "broker", "transport never sees what it carries"),
    ("transport", "hub", "transport never sees what it carries"),
    ("transport", "session", "transport never sees what it carries"),
    ("connection", "transport", "a connection never sees sockets or TLS"),
    ("service", "transport", "a service never sees sockets or TLS"),
    ("admin", "transport", "the admin port is not a gRPC transport"),
    ("admin", "service", "the admin port is not a gRPC service"),
];

/// Who may name generated types: the conversions, the edges that speak frames, and the programs on the other side.
const SPEAKS_PROTO: &[&str] = &["proto", "connection", "service", "client", "cli"];

/// Crates that a part of the house must not know, with the part's modules.
const FOREIGN: &[(&[&str], &[&str])] = &[
    // Core knows no sockets, no TLS, no HTTP.
    (
        &["registry", "log", "broker", "hub", "bridge", "session", "drain", "canary"],
        &["tokio::net", "rustls", "tokio_rustls", "hyper", "hyper_util", "h2", "http", "axum", "tonic", "socket2"],
    ),
    // A connection knows HTTP only as the body it answers with.
    (&["connection"], &["tokio::net", "rustls", "tokio_rustls", "hyper", "hyper_util", "h2", "socket2"]),
    // The words and mechanisms know no server.
    (&["types", "error", "lifecycle", "telemetry"], &["tokio::net", "rustls", "hyper", "h2", "axum"]),
    // Only the admin port is plain HTTP.
    (&["client", "cli", "service", "transport", "app"], &["axum"]),
];

/// Every use of a module that the tables do not allow.
pub fn upward_imports(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|s| s.path != "src/lib.rs") {
        for path in source.crate_paths() {
            let Some(used) = path.first().filter(|used| is_module(used)) else { continue };
            if let Err(why) = may_use(&source.module(), used) {
                found.push(format!("{}: uses {}: {why}", source.path, path.join("::")));
            }
        }
    }
    found
}

/// Files of `src/` that belong to no row of the tables: a new module has to be given its place.
pub fn homeless_modules(sources: &[Source]) -> Vec<String> {
    let known = |s: &&Source| s.path == "src/lib.rs" || s.path == "src/main.rs" || is_module(s.module()[0]);
    sources.iter().filter(|s| !known(s)).map(|s| format!("{}: has no layer", s.path)).collect()
}

/// Mentions of generated types by those who may not.
pub fn generated_types(sources: &[Source]) -> Vec<String> {
    let outsiders = sources.iter().filter(|s| !SPEAKS_PROTO.contains(&s.module()[0]));
    outsiders
        .flat_map(|source| {
            let generated = |p: &[String]| p.len() > 1 && p[0] == "proto" && matches!(&*p[1], "v1" | "health");
            let paths = source.crate_paths().into_iter().filter(move |p| generated(p));
            paths.map(|p| format!("{}: names the generated {}", source.path, p.join("::")))
        })
        .collect()
}

/// Mentions of the whole configuration by those who should know their own section only.
pub fn whole_configuration(sources: &[Source]) -> Vec<String> {
    let may = |s: &Source| match s.module()[..] {
        ["cli", inner, ..] => matches!(inner, "serve" | "config"),
        [top, ..] => matches!(top, "app" | "main" | "admin" | "config"),
        [] => false,
    };
    let outsiders = sources.iter().filter(|s| !may(s));
    outsiders
        .flat_map(|source| {
            let paths = source.crate_paths().into_iter().filter(|p| p.len() > 1 && p[..2] == ["config", "Config"]);
            paths.map(|_| format!("{}: sees the whole config::Config", source.path))
        })
        .collect()
}

/// Mentions of crates that a part of the house must not know.
pub fn foreign_crates(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for (modules, banned) in FOREIGN {
        for source in sources.iter().filter(|s| modules.contains(&s.module()[0])) {
            for name in *banned {
                for at in source.words(&format!("{name}::")) {
                    // The end of a path of ours is not the crate of that name; and a reason's code is gRPC's.
                    let ours = source.code[..at].ends_with("::");
                    let code = source.path.starts_with("src/error") && *name == "tonic";
                    if !(ours || code) {
                        found.push(format!("{}: knows {name}", source.place(at)));
                    }
                }
            }
        }
    }
    found
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().flat_map(|(_, modules)| modules.iter()).position(|m| *m == module)
}

fn is_module(name: &str) -> bool {
    place(name).is_some() || OUTSIDE.iter().any(|(module, _)| *module == name)
}

fn may_use(user: &[&str], used: &str) -> Result<(), String> {
    let top = user[0];
    if top == used {
        return Ok(());
    }
    let row = |name: &str| OUTSIDE.iter().find(|(module, _)| *module == name).map(|(_, may)| *may);
    let inner = user.iter().take(2).copied().collect::<Vec<_>>().join("::");
    if let Some(may) = row(&inner).or_else(|| row(top)) {
        return if may.contains(&used) { Ok(()) } else { Err(format!("{top} may use only {}", may.join(", "))) };
    }
    if let Some((.., why)) = FORBIDDEN.iter().find(|(a, b, _)| *a == top && *b == used) {
        return Err((*why).to_owned());
    }
    match (place(top), place(used)) {
        _ if ALLOWED.contains(&(top, used)) => Ok(()),
        (Some(high), Some(low)) if low < high => Ok(()),
        (Some(_), None) => Err(format!("{used} stands outside: nothing of the server may use it")),
        _ => Err(format!("{top} ({}) is below {used} ({})", layer(top), layer(used))),
    }
}

fn layer(module: &str) -> &'static str {
    ORDER.iter().find(|(_, modules)| modules.contains(&module)).map_or("outside", |(name, _)| name)
}

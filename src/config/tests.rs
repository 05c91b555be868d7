use std::{io::Write as _, path::PathBuf};

use super::*;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bowline.toml");
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    (dir, path)
}

fn environment(pairs: &[(&str, &str)]) -> Sources {
    let environment = pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Sources { environment, ..Sources::default() }
}

fn flag(name: &str, key: &str, value: &str) -> Flag {
    Flag { name: name.into(), key: key.into(), value: value.into() }
}

fn lines(sources: &Sources) -> Vec<String> {
    load(sources)
        .map(|_| Vec::new())
        .unwrap_or_else(|problems| problems.to_string().lines().map(str::to_owned).collect())
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let documented: Config = toml::from_str(DEFAULTS).unwrap();
    let documented = toml::Value::try_from(&documented).unwrap();
    let real = toml::Value::try_from(Config::default()).unwrap();
    assert_eq!(documented, real);
}

#[test]
fn the_documented_defaults_list_every_key_and_no_other() {
    let keys = |text: &str| problem::flatten(&toml::from_str(text).unwrap(), &[]);
    assert_eq!(keys(DEFAULTS), keys(&toml::to_string(&Config::default()).unwrap()));
}

#[test]
fn every_key_is_explained() {
    let mut comment = false;
    for line in DEFAULTS.lines() {
        let key = line.contains(" = ") && !line.starts_with('#');
        let of_a_rule = ["pattern", "class", "history"].iter().any(|name| line.starts_with(name));
        assert!(!key || comment || of_a_rule, "{line}");
        comment = line.starts_with("# ");
    }
}

#[test]
fn nothing_configured_is_valid() {
    let loaded = load(&Sources::default()).unwrap();
    assert_eq!(loaded.config.transport.listen.to_string(), "127.0.0.1:50051");
    assert!(loaded.entries().iter().all(|entry| entry.source == "default"));
}

#[test]
fn flags_win_over_variables_over_files_over_defaults() {
    let (_dir, path) = file("[transport]\nbacklog = 1\nmax_transports = 1\nlisten = \"127.0.0.1:1\"\n");
    let mut sources = environment(&[("BOWLINE__TRANSPORT__BACKLOG", "2"), ("BOWLINE__TRANSPORT__MAX_TRANSPORTS", "2")]);
    sources.files.push(path.clone());
    sources.flags.push(flag("--set transport.backlog", "transport.backlog", "3"));
    let loaded = load(&sources).unwrap();
    assert_eq!((loaded.config.transport.backlog, loaded.config.transport.max_transports), (3, 2));
    let source = |key: &str| loaded.entries().into_iter().find(|entry| entry.key == key).unwrap().source;
    assert_eq!(source("transport.backlog"), "--set transport.backlog");
    assert_eq!(source("transport.max_transports"), "environment variable BOWLINE__TRANSPORT__MAX_TRANSPORTS");
    assert_eq!(source("transport.listen"), format!("{}:4", path.display()));
    assert_eq!(source("drain.grace"), "default");
}

#[test]
fn later_files_win_over_earlier_ones() {
    let ((_a, first), (_b, second)) =
        (file("[server]\nnode = \"a\"\nworker_threads = 7\n"), file("server.node = \"b\""));
    let loaded = load(&Sources { files: vec![first, second], ..Sources::default() }).unwrap();
    assert_eq!((loaded.config.server.node.as_str(), loaded.config.server.worker_threads), ("b", 7));
}

#[test]
fn everything_wrong_is_said_at_once_with_its_place() {
    let (_dir, path) = file(
        "[transport]\nbacklog = \"many\"\nkeepalive_intervall = \"30s\"\nstream_window = \"64 pounds\"\n\n\
         [drian]\ngrace = \"5s\"\n\n[telemetry]\nformat = \"yaml\"\nlog = \"info\"\n",
    );
    let mut sources = environment(&[
        ("BOWLINE__TRANSPORT__LISTEN", "localhost"),
        ("BOWLINE__REGISTY__MAX", "1"),
        ("BOWLINE_PORT", "tcp://10.0.0.1:50051"),
        ("PATH", "/bin"),
    ]);
    sources.files.push(path.clone());
    sources.flags.push(flag("--set drain.grace", "drain.grace", "soon"));
    sources.flags.push(flag("--set telemetry.traces.sample_ratio", "telemetry.traces.sample_ratio", "2"));
    let lines = lines(&sources);
    let has = |parts: &[&str]| {
        assert!(lines.iter().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?} in {lines:#?}");
    };
    let place = |line: usize| format!("{}:{line}: ", path.display());
    has(&[&place(2), "transport.backlog is the text \"many\", but must be a whole number"]);
    has(&[&place(3), "there is no key transport.keepalive_intervall; did you mean transport.keepalive_interval?"]);
    has(&[&place(4), "transport.stream_window is the text \"64 pounds\", but must be a size such as \"64KiB\""]);
    has(&[&place(7), "there is no key drian.grace; did you mean drain.grace?"]);
    has(&[&place(10), "telemetry.format is \"yaml\", but must be one of \"auto\", \"text\", \"json\""]);
    has(&["environment variable BOWLINE__TRANSPORT__LISTEN: transport.listen must be an IP address and a port"]);
    has(&["environment variable BOWLINE__REGISTY__MAX: there is no key registy.max"]);
    has(&["--set drain.grace: drain.grace", "must be a time such as \"10s\""]);
    has(&["--set telemetry.traces.sample_ratio: telemetry.traces.sample_ratio must be from 0 to 1"]);
    assert_eq!(lines.len(), 9, "{lines:#?}");
}

#[test]
fn a_variable_is_corrected_in_its_own_spelling() {
    let lines = lines(&environment(&[("BOWLINE__TRANSPORT__BACKLOGG", "1"), ("BOWLINE__SERVER__BACKLOG", "1")]));
    assert_eq!(
        lines,
        [
            "environment variable BOWLINE__SERVER__BACKLOG: there is no key server.backlog; \
             did you mean BOWLINE__TRANSPORT__BACKLOG?",
            "environment variable BOWLINE__TRANSPORT__BACKLOGG: there is no key transport.backlogg; \
             did you mean BOWLINE__TRANSPORT__BACKLOG?",
        ]
    );
}

#[test]
fn text_that_looks_like_a_number_stays_text_where_text_is_wanted() {
    for value in ["0123", "123456", "true", "1e3", "[x]"] {
        let loaded = load(&environment(&[("BOWLINE__SERVER__NODE", value)])).unwrap();
        assert_eq!(loaded.config.server.node, value);
    }
    let loaded = load(&environment(&[
        ("BOWLINE__ADMIN__ENABLED", "false"),
        ("BOWLINE__TELEMETRY__TRACES__SAMPLE_RATIO", "0.25"),
        ("BOWLINE__TRANSPORT__STREAM_WINDOW", "65535"),
    ]));
    let config = loaded.unwrap().config;
    assert!(!config.admin.enabled);
    assert!((config.telemetry.traces.sample_ratio - 0.25).abs() < f64::EPSILON);
    assert_eq!(config.transport.stream_window.as_u64(), 65535);
}

#[test]
fn every_bad_rule_of_a_list_is_named_by_its_number_and_line() {
    let (_dir, path) = file(
        "[[topics.rules]]\npattern = \"a..b\"\nclass = \"lock\"\n\n[[topics.rules]]\nclass = \"log\"\n\n\
         [[topics.rules]]\npattern = \"ok\"\nhistory = { max_event = 3 }\n",
    );
    let lines = lines(&Sources { files: vec![path], ..Sources::default() });
    assert!(lines.iter().any(|line| line.contains(":3: topics.rules[0].class is \"lock\"")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains(":2: topics.rules[0].pattern")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains(":5: topics.rules[1].pattern is missing")), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains(":10: there is no key topics.rules[2].history.max_event; did you mean"))
    );
    assert_eq!(lines.len(), 4, "{lines:#?}");
}

#[test]
fn a_list_can_be_written_in_a_variable() {
    let rules = "[{ pattern = \"x\", class = \"log\" }]";
    let config = load(&environment(&[("BOWLINE__TOPICS__RULES", rules)])).unwrap().config;
    assert_eq!(config.topics.rules.len(), 1);
    assert_eq!(lines(&environment(&[("BOWLINE__TOPICS__RULES", "x,y")])).len(), 2);
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named_and_not_quoted() {
    let (_dir, path) = file("[telemetry.otlp]\nheaders = \"authorization=hunter2\n");
    let sources = Sources { files: vec!["/nowhere.toml".into(), path.clone()], ..Sources::default() };
    let lines = lines(&sources);
    assert!(lines[0].starts_with("/nowhere.toml: the file cannot be read: "), "{lines:#?}");
    assert!(lines[1].starts_with(&format!("{}:2: this is no TOML: ", path.display())), "{lines:#?}");
    assert!(!lines.concat().contains("hunter2"));
}

#[test]
fn secrets_are_never_printed() {
    let mut sources = environment(&[("BOWLINE__TELEMETRY__OTLP__HEADERS", "authorization=hunter2")]);
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.config.telemetry.otlp.headers.expose(), "authorization=hunter2");
    let shown = format!("{}{}{loaded:?}", loaded.to_toml(), loaded.to_json());
    assert!(loaded.to_toml().contains("headers = \"<redacted>\""), "{}", loaded.to_toml());
    assert!(!shown.contains("hunter2"), "{shown}");

    let (_dir, path) = file("telemetry.otlp.headers = [\"hunter2\"]");
    sources = Sources { files: vec![path], ..Sources::default() };
    let lines = lines(&sources);
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].contains("hunter2"), "{lines:?}");
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let loaded = load(&environment(&[("BOWLINE__TRANSPORT__STREAM_WINDOW", "65535")])).unwrap();
    let (_dir, path) = file(&loaded.to_toml());
    let again = load(&Sources { files: vec![path], ..Sources::default() }).unwrap();
    assert_eq!(toml::to_string(&again.config).unwrap(), toml::to_string(&loaded.config).unwrap());
    assert_eq!(again.config.transport.stream_window.as_u64(), 65535);
}

#[test]
fn two_ports_cannot_be_one() {
    let lines = lines(&environment(&[("BOWLINE__ADMIN__LISTEN", "127.0.0.1:50051")]));
    assert_eq!(
        lines,
        [
            "environment variable BOWLINE__ADMIN__LISTEN: admin.listen is 127.0.0.1:50051, which is also transport.listen; \
          they need a port each"
        ]
    );
}

//! Documents that say what the code says: rendered from it, and compared with the file. `BOWLINE_BLESS=1 cargo test
//! --test documents` writes the files anew.

#[path = "documents/chart.rs"]
mod chart;
#[path = "documents/dashboard.rs"]
mod dashboard;
#[path = "documents/deploy.rs"]
mod deploy;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    time::Duration,
};

use bowline::{
    error::{Advice, Fault, Reason},
    telemetry::metrics::{
        Metrics,
        words::{self, ConnectionEnd, SessionEnd},
    },
    types::Timestamp,
};
use tonic::Code;

/// Set to anything: the files are written instead of compared.
const BLESS: &str = "BOWLINE_BLESS";

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file says this, or the first line that differs is shown.
#[track_caller]
fn is_rendered(path: &str, expected: &str) {
    if std::env::var_os(BLESS).is_some() {
        fs::write(root().join(path), expected).expect("the document can be written");
        return;
    }
    let found = read(path);
    let pairs = expected.lines().map(Some).chain([None]).zip(found.lines().map(Some).chain([None]));
    let differing = pairs.zip(1..).find(|((expected, found), _)| expected != found);
    assert!(
        expected == found,
        "{path} is not what the code says; {BLESS}=1 cargo test --test documents writes it anew\n{differing:?}"
    );
}

#[test]
fn the_reasons_are_those_of_the_code() {
    is_rendered("docs/reasons.md", &reasons());
}

fn reasons() -> String {
    let mut text = REASONS.to_owned();
    for reason in Reason::ALL {
        let (code, advice, fault) = (code(reason.code()), reason.advice().as_str(), whose(reason.fault()));
        row(&mut text, &[&tick(reason.as_str()), &code, advice, fault, reason.meaning()]);
    }
    text.push_str(ADVICES);
    for advice in ALL_ADVICE {
        row(&mut text, &[advice.as_str(), what_to_do(advice)]);
    }
    text
}

const REASONS: &str = "\
# Reasons

<!-- Rendered from src/error/reason.rs by tests/documents.rs: do not edit. -->

Whatever Bowline refuses or ends, it says why with one of these words. The set is closed: programs match on it, and on the
advice, never on the message. A reason appears

- in the failure of a `Reply` (one request) or of a `SessionClosed` (one session), as `reason`;
- in the status of a call (the whole connection, or a unary call), as `google.rpc.ErrorInfo` with the domain `bowline` and the
  advice in its metadata; with `RetryInfo` where waiting helps, `BadRequest` for a field, `QuotaFailure` for a limit;
- in the labels of metrics ([metrics.md](metrics.md)) and in the log.

Statuses without `ErrorInfo` are not Bowline's own: they come from gRPC, HTTP/2 or something between.

| reason | code | advice | whose doing | meaning |
|---|---|---|---|---|
";

const ADVICES: &str = "
## Advice

| advice | what its receiver should do |
|---|---|
";

const ALL_ADVICE: [Advice; 6] =
    [Advice::None, Advice::Retry, Advice::Reconnect, Advice::NewSession, Advice::Reauthenticate, Advice::Fatal];

fn what_to_do(advice: Advice) -> &'static str {
    match advice {
        Advice::None => "Nothing: repeating the same will fail the same.",
        Advice::Retry => "Repeat it unchanged, on this connection, after the time given.",
        Advice::Reconnect => "Open another connection, with back-off, and resume there.",
        Advice::NewSession => "Open the session anew, without its old cursor.",
        Advice::Reauthenticate => "Get a new token, then reconnect.",
        Advice::Fatal => "Stop: a person has to look at it.",
    }
}

fn whose(fault: Fault) -> &'static str {
    match fault {
        Fault::Client => "the client's",
        Fault::Peer => "the peer's or the network's",
        Fault::Nobody => "nobody's",
        Fault::Server => "the server's",
    }
}

/// `RESOURCE_EXHAUSTED`, as the specification of gRPC writes it.
fn code(code: Code) -> String {
    let mut text = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

/// On Linux only: elsewhere the kernel tells less of the process.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_metrics_are_those_of_the_code() {
    is_rendered("docs/metrics.md", &metrics());
}

/// A family without a series is not exposed, and so would be missing in the document.
#[test]
fn no_instrument_is_missing_in_the_document() {
    let document = metrics();
    for path in ["src/telemetry/metrics.rs", "src/telemetry/metrics/rpc.rs"] {
        let source = read(path);
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let names: Vec<_> = code.split('"').skip(1).step_by(2).filter(|text| is_metric_name(text)).collect();
        assert!(names.len() >= 5, "{path}: the names were found: {names:?}");
        for name in names {
            let listed =
                ["", "_total", "_info"].iter().any(|suffix| document.contains(&tick(&format!("{name}{suffix}"))));
            assert!(listed, "docs/metrics.md has no {name}; give it a series in `touched`");
        }
    }
}

fn is_metric_name(text: &str) -> bool {
    let ours = text.starts_with("bowline_") || text.starts_with("grpc_server_");
    ours && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// Every instrument, each with a series, so that its labels show.
fn touched() -> Metrics {
    let metrics = Metrics::new();
    let rpc = ("bidi_stream", "bowline.v1.StreamService", "StreamData");
    metrics.connection_closed(ConnectionEnd::Ok);
    metrics.session_closed(SessionEnd::Ok);
    metrics.publish_failed(Reason::WrongSeq);
    for certificate in words::TlsCertificate::ALL {
        metrics.tls_not_after(*certificate, Timestamp::now());
    }
    for link in words::Link::ALL {
        metrics.broker_link(*link, true);
    }
    metrics.rpc_started(rpc.0, rpc.1, rpc.2);
    metrics.rpc_handled(rpc.0, rpc.1, rpc.2, Code::Ok);
    metrics.rpc_duration(rpc.0, rpc.1, rpc.2, Duration::ZERO);
    drop(metrics.rpc_msg_received(rpc.0, rpc.1, rpc.2));
    drop(metrics.rpc_msg_sent(rpc.0, rpc.1, rpc.2));
    metrics
}

/// A family of the exposition.
#[derive(Default)]
struct Family<'t> {
    kind: &'t str,
    help: &'t str,
    /// Names of labels, each with the values seen.
    labels: BTreeMap<&'t str, BTreeSet<&'t str>>,
}

/// Families in the order of the exposition, by the name that is scraped.
fn families(text: &str) -> Vec<(&str, Family<'_>)> {
    let mut families: Vec<(&str, Family<'_>)> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.push((name, Family { help, ..Family::default() }));
        } else if let Some((_, family)) = families.last_mut() {
            match line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                Some((_, kind)) => family.kind = kind,
                None => family.sample(line),
            }
        }
    }
    families
}

impl<'t> Family<'t> {
    fn sample(&mut self, line: &'t str) {
        let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        // No value in `touched` has a comma or an equals sign.
        for (name, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
            self.labels.entry(name).or_default().insert(value.trim_matches('"'));
        }
    }
}

fn metrics() -> String {
    let exposition = touched().encode_text();
    let mut text = METRICS.to_owned();
    for (name, family) in families(&exposition) {
        // The bounds of buckets are every histogram's.
        let labels: Vec<_> = family.labels.keys().filter(|name| **name != "le").map(|name| tick(name)).collect();
        row(&mut text, &[&tick(name), family.kind, &labels.join(" "), family.help]);
    }
    text.push_str(LABELS);
    for (family, label, words) in words::vocabularies() {
        let reasons: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        let any_reason = reasons.iter().all(|reason| words.contains(reason));
        let mut values: Vec<_> =
            words.into_iter().filter(|word| !any_reason || !reasons.contains(word)).map(tick).collect();
        if any_reason {
            values.push("one of [these reasons](reasons.md)".to_owned());
        }
        writeln!(text, "- `{label}` of `{family}`: {}.", values.join(", ")).ok();
    }
    text
}

/// A label of ours has its values in `words.rs`, and no other label.
#[test]
fn every_label_has_its_vocabulary() {
    let exposition = touched().encode_text();
    let mut labelled = BTreeSet::new();
    for (name, family) in families(&exposition) {
        let labels = family.labels.keys().filter(|label| **label != "le" && !name.starts_with("grpc_server_"));
        labelled.extend(labels.map(|label| (name, *label)));
    }
    let of_the_build = [("bowline_build_info", "revision"), ("bowline_build_info", "version")];
    let known = words::vocabularies().into_iter().map(|(family, label, _)| (family, label)).chain(of_the_build);
    assert_eq!(labelled, known.collect());
}

const METRICS: &str = "\
# Metrics

<!-- Rendered from src/telemetry/metrics.rs by tests/documents.rs: do not edit. -->

`GET /metrics` on the admin port answers in OpenMetrics 1.0 where the scraper prefers that, and in the Prometheus text format
0.0.4 otherwise. These are the names of the text format. Labels come from closed sets, so the number of series does not grow with
clients, sessions or topics; where every reason is in the set, a series appears with its first value, otherwise it is there from the
start. In OpenMetrics, buckets of `bowline_delivery_latency_seconds` have an exemplar: `trace_id` and `span_id` of the publish behind
the newest of their deliveries, of those that were traced ([tracing.md](tracing.md)). Prometheus keeps exemplars where it is started
with `--enable-feature=exemplar-storage`. `process_*` is there on Linux only.

| name | type | labels | meaning |
|---|---|---|---|
";

const LABELS: &str = "
## Values of labels

`grpc_type`, `grpc_service`, `grpc_method` and `grpc_code` are as go-grpc-middleware writes them; a method that the server does
not have is `unknown`. The others are words of `src/telemetry/metrics/words.rs`:

";

fn tick(word: &str) -> String {
    format!("`{word}`")
}

fn row(text: &mut String, cells: &[&str]) {
    // Writing to a String does not fail.
    writeln!(text, "| {} |", cells.join(" | ").trim_end()).ok();
}

#[test]
fn the_readme_quotes_the_example_as_it_is() {
    let example = read("examples/hello.rs");
    let start = example.find("use bowline::client").expect("the example begins with its imports");
    let quoted = format!("```rust\n{}```\n", &example[start..]);
    assert!(read("README.md").contains(&quoted), "README.md quotes it otherwise");
}

#[test]
fn the_architecture_is_short_and_names_every_module() {
    let text = read("ARCHITECTURE.md");
    assert!(text.lines().count() <= 200, "{} lines, 200 are allowed", text.lines().count());
    let library = read("src/lib.rs");
    let modules = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let missing: Vec<_> = modules.filter(|module| !text.contains(&tick(module))).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md has no line for {missing:?}");
}

#[test]
fn every_decision_has_its_parts_and_is_listed() {
    let architecture = read("ARCHITECTURE.md");
    for entry in fs::read_dir(root().join("docs/adr")).expect("decisions") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let text = read(&format!("docs/adr/{name}"));
        for part in ["\n## Context\n", "\n## Decision\n", "\n## Consequences\n"] {
            assert!(text.contains(part), "docs/adr/{name} has no {part:?}");
        }
        assert!(architecture.contains(&format!("(docs/adr/{name})")), "ARCHITECTURE.md does not lead to {name}");
    }
}

#[test]
fn the_values_of_the_chart_are_described_and_strict() {
    let values = read("helm/bowline/values.yaml");
    is_rendered("helm/bowline/values.schema.json", &chart::schema(&values, &read("config.default.toml")));
    is_rendered("helm/bowline/README.md", &chart::readme(&read("helm/bowline/README.md"), &values));
}

/// A chart cannot reach beyond its own folder.
#[test]
fn the_chart_carries_the_alerts_and_the_dashboard_as_they_are() {
    for (copy, original) in [("bowline.rules.yaml", "prometheus"), ("bowline.json", "grafana")] {
        let original = read(&format!("deploy/{original}/{copy}"));
        assert!(!original.is_empty(), "{copy} was found");
        is_rendered(&format!("helm/bowline/files/{copy}"), &original);
    }
}

#[test]
fn the_chart_takes_every_key_of_a_rule_and_no_other() {
    for part in ["", "history", "delivery"] {
        let unknown = if part.is_empty() { "unknown = 1".to_owned() } else { format!("{part} = {{ unknown = 1 }}") };
        let text = format!("[[rules]]\npattern = \"a\"\n{unknown}\n");
        let error = toml::from_str::<bowline::hub::Config>(&text).expect_err("an unknown key").to_string();
        let (_, expected) = error.split_once("expected one of ").expect("the keys there are");
        let keys: BTreeSet<_> = expected.lines().next().unwrap_or_default().split('`').skip(1).step_by(2).collect();
        assert_eq!(
            chart::rule_keys(part).iter().map(String::as_str).collect::<BTreeSet<_>>(),
            keys,
            "{part:?}: {error}"
        );
    }
}

#[test]
fn the_chart_is_of_the_version_of_the_program() {
    let expected = format!("appVersion: \"{}\"\n", env!("CARGO_PKG_VERSION"));
    assert!(read("helm/bowline/Chart.yaml").contains(&expected), "helm/bowline/Chart.yaml has no {expected}");
}

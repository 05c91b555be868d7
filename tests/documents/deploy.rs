//! What `deploy/` says of metrics, held against what the server says of them, and `docs/alerts.md` against the alerts.

use std::collections::BTreeSet;

use super::read;

const RULES: &str = "deploy/prometheus/bowline.rules.yaml";
const TESTS: &str = "deploy/prometheus/bowline.rules.test.yaml";
const RUNBOOKS: &str = "docs/alerts.md";

/// Every series name that `docs/metrics.md` promises, those that make up a histogram included.
pub(super) fn known() -> BTreeSet<String> {
    let document = read("docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let mut known = BTreeSet::new();
    for (name, rest) in rows {
        let parts: &[&str] = if rest.starts_with("histogram") { &["_bucket", "_sum", "_count"] } else { &[""] };
        known.extend(parts.iter().map(|part| format!("{name}{part}")));
    }
    assert!(known.len() > 40, "the table was read");
    known
}

/// Words that can only be names of metrics, or of rules that record some.
pub(super) fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let prefixes = ["bowline_", "grpc_server_", "process_", "tokio_", "job:bowline_"];
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// The rules without their comments.
fn rules() -> String {
    let text = read(RULES);
    text.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")).collect()
}

#[track_caller]
pub(super) fn all_known(path: &str, used: &BTreeSet<&str>, known: &BTreeSet<String>) {
    let unknown: Vec<_> = used.iter().filter(|name| !known.contains(**name)).collect();
    assert!(unknown.is_empty(), "{path} uses metrics that docs/metrics.md does not have: {unknown:?}");
}

#[test]
fn the_alerts_use_only_metrics_that_there_are() {
    let (rules, tests, mut known) = (rules(), read(TESTS), known());
    known.extend(rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ").map(str::to_owned)));
    let used = metrics_in(&rules);
    assert!(used.len() > 20, "they were found: {used:?}");
    all_known(RULES, &used, &known);
    all_known(TESTS, &metrics_in(&tests), &known);
}

/// The names of the alerts, each with the text of its rule.
fn alerts(rules: &str) -> Vec<(&str, &str)> {
    rules.split("- alert: ").skip(1).filter_map(|block| block.split_once('\n')).collect()
}

#[test]
fn every_alert_says_what_it_must_and_has_its_tests_and_its_runbook() {
    let (rules, tests, runbooks) = (rules(), read(TESTS), read(RUNBOOKS));
    let alerts = alerts(&rules);
    assert!(alerts.len() >= 20, "they were found: {}", alerts.len());
    for (name, rule) in &alerts {
        assert!(name.starts_with("Bowline"), "{name}");
        let severity = ["critical", "warning", "info"].iter().any(|word| rule.contains(&format!("severity: {word}\n")));
        assert!(severity, "{name}: a severity that is documented");
        let runbook = format!("{RUNBOOKS}#alert-{}", name.to_lowercase());
        for part in ["\n        for: ", "summary: ", "description: ", &format!("runbook: {runbook}\n")] {
            assert!(rule.contains(part), "{name} has no {part:?}");
        }
        assert!(tests.contains(&format!("- name: {name} fires\n")), "{TESTS}: when does {name} fire?");
        assert!(tests.contains(&format!("- name: \"{name} is silent: ")), "{TESTS}: when is {name} silent?");
        let text = runbooks.split_once(&format!("\n### Alert {name}\n\n")).map_or("", |(_, rest)| rest);
        let paragraph = text.split("\n\n").next().unwrap_or_default();
        assert!(paragraph.len() > 100, "{RUNBOOKS}: what is to be done about {name}?");
    }
    let told = runbooks.lines().filter_map(|line| line.strip_prefix("### Alert "));
    assert_eq!(told.collect::<BTreeSet<_>>(), alerts.iter().map(|(name, _)| *name).collect(), "{RUNBOOKS}");
    all_known(RUNBOOKS, &metrics_in(&runbooks), &known());
}

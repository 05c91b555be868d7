//! `deploy/grafana/bowline.json`, as far as it can be judged without Grafana: that it can be imported, shows what there is,
//! and says what it shows.

use std::collections::HashSet;

use serde_json::Value;

use super::deploy::{all_known, known, metrics_in};
use super::read;

const DASHBOARD: &str = "deploy/grafana/bowline.json";

/// Columns of Grafana's grid.
const COLUMNS: u64 = 24;

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("JSON")
}

/// Panels in their order, those inside of folded rows included.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let top = dashboard["panels"].as_array().expect("panels");
    top.iter()
        .flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
        .collect()
}

fn is_row(panel: &Value) -> bool {
    panel["type"] == "row"
}

fn title(panel: &Value) -> &str {
    panel["title"].as_str().unwrap_or_default()
}

#[test]
fn it_shows_every_metric_of_ours_and_none_that_is_not_there() {
    let (dashboard, known) = (dashboard(), known());
    let text = dashboard.to_string();
    let used = metrics_in(&text);
    all_known(DASHBOARD, &used, &known);
    let ours = known.iter().filter(|name| name.starts_with("bowline_"));
    let missing: Vec<_> = ours.filter(|name| !used.iter().any(|used| used.starts_with(family(name)))).collect();
    assert!(missing.is_empty(), "no panel of {DASHBOARD} shows {missing:?}");
}

/// A histogram without what its series end in.
fn family(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[test]
fn every_panel_has_its_own_id_and_its_own_place() {
    let dashboard = dashboard();
    let (mut ids, mut cells) = (HashSet::new(), HashSet::new());
    let panels = panels(&dashboard);
    assert!(panels.len() > 20, "they were found");
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{}: its id is another's", title(panel));
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a place"));
        assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{}: outside of the grid", title(panel));
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            assert!(cells.insert(cell), "{} lies over another panel", title(panel));
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_asks_the_chosen_source_about_the_chosen_replicas() {
    let dashboard = dashboard();
    let variables: Vec<_> =
        dashboard["templating"]["list"].as_array().expect("variables").iter().map(|v| &v["name"]).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    for panel in panels(&dashboard).into_iter().filter(|panel| !is_row(panel)) {
        let title = title(panel);
        assert!(!title.is_empty() && panel["description"].as_str().is_some_and(|text| text.len() > 20), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: of what unit?");
        let targets = panel["targets"].as_array().expect("targets");
        let mut references = HashSet::new();
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(references.insert(target["refId"].as_str().expect("a reference")), "{title}: a reference twice");
            let expression = target["expr"].as_str().expect("an expression");
            let chosen = expression.matches("job=~\"$job\", instance=~\"$instance\"").count();
            let asked = expression.matches('{').count();
            assert!(asked > 0 && chosen == asked, "{title}: not only of the chosen replicas: {expression}");
        }
        assert!(!targets.is_empty(), "{title}");
    }
}

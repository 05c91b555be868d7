//! A run that was made twice: how far its ratios differ.

use crate::report::{Row, short};

/// What something is aimed at, beside the first figure of each kind of work.
const AIMED_AT: &[&str] = &["wait p99, µs", "all back after, s", "others' p99 meanwhile, ms"];

/// As Markdown: each ratio in both, and how many of them differ by little.
pub fn compare(once: &[Row], again: &[Row]) -> String {
    let mut text = String::from(
        "## The same again\n\nThe run was made twice, a part of each kind of work for the one after that for the other: each ratio in \
         both, and by how much the larger is larger.\n\n| work | beside | figure | ratio | again | differ by |\n|---|---|---|---|---|---|\n",
    );
    let mut differ = Vec::new();
    let both = once.iter().filter_map(|row| Some((row, again.iter().find(|other| other.name == row.name)?)));
    for ((row, other), figure) in both.flat_map(|both| figures(both.0).map(move |figure| (both, figure))) {
        let what = if figure == 0 { row.of } else { row.columns[0].rounds[0][figure].what };
        for (column, beside) in row.columns.iter().zip(&other.columns).skip(1) {
            let (ratio, repeated) = (row.ratio(column, figure).median, other.ratio(beside, figure).median);
            let by = ratio.max(repeated) / ratio.min(repeated) - 1.0;
            // What one of them has none of has no ratio.
            if by.is_finite() {
                differ.push(by);
                let (name, label, ratio, repeated) = (row.name, &column.label, short(ratio), short(repeated));
                text += &format!("| {name} | {label} | {what} | {ratio} | {repeated} | {:.1} % |\n", by * 100.0);
            }
        }
    }
    let within = |most: f64| differ.iter().filter(|by| **by <= most).count();
    text + &format!("\n{} ratios, {} within 10 %, {} within 5 %.\n", differ.len(), within(0.1), within(0.05))
}

/// Which of a row's are compared.
fn figures(row: &Row) -> impl Iterator<Item = usize> + '_ {
    let all = row.columns[0].rounds[0].iter().enumerate();
    all.filter(|(n, figure)| *n == 0 || AIMED_AT.contains(&figure.what)).map(|(n, _)| n)
}

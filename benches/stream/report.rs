//! What is made of the figures: tables as they come, and what is recorded of a run.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{again, figures::Figures, plot};

/// One kind of work, measured.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What was done.
    pub says: &'static str,
    /// What the first figure is.
    pub of: &'static str,
    /// Who did it, each in the same rounds.
    pub columns: Vec<Column>,
}

/// One who did it.
pub struct Column {
    /// Its name.
    pub label: String,
    /// What each round found.
    pub rounds: Vec<Figures>,
}

/// Median, least and most.
#[derive(Clone, Copy)]
pub struct Spread {
    /// The median.
    pub median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        Self { median: values[last / 2].midpoint(values[values.len() / 2]), least: values[0], most: values[last] }
    }

    fn text(self) -> String {
        format!("**{}** ({} to {})", short(self.median), short(self.least), short(self.most))
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "least": self.least, "most": self.most })
    }
}

impl Column {
    /// One of the figures, over the rounds.
    pub fn spread(&self, figure: usize) -> Spread {
        Spread::of(self.rounds.iter().map(|figures| figures[figure].value))
    }
}

impl Row {
    /// What a contender's figure is to be multiplied with to become the first one's, round by round.
    pub fn ratio(&self, column: &Column, figure: usize) -> Spread {
        let rounds = self.columns[0].rounds.iter().zip(&column.rounds);
        Spread::of(rounds.map(|(first, other)| first[figure].value / other[figure].value))
    }

    /// As Markdown.
    pub fn table(&self) -> String {
        let first = &self.columns[0];
        let more: Vec<&str> = first.rounds[0].iter().skip(1).map(|figure| figure.what).collect();
        let head = [&["", self.of, "ratio"], &more[..]].concat();
        let mut text = format!("### {}\n\n{}.\n\n| {} |\n", self.name, self.says, head.join(" | "));
        text += &format!("|{}\n", "---|".repeat(head.len()));
        for (n, column) in self.columns.iter().enumerate() {
            let ratio = if n == 0 { String::new() } else { self.ratio(column, 0).text() };
            let mut cells = vec![column.label.clone(), column.spread(0).text(), ratio];
            cells.extend((1..=more.len()).map(|figure| short(column.spread(figure).median)));
            text += &format!("| {} |\n", cells.join(" | "));
        }
        text
    }

    fn json(&self) -> Value {
        let columns: Vec<Value> = self.columns.iter().map(|column| self.column_json(column)).collect();
        json!({ "name": self.name, "work": self.says, "compared": self.of, "contenders": columns })
    }

    fn column_json(&self, column: &Column) -> Value {
        let figures: Vec<Value> = (0..column.rounds[0].len())
            .map(|figure| {
                let samples: Vec<f64> = column.rounds.iter().map(|figures| brief(figures[figure].value)).collect();
                let mut value = column.spread(figure).json();
                value["figure"] = column.rounds[0][figure].what.into();
                value["samples"] = samples.into();
                // What has no value where it is not done has no ratio either.
                let ratio = self.ratio(column, figure);
                value["ratio"] = if ratio.median.is_finite() { ratio.json() } else { Value::Null };
                value
            })
            .collect();
        json!({ "name": column.label, "figures": figures })
    }
}

/// With as many digits as mean something.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        10_000.0.. => return grouped(value),
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// To five digits: the rest is noise, and there are many.
fn brief(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// With commas between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes `stream.json`, `stream.md` and `stream.svg`: of the first run, and how far the second differs, if there is one.
pub fn record(folder: &Path, machine: &Value, method: &str, runs: &[Vec<Row>]) -> Result<()> {
    let (rows, again) = (&runs[0][..], runs.get(1));
    fs::create_dir_all(folder)?;
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).with_context(|| format!("{name} in {}", folder.display()))
    };
    let all = |rows: &[Row]| rows.iter().map(Row::json).collect::<Vec<Value>>();
    let mut json = json!({ "machine": machine, "method": method, "works": all(rows) });
    if let Some(again) = again {
        json["again"] = all(again).into();
    }
    write("stream.json", format!("{json:#}\n"))?;
    write("stream.svg", plot::svg(rows))?;
    let versions = machine["versions"].as_object().into_iter().flatten();
    let versions: Vec<String> =
        versions.map(|(name, version)| format!("{name} ({})", version.as_str().unwrap_or("unknown"))).collect();
    let said = |key: &str| machine[key].as_str().unwrap_or("unknown").to_owned();
    let mut text = format!(
        "# Figures of one run\n\nWritten by `make bench`; what is measured, how, and what the figures do not say: \
         [benches](../../benches/README.md).\nEverything, each sample included, is in [stream.json](stream.json).\n\n\
         {}, commit {}, {}, {} cores, {} MiB, {}, {}.\nMeasured: {}.\n\n{method}\n\n\
         ![Bars of the first figure of each table](stream.svg)\n",
        said("date"),
        said("commit"),
        said("cpu"),
        machine["cores"],
        machine["memory_mib"],
        said("kernel"),
        said("compiler"),
        versions.join(", "),
    );
    for row in rows {
        text += &format!("\n{}", row.table());
    }
    if let Some(again) = again {
        text += &format!("\n{}", again::compare(rows, again));
    }
    write("stream.md", text)
}

//! Tables of figures, for people and as JSON.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use serde_json::{Map, Value, json};

/// Figures of one kind, a row for each case. A figure that there is not is none.
pub struct Table {
    name: &'static str,
    columns: &'static [&'static str],
    rows: Map<String, Value>,
}

impl Table {
    /// Begins it, on stdout.
    pub fn begin(name: &'static str, columns: &'static [&'static str]) -> Self {
        println!("\n| {name} | {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len() + 1));
        Self { name, columns, rows: Map::new() }
    }

    /// Figures of a case, one for each column.
    pub fn row(&mut self, case: &str, figures: &[Option<f64>]) {
        assert_eq!(figures.len(), self.columns.len(), "{case}");
        let cells: Vec<_> = figures.iter().map(|figure| figure.map_or("–".to_owned(), shown)).collect();
        println!("| {case} | {} |", cells.join(" | "));
        let figures = self.columns.iter().zip(figures).map(|(column, figure)| ((*column).to_owned(), json!(figure)));
        self.rows.insert(case.to_owned(), Value::Object(figures.collect()));
    }

    /// Its name, and all of it.
    pub fn end(self) -> (String, Value) {
        (self.name.to_owned(), Value::Object(self.rows))
    }
}

/// Three digits, and no more than two places.
fn shown(figure: f64) -> String {
    match figure.abs() {
        large if large >= 100.0 || figure.fract() == 0.0 => format!("{figure:.0}"),
        middle if middle >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

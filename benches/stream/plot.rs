//! The picture: a panel for each kind of work, a bar for each who did it. Each panel has a scale of its own, for only
//! those in it can be compared.

use std::fmt::Write as _;

use crate::report::{Row, short};

/// Panels beside each other, and what each takes.
const ACROSS: usize = 2;
const PANEL: usize = 460;
const MARGIN: usize = 20;
/// From one bar to the next, and how high it is.
const STEP: usize = 22;
const BAR: usize = 14;
/// Where bars begin, and how long the longest is: beside it there is room for its figure.
const LABEL: usize = 128;
const LONGEST: usize = PANEL - MARGIN - LABEL - 70;
/// Above the first bar.
const HEAD: usize = 48;

/// Light or dark, as whoever looks at it has it.
const STYLE: &str = "\
text { font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 }
.of { fill: #59636e }
.label { text-anchor: end }
.first { font-weight: 600 }
rect { fill: #9aa4b0 }
rect.first { fill: #0b6bcb }
.ground { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.of { fill: #9198a1 }
rect { fill: #59636e }
rect.first { fill: #4c9ffe }
.ground { fill: #0d1117 }
}";

/// All panels.
pub fn svg(rows: &[Row]) -> String {
    let (mut body, mut top) = (String::new(), MARGIN);
    for pair in rows.chunks(ACROSS) {
        for (n, row) in pair.iter().enumerate() {
            panel(&mut body, row, MARGIN + n * PANEL, top);
        }
        let bars = pair.iter().map(|row| row.columns.len()).max().unwrap_or_default();
        top += HEAD + bars * STEP + MARGIN;
    }
    let (width, height) = (MARGIN + ACROSS * PANEL, top);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>Medians of each kind of work; shorter is better</title>\n\
         <style>\n{STYLE}\n</style>\n<rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>\n{body}</svg>\n"
    )
}

fn panel(body: &mut String, row: &Row, left: usize, top: usize) {
    let values: Vec<f64> = row.columns.iter().map(|column| column.spread(0).median.max(0.0)).collect();
    let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut line = |text: String| writeln!(body, "{text}").expect("a growing text");
    line(format!("<text class=\"title\" x=\"{left}\" y=\"{}\">{}</text>", top + 14, escaped(row.name)));
    line(format!("<text class=\"of\" x=\"{left}\" y=\"{}\">{}</text>", top + 32, escaped(row.of)));
    for (n, (column, value)) in row.columns.iter().zip(&values).enumerate() {
        let class = if n == 0 { "first" } else { "other" };
        let (y, start) = (top + HEAD + n * STEP, left + LABEL);
        let length = (value / most * LONGEST as f64).max(1.0);
        let (label, figure, base) = (escaped(&column.label), short(*value), y + BAR - 3);
        line(format!("<text class=\"label {class}\" x=\"{}\" y=\"{base}\">{label}</text>", start - 8));
        line(format!(
            "<rect class=\"{class}\" x=\"{start}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>"
        ));
        let x = start as f64 + length + 6.0;
        line(format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{base}\">{figure}</text>"));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

//! From OpenMetrics to the Prometheus text format 0.0.4, for scrapers that ask for the older one.
//!
//! The samples are the same. OpenMetrics names a counter's family without `_total` and an information's without
//! `_info`; the older format names every family as its samples, has no `info`, no units and no end mark.

/// Converts a complete exposition as the library writes it: HELP, TYPE, perhaps UNIT, then samples without exemplars.
pub(super) fn from_openmetrics(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 1024);
    let mut help = None;
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, text)| text);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { continue };
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            let help = help.take().unwrap_or_default();
            out.extend(["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn families_are_named_as_their_samples() {
        let source = "# HELP a Things.\n# TYPE a counter\na_total 1\n# HELP b_seconds Time.\n# TYPE b_seconds gauge\n\
                      # UNIT b_seconds seconds\nb_seconds 2.5\n# HELP c Built.\n# TYPE c info\nc_info{v=\"1\"} 1\n# EOF\n";
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total 1\n# HELP b_seconds Time.\n\
                        # TYPE b_seconds gauge\nb_seconds 2.5\n# HELP c_info Built.\n# TYPE c_info gauge\n\
                        c_info{v=\"1\"} 1\n";
        assert_eq!(super::from_openmetrics(source), expected);
    }
}

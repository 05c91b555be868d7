//! The `OTEL_*` variables of OpenTelemetry's specification, as far as they concern traces.
//!
//! The SDK reads some of them, takes a wrong value for none, and does not know the others. So all of them are read and
//! checked here; a wrong one stops the start, like anything else that is wrong in the configuration. What is set wins over
//! the configuration, because it is how a platform tells all its programs the same. `docs/tracing.md` is the list.

use std::{fs, path::PathBuf, str::FromStr, time::Duration};

use tonic::{
    metadata::MetadataMap,
    transport::{Certificate, ClientTlsConfig, Identity, Uri},
};

use super::{Otlp, headers};
use crate::telemetry::{config::Traces, sampling::Sampler};

/// What to do, once configuration and environment are put together.
#[derive(Debug)]
pub(in crate::telemetry) struct Settings {
    pub(super) endpoint: Uri,
    pub(super) headers: MetadataMap,
    pub(super) timeout: Duration,
    /// How an `https` endpoint is to be known, and this program to it.
    pub(super) tls: ClientTlsConfig,
    /// Most spans that wait for the exporter.
    pub(super) queue_size: usize,
    /// Most spans in one export.
    pub(super) batch_size: usize,
    pub(super) schedule_delay: Duration,
    /// Whether the service has a name from the environment.
    pub(super) named: bool,
    /// Whether contexts are taken from callers and given to readers.
    pub(in crate::telemetry) propagate: bool,
    pub(in crate::telemetry) sampler: Option<Sampler>,
}

/// Reads a variable; one that is set to nothing counts as not set, as the specification wants it.
pub(in crate::telemetry) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// What to do; nothing if traces are off. Every mistake is one sentence of the error.
pub(in crate::telemetry) fn settings(
    otlp: &Otlp,
    traces: &Traces,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Settings>, Vec<String>> {
    let mut reading = Reading { variable, problems: Vec::new() };
    let wanted = reading.wanted(otlp.enabled);
    let settings = wanted.then(|| reading.settings(otlp, traces));
    if reading.problems.is_empty() { Ok(settings) } else { Err(reading.problems) }
}

struct Reading<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Reading<'_> {
    /// A no of the environment, then a yes of the environment, then the configuration.
    fn wanted(&mut self, enabled: bool) -> bool {
        if self.one_of("OTEL_SDK_DISABLED", &["true", "false"]) == Some("true") {
            return false;
        }
        match self.one_of("OTEL_TRACES_EXPORTER", &["otlp", "none"]) {
            Some("none") => false,
            Some(_) => true,
            None => enabled || self.exporter("ENDPOINT").is_some(),
        }
    }

    fn settings(&mut self, otlp: &Otlp, traces: &Traces) -> Settings {
        self.check_what_the_sdk_reads();
        let queue_size = self.number("OTEL_BSP_MAX_QUEUE_SIZE", 1..=1_000_000).unwrap_or(2048);
        let batch_size = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1..=queue_size);
        Settings {
            endpoint: self.endpoint(&otlp.endpoint),
            headers: self.headers(otlp.headers.expose()),
            timeout: self.timeout().unwrap_or(otlp.timeout),
            tls: self.tls(),
            queue_size,
            batch_size: batch_size.unwrap_or(512.min(queue_size)),
            schedule_delay: self
                .number("OTEL_BSP_SCHEDULE_DELAY", 10..=600_000)
                .map_or(SCHEDULE_DELAY, Duration::from_millis),
            named: self.is_named(),
            propagate: self.propagates(),
            sampler: self.sampler(traces.stream_ratio.max(traces.sample_ratio)),
        }
    }

    /// Limits and names that the SDK applies itself: it would take a wrong one for none.
    fn check_what_the_sdk_reads(&mut self) {
        for kind in ["ATTRIBUTE", "EVENT", "LINK"] {
            self.number::<u32>(&format!("OTEL_SPAN_{kind}_COUNT_LIMIT"), 0..=u32::MAX);
        }
        self.number::<u64>("OTEL_BSP_EXPORT_TIMEOUT", 1..=600_000);
        // What is sent is small and goes next door, or through a proxy that compresses.
        if let Some((name, value)) = self.exporter("COMPRESSION").filter(|(_, value)| value.trim() != "none") {
            self.wrong(&name, &value, "none: this program does not compress what it exports");
        }
        if let Some((name, value)) = self.exporter("PROTOCOL").filter(|(_, value)| value.trim() != "grpc") {
            self.wrong(&name, &value, "grpc: this program speaks OTLP over gRPC only, by default to port 4317");
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    /// A variable of the exporter, with its name: that of traces, or else that of all signals.
    fn exporter(&self, what: &str) -> Option<(String, String)> {
        let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| Some((name.clone(), self.get(&name)?)))
    }

    fn wrong(&mut self, name: &str, value: &str, must_be: &str) {
        self.problems.push(format!("{name} is {value:?}; it must be {must_be}"));
    }

    fn one_of(&mut self, name: &str, words: &[&'static str]) -> Option<&'static str> {
        let value = self.get(name)?;
        let word = words.iter().find(|word| value.trim().eq_ignore_ascii_case(word)).copied();
        if word.is_none() {
            self.wrong(name, &value, &format!("one of {}", words.join(", ")));
        }
        word
    }

    fn number<N: FromStr + PartialOrd + std::fmt::Display>(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<N>,
    ) -> Option<N> {
        let value = self.get(name)?;
        let number = value.trim().parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(name, &value, &format!("a number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// The scheme may be missing in the environment, and says whether there is TLS.
    fn endpoint(&mut self, configured: &str) -> Uri {
        let insecure = self.exporter("INSECURE").is_some_and(|(_, value)| value.trim().eq_ignore_ascii_case("true"));
        let default = if configured.is_empty() { "http://localhost:4317" } else { configured };
        let (name, value) =
            self.exporter("ENDPOINT").unwrap_or_else(|| ("telemetry.otlp.endpoint".to_owned(), default.to_owned()));
        let scheme = if insecure { "http" } else { "https" };
        let value = value.trim().to_owned();
        let full = if value.contains("://") { value.clone() } else { format!("{scheme}://{value}") };
        let parsed = full.parse::<Uri>().ok();
        let usable = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        parsed.filter(usable).unwrap_or_else(|| {
            self.wrong(&name, &value, "a URL such as http://collector:4317");
            Uri::from_static("http://localhost:4317")
        })
    }

    /// What is configured, and over that what the environment says. Values are secrets and not repeated.
    fn headers(&mut self, configured: &str) -> MetadataMap {
        let (mut all, bad) = headers(configured);
        let mut report = |name: &str, bad: usize| {
            if bad > 0 {
                self.problems
                    .push(format!("{name} must be name=value pairs, separated by commas; {bad} of them are not"));
            }
        };
        report("telemetry.otlp.headers", bad);
        if let Some((name, list)) = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]
            .into_iter()
            .find_map(|name| Some((name, (self.variable)(name)?)))
        {
            let (more, bad) = headers(&list);
            report(name, bad);
            let mut merged = all.into_headers();
            merged.extend(more.into_headers());
            all = MetadataMap::from_headers(merged);
        }
        all
    }

    fn timeout(&mut self) -> Option<Duration> {
        let (name, _) = self.exporter("TIMEOUT")?;
        self.number(&name, 1..=600_000).map(Duration::from_millis)
    }

    fn tls(&mut self) -> ClientTlsConfig {
        let mut tls = ClientTlsConfig::new();
        tls = match self.file("CERTIFICATE") {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_webpki_roots(),
        };
        match (self.file("CLIENT_CERTIFICATE"), self.file("CLIENT_KEY")) {
            (Some(certificate), Some(key)) => tls = tls.identity(Identity::from_pem(certificate, key)),
            (None, None) => {}
            _ => self.problems.push(
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY must be given together".into(),
            ),
        }
        tls
    }

    fn file(&mut self, what: &str) -> Option<Vec<u8>> {
        let (name, path) = self.exporter(what)?;
        fs::read(PathBuf::from(path.trim()))
            .inspect_err(|error| self.problems.push(format!("{name} is {path:?}, which cannot be read: {error}")))
            .ok()
    }

    fn is_named(&mut self) -> bool {
        let attributes = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let pairs = attributes.split(',').filter(|pair| !pair.trim().is_empty());
        if pairs.clone().any(|pair| pair.split_once('=').is_none_or(|(name, _)| name.trim().is_empty())) {
            self.wrong("OTEL_RESOURCE_ATTRIBUTES", &attributes, "name=value pairs, separated by commas");
        }
        let mut names = pairs.filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.trim());
        self.get("OTEL_SERVICE_NAME").is_some() || names.any(|name| name == "service.name")
    }

    /// Baggage is in the specification's default, and is accepted, but nothing here carries any.
    fn propagates(&mut self) -> bool {
        let Some(value) = self.get("OTEL_PROPAGATORS") else { return true };
        let names: Vec<_> = value.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let known = names.iter().all(|name| ["tracecontext", "baggage", "none"].contains(name));
        if !known || (names.contains(&"none") && names.len() > 1) {
            self.wrong("OTEL_PROPAGATORS", &value, "a list of tracecontext and baggage, or none");
        }
        names.contains(&"tracecontext")
    }

    /// Takes the place of both configured ratios. A ratio that is not given is the larger of those.
    fn sampler(&mut self, otherwise: f64) -> Option<Sampler> {
        const NAMES: [&str; 6] = [
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ];
        let name = self.one_of("OTEL_TRACES_SAMPLER", &NAMES)?;
        let (parent_based, root) = name.strip_prefix("parentbased_").map_or((false, name), |root| (true, root));
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            _ => self.number("OTEL_TRACES_SAMPLER_ARG", 0.0..=1.0).unwrap_or(otherwise),
        };
        Some(Sampler { parent_based, streams: ratio, messages: ratio })
    }
}

/// How long spans wait for others to go with them. Shorter than the SDK's five seconds: that and a collector's own wait
/// would make the ten seconds within which a publish is to be seen.
const SCHEDULE_DELAY: Duration = Duration::from_secs(2);

impl Settings {
    /// Where spans go, for the log.
    pub(in crate::telemetry) fn endpoint(&self) -> String {
        self.endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(otlp: &Otlp, pairs: &[(&str, &str)]) -> Result<Option<Settings>, Vec<String>> {
        let variable =
            |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        settings(otlp, &Traces::default(), &variable)
    }

    fn on(pairs: &[(&str, &str)]) -> Settings {
        read(&Otlp { enabled: true, ..Otlp::default() }, pairs).unwrap().expect("it is on")
    }

    /// The only problem that these variables make.
    #[track_caller]
    fn problem(pairs: &[(&str, &str)]) -> String {
        let problems = read(&Otlp { enabled: true, ..Otlp::default() }, pairs).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.into_iter().next().unwrap()
    }

    #[test]
    fn the_environment_switches_the_export_on_and_off() {
        let (off, on) = (Otlp::default(), Otlp { enabled: true, ..Otlp::default() });
        let wanted = |otlp: &Otlp, pairs: &[(&str, &str)]| read(otlp, pairs).unwrap().is_some();
        assert!(!wanted(&off, &[]) && wanted(&on, &[]));
        assert!(wanted(&off, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")]));
        assert!(wanted(&off, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4317")]));
        assert!(wanted(&off, &[("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(!wanted(&on, &[("OTEL_TRACES_EXPORTER", "none")]));
        assert!(!wanted(&on, &[("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(wanted(&on, &[("OTEL_SDK_DISABLED", "false")]));
    }

    #[test]
    fn nothing_else_is_looked_at_where_traces_are_off() {
        let nonsense = [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "often")];
        assert!(read(&Otlp::default(), &nonsense).unwrap().is_none());
        assert!(read(&Otlp::default(), &[("OTEL_BSP_MAX_QUEUE_SIZE", "many")]).unwrap().is_none());
    }

    #[test]
    fn what_is_set_for_traces_wins_over_what_is_set_for_all_and_that_over_the_configuration() {
        let otlp = Otlp {
            enabled: true,
            endpoint: "http://configured:1".into(),
            headers: "a=configured,b=configured".to_owned().into(),
            ..Otlp::default()
        };
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:2");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:3");
        let endpoint = |pairs: &[(&str, &str)]| read(&otlp, pairs).unwrap().unwrap().endpoint();
        assert_eq!(endpoint(&[]), "http://configured:1/");
        assert_eq!(endpoint(&[all]), "http://all:2/");
        assert_eq!(endpoint(&[all, traces]), "http://traces:3/");
        let settings = read(&otlp, &[("OTEL_EXPORTER_OTLP_HEADERS", "b=all"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "250")]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.headers.get("a").unwrap(), "configured");
        assert_eq!(settings.headers.get("b").unwrap(), "all");
        assert_eq!(settings.timeout, Duration::from_millis(250));
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_secure_unless_the_environment_says_otherwise() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317");
        assert_eq!(on(&[endpoint]).endpoint(), "https://collector:4317/");
        assert_eq!(on(&[endpoint, ("OTEL_EXPORTER_OTLP_INSECURE", "true")]).endpoint(), "http://collector:4317/");
        assert_eq!(on(&[]).endpoint(), "http://localhost:4317/");
    }

    #[test]
    fn a_sampler_takes_the_place_of_both_ratios() {
        let sampler = |name, arg| on(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)]).sampler;
        let all = |parent_based, ratio| Some(Sampler { parent_based, streams: ratio, messages: ratio });
        assert_eq!(on(&[]).sampler, None);
        assert_eq!(sampler("always_on", ""), all(false, 1.0));
        assert_eq!(sampler("parentbased_always_off", ""), all(true, 0.0));
        assert_eq!(sampler("traceidratio", "0.25"), all(false, 0.25));
        assert_eq!(sampler("parentbased_traceidratio", "0.5"), all(true, 0.5));
    }

    #[test]
    fn the_rest_of_the_variables() {
        let bsp = [
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_SERVICE_NAME", "edge"),
            ("OTEL_PROPAGATORS", "none"),
        ];
        let settings = on(&bsp);
        assert_eq!((settings.queue_size, settings.batch_size), (100, 100));
        assert_eq!(settings.schedule_delay, Duration::from_millis(50));
        assert!(settings.named && !settings.propagate);
        assert!(on(&[("OTEL_PROPAGATORS", "tracecontext,baggage")]).propagate);
        assert!(on(&[("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=edge")]).named);
        assert!(!on(&[("OTEL_RESOURCE_ATTRIBUTES", "a=b")]).named);
    }

    #[test]
    fn a_wrong_value_is_named_with_what_it_must_be() {
        for (name, value, must_be) in [
            ("OTEL_SDK_DISABLED", "yes", "one of true, false"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "one of otlp, none"),
            ("OTEL_PROPAGATORS", "b3", "a list of tracecontext and baggage, or none"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc: this program speaks OTLP over gRPC only"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip", "none: this program does not compress"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://c", "a URL such as http://collector:4317"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "a number from 1 to 600000"),
            ("OTEL_TRACES_SAMPLER", "often", "one of always_on, always_off, traceidratio"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "a number from 1 to 1000000"),
            ("OTEL_SPAN_LINK_COUNT_LIMIT", "-1", "a number from 0 to"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a,b=c", "name=value pairs"),
        ] {
            let sentence = problem(&[(name, value)]);
            assert!(sentence.starts_with(&format!("{name} is {value:?}; it must be {must_be}")), "{sentence}");
        }
        let arg = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
        assert!(problem(&arg).starts_with("OTEL_TRACES_SAMPLER_ARG is \"2\"; it must be a number from 0 to 1"));
        assert!(problem(&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such.pem")]).contains("cannot be read"));
        assert!(problem(&[("OTEL_EXPORTER_OTLP_HEADERS", "secret")]).contains("1 of them are not"));
        let problems = read(
            &Otlp::default(),
            &[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_PROPAGATORS", "b3"), ("OTEL_TRACES_SAMPLER", "often")],
        );
        assert_eq!(problems.unwrap_err().len(), 2, "all of them are told at once");
    }
}

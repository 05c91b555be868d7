//! What the kernel knows of this process, read from `/proc` at each scrape. Elsewhere than on Linux there is nothing
//! to read, and the metrics are left out.

use std::{fmt, fs};

use prometheus_client::{
    collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks per second in `/proc`: fixed by the kernel's interface on every architecture it is sold for.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Collector {
    /// Seconds since the Unix epoch; it does not change.
    start_time: Option<f64>,
}

impl Collector {
    pub(super) fn new() -> Self {
        Self { start_time: start_time() }
    }
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            counter(&mut encoder, "process_cpu_seconds", "User and system CPU time spent, seconds.", seconds)?;
        }
        let gauges = [
            ("process_start_time_seconds", "When the process started, seconds since the Unix epoch.", self.start_time),
            ("process_resident_memory_bytes", "Resident memory, bytes.", status_bytes("VmRSS:")),
            ("process_virtual_memory_bytes", "Virtual memory, bytes.", status_bytes("VmSize:")),
            ("process_open_fds", "Open file descriptors.", open_descriptors()),
            ("process_max_fds", "Most file descriptors the process may open.", max_descriptors()),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, value)?;
            }
        }
        Ok(())
    }
}

pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &'static str,
    value: f64,
) -> Result<(), fmt::Error> {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

pub(super) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &'static str,
    value: f64,
) -> Result<(), fmt::Error> {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// The field of `/proc/self/stat` that `proc(5)` gives this number; the second, the name, may contain anything, so
/// counting starts behind its closing parenthesis.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    Some((stat_field(&stat, 14)? + stat_field(&stat, 15)?) / TICKS_PER_SECOND)
}

fn start_time() -> Option<f64> {
    let started = stat_field(&fs::read_to_string("/proc/self/stat").ok()?, 22)? / TICKS_PER_SECOND;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + started)
}

/// Resident memory of this process; none where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the kernel counts whole bytes")]
    status_bytes("VmRSS:").map(|bytes| bytes as u64)
}

fn status_bytes(name: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn open_descriptors() -> Option<f64> {
    // The directory being read is itself one of them.
    let open = u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(f64::from(open.saturating_sub(1)))
}

fn max_descriptors() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "1 (a ) b) S 4 5 6 7 8 9 10 11 12 13 140 150 16";
        assert_eq!(stat_field(stat, 14), Some(140.0));
        assert_eq!(stat_field(stat, 15), Some(150.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_knows_its_own_size_and_age() {
        assert!(status_bytes("VmRSS:").unwrap() > 100_000.0);
        assert!(open_descriptors().unwrap() >= 3.0);
        assert!(max_descriptors().unwrap() >= open_descriptors().unwrap());
        assert!(cpu_seconds().unwrap() >= 0.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - start_time().unwrap();
        assert!((-5.0..86_400.0).contains(&age), "{age}");
    }
}

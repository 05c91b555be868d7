//! A server process, started and deleted as a kubelet does it.

use std::{
    env,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    admin::Admin,
    balancer::Balancer,
    served::{SETTINGS, Served},
    signals,
};

/// `preStop: sleep`, so that the endpoints are known to have gone before the server hears of it.
pub const PRE_STOP: Duration = Duration::from_millis(1500);

/// How servers are told to leave: settings of `[drain]`.
#[derive(Clone, Copy)]
pub struct Pace {
    pub per_second: u32,
    pub spread: Duration,
    pub grace: Duration,
}

impl Pace {
    /// How long it takes to tell so many.
    pub fn span(&self, clients: usize) -> Duration {
        Duration::from_secs_f64(clients as f64 / f64::from(self.per_second)).min(self.spread)
    }

    /// `terminationGracePeriodSeconds`, as the chart computes it: preStop, 2 s, the telling, the last ones' grace, 5 s for
    /// telemetry, and some slack for a machine that is busy.
    pub fn termination_grace(&self) -> Duration {
        PRE_STOP + Duration::from_secs(2) + self.spread + self.grace + Duration::from_secs(5 + 8)
    }
}

pub struct Pod {
    pub name: String,
    served: Served,
    pace: Pace,
    _container: Option<Container>,
}

/// A server in a container of an image, as a cluster runs it; removed when dropped.
struct Container {
    image: String,
    name: String,
}

impl Container {
    fn new(image: String, pod: &str) -> Self {
        Self { image, name: format!("bowline-rollout-{}-{pod}", std::process::id()) }
    }

    /// What runs it in the foreground: signals go through, and the exit code is the server's. Its environment is that of
    /// the command, as far as it is named.
    fn command(&self, settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new("docker");
        command.args([
            "run",
            "--rm",
            "--name",
            &self.name,
            "--network",
            "host",
            "--read-only",
            "--user",
            "65532:65532",
        ]);
        command.args(["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]);
        for (name, _) in settings.iter().chain(&SETTINGS) {
            command.args(["--env", name]);
        }
        command.arg(&self.image);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // There is one only if the test failed before it was deleted.
        let mut removal = Command::new("docker");
        removal.args(["rm", "--force", &self.name]).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

/// How one ended.
pub struct Deletion {
    /// From its deletion to the end of its process.
    pub took: Duration,
    /// Its exit code; none if it had to be killed.
    pub code: Option<i32>,
    /// The last that it said of its drain.
    pub drain: serde_json::Value,
}

impl Pod {
    pub fn start(name: &str, pace: Pace, engine: &[(&str, &str)]) -> Self {
        let (spread, grace) = (format!("{:?}", pace.spread), format!("{:?}", pace.grace));
        let rate = pace.per_second.to_string();
        let mut settings = vec![
            ("BOWLINE__SERVER__NODE", name),
            ("BOWLINE__DRAIN__MAX_RECONNECTS_PER_SECOND", &rate),
            ("BOWLINE__DRAIN__SPREAD", &spread),
            ("BOWLINE__DRAIN__GRACE", &grace),
            // Readiness is the drain's business here, not that of a machine that is busy with other tests.
            ("BOWLINE__HEALTH__CANARY_TIMEOUT", "30s"),
        ];
        settings.extend_from_slice(engine);
        let container = env::var("BOWLINE_ROLLOUT_IMAGE").ok().map(|image| Container::new(image, name));
        let program = match &container {
            None => Command::new(env!("CARGO_BIN_EXE_bowline")),
            Some(container) => container.command(&settings),
        };
        let served = tokio::task::block_in_place(|| Served::bowline(program, &settings));
        Self { name: name.to_owned(), served, pace, _container: container }
    }

    pub fn address(&self) -> SocketAddr {
        self.served.address
    }

    pub fn admin(&self) -> SocketAddr {
        self.served.admin.expect("an admin port")
    }

    /// Deletes it: its endpoint goes, preStop runs, SIGTERM, and SIGKILL at the end of the grace period. `told` is called
    /// between.
    pub async fn delete(mut self, balancer: &Balancer, told: impl FnOnce()) -> Deletion {
        let begun = Instant::now();
        let ((), ()) = tokio::join!(balancer.forget(self.address()), sleep(PRE_STOP));
        told();
        signals::send(self.served.child.id(), "-TERM");
        let admin = Admin::of(&self.served);
        let mut drain = serde_json::Value::Null;
        loop {
            if let Some(status) = self.served.child.try_wait().unwrap() {
                return Deletion { took: begun.elapsed(), code: status.code(), drain };
            }
            if begun.elapsed() > self.pace.termination_grace() {
                // As its guard does when it is dropped: SIGKILL.
                return Deletion { took: begun.elapsed(), code: None, drain };
            }
            // It closes its port before it ends.
            if let Some(said) = tokio::task::block_in_place(|| admin.try_get("/drain")) {
                drain = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

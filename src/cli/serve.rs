//! `bowline serve`: configuration, a runtime, telemetry, and then the server.

use std::{io, sync::Arc, time::Duration};

use clap::Args as ClapArgs;
use tokio::runtime;

use super::{config::Selection, exit::Stop};
use crate::{
    app,
    config::Loaded,
    telemetry::{self, metrics::Metrics},
};

/// Descriptors for everything that is not a client.
const SPARE_DESCRIPTORS: u64 = 128;
/// Every so many turns a worker takes a task from the queue that all of them share, the other turns from its own. What does not
/// fit into its own, 256 tasks, goes to the shared one; tokio left to itself comes there so seldom that whoever is in it waits
/// until a crowd is served. One would let nobody else have a turn: ADR 18.
const SHARED_QUEUE_INTERVAL: u32 = 2;
/// How long blocking work that is still going on may keep the process after its end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  bowline serve                                            on 127.0.0.1:50051, admin on 127.0.0.1:9090
  bowline serve --listen 0.0.0.0:50051 --set auth.mode=anonymous
  bowline serve --config bowline.toml --log-level debug
  BOWLINE__REGISTRY__MAX_CONNECTIONS=20000 bowline serve

Every setting: bowline config --defaults. SIGTERM drains; a second one ends at once.";

/// Run the server
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
}

/// Serves until it is told to stop.
pub(super) fn run(args: Args) -> Result<(), Stop> {
    let loaded = args.selection.load()?;
    // Each client is a descriptor, and the soft limit a shell gives is meant for programs that use select(2).
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    let mut builder = runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("bowline").global_queue_interval(SHARED_QUEUE_INTERVAL);
    match loaded.config.server.worker_threads {
        0 => {}
        threads => {
            builder.worker_threads(threads);
        }
    }
    let runtime = builder.build().map_err(|error| Stop::failure(format!("the runtime cannot start: {error}")))?;
    let result = runtime.block_on(Box::pin(serve(loaded, raised)));
    runtime.shutdown_timeout(END_TIMEOUT);
    result
}

async fn serve(loaded: Loaded, descriptors: io::Result<u64>) -> Result<(), Stop> {
    let metrics = Arc::new(Metrics::new());
    telemetry::start_logs(&loaded.config.telemetry).map_err(|error| Stop::failure(error.to_string()))?;
    let wanted = loaded.config.registry.max_connections as u64;
    match descriptors {
        Ok(limit) if limit < wanted + SPARE_DESCRIPTORS => {
            tracing::warn!(
                limit,
                wanted,
                "fewer descriptors than registry.max_connections needs; raise the hard limit"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit on descriptors could not be raised"),
    }
    app::run(loaded, metrics).await.map_err(|error| Stop::failure(format!("{error:#}")))
}

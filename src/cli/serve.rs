//! `bowline serve`: configuration, a runtime, telemetry, and then the server.

use std::{sync::Arc, time::Duration};

use clap::Args as ClapArgs;
use tokio::runtime;

use super::{config::Selection, exit::Stop};
use crate::{
    app,
    config::Loaded,
    telemetry::{self, metrics::Metrics},
};

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
    let mut builder = runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("bowline");
    match loaded.config.server.worker_threads {
        0 => {}
        threads => {
            builder.worker_threads(threads);
        }
    }
    let runtime = builder.build().map_err(|error| Stop::failure(format!("the runtime cannot start: {error}")))?;
    let result = runtime.block_on(Box::pin(serve(loaded)));
    runtime.shutdown_timeout(END_TIMEOUT);
    result
}

async fn serve(loaded: Loaded) -> Result<(), Stop> {
    let metrics = Arc::new(Metrics::new());
    let node = loaded.config.server.node_name();
    let telemetry = telemetry::start(&loaded.config.telemetry, &node, &metrics)
        .map_err(|error| Stop::failure(error.to_string()))?;
    let result = app::run(loaded, metrics).await;
    telemetry.shutdown().await;
    result.map_err(|error| Stop::failure(format!("{error:#}")))
}

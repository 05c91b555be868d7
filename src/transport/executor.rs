//! Where HTTP/2 streams run: each in a task of its own that its [`KillSwitch`] can end.

use std::future::Future;

use hyper::rt::Executor;

use crate::{lifecycle::Tasks, types::KillSwitch};

tokio::task_local! {
    /// The switch of the stream whose task this is.
    static SWITCH: KillSwitch;
}

/// The switch of the stream this code runs in; `None` outside one.
pub(super) fn switch() -> Option<KillSwitch> {
    SWITCH.try_with(KillSwitch::clone).ok()
}

/// Spawns hyper's stream futures.
///
/// Pulling the switch drops the future, and HTTP/2 sends RST_STREAM for what is left of the stream. That works even when
/// the peer's window is shut, when hyper no longer polls the response at all.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor {
    tasks: Tasks,
}

impl StreamExecutor {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { tasks }
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let switch = KillSwitch::default();
        let scope = SWITCH.scope(switch.clone(), async move {
            tokio::select! {
                biased;
                () = switch.pulled() => {}
                () = stream => {}
            }
        });
        drop(self.tasks.spawn("http2 stream", scope));
    }
}

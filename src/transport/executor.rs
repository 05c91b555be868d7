//! Where HTTP/2 streams run: each in a task of its own that its [`KillSwitch`] can end.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

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
        let killable = Killable { switch: switch.clone(), clock: None, stream };
        drop(self.tasks.spawn("http2 stream", SWITCH.scope(switch, killable)));
    }
}

pin_project! {
    /// A stream until its switch is pulled. Not an async block, which would hold the stream twice.
    struct Killable<F> {
        switch: KillSwitch,
        // Of a stream that has to end at a time, while it waits.
        clock: Option<Pin<Box<Sleep>>>,
        #[pin]
        stream: F,
    }
}

impl<F: Future<Output = ()>> Future for Killable<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.switch.poll_pulled(cx).is_ready() {
            return Poll::Ready(());
        }
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(due) = this.switch.due() else {
            *this.clock = None;
            return Poll::Pending;
        };
        let clock = this.clock.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if clock.deadline() != due {
            clock.as_mut().reset(due);
        }
        clock.as_mut().poll(cx)
    }
}

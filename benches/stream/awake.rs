//! A core that does not fall asleep.

use std::{io, process::Child};

use crate::cpu;

/// While it is there the server's core stays awake: whoever has work to do gets it at once from a loop of the lowest priority
/// (`SCHED_IDLE`). Waking a core of a virtual machine is the host's work, and what is in its caches after that is chance:
/// without this, a server that mostly sleeps costs a third more in one minute than in the next.
pub struct Awake(Child);

impl Awake {
    /// Needs `chrt`, which is where `taskset` is. Ends with this process, too, however that ends.
    pub fn begin() -> io::Result<Self> {
        let mut command = cpu::on_server_core("chrt");
        command.args(["--idle", "0", "sh", "-c", "while [ -e /proc/$PPID ]; do :; done"]);
        command.spawn().map(Self)
    }

    /// An error if the loop is not there any more, or never was.
    pub fn still(&mut self) -> io::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(ended) => Err(io::Error::other(format!("what keeps the server's core awake ended, {ended}"))),
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

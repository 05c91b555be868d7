//! How soon a server serves, and how large its program is.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use crate::{
    contenders::{Programs, Who},
    figures::{Figures, figure},
    talker::{Role, Shape, Talker},
};

/// From the start of the process to the first answer to a client that has come as soon as it could.
pub async fn measure(programs: &Programs, who: Who) -> Result<Figures> {
    let file = programs.file(who)?.context("a program")?;
    let size = stripped_size(&file)? as f64 / 1e6;
    let begun = Instant::now();
    let server = programs.start(who, &[], None)?;
    let client = Talker::open(&server.stage, Role::Subscriber, "bench.start", Shape::ONE).await?;
    let took = begun.elapsed();
    drop(client);
    let memory = server.stage.resident_kib() as f64 / 1024.0;
    Ok(vec![figure("ms", took.as_secs_f64() * 1000.0), figure("program, MB", size), figure("memory, MiB", memory)])
}

/// Without symbols and lines, which are there for profiles; as it is where there is no `strip`.
fn stripped_size(file: &str) -> Result<u64> {
    let copy = tempfile::NamedTempFile::new()?;
    let stripped = Command::new("strip").arg("-o").arg(copy.path()).arg(file).status();
    let stripped = stripped.is_ok_and(|status| status.success());
    Ok(fs::metadata(if stripped { copy.path() } else { file.as_ref() })?.len())
}

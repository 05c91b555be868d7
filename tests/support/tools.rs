//! Programs of others, that some tests need.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Where they are looked for: what `.ci/tools interop` installed comes before the system's.
pub fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours = [".tools/bin", ".tools/venv/bin", ".tools/go/bin"].map(|folder| root.join(folder));
    let paths = env::var_os("PATH").unwrap_or_default();
    // Not every shell knows where Go puts itself, and programs that serve are not in the path of all who may start them.
    let theirs = env::split_paths(&paths).chain(["/usr/local/go/bin", "/usr/sbin"].map(PathBuf::from));
    ours.into_iter().chain(theirs).collect()
}

/// The tool; `None` after saying so, if there is none. Python is ours only, with what was installed for it.
#[track_caller]
pub fn find(name: &str) -> Option<PathBuf> {
    let ours = if name == "python" { 3 } else { usize::MAX };
    let found = folders().into_iter().take(ours).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        assert!(env::var_os("BOWLINE_REQUIRE_INTEROP").is_none(), "{name} is missing: run .ci/tools interop");
        // Past the test harness, which would swallow it: a test that did not run must be seen.
        writeln!(std::io::stderr(), "\nNOT RUN: an interoperability test, for want of {name}: see `make test`\n").ok();
    }
    found
}

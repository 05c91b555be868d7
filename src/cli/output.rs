//! Standard output as `sub` needs it: written in whole lines, and known well enough to find out later what a killed
//! predecessor printed.

use std::{
    fs::{self, File, Metadata},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// Most bytes of one write to a file.
const FILE_CHUNK: usize = 64 * 1024;
/// Most bytes of one write to a pipe: POSIX's and Linux's PIPE_BUF, up to which a write happens whole or not at all.
const PIPE_CHUNK: usize = 4096;

/// Where lines go, written past every buffer of this process.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    regular: bool,
}

impl Output {
    /// This process's stdout.
    pub(super) fn stdout() -> io::Result<Self> {
        Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// Any file.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let regular = file.metadata()?.is_file();
        Ok(Self { file, regular })
    }

    /// Most bytes that may be given to one [`write`](Self::write), whole lines permitting.
    pub(super) fn chunk(&self) -> usize {
        if self.regular { FILE_CHUNK } else { PIPE_CHUNK }
    }

    /// Writes all of it, in one system call wherever the system can.
    pub(super) fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.write_all(text)
    }

    /// How far a regular file has come; `None` for a pipe, a terminal, a socket.
    pub(super) fn mark(&self) -> io::Result<Option<Mark>> {
        Ok(if self.regular { Some(Mark::of(&self.file.metadata()?)) } else { None })
    }

    /// The file's path, where the system tells and it can be found again.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let path = fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd())).ok()?;
        self.regular.then_some(path)
    }
}

/// A regular file and its length at some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Device.
    pub(super) device: u64,
    /// Inode.
    pub(super) inode: u64,
    /// Length, bytes.
    pub(super) length: u64,
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), length: metadata.len() }
    }

    /// What was added to the file at `path` since this mark: what its writer may have printed without recording it,
    /// which is never more than one write. Nothing if the file is another one now, cannot be read, or has grown by
    /// more than that, so that somebody else must have written to it.
    pub(super) fn surplus(&self, path: &Path) -> Vec<u8> {
        let read = || {
            let file = File::open(path).ok()?;
            let now = Self::of(&file.metadata().ok()?);
            let grown = usize::try_from(now.length.checked_sub(self.length)?).ok()?;
            if (now.device, now.inode) != (self.device, self.inode) || grown > FILE_CHUNK {
                return None;
            }
            let mut added = vec![0; grown];
            file.read_exact_at(&mut added, self.length).ok()?;
            Some(added)
        };
        read().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_after_a_mark_is_found_by_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut output = Output::new(file.reopen().unwrap()).unwrap();
        output.write(b"one\n").unwrap();
        let (mark, path) = (output.mark().unwrap().unwrap(), output.path().unwrap());
        assert_eq!(mark.length, 4);
        assert!(mark.surplus(&path).is_empty());
        output.write(b"two\n").unwrap();
        assert_eq!(mark.surplus(&path), b"two\n");
        let other = tempfile::NamedTempFile::new().unwrap();
        assert!(mark.surplus(other.path()).is_empty(), "another file");
    }
}

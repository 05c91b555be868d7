//! The state file of `sub --session`: where its reader is, kept so that a kill at any moment loses and doubles nothing.
//!
//! One page, always written in place: Linux copies a write inside a page without looking at signals, so SIGKILL leaves
//! either the old record or the new one. There is no fsync: a file survives its writer's death in the page cache, and
//! surviving a power cut would cost a disk round trip per batch.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    exit::{Exit, Stop},
    output::{Mark, Output},
};
use crate::types::{Cursor, Timestamp};

/// The size of the file, bytes.
const PAGE: usize = 4096;
/// First line: format and version.
const MAGIC: &str = "bowline sub 1\n";
/// Before the path of the output, the last and only part of the file that may contain anything.
const OUTPUT: &[u8] = b"output ";

/// Whose place it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// The server's URL.
    pub(super) server: String,
    /// The client id.
    pub(super) client: String,
    /// The topic.
    pub(super) topic: String,
    /// The session id.
    pub(super) session: String,
}

impl Key {
    /// The lines of the file that say whose it is.
    fn text(&self) -> String {
        let Self { server, client, topic, session } = self;
        format!("server {server}\nclient {client}\ntopic {topic}\nsession {session}\n")
    }

    /// Where the file is if nobody says otherwise: `$XDG_STATE_HOME/bowline/TOPIC-HASH`, or the same under
    /// `~/.local/state`.
    pub(super) fn default_path(&self) -> Result<PathBuf, Stop> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("XDG_STATE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/state")))
            .ok_or_else(|| Stop::failure("neither XDG_STATE_HOME nor HOME is set; say --state-file PATH"))?;
        let short: String = self.topic.chars().take(100).collect();
        Ok(home.join("bowline").join(format!("{short}-{:016x}", checksum(self.text().as_bytes()))))
    }
}

/// How far the reader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Everything up to here was printed.
    pub(super) cursor: Cursor,
    /// And so many bytes of what comes after it.
    pub(super) skip: u64,
    /// The output then, if it was a regular file.
    pub(super) mark: Option<Mark>,
    /// Where that file was.
    pub(super) path: Option<PathBuf>,
}

/// An open and locked state file.
#[derive(Debug)]
pub(super) struct State {
    file: File,
    name: PathBuf,
    key: Key,
    place: Option<Place>,
}

impl State {
    /// Opens or creates the file, and keeps others from using it for as long as it is open.
    pub(super) fn open(name: &Path, key: Key) -> Result<Self, Stop> {
        let failed = |error: io::Error| Stop::failure(format!("cannot open state file {}: {error}", name.display()));
        if let Some(directory) = name.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(name).map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => Stop::failure(format!(
                "another `bowline sub` reads session {} of {} now; stop it, or choose another --session",
                key.session, key.topic
            )),
            _ => failed(error.into()),
        })?;
        let mut state = Self { file, name: name.to_owned(), key, place: None };
        state.place = state.read()?;
        Ok(state)
    }

    /// What the file said when it was opened, or what was last put down since; `None` if it was new.
    pub(super) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Forgets what the file said.
    pub(super) fn forget(&mut self) {
        self.place = None;
    }

    /// Puts down a place and the output that goes on from there: the whole page.
    pub(super) fn begin(&mut self, cursor: Cursor, skip: u64, output: &Output) -> Result<(), Stop> {
        let failed = |error| self.failed(&error);
        let place = Place { cursor, skip, mark: output.mark().map_err(failed)?, path: output.path() };
        let mut page = format!("{MAGIC}{}{}", record(&place), self.key.text()).into_bytes();
        if page.len() > PAGE {
            return Err(Stop::new(Exit::Usage, "the server's URL is too long to be kept in a state file"));
        }
        if let Some(path) = &place.path
            && page.len() + OUTPUT.len() + path.as_os_str().len() < PAGE
        {
            page.extend_from_slice(OUTPUT);
            page.extend_from_slice(path.as_os_str().as_bytes());
        }
        page.resize(PAGE, b'\n');
        self.file.write_all_at(&page, 0).map_err(|error| self.failed(&error))?;
        self.place = Some(place);
        Ok(())
    }

    /// Puts down that everything up to `cursor` is in the output now. Only after [`begin`](Self::begin).
    pub(super) fn record(&mut self, cursor: Cursor, output: &Output) -> Result<(), Stop> {
        let mark = output.mark().map_err(|error| self.failed(&error))?;
        let Some(place) = &mut self.place else { return Ok(()) };
        (place.cursor, place.skip, place.mark) = (cursor, 0, mark);
        let line = record(place);
        self.file.write_all_at(line.as_bytes(), MAGIC.len() as u64).map_err(|error| self.failed(&error))
    }

    fn read(&mut self) -> Result<Option<Place>, Stop> {
        let mut page = Vec::with_capacity(PAGE);
        (&self.file).take(PAGE as u64 + 1).read_to_end(&mut page).map_err(|error| self.failed(&error))?;
        if page.is_empty() {
            return Ok(None);
        }
        let parse = || {
            let rest = page.strip_prefix(MAGIC.as_bytes())?;
            let (line, rest) = rest.split_at_checked(RECORD)?;
            let mut place = parse_record(std::str::from_utf8(line).ok()?)?;
            let rest = rest.strip_prefix(self.key.text().as_bytes())?.strip_suffix(b"\n")?;
            let path = rest.strip_prefix(OUTPUT).map(trim_end);
            place.path = path.map(|bytes| PathBuf::from(std::ffi::OsStr::from_bytes(bytes)));
            Some(place)
        };
        let advice = "it is damaged or belongs to another session; move it away, or say another --state-file";
        parse()
            .map(Some)
            .ok_or_else(|| Stop::failure(format!("cannot use state file {}: {advice}", self.name.display())))
    }

    fn failed(&self, error: &io::Error) -> Stop {
        Stop::failure(format!("cannot use state file {}: {error}", self.name.display()))
    }
}

/// Without the padding of the page.
fn trim_end(mut text: &[u8]) -> &[u8] {
    while let Some(shorter) = text.strip_suffix(b"\n") {
        text = shorter;
    }
    text
}

/// Length of a record, bytes.
const RECORD: usize = 16 + 20 + 20 + 20 + 16 + 16 + 20 + 16 + 8;

/// A place as one line of fixed length: epoch:offset time skip device inode length checksum.
fn record(place: &Place) -> String {
    let Cursor { epoch, offset, time } = place.cursor;
    let Mark { device, inode, length } = place.mark.unwrap_or_default();
    let skip = place.skip;
    let mut line =
        format!("{epoch:016x}:{offset:020} {:020} {skip:020} {device:016x} {inode:016x} {length:020} ", time.0);
    let sum = checksum(line.as_bytes());
    writeln!(line, "{sum:016x}").ok();
    line
}

fn parse_record(line: &str) -> Option<Place> {
    let (content, sum) = line.strip_suffix('\n')?.split_at_checked(RECORD - 17)?;
    if u64::from_str_radix(sum, 16).ok()? != checksum(content.as_bytes()) {
        return None;
    }
    let mut words = content.split_ascii_whitespace();
    let mut cursor: Cursor = words.next()?.parse().ok()?;
    cursor.time = Timestamp(words.next()?.parse().ok()?);
    let skip = words.next()?.parse().ok()?;
    let device = u64::from_str_radix(words.next()?, 16).ok()?;
    let inode = u64::from_str_radix(words.next()?, 16).ok()?;
    let length = words.next()?.parse().ok()?;
    let mark = (inode != 0).then_some(Mark { device, inode, length });
    Some(Place { cursor, skip, mark, path: None })
}

/// FNV-1a: tells a damaged line and names files; nobody has to be kept from forging it.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: &str) -> Key {
        let [server, client, topic] = ["http://127.0.0.1:50051", "cli-me@here", "prices"].map(str::to_owned);
        Key { server, client, topic, session: session.to_owned() }
    }

    fn at(offset: u64) -> Cursor {
        Cursor { epoch: 0xfeed_0000_0000_0001, offset, time: Timestamp(offset ^ 7) }
    }

    #[test]
    fn a_place_is_found_again_with_the_output_it_belongs_to() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("deep/state");
        let printed = directory.path().join("printed here");
        let mut output = Output::new(File::create(&printed).unwrap()).unwrap();
        let mut state = State::open(&name, key("a")).unwrap();
        assert_eq!(state.place(), None);
        state.begin(at(3), 5, &output).unwrap();
        drop(state);

        let mut state = State::open(&name, key("a")).unwrap();
        let place = state.place().unwrap().clone();
        assert_eq!((place.cursor, place.skip, place.path.as_deref()), (at(3), 5, Some(printed.as_path())));
        output.write(b"line\n").unwrap();
        state.record(at(u64::MAX), &output).unwrap();
        drop(state);

        let place = State::open(&name, key("a")).unwrap().place().unwrap().clone();
        assert_eq!((place.cursor, place.skip, place.mark.unwrap().length), (at(u64::MAX), 0, 5));
        assert_eq!(fs::metadata(&name).unwrap().len(), PAGE as u64);
    }

    #[test]
    fn two_readers_of_one_session_do_not_share_a_place() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("state");
        let first = State::open(&name, key("a")).unwrap();
        assert!(State::open(&name, key("a")).unwrap_err().sentence.contains("another `bowline sub`"));
        drop(first);
        State::open(&name, key("a")).unwrap();
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("state");
        let output = Output::new(tempfile::tempfile().unwrap()).unwrap();
        State::open(&name, key("a")).unwrap().begin(at(1), 0, &output).unwrap();
        assert!(State::open(&name, key("b")).is_err());
        let mut page = fs::read(&name).unwrap();
        page[MAGIC.len() + 20] ^= 1;
        fs::write(&name, page).unwrap();
        assert!(State::open(&name, key("a")).is_err());
        fs::write(&name, "something else").unwrap();
        assert!(State::open(&name, key("a")).is_err());
    }

    #[test]
    fn sessions_have_files_of_their_own() {
        let paths = ["a", "b"].map(|session| key(session).text());
        assert_ne!(checksum(paths[0].as_bytes()), checksum(paths[1].as_bytes()));
    }
}

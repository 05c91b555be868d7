//! Prints events so that a reader killed at any moment, and started again, has printed each exactly once.
//!
//! Every write of whole lines is followed at once by a record of it in the state file. A reader killed between the two
//! (or inside the first) has printed more than its record says. Where the output is a regular file its successor sees
//! how much more, and leaves out exactly that from what the server delivers again: the log gives the same events, and
//! the same events make the same bytes. Into a pipe, writes are so small that each happens whole or not at all; the instant
//! between such a write and its record is the one window left, and what falls into it is printed again, never lost.

use super::{
    exit::Stop,
    output::Output,
    state::{Place, State},
};
use crate::types::Cursor;

/// Lines to be printed together, and the reader's place after each.
#[derive(Debug, Default)]
pub(super) struct Batch {
    text: Vec<u8>,
    ends: Vec<(usize, Cursor)>,
}

impl Batch {
    /// Adds what `line` writes, which must be whole lines, after which the reader is at `cursor`.
    pub(super) fn push(&mut self, cursor: Cursor, line: impl FnOnce(&mut Vec<u8>)) {
        line(&mut self.text);
        self.ends.push((self.text.len(), cursor));
    }

    /// The lines.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The reader's place after all of it; `None` if nothing was added since it was made or printed.
    pub(super) fn last(&self) -> Option<Cursor> {
        self.ends.last().map(|&(_, cursor)| cursor)
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

/// Where batches go.
#[derive(Debug)]
pub(super) struct Printer {
    output: Output,
    state: Option<State>,
    printed: Printed,
    /// Remarks to be printed when it is decided what was printed.
    remarks: Vec<u8>,
}

impl Printer {
    /// Prints to `output`; with a `state`, from its place on.
    pub(super) fn new(output: Output, state: Option<State>) -> Self {
        let printed = state.as_ref().and_then(State::place).map(Printed::find).unwrap_or_default();
        Self { output, state, printed, remarks: Vec::new() }
    }

    /// Where to go on; `None` where there is no place to go on from.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        Some(self.state.as_ref()?.place()?.cursor)
    }

    /// Puts down where reading begins, before the first event. While there is something to leave out nothing is put
    /// down: the old record is what tells it.
    pub(super) fn begin(&mut self, start: Cursor) -> Result<(), Stop> {
        match &mut self.state {
            Some(state) if self.printed.is_empty() => state.begin(start, 0, &self.output),
            _ => Ok(()),
        }
    }

    /// Prints events. Blocks.
    pub(super) fn events(&mut self, batch: &mut Batch) -> Result<(), Stop> {
        let (mut start, mut end, mut last) = (0, 0, None);
        for &(next, cursor) in &batch.ends {
            if next - start > self.output.chunk() && end > start {
                self.chunk(&batch.text[start..end], last)?;
                start = end;
            }
            (end, last) = (next, Some(cursor));
        }
        self.chunk(&batch.text[start..end], last)?;
        batch.clear();
        Ok(())
    }

    /// Prints what is not an event, and so never counts as printed before. Blocks.
    pub(super) fn remark(&mut self, text: &[u8]) -> Result<(), Stop> {
        if !self.printed.is_empty() {
            self.remarks.extend_from_slice(text);
            return Ok(());
        }
        self.put(text)?;
        match self.cursor() {
            Some(cursor) => self.record(cursor),
            None => Ok(()),
        }
    }

    /// Prints a remark about an announced loss that moves the place later. Blocks.
    pub(super) fn lose(&mut self, text: &[u8]) -> Result<(), Stop> {
        // What would agree with the rest of what was printed will never come.
        let end = self.printed.give_up();
        let remarks = std::mem::take(&mut self.remarks);
        self.put(&[end, &remarks, text].concat())
    }

    /// Moves the place to where an announced loss ends, with a remark about it. Blocks.
    pub(super) fn jump(&mut self, to: Cursor, text: &[u8]) -> Result<(), Stop> {
        self.lose(text)?;
        self.state.as_mut().map_or(Ok(()), |state| state.begin(to, 0, &self.output))
    }

    fn chunk(&mut self, text: &[u8], last: Option<Cursor>) -> Result<(), Stop> {
        let Some(last) = last else { return Ok(()) };
        if self.printed.is_empty() {
            self.put(text)?;
        } else {
            let Some((text, left_out)) = self.printed.compare(text) else { return Ok(()) };
            if let Some(state) = &mut self.state
                && let Some(cursor) = state.place().map(|place| place.cursor)
            {
                // From here on this output goes on where the old one ended.
                state.begin(cursor, left_out as u64, &self.output)?;
            }
            let remarks = std::mem::take(&mut self.remarks);
            self.put(&[&text[left_out..], &remarks].concat())?;
        }
        self.record(last)
    }

    fn record(&mut self, cursor: Cursor) -> Result<(), Stop> {
        self.state.as_mut().map_or(Ok(()), |state| state.record(cursor, &self.output))
    }

    fn put(&mut self, text: &[u8]) -> Result<(), Stop> {
        if text.is_empty() { Ok(()) } else { self.output.write(text).map_err(|error| Stop::stdout(&error)) }
    }
}

/// What the predecessor printed after its last record.
#[derive(Debug, Default)]
struct Printed {
    /// So many bytes, compared by a reader before us.
    known: usize,
    /// After them, what stands in the output. If it is not what is about to be printed, somebody else wrote it.
    found: Vec<u8>,
    /// What has come so far and agreed.
    held: Vec<u8>,
}

impl Printed {
    fn find(place: &Place) -> Self {
        let found = place.mark.zip(place.path.as_ref()).map(|(mark, path)| mark.surplus(path)).unwrap_or_default();
        Self { known: usize::try_from(place.skip).unwrap_or(usize::MAX), found, held: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.known == 0 && self.found.is_empty()
    }

    /// Adds `text`; once it is decided, returns all that has come and how much of it is already printed.
    fn compare(&mut self, text: &[u8]) -> Option<(Vec<u8>, usize)> {
        self.held.extend_from_slice(text);
        let new = self.held.get(self.known..).unwrap_or_default();
        let mut left_out = self.known.checked_add(self.found.len())?;
        if new.iter().zip(&self.found).any(|(a, b)| a != b) {
            left_out = self.known;
            self.held.splice(left_out..left_out, self.line_end().iter().copied());
        }
        if self.held.len() < left_out {
            return None;
        }
        let held = std::mem::take(&mut self.held);
        *self = Self::default();
        Some((held, left_out))
    }

    /// Stops comparing; returns what must be printed first. What was held back agreed, so it is printed.
    fn give_up(&mut self) -> &'static [u8] {
        std::mem::take(self).line_end()
    }

    /// An end for the line in the output that will get no other.
    fn line_end(&self) -> &'static [u8] {
        if self.found.last().is_some_and(|&last| last != b'\n') { b"\n" } else { b"" }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _, path::Path};

    use super::*;
    use crate::cli::state::Key;

    const EVENTS: u64 = 20;

    fn line(offset: u64) -> String {
        format!("event {offset} {}\n", "x".repeat(offset as usize % 7))
    }

    fn cursor(offset: u64) -> Cursor {
        Cursor { epoch: 1, offset, ..Cursor::default() }
    }

    fn batch(offsets: impl Iterator<Item = u64>) -> Batch {
        let mut batch = Batch::default();
        for offset in offsets {
            batch.push(cursor(offset), |text| text.extend_from_slice(line(offset).as_bytes()));
        }
        batch
    }

    fn printer(directory: &Path, output: &Path) -> Printer {
        let [server, client, topic, session] = ["s", "c", "t", "i"].map(str::to_owned);
        let key = Key { server, client, topic, session };
        let state = State::open(&directory.join("state"), key).unwrap();
        let output = File::options().append(true).create(true).open(output).unwrap();
        let mut printer = Printer::new(Output::new(output).unwrap(), Some(state));
        if printer.cursor().is_none() {
            printer.begin(cursor(0)).unwrap();
        }
        printer
    }

    /// Prints a few batches of random size, then dies: after a record, or `torn` bytes into the next write.
    fn run(directory: &Path, output: &Path, batches: usize, torn: Option<usize>) {
        let mut printer = printer(directory, output);
        let start = printer.cursor().unwrap();
        if printer.printed.is_empty() {
            printer.begin(start).unwrap();
        }
        let mut next = start.offset + 1;
        for _ in 0..batches {
            let end = (next + fastrand::u64(1..4)).min(EVENTS + 1);
            printer.events(&mut batch(next..end)).unwrap();
            next = end;
        }
        let Some(torn) = torn.filter(|_| next <= EVENTS) else { return };
        // What a killed write leaves: the bytes in the file and no record. What is left out goes on being left out.
        let text = batch(next..(next + 3).min(EVENTS + 1)).text;
        if printer.printed.is_empty() {
            printer.output.write(&text[..torn.min(text.len())]).unwrap();
        } else if let Some((text, left_out)) = printer.printed.compare(&text) {
            let place = printer.cursor().unwrap();
            printer.state.as_mut().unwrap().begin(place, left_out as u64, &printer.output).unwrap();
            let end = (left_out + torn).min(text.len());
            printer.output.write(&text[left_out..end]).unwrap();
        }
    }

    fn combined(outputs: &[std::path::PathBuf]) -> String {
        outputs.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect()
    }

    #[test]
    fn whenever_readers_are_killed_every_line_is_printed_once() {
        let expected: String = (1..=EVENTS).map(line).collect();
        for seed in 0..100 {
            fastrand::seed(seed);
            let directory = tempfile::tempdir().unwrap();
            let same_file = fastrand::bool();
            let mut outputs = Vec::new();
            for life in 0..40 {
                let output = directory.path().join(if same_file { "out".into() } else { format!("out{life}") });
                let torn = fastrand::bool().then(|| fastrand::usize(0..60));
                run(directory.path(), &output, fastrand::usize(0..3), torn);
                if !outputs.contains(&output) {
                    outputs.push(output);
                }
            }
            run(directory.path(), outputs.last().unwrap(), EVENTS as usize, None);
            assert_eq!(combined(&outputs), expected, "seed {seed}");
        }
    }

    #[test]
    fn what_somebody_else_wrote_into_the_output_hides_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        printer(directory.path(), &output).events(&mut batch(1..3)).unwrap();
        File::options().append(true).open(&output).unwrap().write_all(b"event? no: a note\n").unwrap();
        let mut printer = printer(directory.path(), &output);
        printer.events(&mut batch(3..4)).unwrap();
        let expected = [line(1), line(2), "event? no: a note\n".into(), line(3)].concat();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), expected);
    }

    #[test]
    fn a_batch_larger_than_a_write_is_cut_between_lines() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        let mut printer = printer(directory.path(), &output);
        let text = "y".repeat(40_000) + "\n";
        let mut batch = Batch::default();
        for offset in 1..=5 {
            batch.push(cursor(offset), |out| out.extend_from_slice(text.as_bytes()));
        }
        printer.events(&mut batch).unwrap();
        assert_eq!(batch.last(), None);
        assert_eq!(std::fs::read_to_string(&output).unwrap(), text.repeat(5));
        assert_eq!(printer.cursor(), Some(cursor(5)));
    }
}

//! The reports of a running node: a file in the folder of its attempt, to which the node appends
//! JSON objects, one a line, and which the engine reads as it grows. Uses nothing of what is
//! reported.
//!
//! 1. A file works for processes of this host and of others that share the folder; and what a
//!    stage or a library prints can never be taken for a report.
//! 2. Some room of the disk is reserved ahead of the end of the file, where the file system can do
//!    that: a node that fails on a full disk can still report why.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::context::Report;
use crate::error::Result;

/// The name of the file in the folder of an attempt.
pub const REPORTS: &str = "reports";

/// Bytes that are reserved at a time.
const RESERVE: u64 = 16 << 10;
/// Bytes of the reserve that only the last report may use.
const LAST: u64 = 8 << 10;

/// The end of the file at which a node appends.
pub(super) struct ReportWriter {
    path: PathBuf,
    file: File,
    written: u64,
    reserved: u64,
    /// Whether the last line may lack its end.
    is_torn: bool,
}

impl ReportWriter {
    /// Opens the file of an attempt.
    pub(super) fn open(attempt: &Path) -> Result<Self> {
        let path = attempt.join(REPORTS);
        let file = crate::fs::append(&path)?;
        let written = file.metadata().map_or(0, |metadata| metadata.len());
        let mut writer = ReportWriter { path, file, written, reserved: written, is_torn: false };
        // A full disk shows itself at the first write that matters.
        let _ = writer.reserve(0);
        Ok(writer)
    }

    /// Sees to it that `bytes` more leave room for the last report.
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        if self.written + bytes + LAST > self.reserved {
            let room = RESERVE + bytes;
            match crate::fs::reserve(&self.file, &self.path, self.written, room) {
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
                    ) =>
                {
                    return Err(error);
                }
                // Another error: this file system cannot reserve.
                _ => self.reserved = self.written + RESERVE + bytes,
            }
        }
        Ok(())
    }

    /// Appends the last report of a node, into the reserve if need be. If it cannot be written, the
    /// exit code says what kind of failure it was.
    pub(super) fn last(&mut self, report: &Report) {
        let _ = self.append(&line(report));
    }
}

impl ReportWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = if self.is_torn { &b"\n"[..] } else { &[] };
        let appended = crate::fs::write_all(&self.file, &self.path, &[end, bytes].concat());
        self.is_torn = appended.is_err();
        appended
    }
}

/// Appends whole lines, as a context gives them.
impl Write for ReportWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reserve(bytes.len() as u64)?;
        self.append(bytes)?;
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A report as a line of the file.
pub(super) fn line(report: &Report) -> Vec<u8> {
    let mut line = serde_json::to_vec(report).expect("a report is plain data");
    line.push(b'\n');
    line
}

/// The file as the engine reads it, from its beginning on.
pub(super) struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
    is_broken: bool,
}

impl Tail {
    /// Of the file of an attempt, which need not be there yet.
    pub(super) fn of(attempt: &Path) -> Self {
        Tail { path: attempt.join(REPORTS), file: None, rest: Vec::new(), is_broken: false }
    }

    /// The reports that were appended since the last call. A file that cannot be read, and a line
    /// that is no report, become warnings.
    pub(super) fn read(&mut self) -> Vec<Report> {
        if self.is_broken {
            return Vec::new();
        }
        let mut bytes = std::mem::take(&mut self.rest);
        if let Err(error) = self.read_into(&mut bytes) {
            self.is_broken = true;
            let message = format!("its reports cannot be read: {}: {error}", self.path.display());
            return vec![Report::Warning { message }];
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.rest = bytes.split_off(whole);
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(report).collect()
    }

    fn read_into(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.file.as_mut().map_or(Ok(()), |file| file.read_to_end(bytes).map(|_| ()))
    }
}

fn report(line: &[u8]) -> Report {
    serde_json::from_slice(line).unwrap_or_else(|error| {
        let line = String::from_utf8_lossy(line);
        Report::Warning { message: format!("it reported what is no report ({error}): {line}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(message: &str) -> Report {
        Report::Warning { message: message.into() }
    }

    #[test]
    fn what_is_appended_is_read_once_and_by_whole_lines() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut tail = Tail::of(folder.path());
        assert_eq!(tail.read(), [], "there is no file yet");
        let mut writer = ReportWriter::open(folder.path()).expect("writable");
        assert_eq!(tail.read(), []);
        let (first, second) = (line(&warning("a")), line(&warning("b")));
        writer.write_all(&[&first[..], &second[..5]].concat()).expect("writable");
        assert_eq!(tail.read(), [warning("a")]);
        assert_eq!(tail.read(), []);
        writer.write_all(&second[5..]).expect("writable");
        assert_eq!(tail.read(), [warning("b")]);
        writer.last(&Report::Failed { exit_code: 2, message: "no".into() });
        writer.last(&warning("c"));
        assert_eq!(
            tail.read(),
            [Report::Failed { exit_code: 2, message: "no".into() }, warning("c")]
        );
        let length = folder.path().join(REPORTS).metadata().expect("it is there").len();
        assert!(length < 200, "what is reserved is not in the file: {length} bytes");
    }

    #[test]
    fn a_line_that_is_no_report_is_a_warning() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(REPORTS), "{\"event\":\"odd\"}\n").expect("writable");
        let [Report::Warning { message }] = &Tail::of(folder.path()).read()[..] else {
            panic!("one warning")
        };
        assert!(message.contains("no report") && message.contains("odd"), "{message}");
    }
}

//! Event files as TensorBoard reads them: named figures by step, each with the moment of its
//! writing. Uses neither what the figures mean nor who reads them.
//!
//! 1. A file is a sequence of frames (the TFRecord format): the length of the data (8 bytes, least
//!    significant first), a checksum of these 8 bytes (4 bytes), the data, a checksum of the data
//!    (4 bytes).
//! 2. A checksum is CRC-32C (Castagnoli, RFC 3720), turned right by 15 bits, plus 0xa282ead8.
//! 3. The data is an `Event` in the wire format of protocol buffers: 1 `wall_time` (double), 2
//!    `step` (int64), and either 3 `file_version` (string), first in the file, or 5 `summary`: a
//!    list of 1 `value`: 1 `tag` (string), 2 `simple_value` (float).
//!
//! That is all there is to it: a crate for it would bring a compiler of protocol buffers along.
//! TensorBoard's own reader is the test.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::clock::now;
use crate::error::Result;

/// What every event file begins with.
const VERSION: &str = "brain.Event:2";

/// An event file that grows.
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a new file in `folder`, instead of those that earlier attempts left there.
    pub fn begin(folder: &Path) -> Result<Self> {
        crate::fs::remove_all(folder)?;
        crate::fs::create_dir_all(folder)?;
        let path =
            folder.join(format!("events.out.tfevents.{:010}.posttrain", now() / 1_000_000_000));
        let mut events = Events { file: crate::fs::append(&path)?, path };
        let mut event = moment();
        text(&mut event, 3, VERSION.as_bytes());
        events.write(&event)?;
        Ok(events)
    }

    /// A whole file from JSON lines of figures, each with its `step`.
    pub fn copy(folder: &Path, jsonl: &str) -> Result<()> {
        let mut events = Events::begin(folder)?;
        for (at, line) in jsonl.lines().enumerate() {
            let figures: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)?;
            let step = figures
                .get("step")
                .and_then(serde_json::Value::as_u64)
                .map_or(at + 1, |step| step as usize);
            let others = figures.iter().filter(|(name, _)| *name != "step");
            // A figure that is no number is `null`.
            let others: Vec<(&str, f64)> = others
                .map(|(name, value)| (name.as_str(), value.as_f64().unwrap_or(f64::NAN)))
                .collect();
            events.add(step, &others)?;
        }
        Ok(())
    }

    /// Adds the figures of a step; they are there for a reader at once. Of two of one name the
    /// later counts, as in a line of JSON.
    pub fn add(&mut self, step: usize, figures: &[(&str, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (at, (name, figure)) in figures.iter().enumerate() {
            if figures[at + 1..].iter().any(|(other, _)| other == name) {
                continue;
            }
            let mut value = Vec::new();
            text(&mut value, 1, name.as_bytes());
            value.push(2 << 3 | 5);
            value.extend((*figure as f32).to_le_bytes());
            text(&mut summary, 1, &value);
        }
        let mut event = moment();
        event.push(2 << 3);
        varint(&mut event, step as u64);
        text(&mut event, 5, &summary);
        self.write(&event)
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        crate::fs::add(&self.file, &self.path, &frame(event))
    }
}

/// An event that so far says only when it is.
fn moment() -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend((now() as f64 / 1e9).to_le_bytes());
    event
}

/// A field of variable length: its number and wire type 2, the count of bytes, the bytes.
fn text(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits a byte, least significant first; the eighth says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()].concat()
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Bit by bit: an event has some hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4; and the check value of the catalogue of CRCs.
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(
            [crc32c(&[0; 32]), crc32c(&[0xff; 32]), crc32c(&ascending)],
            [0x8a91_36aa, 0x62a8_ab43, 0x46dd_794e]
        );
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn long_counts_take_more_bytes() {
        let of = |value| {
            let mut out = Vec::new();
            varint(&mut out, value);
            out
        };
        // From the documentation of the wire format.
        assert_eq!((of(1), of(150), of(0)), (vec![1], vec![0x96, 1], vec![0]));
    }
}

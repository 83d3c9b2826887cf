//! The places of the entries of a zip archive whose entries are stored and not compressed.
//! Independent of their use; reads none of them.
//!
//! After PKWARE's APPNOTE 6.3.10: the end record (4.3.16, its 64-bit form 4.3.14), the central
//! directory (4.3.12), local headers (4.3.7). Numbers of a file are checked: every place that is
//! returned is within it.

use std::collections::BTreeMap;
use std::io;

/// The bytes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where they begin in the file.
    pub start: u64,
    /// How many there are.
    pub length: u64,
}

/// Why an archive cannot be read.
#[derive(Debug)]
pub enum Damage {
    /// The machine's fault.
    Read(io::Error),
    /// The file's.
    Format(String),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        Damage::Read(error)
    }
}

/// Fills a buffer with the bytes from a place on.
pub type ReadAt<'a> = &'a dyn Fn(&mut [u8], u64) -> io::Result<()>;

/// The first bytes of an archive.
pub const MAGIC: &[u8] = b"PK\x03\x04";

const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;

/// The end record without its comment, and with the longest one.
const END_SIZE: usize = 22;
const END_LIMIT: u64 = END_SIZE as u64 + 0xffff;
/// A central directory larger than this is not one of tensors.
const DIRECTORY_LIMIT: u64 = 1 << 26;

/// The entries of an archive of `length` bytes, by name.
pub fn entries(read: ReadAt<'_>, length: u64) -> Result<BTreeMap<String, Span>, Damage> {
    let (start, size) = directory(read, length)?;
    if size > DIRECTORY_LIMIT || start.checked_add(size).is_none_or(|end| end > length) {
        return damaged("its directory is outside of it");
    }
    let mut bytes = vec![0; size as usize];
    read(&mut bytes, start)?;
    let mut entries = BTreeMap::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (name, span, next) = entry(read, rest, length)?;
        if entries.insert(name.clone(), span).is_some() {
            return damaged(format!("it holds {name:?} twice"));
        }
        rest = next;
    }
    Ok(entries)
}

fn damaged<T>(why: impl Into<String>) -> Result<T, Damage> {
    Err(Damage::Format(why.into()))
}

/// Where the central directory begins, and its size.
fn directory(read: ReadAt<'_>, length: u64) -> Result<(u64, u64), Damage> {
    let mut tail = vec![0; length.min(END_LIMIT) as usize];
    let base = length - tail.len() as u64;
    read(&mut tail, base)?;
    let Some(at) = (0..(tail.len() + 1).saturating_sub(END_SIZE))
        .rev()
        .find(|&at| u32_at(&tail, at) == Some(END))
    else {
        return damaged("it has no end record: it may be cut off");
    };
    let (size, start) = (u32_at(&tail, at + 12), u32_at(&tail, at + 16));
    let (Some(size), Some(start)) = (size, start) else {
        return damaged("its end record is cut off");
    };
    if size != u32::MAX && start != u32::MAX {
        return Ok((start.into(), size.into()));
    }
    // The 64-bit record is named by a locator just before this one.
    let locator = at.checked_sub(20).filter(|at| u32_at(&tail, *at) == Some(LOCATOR_64));
    let Some(record) = locator.and_then(|at| u64_at(&tail, at + 8)) else {
        return damaged("it lacks the end record of large archives");
    };
    if record.checked_add(56).is_none_or(|end| end > length) {
        return damaged("its end record is outside of it");
    }
    let mut bytes = [0; 56];
    read(&mut bytes, record)?;
    match (u32_at(&bytes, 0), u64_at(&bytes, 40), u64_at(&bytes, 48)) {
        (Some(END_64), Some(size), Some(start)) => Ok((start, size)),
        _ => damaged("its end record is not one"),
    }
}

/// The entry at the head of what is left of the central directory, and what follows it.
fn entry<'a>(
    read: ReadAt<'_>,
    bytes: &'a [u8],
    length: u64,
) -> Result<(String, Span, &'a [u8]), Damage> {
    let cut = || Damage::Format("its directory is cut off".into());
    let half = |at| u16_at(bytes, at).ok_or_else(cut);
    let word = |at| u32_at(bytes, at).ok_or_else(cut);
    if word(0)? != CENTRAL {
        return damaged("its directory is not one");
    }
    let (flags, method) = (half(8)?, half(10)?);
    let name_end = 46 + usize::from(half(28)?);
    let extra_end = name_end + usize::from(half(30)?);
    let end = extra_end + usize::from(half(32)?);
    let name = bytes.get(46..name_end).ok_or_else(cut)?;
    let extra = bytes.get(name_end..extra_end).ok_or_else(cut)?;
    let rest = bytes.get(end..).ok_or_else(cut)?;
    let Ok(name) = std::str::from_utf8(name) else {
        return damaged("it holds a name that is not UTF-8");
    };
    if flags & 1 != 0 || method != 0 {
        return damaged(format!("{name:?} is compressed or encrypted in it"));
    }
    let [size, stored, header] = large(extra, [word(24)?, word(20)?, word(42)?]).ok_or_else(cut)?;
    if size != stored {
        return damaged(format!("{name:?} has two sizes in it"));
    }
    let mut local = [0; 30];
    if header.checked_add(30).is_none_or(|end| end > length) {
        return damaged(format!("{name:?} is outside of it"));
    }
    read(&mut local, header)?;
    let (Some(LOCAL), Some(name_size), Some(extra_size)) =
        (u32_at(&local, 0), u16_at(&local, 26), u16_at(&local, 28))
    else {
        return damaged(format!("{name:?} has no header in it"));
    };
    let start = header + 30 + u64::from(name_size) + u64::from(extra_size);
    match start.checked_add(size) {
        Some(end) if end <= length => Ok((name.into(), Span { start, length: size }, rest)),
        _ => damaged(format!("{name:?} is outside of it")),
    }
}

/// Sizes and place of an entry; those that do not fit 32 bits are in its extra field, in this order
/// (4.5.3).
fn large(mut extra: &[u8], numbers: [u32; 3]) -> Option<[u64; 3]> {
    let mut wide = numbers.map(u64::from);
    if !numbers.contains(&u32::MAX) {
        return Some(wide);
    }
    loop {
        let (tag, size) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..4 + size)?;
        if tag == 1 {
            let mut words = field.chunks_exact(8);
            for (wide, _) in wide.iter_mut().zip(numbers).filter(|(_, number)| *number == u32::MAX)
            {
                *wide = u64_at(words.next()?, 0)?;
            }
            return Some(wide);
        }
        extra = &extra[4 + size..];
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &[u8] = b"0123456789";

    /// An archive with one entry whose numbers are all in the fields for archives beyond 4 GB.
    fn large_archive() -> Vec<u8> {
        let words = |numbers: &[u32]| {
            numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()
        };
        let wide = |numbers: &[u64]| {
            numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()
        };
        let mut bytes = b"unread".to_vec();
        let header = bytes.len() as u64;
        // Local: a name of one byte, an extra field of four.
        bytes.extend(
            words(&[LOCAL]).into_iter().chain([0; 22]).chain([1, 0, 4, 0, b'a', 9, 9, 0, 0]),
        );
        bytes.extend(CONTENT);
        let start = bytes.len() as u64;
        bytes.extend(words(&[CENTRAL]).into_iter().chain([0; 16]));
        bytes.extend(words(&[u32::MAX, u32::MAX]));
        // Another extra field goes before the one of sizes; then comes a comment of three bytes.
        bytes.extend([1, 0, 34, 0, 3, 0].into_iter().chain([0; 8]));
        bytes.extend(words(&[u32::MAX]).into_iter().chain([b'a', 7, 7, 2, 0, 0, 0, 1, 0, 24, 0]));
        bytes.extend(wide(&[10, 10, header]).into_iter().chain(*b"...").collect::<Vec<u8>>());
        let record = bytes.len() as u64;
        bytes.extend(
            words(&[END_64]).into_iter().chain([0; 36]).chain(wide(&[record - start, start])),
        );
        bytes.extend(words(&[LOCATOR_64, 0]).into_iter().chain(wide(&[record])).chain(words(&[1])));
        bytes.extend(
            words(&[END, 0, 0, u32::MAX, u32::MAX]).into_iter().chain([5, 0]).chain(*b"noise"),
        );
        bytes
    }

    fn open(bytes: &[u8]) -> Result<BTreeMap<String, Span>, Damage> {
        let read = |out: &mut [u8], start: u64| {
            out.copy_from_slice(&bytes[start as usize..][..out.len()]);
            Ok(())
        };
        entries(&read, bytes.len() as u64)
    }

    #[test]
    fn numbers_of_large_archives_stand_elsewhere() {
        let bytes = large_archive();
        let spans = open(&bytes).unwrap();
        assert_eq!(spans.keys().collect::<Vec<_>>(), ["a"]);
        let Span { start, length } = spans["a"];
        assert_eq!(&bytes[start as usize..][..length as usize], CONTENT);
    }

    #[test]
    fn nothing_outside_of_the_file_is_read_whatever_byte_is_wrong() {
        let bytes = large_archive();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x50, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                // Reading outside would panic.
                if let Ok(spans) = open(&changed) {
                    assert!(
                        spans.values().all(|span| span.start + span.length <= bytes.len() as u64)
                    );
                }
            }
            // All but the comment must be there.
            assert_eq!(open(&bytes[..at]).is_err(), at < bytes.len() - 5, "{at}");
        }
    }
}

//! Where two artefacts part. Knows no format but lines.

use std::collections::BTreeSet;
use std::path::Path;

use crate::dag::tree::{Links, walk};
use crate::error::Result;

/// Bytes of a line that are shown.
const SHOWN: usize = 120;

/// The first difference between the files of an artefact and those of another making of it, in the
/// order of paths; none if they are equal.
///
/// # Errors
/// The machine's.
pub fn first_difference(then: &Path, now: &Path) -> Result<Option<String>> {
    let names = |folder: &Path| -> Result<BTreeSet<String>> {
        Ok(walk(folder, Links::Refuse)?.into_iter().map(|(path, _)| path).collect())
    };
    let (before, after) = (names(then)?, names(now)?);
    for path in before.union(&after) {
        if !after.contains(path) {
            return Ok(Some(format!("`{path}` is not made any more")));
        }
        if !before.contains(path) {
            return Ok(Some(format!("`{path}` is made as well")));
        }
        let (old, new) = (crate::fs::read(&then.join(path))?, crate::fs::read(&now.join(path))?);
        if old != new {
            return Ok(Some(format!("`{path}` parts {}", place(&old, &new))));
        }
    }
    Ok(None)
}

/// The first place at which two files differ: the line of a text, else the byte.
fn place(old: &[u8], new: &[u8]) -> String {
    let common = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let line_of = |bytes: &[u8]| {
        let start = bytes[..common].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let end = bytes[common..].iter().position(|&byte| byte == b'\n');
        let line = std::str::from_utf8(&bytes[start..end.map_or(bytes.len(), |at| common + at)]);
        line.ok().map(|line| line.chars().take(SHOWN).collect::<String>())
    };
    match (line_of(old), line_of(new)) {
        (Some(then), Some(now)) => {
            let line = old[..common].iter().filter(|&&byte| byte == b'\n').count() + 1;
            format!("at line {line}: {then:?} then, {now:?} now")
        }
        _ => format!("at byte {common} of {} then, of {} now", old.len(), new.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_by_line_or_byte() {
        for (old, new, expected) in [
            (&b"a\nb\n"[..], &b"a\nc\n"[..], "at line 2: \"b\" then, \"c\" now"),
            (b"a\n", b"a\nc\n", "at line 2: \"\" then, \"c\" now"),
            (b"\xff\x00", b"\xff\x01\x02", "at byte 1 of 2 then, of 3 now"),
        ] {
            assert_eq!(place(old, new), expected);
        }
    }
}

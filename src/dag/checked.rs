//! A sum at the end of a JSON object, by which a reader notices that bits of it have flipped. Uses
//! nothing of what the object says.
//!
//! The last field of the object is `check`: the first 16 digits of the BLAKE3 hash of all bytes
//! before it. An object without the field is one of an earlier program, and is believed.

use serde::de::DeserializeOwned;

/// What is before the sum, and behind it.
const BEFORE: &[u8] = b",\"check\":\"";
const BEHIND: &[u8] = b"\"}";
const DIGITS: usize = 16;

/// Adds the sum to an object that has a field.
pub(super) fn seal(mut object: Vec<u8>) -> Vec<u8> {
    assert_eq!(object.pop(), Some(b'}'), "an object ends so");
    let sum = sum(&object);
    object.extend([BEFORE, sum.as_bytes(), BEHIND].concat());
    object
}

/// Whether an object, perhaps with blanks behind it, is what was sealed. One whose end is no sum is
/// believed: it is one of an earlier program, or a bit of the end itself has flipped.
fn is_intact(object: &[u8]) -> bool {
    let object = object.trim_ascii_end();
    let end = BEFORE.len() + DIGITS + BEHIND.len();
    let Some((body, tail)) = object.len().checked_sub(end).map(|at| object.split_at(at)) else {
        return true;
    };
    let found = tail.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(BEHIND));
    found.is_none_or(|found| found == sum(body).as_bytes())
}

/// What a sealed object says; `None` if it is no such object, or is not what was sealed.
pub(super) fn parsed<T: DeserializeOwned>(object: &[u8]) -> Option<T> {
    serde_json::from_slice(object).ok().filter(|_| is_intact(object))
}

fn sum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed_and_an_object_without_a_sum_is_believed() {
        let sealed = seal(br#"{"a":1,"b":"text"}"#.to_vec());
        assert!(is_intact(&sealed) && is_intact(b"{\"a\":1}\n") && is_intact(b"{}"));
        let parsed: serde_json::Value = serde_json::from_slice(&sealed).expect("it is JSON");
        assert_eq!(parsed["b"], "text");
        let body = sealed.len() - BEFORE.len() - DIGITS - BEHIND.len();
        for bit in 0..8 * sealed.len() {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A bit of the end changes nothing that the object says.
            let is_harmless = bit / 8 >= body && flipped[..body] == sealed[..body];
            let said: Option<serde_json::Value> = super::parsed(&flipped);
            assert!(said.is_none() || is_harmless, "bit {bit}");
        }
        // An earlier program's object may have a field of that name.
        assert!(is_intact(b"{\"name\":\"check\",\"check\":1}"));
    }
}

//! How far a set of texts can be compressed: its redundancy across texts (Shaib et al. 2024,
//! "Standardizing the measurement of text diversity"). Knows no model. Higher is less diverse.
//!
//! 1. Bytes of the texts, joined by single spaces, over their bytes as gzip at its highest level.
//! 2. The compressor is zlib's algorithm in another implementation, so figures agree with Python's
//!    gzip to about a percent.

use flate2::{Compress, Compression, FlushCompress};

/// Head and tail of a gzip file without a name.
const FRAME: usize = 18;

/// The ratio of the texts; 0 where they are empty.
pub fn ratio<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let texts: Vec<&str> = texts.collect();
    let text = texts.join(" ");
    if text.is_empty() {
        return 0.0;
    }
    // What cannot be compressed is stored, with a few bytes for each 16 KiB.
    let mut compressed = Vec::with_capacity(text.len() + text.len() / 1000 + 64);
    Compress::new(Compression::best(), false)
        .compress_vec(text.as_bytes(), &mut compressed, FlushCompress::Finish)
        .expect("any bytes can be compressed");
    text.len() as f64 / (compressed.len() + FRAME) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_itself_compresses_further() {
        let copies = ratio(["the cat sat on the mat today"; 16].into_iter());
        // Four bits in every letter.
        let texts: Vec<String> =
            (0..16).map(|at| blake3::hash(&[at]).to_hex().to_string()).collect();
        assert!(copies > 7.0, "{copies}");
        assert!(ratio(texts.iter().map(String::as_str)) < 2.0);
        assert_eq!((ratio([].into_iter()), ratio([""].into_iter())), (0.0, 0.0));
    }
}

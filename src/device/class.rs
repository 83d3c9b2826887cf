//! What of a machine may change bits, in words: a part of every numerics class. Knows no device.
//!
//! Functions of the platform's C library take part in what is computed on the host (draws,
//! schedules, statistics), and its versions and the code paths that it picks by processor round
//! differently. So the words hold the target, the library's name and version, and a digest of what
//! its functions give at some thousand points.

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

use crate::fs;

/// Points at which each function is asked.
const POINTS: u32 = 2048;
/// Bytes of the library's file that are read at a time, and beyond them.
const PIECE: u64 = 1 << 18;
const MARGIN: u64 = 64;
/// The words of the banner that the version follows in the library of the GNU project.
const BANNER: &[u8] = b"release version ";

/// The words for this machine: `x86_64-linux-gnu glibc-2.36 libm-3f9a21c4`.
pub fn machine() -> &'static str {
    static WORDS: OnceLock<String> = OnceLock::new();
    WORDS.get_or_init(|| format!("{} {} libm-{}", target(), library(), fingerprint()))
}

/// What the program was built for.
fn target() -> String {
    let first = |named: &[(bool, &'static str)]| {
        named.iter().find(|(is, _)| *is).map_or("other", |(_, name)| name)
    };
    let architecture =
        [(cfg!(target_arch = "x86_64"), "x86_64"), (cfg!(target_arch = "aarch64"), "aarch64")];
    let system = [(cfg!(target_os = "linux"), "linux"), (cfg!(target_os = "macos"), "macos")];
    let environment = [(cfg!(target_env = "gnu"), "gnu"), (cfg!(target_env = "musl"), "musl")];
    format!("{}-{}-{}", first(&architecture), first(&system), first(&environment))
}

/// The C library that this process has loaded, with its version where it tells.
fn library() -> String {
    if cfg!(target_env = "musl") {
        return "musl".into();
    }
    let maps = fs::read_to_string(Path::new("/proc/self/maps")).unwrap_or_default();
    let is_library = |path: &&str| {
        path.rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with("libc.so") || name.starts_with("libc-"))
    };
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(is_library);
    match path.and_then(|path| version_of(Path::new(path))) {
        Some(version) => format!("glibc-{version}"),
        None => "libc".into(),
    }
}

/// The version in the file of the GNU C library: from its end, where constants are, so that not all
/// of its two megabytes are read at each start.
fn version_of(path: &Path) -> Option<String> {
    let file = fs::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let starts = (0..bytes).step_by(PIECE as usize).collect::<Vec<u64>>();
    starts.into_iter().rev().find_map(|start| {
        // The banner and the number may go beyond the piece.
        let mut piece = vec![0; (PIECE + MARGIN).min(bytes - start) as usize];
        file.read_exact_at(&mut piece, start).ok()?;
        version(&piece)
    })
}

/// The version in the bytes of the GNU C library.
fn version(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(BANNER.len()).position(|window| window == BANNER)? + BANNER.len();
    let number = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
    let version = String::from_utf8(number.copied().collect()).ok()?;
    let version = version.trim_end_matches('.');
    (!version.is_empty()).then(|| version.to_owned())
}

/// A digest of what the library's functions give.
fn fingerprint() -> String {
    type Double = fn(f64) -> f64;
    type Single = fn(f32) -> f32;
    // The function and the range in which it is asked.
    let doubles: [(Double, f64, f64); 11] = [
        (f64::exp, -40.0, 40.0),
        (f64::exp2, -40.0, 40.0),
        (f64::exp_m1, -2.0, 2.0),
        (f64::ln, 1e-6, 100.0),
        (f64::ln_1p, -0.9, 4.0),
        (f64::log2, 1e-6, 100.0),
        (f64::log10, 1e-6, 100.0),
        (f64::sin, -100.0, 100.0),
        (f64::cos, -100.0, 100.0),
        (f64::tanh, -4.0, 4.0),
        (|x| x.powf(black_box(0.73)), 1e-6, 100.0),
    ];
    let singles: [(Single, f64, f64); 6] = [
        (f32::exp, -40.0, 40.0),
        (f32::ln, 1e-6, 100.0),
        (f32::sin, -100.0, 100.0),
        (f32::cos, -100.0, 100.0),
        (f32::tanh, -4.0, 4.0),
        (|x| x.powf(black_box(0.73)), 1e-6, 100.0),
    ];
    // Spread over the range by the golden ratio: exactly rounded operations alone.
    let point = |at: u32, low: f64, high: f64| {
        low + (high - low) * (f64::from(at) * 0.618_033_988_749_894_9).fract()
    };
    // Hashed at once: a call for each number takes as long as the functions do.
    let mut given = Vec::with_capacity(POINTS as usize * (8 * doubles.len() + 4 * singles.len()));
    for (function, low, high) in doubles {
        for at in 0..POINTS {
            let x = black_box(point(at, low, high));
            given.extend_from_slice(&function(x).to_bits().to_le_bytes());
        }
    }
    for (function, low, high) in singles {
        for at in 0..POINTS {
            let x = black_box(point(at, low, high) as f32);
            given.extend_from_slice(&function(x).to_bits().to_le_bytes());
        }
    }
    blake3::hash(&given).to_hex()[..8].to_owned()
}

/// How the numerics class of what is computed on no device begins.
pub const HOST: &str = "host ";

/// The numerics class of what is computed on no device.
pub fn host_class() -> &'static str {
    static CLASS: OnceLock<String> = OnceLock::new();
    CLASS.get_or_init(|| format!("{HOST}{}", machine()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_name_target_library_and_what_it_computes() {
        let words: Vec<&str> = machine().split(' ').collect();
        assert_eq!(words.len(), 3, "{words:?}");
        assert!(words[0].split('-').count() == 3 && !words[0].contains("other"), "{words:?}");
        assert!(words[2].starts_with("libm-") && words[2].len() == 13, "{words:?}");
        assert_eq!(fingerprint(), fingerprint());
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            // As the library says itself.
            let said = std::process::Command::new("getconf")
                .arg("GNU_LIBC_VERSION")
                .output()
                .expect("it comes with the library");
            let said = String::from_utf8(said.stdout).expect("a text");
            assert_eq!(words[1], said.trim().replace(' ', "-"));
        }
    }

    #[test]
    fn a_banner_is_found_wherever_it_is_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let banner = b"GNU C Library stable release version 2.36.\n";
        for at in [0, PIECE - 30, PIECE - 1, PIECE, 2 * PIECE + 7] {
            let mut bytes = vec![b'r'; 3 * PIECE as usize];
            bytes[at as usize..][..banner.len()].copy_from_slice(banner);
            fs::write_atomic(file.path(), &bytes).unwrap();
            assert_eq!(version_of(file.path()).as_deref(), Some("2.36"), "{at}");
        }
        fs::write_atomic(file.path(), b"").unwrap();
        assert_eq!(version_of(file.path()), None);
        assert_eq!(version_of(Path::new("/nothing/here")), None);
    }

    #[test]
    fn a_version_is_read_from_the_banner() {
        let banner = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u4) stable release version \
            2.36.\nCopyright";
        assert_eq!(version(banner).as_deref(), Some("2.36"));
        assert_eq!(version(b"release version of nothing"), None);
        assert_eq!(version(b""), None);
    }
}

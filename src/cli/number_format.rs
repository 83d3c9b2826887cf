//! Numbers for people: durations, sizes, counts, figures of four digits.

use std::time::{SystemTime, UNIX_EPOCH};

/// `0.31 s`, `12.4 s`, `3 min 07 s`, `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.2} s"),
        10..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `512 B`, `1.2 kB`, `34 MB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    if unit == "B" || value >= 10.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// How long ago a moment (in seconds since 1970) was.
pub fn age(moment: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|since| since.as_secs())
        .unwrap_or_default();
    match now.saturating_sub(moment) {
        seconds @ 0..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86400 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86400),
    }
}

/// Four significant digits.
pub fn figure(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    match value.abs() {
        size if !(1e-4..1e7).contains(&size) => format!("{value:.3e}"),
        _ => format!("{value:.*}", digits.clamp(0, 8) as usize),
    }
}

/// `1 node`, `2 nodes`.
pub fn count(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(
            ["12.35", "0.001235", "1235", "-0.5000"],
            [12.346, 0.0012346, 1234.6, -0.5].map(figure).each_ref().map(String::as_str)
        );
        assert_eq!(
            (figure(0.0), figure(1.5e-7), figure(f64::NAN)),
            ("0".into(), "1.500e-7".into(), "NaN".into())
        );
        assert_eq!(
            (duration(0.314), duration(59.96), duration(187.0), duration(7500.0)),
            ("0.31 s".into(), "1 min 00 s".into(), "3 min 07 s".into(), "2 h 05 min".into())
        );
        assert_eq!(
            (size(999), size(1200), size(34_000_000)),
            ("999 B".into(), "1.2 kB".into(), "34 MB".into())
        );
    }
}

//! `--budget`: the time after which a run stops.

use std::time::Duration;

use super::common::tell;
use super::number_format::duration;
use crate::dag::stop::Stop;
use crate::error::{Result, no_thread};

/// Seconds of `30m`, `2h`, `90s` or a number of minutes.
pub fn time(text: &str) -> std::result::Result<f64, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('s') => (number, 1.0),
        Some(number) if text.ends_with('h') => (number, 3600.0),
        Some(number) => (number, 60.0),
        None => (text, 60.0),
    };
    let number = number.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    let expected = "expected a time above 0, such as `30m`, `2h`, `90s` or a number of minutes";
    number.map(|number| number * unit).ok_or_else(|| expected.into())
}

/// Asks for a stop after some seconds, and says so if wanted.
///
/// # Errors
/// There is no thread for it.
pub fn stop_after(seconds: f64, stop: &Stop, is_said: bool) -> Result<()> {
    let stop = stop.clone();
    let wait = move || {
        std::thread::sleep(Duration::from_secs_f64(seconds));
        if is_said {
            tell(&format!("the budget of {} is spent", duration(seconds)));
        }
        stop.request();
    };
    std::thread::Builder::new()
        .name("budget".into())
        .spawn(wait)
        .map(drop)
        .map_err(|error| no_thread("a thread", error).into())
}

//! What a plain scalar means when a number or a truth value is asked for. No guessing: each
//! spelling that other YAML readers take for something else is an error that says what to write.

use std::collections::BTreeMap;

use super::yaml::{Node, Scalar, Value};

/// Why a scalar is not what was asked for, and what to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfit {
    /// `expected a number, found ...`.
    pub message: String,
    /// What to write.
    pub help: Option<String>,
}

fn unfit<T>(message: impl Into<String>, help: Option<String>) -> Result<T, Unfit> {
    Err(Unfit { message: message.into(), help })
}

/// The shape of a value as it was written; what a param's overrides must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing: fits, and is fitted by, everything.
    Null,
    /// `true`, `false`.
    Truth,
    /// A number.
    Number,
    /// Anything else that is a scalar.
    Text,
    /// A list.
    List,
    /// A mapping.
    Mapping,
}

impl Class {
    /// With its article.
    pub fn name(self) -> &'static str {
        match self {
            Class::Null => "nothing",
            Class::Truth => "true or false",
            Class::Number => "a number",
            Class::Text => "text",
            Class::List => "a list",
            Class::Mapping => "a mapping",
        }
    }
}

/// The shape of a node.
pub fn class(node: &Node) -> Class {
    match &node.value {
        Value::Sequence(_) => Class::List,
        Value::Mapping(_) => Class::Mapping,
        Value::Scalar(scalar) if scalar.is_null() => Class::Null,
        Value::Scalar(scalar) if !scalar.plain => Class::Text,
        Value::Scalar(scalar) if matches!(scalar.text.as_str(), "true" | "false") => Class::Truth,
        Value::Scalar(scalar) if number(scalar).is_ok() => Class::Number,
        Value::Scalar(_) => Class::Text,
    }
}

/// A truth value: `true` or `false`, nothing else.
pub fn truth(scalar: &Scalar) -> Result<bool, Unfit> {
    match (scalar.plain, scalar.text.as_str()) {
        (true, "true") => Ok(true),
        (true, "false") => Ok(false),
        (false, text @ ("true" | "false")) => unfit(
            format!("expected true or false, found the text \"{text}\""),
            Some("drop the quotes".into()),
        ),
        (_, text) => {
            let meant = match text.to_lowercase().as_str() {
                "yes" | "y" | "on" | "true" => Some("true"),
                "no" | "n" | "off" | "false" => Some("false"),
                _ => None,
            };
            let help = meant.map(|meant| format!("`{text}` is text in YAML 1.2; write `{meant}`"));
            unfit(format!("expected true or false, found `{text}`"), help)
        }
    }
}

/// A finite number: `10`, `0.0001`, `1e-4`, `1.0e-4`, `-.5`.
pub fn number(scalar: &Scalar) -> Result<f64, Unfit> {
    let text = numeric_text(scalar, "a number")?;
    let mantissa_end = text.find(['e', 'E']).unwrap_or(text.len());
    let (mantissa, exponent) = (&text[..mantissa_end], text.get(mantissa_end + 1..));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = mantissa.trim_start_matches(['-', '+']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mantissa_fits = mantissa.len() - unsigned.len() <= 1
        && (digits(whole) || whole.is_empty() && digits(fraction))
        && (fraction.is_empty() || digits(fraction));
    let exponent_fits = exponent
        .is_none_or(|exponent| digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)));
    if !mantissa_fits || !exponent_fits {
        return not_a_number(text, "a number");
    }
    refuse_leading_zero(whole, text)?;
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => unfit(format!("expected a number, found `{text}`, which is too large"), None),
    }
}

/// A whole number in plain decimal digits.
pub fn integer(scalar: &Scalar) -> Result<i128, Unfit> {
    let text = numeric_text(scalar, "a whole number")?;
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return match number(scalar) {
            Ok(value) if value.fract() == 0.0 && value.abs() < 1e15 => unfit(
                format!("expected a whole number, found `{text}`"),
                Some(format!("write {value:.0}")),
            ),
            Ok(_) => unfit(format!("expected a whole number, found `{text}`"), None),
            Err(_) => not_a_number(text, "a whole number"),
        };
    }
    refuse_leading_zero(unsigned, text)?;
    match text.parse() {
        Ok(value) => Ok(value),
        Err(_) => {
            unfit(format!("expected a whole number, found `{text}`, which is too large"), None)
        }
    }
}

fn numeric_text<'a>(scalar: &'a Scalar, what: &str) -> Result<&'a str, Unfit> {
    let text = scalar.text.as_str();
    if scalar.plain {
        return Ok(text);
    }
    let bare = Scalar { plain: true, ..scalar.clone() };
    let help = number(&bare).is_ok().then(|| "drop the quotes".into());
    unfit(format!("expected {what}, found the text {text:?}"), help)
}

fn refuse_leading_zero(whole: &str, text: &str) -> Result<(), Unfit> {
    if whole.len() > 1 && whole.starts_with('0') {
        let (decimal, sign) =
            (whole.trim_start_matches('0'), if text.starts_with('-') { "-" } else { "" });
        let decimal = if decimal.is_empty() { "0" } else { decimal };
        let octal = u64::from_str_radix(whole, 8)
            .map(|value| format!(" (octal, so {sign}{value}, in YAML 1.1)"))
            .unwrap_or_default();
        return unfit(
            format!("expected a number without leading zeros, found `{text}`{octal}"),
            Some(format!(
                "write {sign}{decimal}{}",
                text.trim_start_matches(['-', '+']).strip_prefix(whole).unwrap_or("")
            )),
        );
    }
    Ok(())
}

fn not_a_number<T>(text: &str, what: &str) -> Result<T, Unfit> {
    let lower = text.to_lowercase();
    let lower = lower.trim_start_matches(['-', '+', '.']);
    if matches!(lower, "nan" | "inf" | "infinity") {
        return unfit(
            format!("expected {what}, found `{text}`"),
            Some("numbers must be finite".into()),
        );
    }
    let without = text.replace('_', "");
    let bare = Scalar { text: without.clone(), plain: true, folder_of: 0 };
    let in_base = |prefix: &str, base: u32| {
        text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, base).ok())
    };
    let decimal = in_base("0x", 16).or_else(|| in_base("0o", 8)).map(|value| value.to_string());
    let right = if text.contains('_') && number(&bare).is_ok() { Some(without) } else { decimal };
    let help = right.map(|right| format!("write {right}"));
    unfit(format!("expected {what}, found `{text}`"), help)
}

/// What a value means, however it is spelt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Meaning {
    /// Nothing.
    Null,
    /// `true`, `false`.
    Truth(String),
    /// A number by its bits; both zeros are one.
    Number(u64),
    /// Anything else that is a scalar.
    Text(String),
    /// A list.
    List(Vec<Meaning>),
    /// A mapping, whatever the order of its keys.
    Mapping(BTreeMap<String, Meaning>),
}

/// What a node means.
pub fn meaning(node: &Node) -> Meaning {
    match &node.value {
        Value::Sequence(items) => Meaning::List(items.iter().map(meaning).collect()),
        Value::Mapping(entries) => Meaning::Mapping(
            entries.iter().map(|entry| (entry.key.clone(), meaning(&entry.value))).collect(),
        ),
        Value::Scalar(scalar) => match (class(node), number(scalar)) {
            (Class::Null, _) => Meaning::Null,
            (Class::Truth, _) => Meaning::Truth(scalar.text.clone()),
            (Class::Number, Ok(number)) => Meaning::Number((number + 0.0).to_bits()),
            _ => Meaning::Text(scalar.text.clone()),
        },
    }
}

/// True if two values mean the same, however they are spelt.
pub fn same(a: &Node, b: &Node) -> bool {
    meaning(a) == meaning(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.into(), plain: true, folder_of: 0 }
    }

    #[test]
    fn every_spelling_of_a_number_is_one_number() {
        for text in ["1e-4", "0.0001", "1.0e-4", "1E-4", ".0001", "+1e-4", "10e-5", "0.1e-3"] {
            assert_eq!(number(&plain(text)), Ok(1e-4), "{text}");
        }
        assert_eq!(number(&plain("1")), Ok(1.0));
        assert_eq!(number(&plain("-1.")), Ok(-1.0));
        assert_eq!(number(&plain("0.5")), Ok(0.5));
        assert_eq!(number(&plain("0")), Ok(0.0));
    }

    #[test]
    fn what_other_readers_take_for_numbers_is_refused_with_the_right_spelling() {
        let help = |text: &str| integer(&plain(text)).expect_err("it is refused").help;
        assert_eq!(help("010"), Some("write 10".into()));
        assert_eq!(help("1_000"), Some("write 1000".into()));
        assert_eq!(help("0x10"), Some("write 16".into()));
        assert_eq!(help("1e3"), Some("write 1000".into()));
        assert_eq!(help("10.0"), Some("write 10".into()));
        assert_eq!(help("2.5"), None);
        for text in [
            ".nan", ".inf", "-.inf", "NaN", "inf", "1e999", "", "-", ".", "e5", "1e", "1e+", "--1",
            "0b1", "1 2",
        ] {
            assert!(number(&plain(text)).is_err(), "{text}");
        }
        assert_eq!(
            number(&plain("-010.5")).expect_err("it is refused").help,
            Some("write -10.5".into())
        );
    }

    #[test]
    fn only_true_and_false_are_truth_values() {
        assert_eq!(truth(&plain("true")), Ok(true));
        assert_eq!(
            truth(&plain("no")).expect_err("it is refused").help,
            Some("`no` is text in YAML 1.2; write `false`".into())
        );
        assert_eq!(
            truth(&plain("on")).expect_err("it is refused").help,
            Some("`on` is text in YAML 1.2; write `true`".into())
        );
        assert_eq!(
            truth(&Scalar { text: "true".into(), plain: false, folder_of: 0 })
                .expect_err("it is refused")
                .help,
            Some("drop the quotes".into())
        );
    }
}

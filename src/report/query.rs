//! Queries of figures: `method=ppo`, `kl<0.1`, `seed=0..4`. A term is a name, a comparison and a
//! value; what names there are is the business of [`super::results`].
//!
//! 1. `=` holds where the value is the text, the same number (`0.10` is `0.1`), between two numbers
//!    with both ends (`0..4`), or a pattern of the text (`*` any letters, `?` any one letter). `!=`
//!    is its opposite.
//! 2. `<`, `<=`, `>`, `>=` hold of numbers alone.

/// One term.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// What is compared.
    pub name: String,
    /// How.
    pub comparison: Comparison,
    /// What with.
    pub value: String,
}

/// How a term compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

/// Longer signs before those that they begin with.
const SIGNS: [(&str, Comparison); 6] = [
    ("!=", Comparison::IsNot),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("=", Comparison::Is),
    ("<", Comparison::Below),
    (">", Comparison::Above),
];

impl Comparison {
    /// Its sign.
    pub fn sign(self) -> &'static str {
        SIGNS.iter().find(|(_, own)| *own == self).map_or("", |(sign, _)| sign)
    }
}

impl Term {
    /// Reads a term.
    ///
    /// # Errors
    /// What is wrong, in words: there is no sign, no name before it, or no number behind `<`.
    pub fn read(text: &str) -> Result<Term, String> {
        let signs = SIGNS.iter().filter_map(|sign| Some((text.find(sign.0)?, sign)));
        // The first place; of signs there, the longest, which is the first of the list.
        let Some((at, (sign, comparison))) = signs.min_by_key(|(at, _)| *at) else {
            return Err(format!("expected NAME=VALUE, found `{text}`"));
        };
        let (name, value) = (text[..at].trim(), text[at + sign.len()..].trim());
        if name.is_empty() {
            return Err(format!("expected a name before `{sign}`, found `{text}`"));
        }
        let ordered = !matches!(comparison, Comparison::Is | Comparison::IsNot);
        if ordered && number(value).is_none() {
            return Err(format!("expected a number after `{sign}`, found `{text}`"));
        }
        Ok(Term { name: name.into(), comparison: *comparison, value: value.into() })
    }

    /// Whether it holds of something that any of `texts` is a name of.
    pub fn holds(&self, texts: &[&str]) -> bool {
        let is = |text: &&str| is(&self.value, text);
        let ordered = |holds: fn(f64, f64) -> bool| {
            let pairs = texts.iter().filter_map(|text| Some((number(text)?, number(&self.value)?)));
            pairs.into_iter().any(|(one, other)| holds(one, other))
        };
        match self.comparison {
            Comparison::Is => texts.iter().any(is),
            Comparison::IsNot => !texts.iter().any(is),
            Comparison::Below => ordered(|one, other| one < other),
            Comparison::AtMost => ordered(|one, other| one <= other),
            Comparison::Above => ordered(|one, other| one > other),
            Comparison::AtLeast => ordered(|one, other| one >= other),
        }
    }
}

impl std::fmt::Display for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.name, self.comparison.sign(), self.value)
    }
}

/// A number as text.
pub(super) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn is(value: &str, text: &str) -> bool {
    if let (Some(one), Some(other)) = (number(value), number(text)) {
        return one == other;
    }
    let ends = value.split_once("..").and_then(|(low, high)| Some((number(low)?, number(high)?)));
    match ends {
        Some((low, high)) => number(text).is_some_and(|number| low <= number && number <= high),
        None => matches(value, text),
    }
}

/// Whether a text has a pattern. Takes time by the product of both lengths at most: after a `*`
/// the last one alone is tried further on.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` is, and where the letters that it matches end.
    let mut last: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                last = Some((p, t));
                p += 1;
            }
            Some(letter) if *letter == '?' || *letter == text[t] => (p, t) = (p + 1, t + 1),
            _ => match last {
                Some((star, end)) => {
                    last = Some((star, end + 1));
                    (p, t) = (star + 1, end + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_at_their_first_sign() {
        for (text, name, comparison, value) in [
            ("metric=gold", "metric", Comparison::Is, "gold"),
            ("kl!=0.1", "kl", Comparison::IsNot, "0.1"),
            ("kl<0.1", "kl", Comparison::Below, "0.1"),
            ("kl <= 0.1", "kl", Comparison::AtMost, "0.1"),
            ("kl>0", "kl", Comparison::Above, "0"),
            ("kl>=1e-3", "kl", Comparison::AtLeast, "1e-3"),
            ("method=ppo[kl=0.1]", "method", Comparison::Is, "ppo[kl=0.1]"),
            ("kl=", "kl", Comparison::Is, ""),
        ] {
            let term = Term::read(text).unwrap();
            assert_eq!(
                (term.name.as_str(), term.comparison, term.value.as_str()),
                (name, comparison, value),
                "{text}"
            );
            assert_eq!(term.to_string(), text.replace(' ', ""));
        }
        for (text, words) in [
            ("gold", "expected NAME=VALUE, found `gold`"),
            ("=gold", "expected a name before `=`, found `=gold`"),
            ("kl<high", "expected a number after `<`, found `kl<high`"),
        ] {
            assert_eq!(Term::read(text).unwrap_err(), words);
        }
    }

    #[test]
    fn terms_hold_of_texts_numbers_and_patterns() {
        for (term, text, holds) in [
            ("a=0.1", "0.10", true),
            ("a=0.1", "0.11", false),
            ("a!=0.1", "0.10", false),
            ("a!=0.1", "", true),
            ("a=", "", true),
            ("a=", "x", false),
            ("a=0..4", "4", true),
            ("a=0..4", "0", true),
            ("a=0..4", "4.5", false),
            ("a=0..4", "few", false),
            ("a<0.1", "0.05", true),
            ("a<0.1", "0.1", false),
            ("a<=0.1", "0.10", true),
            ("a>0.1", "0.1", false),
            ("a>=0.1", "0.1", true),
            ("a<1", "few", false),
            ("a<1", "", false),
            ("a=ood_*", "ood_forum", true),
            ("a=ood_*", "food_forum", false),
            ("a=*o*m", "ood_forum", true),
            ("a=*o*n", "ood_forum", false),
            ("a=s?t", "sft", true),
            ("a=s?t", "st", false),
            ("a=**", "", true),
            ("a=ppo[kl=0.1]", "ppo[kl=0.1]", true),
        ] {
            assert_eq!(Term::read(term).unwrap().holds(&[text]), holds, "{term} of `{text}`");
        }
        let either = Term::read("method=ppo").unwrap();
        assert!(either.holds(&["ppo[kl=0.1]", "ppo"]));
        assert!(!Term::read("method!=ppo").unwrap().holds(&["ppo[kl=0.1]", "ppo"]));
    }
}

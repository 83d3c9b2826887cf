//! What a model is: closed enums and numbers. No family, no file, no device.

use serde::{Deserialize, Serialize};

use crate::backend::Heads;
use crate::error::{Result, user};

/// A decoder transformer: pre-norm blocks of rotary grouped-query attention and a gated feed-forward, no dropout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// `v`: token ids are below it.
    pub vocabulary: usize,
    /// `d`: width of the residual stream.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads, each of `channels`.
    pub query_heads: usize,
    /// Key/value heads, a divisor of `query_heads`.
    pub key_value_heads: usize,
    /// `c`: channels of a head, an even number; `query_heads * channels` need not be `width`.
    pub channels: usize,
    /// `f`: inner width of the feed-forward.
    pub feed_forward: usize,
    /// Positions the model is made for.
    pub context: usize,
    /// Added to the mean square in every norm.
    pub norm_epsilon: f64,
    /// Base of the rotary frequencies: channel pair j turns by `theta^(-2j/c)` a position (Su et al. 2021, section 3.2).
    pub rotary_theta: f64,
    /// The language head is the embedding.
    pub tied: bool,
    /// The four linear layers of attention have a bias.
    pub attention_bias: bool,
}

impl Spec {
    /// The sizes of attention.
    pub fn heads(&self) -> Heads {
        Heads { query: self.query_heads, key_value: self.key_value_heads, channels: self.channels }
    }

    /// `h * c`: width of queries and of attention's output.
    pub fn query_width(&self) -> usize {
        self.query_heads * self.channels
    }

    /// `g * c`: width of keys and of values.
    pub fn key_value_width(&self) -> usize {
        self.key_value_heads * self.channels
    }

    /// Every number out of its range: the field, and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("width", self.width),
            ("layers", self.layers),
            ("query_heads", self.query_heads),
            ("key_value_heads", self.key_value_heads),
            ("channels", self.channels),
            ("feed_forward", self.feed_forward),
            ("context", self.context),
        ];
        for (field, value) in sizes {
            if value == 0 || value > 1 << 28 {
                problems.push((field, format!("must be between 1 and 2^28, it is {value}")));
            }
        }
        if self.key_value_heads > 0 && !self.query_heads.is_multiple_of(self.key_value_heads) {
            let (query, key_value) = (self.query_heads, self.key_value_heads);
            problems.push(("key_value_heads", format!("must divide the number of query heads, {query}, it is {key_value}")));
        }
        if !self.channels.is_multiple_of(2) {
            problems.push(("channels", format!("must be even, since rotary positions turn pairs, it is {}", self.channels)));
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0) {
            problems.push(("norm_epsilon", format!("must lie between 0 and 1, it is {}", self.norm_epsilon)));
        }
        if !(self.rotary_theta >= 1.0 && self.rotary_theta.is_finite()) {
            problems.push(("rotary_theta", format!("must be at least 1, it is {}", self.rotary_theta)));
        }
        problems
    }

    /// The problems as one user error; `place` says where the numbers stand, `key` what a field is called there.
    pub fn check(&self, place: &str, key: impl Fn(&'static str) -> &'static str) -> Result<()> {
        let problems: Vec<String> = self.problems().into_iter().map(|(field, problem)| format!("`{}` {problem}", key(field))).collect();
        match problems.is_empty() {
            true => Ok(()),
            false => Err(user(format!("{place} does not describe a model: {}", problems.join("; "))).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_out_of_range_names_every_bad_field() {
        let spec = Spec {
            vocabulary: 10,
            width: 8,
            layers: 0,
            query_heads: 4,
            key_value_heads: 3,
            channels: 5,
            feed_forward: 8,
            context: 8,
            norm_epsilon: 0.0,
            rotary_theta: f64::NAN,
            tied: true,
            attention_bias: false,
        };
        let message = spec.check("x.json", |field| field).expect_err("it is wrong in five ways").to_string();
        for word in ["x.json", "`layers`", "`key_value_heads`", "`channels`", "`norm_epsilon`", "`rotary_theta`"] {
            assert!(message.contains(word), "{message}");
        }
        assert!(!message.contains("`width`"));
    }
}

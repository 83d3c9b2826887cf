//! What a model is: closed enums and numbers. No family, no file, no device.

use crate::backend::Heads;
pub use crate::backend::{Activation, Mask};
use crate::error::{Result, user};

/// A transformer without dropout: a decoder or, with a bidirectional mask, an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `v`: token ids are below it.
    pub vocabulary: usize,
    /// `d`: width of the residual stream.
    pub width: usize,
    /// `e`: width of embeddings and of what heads read; where it is not `width`, linear layers
    /// convert between the two.
    pub embedding_width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention of the blocks, which repeats: block `i` has the entry of `i` modulo their number.
    /// One entry where all blocks are alike.
    pub pattern: Vec<LayerSpec>,
    /// Query heads, each of `channels`.
    pub query_heads: usize,
    /// Key/value heads, a divisor of `query_heads`.
    pub key_value_heads: usize,
    /// `c`: channels of a head; `query_heads * channels` need not be `width`.
    pub channels: usize,
    /// `f`: inner width of the feed-forward.
    pub feed_forward_width: usize,
    /// Positions the model is made for.
    pub context: usize,
    /// An embedding of each position is added.
    pub learned_positions: bool,
    /// The order of norms and residual branches.
    pub wiring: Wiring,
    /// What norms divide by.
    pub norm: Norm,
    /// Added to the variance, or the mean square, in every norm.
    pub norm_epsilon: f64,
    /// Each query and key head is normed by its root mean square, with a weight, before it is
    /// rotated.
    pub query_key_norm: bool,
    /// The kind of the feed-forward.
    pub feed_forward: FeedForward,
    /// Queries, keys and values have a bias.
    pub query_key_value_bias: bool,
    /// Attention's output has a bias.
    pub output_bias: bool,
    /// The linear layers of the feed-forward have a bias.
    pub feed_forward_bias: bool,
    /// Kinds of segments, each with an embedding that is added; 0 where there are none.
    pub token_types: usize,
    /// The sum of all embeddings is normed.
    pub embedding_norm: bool,
    /// The last block's output is normed.
    pub final_norm: bool,
    /// The language head is the embedding.
    pub tied: bool,
    /// Classes that a head on the first token tells apart; 0 where there is none.
    pub labels: usize,
}

/// Attention of one block, where blocks of a model may differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerSpec {
    /// Which positions a token attends to.
    pub mask: Mask,
    /// How queries and keys are rotated by their positions (Su et al. 2021), if they are.
    pub rotary: Option<Rotary>,
}

/// Rotary positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotary {
    /// Base of the frequencies: channel pair j turns by `theta^(-2j/channels)` a position.
    pub theta: f64,
    /// The first channels of a head, an even number, are rotated; channel j pairs with j +
    /// channels/2.
    pub channels: usize,
    /// How frequencies were stretched to a longer context.
    pub scaling: Scaling,
}

/// How rotary frequencies are stretched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All divided by `factor` (Chen et al. 2023).
    Linear {
        /// The new context over the old.
        factor: f64,
    },
    /// Wavelengths above `context / low` are divided by `factor`, those below `context / high` are
    /// unchanged, with a ramp in between (Grattafiori et al. 2024).
    Ramp {
        /// What low frequencies are divided by.
        factor: f64,
        /// Turns in `context` below which a frequency is low.
        low: f64,
        /// Turns in `context` above which a frequency is high.
        high: f64,
        /// The context before stretching.
        context: f64,
    },
}

/// The feed-forward of a block, between linear layers `gate`, `up` and `down`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForward {
    /// `down(activation(up x))`.
    Plain(Activation),
    /// `down(silu(gate x) * up x)` (Shazeer 2020).
    SwiGlu,
}

impl FeedForward {
    /// Whether it has a `gate`.
    pub fn is_gated(self) -> bool {
        self == FeedForward::SwiGlu
    }
}

/// The order of norms and residual branches; A is attention, F the feed-forward, N a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// y = x + A(N x), out = y + F(N y).
    Pre,
    /// out = x + A(N x) + F(N' x).
    Parallel,
    /// y = N(x + A x), out = N(y + F y).
    Post,
}

/// What a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// The standard deviation, after subtracting the mean; with a weight and a bias (Ba et al.
    /// 2016).
    Layer,
    /// The root mean square; with a weight (Zhang & Sennrich 2019).
    Rms,
}

impl Spec {
    /// A decoder with rotary positions, root-mean-square norms and a gated feed-forward, tied and
    /// without biases, with `heads` heads that share the width: the form of models trained from
    /// nothing.
    pub fn decoder(
        vocabulary: usize,
        width: usize,
        layers: usize,
        heads: usize,
        feed_forward_width: usize,
        context: usize,
    ) -> Self {
        let channels = width / heads.max(1);
        Spec {
            vocabulary,
            width,
            embedding_width: width,
            layers,
            query_heads: heads,
            key_value_heads: heads,
            channels,
            feed_forward_width,
            context,
            pattern: vec![LayerSpec {
                mask: Mask::Causal { window: None },
                rotary: Some(Rotary { theta: 1e4, channels, scaling: Scaling::None }),
            }],
            learned_positions: false,
            wiring: Wiring::Pre,
            norm: Norm::Rms,
            norm_epsilon: 1e-5,
            query_key_norm: false,
            feed_forward: FeedForward::SwiGlu,
            query_key_value_bias: false,
            output_bias: false,
            feed_forward_bias: false,
            token_types: 0,
            embedding_norm: false,
            final_norm: true,
            tied: true,
            labels: 0,
        }
    }

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

    /// Attention of block `layer`.
    pub fn layer(&self, layer: usize) -> LayerSpec {
        self.pattern[layer % self.pattern.len()]
    }

    /// The same model with a change of every block's attention.
    pub fn with_each_layer(mut self, change: impl Fn(&mut LayerSpec)) -> Self {
        self.pattern.iter_mut().for_each(change);
        self
    }

    /// The same model with learned positions and no rotary ones.
    pub fn with_learned_positions(self) -> Self {
        Spec { learned_positions: true, ..self.with_each_layer(|layer| layer.rotary = None) }
    }

    /// The different rotary positions of the blocks, in the order of the first that has each.
    pub fn rotaries(&self) -> Vec<Rotary> {
        let mut rotaries = Vec::new();
        for rotary in self.pattern.iter().filter_map(|layer| layer.rotary) {
            if !rotaries.contains(&rotary) {
                rotaries.push(rotary);
            }
        }
        rotaries
    }

    /// Every number out of its range: the field, and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("width", self.width),
            ("embedding_width", self.embedding_width),
            ("layers", self.layers),
            ("query_heads", self.query_heads),
            ("key_value_heads", self.key_value_heads),
            ("channels", self.channels),
            ("feed_forward_width", self.feed_forward_width),
            ("context", self.context),
        ];
        for (field, value) in sizes {
            if value == 0 || value > 1 << 28 {
                problems.push((field, format!("must be between 1 and 2^28, it is {value}")));
            }
        }
        if self.key_value_heads > 0 && !self.query_heads.is_multiple_of(self.key_value_heads) {
            let (query, key_value) = (self.query_heads, self.key_value_heads);
            problems.push((
                "key_value_heads",
                format!("must divide the number of query heads, {query}, it is {key_value}"),
            ));
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0) {
            problems.push((
                "norm_epsilon",
                format!("must be between 0 and 1, it is {}", self.norm_epsilon),
            ));
        }
        if self.pattern.is_empty() || self.pattern.len() > self.layers.max(1) {
            let message = format!("must have an entry for up to {} blocks", self.layers);
            problems.push(("pattern", message));
        }
        if self.pattern.iter().any(|layer| layer.mask == Mask::Causal { window: Some(0) }) {
            problems.push(("mask", "a window must be at least 1, the token itself".into()));
        }
        for rotary in self.rotaries() {
            self.rotary_problems(rotary, &mut problems);
        }
        problems
    }

    /// Numbers of rotary positions out of their range.
    fn rotary_problems(&self, rotary: Rotary, problems: &mut Vec<(&'static str, String)>) {
        let Rotary { theta, channels, scaling } = rotary;
        if !channels.is_multiple_of(2) || channels == 0 || channels > self.channels {
            let most = self.channels;
            problems.push((
                "channels",
                format!("rotary positions turn pairs of a head's {most} channels, not {channels}"),
            ));
        }
        if !(theta >= 1.0 && theta.is_finite()) {
            problems.push(("rotary_theta", format!("must be at least 1, it is {theta}")));
        }
        let numbers = match scaling {
            Scaling::None => vec![],
            Scaling::Linear { factor } => vec![factor],
            Scaling::Ramp { factor, low, high, context } => {
                vec![factor, low, high - low, context]
            }
        };
        if numbers.iter().any(|number| !(*number > 0.0 && number.is_finite())) {
            problems
                .push(("rotary_scaling", format!("has a number that is not above 0: {scaling:?}")));
        }
    }

    /// The problems as one user error; `place` is where the numbers are read from, `key` the name
    /// of a field there.
    pub fn check(&self, place: &str, key: impl Fn(&'static str) -> &'static str) -> Result<()> {
        let problems: Vec<String> = self
            .problems()
            .into_iter()
            .map(|(field, problem)| format!("`{}` {problem}", key(field)))
            .collect();
        match problems.is_empty() {
            true => Ok(()),
            false => {
                Err(user(format!("{place} does not describe a model: {}", problems.join("; ")))
                    .into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_out_of_range_names_every_bad_field() {
        let rotary = Rotary { theta: f64::NAN, channels: 5, scaling: Scaling::None };
        let spec = Spec {
            layers: 0,
            query_heads: 4,
            key_value_heads: 3,
            channels: 5,
            norm_epsilon: 0.0,
            ..Spec::decoder(10, 8, 1, 2, 8, 8).with_each_layer(|layer| layer.rotary = Some(rotary))
        };
        let message =
            spec.check("x.json", |field| field).expect_err("it is wrong in five ways").to_string();
        for word in [
            "x.json",
            "`layers`",
            "`key_value_heads`",
            "`channels`",
            "`norm_epsilon`",
            "`rotary_theta`",
        ] {
            assert!(message.contains(word), "{message}");
        }
        assert!(!message.contains("`width`"));
    }
}

//! The BERT family (Devlin et al. 2019), which covers MiniLM's sentence encoders, in the Hugging
//! Face layout. What RoBERTa shares with it is here too.

use super::super::params::{HeadKind, Role, Slot};
use super::super::spec::{FeedForward, LayerSpec, Mask, Norm, Spec, Wiring};
use super::fields::Fields;
use super::{Family, Form, Origin, SpecialTokens, Stored, ending};
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    model_type: "bert",
    // Heads that guess masked words or next sentences carry nothing here.
    architectures: &[
        ("BertModel", HeadKind::Encoder),
        ("BertForSequenceClassification", HeadKind::Classifier),
        ("BertForMaskedLM", HeadKind::Encoder),
        ("BertForPreTraining", HeadKind::Encoder),
        ("BertForNextSentencePrediction", HeadKind::Encoder),
    ],
    trunk: "bert.",
    aliases: ALIASES,
    windows: false,
    special: SpecialTokens { bos: None, eos: None, pad: Some(0) },
    keys: KEYS,
    read,
    stored,
    ignored,
};

/// What norms were called in TensorFlow, from which the first checkpoints came.
pub(super) const ALIASES: &[(&str, &str)] =
    &[("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];
/// Rows of the table of positions of a configuration that does not give them.
pub(super) const POSITIONS: usize = 512;
/// What fields of [`Spec`] are called in both families.
pub(super) const KEYS: &[(&str, &str)] =
    &[("norm_epsilon", "layer_norm_eps"), ("token_types", "type_vocab_size")];

fn read(fields: &Fields<'_>) -> Result<Spec> {
    encoder(fields, 30_522)
}

/// What both families read alike; `vocabulary` is that of a configuration that does not give it.
pub(super) fn encoder(fields: &Fields<'_>, vocabulary: usize) -> Result<Spec> {
    fields.only("is_decoder", false)?;
    let kind = fields.text("position_embedding_type")?.unwrap_or("absolute");
    if kind != "absolute" {
        return fields.unsupported(
            "position_embedding_type",
            format_args!("{kind:?}"),
            "only \"absolute\" is",
        );
    }
    let width = fields.size("hidden_size", 768)?;
    let heads = fields.size("num_attention_heads", 12)?;
    Ok(Spec {
        vocabulary: fields.size("vocab_size", vocabulary)?,
        width,
        embedding_width: width,
        layers: fields.size("num_hidden_layers", 12)?,
        query_heads: heads,
        key_value_heads: heads,
        channels: fields.shared_width("hidden_size", width, "num_attention_heads", heads)?,
        feed_forward_width: fields.size("intermediate_size", 3072)?,
        context: fields.size("max_position_embeddings", POSITIONS)?,
        pattern: vec![LayerSpec { mask: Mask::Bidirectional, rotary: None }],
        learned_positions: true,
        wiring: Wiring::Post,
        norm: Norm::Layer,
        norm_epsilon: fields.real("layer_norm_eps", 1e-12)?,
        query_key_norm: false,
        feed_forward: FeedForward::Plain(fields.activation("hidden_act", "gelu")?),
        query_key_value_bias: true,
        output_bias: true,
        feed_forward_bias: true,
        token_types: fields.size("type_vocab_size", 2)?,
        embedding_norm: true,
        final_norm: false,
        // There is no language head.
        tied: false,
        labels: 0,
    })
}

fn stored(_: &Origin, _: &Spec, slot: &Slot) -> Stored {
    let name = match slot.role {
        Role::ClassifierDense => "bert.pooler.dense".into(),
        Role::ClassifierOut => "classifier".into(),
        _ => trunk(FAMILY.trunk, slot),
    };
    Stored { name: format!("{name}.{}", ending(slot)), form: Form::WHOLE }
}

/// What both families call a tensor of the trunk, without its ending.
pub(super) fn trunk(prefix: &str, slot: &Slot) -> String {
    let name = match slot.role {
        Role::Embedding => "embeddings.word_embeddings",
        Role::Positions => "embeddings.position_embeddings",
        Role::TokenTypes => "embeddings.token_type_embeddings",
        Role::EmbeddingNorm => "embeddings.LayerNorm",
        Role::Query => "attention.self.query",
        Role::Key => "attention.self.key",
        Role::Value => "attention.self.value",
        Role::Output => "attention.output.dense",
        Role::AttentionNorm => "attention.output.LayerNorm",
        Role::Up => "intermediate.dense",
        Role::Down => "output.dense",
        Role::FeedForwardNorm => "output.LayerNorm",
        role => unreachable!("a model of this family has no {role:?}"),
    };
    let layer = slot.layer.map_or_else(String::new, |layer| format!("encoder.layer.{layer}."));
    format!("{prefix}{layer}{name}")
}

/// The list 0, 1, 2, …, heads of pre-training, and a pooler that nothing uses.
fn ignored(tensor: &str) -> bool {
    tensor == "embeddings.position_ids"
        || tensor.starts_with("cls.")
        || tensor.starts_with("pooler.")
}

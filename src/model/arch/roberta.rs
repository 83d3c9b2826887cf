//! The RoBERTa family (Liu et al. 2019) in the Hugging Face layout: BERT's, with positions that
//! begin behind the padding token's id.

use serde_json::Value;

use super::super::form::Rows;
use super::super::params::{HeadKind, Role, Slot};
use super::super::spec::Spec;
use super::fields::Fields;
use super::{Family, Form, Origin, SpecialTokens, Stored, bert, ending};
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    model_type: "roberta",
    // A head that guesses masked words carries nothing here.
    architectures: &[
        ("RobertaModel", HeadKind::Encoder),
        ("RobertaForSequenceClassification", HeadKind::Classifier),
        ("RobertaForMaskedLM", HeadKind::Encoder),
    ],
    trunk: "roberta.",
    aliases: bert::ALIASES,
    windows: false,
    special: SpecialTokens { bos: Some(0), eos: Some(2), pad: Some(1) },
    keys: bert::KEYS,
    read,
    stored,
    ignored,
};

fn read(fields: &Fields<'_>) -> Result<Spec> {
    let spec = bert::encoder(fields, 50_265)?;
    let Some(padding) = fields.token("pad_token_id", FAMILY.special.pad)? else {
        return fields.unsupported("pad_token_id", "null", "positions begin behind it");
    };
    let (rows, unread) = (spec.context, padding as usize + 1);
    if rows <= unread {
        let value = format!("{rows}, {unread} of which come before the first position");
        return fields.unsupported(
            "max_position_embeddings",
            value,
            "positions begin behind `pad_token_id`",
        );
    }
    Ok(Spec { context: rows - unread, ..spec })
}

fn stored(origin: &Origin, spec: &Spec, slot: &Slot) -> Stored {
    let (name, form) = match slot.role {
        Role::Positions => {
            let rows = origin
                .config
                .get("max_position_embeddings")
                .and_then(Value::as_u64)
                .unwrap_or(bert::POSITIONS as u64);
            let unread = (rows as usize).saturating_sub(spec.context);
            (bert::trunk(FAMILY.trunk, slot), Form { rows: Rows::After(unread), transposed: false })
        }
        Role::ClassifierDense => ("classifier.dense".into(), Form::WHOLE),
        Role::ClassifierOut => ("classifier.out_proj".into(), Form::WHOLE),
        _ => (bert::trunk(FAMILY.trunk, slot), Form::WHOLE),
    };
    Stored { name: format!("{name}.{}", ending(slot)), form }
}

/// The list of positions, the head of pre-training, and a pooler that nothing uses.
fn ignored(tensor: &str) -> bool {
    tensor == "embeddings.position_ids"
        || tensor.starts_with("lm_head.")
        || tensor.starts_with("pooler.")
}

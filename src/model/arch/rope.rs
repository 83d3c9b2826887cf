//! Rotary positions in a `config.json`. Uses no family.
//!
//! Up to transformers 4 there are `rope_theta`, `rope_scaling` and, in some families, other
//! names; from 5 on all is in `rope_parameters`. What is in the object goes before what
//! is beside it.

use super::super::spec::{Rotary, Scaling};
use super::fields::{Fields, says_nothing};
use crate::error::{Result, user};

/// What a family calls things, where it does not follow the others.
pub(super) struct Names {
    /// The base of the frequencies.
    pub(super) theta: &'static str,
    /// The share of a head's channels that are rotated, and what it is where it is absent.
    pub(super) share: (&'static str, f64),
}

/// The names of most families, all of whose channels are rotated.
pub(super) const NAMES: Names =
    Names { theta: "rope_theta", share: ("partial_rotary_factor", 1.0) };

/// Reads the rotary positions of a model whose heads have `channels`, made for `context`
/// positions.
pub(super) fn rotary(
    fields: &Fields<'_>,
    names: &Names,
    channels: usize,
    context: usize,
) -> Result<Rotary> {
    let stretched = fields.object("rope_scaling")?.filter(|object| !object.map.is_empty());
    let key = if stretched.is_some() { "rope_scaling" } else { "rope_parameters" };
    let parameters = fields.object("rope_parameters")?;
    let empty = serde_json::Map::new();
    let object = stretched.or(parameters).unwrap_or(Fields::new(fields.place.clone(), &empty));
    if let Some((layer, _)) = object.map.iter().find(|(_, value)| value.is_object()) {
        return fields.unsupported(
            key,
            format_args!("an object with `{layer}`"),
            "only models whose layers all have the same positions are",
        );
    }
    let theta = beside(fields, &object, ("rope_theta", names.theta), 10_000.0)?;
    let share = beside(fields, &object, ("partial_rotary_factor", names.share.0), names.share.1)?;
    if !(share > 0.0 && share <= 1.0) || (share < 1.0 && names.share.1 == 1.0) {
        return fields.unsupported(
            names.share.0,
            share,
            "a share of all channels is, and in some families nothing but all",
        );
    }
    let scaling = scaling(fields, &object, key, context)?;
    // What another type of stretching reads does not matter where it is 1.
    let mut unread = object.unread().filter(|(_, value)| value.as_f64() != Some(1.0));
    if let Some((name, value)) = unread.find(|(_, value)| !says_nothing(value)) {
        return fields.unsupported(
            key,
            format_args!("an object in which `{name}` is {value}"),
            "positions of this type do not read it: correct the type, or remove the field",
        );
    }
    Ok(Rotary { theta, channels: (channels as f64 * share) as usize, scaling })
}

/// A number of the object or, where it has none, of what is beside it, there by the family's name
/// for it.
///
/// # Errors
/// The user's: it is no number; or it is there by the general name too, and is another.
fn beside(
    fields: &Fields<'_>,
    object: &Fields<'_>,
    (general, own): (&'static str, &'static str),
    default: f64,
) -> Result<f64> {
    let (within, named) = (object.optional_real(general)?, fields.optional_real(own)?);
    let number = within.or(named).unwrap_or(default);
    match fields.optional_real(general)? {
        Some(other) if within.is_none() && other != number => fields.unsupported(
            general,
            format_args!("{other}, and `{own}` is {number}"),
            "both name one number: remove the wrong one",
        ),
        _ => Ok(number),
    }
}

fn scaling(fields: &Fields<'_>, object: &Fields<'_>, key: &str, context: usize) -> Result<Scaling> {
    let kind = match object.text("rope_type")? {
        Some(kind) => kind,
        None => object.text("type")?.unwrap_or("default"),
    };
    // Beside `rope_type`, and where frequencies do not depend on it.
    for key in ["type", "original_max_position_embeddings", "max_position_embeddings"] {
        object.value(key);
    }
    let before = fields.optional_real("original_max_position_embeddings")?;
    let number = |key: &str| match object.optional_real(key)? {
        Some(number) => Ok(number),
        None => Err(anyhow::Error::from(user(format!("{} has no `{key}`", object.place)))),
    };
    match kind {
        "default" => Ok(Scaling::None),
        // Frequencies depend on the length of the text, but only of one that is longer than the
        // context, which is refused here.
        "dynamic" => object.optional_real("factor").map(|_| Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: number("factor")? }),
        "llama3" => {
            let before = match before {
                Some(before) => before,
                None => object.real("original_max_position_embeddings", context as f64)?,
            };
            Ok(Scaling::Ramp {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                context: before,
            })
        }
        other => fields.unsupported(
            key,
            format_args!("of type {other:?}"),
            "default, linear, dynamic and llama3 are",
        ),
    }
}

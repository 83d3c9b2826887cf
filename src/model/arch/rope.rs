//! Rotary positions in a `config.json`. Knows no family.
//!
//! Up to transformers 4 there are `rope_theta`, `rope_scaling` and, in some families, names of
//! their own; from 5 on all is in `rope_parameters`. What stands in the object goes before what
//! stands beside it.

use super::super::spec::{Rotary, Scaling};
use super::fields::Fields;
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

/// Reads the rotary positions of a model whose heads have so many channels, made for `context`
/// positions.
pub(super) fn rotary(
    fields: &Fields<'_>,
    names: &Names,
    channels: usize,
    context: usize,
) -> Result<Rotary> {
    let stretched = fields.object("rope_scaling")?.filter(|object| !object.map.is_empty());
    let key = if stretched.is_some() { "rope_scaling" } else { "rope_parameters" };
    let object = match stretched {
        Some(object) => Some(object),
        None => fields.object("rope_parameters")?,
    };
    let empty = serde_json::Map::new();
    let object = object.unwrap_or(Fields { place: fields.place.clone(), map: &empty });
    if let Some((layer, _)) = object.map.iter().find(|(_, value)| value.is_object()) {
        return fields.unsupported(
            key,
            format_args!("an object with `{layer}`"),
            "only models whose layers all have the same positions are",
        );
    }
    let theta = match object.optional_real("rope_theta")? {
        Some(theta) => theta,
        None => fields.optional_real(names.theta)?.unwrap_or(10_000.0),
    };
    let share = match object.optional_real("partial_rotary_factor")? {
        Some(share) => share,
        None => fields.optional_real(names.share.0)?.unwrap_or(names.share.1),
    };
    if !(share > 0.0 && share <= 1.0) || (share < 1.0 && names.share.1 == 1.0) {
        return fields.unsupported(
            names.share.0,
            share,
            "a share of all channels is, and in some families nothing but all",
        );
    }
    let scaling = scaling(fields, &object, key, context)?;
    Ok(Rotary { theta, channels: (channels as f64 * share) as usize, scaling })
}

fn scaling(fields: &Fields<'_>, object: &Fields<'_>, key: &str, context: usize) -> Result<Scaling> {
    let kind = match object.text("rope_type")? {
        Some(kind) => kind,
        None => object.text("type")?.unwrap_or("default"),
    };
    let number = |key: &str| match object.optional_real(key)? {
        Some(number) => Ok(number),
        None => Err(anyhow::Error::from(user(format!("{} has no `{key}`", object.place)))),
    };
    match kind {
        "default" => Ok(Scaling::None),
        // Frequencies depend on the length of the text, but only of one that is longer than the
        // context, which is refused here.
        "dynamic" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: number("factor")? }),
        "llama3" => {
            let before = match fields.optional_real("original_max_position_embeddings")? {
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

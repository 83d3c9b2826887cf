//! The fields of a config struct, found by asking its `Deserialize` for them. Knows no stage kind.
//!
//! A deserializer that has an answer to everything: a struct is given all fields that it asks for,
//! a
//! list or a map one entry, an enum each of its variants in turn. So what is found is what a config
//! may have, at any depth, and no list of fields is kept beside the structs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};

/// Passes after which an enum whose variants have not all been asked for is an error.
const PASSES: usize = 200;

/// The fields of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Those of the config itself, in their order.
    pub keys: Vec<&'static str>,
    /// Dotted, those that hold a value themselves: `optimiser.learning_rate`. Items of a list are
    /// `list.0`, values of a map `map.key`; variants of an enum that hold something are fields of
    /// it.
    pub leaves: Vec<String>,
}

/// Finds the fields of `T`. [`Fields::keys`] are complete whatever happens.
///
/// # Errors
/// What a part of `T` says that takes none of the values that it is given; then leaves are missing.
pub fn of<T: DeserializeOwned>() -> (Fields, Result<(), String>) {
    let found = RefCell::new(Found::default());
    let complete = (0..PASSES).find_map(|_| {
        match T::deserialize(Tracer { path: String::new(), found: &found }) {
            Err(error) => Some(Err(error.to_string())),
            Ok(_) => found
                .borrow()
                .enums
                .values()
                .all(|(variants, asked)| asked >= variants)
                .then_some(Ok(())),
        }
    });
    (
        found.into_inner().fields,
        complete.unwrap_or_else(|| Err("an enum has variants that nothing leads to".into())),
    )
}

#[derive(Default)]
struct Found {
    fields: Fields,
    /// By path: variants, and how often one was asked for.
    enums: BTreeMap<String, (usize, usize)>,
}

struct Tracer<'a> {
    path: String,
    found: &'a RefCell<Found>,
}

impl<'a> Tracer<'a> {
    fn inner(&self, name: impl Display) -> Tracer<'a> {
        let path =
            if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Tracer { path, found: self.found }
    }

    fn leaf(&self) {
        let leaves = &mut self.found.borrow_mut().fields.leaves;
        if !leaves.contains(&self.path) {
            leaves.push(self.path.clone());
        }
    }
}

macro_rules! leaves {
    ($($method:ident: $visit:ident($($value:expr)?);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.leaf();
            visitor.$visit($($value)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Error;

    leaves! {
        deserialize_any: visit_str("x");
        deserialize_bool: visit_bool(true);
        deserialize_i64: visit_i64(1);
        deserialize_u8: visit_u8(1);
        deserialize_u16: visit_u16(1);
        deserialize_u32: visit_u32(1);
        deserialize_u64: visit_u64(1);
        deserialize_f32: visit_f32(1.0);
        deserialize_f64: visit_f64(1.0);
        deserialize_str: visit_str("x");
        deserialize_string: visit_str("x");
        deserialize_unit: visit_unit();
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.path.is_empty() {
            self.found.borrow_mut().fields.keys = fields.to_vec();
        }
        visitor.visit_map(Entries { tracer: self, keys: fields.iter() })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entries { tracer: self, keys: ["key"].iter() })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { tracer: self, left: 0..1 })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { tracer: self, left: 0..len })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let asked = {
            let enums = &mut self.found.borrow_mut().enums;
            let (_, asked) = enums.entry(self.path.clone()).or_insert((variants.len(), 0));
            *asked += 1;
            *asked - 1
        };
        let variant = variants[asked % variants.len().max(1)];
        visitor.visit_enum(Variant { tracer: self, variant })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 char bytes byte_buf unit_struct tuple_struct identifier ignored_any
    }
}

struct Entries<'a> {
    tracer: Tracer<'a>,
    keys: std::slice::Iter<'static, &'static str>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let key = self.keys.as_slice().first();
        key.map(|key| seed.deserialize::<StrDeserializer<'_, Error>>((*key).into_deserializer()))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let key = self.keys.next().expect("a key was asked for");
        seed.deserialize(self.tracer.inner(key))
    }
}

struct Items<'a> {
    tracer: Tracer<'a>,
    left: std::ops::Range<usize>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.left.next().map(|at| seed.deserialize(self.tracer.inner(at))).transpose()
    }
}

struct Variant<'a> {
    tracer: Tracer<'a>,
    variant: &'static str,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let variant: StrDeserializer<'_, Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.tracer.leaf();
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.tracer.inner(self.variant))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.tracer.inner(self.variant).deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.tracer.inner(self.variant).deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Config {
        rate: f64,
        inner: Option<Inner>,
        names: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Inner {
        Nothing,
        Number(u8),
        Deep { least: bool, other: Box<Choice> },
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Choice {
        A,
        B { x: i64 },
    }

    #[test]
    fn fields_are_found_at_every_depth_and_under_every_variant() {
        let (fields, complete) = of::<Config>();
        assert_eq!(complete, Ok(()));
        assert_eq!(fields.keys, ["rate", "inner", "names"]);
        let mut leaves = fields.leaves;
        leaves.sort();
        let inner = [
            "inner",
            "inner.deep.least",
            "inner.deep.other",
            "inner.deep.other.b.x",
            "inner.number",
        ];
        assert_eq!(leaves, [&inner[..], &["names.0", "rate"]].concat());
    }
}

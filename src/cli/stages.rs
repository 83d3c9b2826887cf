//! `stages`: the stage kinds this program knows, and the keys of each.

use clap::Args;
use serde::de::{Deserializer, Visitor as SerdeVisitor};

use super::common::{columns, print};
use crate::error::{Result, user};
use crate::pipeline::diagnostic::advice;
use crate::pipeline::registry::{Builtin, Registry};
use crate::stages::{Stage, Visitor};

/// List the stage kinds, or the keys of one
#[derive(Args)]
pub struct Arguments {
    /// A stage kind
    kind: Option<String>,
}

/// Prints the list.
pub fn main(arguments: &Arguments) -> Result<()> {
    let kinds = match &arguments.kind {
        None => Builtin.names(),
        Some(kind) => match Builtin.names().into_iter().find(|name| name == kind) {
            Some(name) => vec![name],
            None => return Err(user(format!("there is no stage kind `{kind}`")).hint(advice(kind, Builtin.names(), "stage kinds")).into()),
        },
    };
    let rows: Vec<Vec<String>> = kinds.iter().filter_map(|kind| Builtin.visit(kind, Describe)).collect();
    print(&columns(&rows))
}

struct Describe;

impl Visitor for Describe {
    type Output = Vec<String>;

    fn visit<S: Stage>(self) -> Vec<String> {
        let mut keys: &'static [&'static str] = &[];
        // It fails by design, after it has said which fields it wants.
        drop(S::deserialize(Fields(&mut keys)).err());
        vec![S::NAME.into(), format!("-> {}", S::OUTPUT), keys.join(", ")]
    }
}

/// A deserializer that only notes which fields a struct asks for.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: SerdeVisitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("only structs have fields"))
    }

    fn deserialize_struct<V: SerdeVisitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(serde::de::Error::custom("the fields are noted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

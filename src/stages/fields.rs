//! The fields of a config struct, found through its `Deserialize`. Independent of stage kinds.
//!
//! A deserializer that answers every request: a struct is given all its fields, a list or a map one
//! entry, an enum each of its variants in turn. What is found is therefore what a config may have,
//! at any depth, and no list of fields is kept beside the structs. A [`Script`] makes the same
//! config again, with other values where asked.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};

use crate::reference::{INPUT_NEWTYPE, MODEL_NEWTYPE, STAGE_NEWTYPE};

/// Passes after which an enum whose variants have not all been requested is an error.
const PASSES: usize = 200;
/// The key of the one entry of a map.
pub const KEY: &str = "key";

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

/// What the value at a place may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// True or false.
    Boolean,
    /// A whole number of a type whose smallest value is this.
    Integer {
        /// The smallest value.
        least: i64,
    },
    /// A number.
    Number,
    /// A text.
    Text,
    /// A reference to the artefact of a stage.
    Stage,
    /// A path.
    Path,
    /// A path, or a model of the hub.
    Model,
    /// A list; its items are at `0`.
    List,
    /// A map of names to values, which are at [`KEY`].
    Map,
    /// A struct of this name with these fields. The name of an enum's variant that has fields is
    /// `Enum::variant`.
    Struct(String, &'static [&'static str]),
    /// An enum of this name with these variants; what a variant holds is at its name.
    Choice(&'static str, &'static [&'static str]),
}

/// A place of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Dotted, as in [`Fields::leaves`].
    pub path: String,
    /// What its value may be.
    pub shape: Shape,
    /// Whether it may be null.
    pub nullable: bool,
    /// Those of [`Trace::scripts`] whose config has it, by number; at least one.
    pub scripts: Vec<usize>,
}

/// All places of a config.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The fields.
    pub fields: Fields,
    /// The places, each after that which has it; `nodes[0]` is the config itself.
    pub nodes: Vec<Node>,
    /// Configs that have, together, all places.
    pub scripts: Vec<Script>,
}

/// A value to give instead of the usual one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// Nothing, where null is allowed.
    Null,
    /// A number.
    Number(f64),
    /// A whole number.
    Integer(u64),
    /// A text.
    Text(&'static str),
    /// No entries, of a list or a map.
    Empty,
    /// One entry under this name, of a map.
    Key(&'static str),
}

/// A config, by the choices that lead to it: every whole number and number is 1, every text `x`,
/// every truth value true, nothing is null.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// The variant of each enum, by path.
    choices: BTreeMap<String, usize>,
    answers: BTreeMap<String, Answer>,
}

impl Script {
    /// The same with this answer at `path`.
    pub fn with(&self, path: &str, answer: Answer) -> Script {
        let mut other = self.clone();
        other.answers.insert(path.to_owned(), answer);
        other
    }

    /// The same with the variant of this number at `path`.
    pub fn choosing(&self, path: &str, variant: usize) -> Script {
        let mut other = self.clone();
        other.choices.insert(path.to_owned(), variant);
        other
    }

    /// The config.
    ///
    /// # Errors
    /// The message of a part of `T` that refuses its value.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, String> {
        let run = RefCell::new(Run { script: self.clone(), replays: true, ..Run::default() });
        T::deserialize(Tracer::of(&run)).map_err(|error| error.to_string())
    }
}

/// Finds the fields of `T`. [`Fields::keys`] are always complete.
///
/// # Errors
/// As of [`trace`].
pub fn of<T: DeserializeOwned>() -> (Fields, Result<(), String>) {
    let (trace, complete) = trace::<T>();
    (trace.fields, complete)
}

/// Finds all places of `T`.
///
/// # Errors
/// The message of a part of `T` that refuses all values that it is given; then places are missing.
pub fn trace<T: DeserializeOwned>() -> (Trace, Result<(), String>) {
    let run = RefCell::new(Run::default());
    let complete = (0..PASSES).find_map(|_| {
        run.borrow_mut().script = Script::default();
        match T::deserialize(Tracer::of(&run)) {
            Err(error) => Some(Err(error.to_string())),
            Ok(_) => {
                let run = &mut *run.borrow_mut();
                run.trace.scripts.push(std::mem::take(&mut run.script));
                run.enums.values().all(|(variants, asked)| asked >= variants).then_some(Ok(()))
            }
        }
    });
    let unreached = || Err("an enum has variants that nothing leads to".into());
    (run.into_inner().trace, complete.unwrap_or_else(unreached))
}

#[derive(Default)]
struct Run {
    trace: Trace,
    /// By path: variants, and how often one was requested.
    enums: BTreeMap<String, (usize, usize)>,
    /// What leads to the config at hand; the choices are made on the way unless it replays.
    script: Script,
    /// Whether the script was given, so that nothing is noted.
    replays: bool,
}

struct Tracer<'a> {
    path: String,
    /// Whether the value may be null.
    nullable: bool,
    run: &'a RefCell<Run>,
}

impl<'a> Tracer<'a> {
    fn of(run: &'a RefCell<Run>) -> Self {
        Tracer { path: String::new(), nullable: false, run }
    }

    fn inner(&self, name: impl Display) -> Tracer<'a> {
        let path =
            if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Tracer { path, nullable: false, run: self.run }
    }

    fn leaf(&self) {
        let run = &mut *self.run.borrow_mut();
        let leaves = &mut run.trace.fields.leaves;
        if !run.replays && !leaves.contains(&self.path) {
            leaves.push(self.path.clone());
        }
    }

    /// Notes the shape of the value; the first one that is noted remains.
    fn shape(&self, shape: Shape) {
        let Run { trace, replays, .. } = &mut *self.run.borrow_mut();
        let script = trace.scripts.len();
        match trace.nodes.iter_mut().find(|node| node.path == self.path) {
            _ if *replays => {}
            Some(node) if node.scripts.last() == Some(&script) => {}
            Some(node) => node.scripts.push(script),
            None => trace.nodes.push(Node {
                path: self.path.clone(),
                shape,
                nullable: self.nullable,
                scripts: vec![script],
            }),
        }
    }

    /// A struct of this name with all its fields.
    fn fields<'de, V: Visitor<'de>>(
        self,
        name: String,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.shape(Shape::Struct(name, fields));
        if self.path.is_empty() {
            self.run.borrow_mut().trace.fields.keys = fields.to_vec();
        }
        visitor.visit_map(Entries { tracer: self, keys: Vec::from(fields).into_iter() })
    }

    fn answer(&self) -> Option<Answer> {
        self.run.borrow().script.answers.get(&self.path).copied()
    }

    /// The number of the variant to take.
    fn choice(&self, variants: usize) -> usize {
        let Run { enums, script, replays, .. } = &mut *self.run.borrow_mut();
        if *replays {
            return script.choices.get(&self.path).copied().unwrap_or_default();
        }
        let (_, asked) = enums.entry(self.path.clone()).or_insert((variants, 0));
        let choice = *asked % variants.max(1);
        *asked += 1;
        script.choices.insert(self.path.clone(), choice);
        choice
    }
}

macro_rules! integers {
    ($($method:ident: $least:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.shape(Shape::Integer { least: $least });
            self.leaf();
            match self.answer() {
                Some(Answer::Integer(value)) => visitor.visit_u64(value),
                _ => visitor.visit_u64(1),
            }
        }
    )*};
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.shape(Shape::Number);
            self.leaf();
            match self.answer() {
                Some(Answer::Number(value)) => visitor.visit_f64(value),
                _ => visitor.visit_f64(1.0),
            }
        }
    )*};
}

macro_rules! texts {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.shape(Shape::Text);
            self.leaf();
            match self.answer() {
                Some(Answer::Text(value)) => visitor.visit_str(value),
                _ => visitor.visit_str("x"),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Error;

    integers! {
        deserialize_i64: i64::MIN;
        deserialize_u8: 0;
        deserialize_u16: 0;
        deserialize_u32: 0;
        deserialize_u64: 0;
    }

    numbers! { deserialize_f32 deserialize_f64 }

    texts! { deserialize_any deserialize_str deserialize_string }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.shape(Shape::Boolean);
        self.leaf();
        visitor.visit_bool(true)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.leaf();
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.answer() {
            Some(Answer::Null) => visitor.visit_none(),
            _ => visitor.visit_some(Tracer { nullable: true, ..self }),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            STAGE_NEWTYPE => self.shape(Shape::Stage),
            INPUT_NEWTYPE => self.shape(Shape::Path),
            MODEL_NEWTYPE => self.shape(Shape::Model),
            _ => {}
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.fields(name.to_owned(), fields, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.shape(Shape::Map);
        let keys = match self.answer() {
            Some(Answer::Empty) => Vec::new(),
            Some(Answer::Key(key)) => vec![key],
            _ => vec![KEY],
        };
        visitor.visit_map(Entries { tracer: self, keys: keys.into_iter() })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.shape(Shape::List);
        let items = usize::from(self.answer() != Some(Answer::Empty));
        visitor.visit_seq(Items { tracer: self, left: 0..items })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { tracer: self, left: 0..len })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.shape(Shape::Choice(name, variants));
        let variant = variants[self.choice(variants.len())];
        visitor.visit_enum(Variant { tracer: self, name, variant })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 char bytes byte_buf unit_struct tuple_struct identifier ignored_any
    }
}

struct Entries<'a> {
    tracer: Tracer<'a>,
    keys: std::vec::IntoIter<&'static str>,
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
        let key = self.keys.next().expect("a key was requested");
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
    /// The name of the enum.
    name: &'static str,
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
        let name = format!("{}::{}", self.name, self.variant);
        self.tracer.inner(self.variant).fields(name, fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Config {
        rate: f64,
        inner: Option<Inner>,
        names: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code)]
    enum Inner {
        Nothing,
        Number(u8),
        Deep { least: bool, other: Box<Choice> },
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code)]
    enum Choice {
        A,
        B { x: i64 },
    }

    #[test]
    fn a_script_makes_its_config_again_with_another_value() {
        let (trace, complete) = trace::<Config>();
        assert_eq!(complete, Ok(()));
        let node = |path: &str| trace.nodes.iter().find(|node| node.path == path).unwrap();
        assert_eq!(node("rate").shape, Shape::Number);
        assert_eq!(node("inner.deep.other.b.x").shape, Shape::Integer { least: i64::MIN });
        assert_eq!(node("names").shape, Shape::List);
        assert!(node("inner").nullable && !node("rate").nullable);
        let Shape::Struct(name, fields) = &node("inner.deep").shape else { panic!("no struct") };
        assert_eq!((name.as_str(), *fields), ("Inner::deep", &["least", "other"][..]));
        let script = &trace.scripts[node("inner.deep").scripts[0]];
        let usual = script.config::<Config>().unwrap();
        assert!(usual.rate == 1.0 && usual.names == ["x"]);
        assert!(matches!(usual.inner, Some(Inner::Deep { .. })));
        let other = script.with("rate", Answer::Number(0.5)).with("names", Answer::Empty);
        let other = other.with("inner", Answer::Null).config::<Config>().unwrap();
        assert!(other.rate == 0.5 && other.names.is_empty() && other.inner.is_none());
        let other = script.choosing("inner", 0).config::<Config>().unwrap();
        assert!(matches!(other.inner, Some(Inner::Nothing)));
        let large = script.choosing("inner", 1).with("inner.number", Answer::Integer(300));
        assert!(large.config::<Config>().is_err());
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

//! A serde deserializer over the spanned tree: a scalar is read as the type that is asked for, and
//! every error has its place.
//!
//! 1. A plain scalar has no type: `no` is text where text is asked for and an error
//!    where a truth value is.
//! 2. Unknown keys of a struct are all reported, each at the key, whether or not the struct denies
//!    them.
//! 3. Enums are externally tagged: a word (`synthetic`), or a mapping with the one key that is the
//!    variant (`jsonl: {path: …}`). A word also names a variant whose fields all have
//!    defaults. Internally tagged and untagged enums and `flatten` work, but serde buffers them, so
//!    that errors inside lose their place.
//! 4. A list of references may hold `{all: stage}`, or be one: every matrix point of the stage (see
//!    [`every_point`]); or `{all: stage, over: axis}`, the points that differ along this axis
//!    alone, or along these.

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::rc::Rc;

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::decode_error::Error;
use super::diagnostic::{Mistake, Sources, advice};
use super::scalar::{self, Class};
use super::yaml::{Entry, Node, Scalar, Value};
use crate::dag::node::FETCH_TAG;
use crate::error::Failure;
use crate::hub;
use crate::reference::{INPUT_NEWTYPE, MODEL_NEWTYPE, STAGE_NEWTYPE, every_point, of_every_point};

/// Decodes a node as `T`.
pub fn decode<T: DeserializeOwned>(node: &Node, sources: &Sources) -> Result<T, Vec<Mistake>> {
    let unknown = Rc::default();
    let decoder = Decoder { node, sources, unknown: &unknown, position: Position::Other };
    let decoded = T::deserialize(decoder);
    let mut mistakes = unknown.take();
    match decoded {
        Ok(value) if mistakes.is_empty() => return Ok(value),
        Ok(_) => {}
        Err(error) => mistakes.push(error.into_mistake(node)),
    }
    Err(mistakes)
}

type Unknown = Rc<RefCell<Vec<Mistake>>>;

#[derive(Clone, Copy)]
struct Decoder<'a> {
    node: &'a Node,
    sources: &'a Sources,
    /// Unknown keys, which do not end the decoding.
    unknown: &'a Unknown,
    position: Position,
}

/// What is around a node, which decides whether it may name several points of a stage.
#[derive(Clone, Copy, PartialEq)]
enum Position {
    /// An item of a list.
    Item,
    /// A field of an item of a list, or the value of a free key: one of several.
    WithinItem,
    /// Any other: there is one of it.
    Other,
}

impl<'a> Decoder<'a> {
    fn within(self, node: &'a Node) -> Self {
        Decoder { node, position: Position::Other, ..self }
    }

    fn error<T>(self, message: impl Into<String>) -> Result<T, Error> {
        Err(Error::new(message, None).at(self.node))
    }

    fn place<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| error.at(self.node))
    }

    fn scalar(self, expected: &str) -> Result<&'a Scalar, Error> {
        match self.node.scalar() {
            Some(scalar) if !scalar.is_null() => Ok(scalar),
            _ => self.error(format!("expected {expected}, found {}", self.node.describe())),
        }
    }

    fn text(self) -> Result<&'a str, Error> {
        Ok(&self.scalar("text")?.text)
    }

    fn integer<'de, V: Visitor<'de>, T: TryFrom<i128> + fmt::Display>(
        self,
        visitor: V,
        least: T,
        most: T,
        visit: impl FnOnce(V, T) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        let value =
            self.place(scalar::integer(self.scalar("a whole number")?).map_err(Error::from))?;
        match T::try_from(value) {
            Ok(value) => self.place(visit(visitor, value)),
            Err(_) => self
                .error(format!("expected a whole number from {least} to {most}, found `{value}`")),
        }
    }

    fn entries(self, expected: &str) -> Result<&'a [Entry], Error> {
        match &self.node.value {
            Value::Mapping(entries) => Ok(entries),
            _ => self.error(format!("expected {expected}, found {}", self.node.describe())),
        }
    }

    /// The stage of `{all: stage}`, and what is under `over` beside it.
    fn all(self) -> Option<(&'a Node, Option<&'a Node>)> {
        Some((self.node.get("all")?, self.node.get("over")))
    }

    /// The axes under `over`: one, or a list.
    fn axes(self) -> Result<Vec<&'a str>, Error> {
        match &self.node.value {
            Value::Sequence(axes) if !axes.is_empty() => axes
                .iter()
                .map(|axis| self.within(axis).axes())
                .collect::<Result<Vec<_>, _>>()
                .map(|axes| axes.concat()),
            _ => Ok(vec![self.scalar("an axis of the matrix, or a list of them")?.text.as_str()]),
        }
    }

    fn reference<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let all = self.all().filter(|_| self.position != Position::Other);
        if let Some((stage, over)) = all {
            let mut unknown = self
                .entries("a mapping")?
                .iter()
                .filter(|entry| !["all", "over"].contains(&entry.key.as_str()));
            if let Some(entry) = unknown.next() {
                let help =
                    Some("beside `all` there may be `over`, with an axis of the matrix".to_owned());
                return Err(Error::new(format!("unknown key `{}`", entry.key), help).at(self.node));
            }
            let name = self.within(stage).scalar("the name of a stage")?;
            if over.is_none() && self.position == Position::WithinItem {
                let help = format!(
                    "{{all: {}, over: AXIS}} repeats what it is in, once for each value of the axis",
                    name.text
                );
                return Err(Error::new("the key `over` is missing", Some(help)).at(self.node));
            }
            let over = over.map_or(Ok(Vec::new()), |over| self.within(over).axes())?;
            return self.place(visitor.visit_str(&every_point(&name.text, &over)));
        }
        let name = &self.scalar("the name of a stage")?.text;
        match of_every_point(name) {
            Some((stage, _)) => {
                let help =
                    Some(format!("in a list, {{all: {stage}}} means every point of `{stage}`"));
                Err(Error::new(format!("`{name}` is not the name of a stage"), help).at(self.node))
            }
            None => self.place(visitor.visit_str(name)),
        }
    }

    fn input<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("a path")?;
        if scalar.text.is_empty() {
            return self.error("expected a path, found the empty text");
        }
        if hub::Name::is_dataset(&scalar.text) {
            return self.elsewhere(visitor, hub::Name::parse(&scalar.text));
        }
        if hub::Address::is_one(&scalar.text) {
            return self.elsewhere(visitor, hub::Address::parse(&scalar.text));
        }
        if hub::Name::is_one(&scalar.text) {
            let help = format!("a file here that is called so is written ./{}", scalar.text);
            return Err(Error::new(
                format!("expected a path, found `{}`, which names a model of the hub", scalar.text),
                Some(help),
            )
            .at(self.node));
        }
        let path = self.sources.get(scalar.folder_of).folder.join(&scalar.text);
        match path.to_str() {
            Some(path) => self.place(visitor.visit_str(path)),
            None => self.error("the path to this file is not UTF-8"),
        }
    }

    fn model<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = &self.scalar("a path, or a model of the hub")?.text;
        if hub::Name::is_dataset(text) || hub::Address::is_one(text) {
            return self.error(format!("expected a model, found `{text}`, which names files"));
        }
        match hub::Name::is_one(text) {
            true => self.elsewhere(visitor, hub::Name::parse(text)),
            false => self.input(visitor),
        }
    }

    /// What is to be fetched, by its name or address.
    fn elsewhere<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        name: Result<impl Display, Failure>,
    ) -> Result<V::Value, Error> {
        match name {
            Ok(name) => {
                let tagged = std::iter::once((FETCH_TAG, name.to_string()));
                self.place(visitor.visit_map(MapDeserializer::<_, Error>::new(tagged)))
            }
            Err(failure) => Err(Error::new(failure.message, failure.hint).at(self.node)),
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.integer(visitor, $type::MIN, $type::MAX, |visitor, value| visitor.$visit(value))
        }
    )*};
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Error;

    integers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (scalar::class(self.node), self.node.scalar()) {
            (Class::Truth, _) => self.deserialize_bool(visitor),
            (Class::Number, Some(scalar)) => match scalar::integer(scalar) {
                Ok(value) if value < 0 => self.deserialize_i64(visitor),
                Ok(_) => self.deserialize_u64(visitor),
                Err(_) => self.deserialize_f64(visitor),
            },
            (Class::Text, Some(scalar)) => self.place(visitor.visit_str(&scalar.text)),
            (Class::List, _) => self.deserialize_seq(visitor),
            (Class::Mapping, _) => self.deserialize_map(visitor),
            _ => self.place(visitor.visit_unit()),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value =
            self.place(scalar::truth(self.scalar("true or false")?).map_err(Error::from))?;
        self.place(visitor.visit_bool(value))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = self.place(scalar::number(self.scalar("a number")?).map_err(Error::from))?;
        match (value as f32).is_finite() {
            true => self.place(visitor.visit_f32(value as f32)),
            false => self.error(format!(
                "expected a number, found {}, which is too large",
                self.node.describe()
            )),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = self.place(scalar::number(self.scalar("a number")?).map_err(Error::from))?;
        self.place(visitor.visit_f64(value))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.place(visitor.visit_str(self.text()?))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.is_null() {
            true => self.place(visitor.visit_none()),
            false => self.place(visitor.visit_some(self)),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.is_null() {
            true => self.place(visitor.visit_unit()),
            false => self.error(format!("expected nothing, found {}", self.node.describe())),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            STAGE_NEWTYPE => self.reference(visitor),
            INPUT_NEWTYPE => self.input(visitor),
            MODEL_NEWTYPE => self.model(visitor),
            _ => self.place(visitor.visit_newtype_struct(self)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = match &self.node.value {
            Value::Sequence(items) => items.as_slice(),
            _ if self.all().is_some() => std::slice::from_ref(self.node),
            _ => return self.error(format!("expected a list, found {}", self.node.describe())),
        };
        self.place(visitor.visit_seq(Items { decoder: self, items: items.iter() }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let entries = self.entries("a mapping")?;
        self.place(visitor.visit_map(Fields {
            decoder: self,
            entries: entries.iter(),
            current: None,
            known: None,
        }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = self.entries("a mapping")?;
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let help = advice(&entry.key, known.iter().copied(), "known keys");
            self.unknown.borrow_mut().push(
                Mistake::new(entry.key_span, format!("unknown key `{}`", entry.key)).help(help),
            );
        }
        self.place(visitor.visit_map(Fields {
            decoder: self,
            entries: entries.iter(),
            current: None,
            known: Some(known),
        }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let list = || known.join(", ");
        match &self.node.value {
            Value::Scalar(scalar) if !scalar.is_null() => {
                let empty = Node { value: Value::Mapping(Vec::new()), ..self.node.clone() };
                self.place(visitor.visit_enum(Variant {
                    name: &scalar.text,
                    content: self.within(&empty),
                    word: true,
                }))
            }
            Value::Mapping(entries) if entries.len() == 1 => {
                let content = self.within(&entries[0].value);
                let named =
                    visitor.visit_enum(Variant { name: &entries[0].key, content, word: false });
                // What is wrong with the variant's name is wrong at the key.
                named.map_err(|error| {
                    error.at(&Node { span: entries[0].key_span, ..self.node.clone() })
                })
            }
            Value::Mapping(entries) => {
                self.error(format!("expected one key of {}, found {} keys", list(), entries.len()))
            }
            _ => self.error(format!("expected one of {}, found {}", list(), self.node.describe())),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

struct Items<'a> {
    decoder: Decoder<'a>,
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let decoder = Decoder { node, position: Position::Item, ..self.decoder };
        decoder.place(seed.deserialize(decoder)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Fields<'a> {
    decoder: Decoder<'a>,
    entries: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
    known: Option<&'static [&'static str]>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let known = self.known;
        // Unknown keys of a struct have been noted; the rest of the struct is still worth looking
        // at.
        let Some(entry) = self
            .entries
            .find(|entry| known.is_none_or(|known| known.contains(&entry.key.as_str())))
        else {
            return Ok(None);
        };
        self.current = Some(entry);
        let text =
            Scalar { text: entry.key.clone(), plain: true, folder_of: entry.key_span.source };
        let key = Node { span: entry.key_span, used_at: None, value: Value::Scalar(text) };
        match known {
            Some(_) => {
                let name: StrDeserializer<'_, Error> = entry.key.as_str().into_deserializer();
                seed.deserialize(name).map_err(|error| error.at(&key)).map(Some)
            }
            None => {
                let decoder = self.decoder.within(&key);
                decoder.place(seed.deserialize(decoder)).map(Some)
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let entry = self.current.take().expect("serde asks for the key first");
        let repeated = self.known.is_none() || self.decoder.position == Position::Item;
        let position = if repeated { Position::WithinItem } else { Position::Other };
        let decoder = Decoder { node: &entry.value, position, ..self.decoder };
        decoder.place(seed.deserialize(decoder))
    }
}

struct Variant<'a> {
    name: &'a str,
    content: Decoder<'a>,
    /// Written as a word, without content.
    word: bool,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Content<'a>), Error> {
        let name: StrDeserializer<'_, Error> = self.name.into_deserializer();
        let variant = seed.deserialize(name)?;
        Ok((variant, Content { decoder: self.content, word: self.word }))
    }
}

struct Content<'a> {
    decoder: Decoder<'a>,
    word: bool,
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match &self.decoder.node.value {
            _ if self.word || self.decoder.node.is_null() => Ok(()),
            Value::Mapping(entries) if entries.is_empty() => Ok(()),
            _ => self
                .decoder
                .error(format!("expected nothing here, found {}", self.decoder.node.describe())),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.decoder.place(seed.deserialize(self.decoder))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.decoder.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.decoder.deserialize_struct("", fields, visitor)
    }
}

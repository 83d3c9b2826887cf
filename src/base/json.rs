//! JSON values as a file has them: keys in their order, numbers to their last digit.
//!
//! 1. A number is the text that the file has, so whole numbers of any length and decimals of any
//!    precision stay what they are.
//! 2. A key that an object has twice is an error: whichever value were taken, the other would be
//!    lost without a word.
//! 3. Nesting is limited to [`DEPTH`].

use std::fmt;

use indexmap::IndexMap;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

/// Deeper nesting than this is refused.
const DEPTH: usize = 128;

/// A JSON value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json {
    /// `null`.
    #[default]
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number, as it is spelt.
    Number(String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object.
    Object(Object),
    /// What a file of another format has in this place and JSON has not; the text says what. It is
    /// an error once it is asked for.
    Unreadable(String),
}

/// The fields of an object, in order.
pub type Object = IndexMap<String, Json>;

impl Json {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub fn as_list(&self) -> Option<&[Json]> {
        match self {
            Json::List(items) => Some(items),
            _ => None,
        }
    }

    /// The fields, if it is an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Json::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The number, if it is one, rounded to the nearest that there is in double precision.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The field `name`, if it is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.as_object()?.get(name)
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        *self == Json::Null
    }

    /// Whether it says nothing: `null`, or an empty text, list or object.
    pub fn is_empty(&self) -> bool {
        match self {
            Json::Null => true,
            Json::Text(text) => text.is_empty(),
            Json::List(items) => items.is_empty(),
            Json::Object(fields) => fields.is_empty(),
            Json::Bool(_) | Json::Number(_) | Json::Unreadable(_) => false,
        }
    }

    /// What it is, for an error: `a list`.
    pub fn what(&self) -> &str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a truth value",
            Json::Number(_) => "a number",
            Json::Text(_) => "a text",
            Json::List(_) => "a list",
            Json::Object(_) => "an object",
            Json::Unreadable(what) => what,
        }
    }
}

/// Reads a JSON text.
///
/// # Errors
/// The text is not JSON, an object has a key twice, or nesting exceeds [`DEPTH`].
pub fn parse(text: &str) -> Result<Json, serde_json::Error> {
    // The grammar of all of it first, which tells where it is broken.
    let whole: &RawValue = serde_json::from_str(text)?;
    value(whole.get(), 0)
}

/// The value of a text that is JSON.
fn value(text: &str, depth: usize) -> Result<Json, serde_json::Error> {
    if depth > DEPTH {
        return Err(de::Error::custom(format!("it is nested deeper than {DEPTH} levels")));
    }
    // An error in a part has a place in that part, which says nothing.
    let placeless = |error: serde_json::Error| {
        let message = error.to_string();
        de::Error::custom(
            message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message),
        )
    };
    Ok(match text.as_bytes().first() {
        Some(b'n') => Json::Null,
        Some(b't') => Json::Bool(true),
        Some(b'f') => Json::Bool(false),
        Some(b'"') => Json::Text(serde_json::from_str(text).map_err(placeless)?),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(placeless)?;
            Json::List(
                items
                    .into_iter()
                    .map(|item| value(item.get(), depth + 1))
                    .collect::<Result<_, _>>()?,
            )
        }
        Some(b'{') => {
            let Fields(fields) = serde_json::from_str(text).map_err(placeless)?;
            let mut object = Object::with_capacity(fields.len());
            for (key, field) in fields {
                if let Some(key) = object.get_key_value(&key).map(|(key, _)| key) {
                    return Err(de::Error::custom(format!("the key `{key}` is given twice")));
                }
                object.insert(key, value(field.get(), depth + 1)?);
            }
            Json::Object(object)
        }
        _ => Json::Number(text.to_owned()),
    })
}

/// The fields of an object, unread.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl<'de> Deserialize<'de> for Json {
    /// Of JSON alone, and not within `flatten` or an untagged enum, which keep no spelling of a
    /// number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        value(raw.get(), 0).map_err(de::Error::custom)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(truth) => serializer.serialize_bool(*truth),
            Json::Number(digits) => RawValue::from_string(digits.clone())
                .map_err(S::Error::custom)?
                .serialize(serializer),
            Json::Text(text) => serializer.serialize_str(text),
            Json::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Json::Object(fields) => object(fields, serializer),
            Json::Unreadable(what) => {
                Err(S::Error::custom(format!("{what} cannot be written as JSON")))
            }
        }
    }
}

/// Writes an object's fields in their order.
pub fn object<S: Serializer>(fields: &Object, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    fields.iter().try_for_each(|(key, field)| map.serialize_entry(key, field))?;
    map.end()
}

/// A value of ours as JSON, fields in their order.
///
/// # Errors
/// The value has no form in JSON: a key that is no text, say.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Json, serde_json::Error> {
    parse(&serde_json::to_string(value)?)
}

/// A value of ours from JSON.
///
/// # Errors
/// The JSON does not have its form.
pub fn decode<T: DeserializeOwned>(json: &Json) -> Result<T, serde_json::Error> {
    serde_json::from_str(&serde_json::to_string(json)?)
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Json::Null,
            serde_json::Value::Bool(truth) => Json::Bool(truth),
            serde_json::Value::Number(number) => Json::Number(number.to_string()),
            serde_json::Value::String(text) => Json::Text(text),
            serde_json::Value::Array(items) => {
                Json::List(items.into_iter().map(Json::from).collect())
            }
            serde_json::Value::Object(fields) => {
                Json::Object(fields.into_iter().map(|(key, field)| (key, field.into())).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read_in_order_and_to_the_last_digit() {
        let text = r#"{"b":12345678901234567890123,"a":[-0.10,1e400,null,true],"é\n":{"z":"\"","y":{}},"":[]}"#;
        let read = parse(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(read.as_object().unwrap().keys().collect::<Vec<_>>(), ["b", "a", "é\n", ""]);
        assert_eq!(serde_json::from_str::<Json>(text).unwrap(), read);
        assert_eq!(
            serde_json::from_str::<Vec<Json>>(&format!(" [ {text} , 1.50 ] ")).unwrap()[1],
            Json::Number("1.50".into())
        );
    }

    #[test]
    fn a_value_of_ours_becomes_json_in_the_order_of_its_fields_and_comes_back() {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Pair {
            z: f64,
            a: Option<Vec<String>>,
        }
        let pair = Pair { z: 0.1, a: Some(vec!["b".into()]) };
        let json = encode(&pair).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), r#"{"z":0.1,"a":["b"]}"#);
        assert_eq!(decode::<Pair>(&json).unwrap(), pair);
        assert!(decode::<Vec<f64>>(&json).is_err());
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place_and_doubled_keys_with_their_name() {
        let complaint = |text: &str| parse(text).unwrap_err().to_string();
        assert!(
            complaint(r#"{"a": }"#).ends_with("at line 1 column 7"),
            "{}",
            complaint(r#"{"a": }"#)
        );
        assert!(complaint(r#"{"a": 1} x"#).contains("trailing characters"));
        assert!(complaint(r#"{"a": {"b": 1, "b": 2}}"#).contains("the key `b` is given twice"));
        assert!(complaint(r#"["\ud83d here"]"#).contains("hex escape"));
        assert!(complaint("NaN").contains("expected"));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(DEPTH)).is_ok());
        assert!(complaint(&nested(1_000_000)).contains("nested deeper than 128 levels"));
    }
}

//! What a page has in zlib's format, as base64, for the browser to unpack: data and long tables.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compress, Compression, FlushCompress, Status};
use serde_json::Value;

/// Bytes of HTML above which tables are packed.
const LONG: usize = 1 << 17;

/// Tables that the browser unpacks.
#[derive(Default)]
pub(super) struct Packs(Vec<Vec<u8>>);

impl Packs {
    /// `tables` as they are, or where they are long a place for them.
    pub(super) fn place(&mut self, tables: String) -> String {
        if tables.len() < LONG {
            return tables;
        }
        self.0.push(compressed(tables.as_bytes()));
        format!("<div data-packed=\"tables-{}\"></div>\n", self.0.len())
    }

    /// Whether no tables are long.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The elements of data.
    pub(super) fn elements(&self) -> String {
        let element = |(at, bytes): (usize, &Vec<u8>)| packed(&format!("tables-{}", at + 1), bytes);
        self.0.iter().enumerate().map(element).collect()
    }
}

/// Numbers to five significant digits, of which a chart shows four: most of the data are the
/// others.
pub(super) fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            format!("{number:.4e}").parse::<f64>().map_or(Value::Null, Value::from)
        }
        Value::Array(items) => Value::Array(items.iter().map(rounded).collect()),
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(name, value)| (name.clone(), rounded(value))).collect(),
        ),
        other => other.clone(),
    }
}

/// An element of data that the browser unpacks.
pub(super) fn packed(id: &str, compressed: &[u8]) -> String {
    let text = STANDARD.encode(compressed);
    format!("<script type=\"text/plain\" id=\"{id}\">{text}</script>\n")
}

/// In zlib's format.
pub(super) fn compressed(bytes: &[u8]) -> Vec<u8> {
    let (mut compress, mut out) = (Compress::new(Compression::best(), true), Vec::new());
    let mut status = Status::Ok;
    while status != Status::StreamEnd {
        out.reserve(bytes.len() / 4 + 64);
        let rest = &bytes[compress.total_in() as usize..];
        let compressed = compress.compress_vec(rest, &mut out, FlushCompress::Finish);
        status = compressed.expect("memory takes all bytes");
    }
    out
}

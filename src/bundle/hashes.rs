//! The hashes that the config of a key has instead of references and inputs.

use serde_json::Value;

/// The hashes under a tag, each with its dotted path.
pub(super) fn hashes(config: &Value, tag: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(config, tag, String::new(), &mut found);
    found
}

fn walk(config: &Value, tag: &str, path: String, found: &mut Vec<(String, String)>) {
    match config {
        Value::Object(fields) => {
            if let Some(hash) = fields.get(tag).and_then(Value::as_str) {
                return found.push((path, hash.to_owned()));
            }
            for (field, value) in fields {
                let inner = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                walk(value, tag, inner, found);
            }
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(at, item)| walk(item, tag, format!("{path}[{at}]"), found)),
        _ => {}
    }
}

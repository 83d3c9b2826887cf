//! A checkpoint in memory: named tensors and texts, written as one file in one step. Knows no
//! model.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Context, Failure, Kind, Result};
use crate::model::tensor_writer::{self, Named};
use crate::model::tensors::Tensors;

/// Named tensors and texts.
#[derive(Default)]
pub struct Archive {
    tensors: BTreeMap<String, Vec<f32>>,
    texts: BTreeMap<String, String>,
}

impl Archive {
    /// Adds a tensor.
    pub fn put(&mut self, name: impl Into<String>, numbers: Vec<f32>) {
        self.tensors.insert(name.into(), numbers);
    }

    /// Adds a text.
    pub fn put_text(&mut self, name: &str, text: String) {
        self.texts.insert(name.into(), text);
    }

    /// A tensor.
    pub fn get(&self, name: &str) -> Result<&[f32]> {
        self.tensors
            .get(name)
            .map(Vec::as_slice)
            .with_context(|| format!("the checkpoint has no tensor `{name}`"))
    }

    /// A tensor of `count` numbers.
    pub fn get_of(&self, name: &str, count: usize) -> Result<&[f32]> {
        let numbers = self.get(name)?;
        match numbers.len() == count {
            true => Ok(numbers),
            false => {
                let found = numbers.len();
                let message = format!(
                    "the checkpoint's tensor `{name}` has {found} numbers, expected {count}"
                );
                Err(Failure::new(Kind::Bug, message).into())
            }
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<&str> {
        self.texts
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("the checkpoint has no `{name}`"))
    }

    /// Writes the file: whole, or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let named = self
            .tensors
            .iter()
            .map(|(name, numbers)| Named::whole(name.clone(), vec![numbers.len()], numbers));
        tensor_writer::write(path, named.collect(), Some(&serde_json::to_string(&self.texts)?))
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let file = Tensors::open(&[path.to_path_buf()])?;
        let names: Vec<String> = file.names().map(String::from).collect();
        let tensors = names
            .into_iter()
            .map(|name| Ok((name.clone(), file.read(&name)?)))
            .collect::<Result<_>>()?;
        let texts = serde_json::from_str(file.note().unwrap_or("{}"))
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Archive { tensors, texts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("state.safetensors");
        let mut archive = Archive::default();
        archive.put("policy.norm", vec![0.1, -0.0, f32::MIN_POSITIVE / 2.0]);
        archive.put_text("metrics", "{\"loss\":0.1}\nü".into());
        archive.write(&path).expect("it is written");
        let back = Archive::read(&path).expect("it is read");
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(back.get("policy.norm").expect("it is there")),
            bits(&[0.1, -0.0, f32::MIN_POSITIVE / 2.0])
        );
        assert_eq!(back.text("metrics").expect("it is there"), "{\"loss\":0.1}\nü");
        assert!(back.get("policy.embedding").is_err());
        assert!(back.get_of("policy.norm", 3).is_ok());
        let error = back.get_of("policy.norm", 4).expect_err("it has three");
        assert!(error.to_string().ends_with("has 3 numbers, expected 4"), "{error}");
    }
}

//! Files of named tensors, written: safetensors with fixed bytes. Independent of models.

use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::form::{Form, Part, assemble};
use super::tensors::{NOTE, PIECE};
use crate::error::{Context, Result};
use crate::fs;

/// One tensor to be written.
pub struct Named<'a> {
    /// Its name, unique in the file.
    pub name: String,
    /// Sizes, slowest first.
    pub shape: Vec<usize>,
    /// The matrices or vectors it holds, read when it is written.
    pub parts: Box<dyn Fn() -> Vec<Part<'a>> + 'a>,
}

impl<'a> Named<'a> {
    /// A vector or matrix that is written as it is.
    pub fn whole(name: String, shape: Vec<usize>, numbers: &'a [f32]) -> Self {
        let part = shape.clone();
        Named {
            name,
            shape,
            parts: Box::new(move || {
                vec![Part { form: Form::WHOLE, shape: part.clone(), numbers: numbers.into() }]
            }),
        }
    }

    /// Its bytes in a file.
    pub fn bytes(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }
}

/// Writes a file of float32 tensors in one step: after a crash it is whole or the old one. The same
/// tensors give the same bytes, in any order. The file carries `note` where there is one, else
/// `{"format":"pt"}`, which other programs look for.
pub fn write(path: &Path, mut tensors: Vec<Named<'_>>, note: Option<&str>) -> Result<()> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = end;
        end += tensor.bytes();
        (
            tensor.name.clone(),
            TensorInfo {
                dtype: Dtype::F32,
                shape: tensor.shape.clone(),
                data_offsets: (start, end),
            },
        )
    });
    let (key, value) = note.map_or(("format", "pt"), |note| (NOTE, note));
    // One entry only: the format's reader keeps metadata in a hash map, whose order would reach the
    // bytes.
    let metadata =
        Metadata::new(Some([(key.to_string(), value.to_string())].into()), infos.collect())
            .context("tensors overlap")?;
    let mut header = serde_json::to_vec(&metadata).context("a header is plain data")?;
    header.resize(header.len().next_multiple_of(8), b' ');

    fs::write_atomic_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| write_tensor(file, tensor))
    })
}

/// A piece at a time: one write a number would be slow, a copy of a whole tensor large.
fn write_tensor(file: &mut dyn Write, tensor: &Named<'_>) -> io::Result<()> {
    let parts = (tensor.parts)();
    let (height, width) = (tensor.shape[0], tensor.shape[1..].iter().product::<usize>());
    // Some rows even of a wide matrix: those of a transposed one are put together from as many
    // columns.
    let step = (PIECE / 4 / width.max(1)).clamp(16, PIECE);
    let (mut numbers, mut bytes) = (Vec::new(), Vec::new());
    for start in (0..height).step_by(step) {
        let range = start..(start + step).min(height);
        numbers.resize(range.len() * width, 0.0);
        assemble(&mut numbers, &parts, range, width);
        bytes.clear();
        bytes.extend(numbers.iter().flat_map(|number: &f32| number.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

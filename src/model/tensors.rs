//! Files of named tensors in the safetensors format: read by name, one tensor at a time, and written with fixed bytes. Knows no model.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::error::{Context, Result, user};
use crate::fs;

/// A header larger than this is not one (the limit of the reference implementation).
const HEADER_LIMIT: u64 = 100_000_000;

/// The tensors of one file or several, by name.
pub struct Tensors {
    files: Vec<OpenFile>,
    entries: BTreeMap<String, Entry>,
    note: Option<String>,
}

struct OpenFile {
    file: File,
    path: PathBuf,
    /// Where tensors begin.
    data: u64,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: (usize, usize),
}

impl Tensors {
    /// Opens files and reads their headers. A name must stand in one file only.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut tensors = Tensors { files: Vec::new(), entries: BTreeMap::new(), note: None };
        for path in paths {
            let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let (metadata, data) = header(&mut file, path)?;
            tensors.note = metadata.metadata().as_ref().and_then(|map| map.get(NOTE)).cloned();
            for (name, info) in metadata.tensors() {
                let entry = Entry { file: tensors.files.len(), dtype: info.dtype, shape: info.shape.clone(), range: info.data_offsets };
                if tensors.entries.insert(name.clone(), entry).is_some() {
                    return Err(user(format!("{} holds the tensor `{name}`, which another file holds too", path.display())).into());
                }
            }
            tensors.files.push(OpenFile { file, path: path.clone(), data });
        }
        Ok(tensors)
    }

    /// All names, in byte order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Sizes of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The text that [`write()`] was given.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// A tensor's numbers: float32, or float16 and bfloat16 widened, which is exact.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entries.get(name).with_context(|| format!("there is no tensor `{name}`"))?;
        let OpenFile { file, path, data } = &self.files[entry.file];
        let mut bytes = vec![0; entry.range.1 - entry.range.0];
        file.read_exact_at(&mut bytes, data + entry.range.0 as u64).with_context(|| format!("cannot read {}", path.display()))?;
        let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
        match entry.dtype {
            Dtype::F32 => Ok(bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()),
            Dtype::F16 => Ok(pairs().map(|pair| half::f16::from_le_bytes(pair).to_f32()).collect()),
            Dtype::BF16 => Ok(pairs().map(|pair| half::bf16::from_le_bytes(pair).to_f32()).collect()),
            other => {
                let message = format!("{}: the tensor `{name}` holds {other} numbers", path.display());
                Err(user(message).hint("F32, F16 and BF16 can be read").into())
            }
        }
    }
}

/// The header of a file, checked against its length, and where the tensors begin.
fn header(file: &mut File, path: &Path) -> Result<(Metadata, u64)> {
    let damaged = |why: &str| user(format!("{} is not a whole safetensors file: {why}", path.display()));
    let length = file.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
    let mut size = [0; 8];
    if length < 8 {
        return Err(damaged("it is shorter than its own header").into());
    }
    file.read_exact(&mut size).with_context(|| format!("cannot read {}", path.display()))?;
    let size = u64::from_le_bytes(size);
    if size > HEADER_LIMIT || size > length - 8 {
        return Err(damaged("it is shorter than its own header").into());
    }
    let mut json = vec![0; size as usize];
    file.read_exact(&mut json).with_context(|| format!("cannot read {}", path.display()))?;
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|error| damaged(&error.to_string()))?;
    match metadata.data_len() as u64 == length - 8 - size {
        true => Ok((metadata, 8 + size)),
        false => Err(damaged(&format!("{} bytes of tensors, {} announced", length - 8 - size, metadata.data_len())).into()),
    }
}

/// One tensor to be written.
pub struct Named<'a> {
    /// Its name, unique in the file.
    pub name: String,
    /// Sizes, slowest first.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub numbers: &'a [f32],
}

/// The metadata key of a note.
const NOTE: &str = "note";

/// Writes a file of float32 tensors in one step: after a crash it is whole or the old one. The same tensors give the same bytes, in
/// whatever order they come. The file carries `note` where there is one, else `{"format":"pt"}`, which other programs look for.
pub fn write(path: &Path, mut tensors: Vec<Named<'_>>, note: Option<&str>) -> Result<()> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        assert_eq!(tensor.shape.iter().product::<usize>(), tensor.numbers.len(), "shape of `{}`", tensor.name);
        let start = end;
        end += 4 * tensor.numbers.len();
        (tensor.name.clone(), TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, end) })
    });
    let (key, value) = note.map_or(("format", "pt"), |note| (NOTE, note));
    // One entry only: the format's reader keeps metadata in a hash map, whose order would reach the bytes.
    let metadata = Metadata::new(Some([(key.to_string(), value.to_string())].into()), infos.collect()).context("tensors overlap")?;
    let mut header = serde_json::to_vec(&metadata).context("a header is plain data")?;
    header.resize(header.len().next_multiple_of(8), b' ');

    fs::write_atomic_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for tensor in &tensors {
            // A piece at a time: one write a number would be slow, a copy of a whole tensor large.
            for piece in tensor.numbers.chunks(1 << 14) {
                let bytes: Vec<u8> = piece.iter().flat_map(|number| number.to_le_bytes()).collect();
                file.write_all(&bytes)?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn some(name: &str, numbers: &'static [f32]) -> Named<'static> {
        Named { name: name.into(), shape: vec![numbers.len()], numbers }
    }

    #[test]
    fn what_is_written_is_read_back_and_by_the_reference_reader_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write(&path, vec![some("b", &[1.5, -0.0]), some("a", &[f32::MIN_POSITIVE / 4.0])], None).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.tensor("b").unwrap().data(), [1.5f32.to_le_bytes(), (-0.0f32).to_le_bytes()].concat());
        let tensors = Tensors::open(std::slice::from_ref(&path)).unwrap();
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(tensors.read("a").unwrap()[0].to_bits(), (f32::MIN_POSITIVE / 4.0).to_bits());

        let other = folder.path().join("y.safetensors");
        write(&other, vec![some("a", &[f32::MIN_POSITIVE / 4.0]), some("b", &[1.5, -0.0])], None).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), bytes);
    }

    #[test]
    fn half_precision_is_widened_exactly_and_integers_are_refused() {
        use safetensors::tensor::TensorView;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let (half, brain, whole) = (half::f16::from_f32(0.1).to_le_bytes(), half::bf16::from_f32(3e38).to_le_bytes(), 7i32.to_le_bytes());
        let view = |dtype, bytes| TensorView::new(dtype, vec![1], bytes).unwrap();
        let all = [("h", view(Dtype::F16, &half[..])), ("b", view(Dtype::BF16, &brain[..])), ("i", view(Dtype::I32, &whole[..]))];
        std::fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
        let tensors = Tensors::open(&[path]).unwrap();
        assert_eq!(tensors.read("h").unwrap(), [half::f16::from_f32(0.1).to_f32()]);
        assert_eq!(tensors.read("b").unwrap(), [half::bf16::from_f32(3e38).to_f32()]);
        assert!(tensors.read("i").unwrap_err().to_string().contains("I32"));
    }

    #[test]
    fn a_truncated_file_is_a_user_error_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write(&path, vec![some("a", &[1.0, 2.0])], Some("step 3")).unwrap();
        assert_eq!(Tensors::open(std::slice::from_ref(&path)).unwrap().note(), Some("step 3"));
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = Tensors::open(std::slice::from_ref(&path)).err().expect("it is not whole");
            assert_eq!(crate::error::kind_of(&error), crate::error::Kind::User, "{length}: {error}");
        }
    }
}

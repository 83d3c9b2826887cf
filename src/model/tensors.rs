//! Files of named tensors, read: safetensors and PyTorch's zip archives. Independent of models;
//! `tensor_writer.rs` writes them.
//!
//! Tensors are read by position rather than mapped into memory: a piece at a time, so that memory
//! holds no more than the requested part, and a file that shrinks meanwhile is an error instead of
//! a crash. Of a tensor any part can be read ([`Form`]), in the order of ours: what a file fuses,
//! interleaves or transposes is never in memory in the layout of the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::form::Form;
use super::pickle;
use super::zip::{self, Damage};
use crate::error::{Context, Result, user};
use crate::fs;

/// A header larger than this is not one (the limit of the reference implementation).
const HEADER_LIMIT: u64 = 100_000_000;
/// A pickle larger than this is not one of tensors.
const PICKLE_LIMIT: u64 = 1 << 26;
/// The head of PyTorch's files before version 1.6: a pickled number.
const LEGACY: &[u8] = &[0x80, 0x02, 0x8a, 0x0a];
/// Sizes of a tensor at most; of ours none has more than two.
const DIMENSIONS: usize = 16;
/// Bytes read or written at a time.
pub(crate) const PIECE: usize = 1 << 18;
/// The metadata key of a note.
pub(crate) const NOTE: &str = "note";
/// Rows of ours that are read together where the file has them as columns.
const BAND: usize = 512;

/// The tensors of one file or several, by name.
pub struct Tensors {
    files: Vec<OpenFile>,
    entries: BTreeMap<String, Entry>,
    note: Option<String>,
}

struct OpenFile {
    file: File,
    path: PathBuf,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Numbers between neighbours along each size.
    strides: Vec<usize>,
    /// Where in the file its first number is.
    start: u64,
}

impl Tensors {
    /// Opens files and reads the descriptions of their tensors. A name must be in one file only.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut tensors = Tensors { files: Vec::new(), entries: BTreeMap::new(), note: None };
        for (index, path) in paths.iter().enumerate() {
            fs::refuse_pointer(path)?;
            let file =
                File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let length =
                file.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
            let mut head = [0; 8];
            let known = &mut head[..length.min(8) as usize];
            file.read_exact_at(known, 0)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let entries = match &*known {
                head if head.starts_with(zip::MAGIC) => archive(&file, path, length, index)?,
                head if head.starts_with(LEGACY)
                    || path.extension().is_some_and(|extension| extension == "bin") =>
                {
                    return Err(user(format!(
                        "{} is not a zip archive, as PyTorch writes them since version 1.6",
                        path.display()
                    ))
                    .hint("load it with PyTorch and save it again, best of all as safetensors")
                    .into());
                }
                _ => {
                    let (metadata, data) = header(&file, path, length)?;
                    tensors.note =
                        metadata.metadata().as_ref().and_then(|map| map.get(NOTE)).cloned();
                    let entry = |info: &TensorInfo| Entry {
                        file: index,
                        dtype: info.dtype,
                        shape: info.shape.clone(),
                        strides: contiguous(&info.shape),
                        start: data + info.data_offsets.0 as u64,
                    };
                    let tensors = metadata.tensors();
                    if let Some((name, info)) =
                        tensors.iter().find(|(_, info)| info.shape.len() > DIMENSIONS)
                    {
                        let message = format!(
                            "{}: the tensor `{}` has {} sizes",
                            path.display(),
                            shortened(name),
                            info.shape.len()
                        );
                        return Err(user(message)
                            .hint(format!("a tensor has {DIMENSIONS} sizes at most"))
                            .into());
                    }
                    tensors.into_iter().map(|(name, info)| (name, entry(info))).collect()
                }
            };
            for (name, entry) in entries {
                if tensors.entries.insert(name.clone(), entry).is_some() {
                    return Err(user(format!(
                        "{} holds the tensor `{name}`, which another file holds too",
                        path.display()
                    ))
                    .into());
                }
            }
            tensors.files.push(OpenFile { file, path: path.clone() });
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

    /// All of a vector's or a matrix's numbers.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let shape =
            self.shape(name).with_context(|| format!("there is no tensor `{name}`"))?.to_vec();
        self.read_part(name, Form::WHOLE, &shape)
    }

    /// The numbers of a vector or matrix of ours with sizes `shape`, from the tensor that holds it
    /// in the given form: float32, or float16 and bfloat16 widened, which is exact.
    ///
    /// # Errors
    /// The user's: another type of numbers, or a number that is not finite, named by its place in
    /// the file's tensor.
    ///
    /// # Panics
    /// Where the tensor's sizes are not those that [`Form::shape`] gives.
    pub fn read_part(&self, name: &str, form: Form, shape: &[usize]) -> Result<Vec<f32>> {
        let entry =
            self.entries.get(name).with_context(|| format!("there is no tensor `{name}`"))?;
        let OpenFile { file, path } = &self.files[entry.file];
        if ![1, 2].contains(&shape.len()) {
            return Err(user(format!(
                "{}: the tensor `{name}` is neither vector nor matrix",
                path.display()
            ))
            .into());
        }
        assert_eq!(entry.shape, form.shape(shape), "sizes of `{name}`");
        if !matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let message =
                format!("{}: the tensor `{name}` holds {} numbers", path.display(), entry.dtype);
            return Err(user(message).hint("F32, F16 and BF16 can be read").into());
        }
        let (rows, width) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let (row, column) = match (entry.strides[0], entry.strides.get(1).copied().unwrap_or(1)) {
            (column, row) if form.transposed => (row, column),
            (row, column) => (row, column),
        };
        let matrix =
            Matrix { file, dtype: entry.dtype, start: entry.start, row, column, form, rows, width };
        let mut numbers = vec![0.0; rows * width];
        let by_rows = matrix.is_joined() || width > 1 && column <= row;
        let read = if by_rows {
            matrix.read_by_rows(&mut numbers)
        } else {
            matrix.read_by_columns(&mut numbers)
        };
        read.with_context(|| format!("cannot read {}", path.display()))?;
        if let Some(at) = first_not_finite(&numbers) {
            let (stored, _) = form.stored(at / width, rows);
            let place = match (shape.len(), form.transposed) {
                (1, _) => format!("[{stored}]"),
                (_, false) => format!("[{stored}, {}]", at % width),
                (_, true) => format!("[{}, {stored}]", at % width),
            };
            let message = format!(
                "{}: the tensor `{name}` has {} at {place}, which is not finite",
                path.display(),
                numbers[at]
            );
            return Err(user(message)
                .hint(
                    "the training that wrote it diverged: take an earlier checkpoint, or train \
                     anew with a smaller learning rate",
                )
                .into());
        }
        Ok(numbers)
    }
}

/// The index of the first number that is infinite or none.
fn first_not_finite(numbers: &[f32]) -> Option<usize> {
    // The greatest magnitude of a piece, by bits, so that a piece is one pass without a branch.
    let has_none = |piece: &[f32]| {
        piece.iter().fold(0, |most, number| most.max(number.to_bits() & 0x7fff_ffff))
            < f32::INFINITY.to_bits()
    };
    if numbers.par_chunks(PIECE).all(has_none) {
        return None;
    }
    numbers.iter().position(|number| !number.is_finite())
}

/// A name for an error: its beginning, where it is long.
pub fn shortened(name: &str) -> String {
    const LONGEST: usize = 200;
    match name.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    }
}

/// A matrix of ours in a file.
struct Matrix<'a> {
    file: &'a File,
    dtype: Dtype,
    start: u64,
    /// Numbers in the file between a row and the next, between a column and the next.
    row: usize,
    column: usize,
    form: Form,
    /// Sizes of ours.
    rows: usize,
    width: usize,
}

impl Matrix<'_> {
    /// Whether there is no gap between a row's numbers, and between a row and the next.
    fn is_joined(&self) -> bool {
        self.column == 1 && self.row == self.width
    }

    /// Row after row, or many rows at once where they follow one another in the file as well.
    fn read_by_rows(&self, out: &mut [f32]) -> std::io::Result<()> {
        out.par_chunks_mut(PIECE).enumerate().try_for_each(|(index, out)| {
            let (mut bytes, mut done) = (Vec::new(), 0);
            while done < out.len() {
                let at = index * PIECE + done;
                let (row, column) = (at / self.width, at % self.width);
                let (stored, run) = self.form.stored(row, self.rows);
                let count =
                    if self.is_joined() { run * self.width - column } else { self.width - column };
                let count = count.min(out.len() - done);
                self.gather(
                    &mut out[done..][..count],
                    stored * self.row + column * self.column,
                    self.column,
                    &mut bytes,
                )?;
                done += count;
            }
            Ok(())
        })
    }

    /// Band after band of rows, each column by column: neighbours in the file are in one column.
    fn read_by_columns(&self, out: &mut [f32]) -> std::io::Result<()> {
        // Columns that are turned into rows together, so that memory is not written number by
        // number far apart.
        const TILE: usize = 16;
        out.par_chunks_mut((BAND * self.width).max(1)).enumerate().try_for_each(|(index, out)| {
            let (mut bytes, mut row, end) =
                (Vec::new(), index * BAND, index * BAND + out.len() / self.width);
            let mut tile = vec![0.0; TILE * BAND];
            while row < end {
                let (stored, run) = self.form.stored(row, self.rows);
                let run = run.min(end - row);
                let out = &mut out[(row - index * BAND) * self.width..][..run * self.width];
                for first in (0..self.width).step_by(TILE) {
                    let columns = TILE.min(self.width - first);
                    for (column, numbers) in tile.chunks_mut(BAND).take(columns).enumerate() {
                        self.gather(
                            &mut numbers[..run],
                            stored * self.row + (first + column) * self.column,
                            self.row,
                            &mut bytes,
                        )?;
                    }
                    for (row, out) in out.chunks_mut(self.width).enumerate() {
                        out[first..][..columns]
                            .iter_mut()
                            .enumerate()
                            .for_each(|(column, out)| *out = tile[column * BAND + row]);
                    }
                }
                row += run;
            }
            Ok(())
        })
    }

    /// `out`, from number `first` of the file's tensor on, each `stride` after the one before;
    /// `bytes` is memory to be used again.
    fn gather(
        &self,
        out: &mut [f32],
        first: usize,
        stride: usize,
        bytes: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let size = if self.dtype == Dtype::F32 { 4 } else { 2 };
        let together = (PIECE / (size * stride.max(1))).max(1);
        for (index, out) in out.chunks_mut(together).enumerate() {
            let span = (out.len() - 1) * stride + 1;
            bytes.resize(span * size, 0);
            self.file.read_exact_at(
                bytes,
                self.start + ((first + index * together * stride) * size) as u64,
            )?;
            match self.dtype {
                Dtype::F32 => decode(out, bytes, stride, f32::from_le_bytes),
                Dtype::F16 => {
                    decode(out, bytes, stride, |bytes| half::f16::from_le_bytes(bytes).to_f32())
                }
                _ => decode(out, bytes, stride, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
            }
        }
        Ok(())
    }
}

/// Every `stride`-th number of `bytes`; all of them are the first where it is 0.
fn decode<const N: usize>(
    out: &mut [f32],
    bytes: &[u8],
    stride: usize,
    number: impl Fn([u8; N]) -> f32,
) {
    let (words, _) = bytes.as_chunks::<N>();
    match stride {
        0 => out.fill(number(words[0])),
        // What is there mostly, without a step that is only known here.
        1 => out.iter_mut().zip(words).for_each(|(out, word)| *out = number(*word)),
        _ => out
            .iter_mut()
            .zip(words.iter().step_by(stride))
            .for_each(|(out, word)| *out = number(*word)),
    }
}

/// The distance of neighbours along each size, for a tensor without gaps.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    // Beside a size of 0 the others may be of any size.
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// The header of a safetensors file, checked against its length, and where the tensors begin.
fn header(file: &File, path: &Path, length: u64) -> Result<(Metadata, u64)> {
    let damaged =
        |why: &str| user(format!("{} is not a whole safetensors file: {why}", path.display()));
    let mut size = [0; 8];
    if length < 8 {
        return Err(damaged("it is shorter than its own header").into());
    }
    file.read_exact_at(&mut size, 0).with_context(|| format!("cannot read {}", path.display()))?;
    let size = u64::from_le_bytes(size);
    if size > HEADER_LIMIT || size > length - 8 {
        return Err(damaged("it is shorter than its own header").into());
    }
    let mut json = vec![0; size as usize];
    file.read_exact_at(&mut json, 8).with_context(|| format!("cannot read {}", path.display()))?;
    let metadata: Metadata =
        serde_json::from_slice(&json).map_err(|error| damaged(&error.to_string()))?;
    match metadata.data_len() as u64 == length - 8 - size {
        true => Ok((metadata, 8 + size)),
        false => Err(damaged(&format!(
            "{} bytes of tensors, {} announced",
            length - 8 - size,
            metadata.data_len()
        ))
        .into()),
    }
}

/// The tensors of a PyTorch archive: a pickle that names storages, and an entry with the bytes of
/// each.
fn archive(file: &File, path: &Path, length: u64, index: usize) -> Result<Vec<(String, Entry)>> {
    let damaged = |why: String| {
        user(format!("{} is not a PyTorch checkpoint of tensors: {why}", path.display()))
    };
    let read = |bytes: &mut [u8], start: u64| file.read_exact_at(bytes, start);
    let spans = zip::entries(&read, length).map_err(|damage| match damage {
        Damage::Read(error) => {
            anyhow::Error::from(error).context(format!("cannot read {}", path.display()))
        }
        Damage::Format(why) => damaged(why).into(),
    })?;
    let whole = |span: zip::Span| -> Result<Vec<u8>> {
        let mut bytes = vec![0; span.length.min(PICKLE_LIMIT) as usize];
        read(&mut bytes, span.start).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(bytes)
    };
    // All entries are in one folder, whatever its name.
    let Some((folder, span)) =
        spans.iter().find_map(|(name, span)| Some((name.strip_suffix("data.pkl")?, *span)))
    else {
        return Err(damaged("it has no data.pkl".into()).into());
    };
    if span.length > PICKLE_LIMIT {
        return Err(damaged(format!("its data.pkl has {} bytes", span.length)).into());
    }
    if let Some(order) = spans.get(&format!("{folder}byteorder"))
        && whole(*order)? != b"little"
    {
        return Err(damaged("its numbers do not begin with the lowest byte".into()).into());
    }
    let views = pickle::tensors(&whole(span)?).map_err(|why| {
        damaged(format!("in its pickle, {why}"))
            .hint("a file from an untrusted source can run programs when other software loads it")
    })?;
    let mut entries = Vec::new();
    for (name, view) in views {
        let Some(span) = spans.get(&format!("{folder}data/{}", view.storage)) else {
            return Err(
                damaged(format!("`{name}` has its numbers in an entry that is not there")).into()
            );
        };
        let size = view.dtype.bitsize() as u64 / 8;
        if (view.length as u64).checked_mul(size).is_none_or(|bytes| bytes > span.length) {
            return Err(damaged(format!("the numbers of `{name}` are cut off")).into());
        }
        let start = span.start + view.offset as u64 * size;
        entries.push((
            name,
            Entry {
                file: index,
                dtype: view.dtype,
                shape: view.shape,
                strides: view.strides,
                start,
            },
        ));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor_writer::{Named, write};

    fn some(name: &str, numbers: &'static [f32]) -> Named<'static> {
        Named::whole(name.into(), vec![numbers.len()], numbers)
    }

    #[test]
    fn what_is_written_is_read_back_and_by_the_reference_reader_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write(&path, vec![some("b", &[1.5, -0.0]), some("a", &[f32::MIN_POSITIVE / 4.0])], None)
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(
            reference.tensor("b").unwrap().data(),
            [1.5f32.to_le_bytes(), (-0.0f32).to_le_bytes()].concat()
        );
        let tensors = Tensors::open(std::slice::from_ref(&path)).unwrap();
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(tensors.read("a").unwrap()[0].to_bits(), (f32::MIN_POSITIVE / 4.0).to_bits());

        let other = folder.path().join("y.safetensors");
        write(&other, vec![some("a", &[f32::MIN_POSITIVE / 4.0]), some("b", &[1.5, -0.0])], None)
            .unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), bytes);
    }

    #[test]
    fn half_precision_is_widened_exactly_and_integers_are_refused() {
        use safetensors::tensor::TensorView;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let (half, brain, whole) = (
            half::f16::from_f32(0.1).to_le_bytes(),
            half::bf16::from_f32(3e38).to_le_bytes(),
            7i32.to_le_bytes(),
        );
        let view = |dtype, bytes| TensorView::new(dtype, vec![1], bytes).unwrap();
        let all = [
            ("h", view(Dtype::F16, &half[..])),
            ("b", view(Dtype::BF16, &brain[..])),
            ("i", view(Dtype::I32, &whole[..])),
        ];
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
            assert_eq!(
                crate::error::kind_of(&error),
                crate::error::Kind::User,
                "{length}: {error}"
            );
        }
    }
}

//! The pickle in a PyTorch file, read by a machine that can build tables of tensors and nothing
//! else. Its input is bytes, not a file.
//!
//! A pickle is a program for a stack machine that may call any function of Python. This machine has
//! the opcodes that PyTorch writes (protocol 2) and the few functions that make tensors; any other
//! opcode or function is an error that names it.
//!
//! 1. Nothing is executed, and no value holds another: tuples, lists and tables are stored side by
//!    side and refer to each other by number. So nothing recurses, and a value that is referred to
//!    a thousand times is stored once.
//! 2. Work and memory are bounded by the length of the bytes and by [`STEPS`]; a count in the bytes
//!    is always checked.
//! 3. A tensor is within its storage, and has no more numbers than it, so none is larger than its
//!    file.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::Dtype;

/// A tensor, as a view of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The name of the storage's entry.
    pub storage: String,
    /// Numbers in the storage.
    pub length: usize,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// The first number of the tensor in the storage.
    pub offset: usize,
    /// Sizes, slowest first.
    pub shape: Vec<usize>,
    /// How far apart neighbours are along each size.
    pub strides: Vec<usize>,
}

/// Opcodes of one pickle at most: a hundred thousand tensors take about four million.
const STEPS: usize = 1 << 22;
/// Sizes of a tensor at most, and bytes of a storage's name: every tensor has its own copy of them.
const DIMENSIONS: usize = 16;
const NAME: usize = 64;

/// The tensors of a pickled table from names to tensors, in its order. An error explains why it is
/// not one.
pub fn tensors(bytes: &[u8]) -> Result<Vec<(String, View)>, String> {
    let mut machine = Machine { rest: bytes, ..Machine::default() };
    for _ in 0..STEPS {
        if let Some(value) = machine.step()? {
            return machine.table(value);
        }
    }
    Err(format!("it takes more than {STEPS} steps"))
}

/// What is on the stack. `usize` is a place in one of the machine's lists.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Nothing,
    Flag,
    Whole(i64),
    Text(&'a str),
    Tuple(usize),
    List,
    Table(usize),
    Storage(usize),
    Tensor(usize),
    Callable(Callable),
}

/// What a pickle may call or name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Callable {
    /// `collections.OrderedDict`, of nothing.
    Table,
    /// `torch._utils._rebuild_tensor_v2`, of storage, offset, sizes, strides and arguments that are
    /// ignored here.
    Tensor,
    /// `torch._utils._rebuild_parameter`, of a tensor and arguments that are ignored here.
    Parameter,
    /// `torch.Size`, of a tuple.
    Sizes,
    /// `torch.FloatStorage` and its like; never called.
    Storage(Dtype),
}

#[derive(Clone, Copy, Debug)]
struct Storage<'a> {
    name: &'a str,
    dtype: Dtype,
    length: usize,
}

#[derive(Default)]
struct Machine<'a> {
    /// What was not read yet.
    rest: &'a [u8],
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    tables: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<Storage<'a>>,
    tensors: Vec<View>,
}

type Step<T> = Result<T, String>;

fn fail<T>(why: impl Into<String>) -> Step<T> {
    Err(why.into())
}

impl<'a> Machine<'a> {
    /// One opcode; the value that the pickle ends with, where it ends.
    fn step(&mut self) -> Step<Option<Value<'a>>> {
        let opcode = self.bytes(1)?[0];
        match opcode {
            // PROTO, FRAME: a version, a length that only readers of streams need.
            0x80 => self.bytes(1).map(|_| ())?,
            0x95 => self.bytes(8).map(|_| ())?,
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop().map(|_| ())?,
            b'N' => self.stack.push(Value::Nothing),
            0x88 | 0x89 => self.stack.push(Value::Flag),
            b'J' => self.whole(4)?,
            b'K' => self.whole(1)?,
            b'M' => self.whole(2)?,
            0x8a => self.long()?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b')' => self.tuple(Vec::new()),
            0x85..=0x87 => {
                let mut values = Vec::new();
                for _ in 0x84..opcode {
                    values.insert(0, self.pop()?);
                }
                self.tuple(values);
            }
            b't' => {
                let values = self.pop_mark()?;
                self.tuple(values);
            }
            b']' => self.stack.push(Value::List),
            b'a' => {
                self.pop()?;
                self.list()?;
            }
            b'e' => {
                self.pop_mark()?;
                self.list()?;
            }
            b'}' => self.new_table(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])?;
            }
            b'u' => {
                let values = self.pop_mark()?;
                self.insert(&values)?;
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => self.memoize()?,
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.global(module, name)?,
                _ => return fail("it names something by other than text"),
            },
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            b'b' => self.build()?,
            other => {
                return fail(format!("it has the opcode 0x{other:02x}, which makes no tensor"));
            }
        }
        Ok(None)
    }

    fn bytes(&mut self, count: usize) -> Step<&'a [u8]> {
        match self.rest.split_at_checked(count) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => fail("it is cut off"),
        }
    }

    fn unsigned(&mut self, size: usize) -> Step<u64> {
        Ok(self.bytes(size)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn line(&mut self) -> Step<&'a str> {
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else {
            return fail("it is cut off");
        };
        let line = self.bytes(end + 1)?;
        std::str::from_utf8(&line[..end]).map_err(|_| "it holds a name that is not UTF-8".into())
    }

    fn pop(&mut self) -> Step<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len() > floor {
            true => Ok(self.stack.pop().expect("the stack is above its floor")),
            false => fail("it takes from an empty stack"),
        }
    }

    /// All above the last mark.
    fn pop_mark(&mut self) -> Step<Vec<Value<'a>>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => fail("it goes back to a mark that it never made"),
        }
    }

    /// A number of 1 or 2 bytes, or a signed one of 4.
    fn whole(&mut self, size: usize) -> Step<()> {
        let number = self.unsigned(size)? as i64;
        self.stack.push(Value::Whole(if size == 4 { i64::from(number as i32) } else { number }));
        Ok(())
    }

    /// A signed number of any length: 8 bytes are enough for all that can be a size.
    fn long(&mut self) -> Step<()> {
        let size = self.unsigned(1)? as usize;
        if size > 8 {
            return fail("it holds a number of more than 64 bits");
        }
        let number = self.unsigned(size)?;
        let unused = 64 - 8 * size as u32;
        self.stack.push(Value::Whole(if size == 0 {
            0
        } else {
            (number << unused) as i64 >> unused
        }));
        Ok(())
    }

    fn text(&mut self, size: usize) -> Step<()> {
        let length = usize::try_from(self.unsigned(size)?).unwrap_or(usize::MAX);
        match std::str::from_utf8(self.bytes(length)?) {
            Ok(text) => self.stack.push(Value::Text(text)),
            Err(_) => return fail("it holds text that is not UTF-8"),
        }
        Ok(())
    }

    fn tuple(&mut self, values: Vec<Value<'a>>) {
        self.tuples.push(values);
        self.stack.push(Value::Tuple(self.tuples.len() - 1));
    }

    fn new_table(&mut self) {
        self.tables.push(Vec::new());
        self.stack.push(Value::Table(self.tables.len() - 1));
    }

    /// Puts pairs of key and value into the table on the stack.
    fn insert(&mut self, pairs: &[Value<'a>]) -> Step<()> {
        let Some(Value::Table(table)) = self.stack.last() else {
            return fail("it fills what is not a table");
        };
        let (pairs, odd) = pairs.as_chunks::<2>();
        self.tables[*table].extend(pairs.iter().map(|[key, value]| (*key, *value)));
        if odd.is_empty() { Ok(()) } else { fail("it fills a table with a key that has no value") }
    }

    fn memoize(&mut self) -> Step<()> {
        let index = self.memo.len() as u32;
        self.remember(index)
    }

    fn put(&mut self, size: usize) -> Step<()> {
        let index = self.unsigned(size)? as u32;
        self.remember(index)
    }

    fn remember(&mut self, index: u32) -> Step<()> {
        let Some(value) = self.stack.last() else {
            return fail("it stores a value from an empty stack");
        };
        self.memo.insert(index, *value);
        Ok(())
    }

    fn get(&mut self, size: usize) -> Step<()> {
        let index = self.unsigned(size)? as u32;
        match self.memo.get(&index) {
            Some(value) => self.stack.push(*value),
            None => return fail("it loads a value that it never stored"),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        let callable = match (module, name) {
            ("collections", "OrderedDict") => Callable::Table,
            ("torch._utils", "_rebuild_tensor_v2") => Callable::Tensor,
            ("torch._utils", "_rebuild_parameter") => Callable::Parameter,
            ("torch", "Size") => Callable::Sizes,
            ("torch", "FloatStorage") => Callable::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Callable::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Callable::Storage(Dtype::BF16),
            ("torch", "DoubleStorage") => Callable::Storage(Dtype::F64),
            ("torch", "LongStorage") => Callable::Storage(Dtype::I64),
            ("torch", "IntStorage") => Callable::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Callable::Storage(Dtype::I16),
            ("torch", "CharStorage") => Callable::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Callable::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Callable::Storage(Dtype::BOOL),
            _ => {
                return fail(format!(
                    "it names `{module}.{name}`, which is not among what makes tensors"
                ));
            }
        };
        self.stack.push(Value::Callable(callable));
        Ok(())
    }

    /// The storage that a tuple ("storage", type, name, device, length) names.
    fn storage(&mut self) -> Step<()> {
        let Value::Tuple(tuple) = self.pop()? else {
            return fail("it names a storage by other than a tuple");
        };
        match self.tuples[tuple][..] {
            [
                Value::Text("storage"),
                Value::Callable(Callable::Storage(dtype)),
                Value::Text(name),
                _,
                Value::Whole(length),
            ] => {
                let Ok(length) = usize::try_from(length) else {
                    return fail("it has a storage of less than nothing");
                };
                if name.len() > NAME {
                    return fail(format!("it has a storage with a name of {} bytes", name.len()));
                }
                self.storages.push(Storage { name, dtype, length });
                self.stack.push(Value::Storage(self.storages.len() - 1));
                Ok(())
            }
            _ => fail("it names a storage in a way that PyTorch does not"),
        }
    }

    fn call(&mut self) -> Step<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Callable(callable)) = (arguments, callable) else {
            return fail("it calls what is not a function");
        };
        match (callable, &self.tuples[arguments][..]) {
            (Callable::Table, []) => self.new_table(),
            (Callable::Parameter, [tensor @ Value::Tensor(_), ..]) => self.stack.push(*tensor),
            (Callable::Sizes, [sizes @ Value::Tuple(_)]) => self.stack.push(*sizes),
            (
                Callable::Tensor,
                [
                    Value::Storage(storage),
                    Value::Whole(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => {
                let tensor = self.view(self.storages[*storage], *offset, *shape, *strides)?;
                self.tensors.push(tensor);
                self.stack.push(Value::Tensor(self.tensors.len() - 1));
            }
            _ => return fail("it calls a function with what it does not take"),
        }
        Ok(())
    }

    /// A tensor, if it is within its storage.
    fn view(&self, storage: Storage<'a>, offset: i64, shape: usize, strides: usize) -> Step<View> {
        let sizes = |tuple: usize| -> Option<Vec<usize>> {
            if self.tuples[tuple].len() > DIMENSIONS {
                return None;
            }
            let size = |value: &Value| match value {
                Value::Whole(size) => usize::try_from(*size).ok(),
                _ => None,
            };
            self.tuples[tuple].iter().map(size).collect()
        };
        let outside =
            || format!("it has a tensor that is not within its storage, {:?}", storage.name);
        let (Some(shape), Some(strides), Ok(offset)) =
            (sizes(shape), sizes(strides), usize::try_from(offset))
        else {
            return fail(outside());
        };
        let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let reach = shape.iter().zip(&strides).try_fold(offset, |reach, (size, stride)| {
            size.saturating_sub(1)
                .checked_mul(*stride)
                .and_then(|further| reach.checked_add(further))
        });
        match (count, reach) {
            (Some(count), Some(last))
                if shape.len() == strides.len()
                    && count <= storage.length
                    && offset <= storage.length
                    && (count == 0 || last < storage.length) =>
            {
                Ok(View {
                    storage: storage.name.into(),
                    length: storage.length,
                    dtype: storage.dtype,
                    offset,
                    shape,
                    strides,
                })
            }
            _ => fail(outside()),
        }
    }

    /// Attributes of a table beside its entries (PyTorch notes versions there) are ignored here.
    fn build(&mut self) -> Step<()> {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Table(_)) => Ok(()),
            _ => fail("it sets fields of what is not a table"),
        }
    }

    /// Lists occur only in parts that are ignored here, so what is appended is dropped.
    fn list(&self) -> Step<()> {
        match self.stack.last() {
            Some(Value::List) => Ok(()),
            _ => fail("it appends to what is not a list"),
        }
    }

    /// The tensors of the table that the pickle ends with.
    fn table(mut self, value: Value<'a>) -> Step<Vec<(String, View)>> {
        let Value::Table(table) = value else { return fail("it holds no table of tensors") };
        let mut names = BTreeSet::new();
        let mut found = Vec::new();
        for (key, value) in std::mem::take(&mut self.tables[table]) {
            let Value::Text(name) = key else {
                return fail("its table has keys that are not text");
            };
            let Value::Tensor(tensor) = value else {
                return fail(format!("`{name}` in its table is not a tensor"));
            };
            if !names.insert(name) {
                return fail(format!("it holds `{name}` twice"));
            }
            found.push((name.to_string(), self.tensors[tensor].clone()));
        }
        Ok(found)
    }
}

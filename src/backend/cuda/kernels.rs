//! The kernels of a device by name, loaded when they are first used, and calls of them. Knows no
//! operation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buffer::Buf;
use super::code::{self, Code};
use super::context::version;
use super::device::{Device, Memory};
use super::function::{Argument, Function, Module, Plain};
use crate::DType;
use crate::error::{Result, environment, raise};

/// The least compute capability: bf16 in tensor cores, asynchronous copies.
const LEAST: (i32, i32) = (8, 0);

/// The kernels of one device.
#[derive(Debug)]
pub struct Kernels {
    device: Arc<Device>,
    code: Code,
    architecture: String,
    loaded: Mutex<Loaded>,
}

type Name = (&'static str, &'static str, DType);

#[derive(Debug, Default)]
struct Loaded {
    modules: BTreeMap<(&'static str, DType), Arc<Module>>,
    functions: BTreeMap<Name, Arc<Function>>,
}

impl Kernels {
    /// Of a device, with machine code kept in `folder`.
    pub fn new(device: Arc<Device>, folder: &Path) -> Result<Kernels> {
        if device.context().capability < LEAST {
            let ((major, minor), (least, _)) = (device.context().capability, LEAST);
            return Err(environment(format!(
                "{} is too old: compute capability {major}.{minor}, and {least}.0 is needed",
                device.context().name
            ))
            .hint("use a device of the Ampere generation or later, or --device cpu")
            .into());
        }
        let code = Code::open(folder)?;
        if code.version().0 > device.context().version / 1000 {
            let ((major, minor), driver) = (code.version(), version(device.context().version));
            return Err(environment(format!(
                "NVRTC {major}.{minor} makes code that the driver, for CUDA {driver}, does not take"
            ))
            .hint(format!(
                "install a newer driver, or NVRTC of CUDA {}",
                device.context().version / 1000
            ))
            .into());
        }
        let architecture = code::architecture(device.context().capability);
        Ok(Kernels { device, code, architecture, loaded: Mutex::default() })
    }

    /// What the kernels run on.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Their machine code.
    pub fn code(&self) -> &Code {
        &self.code
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kernel of a file; `shared` is the dynamic shared memory that it may be launched with, the
    /// same at every call.
    fn function(&self, name: Name, shared: usize) -> Arc<Function> {
        let mut loaded = self.loaded();
        if let Some(function) = loaded.functions.get(&name) {
            return function.clone();
        }
        let (stem, method, kind) = name;
        let module = match loaded.modules.get(&(stem, kind)) {
            Some(module) => module.clone(),
            None => {
                Arc::new(self.module(stem, kind).unwrap_or_else(|error| raise(as_failure(error))))
            }
        };
        loaded.modules.insert((stem, kind), module.clone());
        let function = Arc::new(
            module
                .function(&format!("{method}_{}", kind.name()), shared)
                .unwrap_or_else(|error| raise(error)),
        );
        loaded.functions.insert(name, function.clone());
        function
    }

    /// Loads every module of the device, compiling those that are not kept yet; how many there are,
    /// and how many were compiled.
    pub fn load_all(&self) -> Result<(usize, usize)> {
        let (all, made) = self.code.make(&self.architecture, code::is_watched())?;
        for (stem, kind) in code::modules(&self.architecture) {
            self.module(stem, kind)?;
        }
        Ok((all, made))
    }

    fn module(&self, stem: &str, kind: DType) -> Result<Module> {
        self.code.module(&self.architecture, stem, kind, |cubin| {
            self.device.context().bind()?;
            Module::load(cubin)
        })
    }
}

/// An error as the failure that it holds, if it does.
fn as_failure(error: crate::error::Error) -> crate::error::Failure {
    let kind = crate::error::kind_of(&error);
    match error.downcast() {
        Ok(failure) => failure,
        Err(error) => crate::error::Failure::new(kind, format!("{error:#}")),
    }
}

/// A call of a kernel, while its arguments are gathered: outputs, inputs, sizes, in the kernel's
/// order.
#[must_use = "a call does nothing until it is launched"]
pub struct Call<'a> {
    device: &'a Arc<Device>,
    function: Arc<Function>,
    kind: DType,
    shared: usize,
    arguments: Vec<Argument>,
    /// What the host hands over with this call alone. Freed behind the kernel, on the same stream.
    kept: Vec<Memory>,
}

impl Kernels {
    /// A call of `method` in kernels/`stem`.cu, for numbers of a kind.
    pub fn call(&self, stem: &'static str, method: &'static str, kind: DType) -> Call<'_> {
        self.call_with(stem, method, kind, 0)
    }

    /// The same with dynamic shared memory, in bytes: as many as any call of this kernel needs.
    pub fn call_with(
        &self,
        stem: &'static str,
        method: &'static str,
        kind: DType,
        shared: usize,
    ) -> Call<'_> {
        let function = self.function((stem, method, kind), shared);
        Call {
            device: &self.device,
            function,
            kind,
            shared,
            arguments: Vec::new(),
            kept: Vec::new(),
        }
    }
}

impl Call<'_> {
    fn with(mut self, argument: Argument) -> Self {
        self.arguments.push(argument);
        self
    }

    /// An output of `num`.
    pub fn out(self, x: &mut Buf) -> Self {
        self.input(x)
    }

    /// An output of `float` in both storage types.
    pub fn out_floats(self, x: &mut Buf) -> Self {
        self.floats(x)
    }

    /// An input of `num`.
    pub fn input(self, x: &Buf) -> Self {
        assert_eq!(x.kind(), self.kind, "the storage type of an argument");
        self.with(Argument::Address(x.memory().address()))
    }

    /// An input of `num`, or a null pointer.
    pub fn optional(self, x: Option<&Buf>) -> Self {
        match x {
            Some(x) => self.input(x),
            None => self.with(Argument::Address(0)),
        }
    }

    /// An output of `num`, or a null pointer.
    pub fn optional_out(self, x: Option<&mut Buf>) -> Self {
        self.optional(x.as_deref())
    }

    /// An input of `float` in both storage types.
    pub fn floats(self, x: &Buf) -> Self {
        assert_eq!(x.kind(), DType::F32, "the storage type of an argument that is always float");
        self.with(Argument::Address(x.memory().address()))
    }

    /// Memory whatever is in it.
    pub fn memory(self, x: &Memory) -> Self {
        self.with(Argument::Address(x.address()))
    }

    /// The same from some byte on.
    pub fn memory_from(self, x: &Memory, offset: usize) -> Self {
        assert!(offset <= x.bytes(), "it begins within the memory");
        self.with(Argument::Address(x.address() + offset as u64))
    }

    /// Numbers of the host that this call alone needs.
    pub fn host<T: Plain>(mut self, numbers: &[T]) -> Self {
        let memory = self.device.table(numbers);
        self.arguments.push(Argument::Address(memory.address()));
        self.kept.push(memory);
        self
    }

    /// A matrix `[rows, columns]` of bf16, to be copied in boxes of `box_rows` rows and 64 columns.
    pub fn matrix(self, x: &Buf, rows: usize, columns: usize, box_rows: usize) -> Self {
        assert_eq!(
            (x.kind(), x.len()),
            (DType::Bf16, rows * columns),
            "a matrix for tensor copies"
        );
        let map = self.device.map(x.memory(), rows, columns, box_rows);
        self.with(Argument::Map(map))
    }

    /// A count, 64 bits.
    pub fn size(self, x: usize) -> Self {
        self.with(Argument::Size(i64::try_from(x).expect("sizes are below 2^63")))
    }

    /// `int`.
    pub fn integer(self, x: i32) -> Self {
        self.with(Argument::Integer(x))
    }

    /// `float`, rounded.
    pub fn float(self, x: f64) -> Self {
        self.with(Argument::Float(x as f32))
    }

    /// Queues the call over a grid of blocks of `threads`; nothing where the grid is empty.
    pub fn launch(self, grid: [usize; 3], threads: usize) {
        if grid.iter().all(|blocks| *blocks > 0) {
            self.device.launch(&self.function, grid, threads, self.shared, self.arguments);
        }
    }

    /// Queues the call for `n` things, `each` of them to a block of `threads`.
    pub fn over(self, n: usize, each: usize, threads: usize) {
        self.launch([n.div_ceil(each), 1, 1], threads);
    }
}

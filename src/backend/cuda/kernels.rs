//! The kernels by name, compiled when they are first asked for, and calls of them. Knows no
//! operation.
//!
//! 1. A module is one file of kernels/ in one storage type. Its machine code is kept in a folder,
//!    under a digest of all that it was made from: the sources, the options, the compiler's version
//!    and build.
//! 2. Code that the driver does not take (a damaged file) is compiled anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buffer::{Buf, Type};
use super::compiler::{Compiler, Source};
use super::driver::{Argument, Device, Function, Memory, Module, Plain, version};
use crate::error::{Result, environment, raise};
use crate::fs;

/// Files of kernels, and the headers that they may include.
macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        &[$(Source { name: $name, text: include_str!(concat!("../../../kernels/", $name)) }),*]
    };
}

const HEADERS: &[Source] = sources![
    "prelude.cuh",
    "attend.cuh",
    "attend_hopper.cuh",
    "columns.cuh",
    "distribution.cuh",
    "functions.cuh",
    "linear.cuh",
    "residual.cuh"
];

const FILES: &[Source] = sources![
    "activation.cu",
    "attention.cu",
    "attention_backward.cu",
    "attention_backward_hopper.cu",
    "attention_hopper.cu",
    "cache.cu",
    "cached.cu",
    "layer_norm.cu",
    "linear.cu",
    "linear_hopper.cu",
    "loss.cu",
    "norm.cu",
    "optimiser.cu",
    "rotary.cu",
    "rows.cu",
    "sampling.cu",
    "token.cu",
];

/// The least compute capability: bf16 in tensor cores, asynchronous copies.
const LEAST: (i32, i32) = (8, 0);

/// The kernels of one device.
#[derive(Debug)]
pub struct Kernels {
    device: Arc<Device>,
    compiler: Compiler,
    architecture: String,
    folder: PathBuf,
    loaded: Mutex<Loaded>,
}

type Name = (&'static str, &'static str, Type);

#[derive(Debug, Default)]
struct Loaded {
    modules: BTreeMap<(&'static str, Type), Arc<Module>>,
    functions: BTreeMap<Name, Arc<Function>>,
}

/// The name of the machine code for a device; `sm_90a` has what `sm_90` has and the instructions of
/// the one chip.
pub fn architecture(capability: (i32, i32)) -> String {
    match capability {
        (9, 0) => "sm_90a".into(),
        (major, minor) => format!("sm_{major}{minor}"),
    }
}

/// Options of the compiler. Nothing is contracted that does not say so: `fmaf` is one rounding, `a
/// * b + c` two, as in the emulator.
pub fn options(architecture: &str, kind: Type) -> Vec<String> {
    let kind = match kind {
        Type::F32 => "-DNUM_F32",
        Type::Bf16 => "-DNUM_BF16",
    };
    vec![
        format!("--gpu-architecture={architecture}"),
        "--std=c++17".into(),
        "--fmad=false".into(),
        kind.into(),
    ]
}

/// With 1, kernels are compiled so that a wait for a barrier ends after two seconds with a message
/// and a trap.
const WATCH: &str = "POSTTRAIN_CUDA_WATCH";

/// The option of a watched build of a file.
pub fn watched(stem: &str) -> String {
    format!("-DWATCH=\"{stem}\"")
}

/// Every file of kernels, for tests that compile them all.
pub fn files() -> &'static [Source] {
    FILES
}

/// What every file may include.
pub fn headers() -> &'static [Source] {
    HEADERS
}

impl Kernels {
    /// Of a device, with machine code kept in `folder`.
    pub fn new(device: Arc<Device>, folder: &Path) -> Result<Kernels> {
        if device.capability < LEAST {
            let ((major, minor), (least, _)) = (device.capability, LEAST);
            return Err(environment(format!(
                "{} is too old: compute capability {major}.{minor}, and {least}.0 is needed",
                device.name
            ))
            .hint("use a device of the Ampere generation or later, or --device cpu")
            .into());
        }
        let compiler = Compiler::find()?;
        if compiler.version.0 > device.version / 1000 {
            let ((major, minor), driver) = (compiler.version, version(device.version));
            return Err(environment(format!(
                "NVRTC {major}.{minor} makes code that the driver, for CUDA {driver}, does not take"
            ))
            .hint(format!("install a newer driver, or NVRTC of CUDA {}", device.version / 1000))
            .into());
        }
        let architecture = architecture(device.capability);
        Ok(Kernels {
            device,
            compiler,
            architecture,
            folder: folder.to_owned(),
            loaded: Mutex::default(),
        })
    }

    /// What the kernels run on.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The compiler.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
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
                .function(&format!("{method}_{}", kind.suffix()), shared)
                .unwrap_or_else(|error| raise(error)),
        );
        loaded.functions.insert(name, function.clone());
        function
    }

    /// Loads every file in both storage types, compiling what is not kept yet; how many there are,
    /// and how many were compiled.
    pub fn load_all(&self) -> Result<(usize, usize)> {
        let kept = || {
            Ok::<_, anyhow::Error>(
                fs::list(&self.folder)?.iter().filter(|name| name.ends_with(".cubin")).count(),
            )
        };
        let before = kept()?;
        let stems = FILES.iter().filter_map(|source| source.name.strip_suffix(".cu"));
        let stems: Vec<&str> =
            stems.filter(|stem| self.is_hopper() || !stem.ends_with("_hopper")).collect();
        for stem in &stems {
            for kind in [Type::F32, Type::Bf16] {
                self.module(stem, kind)?;
            }
        }
        Ok((2 * stems.len(), kept()? - before))
    }

    fn module(&self, stem: &str, kind: Type) -> Result<Module> {
        let named = |source: &&Source| source.name.strip_suffix(".cu") == Some(stem);
        let source = *FILES
            .iter()
            .find(named)
            .unwrap_or_else(|| panic!("kernels/{stem}.cu is not in the program"));
        let watch = std::env::var(WATCH).is_ok_and(|value| value == "1").then(|| watched(stem));
        let options: Vec<String> =
            options(&self.architecture, kind).into_iter().chain(watch).collect();
        let path = self.folder.join(format!(
            "{stem}_{}.{}.cubin",
            kind.suffix(),
            code_digest(&source, &options, &self.compiler)
        ));
        if let Some(module) =
            fs::read_if_exists(&path)?.and_then(|cubin| self.device.load(&cubin).ok())
        {
            return Ok(module);
        }
        let (cubin, _) = self.compiler.compile(source, HEADERS, &options)?;
        fs::create_dir_all(&self.folder)?;
        fs::write_atomic(&path, &cubin)?;
        Ok(self.device.load(&cubin)?)
    }
}

/// A digest of texts, each with its length.
fn digest<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The names and texts of files of sources.
fn texts<'a>(sources: impl Iterator<Item = &'a Source>) -> impl Iterator<Item = &'a str> {
    sources.flat_map(|source| [source.name, source.text])
}

/// A digest of all sources of kernels: a part of the numerics class.
pub fn sources_digest() -> String {
    digest(texts(HEADERS.iter().chain(FILES)))[..8].to_owned()
}

/// A digest of all that decides the bytes of a module's machine code.
fn code_digest(source: &Source, options: &[String], compiler: &Compiler) -> String {
    let version = format!("{:?}", compiler.version);
    let options = options.iter().map(String::as_str);
    let made_with = options.chain([version.as_str(), compiler.build.as_str()]);
    digest(texts(HEADERS.iter().chain([source])).chain(made_with))[..32].to_owned()
}

/// An error as the failure that it holds, if it does.
fn as_failure(error: anyhow::Error) -> crate::error::Failure {
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
    kind: Type,
    shared: usize,
    arguments: Vec<Argument>,
    /// What the host hands over with this call alone. Freed behind the kernel, on the same stream.
    kept: Vec<Memory>,
}

impl Kernels {
    /// Whether the device has what kernels of sm_90a alone use.
    fn is_hopper(&self) -> bool {
        self.architecture == "sm_90a"
    }

    /// A call of `method` in kernels/`stem`.cu, for numbers of a kind.
    pub fn call(&self, stem: &'static str, method: &'static str, kind: Type) -> Call<'_> {
        self.call_with(stem, method, kind, 0)
    }

    /// The same with dynamic shared memory, in bytes: as many as any call of this kernel needs.
    pub fn call_with(
        &self,
        stem: &'static str,
        method: &'static str,
        kind: Type,
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
        self.with(Argument::of(x.memory()))
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
        assert_eq!(x.kind(), Type::F32, "the storage type of an argument that is always float");
        self.with(Argument::of(x.memory()))
    }

    /// Memory whatever is in it.
    pub fn memory(self, x: &Memory) -> Self {
        self.with(Argument::of(x))
    }

    /// The same from some byte on.
    pub fn memory_from(self, x: &Memory, offset: usize) -> Self {
        assert!(offset <= x.bytes(), "it begins within the memory");
        self.with(Argument::Address(x.address() + offset as u64))
    }

    /// Numbers of the host that this call alone needs.
    pub fn host<T: Plain>(mut self, numbers: &[T]) -> Self {
        let memory = self.device.table(numbers);
        self.arguments.push(Argument::of(&memory));
        self.kept.push(memory);
        self
    }

    /// A matrix `[rows, columns]` of bf16, to be copied in boxes of `box_rows` rows and 64 columns.
    pub fn matrix(self, x: &Buf, rows: usize, columns: usize, box_rows: usize) -> Self {
        assert_eq!((x.kind(), x.len()), (Type::Bf16, rows * columns), "a matrix for tensor copies");
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

//! Machine code of kernels: kept in a folder, compiled where it is not there, or made beforehand.
//! Knows no device and no call of a kernel.
//!
//! 1. A module is one file of kernels/ in one storage type. Its machine code is kept in a folder,
//!    under a digest of all that it was made from: the sources, the options, the compiler's version
//!    and size.
//! 2. A folder with a file [`PREPARED`] holds machine code that [`prepare`] made, on any machine:
//!    no device is needed to compile. The file names the compiler. Such a folder is used as it is:
//!    NVRTC need not be installed, and nothing is compiled into the folder.
//! 3. Bits are decided by the kernels, by the code that launches them (it picks tiles and orders)
//!    and by the compiler: [`Code::class`] has a digest of the sources of both, without comments,
//!    and the compiler.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::compiler::{Compiler, Source};
use crate::DType;
use crate::error::{Failure, Result, environment};
use crate::fs;

/// Files of sources by their names in a folder, which is given as a path from here.
macro_rules! sources {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(Source { name: $name, text: include_str!(concat!($folder, $name)) }),*]
    };
}

/// Headers that files of kernels may include.
const HEADERS: &[Source] = sources![
    "../../../kernels/":
    "attend.cuh",
    "attend_hopper.cuh",
    "columns.cuh",
    "distribution.cuh",
    "functions.cuh",
    "linear.cuh",
    "prelude.cuh",
    "residual.cuh"
];

/// Files of kernels.
const FILES: &[Source] = sources![
    "../../../kernels/":
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

/// What calls the kernels: which tile, in which order, with which sizes.
const LAUNCHES: &[Source] = sources![
    "":
    "activation.rs",
    "attention.rs",
    "attention_backward.rs",
    "attention_backward_hopper.rs",
    "attention_hopper.rs",
    "attention_shape.rs",
    "buffer.rs",
    "buffers.rs",
    "cache.rs",
    "cached.rs",
    "code.rs",
    "compiler.rs",
    "context.rs",
    "cublaslt.rs",
    "device.rs",
    "fault.rs",
    "function.rs",
    "gemm_selection.rs",
    "graph_cache.rs",
    "kernels.rs",
    "layer_norm.rs",
    "libraries.rs",
    "linear.rs",
    "linear_hopper.rs",
    "loss.rs",
    "mod.rs",
    "norm.rs",
    "open.rs",
    "optimiser.rs",
    "pinned.rs",
    "queue.rs",
    "rotary.rs",
    "rows.rs",
    "sampling.rs",
    "tiles.rs",
    "token.rs",
];

/// What every back end shares: operations that are several others, and passes of a layer.
const SHARED: &[Source] =
    sources!["../": "buffers.rs", "dtype.rs", "lib.rs", "losses.rs", "shapes.rs"];

/// The families of operations.
const OPS: &[Source] = sources![
    "../ops/":
    "activation.rs",
    "attention.rs",
    "cache.rs",
    "layer_norm.rs",
    "linear.rs",
    "mod.rs",
    "norm.rs",
    "optimiser.rs",
    "rotary.rs",
    "rows.rs",
    "sampling.rs",
    "token.rs",
];

/// The file that names the compiler of a folder of machine code that was made beforehand.
pub const PREPARED: &str = "prepared";

/// With 1, kernels are compiled so that a wait for a barrier ends after two seconds with a message
/// and a trap.
const WATCH: &str = "POSTTRAIN_CUDA_WATCH";

/// The call by which a kernel waits for a barrier.
const WAIT: &str = "barrier_wait(";

/// What the name of a file of kernels for [`HOPPER`] alone ends in.
const HOPPER_ALONE: &str = "_hopper";

/// The architecture that has what `sm_90` has and the instructions of the one chip.
const HOPPER: &str = "sm_90a";

/// Every file of kernels, for tests that compile them all.
pub fn files() -> &'static [Source] {
    FILES
}

/// What every file may include.
pub fn headers() -> &'static [Source] {
    HEADERS
}

/// The name of the machine code for a device.
pub fn architecture(capability: (i32, i32)) -> String {
    match capability {
        (9, 0) => HOPPER.into(),
        (major, minor) => format!("sm_{major}{minor}"),
    }
}

/// Options of the compiler. Nothing is contracted that does not say so: `fmaf` is one rounding,
/// `a * b + c` two, as in the emulator.
pub fn options(architecture: &str, kind: DType) -> Vec<String> {
    let kind = match kind {
        DType::F32 => "-DNUM_F32",
        DType::Bf16 => "-DNUM_BF16",
    };
    vec![
        format!("--gpu-architecture={architecture}"),
        "--std=c++17".into(),
        "--fmad=false".into(),
        kind.into(),
    ]
}

/// The option of a watched build of a file.
pub fn watched(stem: &str) -> String {
    format!("-DWATCH=\"{stem}\"")
}

/// Whether waits for barriers are to end.
pub fn is_watched() -> bool {
    std::env::var(WATCH).is_ok_and(|value| value == "1")
}

/// The modules of an architecture: stems of files, each with a storage type.
pub fn modules(architecture: &str) -> impl Iterator<Item = (&'static str, DType)> {
    let here = architecture == HOPPER;
    let stems = FILES.iter().filter_map(|source| source.name.strip_suffix(".cu"));
    stems.flat_map(move |stem| {
        let kinds: &[DType] = match (stem.ends_with(HOPPER_ALONE), here) {
            (false, _) => &[DType::F32, DType::Bf16],
            (true, true) => &[DType::Bf16],
            (true, false) => &[],
        };
        kinds.iter().map(move |kind| (stem, *kind))
    })
}

/// A digest of texts, each with its length, in hexadecimal.
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

/// A source without lines of comments, layout and unit tests, which decide no bit: so that another
/// comment changes no key.
fn essence(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// What made the machine code of a folder: a version of NVRTC, and the size of its library in
/// bytes, since builds of one version make different code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Maker {
    version: (i32, i32),
    bytes: u64,
}

impl Maker {
    /// `13.0 109338064`.
    fn words(&self) -> String {
        let (major, minor) = self.version;
        format!("{major}.{minor} {}", self.bytes)
    }

    fn parse(text: &str) -> Option<Maker> {
        let (version, bytes) = text.trim().split_once(' ')?;
        let (major, minor) = version.split_once('.')?;
        let version = (major.parse().ok()?, minor.parse().ok()?);
        Some(Maker { version, bytes: bytes.parse().ok()? })
    }
}

impl From<&Compiler> for Maker {
    fn from(compiler: &Compiler) -> Maker {
        Maker { version: compiler.version, bytes: compiler.bytes }
    }
}

/// A folder of machine code.
#[derive(Clone, Debug)]
pub struct Code {
    folder: PathBuf,
    maker: Maker,
    /// `None` where the machine code was made beforehand.
    compiler: Option<Compiler>,
}

impl Code {
    /// A folder of machine code, which need not be there yet.
    ///
    /// # Errors
    /// The machine's, where there is neither NVRTC nor machine code made beforehand.
    pub fn open(folder: &Path) -> Result<Code> {
        let folder = folder.to_owned();
        let path = folder.join(PREPARED);
        if let Some(bytes) = fs::read_if_exists(&path)? {
            let maker = Maker::parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| {
                environment(format!("{} does not name a version of NVRTC", path.display()))
                    .hint("remove the file, or make the folder anew")
            })?;
            return Ok(Code { folder, maker, compiler: None });
        }
        let compiler = Compiler::find()?;
        Ok(Code { folder, maker: Maker::from(&compiler), compiler: Some(compiler) })
    }

    /// The version of NVRTC that makes, or made, the machine code.
    pub fn version(&self) -> (i32, i32) {
        self.maker.version
    }

    /// The file of NVRTC, or the one that says which was used.
    pub fn file(&self) -> PathBuf {
        let prepared = || self.folder.join(PREPARED);
        self.compiler.as_ref().map_or_else(prepared, |compiler| compiler.file.clone())
    }

    /// What of the program and of the compiler decides bits, in words:
    /// `kernels 0a1b2c3d nvrtc-13.0-109338064`.
    pub fn class(&self) -> String {
        let sources = [HEADERS, FILES, LAUNCHES, SHARED, OPS].into_iter().flatten();
        let sources: Vec<String> =
            sources.flat_map(|source| [source.name.to_owned(), essence(source.text)]).collect();
        let sources = digest(sources.iter().map(String::as_str));
        let maker = self.maker.words().replace(' ', "-");
        format!("kernels {} nvrtc-{maker}", &sources[..8])
    }

    /// The source of a module and its options, watched where that is asked for and it has waits.
    fn recipe(architecture: &str, stem: &str, kind: DType, watch: bool) -> (Source, Vec<String>) {
        let named = |source: &&Source| source.name.strip_suffix(".cu") == Some(stem);
        let source = *FILES
            .iter()
            .find(named)
            .unwrap_or_else(|| panic!("kernels/{stem}.cu is not in the program"));
        let watch = (watch && source.text.contains(WAIT)).then(|| watched(stem));
        (source, options(architecture, kind).into_iter().chain(watch).collect())
    }

    /// Where the machine code of a module is kept: a digest of all that decides its bytes.
    fn path(&self, stem: &str, kind: DType, source: &Source, options: &[String]) -> PathBuf {
        let maker = self.maker.words();
        let made_with = options.iter().map(String::as_str).chain([maker.as_str()]);
        let digest = digest(texts(HEADERS.iter().chain([source])).chain(made_with));
        self.folder.join(format!("{stem}_{}.{}.cubin", kind.name(), &digest[..32]))
    }

    /// What `load` makes of a module's machine code. Code that `load` refuses (a damaged file) is
    /// compiled anew.
    ///
    /// # Errors
    /// `load`'s, a bug's where the source does not compile, the machine's where the code was made
    /// beforehand and does not have this module.
    pub fn module<T>(
        &self,
        architecture: &str,
        stem: &str,
        kind: DType,
        load: impl Fn(&[u8]) -> Result<T, Failure>,
    ) -> Result<T> {
        let (source, options) = Self::recipe(architecture, stem, kind, is_watched());
        let path = self.path(stem, kind, &source, &options);
        let kept = fs::read_if_exists(&path)?.map(|cubin| load(&cubin));
        match (kept, &self.compiler) {
            (Some(Ok(module)), _) => Ok(module),
            (_, Some(compiler)) => Ok(load(&compile(compiler, source, &options, &path)?)?),
            (Some(Err(error)), None) => Err(error.into()),
            (None, None) => {
                let (name, kind) = (source.name, kind.name());
                Err(environment(format!(
                    "{} was made beforehand, and has no machine code of this program's {name} in \
                     {kind} for {architecture}",
                    self.folder.display()
                ))
                .hint(format!(
                    "make it anew with this program's sources, or install NVRTC and remove {}",
                    self.file().display()
                ))
                .into())
            }
        }
    }

    /// Compiles every module of an architecture that is not kept yet, on all cores: how many there
    /// are, and how many of them were compiled.
    ///
    /// # Errors
    /// A bug's where a source does not compile.
    pub fn make(&self, architecture: &str, watch: bool) -> Result<(usize, usize)> {
        let Some(compiler) = &self.compiler else { return Ok((modules(architecture).count(), 0)) };
        let mut missing = Vec::new();
        for (stem, kind) in modules(architecture) {
            let (source, options) = Self::recipe(architecture, stem, kind, watch);
            let path = self.path(stem, kind, &source, &options);
            if !path.exists() {
                missing.push((source, options, path));
            }
        }
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while let Some((source, options, path)) =
                missing.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if let Err(error) = compile(compiler, *source, options, path) {
                    failed.lock().expect("no thread panics").get_or_insert(error);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(missing.len()) {
                scope.spawn(work);
            }
        });
        match failed.into_inner().expect("no thread panics") {
            Some(error) => Err(error),
            None => Ok((modules(architecture).count(), missing.len())),
        }
    }
}

/// Compiles a source to a file; the machine code.
fn compile(
    compiler: &Compiler,
    source: Source,
    options: &[String],
    path: &Path,
) -> Result<Vec<u8>> {
    let (cubin, _) = compiler.compile(source, HEADERS, options)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write_atomic(path, &cubin)?;
    Ok(cubin)
}

/// Makes a folder of machine code of all kernels for an architecture (`sm_90a`), plain and watched,
/// for machines with no NVRTC: how many modules there are. No device is needed.
///
/// # Errors
/// The machine's, where there is no NVRTC; a bug's where a source does not compile.
pub fn prepare(folder: &Path, architecture: &str) -> Result<usize> {
    let compiler = Compiler::find()?;
    let maker = Maker::from(&compiler);
    let words = maker.words();
    let code = Code { folder: folder.to_owned(), maker, compiler: Some(compiler) };
    let (modules, _) = code.make(architecture, false)?;
    code.make(architecture, true)?;
    fs::write_atomic(&folder.join(PREPARED), format!("{words}\n").as_bytes())?;
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of a folder of the project with an ending.
    fn names(folder: &str, ending: &str) -> Vec<String> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let names = fs::list(&project.join(folder)).unwrap();
        names.into_iter().filter(|name| name.ends_with(ending)).collect()
    }

    #[test]
    fn all_files_that_decide_bits_are_in_the_class() {
        for (folder, ending, listed) in [
            ("kernels", ".cu", FILES),
            ("kernels", ".cuh", HEADERS),
            ("src/backend/cuda", ".rs", LAUNCHES),
            ("src/backend", ".rs", SHARED),
            ("src/backend/ops", ".rs", OPS),
        ] {
            let listed: Vec<&str> = listed.iter().map(|source| source.name).collect();
            assert_eq!(names(folder, ending), listed, "{folder}/*{ending}");
        }
    }

    #[test]
    fn a_changed_source_and_another_compiler_change_the_digest_and_the_class() {
        let source = |text| Source { name: "a.cu", text };
        let of = |sources: &[Source]| digest(texts(sources.iter()));
        assert_ne!(of(&[source("a")]), of(&[source("b")]));
        assert_ne!(of(&[source("ab"), source("")]), of(&[source("a"), source("b")]));
        let class = |version, bytes| {
            let maker = Maker { version, bytes };
            Code { folder: PathBuf::new(), maker, compiler: None }.class()
        };
        let plain = class((13, 0), 7);
        assert!(plain.ends_with(" nvrtc-13.0-7"), "{plain}");
        assert_ne!(plain, class((13, 0), 8));
        assert_ne!(plain, class((12, 0), 7));
    }

    #[test]
    fn comments_layout_and_tests_are_in_no_class() {
        let code = "fn f() {\n    g(1, 2); // so\n}\n";
        let same = "//! A.\n/// B.\nfn f() {\n  // C\n  g(1,\n    2); // so\n}\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(essence(code), essence(same));
        assert_ne!(essence(code), essence("fn f() {\n    g(2, 1); // so\n}\n"));
    }

    #[test]
    fn what_names_a_compiler_is_read_as_it_was_written() {
        let maker = Maker { version: (13, 0), bytes: 109_338_064 };
        assert_eq!(Maker::parse(&format!("{}\n", maker.words())), Some(maker));
        for text in ["", "13.0", "13 5", "13.0 x", "a.b 1"] {
            assert_eq!(Maker::parse(text), None, "{text}");
        }
    }

    #[test]
    fn files_of_one_chip_are_modules_of_it_alone_and_watched_where_they_wait() {
        let hopper = |architecture: &str| {
            modules(architecture).filter(|(stem, _)| stem.ends_with(HOPPER_ALONE)).count()
        };
        assert_eq!((hopper("sm_90a"), hopper("sm_90"), hopper("sm_80")), (3, 0, 0));
        let options = |stem, watch| Code::recipe("sm_90a", stem, DType::Bf16, watch).1;
        assert_eq!(options("linear_hopper", true).len(), options("linear_hopper", false).len() + 1);
        assert_eq!(options("norm", true), options("norm", false));
    }
}

//! The emulator of kernels/emulator/, built with this machine's C++ compiler and loaded instead
//! of CUDA's driver and compiler.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use posttrain::backend::DType;
use posttrain::backend::cuda::Cuda;

use crate::tools::{emulates_cuda, left_out};

/// The files of a folder, below it too, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// Whether the emulator is to be used and there is a C++ compiler to build it with.
pub fn compiler_is_there() -> bool {
    if !emulates_cuda() {
        return false;
    }
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".into());
    let there = Command::new(&compiler)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        left_out(&format!("there is no C++ compiler ({compiler}) to build the emulator with"));
    }
    there
}

/// A bug to plant: a file of kernels, and the edit of it, as `sed -E` has it.
#[derive(Clone, Copy)]
pub struct Mutation {
    pub stem: &'static str,
    pub edit: &'static str,
}

/// The folder with `libcuda.so` and `libnvrtc.so` of a variant, built unless it was from the same
/// files.
pub fn build(variant: &str, mutation: Option<Mutation>) -> PathBuf {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut hasher = blake3::Hasher::new();
    for path in files(&kernels) {
        hasher.update(path.to_str().expect("paths here are UTF-8").as_bytes());
        hasher.update(&std::fs::read(&path).unwrap());
    }
    let digest = hasher.finalize().to_hex().to_string();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulator");
    let planted = mutation.map(|Mutation { stem, edit }| {
        format!("-{stem}-{}", &blake3::hash(edit.as_bytes()).to_hex()[..8])
    });
    let folder = place.join(format!("{variant}{}", planted.unwrap_or_default()));
    std::fs::create_dir_all(&folder).unwrap();
    // One builds, whatever number of test programs wait.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let stamp = folder.join("digest");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == digest) {
        return folder;
    }
    let mut command = Command::new(kernels.join("emulator/build"));
    command.arg(variant).arg(&folder).env("OBJECTS", place.join("objects"));
    if let Some(Mutation { stem, edit }) = mutation {
        command.env("MUTATED", stem).env("MUTATE", edit);
    }
    let output = command.output().expect("the build script runs");
    let remarks = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the emulator is not built:\n{remarks}");
    assert!(
        mutation.is_some() || !remarks.contains("warning:"),
        "the C++ compiler warns:\n{remarks}"
    );
    std::fs::write(stamp, digest).unwrap();
    folder
}

/// Names the folder of an emulator to a test that runs as a separate process.
const ELSEWHERE: &str = "POSTTRAIN_TESTS_EMULATOR";

/// Runs tests of this program whose names begin so in a separate process, on the emulator in a
/// folder.
pub fn elsewhere(tests: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(tests)
        .args(["--test-threads=2", "--nocapture"])
        .env(ELSEWHERE, folder)
        .env("RUST_BACKTRACE", "0");
    command
}

/// Loads the emulator instead of CUDA's libraries, for the whole process: their names are what
/// the program looks for, and a library that is loaded is found by its name.
pub fn load() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        if !compiler_is_there() {
            return None;
        }
        let folder =
            std::env::var_os(ELSEWHERE).map_or_else(|| build("check", None), PathBuf::from);
        for name in ["libcuda.so", "libnvrtc.so", "libcublasLt.so"] {
            // Loading the emulator runs nothing but the list of its kernels. It stays until the
            // process ends.
            let library = unsafe { Library::open(Some(folder.join(name)), RTLD_NOW | RTLD_GLOBAL) };
            std::mem::forget(library.unwrap_or_else(|error| panic!("{name}: {error}")));
        }
        Some(folder)
    });
    folder.as_deref()
}

/// Names a device of this machine's driver, by its number, to run on instead of the emulated one.
const DEVICE: &str = "POSTTRAIN_TESTS_DEVICE";

/// The real device that the tests are to run on, if they are.
pub fn real() -> Option<usize> {
    std::env::var(DEVICE)
        .ok()
        .map(|text| text.parse().expect("POSTTRAIN_TESTS_DEVICE is the number of a device"))
}

/// Names the folder of machine code for a real device.
const CODE: &str = "POSTTRAIN_TESTS_CODE";

/// The folder of machine code for a real device: the one that is named, or an empty one.
pub fn code() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let empty = || tempfile::tempdir().unwrap().keep();
    FOLDER.get_or_init(|| std::env::var_os(CODE).map_or_else(empty, PathBuf::from))
}

/// Opens the real device, or the emulated one.
fn open() -> Option<Cuda> {
    match real() {
        Some(index) => Some(Cuda::new(index, DType::F32, code()).expect("the device opens")),
        None => load().map(|folder| {
            Cuda::new(0, DType::F32, &folder.join("kernels")).expect("the emulated device opens")
        }),
    }
}

/// The shipped back end on the emulated device, every access checked, or on the real one that is
/// asked for; `None` where there is no C++ compiler.
pub fn cuda() -> Option<Cuda> {
    static CUDA: OnceLock<Option<Cuda>> = OnceLock::new();
    CUDA.get_or_init(open).clone()
}

/// The same, storing bf16.
pub fn cuda_bf16() -> Option<Cuda> {
    Some(cuda()?.storing(DType::Bf16))
}

/// A device whose memory no other test counts, storing numbers as `kind`.
pub fn alone(kind: DType) -> Option<Cuda> {
    Some(Cuda::new(0, kind, &load()?.join("kernels")).expect("the emulated device opens"))
}

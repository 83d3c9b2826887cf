//! The emulator of kernels/emulator/, built with this machine's C++ compiler and put in the place of CUDA's driver and compiler.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use posttrain::backend::cuda::Cuda;

/// The files of a folder, below it too, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Whether there is a C++ compiler; where there is none, says so, and fails if tools are required.
pub fn compiler_is_there() -> bool {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".into());
    let there = Command::new(&compiler).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        let required = std::env::var("POSTTRAIN_TESTS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "there is no C++ compiler ({compiler}), and POSTTRAIN_TESTS_REQUIRE_TOOLS=1 asks for it");
        eprintln!("skipped: there is no C++ compiler ({compiler}) to build the emulator with");
    }
    there
}

/// The folder with `libcuda.so` and `libnvrtc.so` of a variant, built unless it was from the same files. `only` one file of kernels,
/// with more options for the compiler, where that is asked for.
pub fn build(variant: &str, only: Option<&str>, options: &[&str]) -> PathBuf {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut hasher = blake3::Hasher::new();
    for path in files(&kernels) {
        hasher.update(path.to_str().expect("paths here are UTF-8").as_bytes());
        hasher.update(&std::fs::read(&path).unwrap());
    }
    let digest = hasher.finalize().to_hex().to_string();
    let name = format!("{variant}{}{}", only.unwrap_or_default(), options.concat());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulator").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    // One builds, whatever number of test programs wait.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let stamp = folder.join("digest");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == digest) {
        return folder;
    }
    let mut command = Command::new(kernels.join("emulator/build"));
    command.arg(variant).arg(&folder).args(options).envs(only.map(|stem| ("ONLY", stem)));
    let output = command.output().expect("the build script runs");
    assert!(output.status.success(), "the emulator is not built:\n{}", String::from_utf8_lossy(&output.stderr));
    let remarks = String::from_utf8_lossy(&output.stderr);
    assert!(!remarks.contains("warning:"), "the C++ compiler warns:\n{remarks}");
    std::fs::write(stamp, digest).unwrap();
    folder
}

/// Loads the emulator in the place of CUDA's libraries, for the whole process: their names are what the program looks for, and a
/// library that is loaded is found by its name.
pub fn load() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        if !compiler_is_there() {
            return None;
        }
        let folder = build("check", None, &[]);
        for name in ["libcuda.so", "libnvrtc.so"] {
            // Loading the emulator runs nothing but the list of its kernels. It stays until the process ends.
            let library = unsafe { Library::open(Some(folder.join(name)), RTLD_NOW | RTLD_GLOBAL) };
            std::mem::forget(library.unwrap_or_else(|error| panic!("{name}: {error}")));
        }
        Some(folder)
    });
    folder.as_deref()
}

/// The shipped back end on the emulated device, every access checked; `None` where there is no C++ compiler.
pub fn cuda() -> Option<Cuda> {
    static CUDA: OnceLock<Option<Cuda>> = OnceLock::new();
    let open = || load().map(|folder| Cuda::new(0, &folder.join("kernels")).expect("the emulated device opens"));
    CUDA.get_or_init(open).clone()
}

//! The files of CUDA's libraries: where they are looked for when the dynamic linker does not find
//! them, and which file was loaded. Knows no call of any library.
//!
//! Order: the dynamic linker (`LD_LIBRARY_PATH`, the system's cache); then `$CUDA_HOME` and
//! `$CUDA_PATH`, `/usr/local/cuda` and `/usr/local/cuda-*` from the newest version; then NVIDIA's
//! packages in the Python environments of `$VIRTUAL_ENV`, `$CONDA_PREFIX` and of the `python3` on
//! the path. Folders named `stubs` hold libraries that only link, and are never looked in.

use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::fs;

/// Where toolkits are installed.
const TOOLKITS: &str = "/usr/local";

/// A library by the names of its file, best first, and what must be loaded before it from the same
/// folder.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Its stem: `libnvrtc.so`.
    pub stem: &'static str,
    /// Names of its file.
    pub names: &'static [&'static str],
    /// Files of the same folder that it opens by name while it works.
    pub companions: &'static [&'static str],
}

/// The run-time compiler; its built-in functions are a file beside it.
pub const NVRTC: Wanted = Wanted {
    stem: "libnvrtc.so",
    names: &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
    companions: &["libnvrtc-builtins.so"],
};

/// The library of products.
pub const CUBLASLT: Wanted = Wanted {
    stem: "libcublasLt.so",
    names: &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"],
    companions: &[],
};

/// Subfolders of a folder whose names begin so, the greatest version first.
fn versions(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let number = |name: &str| -> Vec<u32> {
        let digits = name[prefix.len()..].split('.');
        digits.map(|part| part.parse().unwrap_or(0)).collect()
    };
    let mut names = fs::list(folder).unwrap_or_default();
    names.retain(|name| name.starts_with(prefix));
    names.sort_by_key(|name| std::cmp::Reverse(number(name)));
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// Folders of NVIDIA's packages in a Python environment.
fn packages(environment: &Path) -> Vec<PathBuf> {
    let sites =
        ["lib", "lib64"].into_iter().flat_map(|lib| versions(&environment.join(lib), "python3."));
    let packages = sites.flat_map(|site| versions(&site.join("site-packages/nvidia"), ""));
    packages.map(|package| package.join("lib")).collect()
}

/// The folders that are looked in, in order, where the variables of the environment have these
/// values.
fn folders(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let toolkits = named
        .chain([Path::new(TOOLKITS).join("cuda")])
        .chain(versions(Path::new(TOOLKITS), "cuda-"));
    let toolkits = toolkits.flat_map(|toolkit| [toolkit.join("lib64"), toolkit.join("lib")]);
    let path = variable("PATH").unwrap_or_default();
    let python = std::env::split_paths(&path)
        .map(|folder| folder.join("python3"))
        .find(|program| program.exists());
    // An environment's python3 may be a link into another one, which then has the packages.
    let programs = python
        .into_iter()
        .flat_map(|program| [Some(program.clone()), program.canonicalize().ok()])
        .flatten();
    let prefixes = programs.filter_map(|program| Some(program.parent()?.parent()?.to_owned()));
    let environments =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable).chain(prefixes);
    toolkits.chain(environments.flat_map(|environment| packages(&environment))).collect()
}

/// Loads a library from the first folder that has it, so that the dynamic linker finds it by its
/// name; true if there is one.
pub fn load(wanted: Wanted) -> bool {
    folders(&|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
        .iter()
        .any(|folder| wanted.names.iter().any(|name| load_from(folder, name, wanted.companions)))
}

/// Loads a file of a folder and, before it, its companions; false where the folder does not have
/// it, or it cannot be loaded.
fn load_from(folder: &Path, name: &str, companions: &[&str]) -> bool {
    let path = folder.join(name);
    if !path.exists() {
        return false;
    }
    let beside = fs::list(folder).unwrap_or_default();
    let companions =
        beside.iter().filter(|name| companions.iter().any(|stem| name.starts_with(stem)));
    let paths = companions.map(|name| folder.join(name)).chain([path]);
    let mut opened = false;
    for path in paths {
        // SAFETY: the initialisers of NVIDIA's libraries touch no state of this program; they stay
        // loaded until it ends.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
        opened = library.map(std::mem::forget).is_ok();
    }
    // The library itself was the last.
    opened
}

/// The file of a library that this process has loaded, by its stem.
pub fn loaded(wanted: Wanted) -> Option<PathBuf> {
    let maps = fs::read_to_string(Path::new("/proc/self/maps")).ok()?;
    let paths = maps.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..])));
    let named = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(wanted.stem))
    };
    paths.into_iter().find(|path| named(path)).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolkits_come_before_python_packages_and_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for made in [
            "venv/lib/python3.9/site-packages/nvidia/cu13",
            "venv/lib/python3.12/site-packages/nvidia/cuda_nvrtc",
            "bin",
        ] {
            fs::create_dir_all(&root.join(made)).unwrap();
        }
        fs::create_dir_all(&root.join("lib/python3.11/site-packages/nvidia/cu13")).unwrap();
        fs::write_atomic(&root.join("bin/python3"), b"").unwrap();
        let variables = |name: &str| match name {
            "CUDA_HOME" => Some(root.join("toolkit")),
            "VIRTUAL_ENV" => Some(root.join("venv")),
            "PATH" => Some(root.join("bin")),
            _ => None,
        };
        let found = folders(&variables);
        let place = |wanted: &str| {
            found.iter().position(|folder| *folder == root.join(wanted)).unwrap_or(usize::MAX)
        };
        let order = [
            "toolkit/lib64",
            "venv/lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib",
            "venv/lib/python3.9/site-packages/nvidia/cu13/lib",
            "lib/python3.11/site-packages/nvidia/cu13/lib",
        ];
        let places: Vec<usize> = order.into_iter().map(place).collect();
        assert!(
            places.is_sorted() && places[0] == 0 && *places.last().unwrap() < found.len(),
            "{found:?}"
        );
        assert!(found.iter().all(|folder| !folder.ends_with("stubs")));
    }

    #[test]
    fn a_toolkits_versions_are_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cuda-12.9", "cuda-13.0", "cuda-12.10", "cudnn"] {
            fs::create_dir_all(&folder.path().join(name)).unwrap();
        }
        let names: Vec<String> = versions(folder.path(), "cuda-")
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into())
            .collect();
        assert_eq!(names, ["cuda-13.0", "cuda-12.10", "cuda-12.9"]);
    }
}

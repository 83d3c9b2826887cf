//! The sandbox of a program (bubblewrap): it sees the system's folders, those of its `$PATH` and
//! what it is given, all read-only, writes to one folder, and has no network. So a file that it
//! reads and that is in no key is not there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Result, environment};

/// The program that makes the namespaces.
pub(super) const PROGRAM: &str = "bwrap";
/// Folders of the system; those that are absent are left out.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/nix"];
/// What a sandboxed program sees, for its errors.
pub(super) const VISIBLE: &str = "with `sandbox: true` a program sees `inputs`, `gather`, `files`, \
    the system's folders and those of $PATH, writes to its own folder and /tmp, and has no network";

/// The arguments of [`PROGRAM`] before the program's own: it is started in `folder`, which it may
/// write to, and may read `given`.
pub(super) fn arguments<'a>(folder: &Path, given: impl Iterator<Item = &'a Path>) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| all.extend(words.iter().map(OsString::from));
    add(&["--die-with-parent", "--unshare-all"]);
    SYSTEM.iter().for_each(|folder| add(&["--ro-bind-try", folder, folder]));
    add(&["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]);
    add(&["--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp"]);
    let mut bind =
        |option: &str, path: &Path| all.extend([option.into(), path.into(), path.into()]);
    programs().iter().for_each(|folder| bind("--ro-bind-try", folder));
    // Below /tmp as well, which is empty by now.
    given.for_each(|path| bind("--ro-bind", path));
    bind("--bind", folder);
    all.extend(["--chdir".into(), folder.into(), "--".into()]);
    all
}

/// Makes sure that a sandbox can be made.
///
/// # Errors
/// Of the environment: there is no bubblewrap, or the system grants it no namespaces.
pub(super) fn check() -> Result<()> {
    let tried = Command::new(PROGRAM)
        .args(["--die-with-parent", "--unshare-all", "--ro-bind", "/", "/", "--", "true"])
        .stdin(Stdio::null())
        .output();
    let hint = "install bubblewrap (Debian: `apt install bubblewrap`), or leave `sandbox` out";
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let printed = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(environment(format!("`sandbox: true`: no sandbox can be made: {printed}"))
                .hint("the system has to allow namespaces to this user, or leave `sandbox` out")
                .into())
        }
        Err(error) => {
            Err(environment(format!("`sandbox: true` needs the program `{PROGRAM}`: {error}"))
                .hint(hint)
                .into())
        }
    }
}

/// The folders of `$PATH` outside of the system's, each with what is installed beside it: of
/// `PREFIX/bin` the prefix, unless that is a home folder or the root.
fn programs() -> BTreeSet<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let is_system = |folder: &PathBuf| SYSTEM.iter().any(|system| folder.starts_with(system));
    let with_prefix = |folder: PathBuf| {
        let prefix = folder.parent().filter(|prefix| {
            prefix.parent().is_some() && home.as_deref().is_none_or(|home| home != *prefix)
        });
        match (folder.ends_with("bin"), prefix) {
            (true, Some(prefix)) => prefix.to_owned(),
            _ => folder,
        }
    };
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .filter(|folder| !is_system(folder))
        .map(with_prefix)
        .collect()
}

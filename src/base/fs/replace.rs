//! Files that are replaced in one step: whole or as they were. Uses no format.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::effect::Effect;
use super::errors::wrote;
use super::faults::{self, act, is_stopped, made};
use crate::error::{Result, user};

/// An open file whose writes pass the layer of faults.
pub(super) struct Layered<'a> {
    pub(super) file: &'a File,
    /// Its name, or the name that it is to get.
    pub(super) path: &'a Path,
}

impl Write for Layered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        faults::write(self.file, self.path, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut file = self.file;
        file.flush()
    }
}

/// The folder that a path is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces a file in one step: after a crash it holds the old bytes or the new, never a part.
/// Synced to disk, folder included. The folder has to exist.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// [`write_atomic`] with bytes that come piece by piece.
pub fn write_atomic_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    replace(path, Durability::Synced, fill)
}

/// Replaces a file in one step, without a wait for the disk. After a power cut the file may be
/// empty: only for what can be computed again, and whose reader notices that.
pub fn write_hint(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, Durability::Lost, |file| file.write_all(bytes))
}

/// What is left of a file after a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The file.
    Synced,
    /// Perhaps nothing.
    Lost,
}

fn replace(
    path: &Path,
    durability: Durability,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    // As `File::create` would: what the umask leaves of it.
    let rights = fs::Permissions::from_mode(0o666);
    let write = || -> io::Result<()> {
        temporary(path, Some((rights, durability)), fill)?;
        match durability {
            Durability::Synced => {
                let folder = folder_of(path);
                act(Effect::Sync(folder), || File::open(folder)?.sync_all())
            }
            Durability::Lost => Ok(()),
        }
    };
    write().map_err(|error| wrote("write", path, error))
}

/// Fills a file beside `path` and puts it there. Without rights it has those of its owner alone,
/// and is not synced.
pub(super) fn temporary(
    path: &Path,
    rights: Option<(fs::Permissions, Durability)>,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let new = || {
        let mut builder = tempfile::Builder::new();
        if let Some((rights, _)) = &rights {
            builder.permissions(rights.clone());
        }
        builder.tempfile_in(folder_of(path))
    };
    let file = act(Effect::Temporary(path), new)?;
    made(file.path());
    let written = || -> io::Result<()> {
        let mut buffer = BufWriter::with_capacity(1 << 16, Layered { file: file.as_file(), path });
        fill(&mut buffer)?;
        buffer.flush()?;
        match rights {
            Some((_, Durability::Synced)) => {
                act(Effect::SyncFile(path, file.as_file()), || file.as_file().sync_all())
            }
            _ => Ok(()),
        }
    };
    let mut done = written();
    let mut left = Some(file);
    if done.is_ok() {
        let from = left.as_ref().map(|file| file.path().to_owned()).unwrap_or_default();
        done = act(Effect::Rename { from: &from, to: path }, || {
            let Some(file) = left.take() else { return Ok(()) };
            file.persist(path).map(drop).map_err(|error| error.error)
        });
    }
    // A process that has ended clears nothing away.
    if let Some(file) = left
        && is_stopped(path)
    {
        let _ = file.keep();
    }
    done
}

/// Writes what a command was told to write to a place of the user's choice. A plain file, or none
/// yet, is replaced in one step ([`write_atomic`]). A link stays one: what it leads to is written.
/// What is no plain file (a pipe, a device, a descriptor of this process such as /dev/stdout) is
/// written to and never replaced.
pub fn output(path: &Path, bytes: &[u8]) -> Result<()> {
    let kind = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        // Nothing is there, or a link that leads to nothing yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::read_link(path) {
                Ok(target) => output(&path.parent().unwrap_or(Path::new("")).join(target), bytes),
                Err(_) => write_atomic(path, bytes),
            };
        }
        Err(error) => return Err(wrote("write", path, error)),
    };
    if kind.is_dir() {
        return Err(user(format!("{} is a folder", path.display())).hint("name a file").into());
    }
    let descriptors = ["/proc", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"];
    if kind.is_file() && !descriptors.iter().any(|place| path.starts_with(place)) {
        return match fs::read_link(path) {
            Ok(target) => output(&path.parent().unwrap_or(Path::new("")).join(target), bytes),
            Err(_) => write_atomic(path, bytes),
        };
    }
    // At its end, where it is a file that something else writes to as well.
    let write = || -> io::Result<()> {
        let file = File::options().append(true).open(path)?;
        Layered { file: &file, path }.write_all(bytes)
    };
    write().map_err(|error| wrote("write", path, error))
}

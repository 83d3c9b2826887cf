//! File-system calls whose errors name the path, and the one way to write a file that is either
//! whole or absent. Uses no format.
//!
//! Every call with an effect passes the layer of faults ([`Schedule`]), so that tests can let any
//! one of them fail as a full or broken disk would, or be the last of its process.

mod effect;
mod errors;
mod faults;
mod power;
mod replace;
mod temporary;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use self::effect::Effect;
use self::errors::wrote;
pub use self::errors::{DENIED, is_denied, is_full, is_shortage};
pub use self::faults::{
    Fault, Schedule, Tally, begin_faults, end_faults, fail_writes, heal_writes,
};
use self::faults::{act, made};
use self::replace::{Layered, folder_of, temporary};
pub use self::replace::{output, write_atomic, write_atomic_with, write_hint};
pub use self::temporary::TemporaryFolder;
use crate::error::{Context, Result, environment, user};

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The bytes of a file, or `None` if there is no such file.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The text of a file.
///
/// # Errors
/// The user's, if it is not UTF-8; the machine's, if it cannot be read.
pub fn read_to_string(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8(bytes);
    Ok(text.map_err(|_| user(format!("{} is not a text in UTF-8", path.display())))?)
}

/// The names in a folder, sorted; none if there is no such folder. A name that is not UTF-8 is an
/// error.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", path.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
        let name = entry.file_name().into_string();
        names.push(name.map_err(|name| {
            environment(format!("{} has a name that is not UTF-8", path.join(name).display()))
        })?);
    }
    names.sort_unstable();
    Ok(names)
}

/// The bytes of a file or of all files in a folder. Links, sockets and the like count for nothing.
pub fn size(path: &Path) -> Result<u64> {
    let metadata =
        path.symlink_metadata().with_context(|| format!("cannot read {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(if metadata.is_file() { metadata.len() } else { 0 });
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        bytes += size(&entry.with_context(|| format!("cannot list {}", path.display()))?.path())?;
    }
    Ok(bytes)
}

/// A folder and all its parents.
pub fn create_dir_all(path: &Path) -> Result<()> {
    act(Effect::MakeFolder(path), || fs::create_dir_all(path))
        .map_err(|error| wrote("create the folder", path, error))
}

/// A folder and all its parents, whose names are on the disk when this returns.
pub fn create_dir_all_synced(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    create_dir_all(path)?;
    missing.into_iter().rev().try_for_each(|path| sync(folder_of(path)))
}

/// A folder that is not there yet; false if the name is taken. The folder that it is in is there.
pub fn create_dir(path: &Path) -> Result<bool> {
    match act(Effect::MakeFolder(path), || fs::create_dir(path)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(wrote("create the folder", path, error)),
    }
}

/// An empty file, instead of what was there under this name.
pub fn create(path: &Path) -> Result<File> {
    act(Effect::Create(path), || File::create(path)).map_err(|error| wrote("create", path, error))
}

/// A file to read.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The first bytes of a file, at most `bytes`.
pub fn head(path: &Path, bytes: usize) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    open(path)?
        .take(bytes as u64)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(head)
}

/// Refuses a pointer of Git LFS: a few lines instead of a file that was not fetched.
///
/// # Errors
/// The user's, with what fetches the file.
pub fn refuse_pointer(path: &Path) -> Result<()> {
    const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
    match head(path, POINTER.len())? == POINTER {
        true => {
            let message = format!(
                "{} is a pointer of Git LFS: the file itself was not fetched",
                path.display()
            );
            Err(user(message).hint("run `git lfs pull` in its repository").into())
        }
        false => Ok(()),
    }
}

/// A file to add to, made if it is not there.
pub fn append(path: &Path) -> Result<File> {
    act(Effect::Create(path), || File::options().append(true).create(true).open(path))
        .map_err(|error| wrote("create", path, error))
}

/// Adds bytes to a file opened by [`append`].
pub fn add(file: &File, path: &Path, bytes: &[u8]) -> Result<()> {
    Layered { file, path }.write_all(bytes).map_err(|error| wrote("write", path, error))
}

/// A file that carries a lock, made if it is not there.
pub fn open_lock(path: &Path) -> Result<File> {
    let mut open = File::options();
    open.read(true).write(true).create(true).truncate(false);
    act(Effect::Create(path), || open.open(path))
        .map_err(|error| wrote("open the lock", path, error))
}

/// A file that is not there yet, with these bytes. After a crash it may hold a part of them.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    write_new_file(path, bytes).map_err(|error| wrote("write", path, error))
}

/// The same, except that a file which is there already stays: false then.
pub fn write_new_if_free(path: &Path, bytes: &[u8]) -> Result<bool> {
    match write_new_file(path, bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(wrote("write", path, error)),
    }
}

fn write_new_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = || File::options().write(true).create_new(true).open(path);
    let file = act(Effect::Create(path), new)?;
    Layered { file: &file, path }.write_all(bytes)
}

/// A file that is not there yet, with these bytes, which only its owner may read and write.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let new = || File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = act(Effect::Create(path), new)?;
        Layered { file: &file, path }.write_all(bytes)?;
        act(Effect::SyncFile(path, &file), || file.sync_all())
    };
    write().map_err(|error| wrote("write", path, error))
}

/// Writes bytes at a place of a file that is there.
pub fn write_at(path: &Path, at: u64, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::options().write(true).open(path)?;
        file.seek(SeekFrom::Start(at))?;
        Layered { file: &file, path }.write_all(bytes)
    };
    write().map_err(|error| wrote("write", path, error))
}

/// Adds `length` bytes from a place of a file to `bytes`.
pub fn read_at(path: &Path, at: u64, length: u64, bytes: &mut Vec<u8>) -> Result<()> {
    let start = bytes.len();
    bytes.resize(start + length as usize, 0);
    open(path)?
        .read_exact_at(&mut bytes[start..], at)
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Adds bytes to a file that is there.
pub fn append_to(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let file = File::options().append(true).open(path)?;
        Layered { file: &file, path }.write_all(bytes)
    };
    write().map_err(|error| wrote("write", path, error))
}

/// A name for one file that reads like `name`: what may mean something to a file system becomes
/// `_`, and it is cut to 200 bytes. Different names may become one.
pub fn name_like(name: &str) -> String {
    let mut like = String::new();
    for c in name.chars() {
        let plain =
            c.is_alphanumeric() || "_-=,:+@[] ".contains(c) || (c == '.' && !like.is_empty());
        let c = if plain { c } else { '_' };
        if like.len() + c.len_utf8() > NAME {
            break;
        }
        like.push(c);
    }
    like
}

/// Bytes of a name at most: file systems take 255, and an ending is added.
const NAME: usize = 200;

/// A symbolic link, which replaces any file or link in one step.
pub fn link(path: &Path, target: &Path) -> Result<()> {
    let make = || -> io::Result<()> {
        let new = || {
            tempfile::Builder::new()
                .make_in(folder_of(path), |path| std::os::unix::fs::symlink(target, path))
        };
        let link = act(Effect::Temporary(path), new)?.into_temp_path();
        made(&link);
        let from = link.to_path_buf();
        let put = || link.persist(path).map_err(|error| error.error);
        act(Effect::Rename { from: &from, to: path }, put)
    };
    make().map_err(|error| wrote("make the link", path, error))
}

/// A second name for a file, which shares its bytes (a hard link).
///
/// # Errors
/// The machine's, where the file system has none.
pub fn share(path: &Path, of: &Path) -> Result<()> {
    act(Effect::Link(path), || fs::hard_link(of, path))
        .map_err(|error| wrote("make the link", path, error))
}

/// Makes sure that a file's bytes, or a folder's names, are on the disk.
pub fn sync(path: &Path) -> Result<()> {
    act(Effect::Sync(path), || File::open(path)?.sync_all())
        .map_err(|error| wrote("write", path, error))
}

/// Sees to it that a file has one name: if it has others (hard links), it becomes a copy, and what
/// the others name stays as it is.
pub fn make_own(path: &Path) -> Result<()> {
    let make = || -> io::Result<()> {
        if fs::symlink_metadata(path)?.nlink() <= 1 {
            return Ok(());
        }
        temporary(path, None, |copy| io::copy(&mut File::open(path)?, copy).map(drop))
    };
    make().map_err(|error| wrote("copy", path, error))
}

/// Takes every right to write away from a file.
pub fn make_read_only(path: &Path) -> Result<()> {
    let mode = || fs::set_permissions(path, fs::Permissions::from_mode(0o444));
    act(Effect::Change(path), mode).map_err(|error| wrote("make read-only", path, error))
}

/// Moves a file or folder within one volume. The caller syncs the folders.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    act(Effect::Rename { from, to }, || fs::rename(from, to))
        .map_err(|error| wrote(&format!("move {} to", from.display()), to, error))
}

/// What came of moving a folder to a name that must be free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// It has the name.
    Done,
    /// Something else has it.
    Taken,
    /// The folder that it was to be in, or it itself, is not there.
    Nowhere,
}

/// Moves a folder to a name that nothing but an empty folder has.
pub fn rename_unless_taken(from: &Path, to: &Path) -> Result<Renamed> {
    match act(Effect::Rename { from, to }, || fs::rename(from, to)) {
        Ok(()) => Ok(Renamed::Done),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            Ok(Renamed::Taken)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Renamed::Nowhere),
        Err(error) => Err(wrote(&format!("move {} to", from.display()), to, error)),
    }
}

/// Copies all files and folders in `from` into `to`, which exists.
///
/// # Errors
/// The machine's, with the path.
pub fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for name in list(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            create_dir_all(&target)?;
            copy_all(&source, &target)?;
        } else {
            act(Effect::Create(&target), || fs::copy(&source, &target))
                .map_err(|error| wrote("copy to", &target, error))?;
            make_own(&target)?;
        }
    }
    Ok(())
}

/// Removes a file or a folder with all that is in it. It need not exist. A symbolic link is
/// removed, never followed.
pub fn remove_all(path: &Path) -> Result<()> {
    let remove = || match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match act(Effect::Remove(path), remove) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(wrote("remove", path, error)),
        _ => Ok(()),
    }
}

/// Removes a folder if there is nothing in it. True if it did.
pub fn remove_if_empty(path: &Path) -> bool {
    act(Effect::RemoveEmpty(path), || fs::remove_dir(path)).is_ok()
}

/// Sees to it that a file has room for `bytes` more from `from` on, where its file system can do
/// that; its length stays.
pub fn reserve(file: &File, path: &Path, from: u64, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    act(Effect::Change(path), || Ok(fallocate(file, FallocateFlags::KEEP_SIZE, from, bytes)?))
}

/// Writes bytes to a file that is open and called `path`, and leaves the error as it is.
pub fn write_all(file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    Layered { file, path }.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    #[test]
    fn a_failed_replacement_leaves_the_old_bytes_and_names_the_path() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        write_atomic(&path, b"old").expect("the disk is fine");
        for call in 1..=3 {
            fail_writes(Fault { root: folder.path().into(), call, errno: 28, lasting: false });
            let error = write_atomic(&path, b"new").expect_err("the disk is full");
            assert!(heal_writes(folder.path()));
            assert_eq!(kind_of(&error), Kind::Environment);
            let text = format!("{error:#}");
            assert!(
                text.contains(&path.display().to_string()) && text.contains("free some space"),
                "{text}"
            );
            assert_eq!(fs::read(&path).expect("it is there"), b"old");
            assert_eq!(
                list(folder.path()).expect("it is there"),
                ["file"],
                "nothing half-written is left"
            );
        }
        write_atomic(&path, b"new").expect("the disk is fine again");
        assert_eq!(fs::read(&path).expect("it is there"), b"new");
    }

    #[test]
    fn a_place_that_may_not_be_written_to_is_told_from_a_full_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (errno, denied) in [(13, true), (30, true), (28, false), (5, false)] {
            fail_writes(Fault { root: folder.path().into(), call: 1, errno, lasting: false });
            let error = create_dir_all(&folder.path().join("x")).expect_err("it fails");
            assert!(heal_writes(folder.path()));
            assert_eq!(is_denied(&error), denied, "{error:#}");
            let plain =
                anyhow::Error::from(io::Error::from_raw_os_error(errno)).context("while locking");
            assert_eq!(is_denied(&plain), denied, "{plain:#}");
        }
    }

    #[test]
    fn a_name_like_another_is_one_file_wherever_it_is_put() {
        for (name, like) in [
            ("ppo[kl=0.1,seed=1]", "ppo[kl=0.1,seed=1]"),
            ("a/../../b", "a_.._.._b"),
            ("..", "_."),
            ("a\0\u{1b}", "a__"),
        ] {
            assert_eq!(name_like(name), like);
        }
        let long = name_like(&"\u{e9}".repeat(300));
        assert!(long.len() == NAME && long.chars().all(|c| c == '\u{e9}'));
    }

    #[test]
    fn a_file_of_several_names_becomes_a_copy_and_others_stay_what_they_are() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("mine"), "mine").expect("writable");
        fs::hard_link(path("mine"), path("theirs")).expect("a link");
        let inode = |name: &str| fs::metadata(path(name)).expect("there").ino();
        let before = inode("mine");
        make_own(&path("theirs")).expect("the disk is fine");
        assert!(inode("theirs") != before && inode("mine") == before);
        make_own(&path("theirs")).expect("the disk is fine");
        assert_eq!(
            (
                read_to_string(&path("theirs")).expect("there"),
                list(folder.path()).expect("there").len()
            ),
            ("mine".into(), 2)
        );
    }

    #[test]
    fn a_folder_takes_no_name_that_is_taken() {
        use Renamed::{Done, Nowhere, Taken};
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["one", "two"] {
            create_dir_all(&path(name)).expect("the disk is fine");
            write_new(&path(name).join("file"), name.as_bytes()).expect("the disk is fine");
        }
        assert!(write_new(&path("one/file"), b"again").is_err(), "it is there");
        let rename = |from: &str, to: &str| {
            rename_unless_taken(&path(from), &path(to)).expect("the disk is fine")
        };
        assert_eq!(
            [rename("one", "number"), rename("two", "number"), rename("two", "none/number")],
            [Done, Taken, Nowhere]
        );
        assert_eq!(
            (list(folder.path()).expect("there"), size(folder.path()).expect("there")),
            (vec!["number".into(), "two".into()], 6)
        );
    }

    #[test]
    fn an_output_that_is_a_link_leads_to_what_is_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("below")).expect("a folder");
        for (link, target) in [
            ("first", "second"),
            ("second", "below/real"),
            ("absolute", path("below/other").to_str().expect("text")),
        ] {
            std::os::unix::fs::symlink(target, path(link)).expect("a link");
        }
        for text in ["made through the links", "written again"] {
            output(&path("first"), text.as_bytes()).expect("it is written");
            output(&path("absolute"), text.as_bytes()).expect("it is written");
            assert_eq!(fs::read_to_string(path("below/real")).expect("it is there"), text);
            assert_eq!(fs::read_to_string(path("below/other")).expect("it is there"), text);
        }
        assert_eq!(list(&path("below")).expect("a folder"), ["other", "real"]);
        assert!(["first", "second", "absolute"].iter().all(|name| path(name).is_symlink()));
        output(&path("plain"), b"old")
            .and_then(|()| output(&path("plain"), b"new"))
            .expect("it is written");
        assert_eq!(fs::read(path("plain")).expect("it is there"), b"new");
        let error = output(&path("below"), b"x").expect_err("it is a folder");
        assert_eq!(kind_of(&error), Kind::User);
    }

    #[test]
    fn an_output_that_is_a_pipe_or_a_device_is_written_to_and_stays_one() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .expect("a pipe");
        std::os::unix::fs::symlink("pipe", &link).expect("a link");
        for place in [&pipe, &link] {
            let reader = {
                let pipe = pipe.clone();
                std::thread::spawn(move || fs::read(pipe).expect("what is written"))
            };
            output(place, b"through a pipe").expect("it is written");
            assert_eq!(reader.join().expect("it reads"), b"through a pipe");
        }
        assert!(
            fs::symlink_metadata(&pipe).expect("it is there").file_type().is_fifo()
                && link.is_symlink()
        );
        output(Path::new("/dev/null"), b"x").expect("it is written");
        assert!(fs::metadata("/dev/null").expect("it is there").file_type().is_char_device());
        // A descriptor of this process: what is there already stays.
        let file = folder.path().join("open");
        fs::write(&file, "before ").expect("it is written");
        let open = File::options().append(true).open(&file).expect("it is there");
        let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        output(Path::new(&descriptor), b"after").expect("it is written");
        assert_eq!(fs::read(&file).expect("it is there"), b"before after");
    }

    #[test]
    fn a_link_put_in_place_of_another_replaces_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("link");
        for target in ["one", "two"] {
            link(&path, Path::new(target)).expect("the disk is fine");
            assert_eq!(path.read_link().expect("a link"), Path::new(target));
        }
        assert_eq!(list(folder.path()).expect("it is there"), ["link"]);
    }

    #[test]
    fn a_link_is_removed_and_never_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (kept, link) = (folder.path().join("kept"), folder.path().join("link"));
        fs::create_dir(&kept).expect("a folder");
        std::os::unix::fs::symlink(&kept, &link).expect("a link");
        remove_all(&link).expect("it is removed");
        remove_all(&link).expect("removing what is not there is fine");
        assert_eq!(list(folder.path()).expect("it is there"), ["kept"]);
    }
}

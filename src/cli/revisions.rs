//! `plan --diff`: a pipeline in two git revisions, or in one and in the working tree: the nodes
//! whose keys differ, and why.
//!
//! A revision is checked out into a temporary folder, with an index there: the repository and its
//! working tree are only read. Files that git does not track (datasets, models) are those of the
//! working tree in both.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::common::{Source, print, print_json};
use super::number_format::count;
use crate::dag::compare::{Changed, Comparison, compare};
use crate::dag::store::Store;
use crate::error::{Context, Result, environment, user};
use crate::fs::TemporaryFolder;
use crate::pipeline::expand::Pipeline;
use crate::pipeline::names::listed;

/// What is printed as JSON.
#[derive(Serialize)]
struct Json {
    /// The earlier revision, as a commit.
    from: String,
    /// The later one; none is the working tree.
    to: Option<String>,
    #[serde(flatten)]
    comparison: Comparison,
}

/// Prints what differs.
///
/// # Errors
/// The user's: the file is in no repository, or there is no such revision. Of the environment: git
/// is absent.
pub fn main(store: &Store, source: &Source, revisions: &str, json: bool) -> Result<()> {
    let repository = Repository::of(&source.pipeline)?;
    let (from, to) = match revisions.split_once("..") {
        Some((from, to)) => (repository.commit(from)?, Some(repository.commit(to)?)),
        None => (repository.commit(revisions)?, None),
    };
    let earlier = repository.load(source, &from)?;
    let later = match &to {
        Some(to) => repository.load(source, to)?,
        None => Loaded { pipeline: source.load()?, _folder: None },
    };
    let comparison = compare(store, &earlier.pipeline.graph, &later.pipeline.graph)?;
    if json {
        return print_json(&Json { from, to, comparison });
    }
    let to = to.as_deref().map_or("the working tree", short);
    print(&text(short(&from), to, &comparison))
}

fn short(commit: &str) -> &str {
    &commit[..commit.len().min(12)]
}

fn text(from: &str, to: &str, comparison: &Comparison) -> String {
    let Comparison { changed, added, removed, renamed, kept } = comparison;
    let inherited: usize = changed.iter().map(|it| it.needed_by.len()).sum();
    let mut text = format!(
        "{from} to {to}: {} changed, {inherited} with them, {} added, {} removed, {kept} the same\n",
        count(changed.len(), "node"),
        added.len(),
        removed.len()
    );
    for Changed { node, differences, needed_by } in changed {
        let why: Vec<String> = differences.iter().map(ToString::to_string).collect();
        let names: Vec<&str> = needed_by.iter().map(String::as_str).collect();
        let rest = match names.is_empty() {
            true => String::new(),
            false => format!("; with it {}", listed(&names)),
        };
        text.push_str(&format!("  {node}: {}{rest}\n", why.join("; ")));
    }
    for (words, names) in [("added", added), ("removed", removed)] {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if !names.is_empty() {
            text.push_str(&format!("  {words}: {}\n", listed(&names)));
        }
    }
    for (name, from) in renamed {
        text.push_str(&format!("  {name}: was `{from}`, and keeps its key\n"));
    }
    text
}

/// The git repository of a pipeline.
struct Repository {
    /// Its working tree.
    root: PathBuf,
    /// The pipeline in it.
    file: PathBuf,
}

/// A pipeline of a revision, with the folder that its files are in.
struct Loaded {
    pipeline: Pipeline,
    _folder: Option<TemporaryFolder>,
}

impl Repository {
    fn of(pipeline: &Path) -> Result<Self> {
        let path = pipeline
            .canonicalize()
            .map_err(|_| user(format!("there is no file {}", pipeline.display())))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let root = git(folder, &["rev-parse", "--show-toplevel"], &[]).map_err(|error| {
            error.context(format!("{} is in no git repository", pipeline.display()))
        })?;
        let root = PathBuf::from(root.trim_end_matches('\n'));
        let file = path.strip_prefix(&root).context("the repository has the file")?.to_owned();
        Ok(Repository { root, file })
    }

    /// The commit that a word means.
    fn commit(&self, word: &str) -> Result<String> {
        let word = if word.is_empty() { "HEAD" } else { word };
        let revision = format!("{word}^{{commit}}");
        let commit = git(&self.root, &["rev-parse", "--verify", "--quiet", &revision], &[]);
        let unknown = |_| {
            user(format!("there is no revision `{word}` in {}", self.root.display()))
                .hint("give a branch, a tag, a commit, or two of them: A..B")
        };
        Ok(commit.map_err(unknown)?.trim().to_owned())
    }

    /// The pipeline as it was in a commit.
    fn load(&self, source: &Source, commit: &str) -> Result<Loaded> {
        let folder = TemporaryFolder::new()?;
        let tree = folder.path().join("tree");
        crate::fs::create_dir_all(&tree)?;
        let index = folder.path().join("index");
        let environment: [(&str, &Path); 2] =
            [("GIT_INDEX_FILE", &index), ("GIT_WORK_TREE", &tree)];
        git(&self.root, &["read-tree", commit], &environment)?;
        git(&self.root, &["checkout-index", "--all", "--quiet"], &environment)?;
        self.add_untracked(&tree)?;
        let of_commit = Source {
            pipeline: tree.join(&self.file),
            profiles: source.profiles.clone(),
            sets: source.sets.clone(),
        };
        if !of_commit.pipeline.exists() {
            let (file, commit) = (self.file.display(), short(commit));
            return Err(user(format!("{commit} has no {file}")).into());
        }
        let pipeline = of_commit.load().with_context(|| format!("in {}", short(commit)))?;
        Ok(Loaded { pipeline, _folder: Some(folder) })
    }

    /// Links to what the working tree has and git does not track.
    fn add_untracked(&self, tree: &Path) -> Result<()> {
        let names = git(&self.root, &["ls-files", "--others", "--directory", "-z"], &[])?;
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            let link = tree.join(name.trim_end_matches('/'));
            if link.exists() {
                continue;
            }
            link.parent().map_or(Ok(()), crate::fs::create_dir_all)?;
            crate::fs::link(&link, &self.root.join(name))?;
        }
        Ok(())
    }
}

/// What git prints.
fn git(folder: &Path, arguments: &[&str], environment_of: &[(&str, &Path)]) -> Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .envs(environment_of.iter().copied())
        .output();
    let output = output.map_err(|error| {
        environment(format!("cannot start git: {error}")).hint("`--diff` needs the program git")
    })?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(user(format!("git {}: {printed}", arguments.join(" "))).into());
    }
    String::from_utf8(output.stdout).context("git printed something that is no text")
}

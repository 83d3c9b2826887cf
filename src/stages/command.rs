//! `command`: runs a program, like a rule of a Makefile; for work that no other kind does.
//!
//! 1. The program starts in an empty folder; what it leaves there is the artefact. It gets nothing
//!    else to write to.
//! 2. Each of `inputs` (artefacts) and `files` (from outside) is an environment variable that holds
//!    a path, and `{name}` in an argument is replaced by the same path, whatever that holds: it is
//!    not looked at again. A name of `gather` holds several paths, in the order of the points. They
//!    enter the key by their bytes, as everywhere.
//! 3. The environment is empty except for `PATH`, `HOME`, `TMPDIR`, `LC_ALL=C`, `TZ=UTC` and `env`.
//!    The program itself, and whatever it reads besides its inputs, is not in the key: name a
//!    script under `files` if a change to it matters.
//! 4. What it prints goes to the node's log. An exit status other than 0 fails the stage; its last
//!    lines are in the error.
//! 5. It ends with the stage, and all that it has started does: when it is asked to stop, when the
//!    run is killed, and when it is done. It may do anything else that its user may, unless it runs
//!    in a sandbox.
//! 6. What it leaves is checked to be of the kind that the pipeline declares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::made::Makes;
use super::program::Program;
use super::{Checks, KindInfo, Problem, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::{Context as _, Result};
use crate::reference::{AnyRef, Artefact, Files, Input};

/// Runs a program; its folder is the artefact.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandStage {
    /// Program and its arguments.
    run: Vec<String>,
    /// Artefacts of other stages, by the name under which the program finds their paths.
    #[serde(default)]
    inputs: BTreeMap<String, AnyRef>,
    /// Artefacts of several stages, or of every point of a stage (`{all: tuned}`), by the name
    /// under which the program finds their paths: a line each in the variable, an argument each
    /// where `{name}` is an argument of the command.
    #[serde(default)]
    gather: BTreeMap<String, Vec<AnyRef>>,
    /// Files and folders from outside, by the name under which the program finds their paths.
    #[serde(default)]
    files: BTreeMap<String, Input>,
    /// Further environment variables.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Kind of the artefact that the program leaves in its folder; its files are checked when it
    /// has ended.
    #[serde(default)]
    makes: Makes,
    /// Whether the program sees nothing but `inputs`, `gather`, `files`, the system's folders and
    /// those of `$PATH`, and has no network (bubblewrap): a file that is missing above is then an
    /// error.
    #[serde(default)]
    sandbox: bool,
}

impl CommandStage {
    fn program(&self) -> Program<'_> {
        let CommandStage { run, inputs, gather, files, env, sandbox, .. } = self;
        Program { run, inputs, gather, files, env, sandbox: *sandbox }
    }
}

impl Stage for CommandStage {
    const INFO: KindInfo = KindInfo::on_host("command", 2, Files::KIND);

    fn output(&self) -> &'static str {
        self.makes.kind()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        self.program().check(&mut checks);
        checks.done()
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        self.program().run(context, context.out(), None)?;
        self.makes.check(context.out()).with_context(|| {
            format!("`{}` has ended, but its files are not what `makes` says", self.run[0])
        })
    }
}

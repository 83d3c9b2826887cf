//! The kinds of error, decided where they are raised, and the exit code of each.
//!
//! Every fallible function returns [`Result`], which is `anyhow`'s. A [`Failure`] in the chain has
//! the kind of the error; an `std::io::Error` without one is a fault of the machine; any other
//! error is a bug of ours.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

pub use anyhow::{Context, Error, Result};

/// The cause of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something the user wrote: a pipeline, an option, a data file. Exit code 2.
    User,
    /// The machine: disk, permissions, memory, driver. Exit code 3.
    Environment,
    /// A stage of the pipeline failed (its own error has been printed). Exit code 1.
    Stage,
    /// Stopped by Ctrl-C or SIGTERM; what was finished or checkpointed is kept. Exit code 130.
    Interrupted,
    /// A bug of ours. Exit code 101, as for a panic.
    Bug,
}

impl Kind {
    /// The process exit code for an error of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Stage => 1,
            Kind::User => 2,
            Kind::Environment => 3,
            Kind::Bug => 101,
            Kind::Interrupted => 130,
        }
    }

    /// The kind of error that an exit code is for; a bug for a code that is for none.
    pub fn of_exit_code(code: i32) -> Self {
        let kinds = [Kind::Stage, Kind::User, Kind::Environment, Kind::Interrupted];
        kinds.into_iter().find(|kind| i32::from(kind.exit_code()) == code).unwrap_or(Kind::Bug)
    }
}

/// An error with its kind, and a hint where there is something to do about it.
#[derive(Debug)]
pub struct Failure {
    /// The cause.
    pub kind: Kind,
    /// What went wrong and where.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure of the given kind, without a hint.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into(), hint: None }
    }

    /// The same failure with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A mistake in something the user wrote.
pub fn user(message: impl Into<String>) -> Failure {
    Failure::new(Kind::User, message)
}

/// A fault of the machine.
pub fn environment(message: impl Into<String>) -> Failure {
    Failure::new(Kind::Environment, message)
}

/// The fault of a machine that starts no thread more, or no process; `what` it was to be.
pub fn no_thread(what: &str, why: impl fmt::Display) -> Failure {
    environment(format!("cannot start {what}: {why}"))
        .hint("raise the limit of processes (`ulimit -u`), or end some")
}

/// Leaves a place that cannot return an error, such as an operation of a back end whose device has
/// run out of memory. Unwinds like a panic, but without its message; [`caught`] makes an error of
/// it again.
pub fn raise(failure: Failure) -> ! {
    resume_unwind(Box::new(failure))
}

/// What `f` returns, or the failure that it raised. A panic goes on.
pub fn caught<T>(f: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| match payload.downcast::<Failure>() {
        Ok(failure) => (*failure).into(),
        Err(payload) => resume_unwind(payload),
    })
}

thread_local! {
    /// Whether a panic of this thread is an error that [`contained`] returns.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// What `f` returns, or the message of its panic: for calls of a library that panics where it
/// should return an error. Nothing is printed.
///
/// # Errors
/// The panic's message.
pub fn contained<T>(f: impl FnOnce() -> T) -> std::result::Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                before(panic);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    CONTAINED.set(outer);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        match text.or_else(|| payload.downcast_ref::<String>().cloned()) {
            Some(text) => text,
            None => resume_unwind(payload),
        }
    })
}

/// The kind of an error: that of the outermost [`Failure`] in its chain, else `Environment` if an
/// I/O error is in it, else `Bug`.
pub fn kind_of(error: &anyhow::Error) -> Kind {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.kind;
        }
    }
    match error.chain().any(|cause| cause.is::<std::io::Error>()) {
        true => Kind::Environment,
        false => Kind::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_raised_is_an_error_where_it_is_caught() {
        let error = caught(|| -> u8 { raise(environment("full").hint("free some")) })
            .expect_err("it is raised");
        assert_eq!(
            (kind_of(&error), format!("{error}")),
            (Kind::Environment, "full\n  hint: free some".into())
        );
        assert_eq!(caught(|| 7).expect("nothing is raised"), 7);
    }

    #[test]
    fn a_contained_panic_is_its_message_and_a_raised_failure_goes_on() {
        assert_eq!(contained(|| 7), Ok(7));
        let three = 3;
        assert_eq!(contained(|| -> u8 { panic!("limit {three}") }), Err("limit 3".into()));
        assert_eq!(contained(|| -> u8 { panic!("plain") }), Err("plain".into()));
        let raised = caught(|| contained(|| -> u8 { raise(environment("full")) }))
            .expect_err("it is raised");
        assert_eq!(kind_of(&raised), Kind::Environment);
    }

    #[test]
    fn the_kind_survives_added_context() {
        let error = anyhow::Error::from(user("no such stage")).context("while planning");
        assert_eq!(kind_of(&error), Kind::User);
        let error = anyhow::Error::from(std::io::Error::other("disk")).context("while saving");
        assert_eq!(kind_of(&error), Kind::Environment);
        assert_eq!(kind_of(&anyhow::anyhow!("index out of range")), Kind::Bug);
    }
}

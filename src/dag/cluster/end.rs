//! What the end of a job means for its node: by what the queue says and by the exit code that the
//! job has left. Uses nothing of how either was asked for.

use std::path::Path;

use super::attend::made;
use super::queue::JobState;
use crate::context::last_lines;
use crate::error::{Failure, Kind, Result, environment};
use crate::outcome::OutOfTime;
use crate::process::died;
use crate::work::LOG;

/// What is to be done about a job that is over.
pub(super) enum End {
    /// What it has written has not reached this host.
    NotSeen,
    /// It is to be submitted again, since this happened to it.
    Again(&'static str),
    /// Nothing more: the node has ended.
    Over(Result<()>),
}

/// The end of a job: `state` is what the queue says, `None` if it knows nothing of it any more;
/// `code` what the job has left. `is_late` says that nothing more of it will be seen.
pub(super) fn over(
    attempt: &Path,
    job: &str,
    (state, code): (Option<JobState>, Option<i32>),
    is_cancelled: bool,
    is_late: bool,
) -> End {
    if code == Some(0) {
        return whole(attempt, is_late);
    }
    if is_cancelled {
        let message = format!("its job {job} was stopped");
        return End::Over(Err(Failure::new(Kind::Interrupted, message).into()));
    }
    let failed = |failure: Failure| End::Over(Err(failure.into()));
    match (state, code) {
        (Some(JobState::Preempted), _) => End::Again("was preempted"),
        (Some(JobState::Lost), _) => End::Again("has lost its host"),
        (None, None) => End::Again("is gone from the queue and has left no exit code"),
        (Some(JobState::Timeout), _) => {
            let message = format!("its job {job} took longer than the queue gives it");
            let failure = Failure::new(Kind::Stage, message).hint(
                "raise `timeout` of the stage, or `time_min` in the file of the queue; a run goes \
                 on from the last checkpoint",
            );
            End::Over(Err(anyhow::Error::from(failure).context(OutOfTime)))
        }
        (Some(JobState::OutOfMemory), _) => failed(
            environment(format!("its job {job} took more memory than the queue gives it"))
                .hint("raise `resources: {memory_mb: N}` of the stage, or `memory_mb` in the file"),
        ),
        (Some(JobState::Cancelled), _) => failed(
            environment(format!("its job {job} was cancelled in the queue, not by this run"))
                .hint("run again: it goes on from the last checkpoint"),
        ),
        (_, Some(code)) => failed(by_code(code, attempt)),
        (_, None) if !is_late => End::NotSeen,
        (_, None) => {
            let printed = last_lines(&attempt.join(LOG)).join("\n    ");
            let message = format!("its job {job} has ended and left no exit code: {printed}");
            failed(environment(message).hint(
                "the host of the job has to have the folder of the cache and the program under \
                 the same paths as this one",
            ))
        }
    }
}

/// The end of a job that has succeeded: over, once all that it has made is seen from here.
fn whole(attempt: &Path, is_late: bool) -> End {
    match made(attempt) {
        Ok(None) => End::Over(Ok(())),
        Ok(Some((noted, seen))) if noted == seen => End::Over(Ok(())),
        Ok(_) if !is_late => End::NotSeen,
        Ok(Some((noted, seen))) => {
            let message = format!(
                "its job has made {} files of {} bytes, and {} of {} bytes are seen from here",
                noted.files, noted.bytes, seen.files, seen.bytes
            );
            End::Over(Err(environment(message)
                .hint("the hosts have to share the folder of the cache; then run again")
                .into()))
        }
        Err(error) => End::Over(Err(error)),
    }
}

/// The failure of a program with this exit code, as a shell gives it: above 128 it is a signal.
fn by_code(code: i32, attempt: &Path) -> Failure {
    let is_signal = code > 128 && Kind::of_exit_code(code) == Kind::Bug;
    died(is_signal.then(|| code - 128), code, attempt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    fn end(state: JobState, code: Option<i32>) -> (Kind, String) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        match over(folder.path(), "7", (Some(state), code), false, true) {
            End::Over(Err(error)) => (kind_of(&error), format!("{error:#}")),
            End::Over(Ok(())) => panic!("it has succeeded"),
            End::Again(_) => panic!("it is submitted again"),
            End::NotSeen => panic!("it is late"),
        }
    }

    #[test]
    fn each_end_has_a_kind_and_says_what_to_do() {
        for (state, code, kind, says) in [
            (JobState::Timeout, Some(130), Kind::Stage, "raise `timeout`"),
            (JobState::OutOfMemory, Some(137), Kind::Environment, "raise `resources: {memory_mb"),
            (JobState::Cancelled, None, Kind::Environment, "was cancelled in the queue"),
            (JobState::Failed, Some(2), Kind::User, "exit code 2"),
            (JobState::Failed, Some(137), Kind::Environment, "signal 9"),
            (JobState::Failed, Some(130), Kind::Interrupted, "exit code 130"),
            (JobState::Done, None, Kind::Environment, "left no exit code"),
        ] {
            let (is, message) = end(state, code);
            assert_eq!(is, kind, "{state:?}: {message}");
            assert!(message.contains(says), "{state:?}: {message}");
        }
    }

    #[test]
    fn what_is_not_whole_here_is_waited_for_and_then_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let attempt = folder.path();
        crate::fs::create_dir_all(&attempt.join("out")).expect("writable");
        crate::fs::write_new(&attempt.join("out/file"), b"1234").expect("writable");
        super::super::attend::finish(attempt).expect("writable");
        let over = |is_late| over(attempt, "7", (None, Some(0)), false, is_late);
        assert!(matches!(over(false), End::Over(Ok(()))));
        crate::fs::write_atomic(&attempt.join("out/file"), b"12").expect("writable");
        assert!(matches!(over(false), End::NotSeen));
        let End::Over(Err(error)) = over(true) else { panic!("a part of it") };
        assert!(error.to_string().contains("1 files of 4 bytes"), "{error:#}");
    }
}

//! Tools that some tests need. A test whose tool is absent leaves itself out and says so on the
//! terminal, past the capture of the test harness, once for each reason.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// With 1, a test that would leave itself out fails instead, and no part is left out for its time.
const REQUIRE: &str = "POSTTRAIN_TESTS_REQUIRE_TOOLS";
/// With 1, the tests of CUDA on the emulated device run.
const CUDA: &str = "POSTTRAIN_TESTS_CUDA";

fn is_one(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "1")
}

/// Leaves a test out: prints why, and how to run it.
///
/// # Panics
/// If all tools are required.
pub fn left_out(why: &str) {
    assert!(!is_one(REQUIRE), "{why}; {REQUIRE}=1 asks for it");
    mention(why);
}

/// The same for what a complete machine may lack too.
pub fn mention(why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(why.to_owned()) {
        _ = writeln!(std::io::stderr(), "tests left out: {why}");
    }
}

/// Whether the tests of CUDA on the emulated device run: they take most of the time of all tests.
pub fn emulates_cuda() -> bool {
    let runs = is_one(CUDA) || is_one(REQUIRE);
    if !runs {
        mention(&format!(
            "CUDA on the emulated device, which takes about 10 minutes on 2 cores; {CUDA}=1 runs it"
        ));
    }
    runs
}

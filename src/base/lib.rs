//! Utilities for all modules: kinds of error, values out of range, files, JSON, bounds, draws.
//!
//! | module | what it does |
//! |---|---|
//! | [`error`] | kinds of error, exit codes |
//! | [`check`] | values of a config that are out of range; texts that cannot name a file |
//! | [`fs`] | file-system calls whose errors name the path; files that are complete or absent |
//! | [`json`] | JSON values with the order of their fields and the digits of their numbers |
//! | [`limits`] | bounds on the cost of one input, and the variables that raise them |
//! | [`random`] | counter-based random numbers |
//!
//! ```
//! use posttrain_base::error::{Kind, kind_of, user};
//! use posttrain_base::random::Stream;
//! // A draw depends on seed, purpose, row and step, not on the order of draws.
//! let draws = Stream::new(7, "generate");
//! assert_eq!(draws.uniform(3, 5), Stream::new(7, "generate").uniform(3, 5));
//! // An error has a kind, which decides the exit code.
//! let error = user("no split `tset`").hint("did you mean `test`?").into();
//! assert_eq!(kind_of(&error).exit_code(), Kind::User.exit_code());
//! ```

pub mod check;
pub mod error;
pub mod fs;
pub mod json;
pub mod limits;
pub mod random;

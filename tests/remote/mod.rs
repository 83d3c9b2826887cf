//! The remote cache: the real program on two machines (two folders), against a folder, a server
//! that misbehaves, nginx and a server of S3.

#![expect(clippy::unwrap_used)]

mod faults;
mod machine;
mod server;
mod servers;
mod sharing;
mod trust;
mod verbs;

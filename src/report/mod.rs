//! What a person reads: tables. Knows no stage and no file; gives strings.

pub mod table;

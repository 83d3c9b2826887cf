//! The kinds of stage, by name: the one list of `stages`, as `pipeline` sees it.

use crate::stages::{self, Visitor};

/// A list of stage kinds.
pub trait Registry {
    /// Their names, in the order of a pipeline.
    fn names(&self) -> Vec<&'static str>;

    /// Calls the visitor with the kind called `name`, or returns `None`.
    fn visit<V: Visitor>(&self, name: &str, visitor: V) -> Option<V::Output>;
}

/// The stage kinds of this program.
#[derive(Clone, Copy, Debug)]
pub struct Builtin;

impl Registry for Builtin {
    fn names(&self) -> Vec<&'static str> {
        stages::names().to_vec()
    }

    fn visit<V: Visitor>(&self, name: &str, visitor: V) -> Option<V::Output> {
        stages::visit(name, visitor)
    }
}

//! `stages`: the stage kinds of this program, and the keys of each.

use clap::Args;

use super::common::{columns, print};
use crate::error::{Result, user};
use crate::pipeline::diagnostic::advice;
use crate::pipeline::registry::{Builtin, Registry};
use crate::stages::{Stage, Visitor, fields};

/// List the stage kinds, or the keys of one
#[derive(Args)]
pub struct Arguments {
    /// A stage kind
    kind: Option<String>,
}

/// Prints the list.
pub fn main(arguments: &Arguments) -> Result<()> {
    let kinds = match &arguments.kind {
        None => Builtin.names(),
        Some(kind) => match Builtin.names().into_iter().find(|name| name == kind) {
            Some(name) => vec![name],
            None => {
                return Err(user(format!("there is no stage kind `{kind}`"))
                    .hint(advice(kind, Builtin.names(), "stage kinds"))
                    .into());
            }
        },
    };
    let rows: Vec<Vec<String>> =
        kinds.iter().filter_map(|kind| Builtin.visit(kind, Describe)).collect();
    print(&columns(&rows))
}

struct Describe;

impl Visitor for Describe {
    type Output = Vec<String>;

    fn visit<S: Stage>(self) -> Vec<String> {
        let (fields, _) = fields::of::<S>();
        vec![S::NAME.into(), format!("-> {}", S::OUTPUT), fields.keys.join(", ")]
    }
}

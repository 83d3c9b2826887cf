//! `run --confirm`: the plan is shown, and carried out if the answer is yes.

use std::collections::BTreeMap;

use super::changes::Changes;
use super::common::visible;
use super::plan::text;
use super::price::Prices;
use crate::dag::explain::add_reasons;
use crate::dag::plan::{Plan, plan};
use crate::dag::record::Invocation;
use crate::dag::request::Request;
use crate::dag::store::Store;
use crate::error::{Context, Result, user};
use crate::model::memory::Memory;

/// Shows the plan and asks whether to go on.
///
/// # Errors
/// The user's, unless the answer is yes and the plan is still the same.
pub fn confirm(
    store: &Store,
    request: Request<'_>,
    planned: &Plan,
    memory: &BTreeMap<String, Memory>,
    prices: &Prices,
    invocation: &Invocation,
) -> Result<()> {
    let mut shown = planned.clone();
    add_reasons(store, request, &mut shown)?;
    let changes = Changes::of(store, &shown, invocation)?;
    eprint!("{}go on? [y/N] ", visible(&text(&shown, memory, prices, changes.as_ref())));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Err(user("nothing was run").hint("answer `y` to go on").into());
    }
    match plan(store, request)? == *planned {
        true => Ok(()),
        false => Err(user("the plan has changed since it was shown").hint("run again").into()),
    }
}

//! The config of the metrics of the user's that an evaluation has, with what is out of
//! range.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Method;
use crate::reference::{Metric, Ref, Samples};
use crate::stages::Checks;

/// A metric whose numbers a program of the user's gives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnMetricConfig {
    /// What of the methods is measured.
    #[serde(default)]
    pub of: Of,
    /// By the name of the method, the stage `metric` that measured it.
    pub methods: BTreeMap<String, Ref<Metric>>,
}

/// What of a method a program measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// Its `samples`.
    #[default]
    Samples,
    /// Its `outputs`.
    Outputs,
}

impl Of {
    /// The field of a method.
    pub(super) fn field(self) -> &'static str {
        match self {
            Of::Samples => "samples",
            Of::Outputs => "outputs",
        }
    }

    /// That of a method.
    pub(super) fn of(self, method: &Method) -> Option<&Ref<Samples>> {
        match self {
            Of::Samples => method.samples.as_ref(),
            Of::Outputs => method.outputs.as_ref(),
        }
    }
}

impl OwnMetricConfig {
    /// Notes methods that there are not, or that have nothing to measure.
    pub(super) fn check(&self, checks: &mut Checks, name: &str, methods: &[Method]) {
        let field = format!("metrics.{name}.methods");
        checks.require(!self.methods.is_empty(), &field, "expected at least one method");
        for own in self.methods.keys() {
            let has = methods.iter().any(|it| it.name == *own && self.of.of(it).is_some());
            checks.require(
                has,
                &field,
                format!("there is no method `{own}` with `{}`", self.of.field()),
            );
        }
    }
}

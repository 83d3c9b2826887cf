//! What a stage does when a sentinel fires, as its config says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::table::{self, Action, Sentinel};

/// The settings of sentinels by name; those without an entry have their defaults.
pub type Sentinels = BTreeMap<String, Setting>;

/// Setting of a sentinel: what is done when it fires, and its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// It is not checked.
    Off,
    /// It warns once, and the stage goes on.
    Warn,
    /// It ends the stage with an error. The checkpoint is kept.
    Stop,
    /// As `warn`, with another threshold.
    WarnAt(f64),
    /// As `stop`, with another threshold.
    StopAt(f64),
}

/// A sentinel with its settings.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// The sentinel.
    pub sentinel: &'static Sentinel,
    /// What is done when it fires.
    pub action: Action,
    /// Its threshold.
    pub threshold: f64,
}

/// The sentinels of a stage kind that are not off, in the order of the table.
pub fn guards(kind: &str, settings: &Sentinels) -> Vec<Guard> {
    let of = |sentinel: &'static Sentinel| {
        let own = (sentinel.action, sentinel.threshold);
        let (action, threshold) = match settings.get(sentinel.name) {
            None => own,
            Some(Setting::Off) => return None,
            Some(Setting::Warn) => (Action::Warn, sentinel.threshold),
            Some(Setting::Stop) => (Action::Stop, sentinel.threshold),
            Some(Setting::WarnAt(threshold)) => (Action::Warn, *threshold),
            Some(Setting::StopAt(threshold)) => (Action::Stop, *threshold),
        };
        Some(Guard { sentinel, action, threshold })
    };
    table::of(kind).filter_map(of).collect()
}

/// What is wrong with settings of a stage kind: the name, and what was expected.
pub fn problems(kind: &str, settings: &Sentinels) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, setting) in settings {
        if !table::of(kind).any(|sentinel| sentinel.name == name) {
            let names: Vec<&str> = table::of(kind).map(|sentinel| sentinel.name).collect();
            let known = table::SENTINELS.iter().any(|sentinel| sentinel.name == name);
            let what = if known { "one of other stage kinds" } else { "no sentinel" };
            let names = names.join(", ");
            found.push((name.clone(), format!("expected a name of {names}, found {what}")));
        }
        if let Setting::WarnAt(threshold) | Setting::StopAt(threshold) = setting
            && !threshold.is_finite()
        {
            let message = format!("expected a finite threshold, found {threshold}");
            found.push((name.clone(), message));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, setting: Setting) -> Sentinels {
        [(name.to_owned(), setting)].into()
    }

    #[test]
    fn a_setting_replaces_action_and_threshold() {
        let find = |settings: &Sentinels| {
            let found = guards("ppo", settings);
            found.into_iter().find(|guard| guard.sentinel.name == "kl_runaway")
        };
        let of = |setting| find(&one("kl_runaway", setting));
        let default = find(&Sentinels::new()).expect("it is on by default");
        assert_eq!(default.action, Action::Warn);
        assert!(of(Setting::Off).is_none());
        let stop = of(Setting::Stop).expect("it is on");
        assert_eq!((stop.action, stop.threshold), (Action::Stop, default.threshold));
        let warn = of(Setting::WarnAt(0.25)).expect("it is on");
        assert_eq!((warn.action, warn.threshold), (Action::Warn, 0.25));
    }

    #[test]
    fn an_unknown_name_and_one_of_other_kinds_are_refused_with_the_names() {
        for (name, words) in [("typo", "no sentinel"), ("accuracy_at_chance", "other stage kinds")]
        {
            let found = problems("ppo", &one(name, Setting::Warn));
            let message = &found[0].1;
            assert!(message.contains("kl_runaway") && message.contains(words), "{message}");
        }
        assert_eq!(problems("ppo", &one("kl_runaway", Setting::StopAt(0.5))), []);
        assert_eq!(problems("ppo", &one("kl_runaway", Setting::StopAt(f64::NAN))).len(), 1);
    }
}

//! What it means that the hub says no, and what to do about it. Fetches nothing but names that are
//! near to a wrong one.

use serde::Deserialize;

use super::client::{Away, Client, Refusal};
use super::name::Name;
use crate::error::{Failure, environment, user};

/// Names offered at most.
const OFFERED: usize = 8;

/// A hub that does not answer, as an error.
pub fn unreachable(client: &Client<'_>, name: &Name, away: &Away) -> Failure {
    let failure =
        environment(format!("cannot ask {} for {name}: {}", client.settings.endpoint, away.why));
    failure.hint(
        "see whether the network is there and HF_ENDPOINT is right; with HF_HUB_OFFLINE=1 only \
         what was fetched before counts",
    )
}

/// A refusal to say anything of a model, or to send its file `path`, as an error.
pub fn refused(client: &Client<'_>, name: &Name, path: Option<&str>, refusal: &Refusal) -> Failure {
    let settings = client.settings;
    let (endpoint, repository) = (&settings.endpoint, &name.repository);
    let page = name.at(&name.revision).url();
    let has_token = settings.token.is_some();
    match (refusal.status, refusal.code.as_str()) {
        (_, "GatedRepo") if has_token => {
            let failure =
                user(format!("{name} is gated, and the account of your token has no access to it"));
            failure.hint(format!(
                "ask for access at {endpoint}/{page}, with the account whose token is in HF_TOKEN"
            ))
        }
        (_, "GatedRepo") => {
            let failure = user(format!(
                "{name} is gated: it is sent only to accounts that its owner has let in"
            ));
            failure.hint(format!(
                "accept its terms at {endpoint}/{page}, then set HF_TOKEN to a token of that \
                 account"
            ))
        }
        (401, _) if has_token && refusal.message.to_lowercase().contains("credentials") => {
            user(format!("{endpoint} does not accept your token"))
                .hint("set HF_TOKEN to one that is valid, or unset it and remove the token's file")
        }
        (404, "RevisionNotFound") => {
            let failure = user(format!("{repository} has no revision `{}`", name.revision));
            failure.hint(advice(&name.revision, revisions(client, name), "revisions"))
        }
        (404, "EntryNotFound") => {
            let what = path.unwrap_or("a file");
            user(format!("{name} has no {what} any more"))
                .hint("run again: the repository was changed meanwhile")
        }
        (401 | 404, _) => {
            let failure =
                user(format!("{endpoint} has no {} `{repository}` that you may see", name.noun()));
            let nearest =
                advice(repository, similar(client, name), &format!("{}s like it", name.noun()));
            let token = if has_token { "a token of an account that may see it" } else { "a token" };
            failure
                .hint(format!("{nearest}; for a private {}, set HF_TOKEN to {token}", name.noun()))
        }
        (403, _) => {
            let failure =
                user(format!("{endpoint} does not let you have {name}{}", because(refusal)));
            failure.hint("set HF_TOKEN to a token that has the right to read it")
        }
        (status, _) => {
            let failure = environment(format!(
                "{endpoint} refuses {}{name} with status {status}{}",
                file(path),
                because(refusal)
            ));
            failure.hint("see whether HF_ENDPOINT is the address of a hub")
        }
    }
}

fn file(path: Option<&str>) -> String {
    path.map(|path| format!("{path} of ")).unwrap_or_default()
}

fn because(refusal: &Refusal) -> String {
    if refusal.message.is_empty() { String::new() } else { format!(": {}", refusal.message) }
}

#[derive(Deserialize)]
struct Revisions {
    #[serde(default)]
    branches: Vec<Revision>,
    #[serde(default)]
    tags: Vec<Revision>,
}

#[derive(Deserialize)]
struct Revision {
    name: String,
}

/// The branches and tags of a repository; none if the hub does not say.
fn revisions(client: &Client<'_>, name: &Name) -> Vec<String> {
    let address =
        format!("{}/api/{}s/{}/refs", client.settings.endpoint, name.noun(), name.repository);
    let found: Option<Revisions> =
        client.ask(&address).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    found
        .into_iter()
        .flat_map(|found| found.branches.into_iter().chain(found.tags))
        .map(|found| found.name)
        .collect()
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// Repositories with a similar name; none if the hub does not say.
fn similar(client: &Client<'_>, name: &Name) -> Vec<String> {
    let own = name.repository.rsplit('/').next().unwrap_or_default();
    let address =
        format!("{}/api/{}s?search={own}&limit={OFFERED}", client.settings.endpoint, name.noun());
    let found: Option<Vec<Model>> =
        client.ask(&address).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    found.into_iter().flatten().map(|found| found.id).collect()
}

/// "did you mean `name`?" and the names, nearest first; something true if there are none.
fn advice(wrong: &str, mut right: Vec<String>, what: &str) -> String {
    right.sort_by_cached_key(|name| (strsim::damerau_levenshtein(wrong, name), name.clone()));
    right.truncate(OFFERED);
    match right.first() {
        None => "see whether its name is spelt right".into(),
        Some(nearest) => format!("did you mean `{nearest}`? {what}: {}", right.join(", ")),
    }
}

//! The provenance of a bundle's artefacts as W3C PROV-JSON (member submission of 24 April 2013):
//! artefacts and inputs are entities, the making of an artefact is an activity, the program an
//! agent.

use serde_json::{Map, Value, json};

use super::manifest::Manifest;
use crate::dag::digest::ContentHash;
use crate::dag::entry::Entry;
use crate::dag::record::{Record, date};

/// The namespace of names that PROV does not have.
const NAMESPACE: &str = "urn:posttrain:";

/// The document; `entries` are those of the manifest's nodes, in their order.
pub fn provenance(manifest: &Manifest, record: &Record, entries: &[&Entry]) -> Value {
    let (mut entities, mut activities) = (Map::new(), Map::new());
    let (mut used, mut generated, mut derived, mut associated) =
        (Map::new(), Map::new(), Map::new(), Map::new());
    let object = |id: &dyn std::fmt::Display| format!("object:{id}");
    let input = |content: &ContentHash| format!("input:{content}");
    for one in &manifest.inputs {
        let entity = json!({"prov:label": one.path, "prov:type": "posttrain:input"});
        entities.insert(input(&one.content), entity);
    }
    for (node, entry) in manifest.nodes.iter().zip(entries) {
        let entity = json!({
            "prov:label": node.name,
            "prov:type": format!("posttrain:{}", node.output),
            "posttrain:bytes": node.bytes,
        });
        entities.insert(object(&node.object), entity);
        let action = format!("action:{}", node.key);
        let mut activity = json!({
            "prov:label": node.name,
            "prov:endTime": iso(entry.finished_at),
            "posttrain:stage": node.stage,
            "posttrain:version": entry.preimage.version,
            "posttrain:numerics": node.numerics,
            "posttrain:seconds": entry.seconds,
            "posttrain:config": entry.preimage.config.to_string(),
        });
        if let Some(accepted) = &entry.accepted {
            activity["posttrain:accepted"] = json!(accepted.because);
        }
        activities.insert(action.clone(), activity);
        let link = |map: &mut Map<String, Value>, value: Value| {
            map.insert(format!("_:{}", map.len()), value);
        };
        let made = object(&node.object);
        link(&mut generated, json!({"prov:entity": made, "prov:activity": action}));
        link(&mut associated, json!({"prov:activity": action, "prov:agent": "posttrain:program"}));
        let needed = node.needs.iter().filter_map(|need| {
            let found = manifest.nodes.iter().find(|other| other.name == *need)?;
            Some(object(&found.object))
        });
        let read = manifest.inputs.iter().filter(|input| input.nodes.contains(&entry.node));
        for source in needed.chain(read.map(|one| input(&one.content))) {
            link(&mut used, json!({"prov:activity": action, "prov:entity": source}));
            link(
                &mut derived,
                json!({"prov:generatedEntity": made, "prov:usedEntity": source,
                    "prov:activity": action}),
            );
        }
    }
    let agent = json!({
        "prov:type": "prov:SoftwareAgent",
        "prov:label": format!("posttrain {}", manifest.program.version),
        "posttrain:build": manifest.program.build,
    });
    let bundle = json!({
        "prov:label": manifest.pipeline,
        "prov:type": "posttrain:run",
        "posttrain:command": manifest.command,
        "posttrain:pipeline_hash": record.invocation.pipeline_hash,
    });
    entities.insert(format!("run:{}", manifest.run), bundle);
    json!({
        "prefix": {
            "posttrain": NAMESPACE,
            "object": format!("{NAMESPACE}object:"),
            "action": format!("{NAMESPACE}action:"),
            "input": format!("{NAMESPACE}input:"),
            "run": format!("{NAMESPACE}run:"),
        },
        "entity": entities,
        "activity": activities,
        "agent": {"posttrain:program": agent},
        "used": used,
        "wasGeneratedBy": generated,
        "wasDerivedFrom": derived,
        "wasAssociatedWith": associated,
    })
}

/// A moment in seconds since 1970, as xsd:dateTime.
fn iso(seconds: u64) -> String {
    date(seconds).replacen(' ', "T", 1).replace(" UTC", "Z")
}

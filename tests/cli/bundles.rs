//! `export`, `import`, `verify`: a run as one file.

use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value;

use super::json::check;
use super::place::Place;

const STUDY: &str = "\
name: study
params: {word: hello}
stages:
  world: {uses: dataset, source: {world: {sft: 2, test: 2}}}
  greet:
    uses: command
    run: [sh, -c, 'cat $source > made; echo ${word} >> made']
    files: {source: source}
  twice: {uses: command, run: [sh, -c, 'cat {greet}/made {greet}/made > made'], inputs: {greet: greet}}
  draw: {uses: command, run: [sh, -c, 'echo same; od -An -N8 -tx1 /dev/urandom > made']}
";

/// A run, exported into `b.tar.zst`.
fn exported() -> Place {
    let place = Place::new(STUDY);
    place.write("source", "a line\n");
    assert_eq!(place.counts(&[]), (4, 0));
    let text = place.good(&["export", "latest", "b.tar.zst", "--json"]).out;
    check("export", &text);
    place
}

fn verify(place: &Place, more: &[&str], code: i32) -> Value {
    let said = place.say(&[&["verify", "b.tar.zst", "--json"], more].concat());
    assert_eq!(said.code, code, "{more:?}: {}{}", said.out, said.err);
    check("verify", &said.out);
    serde_json::from_str(&said.out).unwrap()
}

/// What becomes of a file of a bundle: other bytes, or none.
type Change<'a> = &'a dyn Fn(&str, Vec<u8>) -> Option<Vec<u8>>;

/// The files of a bundle, changed, as a bundle again.
fn changed(place: &Place, change: Change<'_>) {
    let bytes = std::fs::read(place.path("b.tar.zst")).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(&bytes[..]).unwrap());
    let mut changed = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if let Some(bytes) = change(&path, bytes) {
            append(&mut changed, &path, &bytes);
        }
    }
    let bytes = changed.into_inner().unwrap().finish().unwrap();
    std::fs::write(place.path("c.tar.zst"), bytes).unwrap();
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    // As it is, even where it leads elsewhere.
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    archive.append(&header, bytes).unwrap();
}

#[test]
fn an_exported_run_is_imported_elsewhere_and_nothing_is_made_again() {
    let place = exported();
    let again = place.good(&["export", "1", "again.tar.zst"]).out;
    assert!(again.contains("4 nodes of the run "), "{again}");
    let bytes = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert!(bytes("b.tar.zst") == bytes("again.tar.zst"), "the same run gives the same bytes");

    let other = ["--cache", "other"];
    let text = place.good(&[&["import", "b.tar.zst", "--json"], &other[..]].concat()).out;
    check("import", &text);
    let taken: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&taken["new"], &taken["record"]), (&4.into(), &true.into()), "{taken}");
    assert_eq!(place.counts(&other), (0, 4));
    let runs = place.good(&[&["runs"], &other[..]].concat()).out;
    assert!(runs.contains("2 runs in "), "{runs}");
    let taken = place.good(&[&["import", "b.tar.zst"], &other[..]].concat()).out;
    assert!(taken.contains("0 artefacts new, 4 there already"), "{taken}");
}

#[test]
fn a_stage_is_exported_with_what_it_needs_and_kinds_can_be_left_out() {
    let place = exported();
    let said = place.good(&["export", "twice", "part.tar.zst"]).out;
    assert!(said.contains(": 2 nodes of the run ") && said.contains("1 input by hash"), "{said}");
    let said = place.good(&["export", "latest", "b.tar.zst", "--without", "files"]).out;
    assert!(said.contains("the files of 3 are left out"), "{said}");
    let found = verify(&place, &[], 0);
    assert_eq!(found["nodes"], 4);
    let said = place.good(&["import", "b.tar.zst", "--cache", "other"]).out;
    assert!(said.contains("1 artefact new, 0 there already, 3 without files"), "{said}");
    for (arguments, words) in [
        (&["export", "latest", "x", "--without", "policy"][..], "no artefact of the kind `policy`"),
        (&["export", "gone", "x"], "there is no run `gone`"),
        (&["import", "p.yaml"], "p.yaml is no bundle"),
        (&["verify", "absent"], "absent"),
    ] {
        let said = place.say(arguments);
        assert_ne!(said.code, 0, "{arguments:?}");
        assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
    }
}

#[test]
fn stages_are_made_again_and_compared_byte_for_byte() {
    let place = exported();
    let found = verify(&place, &["--rebuild", "all"], 1);
    let rebuilt = found["rebuilt"].as_array().unwrap();
    let of = |name: &str| rebuilt.iter().find(|it| it["node"] == name).unwrap();
    for node in ["world", "greet", "twice"] {
        assert_eq!(of(node)["equal"], true, "{found}");
    }
    let differs = of("draw")["differs"].as_str().unwrap();
    assert!(differs.starts_with("`made` parts at line 1: "), "{differs}");
    assert_eq!(verify(&place, &["--rebuild", "twice"], 0)["ok"], true);

    // An input is known by its content, wherever it is.
    std::fs::rename(place.path("source"), place.path("moved")).unwrap();
    let found = verify(&place, &["--rebuild", "greet"], 1);
    let differs = found["rebuilt"][0]["differs"].as_str().unwrap();
    assert!(differs.contains("is not here") && differs.contains("--input PATH"), "{differs}");
    verify(&place, &["--rebuild", "greet", "--input", "moved"], 0);
    place.write("moved", "another line\n");
    verify(&place, &["--rebuild", "greet", "--input", "moved"], 1);
    let said = place.say(&["verify", "b.tar.zst", "--rebuild", "gone"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("the bundle has no stage `gone`"), "{}", said.err);
}

#[test]
fn every_change_of_a_bundle_is_found() {
    let place = exported();
    let flipped = |mut bytes: Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        bytes
    };
    let mut files = Vec::new();
    changed(&place, &|path, bytes| Some(if path == "none" { flipped(bytes) } else { bytes }));
    let whole = std::fs::read(place.path("c.tar.zst")).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(&whole[..]).unwrap());
    for entry in archive.entries().unwrap() {
        files.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert_eq!(place.say(&["verify", "c.tar.zst"]).code, 0);
    assert!(files.iter().filter(|file| file.starts_with("objects/")).count() >= 5, "{files:?}");
    for file in files.iter().filter(|file| *file != "manifest.json") {
        changed(&place, &|path, bytes| Some(if path == file { flipped(bytes) } else { bytes }));
        assert_eq!(place.say(&["verify", "c.tar.zst"]).code, 1, "a flipped bit in {file}");
        let said = place.say(&["import", "c.tar.zst", "--cache", "other"]);
        assert_eq!(said.code, 2, "{file}: {}", said.err);
        changed(&place, &|path, bytes| (path != file).then_some(bytes));
        assert_eq!(place.say(&["verify", "c.tar.zst"]).code, 1, "{file} is absent");
    }
    assert_eq!(std::fs::read_dir(place.path("other/v1/objects")).unwrap().count(), 0);
}

#[test]
fn a_bundle_leads_nowhere_else() {
    let place = exported();
    let manifest = |place: &Place| {
        let bytes = std::fs::read(place.path("b.tar.zst")).unwrap();
        let mut archive = tar::Archive::new(zstd::Decoder::new(&bytes[..]).unwrap());
        let mut first = archive.entries().unwrap().next().unwrap().unwrap();
        let mut bytes = Vec::new();
        first.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let with = |path: &str, manifest: &[u8]| {
        let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        append(&mut archive, "manifest.json", manifest);
        append(&mut archive, path, b"harm");
        let bytes = archive.into_inner().unwrap().finish().unwrap();
        std::fs::write(place.path("c.tar.zst"), bytes).unwrap();
    };
    let own = manifest(&place);
    for path in ["../harm", "/tmp/posttrain-harm", "objects/../../harm", "manifest.json"] {
        with(path, &own);
        let said = place.say(&["verify", "c.tar.zst"]);
        assert_eq!(said.code, 2, "{path}: {}", said.err);
        assert!(said.err.contains("c.tar.zst is no bundle"), "{path}: {}", said.err);
    }
    assert!(!place.path("harm").exists() && !Path::new("/tmp/posttrain-harm").exists());
    with("more", &own);
    assert_eq!(place.say(&["verify", "c.tar.zst"]).code, 1, "a file more");
    let later = String::from_utf8(own).unwrap().replace("\"format\": 1", "\"format\": 2");
    with("more", later.as_bytes());
    let said = place.say(&["verify", "c.tar.zst"]);
    assert!(said.err.contains("a bundle of the form 2"), "{}", said.err);
    let id = place.good(&["runs", "--json"]).out;
    let id: Value = serde_json::from_str(&id).unwrap();
    let id = id[0]["id"].as_str().unwrap();
    let own = String::from_utf8(manifest(&place)).unwrap();
    for run in ["../../../harm", "/tmp/posttrain-harm", ".", ""] {
        let named = own.replace(&format!("\"run\": \"{id}\""), &format!("\"run\": \"{run}\""));
        assert_ne!(named, own);
        with("more", named.as_bytes());
        let said = place.say(&["import", "c.tar.zst", "--cache", "other"]);
        assert_eq!(said.code, 2, "{run}: {}", said.err);
        assert!(said.err.contains("the id of its run cannot be one"), "{run}: {}", said.err);
    }
    // Cut off anywhere.
    let whole = std::fs::read(place.path("b.tar.zst")).unwrap();
    for part in [0, 1, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(place.path("c.tar.zst"), &whole[..part]).unwrap();
        assert_ne!(place.say(&["verify", "c.tar.zst"]).code, 0, "{part} bytes");
    }
}

#[test]
fn the_provenance_connects_every_artefact_with_what_it_is_made_of() {
    let place = exported();
    let bytes = std::fs::read(place.path("b.tar.zst")).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(&bytes[..]).unwrap());
    let mut text = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().as_ref() == Path::new("prov.json") {
            entry.read_to_string(&mut text).unwrap();
        }
    }
    let prov: Value = serde_json::from_str(&text).unwrap();
    let labelled = |kind: &str, label: &str| {
        let all = prov[kind].as_object().unwrap();
        all.iter().find(|(_, it)| it["prov:label"] == label).unwrap().0.clone()
    };
    let (greet, twice) = (labelled("entity", "greet"), labelled("entity", "twice"));
    let source =
        labelled("entity", &place.path("source").canonicalize().unwrap().display().to_string());
    let derived: Vec<(&str, &str)> = prov["wasDerivedFrom"]
        .as_object()
        .unwrap()
        .values()
        .map(|it| {
            let of = |name: &str| it[name].as_str().unwrap();
            (of("prov:generatedEntity"), of("prov:usedEntity"))
        })
        .collect();
    assert!(derived.contains(&(&twice, &greet)), "{derived:?}");
    assert!(derived.contains(&(&greet, &source)), "{derived:?}");
    assert_eq!(derived.len(), 2);
    assert_eq!(prov["wasGeneratedBy"].as_object().unwrap().len(), 4);
    let action = &prov["activity"][labelled("activity", "twice")];
    assert!(action["prov:endTime"].as_str().unwrap().ends_with('Z'), "{action}");
}

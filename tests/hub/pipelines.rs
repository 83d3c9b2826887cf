//! Models by name in pipelines, through the program: the language, keys, plans, progress, exit
//! codes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::server::{Fault, sha256};
use super::{PROGRAM, World, large, paths};

/// A pipeline that only needs a model's folder to be there.
const BASE: &str = "stages:\n  base:\n    uses: model\n    path: hub:tiny/base\n";

pub(super) struct Said {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl World {
    /// The program in a folder that holds this pipeline as `p.yaml`, with the hub and cache of this
    /// world.
    pub(super) fn program(
        &self,
        pipeline: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Said {
        std::fs::write(self.home().join("p.yaml"), pipeline).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(self.home()).stdin(Stdio::null());
        for name in [
            "POSTTRAIN_CACHE",
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_HOME", self.home())
            .env("HF_ENDPOINT", self.server.endpoint())
            .envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

#[test]
fn a_wrong_name_is_a_mistake_where_it_stands() {
    let world = World::new();
    let said = world.program(
        "stages:\n  base: {uses: model, path: \"hub:base\"}\n",
        &["plan", "p.yaml"],
        &[],
    );
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains(
            "p.yaml:2:29: `hub:base` does not name a model: it has no `/` between owner and name"
        ),
        "{}",
        said.err
    );
    assert!(
        said.err.contains("hint: write hub:owner/name, or hub:owner/name@revision"),
        "{}",
        said.err
    );
    // A field that takes a file does not take a model.
    let files = "stages:\n  x: {uses: command, run: [\"true\"], files: {f: \"hub:tiny/base\"}}\n";
    let said = world.program(files, &["plan", "p.yaml"], &[]);
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("expected a path, found `hub:tiny/base`, which names a model of the hub"),
        "{}",
        said.err
    );
    assert!(world.server.requests().is_empty());
}

#[test]
fn a_plan_downloads_nothing_and_says_what_it_waits_for() {
    let (world, _) = World::with_a_model();
    let pipeline =
        format!("{BASE}  after: {{uses: command, run: [\"true\"], inputs: {{base: base}}}}\n");
    let said = world.program(&pipeline, &["plan", "p.yaml"], &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    let lines: Vec<&str> = said.out.lines().collect();
    let expected = [
        "unknown  base   until hub:tiny/base is fetched",
        "unknown  after  until base finishes",
        "0 to run, 0 cached, 2 unknown until others finish",
    ];
    assert_eq!(lines, expected);
    assert_eq!(world.sent(), [""; 0]);
    assert!(!world.settings.cache.exists(), "nothing is written either");
    // Once it is here, a plan knows.
    world.fetch("hub:tiny/base").unwrap();
    let said = world.program(&pipeline, &["plan", "p.yaml"], &[]);
    assert!(said.out.starts_with("run      base   no `model` was made before\n"), "{}", said.out);
    // What cannot be is a mistake already in a plan.
    let said = world.program(&BASE.replace("base\n", "bass\n"), &["plan", "p.yaml"], &[]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("did you mean `tiny/base`?"), "{}", said.err);
    // And a hub that is away is none.
    world.server.down(true);
    let said = world.program(&BASE.replace("base\n", "base@v2\n"), &["plan", "p.yaml"], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("until hub:tiny/base@v2 is fetched") && said.err.contains("warning: "),
        "{}{}",
        said.out,
        said.err
    );
}

#[test]
fn the_example_of_the_documentation_is_planned() {
    let world = World::new();
    world.server.commit("HuggingFaceTB/SmolLM2-135M", &super::model());
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipeline.md")).unwrap();
    let example = text.split("```yaml hub\n").nth(1).unwrap().split("```").next().unwrap();
    let said = world.program(example, &["plan", "p.yaml"], &[]);
    assert!(
        said.code == 0
            && said
                .out
                .starts_with("unknown  base  until hub:HuggingFaceTB/SmolLM2-135M is fetched\n"),
        "{}",
        said.err
    );
}

#[test]
fn the_resolved_pipeline_keeps_the_name_and_asks_nobody() {
    let world = World::new();
    let said =
        world.program(&BASE.replace("base\n", "base@v1\n"), &["plan", "p.yaml", "--resolved"], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("path: hub:tiny/base@v1\n"), "{}", said.out);
    assert!(world.server.requests().is_empty());
}

#[test]
fn the_environment_and_exit_codes_are_those_of_the_hubs_tools() {
    let (world, _) = World::with_a_model();
    world.server.with("tiny/base", |repository| repository.gated = true);
    let run = |variables: &[(&str, &str)]| world.program(BASE, &["run", "p.yaml"], variables);
    let said = run(&[]);
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("error: in the stage `base`: hub:tiny/base is gated")
            && said.err.contains("set HF_TOKEN"),
        "{}",
        said.err
    );
    let said = run(&[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("is not in the cache")
            && said.err.contains("run once without HF_HUB_OFFLINE"),
        "{}",
        said.err
    );
    world.server.fail("model.safetensors", Fault::Flip);
    let said = run(&[("HF_TOKEN", "hf_right")]);
    assert_eq!(said.code, 3);
    assert!(said.err.contains("model.safetensors of hub:tiny/base came damaged"), "{}", said.err);
    // The token of the file; then it fails, for it is no model that runs, but it has been fetched.
    std::fs::write(world.home().join("token"), "hf_right\n").unwrap();
    let said = run(&[]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("fetching hub:tiny/base model.safetensors  300 kB of 300 kB\n"),
        "{}",
        said.err
    );
    let blob = |cache: &str| {
        world.home().join(cache).join("models--tiny--base/blobs").join(sha256(&large(1)))
    };
    assert!(blob("hub").exists());
    run(&[("HF_HUB_CACHE", "elsewhere")]);
    assert!(blob("elsewhere").exists());
}

#[test]
fn progress_is_one_json_object_a_line_where_that_is_asked_for() {
    let (world, _) = World::with_a_model();
    let said = world.program(BASE, &["run", "p.yaml", "--log", "json"], &[]);
    let events: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fetched = events
        .iter()
        .filter(|event| event["event"] == "fetching" && event["done"] == event["total"]);
    assert_eq!(fetched.filter(|event| event["model"] == "hub:tiny/base").count(), 5);
    world.server.down(true);
    let said = world.program(
        &BASE.replace("base\n", "base@v2\n"),
        &["run", "p.yaml", "--log", "json"],
        &[],
    );
    assert_eq!(said.code, 3);
    let first: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    assert!(first["event"] == "error" && first["exit_code"] == 3, "{first}");
}

/// A model that runs, made by the program itself.
fn trained(world: &World) -> PathBuf {
    let pipeline = "\
stages:
  world: {uses: dataset, source: {world: {notes: 10, pretrain: 10, sft: 5, compare: 5, prompts: 5, validation: 0, test: 5}}}
  tokenizer: {uses: tokenizer, dataset: world, vocabulary: 300}
  base:
    uses: pretrain
    dataset: world
    tokenizer: tokenizer
    phases: [notes]
    batch_size: 8
    model: {width: 16, layers: 1, heads: 2, feed_forward: 32, context: 512}
    optimiser: {learning_rate: 1e-3}
";
    let said = world.program(pipeline, &["run", "p.yaml"], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    let shown: Value = serde_json::from_str(
        &world.program(pipeline, &["show", "p.yaml", "base", "--json"], &[]).out,
    )
    .unwrap();
    PathBuf::from(shown[0]["path"].as_str().unwrap())
}

#[test]
fn bytes_are_what_counts_and_not_where_they_came_from() {
    let world = World::new();
    let folder = trained(&world);
    let wanted = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let held: Vec<String> =
        paths(&folder).into_iter().filter(|path| wanted.contains(&path.as_str())).collect();
    assert!(
        held.contains(&"model.safetensors".to_owned())
            && held.contains(&"tokenizer.json".to_owned()),
        "{held:?}"
    );
    let files: Vec<(String, Vec<u8>)> = held
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(folder.join(path)).unwrap()))
        .collect();
    let mut files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    for (path, bytes) in &files {
        std::fs::create_dir_all(world.home().join("own")).unwrap();
        std::fs::write(world.home().join("own").join(path), bytes).unwrap();
    }
    files.push(("README.md", b"# of no account"));
    let commit = world.server.commit("tiny/base", &files);
    files.push(("NOTICE", b"of no account either"));
    world.server.commit("other/copy", &files);
    let run = |path: &str| {
        let said = world.program(
            &BASE.replace("hub:tiny/base", path),
            &["run", "p.yaml", "--log", "json"],
            &[],
        );
        let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
        assert!(said.code == 0 && last["ok"] == true, "{}{}", said.out, said.err);
        (last["ran"].as_u64().unwrap(), last["cached"].as_u64().unwrap())
    };
    assert_eq!(run("hub:tiny/base"), (1, 0));
    for same in ["hub:tiny/base@main", &format!("hub:tiny/base@{commit}"), "hub:other/copy", "own"]
    {
        assert_eq!(run(same), (0, 1), "{same}");
    }
    // Another tool adds to the snapshot.
    std::fs::write(world.shelf(&format!("snapshots/{commit}/README.md")), "# of no account")
        .unwrap();
    assert_eq!(run("hub:tiny/base"), (0, 1));
    // Other weights are another model.
    let at = files.iter().position(|(path, _)| *path == "tokenizer.json").unwrap();
    let changed = [files[at].1, b"\n"].concat();
    files[at].1 = &changed;
    world.server.commit("tiny/base", &files);
    assert_eq!(run("hub:tiny/base"), (1, 0));
    assert_eq!(run(&format!("hub:tiny/base@{commit}")), (0, 1));
}

#[test]
fn a_recipe_is_planned_without_a_network() {
    let world = World::new();
    world.server.down(true);
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/recipes/nplus.yaml");
    let said = world.program(BASE, &["plan", recipe, "--set", "size=1b", "news"], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("until hub:") && said.err.contains("warning: "), "{}", said.out);
}

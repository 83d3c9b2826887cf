//! Random graphs, random edits and random damage against a model that rebuilds everything from
//! nothing, and that predicts what needs to run. 48 graphs by default, some seconds;
//! `POSTTRAIN_FUZZ_CASES=5000` for a night.

use std::collections::HashSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posttrain::dag::gc::gc;
use posttrain::dag::object_store::Integrity;
use posttrain::dag::record::Ending;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// One node of the model. What it is made from are earlier nodes.
#[derive(Clone, Debug)]
struct Part {
    name: String,
    text: u8,
    keep: u8,
    from: Vec<usize>,
    reads: Option<usize>,
}

/// All that decides what a node makes, in the model's own terms.
type Key = (u8, u8, Vec<String>, Option<u8>);

struct Model {
    bench: Bench,
    parts: Vec<Part>,
    inputs: [u8; 2],
    backwards: bool,
    entries: HashSet<Key>,
    objects: HashSet<String>,
    /// The result of the latest run.
    latest: Vec<(Key, String)>,
}

impl Model {
    fn new(shape: &[(u8, u8, u8, u8)]) -> Self {
        let part = |(index, &(text, keep, from, reads)): (usize, &(u8, u8, u8, u8))| Part {
            name: format!("n{index}"),
            text: text % 3,
            keep: keep % 3,
            from: (0..index).filter(|at| at < &8 && from >> at & 1 == 1).collect(),
            reads: (reads % 4 < 2).then_some(usize::from(reads % 4)),
        };
        let parts = shape.iter().enumerate().map(part).collect();
        let model = Model {
            bench: Bench::new(),
            parts,
            inputs: [0, 0],
            backwards: false,
            entries: HashSet::new(),
            objects: HashSet::new(),
            latest: Vec::new(),
        };
        model.write_inputs();
        model
    }

    fn input(&self, at: usize) -> PathBuf {
        self.bench.folder.path().join(format!("input{at}"))
    }

    fn write_inputs(&self) {
        self.inputs.iter().enumerate().for_each(|(at, input)| {
            std::fs::write(self.input(at), input.to_string()).expect("writable")
        });
    }

    fn graph(&self) -> Graph {
        let node = |part: &Part| {
            let from: Vec<&str> =
                part.from.iter().map(|&at| self.parts[at].name.as_str()).collect();
            let mut node = node(&part.name, &part.text.to_string(), &from);
            if part.keep > 0 {
                node.config["keep"] = json!(part.keep);
            }
            if let Some(at) = part.reads {
                node.config["reads"] = json!({ "$input": self.input(at) });
            }
            node
        };
        let mut graph = graph(self.parts.iter().map(node));
        if self.backwards {
            graph.nodes.reverse();
        }
        graph
    }

    /// The key and the output of every part, each made from nothing.
    fn rebuild(&self) -> Vec<(Key, String)> {
        let mut made: Vec<(Key, String)> = Vec::new();
        for part in &self.parts {
            let read = part.reads.map(|at| self.inputs[at]);
            let from: Vec<String> = part.from.iter().map(|&at| made[at].1.clone()).collect();
            let mut output = part.text.to_string();
            for text in &from {
                let keep =
                    if part.keep > 0 { text.len().min(part.keep.into()) } else { text.len() };
                output += &format!("({})", &text[..keep]);
            }
            output += &read.map(|read| read.to_string()).unwrap_or_default();
            made.push(((part.text, part.keep, from, read), output));
        }
        made
    }

    fn hit(&self, (key, output): &(Key, String)) -> bool {
        self.entries.contains(key) && self.objects.contains(output)
    }

    /// The keys that a run makes, which nodes are cached in a plan, and which keys a plan knows
    /// will be made. Of two keys that have lost the object that they share, making one may bring
    /// the other back.
    fn predict(&self) -> (HashSet<Key>, HashSet<String>, HashSet<Key>) {
        let made = self.rebuild();
        let (mut run, mut cached, mut planned) = (HashSet::new(), HashSet::new(), HashSet::new());
        for (part, node) in self.parts.iter().zip(&made) {
            let known = part.from.iter().all(|&at| cached.contains(&self.parts[at].name));
            match self.hit(node) {
                true if known => {
                    cached.insert(part.name.clone());
                }
                true => {}
                false => {
                    run.insert(node.0.clone());
                    if known {
                        planned.insert(node.0.clone());
                    }
                }
            }
        }
        (run, cached, planned)
    }

    fn edit(&mut self, (what, at, value): (u8, u8, u8)) {
        let at = usize::from(at) % self.parts.len();
        match what % 14 {
            0 => self.parts[at].text = value % 3,
            1 => self.parts[at].keep = value % 3,
            2 => {
                self.parts[at].from =
                    (0..at).filter(|from| from < &8 && value >> from & 1 == 1).collect()
            }
            3 => {
                self.inputs[usize::from(value) % 2] = value / 2 % 3;
                self.write_inputs();
            }
            4 => self.parts[at].name = format!("renamed{value}-{at}"),
            5 => self.backwards = !self.backwards,
            6 => {
                gc(&self.bench.store(), false).expect("there is no run");
                // Every run looks at every node, so the latest one says what is kept.
                let (keys, outputs): (HashSet<Key>, HashSet<String>) =
                    self.latest.iter().cloned().unzip();
                self.entries.retain(|key| keys.contains(key));
                self.objects.retain(|output| outputs.contains(output));
            }
            7 => self.write_inputs_in_disguise(value),
            8 => self.move_inputs(value),
            9 => self.damage_entry(at, value),
            10 => self.litter(at, value),
            _ => self.damage_object(at, value),
        }
    }

    /// Other bytes of the same size under the old modification time, or the same bytes under
    /// another.
    fn write_inputs_in_disguise(&mut self, value: u8) {
        let time = |at| {
            self.input(at).metadata().and_then(|metadata| metadata.modified()).expect("it is there")
        };
        let times = [time(0), time(1)];
        if value.is_multiple_of(2) {
            self.inputs[usize::from(value / 2) % 2] = value / 4 % 3;
            self.write_inputs();
            (0..2).for_each(|at| set_modified(&self.input(at), times[at]));
        } else {
            let far = if value % 4 == 1 {
                UNIX_EPOCH
            } else {
                SystemTime::now() + Duration::from_secs(1 << 30)
            };
            set_modified(&self.input(0), far);
        }
    }

    /// The two files change places; or one becomes a link to itself elsewhere, or a plain file
    /// again.
    fn move_inputs(&mut self, value: u8) {
        let (one, two, aside) =
            (self.input(0), self.input(1), self.bench.folder.path().join(format!("aside{value}")));
        let rename = |from: &Path, to: &Path| std::fs::rename(from, to).expect("ours");
        match value % 3 {
            0 => {
                rename(&one, &aside);
                rename(&two, &one);
                rename(&aside, &two);
                self.inputs.swap(0, 1);
            }
            1 => {
                let bytes = std::fs::read(&one).expect("there");
                std::fs::remove_file(&one).expect("ours");
                std::fs::write(&aside, bytes).expect("writable");
                symlink(&aside, &one).expect("a link");
            }
            _ => {
                std::fs::remove_file(&one).expect("ours");
                self.write_inputs();
            }
        }
    }

    /// The entry of a node that is there is damaged.
    fn damage_entry(&mut self, at: usize, value: u8) {
        let name = self.parts[at].name.clone();
        let plan = self.bench.plan(&self.graph());
        let step = plan.steps.iter().find(|step| step.name == name).expect("it is in the plan");
        let State::Cached { key, object } = &step.state else { return };
        let path = self.bench.root().join(format!("v1/actions/{key}.json"));
        let text = std::fs::read_to_string(&path).expect("it is there");
        match value % 5 {
            0 => std::fs::remove_file(&path).expect("ours"),
            1 => std::fs::write(&path, "").expect("writable"),
            2 => std::fs::write(&path, &text[..text.len() / 2]).expect("writable"),
            3 => std::fs::write(&path, text.replace(&key.to_string(), &"0".repeat(64)))
                .expect("writable"),
            _ => std::fs::write(&path, text.replace(&object.to_string(), &"1".repeat(64)))
                .expect("writable"),
        }
        self.entries.remove(&self.rebuild()[at].0);
    }

    /// What dead runs leave, and what is only remembered: none of it may count.
    fn litter(&self, at: usize, value: u8) {
        let root = self.bench.root().join("v1");
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("writable");
            std::fs::write(path, text).expect("writable");
        };
        match value % 4 {
            0 => {
                for folder in ["stat/objects", "stat/inputs"] {
                    let names = posttrain::fs::list(&root.join(folder)).expect("readable");
                    names.iter().for_each(|name| write(root.join(folder).join(name), "garbled"));
                }
            }
            1 => {
                let step = &self.bench.plan(&self.graph()).steps[at];
                if let State::Run { key, .. } = &step.state {
                    let attempt = root.join(format!("work/{key}/{}", u32::from(value)));
                    write(attempt.join("lease"), "a run that is gone");
                    write(attempt.join("out/half"), "half");
                    write(attempt.join("log"), "words");
                }
            }
            2 => write(root.join(format!("work/.new-{value}/out/half")), "half"),
            _ => write(root.join(format!("locks/object-{value}")), ""),
        }
    }

    /// The object that a node would have is damaged, if it is there.
    fn damage_object(&mut self, at: usize, value: u8) {
        let output = self.rebuild()[at].1.clone();
        if !self.objects.remove(&output) {
            return;
        }
        let folder = self.object_of(&output);
        let file = folder.join("file");
        let overwrite = |text: &str| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("ours");
            std::fs::write(&file, text).expect("writable");
        };
        match value % 8 {
            0 => posttrain::fs::remove_all(&folder).expect("ours"),
            1 => std::fs::write(folder.join("more"), "").expect("ours"),
            2 => overwrite(&format!("~{}", &output[1..])),
            3 => overwrite(""),
            4 => std::fs::remove_file(&file).expect("ours"),
            5 => symlink("/etc/hostname", folder.join("link")).expect("a link"),
            6 => {
                posttrain::fs::remove_all(&folder).expect("ours");
                std::fs::write(&folder, "a file").expect("writable");
            }
            _ => {
                let elsewhere = self.bench.folder.path().join(format!("object{value}"));
                posttrain::fs::remove_all(&elsewhere).expect("ours");
                std::fs::rename(&folder, &elsewhere).expect("ours");
                symlink(&elsewhere, &folder).expect("a link");
            }
        }
    }

    fn object_of(&self, output: &str) -> PathBuf {
        let objects = self.bench.root().join("v1/objects");
        let names = posttrain::fs::list(&objects).expect("readable");
        let path = names.iter().map(|name| objects.join(name)).find(|path| {
            std::fs::read_to_string(path.join("file")).is_ok_and(|text| text == output)
        });
        path.expect("the model says that it is there")
    }

    /// Plans, runs (twice at once, if `twice`) and compares with what was predicted.
    fn check(&mut self, twice: bool) {
        let graph = self.graph();
        let (run, cached, planned) = self.predict();
        let plan = self.bench.plan(&graph);
        let of = |letter: fn(&State) -> bool| {
            plan.steps
                .iter()
                .filter(|step| letter(&step.state))
                .map(|step| step.name.clone())
                .collect::<HashSet<_>>()
        };
        assert_eq!(
            of(|state| matches!(state, State::Cached { .. })),
            cached,
            "what the plan calls cached"
        );
        assert_eq!(
            of(|state| matches!(state, State::Run { .. })).len(),
            planned.len(),
            "what the plan says will run"
        );

        let calls = Calls::default();
        let hook = |text: &str, _: &Context| {
            calls.note(text);
            Ok(())
        };
        let runs: Vec<Ran> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..1 + usize::from(twice))
                .map(|_| scope.spawn(|| self.bench.run_with(&graph, &hook)))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let lost = run.iter().filter(|key| self.entries.contains(key)).count();
        let expected = run.len() - lost..=run.len();
        assert!(
            expected.contains(&calls.list().len()),
            "every key that is needed is made once: {:?} of {expected:?}",
            calls.list()
        );
        let made = self.rebuild();
        for ran in &runs {
            for (part, (_, output)) in self.parts.iter().zip(&made) {
                assert_eq!(
                    &self.bench.text(ran, &part.name),
                    output,
                    "{} is what a rebuild makes",
                    part.name
                );
                let ending = ran.node(&part.name).ending;
                assert!(
                    ending == Ending::Cached
                        || (ending == Ending::Ran && !cached.contains(&part.name))
                );
            }
        }
        let ran: usize = runs.iter().map(|ran| ran.outcome.count(Ending::Ran)).sum();
        assert_eq!(ran, calls.list().len());
        let store = self.bench.store();
        for node in &runs[0].outcome.nodes {
            assert_eq!(
                store.recheck_object(node.object.expect("made")).expect("readable"),
                Integrity::Sound
            );
        }
        let again = self.bench.plan(&graph);
        assert!(
            again.steps.iter().all(|step| matches!(step.state, State::Cached { .. })),
            "what was run is there: {again:?}"
        );
        let (keys, outputs): (Vec<Key>, Vec<String>) = made.iter().cloned().unzip();
        self.entries.extend(keys);
        self.objects.extend(outputs);
        self.latest = made;
    }
}

fn set_modified(path: &Path, time: SystemTime) {
    std::fs::File::options()
        .write(true)
        .open(path)
        .expect("there")
        .set_modified(time)
        .expect("ours");
}

fn cases() -> u32 {
    std::env::var("POSTTRAIN_FUZZ_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn any_edits_end_in_what_a_rebuild_makes_and_run_no_more_than_they_must(
        shape in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 1..9),
        edits in prop::collection::vec((prop::collection::vec(any::<(u8, u8, u8)>(), 0..3),
            any::<bool>(), 1..4usize), 1..8),
    ) {
        let mut model = Model::new(&shape);
        model.check(false);
        for (edits, twice, jobs) in edits {
            (model.bench.options.jobs, model.bench.options.threads) = (jobs, jobs);
            edits.into_iter().for_each(|edit| model.edit(edit));
            model.check(twice);
        }
    }
}

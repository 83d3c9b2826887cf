//! Objects that are kept elsewhere too: artefacts are copied to this host when a node needs them.

use std::sync::Arc;

use posttrain::dag::digest::ObjectId;
use posttrain::dag::object_folder::ObjectFolder;
use posttrain::dag::object_store::{Integrity, ObjectStore};
use posttrain::dag::record::Ending;

use super::*;

/// Objects of this host, and the same objects elsewhere.
struct Mirror {
    here: PathBuf,
    elsewhere: PathBuf,
    /// What was copied to this host.
    fetched: Arc<Mutex<Vec<ObjectId>>>,
}

impl Mirror {
    fn here(&self) -> ObjectFolder {
        ObjectFolder::new(self.here.clone())
    }

    fn elsewhere(&self) -> ObjectFolder {
        ObjectFolder::new(self.elsewhere.clone())
    }
}

/// Copies an object from one folder to another.
fn copy(object: ObjectId, from: &ObjectFolder, to: &Path) -> Result<()> {
    let attempt = to.join("work").join(object.to_string());
    for folder in ["objects", "stat/objects", "locks"].map(|name| to.join(name)) {
        posttrain::fs::create_dir_all(&folder)?;
    }
    posttrain::fs::create_dir_all(&attempt.join("out"))?;
    for name in posttrain::fs::list(&from.object_path(object))? {
        std::fs::copy(from.object_path(object).join(&name), attempt.join("out").join(&name))?;
    }
    assert_eq!(ObjectFolder::new(to.to_owned()).put(&attempt)?, object);
    posttrain::fs::remove_all(&attempt)
}

impl ObjectStore for Mirror {
    fn has(&self, object: ObjectId) -> Result<Integrity> {
        match self.here().has(object)? {
            Integrity::Absent => self.elsewhere().has(object),
            known => Ok(known),
        }
    }

    fn get(&self, object: ObjectId) -> Result<PathBuf> {
        if self.here().has(object)? == Integrity::Absent {
            copy(object, &self.elsewhere(), &self.here)?;
            self.fetched.lock().expect("no one panics").push(object);
        }
        self.here().get(object)
    }

    fn put(&self, attempt: &Path) -> Result<ObjectId> {
        let object = self.here().put(attempt)?;
        copy(object, &self.here(), &self.elsewhere)?;
        Ok(object)
    }

    fn set_aside(&self, object: ObjectId) -> Result<Option<PathBuf>> {
        self.here().set_aside(object)
    }
}

#[test]
fn what_is_elsewhere_counts_as_made_and_is_copied_when_a_node_needs_it() {
    let bench = Bench::new();
    let fetched = Arc::new(Mutex::new(Vec::new()));
    let run = |graph: &Graph| {
        let mirror = Mirror {
            here: bench.root().join("v1"),
            elsewhere: bench.folder.path().join("elsewhere"),
            fetched: fetched.clone(),
        };
        let store = bench.store().with_objects(Box::new(mirror));
        let (mut seen, executor) =
            (Seen::default(), InProcessExecutor(&Toy { hook: &|_, _| Ok(()) }));
        let outcome = run(&store, request(graph), &bench.options, &executor, &mut seen, None);
        Ran { outcome: outcome.expect("the run itself goes well"), seen }
    };
    let first = run(&chain());
    assert_eq!(first.ran().len(), 4);
    for folder in ["objects", "stat/objects"] {
        posttrain::fs::remove_all(&bench.root().join("v1").join(folder)).expect("ours");
    }
    assert_eq!(bench.states(&chain()), "a:r b:u c:u d:r", "the folder of this host is empty");
    let mut edited = chain();
    edited.nodes[2].config["text"] = json!("E");
    let second = run(&edited);
    assert_eq!((second.ran(), second.ended(Ending::Cached)), (vec!["c"], vec!["a", "b", "d"]));
    assert_eq!(bench.text(&second, "c"), "E(B(A))");
    let needed = first.node("b").object.expect("made");
    assert_eq!(*fetched.lock().expect("no one panics"), [needed], "nothing else is copied");
}

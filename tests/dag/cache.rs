//! What runs and what does not: hits, early cut-off, plans, explanations, orphans, garbage.

use posttrain::dag::explain::{Explanation, add_reasons, explain};
use posttrain::dag::gc::{gc, gc_with_records};
use posttrain::dag::key::Preimage;
use posttrain::dag::plan::{State, plan};
use posttrain::dag::record::Ending;
use posttrain::dag::request::Request;
use serde_json::json;

use super::*;

fn explain_one(
    store: &Store,
    request: Request<'_>,
    name: &str,
) -> posttrain::error::Result<Explanation> {
    Ok(explain(store, request, &[name.to_owned()])?.remove(0))
}

#[test]
fn the_second_run_runs_nothing() {
    let bench = Bench::new();
    let first = bench.run(&chain());
    assert_eq!(first.ran(), ["a", "b", "c", "d"]);
    assert_eq!(bench.text(&first, "c"), "C(B(A))");
    let second = bench.run(&chain());
    assert_eq!(second.outcome.count(Ending::Cached), 4);
    assert!(second.seen.started.is_empty());
    assert_eq!(second.node("c").object, first.node("c").object);
    bench.assert_sound();
}

#[test]
fn an_edit_reruns_what_it_touches_and_going_back_reruns_nothing() {
    let bench = Bench::new();
    bench.run(&chain());
    let mut edited = chain();
    edited.nodes[1].config["text"] = json!("B2");
    assert_eq!(bench.run(&edited).ran(), ["b", "c"]);
    assert_eq!(bench.run(&chain()).ran(), [] as [&str; 0]);
}

#[test]
fn a_new_version_a_new_field_and_other_numerics_rerun() {
    let bench = Bench::new();
    let mut graph = graph([node("a", "A", &[])]);
    bench.run(&graph);
    graph.nodes[0].version = 2;
    assert_eq!(bench.run(&graph).ran(), ["a"]);
    graph.nodes[0].config["new"] = json!(null);
    assert_eq!(bench.run(&graph).ran(), ["a"]);
    let other =
        Request { numerics: Numerics { device: Some("other"), host: "host" }, ..request(&graph) };
    assert!(matches!(
        plan(&bench.store(), other).expect("sound").steps[0].state,
        State::Run { .. }
    ));
}

#[test]
fn a_rename_a_new_order_and_other_resources_rerun_nothing() {
    let bench = Bench::new();
    bench.run(&chain());
    let mut other = graph([
        node("z", "D", &[]),
        node("y", "C", &["x"]),
        node("x", "B", &["w"]),
        node("w", "A", &[]),
    ]);
    other.nodes.iter_mut().for_each(|node| node.resources.threads = None);
    assert_eq!(bench.states(&other), "z:c w:c x:c y:c");
    assert_eq!(bench.run(&other).outcome.count(Ending::Cached), 4);
}

#[test]
fn identical_output_cuts_the_rerun_off_early() {
    let bench = Bench::new();
    let build = |a: &str| {
        let mut middle = node("b", "B", &["a"]);
        middle.config["keep"] = json!(1);
        graph([node("a", a, &[]), middle, node("c", "C", &["b"])])
    };
    bench.run(&build("same start"));
    let edited = build("same end");
    assert_eq!(bench.states(&edited), "a:r b:u c:u");
    let ran = bench.run(&edited);
    assert_eq!(ran.ran(), ["a", "b"]);
    assert_eq!(ran.ended(Ending::Cached), ["c"]);
}

#[test]
fn a_plan_has_three_states_and_the_run_keeps_to_it() {
    let bench = Bench::new();
    assert_eq!(bench.states(&chain()), "a:r b:u c:u d:r");
    assert!(!bench.root().exists(), "a plan makes no folder");
    bench.run(&chain());
    assert_eq!(bench.states(&chain()), "a:c b:c c:c d:c");
    let mut edited = chain();
    edited.nodes[1].config["text"] = json!("B2");
    let planned = bench.plan(&edited);
    assert_eq!(bench.states(&edited), "a:c b:r c:u d:c");
    assert_eq!(
        planned.steps[2].state,
        State::Unknown { until: vec!["b".into()], needs_device: false }
    );
    let ran = bench.run(&edited);
    for step in &planned.steps {
        let node = ran.node(&step.name);
        match &step.state {
            State::Run { key, .. } => {
                assert_eq!((node.ending, node.key), (Ending::Ran, Some(*key)))
            }
            State::Cached { key, object } | State::Remote { key, object } => {
                assert_eq!(
                    (node.ending, node.key, node.object),
                    (Ending::Cached, Some(*key), Some(*object))
                );
            }
            State::Unknown { .. } => assert!(matches!(node.ending, Ending::Ran | Ending::Cached)),
        }
    }
}

#[test]
fn targets_run_with_what_they_need_and_nothing_else() {
    let bench = Bench::new();
    let (graph, targets) = (chain(), ["b".to_string()]);
    let request = Request { targets: &targets, ..request(&graph) };
    let toy = Toy { hook: &|_, _| Ok(()) };
    let outcome = run(
        &bench.store(),
        request,
        &bench.options,
        &InProcessExecutor(&toy),
        &mut Seen::default(),
        None,
    )
    .expect("goes well");
    let names: Vec<&str> = outcome.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn two_nodes_of_the_same_key_run_once() {
    let bench = Bench::new();
    let twins = graph([
        node("a", "A", &[]),
        node("twin", "A", &[]),
        node("b", "B", &["a"]),
        node("c", "B", &["twin"]),
    ]);
    assert_eq!(bench.states(&twins), "a:r twin:u b:u c:u");
    let calls = Calls::default();
    let ran = bench.run_with(&twins, &|text, _| {
        calls.note(text);
        std::thread::sleep(std::time::Duration::from_millis(30));
        Ok(())
    });
    assert_eq!(calls.list(), ["A", "B"]);
    assert_eq!((ran.outcome.count(Ending::Ran), ran.outcome.count(Ending::Cached)), (2, 2));
}

#[test]
fn a_reason_names_the_field_with_its_old_and_new_value() {
    let bench = Bench::new();
    let mut edited = chain();
    edited.nodes[1].config["deep"] = json!({ "rate": [0.1, 0.2] });
    bench.run(&edited);
    edited.nodes[1].config["deep"] = json!({ "rate": [0.1, 0.3] });
    edited.nodes[0].config["extra"] = json!(true);
    let mut planned = bench.plan(&edited);
    add_reasons(&bench.store(), request(&edited), &mut planned).expect("readable");
    let State::Run { reasons, .. } = &planned.steps[0].state else { panic!("a runs") };
    assert_eq!(reasons, &["`extra` is new: true"]);
    bench.run(&edited);
    edited.nodes[1].config["deep"] = json!({ "rate": [0.1, 0.4] });
    let why = explain_one(&bench.store(), request(&edited), "b").expect("readable");
    assert_eq!(why.differences.len(), 1, "{why:?}");
    let difference = &why.differences[0];
    assert_eq!(
        (difference.field.as_str(), &difference.old, &difference.new),
        ("deep.rate[1]", &Some(json!(0.3)), &Some(json!(0.4)))
    );
    assert_eq!(why.earlier.expect("there is one").node, "b");
    assert!(
        matches!(&why.state, State::Run { reasons, .. } if reasons == &["`deep.rate[1]` was 0.3, \
            is 0.4"])
    );
}

#[test]
fn an_explanation_names_the_upstream_node_that_changed_or_has_not_run() {
    let bench = Bench::new();
    bench.run(&chain());
    let mut edited = chain();
    edited.nodes[0].config["text"] = json!("A2");
    let why = explain_one(&bench.store(), request(&edited), "b").expect("readable");
    assert_eq!(why.differences[0].to_string(), "`from[0]` depends on `a`, which is not there yet");
    bench.run(&edited);
    let why = explain_one(&bench.store(), request(&edited), "b").expect("readable");
    assert_eq!(why.differences.len(), 1);
    assert_eq!(why.differences[0].to_string(), "`from[0]`: `a` has other content");
    assert!(explain_one(&bench.store(), request(&edited), "nobody").is_err());
}

#[test]
fn one_more_sweep_value_runs_one_node_and_one_less_is_listed_as_orphan() {
    let bench = Bench::new();
    let sweep = |values: &[u32]| {
        let member = |value: &u32| node(&format!("m[x={value}]"), &format!("M{value}"), &["base"]);
        graph([node("base", "B", &[])].into_iter().chain(values.iter().map(member)))
    };
    bench.run(&sweep(&[1, 2]));
    assert_eq!(bench.run(&sweep(&[1, 2, 3])).ran(), ["m[x=3]"]);
    let less = bench.run(&sweep(&[1, 3]));
    assert!(less.ran().is_empty());
    let orphans: Vec<&str> =
        less.outcome.orphans.iter().map(|orphan| orphan.name.as_str()).collect();
    assert_eq!(orphans, ["m[x=2]"]);
    assert_eq!(less.outcome.orphans[0].bytes, "M2(B)".len() as u64);
    let names: Vec<String> = sweep(&[1, 3]).nodes.into_iter().map(|node| node.name).collect();
    assert_eq!(
        bench.store().orphans(&bench.options.invocation, &names).expect("readable"),
        less.outcome.orphans
    );
}

/// What is derived of an object is in no digest, and goes with it.
#[test]
fn what_was_derived_goes_with_its_object() {
    let bench = Bench::new();
    let run = bench.run(&chain());
    let objects = ["c", "b"].map(|name| run.node(name).object.expect("it was made"));
    for object in objects {
        bench.store().derived(object, "length 1", || Ok(7)).expect("it derives");
        let again = bench.store().derived(object, "length 1", || Ok(8)).expect("it derives");
        assert_eq!(again, 7, "it is remembered");
    }
    let mut edited = chain();
    edited.nodes[2].config["text"] = json!("C2");
    assert_eq!(bench.run(&edited).ran(), ["c"]);
    let listed = gc(&bench.store(), false).expect("there is no run");
    let derived: Vec<_> = listed.iter().filter(|garbage| garbage.kind == "derived").collect();
    assert_eq!(derived.len(), 1, "{listed:?}");
    assert_eq!(derived[0].node.as_deref(), Some("c"));
    let [gone, kept] =
        objects.map(|own| bench.store().derived(own, "length 1", || Ok(8)).expect("it derives"));
    assert_eq!((gone, kept), (8, 7));
}

#[test]
fn garbage_is_what_no_latest_run_refers_to_and_is_listed_before_it_goes() {
    let bench = Bench::new();
    bench.run(&chain());
    let mut edited = chain();
    edited.nodes[2].config["text"] = json!("C2");
    edited.nodes.remove(3);
    let kept = bench.run(&edited);
    let listed = gc(&bench.store(), true).expect("readable");
    let objects: Vec<_> = listed
        .iter()
        .filter(|garbage| garbage.kind == "object")
        .map(|garbage| garbage.node.as_deref())
        .collect();
    assert_eq!(objects.len(), 2, "the old c and d: {listed:?}");
    assert!(objects.contains(&Some("c")) && objects.contains(&Some("d")));
    assert!(listed.iter().all(|garbage| garbage.path.exists()), "a dry run deletes nothing");
    assert_eq!(gc(&bench.store(), false).expect("there is no run"), listed);
    assert!(listed.iter().all(|garbage| !garbage.path.exists()));
    assert_eq!(gc(&bench.store(), true).expect("readable"), []);
    bench.assert_sound();
    assert_eq!(bench.run(&edited).outcome.count(Ending::Cached), 3);
    assert_eq!(bench.text(&kept, "c"), "C2(B(A))");
}

#[test]
fn records_of_earlier_runs_are_kept_unless_they_are_asked_for() {
    let bench = Bench::new();
    let ids = || {
        bench
            .store()
            .records()
            .expect("readable")
            .into_iter()
            .map(|record| record.id)
            .collect::<Vec<String>>()
    };
    bench.run(&chain());
    let mut edited = chain();
    edited.nodes[3].config["text"] = json!("D2");
    bench.run(&edited);
    let report = bench.store().run_path(&ids()[0]).join("report.html");
    std::fs::write(&report, "a page").expect("writable");
    let before = ids();
    assert!(!gc(&bench.store(), false).expect("there is no run").is_empty());
    assert_eq!(ids(), before);
    assert!(report.exists());
    let gone = gc_with_records(&bench.store(), false).expect("there is no run");
    assert_eq!(gone.iter().map(|garbage| garbage.kind).collect::<Vec<_>>(), ["record"]);
    assert_eq!(ids(), before[1..]);
    assert!(!report.exists());
    assert_eq!(bench.states(&edited), "a:c b:c c:c d:c");
}

#[test]
fn garbage_is_not_what_a_run_of_a_few_targets_left_out() {
    let bench = Bench::new();
    bench.run(&chain());
    let (graph, targets) = (chain(), ["a".to_string()]);
    let toy = Toy { hook: &|_, _| Ok(()) };
    let request = Request { targets: &targets, ..request(&graph) };
    run(
        &bench.store(),
        request,
        &bench.options,
        &InProcessExecutor(&toy),
        &mut Seen::default(),
        None,
    )
    .expect("goes well");
    gc(&bench.store(), false).expect("there is no run");
    assert_eq!(bench.states(&graph), "a:c b:c c:c d:c");
}

#[test]
fn garbage_waits_while_a_run_uses_the_store() {
    let bench = Bench::new();
    let ran = bench.run_with(&graph([node("a", "A", &[])]), &|_, _| {
        assert!(
            gc(&bench.store(), false)
                .expect_err("a run uses it")
                .to_string()
                .contains("a run is using")
        );
        Ok(())
    });
    assert_eq!(ran.ran(), ["a"]);
}

#[test]
fn records_say_what_every_node_came_to() {
    let bench = Bench::new();
    let ran = bench.run_with(&chain(), &|text, _| match text {
        "B" => Err(posttrain::error::user("no").into()),
        _ => Ok(()),
    });
    let records = bench.store().records().expect("readable");
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!(record.graph, ["a", "b", "c", "d"]);
    assert!(
        record.seconds.is_some()
            && ran.outcome.record.as_ref().is_some_and(|folder| folder.ends_with(&record.id))
    );
    let mut expected: Vec<_> = ran.outcome.nodes.iter().map(|node| node.record()).collect();
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(record.nodes, expected);
}

/// The target is 100 ms on an idle machine; this bound only catches a rescan, which would take
/// minutes.
#[test]
fn a_plan_of_ten_thousand_nodes_with_one_that_reads_all_is_not_quadratic() {
    let bench = Bench::new();
    let names: Vec<String> = (0..10_000).map(|i| format!("n{i}")).collect();
    let member = |(i, name): (usize, &String)| match i {
        0 => node(name, "T0", &[]),
        _ => node(name, &format!("T{i}"), &[&names[i / 2]]),
    };
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let wide = graph(names.iter().enumerate().map(member).chain([node("report", "R", &all)]));
    let start = std::time::Instant::now();
    let planned = bench.plan(&wide);
    assert_eq!(planned.steps.len(), 10_001);
    assert!(start.elapsed().as_secs_f64() < 2.0, "{:?}", start.elapsed());
}

/// The chain as a program has it that leaves fields at their defaults out of keys.
fn with_defaults() -> Graph {
    let mut graph = chain();
    graph.nodes[1].defaults = [("/text".into(), json!("B"))].into();
    graph
}

#[test]
fn keys_of_an_earlier_form_are_renewed_once() {
    let bench = Bench::new();
    bench.run(&chain());
    let marker = bench.root().join("v1/keys");
    std::fs::remove_file(&marker).expect("a run on a new store says of which form its keys are");
    assert_eq!(bench.states(&with_defaults()), "a:c b:r c:u d:c");
    let renewed = |preimage: &Preimage| {
        (preimage.config["text"] == "B").then(|| {
            let mut preimage = preimage.clone();
            preimage.config.as_object_mut().expect("a map").remove("text");
            preimage
        })
    };
    bench.store().renew_keys(renewed).expect("writable");
    assert_eq!(bench.states(&with_defaults()), "a:c b:c c:c d:c");
    // The records name the keys of before.
    gc(&bench.store(), false).expect("no run is at work");
    assert_eq!(bench.states(&with_defaults()), "a:c b:c c:c d:c");
    bench.store().renew_keys(|_| panic!("the keys are of this form")).expect("readable");
    assert!(marker.exists());
}

#[test]
fn a_difference_from_a_default_is_told_with_both_values() {
    let bench = Bench::new();
    bench.run(&with_defaults());
    let mut graph = with_defaults();
    graph.nodes[1].config["text"] = json!("other");
    let said = explain_one(&bench.store(), request(&graph), "b").expect("a sound graph");
    let said = said.differences;
    assert_eq!(said[0].to_string(), "`text` was \"B\", is \"other\"");
    bench.run(&graph);
    let store = bench.store();
    let said = explain_one(&store, request(&with_defaults()), "b").expect("a sound graph");
    assert!(
        said.differences
            .iter()
            .any(|difference| { difference.to_string() == "`text` was \"other\", is \"B\"" })
    );
}

/// As on a host without the GPU on which the run will compute.
#[test]
fn a_plan_without_the_device_knows_the_nodes_that_do_not_compute_on_it() {
    let bench = Bench::new();
    let mut graph = chain();
    graph.nodes[0].on_device = false;
    graph.nodes[3].on_device = false;
    bench.run(&graph);
    graph.nodes[3].config["text"] = json!("E");
    let closed = Request { numerics: Numerics { device: None, host: "host" }, ..request(&graph) };
    let states: Vec<State> = plan(&bench.store(), closed)
        .expect("a sound graph")
        .steps
        .into_iter()
        .map(|step| step.state)
        .collect();
    assert!(matches!(states[0], State::Cached { .. }) && matches!(states[3], State::Run { .. }));
    let unknown = |until: &[&str]| State::Unknown {
        until: until.iter().map(|name| name.to_string()).collect(),
        needs_device: true,
    };
    assert_eq!((&states[1], &states[2]), (&unknown(&[]), &unknown(&["b"])));
    let explained = explain_one(&bench.store(), closed, "b").expect("a sound graph");
    assert_eq!(explained.state, unknown(&[]));
    let differences: Vec<String> =
        explained.differences.iter().map(|difference| difference.to_string()).collect();
    assert_eq!(differences, ["`numerics` depends on `the device`, which is not there yet"]);
    let failed = run(
        &bench.store(),
        closed,
        &bench.options,
        &InProcessExecutor(&Toy { hook: &|_, _| Ok(()) }),
        &mut Seen::default(),
        None,
    )
    .expect("the run itself goes well");
    let failure = failed.nodes[1].failure.as_ref().expect("it cannot run");
    assert!(failure.message.contains("the device of `b` is not open"), "{failure:?}");
}

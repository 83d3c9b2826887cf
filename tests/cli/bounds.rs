//! Hostile and mistaken inputs, each made here, to the real program with 500 MB of memory: an error
//! with the limit and what raises it, soon.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::place::{Place, Said};

/// The program in a process (and its children in theirs) that may have so much memory and no more.
fn bounded(place: &Place, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -v 500000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_posttrain")])
        .args(arguments);
    command
        .current_dir(place.path(""))
        .env_remove("POSTTRAIN_CACHE")
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What a plan that must be refused says. Its time is that of a busy machine.
fn refused(pipeline: &str, expected: &[&str]) {
    let (place, start) = (Place::new(pipeline), Instant::now());
    let Said { code, err, .. } = bounded(&place, &["plan", "p.yaml"], &[]);
    assert_eq!(code, 2, "{err}");
    assert!(expected.iter().all(|expected| err.contains(expected)), "{err}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// Params each of which is the one before in this form.
fn doubling(first: &str, form: &dyn Fn(usize) -> String) -> String {
    let params: String = (1..45).map(|at| format!("  p{at}: {}\n", form(at - 1))).collect();
    format!(
        "params:\n  p0: {first}\n{params}stages:\n  a: \
         {{uses: command, run: [echo, \"${{p44}}\"]}}\n"
    )
}

#[test]
fn params_that_double_are_refused() {
    let bytes = ["this has more than 33554432 bytes", "POSTTRAIN_MAX_PARAM_BYTES"];
    refused(&doubling("a", &|before| format!("\"${{p{before}}}${{p{before}}}\"")), &bytes);
    refused(
        &doubling("[a]", &|before| format!("[\"${{p{before}}}\", \"${{p{before}}}\"]")),
        &bytes,
    );
    refused(
        &doubling("{a: b}", &|before| format!("{{x: \"${{p{before}}}\", y: \"${{p{before}}}\"}}")),
        &bytes,
    );
}

/// A pipeline with nine axes of ten values each, `a0` to `a8`.
fn nine_axes(stages: &str) -> String {
    let axes: Vec<String> = (0..9).map(|at| format!("a{at}")).collect();
    let params: String = axes.iter().map(|axis| format!("  {axis}: 0\n")).collect();
    let values: String =
        axes.iter().map(|axis| format!("  {axis}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n")).collect();
    format!("params:\n{params}matrix:\n{values}stages:\n{stages}")
}

#[test]
fn a_stage_with_a_thousand_million_points_is_refused() {
    let used: Vec<String> = (0..9).map(|at| format!("\"${{a{at}}}\"")).collect();
    let itself = format!("  a: {{uses: command, run: [echo, {}]}}\n", used.join(", "));
    let said =
        "has 10 x 10 x 10 x 10 x 10 x 10 x 10 x 10 x 10 points of the matrix, more than 100000";
    refused(&nine_axes(&itself), &[&format!("the stage `a` {said}"), "POSTTRAIN_MAX_POINTS"]);
    // By what it refers to, each of which has ten.
    let parts: String = (0..9)
        .map(|at| format!("  s{at}: {{uses: command, run: [echo, \"${{a{at}}}\"]}}\n"))
        .collect();
    let inputs: Vec<String> = (0..9).map(|at| format!("s{at}: s{at}")).collect();
    let joined =
        format!("  all: {{uses: command, run: [ls], inputs: {{{}}}}}\n", inputs.join(", "));
    let pipeline = nine_axes(&format!("{parts}{joined}"));
    refused(&pipeline, &[&format!("the stage `all` {said}"), "POSTTRAIN_MAX_POINTS"]);
    // By exclusions, which tie axes together.
    let pairs: Vec<String> = (1..9).map(|at| format!("{{a{}: 0, a{at}: 1}}", at - 1)).collect();
    let exclude = format!("  exclude: [{}]\nstages:", pairs.join(", "));
    let pipeline = nine_axes(&parts).replace("stages:", &exclude);
    refused(&pipeline, &[said, "POSTTRAIN_MAX_POINTS"]);
}

#[test]
fn a_product_that_no_stage_uses_costs_nothing() {
    let parts: String = (0..9)
        .map(|at| format!("  s{at}: {{uses: command, run: [echo, \"${{a{at}}}\"]}}\n"))
        .collect();
    let (place, start) = (Place::new(&nine_axes(&parts)), Instant::now());
    let Said { code, out, err } = bounded(&place, &["plan", "p.yaml", "--json"], &[]);
    assert_eq!(code, 0, "{err}");
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["steps"].as_array().unwrap().len(), 90);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_limit_is_raised_by_its_variable() {
    let pipeline = "params: {k: 0}\nmatrix:\n  k: [0, 1, 2]\nstages:\n  a: \
        {uses: command, run: [echo, \"${k}\"]}\n";
    let place = Place::new(pipeline);
    let said =
        |points: &str| bounded(&place, &["plan", "p.yaml"], &[("POSTTRAIN_MAX_POINTS", points)]);
    assert!(
        said("2").err.contains("the stage `a` has 3 points of the matrix, more than 2"),
        "{}",
        said("2").err
    );
    assert_eq!((said("2").code, said("3").code), (2, 0));
    assert!(
        said("many")
            .err
            .contains("POSTTRAIN_MAX_POINTS is `many`, expected a whole number of points")
    );
}

#[test]
fn a_file_that_unpacks_to_gigabytes_gives_one_row_where_one_is_asked_for_and_else_an_error() {
    let row = format!("{{\"prompt\": \"{}\", \"completion\": \"b\"}}\n", "a".repeat(1 << 20));
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(row.as_bytes()).unwrap();
    let member = packed.finish().unwrap();
    let place = Place::new(
        "stages:\n  d: {uses: dataset, source: {files: {sft: {path: rows.jsonl.gz, limit: 1}}}}\n",
    );
    // 2 GB.
    std::fs::write(place.path("rows.jsonl.gz"), member.repeat(2000)).unwrap();
    let said = bounded(&place, &["run", "p.yaml"], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    place
        .pipeline("stages:\n  d: {uses: dataset, source: {files: {sft: {path: rows.jsonl.gz}}}}\n");
    let said = bounded(&place, &["run", "p.yaml"], &[]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("unpacks to more than 67108864 bytes"), "{}", said.err);
}

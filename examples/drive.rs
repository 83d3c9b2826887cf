use posttrain::dag::{executor::Executor, exec, plan::Request, run::{self, Observer, Options}, store::Store, record::Invocation, stop::Stop, context::Report};
use posttrain::pipeline::{expand, overrides::Overrides, registry::Builtin};
struct Show;
impl Observer for Show {
    fn started(&mut self, node: &str, _r: bool) { println!("start {node}"); }
    fn progress(&mut self, node: &str, report: &Report) { if let Report::Progress{step,total,values} = report { if step % 50 == 0 || step == total { println!("{node} {step}/{total} {values:?}"); } } else { println!("{node} {report:?}"); } }
    fn finished(&mut self, o: &run::NodeOutcome) { println!("end {} {:?} {:?} {:?}", o.name, o.ending, o.seconds, o.failure); }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "exec" { std::process::exit(exec::exec(std::path::Path::new(&args[2]), &Builtin) as i32); }
    let sets: Vec<String> = args[3..].to_vec();
    let p = match expand::load(std::path::Path::new(&args[1]), &Overrides{profiles: vec![], sets}, &Builtin) { Ok(p) => p, Err(e) => { eprintln!("{e:#}"); std::process::exit(2) } };
    let store = Store::open(std::path::Path::new(&args[2])).unwrap();
    let o = run::run(&store, Request{graph: &p.graph, targets: &[], numerics: "cpu-f32"}, &Options{jobs: 2, threads: 2, keep_going: false, stop: Stop::new(), invocation: Invocation{pipeline: "x".into(), pipeline_hash: "".into(), options: vec![]}}, &Executor::Process(std::env::current_exe().unwrap()), &mut Show).unwrap();
    for n in &o.nodes { println!("{} {:?} {:?}", n.name, n.ending, n.object.map(|x| store.object_path(x))); }
    println!("seconds {}", o.seconds);
}

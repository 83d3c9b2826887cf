//! Arguments to commands to exit codes. One file a command; only this module prints. Does not know
//! how anything is done.
//!
//! Results go to standard output, all else to standard error. Exit codes: 0; 1 a stage failed; 2
//! the user's mistake; 3 the machine's; 130 stopped by Ctrl-C or SIGTERM; 101 a bug.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Kind, Result, kind_of};

/// For all commands instead of the standard library's: a standard error that cannot be written to
/// (a full disk, a reader who has left) is no reason to panic, and control characters in names and
/// messages do not reach a terminal.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::common::tell(&format!($($text)*)) };
}

mod accept;
mod adopt;
mod annotate;
mod bench;
mod bisect;
mod budget;
mod cache;
mod changes;
mod classify;
mod common;
mod completions;
mod confirm;
mod counts;
mod diff;
mod diversity;
mod doctor;
mod embed;
mod events;
mod exec;
mod executor;
mod explain;
mod export;
mod fetch;
mod fired;
mod gc;
mod generate;
mod graph;
mod import;
mod init;
mod load_run;
mod logs;
mod ls;
mod man;
mod names;
mod number_format;
mod outputs;
mod page;
mod plan;
mod price;
mod remote;
mod report;
mod results;
mod revisions;
mod rows;
mod run;
mod runs;
mod schema;
mod score;
mod sentinels;
mod sequential;
mod serve;
mod show;
mod stages;
mod tag;
mod tally;
mod terminal;
mod validate;
mod verify;

/// A declarative, content-hashed DAG runner for the post-training of language models.
#[derive(Parser)]
#[command(name = "posttrain", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    Validate(validate::Arguments),
    Run(run::Arguments),
    Plan(plan::Arguments),
    Explain(explain::Arguments),
    Graph(graph::Arguments),
    Show(show::Arguments),
    Ls(ls::Arguments),
    Runs(runs::Arguments),
    Logs(logs::Arguments),
    Tag(tag::Arguments),
    Adopt(adopt::Arguments),
    Accept(accept::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
    Verify(verify::Arguments),
    Report(report::Arguments),
    Results(results::Arguments),
    Sentinels(sentinels::Arguments),
    Diff(diff::Arguments),
    Bisect(bisect::Arguments),
    Gc(gc::Arguments),
    Cache(cache::Arguments),
    Stages(stages::Arguments),
    Schema(schema::Arguments),
    Score(score::Arguments),
    Serve(serve::Arguments),
    Generate(generate::Arguments),
    Embed(embed::Arguments),
    Classify(classify::Arguments),
    Diversity(diversity::Arguments),
    Annotate(annotate::Arguments),
    Doctor(doctor::Arguments),
    Bench(bench::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    #[command(hide = true)]
    Exec(exec::Arguments),
}

/// All commands with their options, as the command line is read by.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The program: reads the arguments of the process, does what they say, and gives the exit code.
pub fn main() -> ExitCode {
    let mut filter = tracing_subscriber::EnvFilter::try_from_env("POSTTRAIN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    // The HTTP client would write what it sends, keys and all.
    for client in ["ureq=off", "ureq_proto=off"] {
        filter = filter.add_directive(client.parse().expect("a directive"));
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
    let arguments =
        Arguments::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    // Code that shares work between threads cannot return the error of one that does not start.
    let alone = matches!(
        arguments.command,
        Command::Graph(_)
            | Command::Ls(_)
            | Command::Init(_)
            | Command::Validate(_)
            | Command::Runs(_)
            | Command::Logs(_)
            | Command::Tag(_)
            | Command::Completions(_)
            | Command::Man(_)
            | Command::Results(_)
            | Command::Gc(_)
            | Command::Stages(_)
            | Command::Schema(_)
            | Command::Exec(_)
    );
    if !alone && let Err(error) = crate::dag::tree::start_threads() {
        return code_of(Err(error));
    }
    let result = match arguments.command {
        Command::Init(arguments) => init::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Validate(arguments) => validate::main(&arguments),
        Command::Run(arguments) => run::main(&arguments),
        Command::Plan(arguments) => plan::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Explain(arguments) => explain::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Graph(arguments) => graph::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Show(arguments) => show::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Ls(arguments) => ls::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Runs(arguments) => runs::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Logs(arguments) => logs::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Tag(arguments) => tag::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Adopt(arguments) => adopt::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Accept(arguments) => accept::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Export(arguments) => export::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Import(arguments) => import::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Verify(arguments) => verify::main(&arguments),
        Command::Report(arguments) => report::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Results(arguments) => results::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Sentinels(arguments) => sentinels::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Diff(arguments) => diff::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Bisect(arguments) => bisect::main(&arguments),
        Command::Gc(arguments) => gc::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Cache(arguments) => cache::main(&arguments),
        Command::Stages(arguments) => stages::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Schema(arguments) => schema::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Serve(arguments) => serve::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Score(arguments) => score::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Generate(arguments) => generate::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Embed(arguments) => embed::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Classify(arguments) => classify::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Diversity(arguments) => diversity::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Annotate(arguments) => annotate::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Doctor(arguments) => doctor::main(&arguments),
        Command::Bench(arguments) => bench::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Completions(arguments) => {
            completions::main(&arguments, &mut command()).map(|()| ExitCode::SUCCESS)
        }
        Command::Man(arguments) => man::main(&arguments, command()).map(|()| ExitCode::SUCCESS),
        Command::Exec(arguments) => Ok(exec::main(&arguments)),
    };
    code_of(result)
}

fn code_of(result: Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            let kind = kind_of(&error);
            let label = if kind == Kind::Bug { "bug" } else { "error" };
            eprintln!("{label}: {error:#}");
            ExitCode::from(kind.exit_code())
        }
    }
}

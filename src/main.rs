//! Arguments to exit code.

fn main() -> std::process::ExitCode {
    posttrain::cli::main()
}

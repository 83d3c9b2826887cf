//! The real compiler on every kernel, for every generation of devices that is served: none may spill or use local memory, and what claims
//! tensor cores must have their instructions. `tests/cuda/fetch` brings the compiler, which needs no device.

use std::path::{Path, PathBuf};
use std::process::Command;

use posttrain::backend::cuda::{Compiler, Type, files, headers, options};

/// Where `tests/cuda/fetch` puts NVIDIA's packages.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/nvidia/cu13");
/// Says to the process that compiles that it is the one.
const HERE: &str = "POSTTRAIN_TESTS_COMPILE";

/// Kernels that only `sm_90a` has the instructions for.
const HOPPER: &[&str] = &["linear_hopper.cu", "attention_hopper.cu", "attention_backward_hopper.cu"];

/// How the compiler begins where it takes products of warp groups one by one, or leaves warp groups the registers that the launch gave them.
const LOSS: &str = "Potential Performance Loss";
/// The tile of one consumer group has the registers it needs at launch.
const LOSS_ALLOWED: &[&str] = &["linear_hopper.cu: 'setmaxnreg' ignored"];

/// What is wrong with the kernels of one storage type. Machine code goes to the folder of temporary files.
fn faults(compiler: Compiler, kind: Type) -> Vec<String> {
    let mut faults = Vec::new();
    for (source, architecture) in files().iter().flat_map(|source| ["sm_80", "sm_90", "sm_90a"].map(|architecture| (source, architecture)))
    {
        let place = format!("{} for {architecture}, {}", source.name, kind.suffix());
        let options = [options(architecture, kind), vec!["--ptxas-options=-v".into()]].concat();
        let (cubin, log) = compiler.compile(*source, headers(), &options).unwrap_or_else(|error| panic!("{place}: {error}"));
        let empty = HOPPER.contains(&source.name) && (architecture != "sm_90a" || kind == Type::F32);
        let kernels = log.matches("Compiling entry function").count();
        faults.extend((empty != (kernels == 0)).then(|| format!("{place}: {kernels} kernels")));
        faults.extend(log.lines().filter(|line| line.contains("warning")).map(|line| format!("{place}: {line}")));
        let allowed = |line: &str| {
            LOSS_ALLOWED.iter().filter_map(|fault| fault.split_once(": ")).any(|(name, what)| name == source.name && line.contains(what))
        };
        faults.extend(log.lines().filter(|line| line.contains(LOSS) && !allowed(line)).map(|line| format!("{place}: {line}")));
        // One line a kernel.
        let clean = " 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
        let properties: Vec<&str> = log.lines().filter(|line| line.contains("bytes spill")).collect();
        faults.extend((properties.len() != kernels).then(|| format!("{place}: the compiler's log has another form:\n{log}")));
        faults.extend(properties.iter().filter(|line| !line.contains(clean)).map(|line| format!("{place}: {}", line.trim())));
        std::fs::write(code(source.name, architecture, kind), cubin).unwrap();
    }
    faults
}

/// Where machine code is put for the disassembler.
fn code(name: &str, architecture: &str, kind: Type) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{architecture}.{}.cubin", kind.suffix()))
}

#[test]
fn compiles_in_a_process_of_its_own() {
    if std::env::var_os(HERE).is_none() {
        return;
    }
    let compiler = Compiler::find().expect("the compiler was fetched");
    let found: Vec<String> = std::thread::scope(|scope| {
        let threads = [Type::F32, Type::Bf16].map(|kind| scope.spawn(move || faults(compiler, kind)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_kernel_compiles_without_spills_and_has_its_tensor_cores() {
    let library = Path::new(FOLDER).join("lib");
    if !library.join("libnvrtc.so.13").exists() {
        let required = std::env::var("POSTTRAIN_TESTS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "NVRTC is not in target/nvidia (tests/cuda/fetch), and POSTTRAIN_TESTS_REQUIRE_TOOLS=1 asks for it");
        eprintln!("skipped: NVRTC is not in target/nvidia (tests/cuda/fetch brings it)");
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "cuda::gate::compiles_in_a_process_of_its_own", "--nocapture"])
        .env(HERE, "1")
        .env("LD_LIBRARY_PATH", &library);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    let claims = [
        ("linear.cu", "sm_80", "HMMA.16816.F32.BF16"),
        ("attention.cu", "sm_90", "HMMA.16816.F32.BF16"),
        ("linear_hopper.cu", "sm_90a", "HGMMA"),
        ("attention_hopper.cu", "sm_90a", "HGMMA.64x64x16.F32.BF16 R"),
        ("attention_hopper.cu", "sm_90a", "HGMMA.64x128x16.F32.BF16 R"),
        ("attention_backward_hopper.cu", "sm_90a", "HGMMA.64x128x16.F32.BF16 R"),
    ];
    for (name, architecture, instruction) in claims {
        let disassembled = Command::new(Path::new(FOLDER).join("bin/nvdisasm")).arg(code(name, architecture, Type::Bf16)).output().unwrap();
        let text = String::from_utf8_lossy(&disassembled.stdout);
        assert!(disassembled.status.success(), "{}", String::from_utf8_lossy(&disassembled.stderr));
        assert!(text.contains(instruction), "{name} for {architecture} has no {instruction}");
    }
}

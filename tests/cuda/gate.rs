//! The real compiler on every kernel, for every generation of devices that is served: none may
//! spill or use local memory, all keep to the budgets of their files, and what claims tensor cores
//! must have their instructions. `tests/cuda/fetch` brings the compiler, which needs no device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use posttrain::backend::DType;
use posttrain::backend::cuda::{Compiler, Source, files, headers, options, watched};

use crate::tools::left_out;

/// Where `tests/cuda/fetch` puts NVIDIA's packages.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/nvidia/cu13");
/// Says to the process that compiles that it is the one.
const HERE: &str = "POSTTRAIN_TESTS_COMPILE";

/// Kernels that only `sm_90a` has the instructions for.
const HOPPER: &[&str] =
    &["linear_hopper.cu", "attention_hopper.cu", "attention_backward_hopper.cu"];

/// How the compiler begins where it takes products of warp groups one by one, or leaves warp groups
/// the registers that the launch gave them.
const LOSS: &str = "Potential Performance Loss";
/// The tile of one consumer group has the registers it needs at launch: a remark for each of its
/// kernels, and for no other.
const LOSS_ALLOWED: (&str, &str, usize) = ("linear_hopper.cu", "'setmaxnreg' ignored", 4);

/// What a kernel may take: registers a thread, bytes of shared memory a block that its code
/// declares. The dynamic part of a budget is held against launches by the emulated driver.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    registers: usize,
    static_shared: usize,
}

/// The unit in which budgets of static shared memory are written.
const KIB: usize = 1 << 10;

/// The budgets of a file, in its order: the names that each is for, and how much.
fn budgets(text: &str) -> Vec<(&str, Budget)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("// Budget of "));
    lines
        .map(|line| {
            let (names, amounts) =
                line.split_once(": ").unwrap_or_else(|| panic!("no names: {line}"));
            let number =
                |text: &str| text.parse::<usize>().unwrap_or_else(|_| panic!("no number: {line}"));
            let (mut registers, mut static_shared) = (None, 0);
            for amount in amounts.split(", ") {
                match amount.split_once(' ').unwrap_or_else(|| panic!("no unit: {line}")) {
                    (count, "registers") => registers = Some(number(count)),
                    (count, "KiB static") => static_shared = number(count) * KIB,
                    (count, "KiB dynamic") => assert!(number(count) > 0, "{line}"),
                    _ => panic!("no such unit: {line}"),
                }
            }
            (
                names,
                Budget {
                    registers: registers.unwrap_or_else(|| panic!("no registers: {line}")),
                    static_shared,
                },
            )
        })
        .collect()
}

/// True if a name is one of those, a star in which means any letters.
fn fits(names: &str, name: &str) -> bool {
    match names.split_once('*') {
        None => names == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| fits(after, &rest[at..]))),
    }
}

/// The kernels of a compiler's log, with what each takes.
fn taken(log: &str) -> Vec<(&str, Budget)> {
    let mut taken: Vec<(&str, Budget)> = Vec::new();
    let number_before = |line: &str, unit: &str| {
        let (before, _) = line.split_once(unit)?;
        before.rsplit(|letter: char| !letter.is_ascii_digit()).next()?.parse::<usize>().ok()
    };
    for line in log.lines() {
        if let Some((_, name)) = line.split_once("Compiling entry function '") {
            taken.push((name.split('\'').next().unwrap_or_default(), Budget::default()));
        } else if let (Some((_, takes)), Some(registers)) =
            (taken.last_mut(), number_before(line, " registers"))
        {
            *takes = Budget {
                registers,
                static_shared: number_before(line, " bytes smem").unwrap_or(0),
            };
        }
    }
    taken
}

/// What each line of a file's budgets was used for: the most that a kernel took under it.
type Used = BTreeMap<(&'static str, &'static str), Budget>;

/// What is over its budget in one compiler's log of a file; the most that was taken under each line
/// is noted.
fn over_budget(source: &Source, place: &str, log: &str, used: &mut Used) -> Vec<String> {
    let budgets = budgets(source.text);
    let mut faults = Vec::new();
    for (name, takes) in taken(log) {
        let Some((names, budget)) = budgets.iter().rfind(|(names, _)| fits(names, name)) else {
            faults.push(format!("{place}: {name} has no budget"));
            continue;
        };
        if takes.registers == 0
            || takes.registers > budget.registers
            || takes.static_shared > budget.static_shared
        {
            faults.push(format!("{place}: {name} takes {takes:?} of {budget:?}"));
        }
        let most = used.entry((source.name, names)).or_default();
        most.registers = most.registers.max(takes.registers);
        most.static_shared = most.static_shared.max(takes.static_shared);
    }
    faults
}

/// What is wrong with the kernels of one storage type. Machine code goes to the folder of temporary
/// files.
fn faults(compiler: &Compiler, kind: DType, used: &mut Used) -> Vec<String> {
    let mut faults = Vec::new();
    for (source, architecture) in files()
        .iter()
        .flat_map(|source| ["sm_80", "sm_90", "sm_90a"].map(|architecture| (source, architecture)))
    {
        let place = format!("{} for {architecture}, {}", source.name, kind.name());
        let options = [options(architecture, kind), vec!["--ptxas-options=-v".into()]].concat();
        let (cubin, log) = compiler
            .compile(*source, headers(), &options)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        let empty =
            HOPPER.contains(&source.name) && (architecture != "sm_90a" || kind == DType::F32);
        let kernels = log.matches("Compiling entry function").count();
        faults.extend((empty != (kernels == 0)).then(|| format!("{place}: {kernels} kernels")));
        faults.extend(
            log.lines()
                .filter(|line| line.contains("warning"))
                .map(|line| format!("{place}: {line}")),
        );
        let (name, remark, count) = LOSS_ALLOWED;
        let allowed = |line: &str| name == source.name && line.contains(remark);
        let remarks = log.lines().filter(|line| line.contains(LOSS) && allowed(line)).count();
        let expected = if name == source.name && !empty { count } else { 0 };
        faults.extend((remarks != expected).then(|| {
            format!("{place}: {remarks} remarks {remark}, and {expected} are known:\n{log}")
        }));
        faults.extend(
            log.lines()
                .filter(|line| line.contains(LOSS) && !allowed(line))
                .map(|line| format!("{place}: {line}")),
        );
        // One line a kernel.
        let clean = " 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
        let properties: Vec<&str> =
            log.lines().filter(|line| line.contains("bytes spill")).collect();
        faults.extend(
            (properties.len() != kernels)
                .then(|| format!("{place}: the compiler's log has another form:\n{log}")),
        );
        faults.extend(
            properties
                .iter()
                .filter(|line| !line.contains(clean))
                .map(|line| format!("{place}: {}", line.trim())),
        );
        faults.extend(over_budget(source, &place, &log, used));
        std::fs::write(code(source.name, architecture, kind), cubin).unwrap();
    }
    faults
}

/// Where machine code is put for the disassembler.
fn code(name: &str, architecture: &str, kind: DType) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{name}.{architecture}.{}.cubin", kind.name()))
}

#[test]
fn compiles_in_a_process_of_its_own() {
    if std::env::var_os(HERE).is_none() {
        return;
    }
    let compiler = Compiler::find().expect("the compiler was fetched");
    let compiler = &compiler;
    let both: Vec<(Vec<String>, Used)> = std::thread::scope(|scope| {
        let threads = [DType::F32, DType::Bf16].map(|kind| {
            scope.spawn(move || {
                let mut used = Used::new();
                (faults(compiler, kind, &mut used), used)
            })
        });
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut found: Vec<String> = both.iter().flat_map(|(faults, _)| faults.clone()).collect();
    for source in files() {
        for (names, budget) in budgets(source.text) {
            let taken = |what: fn(&Budget) -> usize| {
                both.iter()
                    .filter_map(|(_, used)| used.get(&(source.name, names)))
                    .map(what)
                    .max()
                    .unwrap_or(0)
            };
            let (registers, static_shared) =
                (taken(|most| most.registers), taken(|most| most.static_shared));
            let generous =
                registers + 8 <= budget.registers || static_shared + KIB <= budget.static_shared;
            found.extend(generous.then(|| {
                format!(
                    "{}: the budget of {names} is {budget:?}, and {registers} registers and \
                     {static_shared} bytes are taken",
                    source.name
                )
            }));
        }
    }
    let watch = [options("sm_90a", DType::Bf16), vec![watched("attention_hopper")]].concat();
    let source = files().iter().find(|source| source.name == "attention_hopper.cu").unwrap();
    let (cubin, log) = compiler.compile(*source, headers(), &watch).unwrap();
    found.extend(log.contains("warning").then(|| format!("watched: {log}")));
    std::fs::write(code("watched.cu", "sm_90a", DType::Bf16), cubin).unwrap();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn budgets_are_read_and_what_is_over_them_is_found() {
    let text = "// Budget of *: 32 registers\n// Budget of b_*_f32: 16 registers, 2 KiB static, 9 \
        KiB dynamic\n#include\n";
    let source = Source { name: "b.cu", text };
    let log = "ptxas info : Compiling entry function 'b_x_f32' for 'sm_80'\nptxas info : Used 17 \
        registers, used 1 barriers, 2048 bytes smem\nptxas info : Compiling entry function \
        'b_bf16' for 'sm_80'\nptxas info : Used 32 registers, used 0 barriers, 1 bytes smem\nptxas \
        info : Compiling entry function 'c' for 'sm_80'\nptxas info : Used 32 registers, used 0 \
        barriers\n";
    let mut used = Used::new();
    let found = over_budget(&source, "here", log, &mut used);
    assert!(
        found.len() == 2 && found[0].contains("b_x_f32 takes") && found[1].contains("b_bf16 takes"),
        "{found:?}"
    );
    assert_eq!(
        used.iter().map(|(key, most)| (key.1, most.registers)).collect::<Vec<_>>(),
        [("*", 32), ("b_*_f32", 17)]
    );
    assert!(
        fits("a*b*", "a_c_b_d") && !fits("a*b", "a_c_b_d") && fits("a", "a") && !fits("a", "ab")
    );
}

#[test]
fn every_kernel_compiles_without_spills_and_has_its_tensor_cores() {
    let library = Path::new(FOLDER).join("lib");
    if !library.join("libnvrtc.so.13").exists() {
        return left_out("NVRTC is not in target/nvidia; tests/cuda/fetch installs it");
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "cuda::gate::compiles_in_a_process_of_its_own", "--nocapture"])
        .env(HERE, "1")
        .env("LD_LIBRARY_PATH", &library);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    let claims = [
        ("linear.cu", "sm_80", "HMMA.16816.F32.BF16"),
        ("attention.cu", "sm_90", "HMMA.16816.F32.BF16"),
        ("linear_hopper.cu", "sm_90a", "HGMMA"),
        ("attention_hopper.cu", "sm_90a", "HGMMA.64x64x16.F32.BF16 R"),
        ("attention_hopper.cu", "sm_90a", "HGMMA.64x128x16.F32.BF16 R"),
        ("attention_backward_hopper.cu", "sm_90a", "HGMMA.64x128x16.F32.BF16 R"),
        // A wait that does not end becomes an error.
        ("watched.cu", "sm_90a", "BPT.TRAP"),
    ];
    for (name, architecture, instruction) in claims {
        let disassembled = Command::new(Path::new(FOLDER).join("bin/nvdisasm"))
            .arg(code(name, architecture, DType::Bf16))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&disassembled.stdout);
        assert!(disassembled.status.success(), "{}", String::from_utf8_lossy(&disassembled.stderr));
        assert!(text.contains(instruction), "{name} for {architecture} has no {instruction}");
    }
}

//! What the CUDA back end says where something is missing: each case in a separate process, with
//! an emulator that misses it.

use std::path::{Path, PathBuf};
use std::process::Command;

use posttrain::backend::DType;
use posttrain::backend::cuda::{Cuda, GemmRequest};
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::error::{Result, caught, kind_of};

use super::emulated::{build, compiler_is_there};

/// What a separate process is to do: open a device of this index, with this folder for machine
/// code, then work.
const ASKED: &str = "POSTTRAIN_TESTS_DEVICE";
const KERNELS: &str = "POSTTRAIN_TESTS_KERNELS";
/// How it is to multiply: `plain`, `hopper`, `library`, or as it likes.
const GEMM: &str = "POSTTRAIN_TESTS_GEMM";

/// Opens the device and works on it, as a program with no emulator loaded by hand.
fn work(index: usize, folder: &Path) -> Result<String> {
    let gemm = match std::env::var(GEMM).as_deref() {
        Ok("plain") => GemmRequest::Plain,
        Ok("hopper") => GemmRequest::Hopper,
        Ok("library") => GemmRequest::Cublaslt,
        _ => GemmRequest::Auto,
    };
    let b = Cuda::with(index, DType::F32, gemm, folder)?;
    let numbers = caught(|| {
        let (x, weight) = (b.upload(&[3.0; 4]), b.upload(&[1.0; 4]));
        let (mut out, mut rstd) = (b.zeros(4), b.zeros(1));
        b.rms_norm(ops::RmsNorm {
            out: &mut out,
            rstd: &mut rstd,
            x: &x,
            weight: &weight,
            n: 1,
            d: 4,
            epsilon: 0.0,
        });
        let mut dx = b.zeros(4);
        b.linear_backward_input(ops::LinearBackwardInput {
            dx: &mut dx,
            dout: &x,
            weight: &b.upload(&[1.0; 16]),
            n: 1,
            i: 4,
            o: 4,
        });
        let held: Vec<_> = (0..8).map(|_| b.zeros(1 << 18)).collect();
        (b.download(&out), b.download(&dx)[0], held.len())
    })?;
    let classes = [DType::F32, DType::Bf16].map(|kind| Cuda::gemm_class(index, kind, gemm, folder));
    Ok(format!("{:?} {numbers:?} {classes:?}", b.about()))
}

#[test]
fn works_in_a_process_of_its_own() {
    let Ok(index) = std::env::var(ASKED) else { return };
    let folder = PathBuf::from(std::env::var_os(KERNELS).unwrap());
    match work(index.parse().unwrap(), &folder) {
        Ok(text) => println!("OK {text}"),
        Err(error) => println!("{:?} {error:#}", kind_of(&error)),
    }
}

/// What that says, with these libraries and settings.
fn said(index: usize, libraries: &Path, kernels: &Path, settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "cuda::errors::works_in_a_process_of_its_own", "--nocapture"])
        .envs(settings.iter().copied());
    command.env(ASKED, index.to_string()).env(KERNELS, kernels).env("LD_LIBRARY_PATH", libraries);
    for variable in ["CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"] {
        if settings.iter().all(|(name, _)| *name != variable) {
            command.env_remove(variable);
        }
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    if !compiler_is_there() {
        return;
    }
    let (libraries, empty) = (build("check", None), tempfile::tempdir().unwrap());
    let kernels = tempfile::tempdir().unwrap();
    let check = |index, settings: &[(&str, &str)], expected: &[&str]| {
        let text = said(index, &libraries, kernels.path(), settings);
        for expected in expected {
            assert!(text.contains(expected), "{settings:?}: nothing says `{expected}`:\n{text}");
        }
    };
    check(
        0,
        &[],
        &[
            "OK About",
            "CPU emulator",
            "driver: \"13.0\", compiler: \"13.0\"",
            "[1.0, 1.0, 1.0, 1.0], 12.0, 8",
            "[Ok(\"\"), Ok(\" hopper attention hopper sm_90\")]",
        ],
    );
    check(
        3,
        &[],
        &[
            "Environment there is no CUDA device 3: the driver has 1, counted from 0",
            "hint: see `nvidia-smi -L`",
        ],
    );
    check(
        0,
        &[("EMULATOR_DEVICES", "0")],
        &["Environment the CUDA driver does not work: CUDA_ERROR_NO_DEVICE", "hint: "],
    );
    check(
        0,
        &[("EMULATOR_DRIVER", "11040")],
        &[
            "Environment the CUDA driver is too old: it is for CUDA 11.4, and CUDA 12.4 is needed",
            "hint: ",
        ],
    );
    check(
        0,
        &[("EMULATOR_DRIVER", "12080")],
        &[
            "Environment NVRTC 13.0 makes code that the driver, for CUDA 12.8, does not take",
            "hint: ",
        ],
    );
    check(
        0,
        &[("EMULATOR_CAPABILITY", "75")],
        &["is too old: compute capability 7.5, and 8.0 is needed", "hint: "],
    );
    check(0, &[("EMULATOR_CAPABILITY", "80")], &["OK About", "[Ok(\"\"), Ok(\" plain sm_80\")]"]);
    check(
        0,
        &[("EMULATOR_CAPABILITY", "89"), (GEMM, "hopper")],
        &[
            "Environment products for compute capability 9.0 were asked for; CPU emulator (no GPU) \
             has 8.9",
            "hint: leave --gemm out",
        ],
    );
    check(0, &[(GEMM, "library")], &["OK About", "12.0, 8", "cublaslt 13.1.0 sm_90"]);
    let refused = [
        "Environment cuBLASLt cannot multiply 1 x 4 by 4 x 4 of f32 into f32: it has no algorithm \
         for that",
        "hint: leave --gemm out",
    ];
    check(0, &[(GEMM, "library"), ("EMULATOR_PRODUCTS", "none")], &refused);
    let failed = ["Bug cuBLASLt cannot multiply 1 x 4 by 4 x 4 of f32 into f32: \
        CUBLAS_STATUS_EXECUTION_FAILED"];
    check(0, &[(GEMM, "library"), ("EMULATOR_PRODUCTS", "fail")], &failed);
    let full = [
        "Environment the memory of CPU emulator (no GPU) is full: 1.0 MiB more were asked for",
        "3 of 1.0 MiB",
        "hint: ",
    ];
    check(0, &[("EMULATOR_MEMORY", "3500000")], &full);
    // A driver without the compiler, and neither.
    let driver = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(libraries.join("libcuda.so"), driver.path().join("libcuda.so"))
        .unwrap();
    let text = said(0, driver.path(), kernels.path(), &[]);
    assert!(
        text.contains("Environment there is no NVRTC") && text.contains("hint: install"),
        "{text}"
    );
    // A compiler that the linker does not find: in a toolkit, and in a Python environment.
    // Libraries that only link are left alone.
    let place = tempfile::tempdir().unwrap();
    for (variable, folder, found) in [
        ("CUDA_HOME", "toolkit/lib64/stubs", false),
        ("CUDA_HOME", "toolkit/lib64", true),
        ("VIRTUAL_ENV", "venv/lib/python3.12/site-packages/nvidia/cu13/lib", true),
    ] {
        let folder = place.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(libraries.join("libnvrtc.so"), folder.join("libnvrtc.so.13"))
            .unwrap();
        let root = place.path().join(if variable == "CUDA_HOME" { "toolkit" } else { "venv" });
        let text = said(0, driver.path(), kernels.path(), &[(variable, root.to_str().unwrap())]);
        let said = if found { "OK About" } else { "Environment there is no NVRTC" };
        assert!(text.contains(said), "{variable}, {folder:?}: {text}");
        assert!(
            !found || text.contains("libnvrtc.so\""),
            "the file that was taken is named: {text}"
        );
    }
    // Both without the library of products: missed by those who ask for it alone.
    std::os::unix::fs::symlink(libraries.join("libnvrtc.so"), driver.path().join("libnvrtc.so"))
        .unwrap();
    assert!(said(0, driver.path(), kernels.path(), &[]).contains("OK About"));
    let text = said(0, driver.path(), kernels.path(), &[(GEMM, "library")]);
    assert!(
        text.contains("Environment there is no cuBLASLt, which --gemm cublaslt asks for")
            && text.contains("hint: install"),
        "{text}"
    );
    let text = said(0, empty.path(), kernels.path(), &[]);
    let elsewhere = text.contains("OK About") || text.contains("the CUDA driver");
    assert!(
        elsewhere
            || text.contains("Environment there is no CUDA driver")
                && text.contains("hint: install"),
        "{text}"
    );
}

#[test]
fn machine_code_is_kept_and_made_anew_where_it_is_damaged() {
    if !compiler_is_there() {
        return;
    }
    let (libraries, kernels) = (build("check", None), tempfile::tempdir().unwrap());
    // Nothing of the generation's own kernels runs where they are not asked for.
    let (probe, other) = (("EMULATOR_REFUSE", "attention_hopper"), tempfile::tempdir().unwrap());
    let text = said(0, &libraries, other.path(), &[probe]);
    assert!(
        text.contains(
            "Bug NVRTC cannot compile attention_hopper.cu:\nattention_hopper.cu(1): error"
        ),
        "{text}"
    );
    let text = said(0, &libraries, other.path(), &[probe, (GEMM, "plain")]);
    assert!(
        text.contains("OK About") && text.contains("[Ok(\"\"), Ok(\" plain sm_90\")]"),
        "{text}"
    );
    let refusing = [("EMULATOR_REFUSE", "norm")];
    let text = said(0, &libraries, kernels.path(), &refusing);
    assert!(text.contains("Bug NVRTC cannot compile norm.cu:\nnorm.cu(1): error"), "{text}");
    assert!(said(0, &libraries, kernels.path(), &[]).contains("OK About"));
    let mut made: Vec<PathBuf> =
        std::fs::read_dir(kernels.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    made.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("norm_f32."));
    assert_eq!(made.len(), 1, "{made:?}");
    // Kept: a compiler that refuses is not asked.
    assert!(said(0, &libraries, kernels.path(), &refusing).contains("OK About"));
    let whole = std::fs::read(&made[0]).unwrap();
    std::fs::write(&made[0], &whole[..5]).unwrap();
    assert!(said(0, &libraries, kernels.path(), &[]).contains("OK About"));
    assert_eq!(std::fs::read(&made[0]).unwrap(), whole);
}

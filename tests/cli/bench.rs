//! `bench`: every benchmark at tiny sizes on the CPU, and what it writes.

use serde_json::Value;

use super::place::Place;

#[test]
fn every_benchmark_measures_its_rows_and_writes_them() {
    let place = Place::new("");
    let cases: [(&str, &[&str]); 4] = [
        (
            "kernels",
            &[
                "copy",
                "linear_backward_weight",
                "attention_cached",
                "token_logprobs",
                "adamw",
                "rms_norm_backward",
            ],
        ),
        ("train", &["training step"]),
        ("generate", &["decode step", "generation"]),
        ("ppo", &["rollout", "scores", "update", "ppo step"]),
    ];
    for (what, expected) in cases {
        let said = place.good(&[
            "bench",
            what,
            "--quick",
            "--seconds",
            "0.002",
            "--device",
            "cpu",
            "--json",
            "out.json",
        ]);
        let report: Value = serde_json::from_str(&place.read("out.json")).unwrap();
        let rows = report["rows"].as_array().unwrap();
        for name in expected {
            assert!(said.out.contains(name), "{}", said.out);
            let row = rows
                .iter()
                .find(|row| row["what"] == *name)
                .unwrap_or_else(|| panic!("{what} has {name}"));
            assert!(
                row["seconds"].as_f64().unwrap() > 0.0 && row["repetitions"].as_u64().unwrap() > 0
            );
        }
        if what != "kernels" {
            let sizes = ["124M", "1.3B", "7B"];
            assert!(
                sizes.iter().all(|size| rows
                    .iter()
                    .any(|row| row["shape"].as_str().unwrap().starts_with(size))),
                "{}",
                said.out
            );
        }
        assert!(report["ceilings"]["bytes"].as_f64().unwrap() > 0.0);
    }
    let said = place.good(&[
        "bench",
        "train",
        "--quick",
        "--seconds",
        "0.002",
        "--device",
        "cpu",
        "--size",
        "7B",
    ]);
    assert!(said.out.contains("7B") && !said.out.contains("124M"), "{}", said.out);
}

//! What PyTorch and transformers compute for tiny models of every family (golden/make.py), and the
//! distance of our results from it. Independent of models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

/// The batch of a variant and its entry in `golden.json`.
#[derive(Deserialize)]
pub struct Golden {
    pub tokens: Vec<Vec<u32>>,
    pub token_types: Option<Vec<Vec<u32>>>,
    /// Absent for encoders without a head.
    pub loss: Option<f64>,
    /// Of decoders.
    pub greedy: Option<Greedy>,
    /// Of decoders: the losses before each of ten steps.
    pub adamw: Option<Vec<f64>>,
    /// Of classifiers: the classes of the sequences.
    pub labels: Option<Vec<usize>>,
    /// Of reward models: which sequences are compared, the better one first.
    pub pairs: Option<Vec<[usize; 2]>>,
}

#[derive(Deserialize)]
pub struct Greedy {
    pub prompt: Vec<u32>,
    pub tokens: Vec<u32>,
}

/// Sizes and numbers of tensors by name.
pub type Named = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// The folder of all variants.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model/golden")
}

pub fn golden(folder: &Path) -> Golden {
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    serde_json::from_str(&text).expect("golden.json is as make.py writes it")
}

/// All tensors of a safetensors file of float32 or float64, by the reference reader.
pub fn tensors(path: &Path) -> Named {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |dtype: Dtype, bytes: &[u8]| -> Vec<f64> {
        match dtype {
            Dtype::F32 => bytes
                .chunks_exact(4)
                .map(|word| f64::from(f32::from_le_bytes(word.try_into().unwrap())))
                .collect(),
            Dtype::F64 => bytes
                .chunks_exact(8)
                .map(|word| f64::from_le_bytes(word.try_into().unwrap()))
                .collect(),
            other => panic!("{}: {other}", path.display()),
        }
    };
    file.iter()
        .map(|(name, view)| {
            (name.to_owned(), (view.shape().to_vec(), numbers(view.dtype(), view.data())))
        })
        .collect()
}

/// Compares numbers with golden ones, relative to the largest of them, and remembers the worst.
pub struct Comparison {
    variant: String,
    tolerance: f64,
    /// The largest difference yet, relative, and of what.
    worst: (f64, String),
}

impl Comparison {
    pub fn new(variant: &str, tolerance: f64) -> Self {
        Comparison { variant: variant.to_owned(), tolerance, worst: (0.0, "nothing".to_owned()) }
    }

    #[track_caller]
    pub fn close(&mut self, what: &str, found: &[f64], expected: &[f64]) {
        self.close_at_scale(what, found, expected, largest(expected));
    }

    /// Differences count relative to `scale`.
    #[track_caller]
    pub fn close_at_scale(&mut self, what: &str, found: &[f64], expected: &[f64], scale: f64) {
        assert_eq!(found.len(), expected.len(), "{}: count of {what}", self.variant);
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = (found - expected).abs() / scale;
            if error.is_nan() || error > self.tolerance {
                panic!(
                    "{}: {what}[{index}] is {found}, expected {expected}: {error:.1e} of {scale}",
                    self.variant
                );
            }
            if error > self.worst.0 {
                self.worst = (error, what.to_owned());
            }
        }
    }

    /// Every name of `expected` must be there, and no other. A tensor whose numbers are all 0 is
    /// compared relative to the largest of all.
    #[track_caller]
    pub fn all_close(&mut self, found: &Named, expected: &Named) {
        let names = |of: &Named| of.keys().cloned().collect::<Vec<String>>();
        assert_eq!(names(found), names(expected), "{}: names", self.variant);
        let most = expected.values().map(|(_, numbers)| largest(numbers)).fold(0.0, f64::max);
        for (name, (shape, numbers)) in expected {
            assert_eq!(found[name].0, *shape, "{}: shape of {name}", self.variant);
            let own = largest(numbers);
            self.close_at_scale(name, &found[name].1, numbers, if own > 0.0 { own } else { most });
        }
    }

    /// Prints how close it was.
    pub fn done(self) {
        let Comparison { variant, tolerance, worst: (error, what) } = self;
        println!("{variant}: within {error:.1e} (allowed: {tolerance:.0e}), worst for {what}");
    }
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |largest, number| number.abs().max(largest))
}

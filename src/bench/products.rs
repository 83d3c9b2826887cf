//! Products of matrices: the shapes of layers and heads, of whole batches and of few rows.

use super::kernels::Kernels;
use crate::backend::{Activation, Backend, Epilogue, ops};

/// Input and output widths of the layers of the three models, and of their language heads.
const LAYERS: [(&str, [(usize, usize); 4]); 3] = [
    ("124M", [(768, 768), (768, 3072), (3072, 768), (768, 50_257)]),
    ("1.3B", [(2048, 2048), (2048, 8192), (8192, 2048), (2048, 50_272)]),
    ("7B", [(4096, 4096), (4096, 11_008), (11_008, 4096), (4096, 32_000)]),
];

/// Bytes that no second cache holds.
const UNCACHED: usize = 256 << 20;

/// (of what, rows, input, output) of all of them.
fn batches(quick: bool) -> Vec<(String, [usize; 3])> {
    if quick {
        return vec![("square".into(), [64, 64, 64]), ("odd".into(), [33, 24, 40])];
    }
    let squares = [4096, 8192].map(|n| ("square".to_owned(), [n, n, n]));
    let layers = LAYERS
        .iter()
        .flat_map(|(name, layers)| layers.map(|(i, o)| ((*name).to_owned(), [4096, i, o])));
    squares.into_iter().chain(layers).collect()
}

/// Forward, and both gradients.
pub fn whole_batches<B: Backend>(kernels: &mut Kernels<'_, B>) {
    for (name, [n, i, o]) in batches(kernels.quick()) {
        let (b, size) = (kernels.bench.b, kernels.bench.b.sizes().stored);
        let (x, weight, mut out) =
            (kernels.random(n * i), kernels.random(o * i), kernels.random(n * o));
        let shape = format!("{name} {n} x {i} x {o}");
        let operations = 2.0 * n as f64 * i as f64 * o as f64;
        let bytes = (size * (n * i + o * i + n * o)) as f64;
        kernels.row("linear", &shape, operations, bytes, &mut || {
            b.linear(ops::Linear { out: &mut out, x: &x, weight: &weight, bias: None, n, i, o })
        });
        let beside = kernels.random(n * o);
        let more = bytes + (size * n * o) as f64;
        kernels.row("linear_with, residual", &shape, operations, more, &mut || {
            b.linear_with(
                ops::Linear { out: &mut out, x: &x, weight: &weight, bias: None, n, i, o },
                Epilogue::Add(&beside),
            );
        });
        kernels.row("linear_with, gelu", &shape, operations, bytes, &mut || {
            b.linear_with(
                ops::Linear { out: &mut out, x: &x, weight: &weight, bias: None, n, i, o },
                Epilogue::Activate { kept: None, activation: Activation::Gelu },
            );
        });
        kernels.row("linear_with, gate", &shape, operations, more, &mut || {
            b.linear_with(
                ops::Linear { out: &mut out, x: &x, weight: &weight, bias: None, n, i, o },
                Epilogue::Gate { kept: None, up: &beside },
            );
        });
        drop(beside);
        let mut dx = kernels.random(n * i);
        // The output is read and written.
        let input = (size * (2 * n * i + o * i + n * o)) as f64;
        kernels.row("linear_backward_input", &shape, operations, input, &mut || {
            b.linear_backward_input(ops::LinearBackwardInput {
                dx: &mut dx,
                dout: &out,
                weight: &weight,
                n,
                i,
                o,
            });
        });
        let mut dweight = kernels.floats(o * i);
        let weights = (size * (n * i + n * o) + 2 * b.sizes().wide * o * i) as f64;
        kernels.row("linear_backward_weight", &shape, operations, weights, &mut || {
            b.linear_backward_weight(ops::LinearBackwardWeight {
                dweight: &mut dweight,
                dbias: None,
                dout: &out,
                x: &x,
                n,
                i,
                o,
            });
        });
    }
}

/// What a step of decoding does: rows are few, weights come from memory.
pub fn few_rows<B: Backend>(kernels: &mut Kernels<'_, B>) {
    let layers: &[(&str, [(usize, usize); 4])] =
        if kernels.quick() { &[("odd", [(40, 24); 4])] } else { &LAYERS[1..] };
    for (name, layers) in layers {
        for (i, o) in *layers {
            let (b, size) = (kernels.bench.b, kernels.bench.b.sizes().stored);
            let sets = if kernels.quick() { 2 } else { UNCACHED.div_ceil(size * i * o).max(1) };
            let weights: Vec<B::Buf> = (0..sets).map(|_| kernels.random(o * i)).collect();
            for n in [1, 16, 64] {
                let (x, mut out, mut turn) = (kernels.random(n * i), kernels.random(n * o), 0);
                let (operations, bytes) =
                    (2.0 * (n * i * o) as f64, (size * (n * i + o * i + n * o)) as f64);
                kernels.row(
                    "linear, few rows",
                    &format!("{name} {n} x {i} x {o}"),
                    operations,
                    bytes,
                    &mut || {
                        turn += 1;
                        b.linear(ops::Linear {
                            out: &mut out,
                            x: &x,
                            weight: &weights[turn % sets],
                            bias: None,
                            n,
                            i,
                            o,
                        });
                    },
                );
            }
        }
    }
}

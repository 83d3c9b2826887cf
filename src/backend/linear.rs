//! What linear layers do in one pass beside their products, and the same in several passes.
//! Independent of the back end.

use super::{Activation, Backend};

/// What is computed from a linear layer's `x weight^T + bias`, all `[n,o]` and stored.
#[derive(Debug)]
pub enum Epilogue<'a, Buf> {
    /// `out = (x weight^T + bias) + residual`, of wide sums and rounded once where it is done in
    /// one pass; else rounded twice.
    Add(&'a Buf),
    /// `kept = x weight^T + bias`, `out = activation(kept)`, of what is, or would be, stored of
    /// `kept`: the same bits whether it is kept or not.
    Activate {
        /// For a backward pass.
        kept: Option<&'a mut Buf>,
        /// The function.
        activation: Activation,
    },
    /// `kept = x weight^T + bias`, `out = silu(kept) * up`, in the same way.
    Gate {
        /// For a backward pass.
        kept: Option<&'a mut Buf>,
        /// What is gated.
        up: &'a Buf,
    },
}

/// One of several linear layers that read the same rows.
#[derive(Debug)]
pub struct Projection<'a, Buf> {
    /// `[n,o]`, stored: overwritten.
    pub out: &'a mut Buf,
    /// `[o,i]`.
    pub weight: &'a Buf,
    /// `[o]`.
    pub bias: Option<&'a Buf>,
    /// `o`.
    pub width: usize,
}

/// [`Backend::linear_with`] in several passes.
#[expect(clippy::too_many_arguments)]
pub fn in_passes<B: Backend>(
    b: &B,
    out: &mut B::Buf,
    x: &B::Buf,
    weight: &B::Buf,
    bias: Option<&B::Buf>,
    epilogue: Epilogue<'_, B::Buf>,
    n: usize,
    i: usize,
    o: usize,
) {
    let spare = |kept: &Option<&mut B::Buf>| b.zeros(if kept.is_some() { 0 } else { n * o });
    match epilogue {
        Epilogue::Add(residual) => {
            b.linear(out, x, weight, bias, n, i, o);
            b.add(out, residual);
        }
        Epilogue::Activate { kept, activation } => {
            let mut spare = spare(&kept);
            let kept = kept.unwrap_or(&mut spare);
            b.linear(kept, x, weight, bias, n, i, o);
            b.activation(out, kept, activation);
        }
        Epilogue::Gate { kept, up } => {
            let mut spare = spare(&kept);
            let kept = kept.unwrap_or(&mut spare);
            b.linear(kept, x, weight, bias, n, i, o);
            b.swiglu(out, kept, up);
        }
    }
}

//! Selection of the GEMM kernels: our tiles, our tiles for the Hopper generation, or NVIDIA's
//! library. Independent of kernels and of time: the choice of `auto` is in a table. The products of
//! attention are selected separately, since they have to add up as those of the paged cache do.
//!
//! 1. Kinds may differ in bits. The kind of a product follows the device, the product and the
//!    request, never rows, so that a row has the same bits in any batch. Within a kind, tiles
//!    follow the shape.
//! 2. The library promises no such thing: it may take another algorithm for other rows. So it
//!    computes only gradients, and what samples, scores and trains a policy computes forward by one
//!    kind (the ratio of PPO's first minibatch is 1, to the bit). Gradients by it are the same from
//!    run to run (`cublaslt.rs`), but a batch in two halves gives others than the whole.
//! 3. Attention over whole sequences has the bits of attention over the paged cache, whose products
//!    are those of warps. So products of warp groups compute it only where a device was seen to add
//!    both up alike (`attention_hopper.rs`); where it does not, the class says so.

use std::str::FromStr;

use super::device::Device;
use crate::DType;
use crate::error::{Result, environment};

/// A request for the kernels of matrix products, in options and configs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GemmRequest {
    /// What the table says.
    #[default]
    Auto,
    /// kernels/linear.cu.
    Plain,
    /// kernels/linear_hopper.cu, for storage types and widths that it takes.
    Hopper,
    /// cuBLASLt for gradients, what the table says for the rest.
    Cublaslt,
    /// cuBLASLt for all products: to be measured, never to sample, score or train with.
    CublasltAlone,
}

impl GemmRequest {
    /// The words of options and configs; the last one is for measurements.
    const WORDS: [(&str, GemmRequest); 5] = [
        ("auto", GemmRequest::Auto),
        ("plain", GemmRequest::Plain),
        ("hopper", GemmRequest::Hopper),
        ("cublaslt", GemmRequest::Cublaslt),
        ("cublaslt_alone", GemmRequest::CublasltAlone),
    ];

    /// The word of a request.
    pub fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, request)| *request == self);
        found.expect("every request has a word").0
    }

    /// The request of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, request)| *request)
    }
}

impl FromStr for GemmRequest {
    type Err = String;

    /// What a user may request: not [`GemmRequest::CublasltAlone`].
    fn from_str(text: &str) -> Result<Self, String> {
        Self::of_word(text)
            .filter(|request| *request != GemmRequest::CublasltAlone)
            .ok_or_else(|| "expected auto, plain, hopper or cublaslt".into())
    }
}

/// The kernels of a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GemmKind {
    /// kernels/linear.cu: any device.
    Plain,
    /// kernels/linear_hopper.cu, attention_hopper.cu, attention_backward_hopper.cu: compute
    /// capability 9.0.
    Hopper,
    /// cuBLASLt.
    Cublaslt,
}

/// What computes the products of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GemmSelection {
    /// `linear`.
    pub forward: GemmKind,
    /// `linear_backward_input` and `linear_backward_weight`.
    pub backward: GemmKind,
    /// Attention over whole sequences, and its gradient.
    pub attention: GemmKind,
}

/// The one compute capability that the kernels of *_hopper.cu are for.
const HOPPER: (i32, i32) = (9, 0);

/// What was faster for a class of products.
struct Faster {
    capability: (i32, i32),
    selection: GemmSelection,
}

/// What `auto` takes; [`GemmKind::Plain`] where there is no row. Of 2026-11-23: nothing has been
/// measured yet. The row for Hopper is by construction (docs/kernels.md: `mma.sync` reaches about
/// 0.62 of what `wgmma` does there). A measurement puts its date, its device and its ratios here.
const FASTER: &[Faster] =
    &[Faster { capability: HOPPER, selection: GemmSelection::all(GemmKind::Hopper) }];

impl GemmSelection {
    /// One kind for everything.
    pub const fn all(kind: GemmKind) -> GemmSelection {
        GemmSelection { forward: kind, backward: kind, attention: kind }
    }

    /// The selection for a request on a device. `wgmma_matches_mma` tests whether sums of `wgmma`
    /// have the bits of those of `mma.sync`; called if attention would be computed by `wgmma`.
    pub fn of(
        request: GemmRequest,
        device: &Device,
        wgmma_matches_mma: impl FnOnce() -> Result<bool>,
    ) -> Result<GemmSelection> {
        let faster = FASTER.iter().find(|row| row.capability == device.context().capability);
        let auto = faster.map_or(GemmSelection::all(GemmKind::Plain), |row| row.selection);
        let selection = match request {
            GemmRequest::Auto => auto,
            GemmRequest::Plain => GemmSelection::all(GemmKind::Plain),
            GemmRequest::Hopper if device.context().capability == HOPPER => {
                GemmSelection::all(GemmKind::Hopper)
            }
            GemmRequest::Hopper => {
                let (major, minor) = device.context().capability;
                let what = format!(
                    "products for compute capability 9.0 were asked for; {} has {major}.{minor}",
                    device.context().name
                );
                return Err(environment(what)
                    .hint("leave --gemm out, or take --gemm plain")
                    .into());
            }
            GemmRequest::Cublaslt => GemmSelection { backward: GemmKind::Cublaslt, ..auto },
            GemmRequest::CublasltAlone => {
                GemmSelection { forward: GemmKind::Cublaslt, backward: GemmKind::Cublaslt, ..auto }
            }
        };
        let differs = selection.attention == GemmKind::Hopper && !wgmma_matches_mma()?;
        Ok(if differs {
            GemmSelection { attention: GemmKind::Plain, ..selection }
        } else {
            selection
        })
    }

    /// What decides the bits of products, in words, each after a space; of the library, its
    /// version. Single precision by our own kernels has the same bits on every device, so there is
    /// nothing to say. Tensor cores of another generation may add up otherwise, and the library is
    /// another one with every version.
    pub fn words(self, device: &Device, kind: DType, library: Option<String>) -> String {
        let ours = match (kind, self.forward) {
            (DType::F32, _) => "",
            (DType::Bf16, GemmKind::Hopper) => " hopper",
            (DType::Bf16, GemmKind::Plain | GemmKind::Cublaslt) => " plain",
        };
        // Where the generation's own kernels compute, whether they compute attention too is the
        // device's doing.
        let attention = match (kind, self.forward, self.attention) {
            (DType::F32, ..) => "",
            (DType::Bf16, _, GemmKind::Hopper) => " attention hopper",
            (DType::Bf16, GemmKind::Hopper, _) => " attention plain",
            (DType::Bf16, ..) => "",
        };
        let library = library.map_or_else(String::new, |version| format!(" cublaslt {version}"));
        let (major, minor) = device.context().capability;
        let generation = if ours.is_empty() && library.is_empty() {
            String::new()
        } else {
            format!(" sm_{major}{minor}")
        };
        format!("{ours}{attention}{library}{generation}")
    }

    /// Whether the library is needed.
    pub fn library(self) -> bool {
        self.forward == GemmKind::Cublaslt || self.backward == GemmKind::Cublaslt
    }
}

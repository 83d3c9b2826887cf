//! Which way computes a matrix product: our tiles, our tiles for the Hopper generation, or NVIDIA's
//! library. Knows no kernel and no time: what `auto` takes is in a table. Attention's products
//! are among them: they have a separate way, since they have to add up as those of the paged
//! cache do.
//!
//! 1. Ways may differ in bits. The way of a product follows the device, the product and the wish,
//!    never rows, so that a row has the same bits in any company. Within a way, tiles follow the
//!    shape.
//! 2. The library promises no such thing: it may take another algorithm for other rows. So it
//!    computes gradients alone, and what samples, scores and trains a policy computes forward in
//!    one way (the ratio of PPO's first minibatch is 1, to the bit). Gradients by it are the same
//!    from run to run (`cublaslt.rs`), but a batch in two halves gives others than the whole.
//! 3. Attention over whole sequences has the bits of attention over the paged cache, whose products
//!    are those of warps. So products of warp groups compute it only where a device was seen to add
//!    both up alike (`attention_hopper.rs`); where it does not, the class says so.

use super::buffer::Type;
use super::driver::Device;
use crate::error::{Result, environment};

/// What a user may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gemm {
    /// What the table says.
    #[default]
    Auto,
    /// kernels/linear.cu.
    Plain,
    /// kernels/linear_hopper.cu, for storage types and widths that it takes.
    Hopper,
    /// cuBLASLt for gradients, what the table says for the rest.
    Library,
    /// cuBLASLt for all products: to be measured, never to sample, score or train with.
    LibraryAlone,
}

/// A way to compute products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// kernels/linear.cu: any device.
    Plain,
    /// kernels/linear_hopper.cu, attention_hopper.cu, attention_backward_hopper.cu: compute
    /// capability 9.0.
    Hopper,
    /// cuBLASLt.
    Library,
}

/// What computes the products of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// `linear`.
    pub forward: Way,
    /// `linear_backward_input` and `linear_backward_weight`.
    pub backward: Way,
    /// Attention over whole sequences, and its gradient.
    pub attention: Way,
}

/// The one compute capability that the kernels of *_hopper.cu are for.
const HOPPER: (i32, i32) = (9, 0);

/// What was faster for a class of products.
struct Faster {
    capability: (i32, i32),
    ways: Ways,
}

/// What `auto` takes; [`Way::Plain`] where there is no row. Of 2026-11-23: nothing has been
/// measured yet. The row for Hopper is by construction (docs/kernels.md: `mma.sync` reaches about
/// 0.62 of what `wgmma` does there). A measurement puts its date, its device and its ratios here.
const FASTER: &[Faster] = &[Faster { capability: HOPPER, ways: Ways::all(Way::Hopper) }];

impl Ways {
    /// One way for everything.
    pub const fn all(way: Way) -> Ways {
        Ways { forward: way, backward: way, attention: way }
    }

    /// What a wish means on a device. `adds_alike` looks whether the device adds products of
    /// warp groups up as those of warps; it is asked where attention would be computed by the
    /// former.
    pub fn of(
        gemm: Gemm,
        device: &Device,
        adds_alike: impl FnOnce() -> Result<bool>,
    ) -> Result<Ways> {
        let faster = FASTER.iter().find(|row| row.capability == device.capability);
        let auto = faster.map_or(Ways::all(Way::Plain), |row| row.ways);
        let ways = match gemm {
            Gemm::Auto => auto,
            Gemm::Plain => Ways::all(Way::Plain),
            Gemm::Hopper if device.capability == HOPPER => Ways::all(Way::Hopper),
            Gemm::Hopper => {
                let (major, minor) = device.capability;
                let what = format!(
                    "products for compute capability 9.0 were asked for; {} has {major}.{minor}",
                    device.name
                );
                return Err(environment(what)
                    .hint("leave --gemm out, or take --gemm plain")
                    .into());
            }
            Gemm::Library => Ways { backward: Way::Library, ..auto },
            Gemm::LibraryAlone => Ways { forward: Way::Library, backward: Way::Library, ..auto },
        };
        let differs = ways.attention == Way::Hopper && !adds_alike()?;
        Ok(if differs { Ways { attention: Way::Plain, ..ways } } else { ways })
    }

    /// What decides the bits of products, in words, each after a space; of the library, its
    /// version. Single precision by our own kernels has the same bits on every device, so there is
    /// nothing to say. Tensor cores of another generation may add up otherwise, and the library is
    /// another one with every version.
    pub fn words(self, device: &Device, kind: Type, library: Option<String>) -> String {
        let ours = match (kind, self.forward) {
            (Type::F32, _) => "",
            (Type::Bf16, Way::Hopper) => " hopper",
            (Type::Bf16, Way::Plain | Way::Library) => " plain",
        };
        // Where the generation's own kernels compute, whether they compute attention too is the
        // device's doing.
        let attention = match (kind, self.forward, self.attention) {
            (Type::F32, ..) => "",
            (Type::Bf16, _, Way::Hopper) => " attention hopper",
            (Type::Bf16, Way::Hopper, _) => " attention plain",
            (Type::Bf16, ..) => "",
        };
        let library = library.map_or_else(String::new, |version| format!(" cublaslt {version}"));
        let (major, minor) = device.capability;
        let generation = if ours.is_empty() && library.is_empty() {
            String::new()
        } else {
            format!(" sm_{major}{minor}")
        };
        format!("{ours}{attention}{library}{generation}")
    }

    /// Whether the library is needed.
    pub fn library(self) -> bool {
        self.forward == Way::Library || self.backward == Way::Library
    }
}

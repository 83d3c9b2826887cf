//! NVIDIA's library of matrix products, cuBLASLt, loaded when it is asked for. Knows no layer and
//! no wish.
//!
//! 1. The library takes matrices by columns, so a row-major matrix is its transpose: every product
//!    is computed as that of the transposes, in the other order.
//! 2. The same shape has the same algorithm: the library's first choice for it, without a
//!    measurement, with a fixed workspace, and without sums in parts (split-K), whose order could
//!    vary. So a run has the same bits again with the same version of the library on the same
//!    device. Another shape may have another algorithm, and other bits for the same row.
//! 3. Numbers of f32 are multiplied as f32, never rounded to TF32.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::{result, sys};

use super::buffer::Buf;
use super::device::{Device, Memory};
use super::libraries;
use crate::DType;
use crate::error::{Failure, Kind, environment, raise};
use crate::ops::{Linear, LinearBackwardInput, LinearBackwardWeight};

/// Bytes that an algorithm may use beside its matrices: what the library's maker advises for
/// Hopper.
const WORKSPACE: usize = 32 << 20;

/// A product by columns, `d[m,n] = a b` or `d += a b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Product {
    /// Rows of the output, by columns.
    m: usize,
    /// Columns of the output.
    n: usize,
    /// What is summed over.
    k: usize,
    /// Whether `a[k,m]` and `b[n,k]` are given instead of `a[m,k]` and `b[k,n]`.
    transposed: [bool; 2],
    inputs: DType,
    output: DType,
    adds: bool,
    biased: bool,
}

/// A product that the library has been told of, and how it does it.
struct Planned {
    product: Product,
    operation: sys::cublasLtMatmulDesc_t,
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

// SAFETY: the library's descriptions are plain memory; they are used under the lock of
// `Library::planned`.
unsafe impl Send for Planned {}

impl Drop for Planned {
    fn drop(&mut self) {
        // SAFETY: made by the library and destroyed once. An error cannot be returned from here.
        unsafe {
            let _ = result::destroy_matmul_desc(self.operation);
            self.layouts.iter().for_each(|layout| _ = result::destroy_matrix_layout(*layout));
        }
    }
}

/// The library, open on a device.
pub struct Library {
    device: Arc<Device>,
    handle: sys::cublasLtHandle_t,
    /// As the library says it: 130100 for 13.1.0.
    version: usize,
    /// Descriptions by product, and the memory that algorithms use, which is one stream's.
    planned: Mutex<(BTreeMap<Product, Planned>, Option<Memory>)>,
}

// SAFETY: the handle may be used by any thread that has bound the context.
unsafe impl Send for Library {}
// SAFETY: as above; all else is under a lock.
unsafe impl Sync for Library {}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cuBLASLt {}", self.version())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: made by `open`, and destroyed once. An error cannot be returned from here.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// The fault behind a status of a call that was to do `what`.
fn fault(what: &str, result::CublasError(status): result::CublasError) -> Failure {
    match status {
        sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED => {
            environment(format!("cuBLASLt cannot {what}: it has no algorithm for that"))
                .hint("leave --gemm out, or take --gemm plain")
        }
        sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
            environment(format!("cuBLASLt cannot {what}: its memory is full"))
        }
        status => Failure::new(Kind::Bug, format!("cuBLASLt cannot {what}: {status:?}")),
    }
}

fn data_type(kind: DType) -> sys::cudaDataType {
    match kind {
        DType::F32 => sys::cudaDataType::CUDA_R_32F,
        DType::Bf16 => sys::cudaDataType::CUDA_R_16BF,
    }
}

/// A matrix `[rows, columns]` by columns, one after the other.
fn layout(
    kind: DType,
    rows: usize,
    columns: usize,
) -> Result<sys::cublasLtMatrixLayout_t, result::CublasError> {
    result::create_matrix_layout(data_type(kind), rows as u64, columns as u64, rows as i64)
}

impl Product {
    /// How the library does it.
    fn planned(self, handle: sys::cublasLtHandle_t) -> Result<Planned, result::CublasError> {
        let Product { m, n, k, transposed, inputs, output, biased, .. } = self;
        let swapped = |swap: bool, rows: usize, columns: usize| {
            if swap { (columns, rows) } else { (rows, columns) }
        };
        let [(a_rows, a_columns), (b_rows, b_columns)] =
            [swapped(transposed[0], m, k), swapped(transposed[1], k, n)];
        let operation = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        )?;
        let layouts = [
            layout(inputs, a_rows, a_columns)?,
            layout(inputs, b_rows, b_columns)?,
            layout(output, m, n)?,
        ];
        let mut planned = Planned {
            product: self,
            operation,
            layouts,
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        planned.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(transposed[0]))?;
        planned.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(transposed[1]))?;
        if biased {
            planned.set(
                Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE,
                &(sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32),
            )?;
        }
        planned.algorithm = planned.choose(handle)?;
        Ok(planned)
    }

    fn words(&self) -> String {
        let Product { m, n, k, inputs, output, .. } = self;
        format!("multiply {n} x {k} by {k} x {m} of {} into {}", inputs.name(), output.name())
    }
}

impl Planned {
    fn set<T>(
        &mut self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: &T,
    ) -> Result<(), result::CublasError> {
        // SAFETY: the operation lives, and the value has as many bytes as are said.
        unsafe {
            result::set_matmul_desc_attribute(
                self.operation,
                attribute,
                std::ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        }
    }

    /// The library's first choice among algorithms that sum in one part.
    fn choose(
        &self,
        handle: sys::cublasLtHandle_t,
    ) -> Result<sys::cublasLtMatmulAlgo_t, result::CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = result::create_matmul_pref()?;
        let [a, b, d] = self.layouts;
        let (workspace, whole) = (
            WORKSPACE as u64,
            sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_NONE as u32,
        );
        // SAFETY: everything was made by the library and lives through the calls; the values have
        // as many bytes as are said.
        unsafe {
            let set = |attribute, value: *const c_void, bytes| {
                result::set_matmul_pref_attribute(preference, attribute, value, bytes)
            };
            let chosen = set(
                Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const workspace).cast(),
                8,
            )
            .and_then(|()| {
                set(
                    Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                    (&raw const whole).cast(),
                    4,
                )
            })
            .and_then(|()| {
                result::get_matmul_algo_heuristic(handle, self.operation, a, b, d, d, preference)
            });
            let _ = result::destroy_matmul_pref(preference);
            chosen.map(|chosen| chosen.algo)
        }
    }
}

impl Library {
    /// Loads the library for a device.
    pub fn open(device: &Arc<Device>) -> Result<Library, Failure> {
        device.context().bind()?;
        // SAFETY: looks for a library and loads it, as the first call would. cudarc would panic
        // where it is absent.
        if !unsafe { sys::is_culib_present() } && !libraries::load(libraries::CUBLASLT) {
            return Err(environment(
                "there is no cuBLASLt, which --gemm cublaslt asks for: libcublasLt.so, \
                 libcublasLt.so.13 and libcublasLt.so.12 are in no folder of the dynamic linker, \
                 of $CUDA_HOME, /usr/local/cuda* and the Python environment",
            )
            .hint(
                "install the package libcublas-13-0 of NVIDIA's repositories, or `pip install \
                 nvidia-cublas==13.0.*`, and name the folder that holds libcublasLt.so.13 in \
                 LD_LIBRARY_PATH; or leave --gemm out",
            ));
        }
        // SAFETY: tells a number.
        let version = unsafe { sys::cublasLtGetVersion() };
        let handle = result::create_handle().map_err(|error| fault("start", error))?;
        Ok(Library { device: device.clone(), handle, version, planned: Mutex::default() })
    }

    /// As people write it.
    pub fn version(&self) -> String {
        let number = self.version;
        format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
    }

    /// `d = a b` or `d += a b`, by columns, and `bias[m]` to every column where there is one.
    fn multiply(&self, d: &mut Buf, [a, b]: [&Buf; 2], bias: Option<&Buf>, product: Product) {
        // The library queues by itself.
        self.device.finish();
        self.device.context().bound();
        let failed = |error| fault(&product.words(), error);
        let mut locked = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        let (planned, workspace) = &mut *locked;
        let workspace = workspace.get_or_insert_with(|| self.device.allocate_for_good(WORKSPACE));
        let planned = match planned.entry(product) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => new
                .insert(product.planned(self.handle).unwrap_or_else(|error| raise(failed(error)))),
        };
        if let Some(bias) = bias {
            let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
            planned
                .set(attribute, &bias.memory().address())
                .unwrap_or_else(|error| raise(failed(error)));
        }
        let (one, beta) = (1.0f32, f32::from(u8::from(planned.product.adds)));
        let at = |x: &Buf| x.memory().address() as *const c_void;
        let out = d.memory().address() as *mut c_void;
        let [a_layout, b_layout, d_layout] = planned.layouts;
        let (workspace, stream) =
            (workspace.address() as *mut c_void, self.device.context().stream().cast());
        // SAFETY: the layouts are of matrices as large as the buffers (`Product`), whose lengths
        // the caller has asserted; the work is queued on the one stream, behind what wrote the
        // inputs and before what frees them.
        let queued = unsafe {
            result::matmul(
                self.handle,
                planned.operation,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                at(a),
                a_layout,
                at(b),
                b_layout,
                out,
                d_layout,
                out,
                d_layout,
                &planned.algorithm,
                workspace,
                WORKSPACE,
                stream,
            )
        };
        queued.unwrap_or_else(|error| raise(failed(error)));
    }

    /// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`.
    pub fn linear(&self, layer: Linear<'_, Buf>) {
        let Linear { out, x, weight, bias, n, i, o } = layer;
        let (inputs, output) = (x.kind(), out.kind());
        if let Some(bias) = bias {
            assert_eq!(bias.kind(), output, "the library adds a bias of the output's storage type");
        }
        let product = Product {
            m: o,
            n,
            k: i,
            transposed: [true, false],
            inputs,
            output,
            adds: false,
            biased: bias.is_some(),
        };
        self.multiply(out, [weight, x], bias, product);
    }

    /// `dx[n,i] = dout[n,o] weight[o,i]`, and what `dx` holds where it `adds`.
    pub fn backward_input(&self, layer: LinearBackwardInput<'_, Buf>, adds: bool) {
        let LinearBackwardInput { dx, dout, weight, n, i, o } = layer;
        let (inputs, output) = (dout.kind(), dx.kind());
        let product = Product {
            m: i,
            n,
            k: o,
            transposed: [false, false],
            inputs,
            output,
            adds,
            biased: false,
        };
        self.multiply(dx, [weight, dout], None, product);
    }

    /// `dweight[o,i] += dout[n,o]^T x[n,i]`.
    pub fn backward_weight(&self, layer: LinearBackwardWeight<'_, Buf>) {
        let LinearBackwardWeight { dweight, dout, x, n, i, o, .. } = layer;
        let (inputs, output) = (dout.kind(), dweight.kind());
        let product = Product {
            m: i,
            n: o,
            k: n,
            transposed: [false, true],
            inputs,
            output,
            adds: true,
            biased: false,
        };
        self.multiply(dweight, [x, dout], None, product);
    }
}

//! Machine code on a device: modules, their kernels, and arguments of calls.

use std::ffi::{CString, c_void};

use cudarc::driver::{result, sys};

use super::fault::fault;
use crate::error::Failure;

/// Numbers whose bytes are all that they are.
pub trait Plain: Copy + Default {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for i64 {}
impl Plain for u64 {}
impl Plain for f32 {}
impl Plain for f64 {}

/// The bytes of plain numbers.
pub fn bytes_of<T: Plain>(host: &[T]) -> &[u8] {
    // SAFETY: plain numbers are bytes, without gaps.
    unsafe { std::slice::from_raw_parts(host.as_ptr().cast(), size_of_val(host)) }
}

/// Loaded machine code. Lives as long as the process.
#[derive(Debug)]
pub struct Module {
    handle: sys::CUmodule,
}

// SAFETY: the driver's handles may be used by any thread that has bound the context.
unsafe impl Send for Module {}
// SAFETY: as above; calls on a module change nothing in it.
unsafe impl Sync for Module {}

/// A kernel.
#[derive(Debug)]
pub struct Function {
    name: String,
    handle: sys::CUfunction,
    parameters: Vec<usize>,
}

// SAFETY: as of modules.
unsafe impl Send for Function {}
// SAFETY: as of modules.
unsafe impl Sync for Function {}

impl Function {
    /// As its file calls it, with the storage type.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of each parameter, as the machine code has them.
    pub fn parameters(&self) -> &[usize] {
        &self.parameters
    }

    /// The driver's handle.
    pub fn handle(&self) -> sys::CUfunction {
        self.handle
    }
}

impl Module {
    /// Loads machine code, on a device that is bound.
    pub fn load(cubin: &[u8]) -> Result<Module, Failure> {
        // SAFETY: the driver checks the image.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) };
        Ok(Module { handle: module.map_err(|error| fault("load kernels", error))? })
    }

    /// The kernel of this name, which may use `shared` bytes of dynamic shared memory.
    pub fn function(&self, name: &str, shared: usize) -> Result<Function, Failure> {
        let wanted = CString::new(name).expect("names of kernels are words");
        let missing = |error| fault(&format!("find the kernel {name}"), error);
        // SAFETY: the module is loaded, and stays so.
        let found = unsafe { result::module::get_function(self.handle, wanted) };
        let handle = found.map_err(missing)?;
        let mut parameters = Vec::new();
        let (mut offset, mut bytes) = (0, 0);
        // SAFETY: the function was just found; the call writes two numbers, or fails where there is
        // no such parameter.
        while unsafe { sys::cuFuncGetParamInfo(handle, parameters.len(), &mut offset, &mut bytes) }
            .result()
            .is_ok()
        {
            parameters.push(bytes);
        }
        // Without the attribute a launch may have 48 KiB of static and dynamic shared memory
        // together.
        if shared > 0 {
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function was just found.
            unsafe { result::function::set_function_attribute(handle, attribute, shared as i32) }
                .map_err(|error| {
                fault(&format!("give {name} {shared} bytes of shared memory"), error)
            })?;
        }
        Ok(Function { name: name.to_owned(), handle, parameters })
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// A pointer, 64 bits.
    Address(u64),
    /// `size` of the prelude, 64 bits.
    Size(i64),
    /// 32 bits.
    Integer(i32),
    /// 32 bits.
    Float(f32),
    /// 128 bytes: where a matrix is, for tensor copies.
    Map(sys::CUtensorMap),
}

impl Argument {
    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        match self {
            Argument::Integer(_) | Argument::Float(_) => 4,
            Argument::Address(_) | Argument::Size(_) => 8,
            Argument::Map(_) => 128,
        }
    }

    /// Where its bytes are; the driver only reads them.
    pub fn pointer(&self) -> *mut c_void {
        match self {
            Argument::Address(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Argument::Size(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Argument::Integer(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Argument::Float(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Argument::Map(x) => std::ptr::from_ref(x).cast_mut().cast(),
        }
    }
}

//! Kernels launched one by one on a real device instead of the emulator: machine code made
//! beforehand or by NVRTC, memory and launches by the driver.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::Mutex;

use libloading::os::unix::{Library, RTLD_NOW, Symbol};
use posttrain::backend::DType;
use posttrain::backend::cuda::{Code, architecture};

type Status = c_uint;
type Handle = *mut c_void;
type Address = u64;

/// An open device.
pub struct Hardware {
    driver: Library,
    context: usize,
    architecture: String,
    code: Code,
    modules: Mutex<BTreeMap<String, usize>>,
}

/// Calls a function of the driver, which must succeed.
macro_rules! call {
    ($self:expr, $name:literal, $($argument:expr => $type:ty),* $(,)?) => {{
        // SAFETY: the types are those of CUDA's driver, and what pointers point to lives through
        // the call.
        let code = unsafe {
            let function: Symbol<unsafe extern "C" fn($($type),*) -> Status> = $self.driver.get($name.as_bytes()).expect("the driver has this call");
            function($($argument),*)
        };
        assert_eq!(code, 0, "{} failed", $name);
    }};
}

impl Hardware {
    /// Device `index` of the driver that the dynamic linker finds, with machine code in a folder.
    pub fn open(index: c_int, folder: &Path) -> Hardware {
        // SAFETY: loads the driver, as the program does.
        let driver = unsafe {
            Library::open(Some("libcuda.so.1"), RTLD_NOW)
                .or_else(|_| Library::open(Some("libcuda.so"), RTLD_NOW))
        };
        let code = Code::open(folder).expect("NVRTC or machine code is there");
        let driver = driver.expect("the driver is there");
        let mut hardware = Hardware {
            driver,
            context: 0,
            architecture: String::new(),
            code,
            modules: Mutex::default(),
        };
        let (mut device, mut context, mut numbers) = (0, std::ptr::null_mut(), [0, 0]);
        call!(hardware, "cuInit", 0 => c_uint);
        call!(hardware, "cuDeviceGet", &mut device => *mut c_int, index => c_int);
        for (number, attribute) in numbers.iter_mut().zip([75, 76]) {
            call!(hardware, "cuDeviceGetAttribute", number => *mut c_int, attribute => c_int,
                device => c_int);
        }
        call!(hardware, "cuDevicePrimaryCtxRetain", &mut context => *mut Handle, device => c_int);
        (hardware.context, hardware.architecture) =
            (context as usize, architecture((numbers[0], numbers[1])));
        hardware
    }

    /// Whether there are kernels for this one chip.
    pub fn has(&self, stem: &str) -> bool {
        !stem.ends_with("_hopper") || self.architecture == "sm_90a"
    }

    fn bind(&self) {
        call!(self, "cuCtxSetCurrent", self.context as Handle => Handle);
    }

    /// Waits for all that was queued, which tells what failed.
    fn wait(&self) {
        call!(self, "cuCtxSynchronize",);
    }

    /// Memory full of NaN in either type.
    pub fn allocate(&self, bytes: usize) -> Address {
        self.bind();
        let mut address = 0;
        call!(self, "cuMemAlloc_v2", &mut address => *mut Address, bytes.max(4) => usize);
        call!(self, "cuMemsetD8Async", address => Address, 0xff => u8, bytes.max(4) => usize,
            std::ptr::null_mut() => Handle);
        self.wait();
        address
    }

    pub fn free(&self, address: Address) {
        self.bind();
        call!(self, "cuMemFree_v2", address => Address);
    }

    pub fn write(&self, address: Address, bytes: &[u8]) {
        self.bind();
        let from = bytes.as_ptr().cast();
        call!(self, "cuMemcpyHtoDAsync_v2", address => Address, from => *const c_void,
            bytes.len() => usize, std::ptr::null_mut() => Handle);
        self.wait();
    }

    pub fn read(&self, bytes: &mut [u8], address: Address) {
        self.bind();
        let to = bytes.as_mut_ptr().cast();
        call!(self, "cuMemcpyDtoHAsync_v2", to => *mut c_void, address => Address,
            bytes.len() => usize, std::ptr::null_mut() => Handle);
        self.wait();
    }

    /// A matrix `[rows, columns]` of bf16 for copies of boxes of `box_rows` rows and 64 columns,
    /// with the 128-byte swizzle.
    pub fn map(
        &self,
        map: *mut c_void,
        address: Address,
        rows: usize,
        columns: usize,
        box_rows: usize,
    ) {
        self.bind();
        let (sizes, strides) = ([columns as u64, rows as u64], [2 * columns as u64]);
        let (boxes, steps) = ([64, box_rows as u32], [1u32, 1]);
        const BF16: c_int = 9;
        const SWIZZLE_128: c_int = 3;
        const PROMOTION_256: c_int = 3;
        call!(
            self, "cuTensorMapEncodeTiled", map => *mut c_void, BF16 => c_int, 2 => c_uint,
            address => Address, sizes.as_ptr() => *const u64,
            strides.as_ptr() => *const u64, boxes.as_ptr() => *const u32,
            steps.as_ptr() => *const u32, 0 => c_int, SWIZZLE_128 => c_int,
            PROMOTION_256 => c_int, 0 => c_int,
        );
    }

    fn module(&self, stem: &str, kind: DType) -> usize {
        let mut modules = self.modules.lock().unwrap();
        *modules.entry(format!("{stem}_{}", kind.name())).or_insert_with(|| {
            let load = |cubin: &[u8]| {
                let mut module = std::ptr::null_mut();
                call!(self, "cuModuleLoadData", &mut module => *mut Handle,
                    cubin.as_ptr().cast() => *const c_void);
                Ok(module as usize)
            };
            self.code.module(&self.architecture, stem, kind, load).expect("kernels load")
        })
    }

    /// Runs a kernel and waits for it.
    #[expect(clippy::too_many_arguments)]
    pub fn launch(
        &self,
        kind: DType,
        stem: &str,
        kernel: &str,
        grid: [u32; 3],
        threads: usize,
        shared: usize,
        pointers: &mut [*mut c_void],
    ) {
        self.bind();
        let module = self.module(stem, kind) as Handle;
        let name = CString::new(format!("{kernel}_{}", kind.name())).unwrap();
        let mut function = std::ptr::null_mut();
        call!(self, "cuModuleGetFunction", &mut function => *mut Handle, module => Handle,
            name.as_ptr() => *const c_char);
        if shared > 0 {
            const DYNAMIC_SHARED: c_int = 8;
            call!(self, "cuFuncSetAttribute", function => Handle, DYNAMIC_SHARED => c_int,
                shared as c_int => c_int);
        }
        let ([x, y, z], threads, shared) = (grid, threads as u32, shared as u32);
        call!(
            self, "cuLaunchKernel", function => Handle, x => c_uint, y => c_uint, z => c_uint,
            threads => c_uint, 1 => c_uint, 1 => c_uint,
            shared => c_uint, std::ptr::null_mut() => Handle,
            pointers.as_mut_ptr() => *mut *mut c_void,
            std::ptr::null_mut() => *mut *mut c_void,
        );
        self.wait();
    }
}

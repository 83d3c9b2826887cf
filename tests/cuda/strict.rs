//! The emulated driver refuses what a driver refuses at a launch: without this a kernel that no
//! device takes would pass every test here.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};

use libloading::os::unix::{Library, RTLD_NOW, Symbol};
use posttrain::backend::DType;
use posttrain::backend::cuda::{Compiler, files, headers, options};

use super::emulated::load;

type Handle = *mut c_void;

const INVALID_VALUE: c_uint = 1;
const OUT_OF_RESOURCES: c_uint = 701;

/// Calls a function of the driver; its result.
macro_rules! call {
    ($driver:expr, $name:literal, $($argument:expr => $type:ty),* $(,)?) => {{
        // SAFETY: the types are those of CUDA's driver, and what pointers point to lives through
        // the call.
        unsafe {
            let function: Symbol<unsafe extern "C" fn($($type),*) -> c_uint> =
                $driver.get($name.as_bytes()).unwrap();
            function($($argument),*)
        }
    }};
}

/// A kernel that returns at once where it is given no rows, under these budgets of its module.
struct Kernel {
    driver: Library,
    function: Handle,
}

impl Kernel {
    /// `rms_norm_f32`, of at most 256 threads; `None` without a C++ compiler.
    fn with(budget: &str) -> Option<Kernel> {
        let folder = load()?;
        // SAFETY: loading the emulator runs nothing but the list of its kernels.
        let driver = unsafe { Library::open(Some(folder.join("libcuda.so")), RTLD_NOW) }.unwrap();
        let source = files().iter().find(|source| source.name == "norm.cu").unwrap();
        let (image, _) = Compiler::find()
            .unwrap()
            .compile(*source, headers(), &options("sm_90a", DType::F32))
            .unwrap();
        let text = String::from_utf8(image).unwrap();
        let image =
            CString::new(format!("{}\n*: {budget}\n", text.lines().next().unwrap())).unwrap();
        let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
        let loaded = call!(driver, "cuModuleLoadData", &mut module => *mut Handle,
            image.as_ptr().cast() => *const c_void);
        assert_eq!(loaded, 0);
        let name = c"rms_norm_f32".as_ptr();
        assert_eq!(
            call!(driver, "cuModuleGetFunction", &mut function => *mut Handle, module => Handle,
                name => *const c_char),
            0
        );
        Some(Kernel { driver, function })
    }

    /// Lets launches have so much dynamic shared memory.
    fn allow(&self, shared: usize) -> c_uint {
        const DYNAMIC_SHARED: c_int = 8;
        call!(self.driver, "cuFuncSetAttribute", self.function => Handle, DYNAMIC_SHARED => c_int,
            shared as c_int => c_int)
    }

    fn launch(&self, [x, y, z]: [u32; 3], threads: u32, shared: usize) -> c_uint {
        // No rows; enough zeros for every argument.
        let mut zero = [0u64; 2];
        let mut arguments = [zero.as_mut_ptr().cast::<c_void>(); 16];
        call!(
            self.driver, "cuLaunchKernel", self.function => Handle, x => c_uint, y => c_uint,
            z => c_uint, threads => c_uint, 1 => c_uint,
            1 => c_uint, shared as c_uint => c_uint, std::ptr::null_mut() => Handle,
            arguments.as_mut_ptr() => *mut *mut c_void,
            std::ptr::null_mut() => *mut *mut c_void,
        )
    }
}

#[test]
fn sizes_of_grids_and_blocks_are_held_to_their_limits() {
    let Some(kernel) = Kernel::with("32 registers") else { return };
    assert_eq!(kernel.launch([1, 1, 1], 256, 0), 0);
    for grid in [[0, 1, 1], [1 << 31, 1, 1], [1, 65_536, 1], [1, 1, 65_536]] {
        assert_eq!(kernel.launch(grid, 256, 0), INVALID_VALUE, "{grid:?}");
    }
    for threads in [0, 257, 1024, 1056] {
        assert_eq!(
            kernel.launch([1, 1, 1], threads, 0),
            INVALID_VALUE,
            "{threads} threads of a kernel that was compiled for 256"
        );
    }
}

#[test]
fn static_shared_memory_counts_beside_dynamic() {
    let Some(kernel) = Kernel::with("32 registers, 40 KiB static, 64 KiB dynamic") else { return };
    assert_eq!(kernel.launch([1, 1, 1], 256, 8 << 10), 0);
    assert_eq!(
        kernel.launch([1, 1, 1], 256, (8 << 10) + 4),
        INVALID_VALUE,
        "48 KiB in all without the attribute"
    );
    assert_eq!(kernel.allow(64 << 10), 0);
    assert_eq!(kernel.launch([1, 1, 1], 256, 64 << 10), 0);
    assert_eq!(
        kernel.launch([1, 1, 1], 256, (64 << 10) + 4),
        INVALID_VALUE,
        "beyond the attribute"
    );
    assert_eq!(kernel.allow(187 << 10), 0);
    assert_eq!(kernel.allow((187 << 10) + 4), INVALID_VALUE, "227 KiB in all");
    assert_eq!(kernel.launch([1, 1, 1], 256, 65 << 10), INVALID_VALUE, "beyond its budget");
}

#[test]
fn a_blocks_registers_are_those_of_a_multiprocessor_at_most() {
    // 256 threads are 8 warps, of 8,192 registers each.
    assert!(
        Kernel::with("256 registers").is_none_or(|kernel| kernel.launch([1, 1, 1], 256, 0) == 0)
    );
    assert!(
        Kernel::with("257 registers")
            .is_none_or(|kernel| kernel.launch([1, 1, 1], 256, 0) == OUT_OF_RESOURCES)
    );
}

#[test]
fn maps_of_matrices_are_aligned_and_within_their_limits() {
    let Some(Kernel { driver, .. }) = Kernel::with("32 registers") else { return };
    #[repr(align(64))]
    struct Map([u64; 16]);
    let mut map = Map([0; 16]);
    let mut made = |base: usize, sizes: [u64; 2], stride: u64, boxes: [u32; 2], steps: [u32; 2]| {
        let (strides, place) = ([stride], base as *mut c_void);
        const BF16: c_int = 9;
        const SWIZZLE_128: c_int = 3;
        call!(
            driver, "cuTensorMapEncodeTiled", map.0.as_mut_ptr().cast() => *mut c_void,
            BF16 => c_int, 2 => c_uint, place => *mut c_void,
            sizes.as_ptr() => *const u64, strides.as_ptr() => *const u64,
            boxes.as_ptr() => *const u32, steps.as_ptr() => *const u32,
            0 => c_int, SWIZZLE_128 => c_int, 3 => c_int, 0 => c_int,
        )
    };
    assert_eq!(made(4096, [72, 5], 144, [64, 128], [1, 1]), 0);
    for (what, result) in [
        ("the address", made(4104, [72, 5], 144, [64, 128], [1, 1])),
        ("the stride", made(4096, [72, 5], 152, [64, 128], [1, 1])),
        ("a stride shorter than a row", made(4096, [72, 5], 128, [64, 128], [1, 1])),
        ("no columns", made(4096, [0, 5], 144, [64, 128], [1, 1])),
        ("too many rows", made(4096, [72, (1 << 32) + 1], 144, [64, 128], [1, 1])),
        ("a box wider than the swizzle", made(4096, [72, 5], 144, [72, 128], [1, 1])),
        ("a box that is no multiple of 16 bytes", made(4096, [72, 5], 144, [60, 128], [1, 1])),
        ("a box of too many rows", made(4096, [72, 5], 144, [64, 257], [1, 1])),
        ("no step", made(4096, [72, 5], 144, [64, 128], [0, 1])),
    ] {
        assert_eq!(result, INVALID_VALUE, "{what}");
    }
}

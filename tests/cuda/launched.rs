//! Kernels launched one by one, past the back end: each tile, each storage type, each order of
//! threads. On the emulator or, where one is asked for, on a real device, which has an order of its
//! own.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use libloading::os::unix::{Library, RTLD_NOW};
use posttrain::backend::DType;

use super::emulated;
use super::hardware::Hardware;
use super::recorded::record;

/// How a launch runs, as kernels/emulator/emulator.h has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Of what is at random.
    pub seed: u64,
    /// Threads and blocks: 0 in order, 1 at random, 2 in reverse.
    pub schedule: c_int,
    /// Copies land: 0 late, 1 early, 2 at random.
    pub asynchronous: c_int,
}

impl Options {
    /// In order; in reverse and early; two at random.
    pub const ALL: [Options; 4] = [
        Options { seed: 0, schedule: 0, asynchronous: 0 },
        Options { seed: 0, schedule: 2, asynchronous: 1 },
        Options { seed: 1, schedule: 1, asynchronous: 2 },
        Options { seed: 2, schedule: 1, asynchronous: 2 },
    ];
}

/// A number as it is stored.
pub fn rounded(kind: DType, x: f64) -> f64 {
    match kind {
        DType::F32 => f64::from(x as f32),
        DType::Bf16 => half::bf16::from_f32(x as f32).to_f64(),
    }
}

type Launch = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const u32,
    *const u32,
    usize,
    *mut *mut c_void,
    *const Options,
) -> c_int;

/// What kernels are launched on.
pub enum Emulator {
    /// The emulator, instead of CUDA, in this process.
    Emulated(Library),
    /// A device.
    Real(Hardware),
}

/// Device memory.
pub struct Memory<'a> {
    emulator: &'a Emulator,
    at: *mut u8,
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        match self.emulator {
            // SAFETY: it was allocated there, and is freed once.
            Emulator::Emulated(library) => unsafe {
                symbol::<unsafe extern "C" fn(*mut u8)>(library, "emulator_free")(self.at)
            },
            Emulator::Real(hardware) => hardware.free(self.at as u64),
        }
    }
}

/// A matrix for tensor copies.
#[repr(C, align(128))]
#[derive(Clone, Copy)]
pub struct Map([u64; 16]);

/// An argument of a kernel.
pub enum Argument<'a> {
    /// A pointer.
    At(&'a Memory<'a>),
    /// 64 bits.
    Size(usize),
    /// 32 bits.
    Integer(i32),
    /// 32 bits.
    Float(f32),
    /// 128 bytes.
    Map(Map),
}

fn symbol<T: Copy>(library: &Library, name: &str) -> T {
    // SAFETY: the types are those of kernels/emulator/emulator.h.
    unsafe { *library.get::<T>(name.as_bytes()).expect("the emulator has this function") }
}

impl Emulator {
    /// The real device that is asked for, or the emulator; `None` where there is no C++ compiler.
    pub fn open() -> Option<Emulator> {
        if let Some(index) = emulated::real() {
            return Some(Emulator::Real(Hardware::open(index as c_int, emulated::code())));
        }
        let folder = emulated::load()?;
        // SAFETY: it is loaded already.
        let library = unsafe { Library::open(Some(folder.join("libcuda.so")), RTLD_NOW) };
        Some(Emulator::Emulated(library.expect("the emulator is loaded")))
    }

    /// Whether it has the kernels of a file: those of one chip run on that alone.
    pub fn has(&self, stem: &str) -> bool {
        match self {
            Emulator::Emulated(_) => true,
            Emulator::Real(hardware) => hardware.has(stem),
        }
    }

    /// Memory that nothing was written to.
    pub fn raw(&self, bytes: usize) -> Memory<'_> {
        let at = match self {
            // SAFETY: allocates.
            Emulator::Emulated(library) => unsafe {
                symbol::<unsafe extern "C" fn(usize) -> *mut u8>(library, "emulator_allocate")(
                    bytes,
                )
            },
            Emulator::Real(hardware) => hardware.allocate(bytes) as *mut u8,
        };
        assert!(!at.is_null());
        Memory { emulator: self, at }
    }

    /// A copy of plain numbers.
    pub fn plain<T: Copy>(&self, numbers: &[T]) -> Memory<'_> {
        let memory = self.raw(size_of_val(numbers));
        // SAFETY: plain numbers are bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts(numbers.as_ptr().cast::<u8>(), size_of_val(numbers))
        };
        match self {
            Emulator::Emulated(library) => {
                // SAFETY: the memory is as large as the numbers.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.at, bytes.len()) };
                access(library, memory.at, bytes.len(), 1);
            }
            Emulator::Real(hardware) => hardware.write(memory.at as u64, bytes),
        }
        memory
    }

    /// Numbers in a storage type.
    pub fn numbers(&self, kind: DType, x: &[f64]) -> Memory<'_> {
        match kind {
            DType::F32 => self.plain(&x.iter().map(|x| *x as f32).collect::<Vec<f32>>()),
            DType::Bf16 => self.plain(
                &x.iter().map(|x| half::bf16::from_f32(*x as f32).to_bits()).collect::<Vec<u16>>(),
            ),
        }
    }

    /// Room for numbers.
    pub fn room(&self, kind: DType, len: usize) -> Memory<'_> {
        self.raw(len * if kind == DType::F32 { 4 } else { 2 })
    }

    /// A matrix `[rows, columns]` of bf16 for copies of boxes of `box_rows` rows and 64 columns.
    pub fn map(
        &self,
        memory: &Memory<'_>,
        rows: usize,
        columns: usize,
        box_rows: usize,
    ) -> Argument<'static> {
        let mut map = Map([0; 16]);
        let (sizes, boxes) = ([columns as u64, rows as u64], [64, box_rows as u32]);
        type Make =
            unsafe extern "C" fn(*mut Map, c_int, *mut u8, *const u64, u64, *const u32, c_int);
        match self {
            // SAFETY: writes the map.
            Emulator::Emulated(library) => unsafe {
                let make = symbol::<Make>(library, "emulator_tensor_map");
                make(&mut map, 2, memory.at, sizes.as_ptr(), 2 * columns as u64, boxes.as_ptr(), 3);
            },
            Emulator::Real(hardware) => {
                hardware.map(
                    std::ptr::from_mut(&mut map).cast(),
                    memory.at as u64,
                    rows,
                    columns,
                    box_rows,
                );
            }
        }
        Argument::Map(map)
    }

    /// Runs a kernel; panics with what the emulator found wrong.
    #[expect(clippy::too_many_arguments)]
    pub fn launch(
        &self,
        kind: DType,
        stem: &str,
        kernel: &str,
        grid: [usize; 3],
        threads: usize,
        shared: usize,
        options: Options,
        of: &[Argument<'_>],
    ) {
        let suffix = kind.name();
        let [module, name] =
            [stem, kernel].map(|name| CString::new(format!("{name}_{suffix}")).unwrap());
        let mut values: Vec<Map> = Vec::new();
        for argument in of {
            let mut value = Map([0; 16]);
            match argument {
                Argument::At(memory) => value.0[0] = memory.at as u64,
                Argument::Size(x) => value.0[0] = *x as u64,
                Argument::Integer(x) => value.0[0] = u64::from(*x as u32),
                Argument::Float(x) => value.0[0] = u64::from(x.to_bits()),
                Argument::Map(map) => value = *map,
            }
            values.push(value);
        }
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let (grid, block) = (grid.map(|blocks| blocks as u32), [threads as u32, 1, 1]);
        let library = match self {
            Emulator::Emulated(library) => library,
            Emulator::Real(hardware) => {
                return hardware.launch(kind, stem, kernel, grid, threads, shared, &mut pointers);
            }
        };
        // SAFETY: the arguments are those of the kernel, which the tests' results show.
        let failed = unsafe {
            let launch = symbol::<Launch>(library, "emulator_launch");
            launch(
                module.as_ptr(),
                name.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                shared,
                pointers.as_mut_ptr(),
                &options,
            )
        };
        if failed != 0 {
            // SAFETY: a text that ends in a zero byte.
            let why = unsafe {
                CStr::from_ptr(symbol::<unsafe extern "C" fn() -> *const c_char>(
                    library,
                    "emulator_error",
                )())
            };
            panic!("{kernel}_{suffix} {options:?}: {}", why.to_string_lossy());
        }
    }
}

/// Tells the checker what the host does.
fn access(library: &Library, at: *mut u8, bytes: usize, write: c_int) {
    let access = symbol::<unsafe extern "C" fn(*mut u8, usize, c_int) -> c_int>(
        library,
        "emulator_host_access",
    );
    // SAFETY: looks the bytes up.
    let refused = unsafe { access(at, bytes, write) };
    assert_eq!(refused, 0, "these bytes are not the device's");
}

impl Memory<'_> {
    /// A copy of plain numbers.
    pub fn read<T: Copy + Default>(&self, len: usize) -> Vec<T> {
        match self.emulator {
            Emulator::Emulated(library) => {
                access(library, self.at, len * size_of::<T>(), 0);
                // SAFETY: the memory holds `len` numbers.
                unsafe { std::slice::from_raw_parts(self.at.cast::<T>(), len) }.to_vec()
            }
            Emulator::Real(hardware) => {
                let mut host = vec![T::default(); len];
                // SAFETY: plain numbers are bytes, whatever they are.
                let bytes = unsafe {
                    std::slice::from_raw_parts_mut(
                        host.as_mut_ptr().cast::<u8>(),
                        size_of_val(&host[..]),
                    )
                };
                hardware.read(bytes, self.at as u64);
                host
            }
        }
    }

    /// A copy of numbers in a storage type; what was not written is NaN.
    pub fn numbers(&self, kind: DType, len: usize) -> Vec<f64> {
        let numbers: Vec<f64> = match kind {
            DType::F32 => self.read::<f32>(len).into_iter().map(f64::from).collect(),
            DType::Bf16 => self
                .read::<u16>(len)
                .into_iter()
                .map(|bits| half::bf16::from_bits(bits).to_f64())
                .collect(),
        };
        record("kernel", kind.name(), &numbers);
        numbers
    }
}

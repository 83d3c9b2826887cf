//! The run-time compiler NVRTC: sources to machine code. Knows no device, no cache and no kernel.

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;

use cudarc::nvrtc::{result, sys};

use super::libraries;
use crate::error::{Failure, Kind, environment};

/// A file of sources.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// As `#include` and messages name it.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The compiler that was found.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// Its version: `(13, 0)`.
    pub version: (i32, i32),
    /// The file that was loaded, links followed.
    pub file: PathBuf,
    /// Which build of the version it is: the file's name and its size in bytes. Builds of one
    /// version make different code.
    pub build: String,
}

/// A program that is destroyed when it is dropped.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `nvrtcCreateProgram`, and destroyed once. An error has nobody to be told
        // to.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn text(text: &str) -> CString {
    CString::new(text).expect("sources and options hold no zero byte")
}

impl Compiler {
    /// Looks for NVRTC as the dynamic linker does, then in the folders of `libraries.rs`. cudarc
    /// would panic where it is absent.
    pub fn find() -> Result<Compiler, Failure> {
        // SAFETY: looks for a library and loads it, as the first call would.
        if !unsafe { sys::is_culib_present() } && !libraries::load(libraries::NVRTC) {
            return Err(environment(
                "there is no NVRTC, CUDA's run-time compiler: libnvrtc.so, libnvrtc.so.13 and \
                 libnvrtc.so.12 are in no folder of the dynamic linker, of $CUDA_HOME, \
                 /usr/local/cuda* and the Python environment",
            )
            .hint(
                "install the package cuda-nvrtc-13-0 of NVIDIA's repositories, or `pip install \
                 nvidia-cuda-nvrtc==13.0.*`, and name the folder that holds libnvrtc.so.13 in \
                 LD_LIBRARY_PATH",
            ));
        }
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two numbers.
        let told = unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result();
        told.map_err(|error| environment(format!("NVRTC does not work: {error:?}")))?;
        // Machine code is kept under the build, so it must be known.
        let unknown = || {
            environment(
                "NVRTC works, and the file that it was loaded from cannot be told from \
                 /proc/self/maps",
            )
        };
        let file = libraries::loaded(libraries::NVRTC)
            .and_then(|file| file.canonicalize().ok())
            .ok_or_else(unknown)?;
        let bytes = file.metadata().map_err(|_| unknown())?.len();
        let build = format!("{} {bytes}", file.file_name().unwrap_or_default().to_string_lossy());
        Ok(Compiler { version: (major, minor), file, build })
    }

    /// Machine code of a source and its headers, and what the compiler remarked.
    pub fn compile(
        &self,
        source: Source,
        headers: &[Source],
        options: &[String],
    ) -> Result<(Vec<u8>, String), Failure> {
        let (name, body) = (text(source.name), text(source.text));
        let names: Vec<CString> = headers.iter().map(|header| text(header.name)).collect();
        let bodies: Vec<CString> = headers.iter().map(|header| text(header.text)).collect();
        let pointers = |texts: &[CString]| {
            texts.iter().map(|text| text.as_ptr()).collect::<Vec<*const c_char>>()
        };
        let (name_pointers, body_pointers) = (pointers(&names), pointers(&bodies));
        let failed = |what: &str, log: &str| {
            Failure::new(
                Kind::Bug,
                format!("NVRTC cannot {what} {}:\n{}", source.name, log.trim_end()),
            )
        };
        let mut made = std::ptr::null_mut();
        // SAFETY: every text ends in a zero byte and outlives the program; there are as many names
        // as headers.
        unsafe {
            let count = i32::try_from(headers.len()).expect("there are few headers");
            sys::nvrtcCreateProgram(
                &mut made,
                body.as_ptr(),
                name.as_ptr(),
                count,
                body_pointers.as_ptr(),
                name_pointers.as_ptr(),
            )
        }
        .result()
        .map_err(|error| failed("take up", &format!("{error:?}")))?;
        let program = Program(made);
        // SAFETY: the program was just made, and lives.
        let compiled = unsafe { result::compile_program(program.0, options) };
        // SAFETY: as above; the log ends in a zero byte.
        let log = unsafe { result::get_program_log(program.0) }.map_or_else(
            |_| String::new(),
            // SAFETY: NVRTC ends the log in a zero byte, within its length.
            |log| unsafe { CStr::from_ptr(log.as_ptr()) }.to_string_lossy().into_owned(),
        );
        compiled.map_err(|_| failed("compile", &log))?;
        let mut bytes = 0;
        // SAFETY: writes one number.
        let sized = unsafe { sys::nvrtcGetCUBINSize(program.0, &mut bytes) }.result();
        let mut cubin = vec![0u8; bytes];
        let copied = sized.and_then(|()| {
            // SAFETY: there is as much room as the compiler asked for.
            unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }.result()
        });
        copied.map_err(|error| failed("give out", &format!("{error:?}")))?;
        Ok((cubin, log))
    }
}

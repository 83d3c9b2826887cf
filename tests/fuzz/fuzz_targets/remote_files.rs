//! The search for inputs of the target `remote_files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posttrain_fuzz::remote_files(bytes);
});

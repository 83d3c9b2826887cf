//! The search for inputs of the target `http`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posttrain_fuzz::http(bytes);
});

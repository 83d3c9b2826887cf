//! The search for inputs of the target `template`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posttrain_fuzz::template(bytes);
});

//! The search for inputs of the target `configuration`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posttrain_fuzz::configuration(bytes);
});

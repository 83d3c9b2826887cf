//! The search for inputs of the target `safetensors`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posttrain_fuzz::safetensors(bytes);
});

//! The search for inputs of the target `parquet`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posttrain_fuzz::parquet(bytes);
});

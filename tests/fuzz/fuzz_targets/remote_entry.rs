//! The search for inputs of the target `remote_entry`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posttrain_fuzz::remote_entry(bytes);
});

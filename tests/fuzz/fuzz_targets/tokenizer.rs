//! The search for inputs of the target `tokenizer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posttrain_fuzz::tokenizer(bytes);
});

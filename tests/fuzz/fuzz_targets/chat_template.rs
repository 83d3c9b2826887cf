//! The search for inputs of the target `chat_template`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posttrain_fuzz::chat_template(bytes);
});

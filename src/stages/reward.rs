//! What every stage that asks a reward model shares: the sequence it sees.

/// Prompt, response and the end-of-text token: a reward model always sees the end that it saw in
/// training (Kirk et al. 2024, released code), behind a response that another token ended as well.
/// Whether an unfinished response is punished is decided elsewhere.
pub fn reward_sequence(prompt: &[u32], response: &[u32], eos: u32) -> Vec<u32> {
    let mut sequence = [prompt, response].concat();
    if response.last() != Some(&eos) {
        sequence.push(eos);
    }
    sequence
}

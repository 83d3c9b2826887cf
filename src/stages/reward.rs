//! What every stage that asks a reward model shares: the sequence it sees.

/// Prompt, response and the end-of-text token: a reward model always sees an end, as it did in training (Kirk et al. 2024, released code).
/// Whether an unfinished response is punished is decided elsewhere.
pub fn reward_sequence(prompt: &[u32], response: &[u32], ended: bool, eos: u32) -> Vec<u32> {
    let mut sequence = [prompt, response].concat();
    if !ended {
        sequence.push(eos);
    }
    sequence
}

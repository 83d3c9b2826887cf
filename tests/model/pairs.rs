//! The classifier of text pairs learns a function that is not linear in its features.

use posttrain::backend::cpu::Cpu;
use posttrain::model::pairs::{self, PairHead};
use posttrain::random::Stream;
use posttrain::train::optimiser::OptimiserConfig;
use posttrain::train::text_pairs::PairHeadState;

/// Whether two numbers have the same sign is not a linear function of them: the hidden layer and
/// the product are needed.
#[test]
fn a_relation_of_two_vectors_is_learned() {
    let b = Cpu::<f32>::new();
    let mut draws = Stream::new(0, "pairs").sequence(0);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for _ in 0..256 {
        let (u, v) = (2.0 * draws.uniform() - 1.0, 2.0 * draws.uniform() - 1.0);
        x.extend(pairs::features(&[u], &[v]));
        y.push(u32::from(u * v > 0.0));
    }
    let config: OptimiserConfig =
        serde_json::from_value(serde_json::json!({"learning_rate": 0.01})).unwrap();
    let mut state = PairHeadState::new(&b, &PairHead::new(4, 16, 2, 0));
    let first = state.step(&x, &y, &config, 0.01)[0].1;
    for _ in 0..300 {
        state.step(&x, &y, &config, 0.01);
    }
    let last = state.step(&x, &y, &config, 0.01);
    assert!(last[0].1 < 0.2 * first && last[1].1 > 0.95, "{first}, then {last:?}");
    let logits = state.finished().logits(&b, &x);
    let right =
        logits.chunks(2).zip(&y).filter(|(logits, y)| pairs::best(logits) as u32 == **y).count();
    assert!(right as f64 > 0.95 * 256.0);
}

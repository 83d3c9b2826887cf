//! Rotary position embedding.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops;
use posttrain::backend::prelude::*;

use super::{check_gradient, close, dot, normals, oracle};

/// Angles of 20 positions for `half` pairs of channels.
fn angles(half: usize) -> (Vec<f64>, Vec<f64>) {
    let angle = |at: usize| (at / half) as f64 * 0.7f64.powi((at % half) as i32);
    (
        (0..20 * half).map(|at| angle(at).cos()).collect(),
        (0..20 * half).map(|at| angle(at).sin()).collect(),
    )
}

/// As a rotation of complex numbers x_j + i x_{j + r/2}; the channels from r on stay.
fn formula(x: &[f64], positions: &[u32], heads: usize, c: usize, r: usize) -> Vec<f64> {
    let (cos, sin) = angles(r / 2);
    let mut out = x.to_vec();
    for (row, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            for j in 0..r / 2 {
                let (a, b, angle) = (
                    (row * heads + head) * c + j,
                    (row * heads + head) * c + j + r / 2,
                    position as usize * (r / 2) + j,
                );
                out[a] = x[a] * cos[angle] - x[b] * sin[angle];
                out[b] = x[a] * sin[angle] + x[b] * cos[angle];
            }
        }
    }
    out
}

#[test]
fn forward_is_the_formula_and_inverse_undoes_it() {
    for (heads, c, r) in [
        (1, 2, 2),
        (2, 6, 6),
        (3, 32, 32),
        (1, 34, 34),
        (2, 7, 4),
        (3, 32, 8),
        (2, 80, 32),
        (1, 5, 2),
    ] {
        let positions = [0, 1, 19, 7, 7];
        let x = normals("x", positions.len() * heads * c);
        let (cos, sin) = angles(r / 2);
        let expected = formula(&x, &positions, heads, c, r);
        let double = oracle();
        let mut got = x.clone();
        double.rotary(ops::Rotary {
            x: &mut got,
            cos: &cos,
            sin: &sin,
            positions: &positions,
            heads,
            channels: c,
            rotated: r,
            inverse: false,
        });
        close("f64", &got, &expected, 1e-15);
        assert!(
            got.iter()
                .zip(&x)
                .enumerate()
                .all(|(at, (got, x))| at % c < r || got.to_bits() == x.to_bits()),
            "the rest stays"
        );
        double.rotary(ops::Rotary {
            x: &mut got,
            cos: &cos,
            sin: &sin,
            positions: &positions,
            heads,
            channels: c,
            rotated: r,
            inverse: true,
        });
        close("f64, back", &got, &x, 1e-15);
        // Angles and inputs are rounded to single precision, then three roundings.
        let single = Cpu::<f32>::new();
        let (cos, sin, mut got) =
            (single.upload_f64(&cos), single.upload_f64(&sin), single.upload_f64(&x));
        single.rotary(ops::Rotary {
            x: &mut got,
            cos: &cos,
            sin: &sin,
            positions: &positions,
            heads,
            channels: c,
            rotated: r,
            inverse: false,
        });
        close("f32", &single.download_f64(&got), &expected, 3e-7);
    }
}

#[test]
fn inverse_is_the_gradient() {
    let (heads, c, positions) = (2, 6, [3, 0, 11]);
    let (x, dout) = (normals("x", 36), normals("dout", 36));
    for r in [2, 4, 6] {
        let (cos, sin) = angles(r / 2);
        let mut dx = dout.clone();
        oracle().rotary(ops::Rotary {
            x: &mut dx,
            cos: &cos,
            sin: &sin,
            positions: &positions,
            heads,
            channels: c,
            rotated: r,
            inverse: true,
        });
        check_gradient("dx", &dx, &x, |x| dot(&formula(x, &positions, heads, c, r), &dout));
    }
}

#[test]
fn a_part_of_a_head_turns_as_a_head_of_that_size_does() {
    let (heads, c, r, positions) = (3, 20, 8, [5, 19]);
    let b = Cpu::<f32>::new();
    let (cos, sin) = angles(r / 2);
    let [cos, sin, x] = [cos, sin, normals("x", 2 * heads * c)].map(|x| b.upload_f64(&x));
    let mut whole = x.clone();
    b.rotary(ops::Rotary {
        x: &mut whole,
        cos: &cos,
        sin: &sin,
        positions: &positions,
        heads,
        channels: c,
        rotated: r,
        inverse: false,
    });
    let part = |x: &[f32]| x.chunks(c).flat_map(|head| &head[..r]).copied().collect::<Vec<f32>>();
    let mut alone = part(&x);
    b.rotary(ops::Rotary {
        x: &mut alone,
        cos: &cos,
        sin: &sin,
        positions: &positions,
        heads,
        channels: r,
        rotated: r,
        inverse: false,
    });
    assert_eq!(alone, part(&whole));
}

#[test]
#[should_panic(expected = "positions[1] = 20 is not below 20")]
fn a_position_without_angles_is_refused() {
    let (cos, sin) = angles(1);
    oracle().rotary(ops::Rotary {
        x: &mut vec![0.0; 4],
        cos: &cos,
        sin: &sin,
        positions: &[0, 20],
        heads: 1,
        channels: 2,
        rotated: 2,
        inverse: false,
    });
}

#[test]
#[should_panic(expected = "rotary turns pairs of a head's 4 channels, not 6")]
fn more_channels_than_a_head_has_are_refused() {
    let (cos, sin) = angles(3);
    oracle().rotary(ops::Rotary {
        x: &mut vec![0.0; 4],
        cos: &cos,
        sin: &sin,
        positions: &[0],
        heads: 1,
        channels: 4,
        rotated: 6,
        inverse: false,
    });
}

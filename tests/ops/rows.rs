//! Buffers, embedding, gather, scatter.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::prelude::*;

use super::{below, bits, close, dirty, normals, oracle};

#[test]
fn buffers_go_there_and_back() {
    let (single, double) = (Cpu::<f32>::new(), oracle());
    let host = [1.5f32, -2.25, f32::MIN_POSITIVE];
    assert_eq!(single.download(&single.upload(&host)), host);
    assert_eq!(double.download(&double.upload(&host)), host);
    let exact = [0.1f64, 1.0 / 3.0];
    assert_eq!(double.download_f64(&double.upload_f64(&exact)), exact);
    assert_eq!(
        single.download_f64(&single.upload_f64(&exact)),
        [f64::from(0.1f32), f64::from(1.0f32 / 3.0)]
    );
    let mut x = single.zeros(3);
    assert_eq!((single.len(&x), single.download(&x)), (3, vec![0.0; 3]));
    single.fill(&mut x, 2.0);
    let y = single.upload(&host);
    single.add(&mut x, &y);
    assert_eq!(single.download(&x), host.map(|h| 2.0 + h));
    single.copy(&mut x, &y);
    assert_eq!(single.download(&x), host);
}

#[test]
fn sum_of_squares_is_in_double_precision_and_does_not_depend_on_threads() {
    for len in [0, 1, 17, 1000, 40_000, 200_000] {
        let b = Cpu::<f32>::new();
        let x = b.upload_f64(&normals("x", len));
        let expected: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let got = b.sum_squares(&x);
        assert!((got - expected).abs() <= 1e-12 * expected, "{got} is not {expected}");
        let one =
            rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread starts");
        assert_eq!(one.install(|| b.sum_squares(&x)).to_bits(), got.to_bits());
    }
}

#[test]
fn embedding_and_gather_pick_rows() {
    let b = oracle();
    for (rows, d) in [(1, 1), (5, 3), (40, 17)] {
        let (table, ids) = (normals("table", rows * d), below("ids", 30, rows));
        let expected: Vec<f64> =
            ids.iter().flat_map(|&id| table[id as usize * d..][..d].to_vec()).collect();
        let mut out = dirty(&b, 30 * d);
        b.embedding(&mut out, &table, &ids, d);
        assert_eq!(out, expected);
        let mut out = dirty(&b, 30 * d);
        b.gather_rows(&mut out, &table, &ids, d);
        assert_eq!(out, expected);
    }
}

#[test]
fn scatter_adds_repeated_rows_in_order_and_leaves_the_others() {
    let b = Cpu::<f32>::new();
    let (rows, d, m) = (7, 5, 60);
    let ids: Vec<u32> = below("ids", m, rows - 1);
    let (dout, start) =
        (b.upload_f64(&normals("dout", m * d)), b.upload_f64(&normals("start", rows * d)));
    let mut expected = start.clone();
    for (m, &id) in ids.iter().enumerate() {
        for at in 0..d {
            expected[id as usize * d + at] += dout[m * d + at];
        }
    }
    let (mut embedding, mut scattered, mut halves) = (start.clone(), start.clone(), start.clone());
    b.embedding_backward(&mut embedding, &dout, &ids, d);
    b.scatter_add_rows(&mut scattered, &dout, &ids, d);
    b.embedding_backward(&mut halves, &dout[..20 * d].to_vec(), &ids[..20], d);
    b.embedding_backward(&mut halves, &dout[20 * d..].to_vec(), &ids[20..], d);
    for got in [embedding, scattered, halves] {
        assert_eq!(bits(&b, &got), bits(&b, &expected));
    }
    assert_eq!(expected[(rows - 1) * d..], start[(rows - 1) * d..]);
}

#[test]
fn scatter_is_the_transpose_of_gather() {
    let b = oracle();
    let (rows, d, m) = (9, 4, 25);
    let (x, y, ids) = (normals("x", rows * d), normals("y", m * d), below("ids", m, rows));
    let (mut gathered, mut scattered) = (b.zeros(m * d), b.zeros(rows * d));
    b.gather_rows(&mut gathered, &x, &ids, d);
    b.scatter_add_rows(&mut scattered, &y, &ids, d);
    close(
        "<Gx, y> = <x, G^T y>",
        &[super::dot(&gathered, &y)],
        &[super::dot(&x, &scattered)],
        1e-13,
    );
}

#[test]
#[should_panic(expected = "rows[1] = 3 is not below 3")]
fn an_id_beyond_the_table_is_refused() {
    let b = oracle();
    b.embedding(&mut vec![0.0; 4], &vec![0.0; 6], &[0, 3], 2);
}

//! Launches kernels/rows.cu: whole buffers and whole rows. Independent of the meaning of a row.

use std::sync::Arc;

use super::Cuda;
use super::buffer::Buf;
use super::device::Device;
use super::kernels::Kernels;
use super::norm::COLUMNS;
use crate::DType;
use crate::ops::RowOps;

/// Elements of one piece of a sum of squares.
const PIECE: usize = 1 << 16;

/// Elements of a block of 256 threads, each with 16 bytes.
pub fn elements(kind: DType) -> usize {
    256 * 16 / kind.bytes()
}

/// `out = value` everywhere.
pub fn fill(kernels: &Kernels, out: &mut Buf, value: f32) {
    let (n, kind) = (out.len(), out.kind());
    kernels.call("rows", "fill", kind).out(out).float(f64::from(value)).size(n).over(
        n,
        elements(kind),
        256,
    );
}

/// `out += x`.
pub fn add(kernels: &Kernels, out: &mut Buf, x: &Buf) {
    let (n, kind) = (out.len(), out.kind());
    kernels.call("rows", "add", kind).out(out).input(x).size(n).over(n, elements(kind), 256);
}

/// Sums of squares of many buffers in double precision: pieces of a fixed size, then the pieces in
/// order. The device is waited for once.
pub fn sums_of_squares(kernels: &Kernels, device: &Arc<Device>, buffers: &[&Buf]) -> Vec<f64> {
    let pieces = |x: &Buf| x.len().div_ceil(PIECE);
    let sums = device.allocate(buffers.iter().map(|x| pieces(x)).sum::<usize>() * size_of::<f64>());
    let mut at = 0;
    for x in buffers {
        let call = kernels
            .call("rows", "sum_squares", x.kind())
            .memory_from(&sums, at * size_of::<f64>())
            .input(x);
        call.size(x.len()).size(PIECE).over(pieces(x), 1, 256);
        at += pieces(x);
    }
    let sums = device.download::<f64>(&sums);
    let mut rest = &sums[..];
    let sum =
        |x: &&Buf| rest.split_off(..pieces(x)).expect("as many as were asked for").iter().sum();
    buffers.iter().map(sum).collect()
}

/// Rows sorted by where they go: the targets, where each one's rows begin, and the rows, ascending
/// for each target.
fn by_target(rows: &[u32]) -> [Vec<u32>; 3] {
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.sort_by_key(|row| rows[*row as usize]);
    let (mut targets, mut starts) = (Vec::new(), Vec::new());
    for (at, row) in (0..).zip(&order) {
        let target = rows[*row as usize];
        if targets.last() != Some(&target) {
            targets.push(target);
            starts.push(at);
        }
    }
    starts.push(order.len() as u32);
    [targets, starts, order]
}

impl RowOps for Cuda {
    fn embedding_backward_unchecked(&self, dtable: &mut Buf, dout: &Buf, ids: &[u32], d: usize) {
        let [targets, starts, order] = by_target(ids);
        let call = self.kernels.call("rows", "embedding_backward", dout.kind());
        let call = call.out_floats(dtable).input(dout).host(&targets).host(&starts).host(&order);
        call.size(d).launch([targets.len(), d.div_ceil(256), 1], 256);
    }

    fn gather_rows_unchecked(&self, out: &mut Buf, x: &Buf, rows: &[u32], d: usize) {
        let m = rows.len();
        let call = self.kernels.call("rows", "gather_rows", x.kind());
        call.out(out).input(x).host(rows).size(m).size(d).over(m, 8, 256);
    }

    fn scatter_add_rows_unchecked(&self, dx: &mut Buf, dout: &Buf, rows: &[u32], d: usize) {
        let [targets, starts, order] = by_target(rows);
        let call = self.kernels.call("rows", "scatter_add_rows", dout.kind());
        let call = call.out(dx).input(dout).host(&targets).host(&starts).host(&order);
        call.size(d).launch([targets.len(), d.div_ceil(256), 1], 256);
    }
}

/// `sums[d] += ` the rows of `x[n,d]`, in row order; `sums` is float.
pub fn add_rows(kernels: &Kernels, sums: &mut Buf, x: &Buf, n: usize, d: usize) {
    kernels
        .call("rows", "add_rows", x.kind())
        .out_floats(sums)
        .input(x)
        .size(n)
        .size(d)
        .over(d, COLUMNS, 256);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_target_and_stay_in_order() {
        assert_eq!(
            by_target(&[7, 2, 7, 0, 2, 7]),
            [vec![0, 2, 7], vec![0, 1, 3, 6], vec![3, 1, 4, 0, 2, 5]]
        );
        assert_eq!(by_target(&[]), [vec![], vec![0], vec![]]);
    }
}

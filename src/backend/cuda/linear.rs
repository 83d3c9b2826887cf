//! Launches kernels/linear.cu. Knows nothing of layers.

use super::buffer::Buf;
use super::kernels::Kernels;

/// As the trait says.
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn linear(kernels: &Kernels, out: &mut Buf, x: &Buf, weight: &Buf, bias: Option<&Buf>, n: usize, i: usize, o: usize) {
    panic!("linear is not built yet")
}

/// As the trait says.
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn linear_backward_input(kernels: &Kernels, dx: &mut Buf, dout: &Buf, weight: &Buf, n: usize, i: usize, o: usize) {
    panic!("linear_backward_input is not built yet")
}

/// As the trait says.
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn linear_backward_weight(
    kernels: &Kernels,
    dweight: &mut Buf,
    dbias: Option<&mut Buf>,
    dout: &Buf,
    x: &Buf,
    n: usize,
    i: usize,
    o: usize,
) {
    panic!("linear_backward_weight is not built yet")
}

//! One body for three back ends: the emulated device, and the CPU in single and in double
//! precision.

use posttrain::backend::prelude::*;

use crate::ops::normals;

/// What an operation is to be compared by.
pub enum Agreement {
    /// The bits of the CPU in single precision, and its distance to double precision.
    Bits,
    /// Distance to double precision alone, as a share of the greatest magnitude.
    Within(f64),
}

/// Runs a body on all three back ends and compares what it returns: names and buffers.
macro_rules! agree {
    ($what:expr, $agreement:expr, |$b:ident| $body:expr) => {{
        fn erase<B: posttrain::backend::Backend>(
            b: &B,
            outputs: Vec<(&'static str, B::Buf)>,
        ) -> Vec<(&'static str, Vec<f64>)> {
            outputs.into_iter().map(|(name, x)| (name, b.download_f64(&x))).collect()
        }
        let Some(device) = crate::cuda::emulated::cuda() else { return };
        let got = {
            let $b = &device;
            erase($b, $body)
        };
        let double = {
            let $b = &crate::ops::oracle();
            erase($b, $body)
        };
        let single = {
            let $b = &posttrain::backend::cpu::Cpu::<f32>::new();
            erase($b, $body)
        };
        for (((name, got), (_, double)), (_, single)) in got.into_iter().zip(double).zip(single) {
            let what = format!("{}: {name}", $what);
            crate::cuda::recorded::record(&what, "f32", &got);
            match $agreement {
                Agreement::Bits => {
                    let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&got), bits(&single), "{what}: other bits than on the CPU");
                    crate::ops::close(&what, &got, &double, 1e-4);
                }
                Agreement::Within(tolerance) => crate::ops::close(&what, &got, &double, tolerance),
            }
        }
    }};
}

pub(crate) use agree;

/// Rounded to single precision, so that all back ends start from the same numbers.
pub fn numbers(name: &str, len: usize) -> Vec<f64> {
    normals(name, len).into_iter().map(|x| f64::from(x as f32)).collect()
}

pub fn buffer<B: Backend>(b: &B, name: &str, len: usize) -> B::Buf {
    b.upload_f64(&numbers(name, len))
}

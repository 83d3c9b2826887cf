//! Every tile of Hopper's matrix kernels against double precision, on several numbers of blocks.

use posttrain::backend::Activation;
use posttrain::backend::DType;

use super::kernels::{
    FUNCTIONS, GATE, NULL, Tile, applied, layer, rounds_to, same, tile, tolerance,
};
use super::launched::{Argument, Emulator, Memory, Options};
use crate::ops::close;

use Argument::{At, Integer, Size};

/// The tiles of kernels/linear_hopper.cu: consumer warp groups, columns, stages.
fn hopper_tiles() -> [Tile; 3] {
    let made = |suffix, groups: usize, columns: usize, stages: usize| {
        tile(
            suffix,
            64 * groups,
            columns,
            128 * (groups + 1),
            stages * ((64 * groups + columns) * 128 + 16),
        )
    };
    [made("", 2, 256, 4), made("_small", 2, 128, 6), made("_few", 1, 32, 16)]
}

#[test]
fn every_tile_of_hoppers_matrix_products_gives_the_same_bits_on_any_number_of_blocks() {
    let (Some(e), kind) = (Emulator::open(), DType::Bf16) else { return };
    if !e.has("linear_hopper") {
        eprintln!("skipped: this device is not of the one generation that has these instructions");
        return;
    }
    for (n, i, o) in [(1, 8, 8), (130, 72, 264), (70, 328, 24), (257, 16, 40)] {
        let layer = layer(kind, n, i, o);
        let [x, weight, bias, dout] =
            [&layer.x, &layer.weight, &layer.bias, &layer.dout].map(|x| e.numbers(kind, x));
        let mut firsts = [const { None }; 4];
        for (tile, (blocks, options)) in hopper_tiles()
            .iter()
            .flat_map(|tile| [1, 3, 2].into_iter().zip(Options::ALL).map(move |how| (tile, how)))
        {
            let what = format!("{n} x {i} to {o}{} {options:?}", tile.suffix);
            let launch = |name: &str, arguments: Vec<Argument<'_>>| {
                let kernel = format!("{name}_hopper{}", tile.suffix);
                e.launch(
                    kind,
                    "linear_hopper",
                    &kernel,
                    [blocks, 1, 1],
                    tile.threads,
                    tile.shared,
                    options,
                    &arguments,
                );
            };
            let sizes = || layer.sizes.map(Size);
            let run = |name: &str, of: Vec<Argument<'_>>| {
                launch(name, of.into_iter().chain(sizes()).collect())
            };
            let (at_x, at_weight) =
                (|| e.map(&x, n, i, tile.rows), || e.map(&weight, o, i, tile.columns));
            let out = e.room(kind, n * o);
            run("linear", vec![At(&out), at_x(), at_weight(), At(&bias), NULL]);
            let (out, wide) = (out.numbers(kind, n * o), e.room(DType::F32, n * o));
            close(&what, &out, &layer.expected[0], tolerance(kind));
            run("linear_wide", vec![At(&wide), at_x(), at_weight(), At(&bias)]);
            rounds_to(&what, &wide.numbers(DType::F32, n * o), &out, &layer.expected[0]);
            let added = e.room(kind, n * o);
            run("linear", vec![At(&added), at_x(), at_weight(), At(&bias), At(&dout)]);
            let (added, sum) = (
                added.numbers(kind, n * o),
                layer.expected[0].iter().zip(&layer.dout).map(|(x, y)| x + y),
            );
            close(
                &format!("{what}, residual"),
                &added,
                &sum.collect::<Vec<f64>>(),
                tolerance(kind),
            );
            same(&what, &mut firsts[3], added);
            for (which, function) in FUNCTIONS {
                let (f, kept) = (e.room(kind, n * o), e.room(kind, n * o));
                let arguments = [At(&f), At(&kept), at_x(), at_weight(), At(&bias), NULL]
                    .into_iter()
                    .chain(sizes());
                launch("linear_function", arguments.chain([Integer(which)]).collect());
                let (f, kept) = (f.numbers(kind, n * o), kept.numbers(kind, n * o));
                assert_eq!(kept, out, "{what}, {function:?}: what is kept is the layer's output");
                close(
                    &format!("{what}, {function:?}"),
                    &f,
                    &applied(function, &out),
                    tolerance(kind),
                );
            }
            let gated = e.room(kind, n * o);
            let arguments = [At(&gated), NULL, at_x(), at_weight(), At(&bias), At(&dout)]
                .into_iter()
                .chain(sizes());
            launch("linear_function", arguments.chain([Integer(GATE)]).collect());
            let silu = applied(Activation::Silu, &out);
            let expected: Vec<f64> = silu.iter().zip(&layer.dout).map(|(x, y)| x * y).collect();
            close(
                &format!("{what}, gate"),
                &gated.numbers(kind, n * o),
                &expected,
                tolerance(kind),
            );
            let (first, second, third) =
                (e.room(kind, n * o), e.room(kind, n * n), e.room(kind, n * o));
            let itself = || e.map(&x, n, i, tile.columns);
            let outs = [
                At(&first),
                At(&second),
                At(&third),
                at_x(),
                at_weight(),
                itself(),
                at_weight(),
                At(&bias),
                NULL,
                NULL,
            ];
            launch("linear_several", outs.into_iter().chain([n, i, o, n, o].map(Size)).collect());
            let (alone, unbiased) = (e.room(kind, n * n), e.room(kind, n * o));
            launch(
                "linear",
                vec![At(&alone), at_x(), itself(), NULL, NULL, Size(n), Size(i), Size(n)],
            );
            run("linear", vec![At(&unbiased), at_x(), at_weight(), NULL, NULL]);
            assert_eq!(first.numbers(kind, n * o), out, "{what}, the first of several");
            assert_eq!(
                second.numbers(kind, n * n),
                alone.numbers(kind, n * n),
                "{what}, the second of several"
            );
            assert_eq!(
                third.numbers(kind, n * o),
                unbiased.numbers(kind, n * o),
                "{what}, the third of several"
            );
            same(&what, &mut firsts[0], out);
            if tile.suffix == "_few" {
                continue;
            }
            let backward = |dx: &Memory<'_>, adds: i32| {
                let arguments = [At(dx), e.map(&dout, n, o, tile.rows), e.map(&weight, o, i, 64)]
                    .into_iter()
                    .chain(sizes());
                launch("linear_backward_input", arguments.chain([Integer(adds)]).collect());
                dx.numbers(kind, n * i)
            };
            let dx = backward(&e.numbers(kind, &layer.dx), 1);
            close(&what, &dx, &layer.expected[1], tolerance(kind));
            same(&what, &mut firsts[1], dx);
            let zeros = vec![0.0; n * i];
            assert_eq!(
                backward(&e.room(kind, n * i), 0),
                backward(&e.numbers(kind, &zeros), 1),
                "{what}: from nothing"
            );
            let dweight = e.numbers(DType::F32, &layer.dweight);
            run(
                "linear_backward_weight",
                vec![At(&dweight), e.map(&dout, n, o, 64), e.map(&x, n, i, 64)],
            );
            close(&what, &dweight.numbers(DType::F32, o * i), &layer.expected[2], 2e-6);
            same(&what, &mut firsts[2], dweight.numbers(DType::F32, o * i));
        }
    }
}

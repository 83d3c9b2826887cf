//! Bugs planted in the shipped kernels, each of which a check must find: races, missing barriers,
//! accesses out of bounds, data that is read before it has landed, wrong sums, outputs that are not
//! written.

use std::path::PathBuf;

use super::emulated::{Mutation, build, compiler_is_there, elsewhere};

/// A bug, the test that meets it, and what that test's output must say.
struct Planted {
    stem: &'static str,
    edit: &'static str,
    test: &'static str,
    said: &'static str,
}

const PLANTED: &[Planted] = &[
    Planted {
        stem: "layer_norm",
        edit: r"s/if \(row >= n\) return;/if (row > n) return;/",
        test: "cuda::ops::layer_norm_agrees",
        said: "out of bounds",
    },
    Planted {
        stem: "rotary",
        edit: r"s/if \(pair >= n/if (pair > n/",
        test: "cuda::ops::rotary_has_the_bits_of_the_cpu_and_is_undone",
        said: "out of bounds",
    },
    Planted {
        stem: "rows",
        edit: r"s/__syncthreads\(\);//",
        test: "cuda::ops::whole_buffers_are_copied_filled_added_and_squared",
        said: "read of uninitialised shared memory",
    },
    Planted {
        stem: "norm",
        edit: r"s/if \(lane == 0\) rstd\[row\] = r;//",
        test: "cuda::ops::rms_norm_agrees",
        said: "of the greatest magnitude",
    },
    Planted {
        stem: "norm",
        edit: r"s/\(float\)d \+ epsilon/(float)d + 1.001f * epsilon/",
        test: "cuda::ops::rms_norm_agrees",
        said: "of the greatest magnitude",
    },
    Planted {
        stem: "norm",
        edit: r"s/if \(delta\) add_row/if (false) add_row/",
        test: "cuda::ops::rms_norm_agrees",
        said: ": stream: off by",
    },
    Planted {
        stem: "layer_norm",
        edit: r"s/add_row\(x \+ row \* d, xs,/add_row(out + row * d, xs,/",
        test: "cuda::ops::layer_norm_agrees",
        said: ": stream: off by",
    },
    Planted {
        stem: "rotary",
        edit: r"s/y \+ \(row \* others \+ head - heads\)/y + (row * heads + head - heads)/",
        test: "cuda::ops::rotary_has_the_bits_of_the_cpu_and_is_undone",
        said: "out of bounds",
    },
    Planted {
        stem: "linear",
        edit: r"/The other buffer was last read/{n;s/__syncthreads\(\);//}",
        test: "cuda::matrices::matrix_products_have_the_bits_of_the_cpu",
        said: "race: ",
    },
    Planted {
        stem: "linear",
        edit: r"s/copy_async_wait<STAGES - 2>/copy_async_wait<STAGES>/",
        test: "cuda::bf16::matrix_products_agree",
        said: "cuda::bf16::matrix_products_agree",
    },
    Planted {
        stem: "linear_hopper",
        edit: r"s/barrier_wait\(empty \+ stage, parity \^ 1\);//",
        test: "cuda::bf16::matrix_products_agree",
        said: "more arrivals than the",
    },
    Planted {
        stem: "linear_hopper",
        edit: r"s/barrier_wait\(full \+ stage, parity\);//",
        test: "cuda::bf16::matrix_products_agree",
        said: "race: ",
    },
    Planted {
        stem: "linear_hopper",
        edit: r"s/Left::NUMBERS \+ Right::NUMBERS\) \* \(int\)sizeof/Left::NUMBERS) * (int)sizeof/",
        test: "cuda::bf16::matrix_products_agree",
        said: "cuda::bf16::matrix_products_agree",
    },
    Planted {
        stem: "attention",
        edit: r"/copy_async_wait<STAGES == 1/{n;s/__syncthreads\(\);//}",
        test: "cuda::kernels::attention_in_bf16_agrees_and_the_cache_gives_its_bits",
        said: "race: ",
    },
    Planted {
        stem: "attention",
        edit: r"/if \(STAGES == 1\) \{/{n;s/__syncthreads\(\);//}",
        test: "cuda::kernels::attention_in_bf16_agrees_and_the_cache_gives_its_bits",
        said: "race: ",
    },
    Planted {
        stem: "cached",
        edit: r"/if \(STAGES == 1\) \{/{n;s/__syncthreads\(\);//}",
        test: "cuda::kernels::attention_in_bf16_agrees_and_the_cache_gives_its_bits",
        said: "race: ",
    },
    Planted {
        stem: "attention_backward",
        edit: r"s/BOTH \|\| blockIdx.z == 1/BOTH/",
        test: "cuda::kernels::attention_in_bf16_agrees_and_the_cache_gives_its_bits",
        said: " dv: off by",
    },
    Planted {
        stem: "cached",
        edit: r"s/copy_async_wait<STAGES == 1 \? 1 : 2>/copy_async_wait<3>/",
        test: "cuda::kernels::attention_in_bf16_agrees_and_the_cache_gives_its_bits",
        said: "race: ",
    },
    Planted {
        stem: "attention_backward",
        edit: r"s/copy_async_wait<0>/copy_async_wait<1>/",
        test: "cuda::kernels::attention_in_bf16_agrees_and_the_cache_gives_its_bits",
        said: "race: ",
    },
    Planted {
        stem: "cache",
        edit: r"s/at >= n \* g/at > n * g/",
        test: "cuda::invariance::blocks_of_the_cache_are_copied_in_the_order_of_the_pairs",
        said: "out of bounds",
    },
    Planted {
        stem: "sampling",
        edit: r"s/if \(add\) atomicAdd\(&shared.bins\[(.*)\], add\);/shared.bins[\1] += add;/",
        test: "cuda::matrices::draws_are_those_of_the_cpu_and_their_log_probabilities_those_of_scoring",
        said: "race: ",
    },
    Planted {
        stem: "linear",
        edit: r"/KERNEL\(threads, name\)\(float/{n;s/weight, bias,/weight, nullptr,/}",
        test: "cuda::bf16::matrix_products_agree",
        said: ": wide",
    },
    Planted {
        stem: "linear_hopper",
        edit: r"/KERNEL\(threads, linear_wide_hopper/{n;s/&weight, bias,/\&weight, nullptr,/}",
        test: "cuda::bf16::matrix_products_agree",
        said: ": wide",
    },
    Planted {
        stem: "linear",
        edit: r"s/\{residual, -1, nullptr, nullptr\}/NOTHING_MORE/",
        test: "cuda::matrices::linear_layers_with_what_follows_have_the_bits_of_the_cpu",
        said: "added: other bits than on the CPU",
    },
    Planted {
        stem: "linear",
        edit: r"s/\{out1, weight1, bias1, o1\}/{out1, weight1, bias0, o1}/",
        test: "cuda::bf16::layers_of_the_same_rows_and_gradients_from_nothing_have_their_own_bits",
        said: "3 x 5 x 3",
    },
    Planted {
        stem: "linear",
        edit: r"s/bool real = adds \&\&/bool real =/",
        test: "cuda::bf16::layers_of_the_same_rows_and_gradients_from_nothing_have_their_own_bits",
        said: "NaN, NaN",
    },
    Planted {
        stem: "linear_hopper",
        edit: r"s/sums\[i - 16\] = sums\[i\];/;/",
        test: "cuda::bf16::linear_layers_with_what_follows_agree_and_keep_or_not_with_the_same_bits",
        said: ": added",
    },
    Planted {
        stem: "linear_hopper",
        edit: r"s/side_of<N>\(sides, at.column\).right/sides[0].right/",
        test: "cuda::bf16::layers_of_the_same_rows_and_gradients_from_nothing_have_their_own_bits",
        said: "layers_of_the_same_rows",
    },
    Planted {
        stem: "linear_hopper",
        edit: r"s/\(uint4\*\)\(to \+ at_row \* columns \+ at_column\)/(uint4*)(to + at_row * columns + at_column + 1)/",
        test: "cuda::bf16::matrix_products_agree",
        said: "misaligned access of ",
    },
    Planted {
        stem: "token",
        edit: r"s/dlogits \+= row \* v;//",
        test: "cuda::matrices::log_probabilities_and_their_gradient_agree",
        said: "race: ",
    },
    Planted {
        stem: "loss",
        edit: r"s/^  __syncthreads\(\);$//",
        test: "cuda::loss::the_order_of_threads_changes_no_bit",
        said: "read of uninitialised shared memory",
    },
    Planted {
        stem: "loss",
        edit: r"s/ && loss > -a \* dual//",
        test: "cuda::loss::clipped_losses_agree",
        said: ": loss: off by",
    },
    Planted {
        stem: "linear_hopper",
        edit: r"s/wgmma_wait<1>\(\);//",
        test: "cuda::bf16::matrix_products_agree",
        said: "race: ",
    },
    Planted {
        stem: "attention_hopper",
        edit: r"s/barrier_wait\(queries_full, 0\);//",
        test: "cuda::bf16::attention_agrees",
        said: "race: read of shared memory",
    },
    Planted {
        stem: "attention_hopper",
        edit: r"s/barrier_wait\(values_full \+ value_ring.stage, value_ring.parity\);$//",
        test: "cuda::attention::whole_sequences_have_the_bits_of_warps_and_of_the_cache",
        said: "race: ",
    },
    Planted {
        stem: "attention_hopper",
        edit: r"s/barrier_wait\(keys_empty \+ ring.stage, ring.parity \^ 1\);//",
        test: "cuda::attention::whole_sequences_have_the_bits_of_warps_and_of_the_cache",
        said: "deadlock in block",
    },
    Planted {
        stem: "attention_hopper",
        edit: r"s/wgmma_wait<1>\(\);//",
        test: "cuda::attention::whole_sequences_have_the_bits_of_warps_and_of_the_cache",
        said: "of the greatest magnitude",
    },
    Planted {
        stem: "attention_hopper",
        edit: r"/Here, since the compiler/,/settled/s/wgmma_wait<0>\(\);//",
        test: "cuda::attention::whole_sequences_have_the_bits_of_warps_and_of_the_cache",
        said: "the registers of a product changed before it was waited for",
    },
    Planted {
        stem: "attention_hopper",
        edit: r"s/^    async_fence\(\);//",
        test: "cuda::bf16::attention_agrees",
        said: "no fence.proxy.async between a thread's write and this read",
    },
    Planted {
        stem: "attention_hopper",
        edit: r"s/clear_rows<C>\(/if (false) clear_rows<C>(/",
        test: "cuda::attention::neighbours_that_are_no_numbers_change_nothing",
        said: "other bits beside neighbours that are no numbers",
    },
    Planted {
        stem: "attention_backward_hopper",
        edit: r"s/clear_rows<C>\(queries,/if (false) clear_rows<C>(queries,/",
        test: "cuda::attention::neighbours_that_are_no_numbers_change_nothing",
        said: "other bits beside neighbours that are no numbers",
    },
    Planted {
        stem: "attention_backward_hopper",
        edit: r"/lanes have read what belongs to the rows/{n;s/__syncwarp\(\);//}",
        test: "cuda::attention::gradients_have_the_bits_of_warps",
        said: "race: write of shared memory",
    },
    Planted {
        stem: "attention_backward_hopper",
        edit: r"s/if \(before >= 0\) hand_back\(before\);/hand_back(ring.stage);/",
        test: "cuda::attention::gradients_have_the_bits_of_warps",
        said: "race: ",
    },
    Planted {
        stem: "attention_hopper",
        edit: r"s/(counts\[.*\]) = differing_sums\(blockIdx.x\);/\1 = 0;/",
        test: "cuda::attention::a_device_that_adds_up_otherwise_is_found_out_and_leaves_attention_to_warps",
        said: "hopper attention hopper sm_90",
    },
];

#[test]
fn every_planted_bug_is_found() {
    if !compiler_is_there() {
        return;
    }
    for Planted { stem, edit, test, said } in PLANTED {
        let folder: PathBuf = build("check", Some(Mutation { stem, edit }));
        let output = elsewhere(&["--exact", test], &folder).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("running 1 test"), "{test} is no test:\n{text}");
        assert!(!output.status.success(), "{stem} with {edit} passes");
        assert!(
            text.contains(said),
            "{stem} with {edit} fails, but nothing says `{said}`:\n{text}"
        );
    }
}

/// Where the compiler keeps the sanitizer's runtime, which must be loaded before everything else.
fn sanitizer() -> Option<String> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".into());
    let output =
        std::process::Command::new(compiler).arg("-print-file-name=libasan.so").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
        .filter(|path| path.starts_with('/'))
}

#[test]
fn every_operation_passes_under_the_address_and_undefined_behaviour_sanitizers() {
    if !compiler_is_there() {
        return;
    }
    let library = sanitizer().expect("the compiler has its sanitizers");
    let folder = build("address", None);
    let mut command = elsewhere(&["cuda::ops::", "cuda::matrices::", "cuda::bf16::"], &folder);
    let output =
        command.env("LD_PRELOAD", library).env("ASAN_OPTIONS", "detect_leaks=0").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(
        !text.contains("ERROR: AddressSanitizer") && !text.contains("runtime error:"),
        "{text}"
    );
}

//! Tiny models of every family against PyTorch and transformers: outputs, losses, every gradient,
//! training, generation, files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use posttrain::backend::{Backend, Sampling};
use posttrain::data::tokenised::Tokenised;
use posttrain::model::batch::Batch;
use posttrain::model::checkpoint::{self, CONFIG, Checkpoint, WEIGHTS};
use posttrain::model::heads::{self, TargetTokens};
use posttrain::model::init::{self, ScalarInit};
use posttrain::model::params::{HeadKind, Params, Trainable};
use posttrain::model::tensors::Tensors;
use posttrain::model::transformer::{self, Recompute};
use posttrain::model::weights::{Gradients, Model};
use posttrain::random::Stream;
use posttrain::sample::{GenerateOptions, Limits, Sample, generate};
use posttrain::train::language;
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::schedule::Schedule;

use super::golden::{Comparison, Golden, Named, golden, root, tensors};
use super::{Double, Single, bits, next_tokens};

/// A test of each variant, and the list of them.
macro_rules! variants {
    ($($variant:ident)*) => {
        const VARIANTS: &[&str] = &[$(stringify!($variant)),*];
        $(
            mod $variant {
                use super::*;

                #[test]
                fn agrees_in_double_precision() {
                    agrees(&Double::new(), stringify!($variant), 1e-9);
                }

                #[test]
                fn agrees_in_single_precision() {
                    agrees(&Single::new(), stringify!($variant), 2e-5);
                }

                #[test]
                fn is_saved_as_it_was_loaded() {
                    saved_as_loaded(stringify!($variant));
                }
            }
        )*
    };
}

variants! {
    opt opt_350m opt_reward
    gpt2
    gpt_neox gpt_neox_sequential
    llama llama_biased llama_llama3 llama_linear llama_dynamic llama_reward
    mistral
    qwen2
    qwen3
    bert bert_pooler bert_classifier
    roberta roberta_classifier
}

/// A variant's model and batch, and the golden numbers of them.
struct Case<'a, B: Backend> {
    b: &'a B,
    golden: Golden,
    /// Of golden.safetensors.
    numbers: Named,
    checkpoint: Checkpoint,
    model: Model<B>,
    batch: Batch,
    comparison: Comparison,
}

fn load(folder: &Path) -> Checkpoint {
    checkpoint::load(folder).unwrap_or_else(|error| panic!("{}: {error:#}", folder.display()))
}

fn agrees<B: Backend>(b: &B, variant: &str, tolerance: f64) {
    let folder = root().join(variant);
    let (golden, checkpoint) = (golden(&folder), load(&folder));
    let mut batch = Batch::new(&golden.tokens);
    if let Some(types) = &golden.token_types {
        batch.types = types.concat();
    }
    let model =
        Model::upload(b, checkpoint.spec.clone(), checkpoint.head, checkpoint.params.clone());
    let (numbers, comparison) =
        (tensors(&folder.join("golden.safetensors")), Comparison::new(variant, tolerance));
    let mut case = Case { b, golden, numbers, checkpoint, model, batch, comparison };
    match case.checkpoint.head {
        HeadKind::Language => case.language(),
        HeadKind::Reward => case.reward(),
        HeadKind::Classifier => case.classifier(),
        HeadKind::Encoder => case.encoder(),
        HeadKind::LanguageAndValue | HeadKind::Value => {
            unreachable!("a checkpoint has no value head")
        }
    }
    case.company_changes_no_bit();
    case.comparison.done();
}

impl<B: Backend> Case<'_, B> {
    #[track_caller]
    fn close(&mut self, name: &str, found: &[f64]) {
        self.comparison.close(name, found, &self.numbers[name].1);
    }

    fn language(&mut self) {
        let (b, model) = (self.b, &self.model);
        let hidden = transformer::hidden(b, model, &self.batch);
        let logits = b.download_f64(&heads::logits(b, model, &hidden, self.batch.rows()));
        let (rows, targets) = next_tokens(&self.batch);
        let scored = TargetTokens { rows: &rows, targets: &targets, temperature: 1.0 };
        let scores = heads::token_logprobs(b, model, &hidden, scored, false);
        self.close("logits", &logits);
        self.close("logprobs", &b.download_f64(&scores.logprobs));
        self.training();
        self.generation();
    }

    /// Ten steps on the batch; the first one's gradients are compared too.
    fn training(&mut self) {
        let config = OptimiserConfig {
            learning_rate: 1e-3,
            schedule: Schedule::default(),
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: None,
        };
        let rows: Vec<Tokenised> = self
            .golden
            .tokens
            .iter()
            .map(|tokens| Tokenised { tokens: tokens.clone(), ..Tokenised::default() })
            .collect();
        let mut state = TrainState::new(self.b, &self.model, Trainable::ALL).unwrap();
        let mut losses = Vec::new();
        for step in 0..10 {
            state.clear_gradients(self.b);
            let metrics =
                language::accumulate(self.b, &mut state, &rows.iter().collect::<Vec<_>>());
            losses.push(
                metrics.iter().find(|(name, _)| *name == "loss").expect("the loss is measured").1,
            );
            if step == 0 {
                self.gradients(&mut state.gradients);
            }
            state.update(self.b, &config, config.learning_rate, 1.0, |_| true);
        }
        let expected = self.golden.adamw.as_ref().expect("decoders are trained");
        self.comparison.close("losses", &losses, expected);
        assert_eq!(Some(expected[0]), self.golden.loss);
    }

    fn generation(&mut self) {
        let greedy = self.golden.greedy.as_ref().expect("decoders continue a prompt");
        let prompt = &greedy.prompt;
        let continued = |temperature: f32| -> Sample {
            let options = GenerateOptions {
                samples_per_prompt: 1,
                max_new_tokens: greedy.tokens.len(),
                sampling: Sampling::plain(temperature),
                ends: &[],
                stream: Stream::new(0, "families"),
                first_row: 0,
                limits: Limits::default(),
            };
            generate(
                self.b,
                &self.model,
                std::slice::from_ref(prompt),
                &options,
                &mut |_, _| Ok(()),
            )
            .unwrap()
            .remove(0)
            .remove(0)
        };
        assert_eq!(continued(0.0).tokens, greedy.tokens);
        // The log-probabilities of drawing and of scoring are the same, in every family.
        let drawn = continued(0.9);
        let batch = Batch::new(&[[&prompt[..], &drawn.tokens].concat()]);
        let rows: Vec<u32> = (prompt.len() - 1..batch.rows() - 1).map(|row| row as u32).collect();
        let hidden = transformer::hidden(self.b, &self.model, &batch);
        let scored = TargetTokens { rows: &rows, targets: &drawn.tokens, temperature: 0.9 };
        let scores = heads::token_logprobs(self.b, &self.model, &hidden, scored, false);
        let scores: Vec<f32> = self.b.download(&scores.logprobs);
        assert_eq!(bits(&scores), bits(&drawn.logprobs));
    }

    fn reward(&mut self) {
        let (b, model, batch) = (self.b, &self.model, &self.batch);
        let last: Vec<u32> = batch.starts[1..].iter().map(|&end| end as u32 - 1).collect();
        let activations = transformer::forward(
            b,
            model,
            transformer::trunk(b, model, batch, 0),
            batch,
            0,
            Some(Recompute::None),
        );
        let scores = heads::scalar_scores(b, model, &activations.hidden, &last);
        // loss = sum of log(1 + exp(-(score of the better - score of the other)))
        let (mut loss, mut dscores) = (0.0, vec![0.0; scores.len()]);
        for &[better, worse] in self.golden.pairs.as_ref().expect("reward models compare") {
            let margin = scores[better] - scores[worse];
            loss += (-margin).exp().ln_1p();
            dscores[better] -= 1.0 / (1.0 + margin.exp());
            dscores[worse] += 1.0 / (1.0 + margin.exp());
        }
        let (mut gradients, mut dhidden) = self.no_gradients();
        heads::scalar_scores_backward(
            b,
            model,
            &mut dhidden,
            &mut gradients,
            &activations.hidden,
            &last,
            &b.upload_f64(&dscores),
        );
        transformer::backward(
            b,
            model,
            batch,
            &activations,
            &dhidden,
            &mut gradients,
            &Trainable::ALL,
        );
        self.close("logits", &scores);
        self.head_trained(loss, &mut gradients);
    }

    fn classifier(&mut self) {
        let (b, model, batch, labels) = (self.b, &self.model, &self.batch, self.model.spec.labels);
        let first: Vec<u32> =
            batch.starts[..batch.sequences()].iter().map(|&start| start as u32).collect();
        let activations = transformer::forward(
            b,
            model,
            transformer::trunk(b, model, batch, 0),
            batch,
            0,
            Some(Recompute::None),
        );
        let classified = heads::class_logits(b, model, &activations.hidden, &first);
        // loss = mean of log(sum of exp(logits)) - logits[label]
        let (mut loss, mut dlogits, share) = (0.0, Vec::new(), 1.0 / first.len() as f64);
        for (logits, &label) in classified
            .logits
            .chunks(labels)
            .zip(self.golden.labels.as_ref().expect("classifiers have classes"))
        {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            loss += share * (sum.ln() - logits[label]);
            dlogits.extend(logits.iter().enumerate().map(|(class, logit)| {
                share * (logit.exp() / sum - f64::from(u8::from(class == label)))
            }));
        }
        let (mut gradients, mut dhidden) = self.no_gradients();
        heads::class_logits_backward(
            b,
            model,
            &mut dhidden,
            &mut gradients,
            &first,
            &classified,
            &dlogits,
        );
        transformer::backward(
            b,
            model,
            batch,
            &activations,
            &dhidden,
            &mut gradients,
            &Trainable::ALL,
        );
        let logits = classified.logits.clone();
        self.close("logits", &logits);
        self.head_trained(loss, &mut gradients);
    }

    fn encoder(&mut self) {
        let hidden = self.b.download_f64(&transformer::hidden(self.b, &self.model, &self.batch));
        self.close("hidden", &hidden);
    }

    /// Zeros: of the weights, and `[n,e]` of the hidden states.
    fn no_gradients(&self) -> (Gradients<B>, B::Buf) {
        let size = self.batch.rows() * self.model.spec.embedding_width;
        (Gradients::zeros(self.b, &self.model, &Trainable::ALL), self.b.zeros(size))
    }

    fn head_trained(&mut self, loss: f64, gradients: &mut Gradients<B>) {
        self.comparison.close("loss", &[loss], &[self.golden.loss.expect("heads have a loss")]);
        self.gradients(gradients);
    }

    /// Gradients have the form of weights, so the checkpoint's writer brings them into the form of
    /// the file. It writes float32: the rounded gradients and what rounding left are two files,
    /// whose sum is exact enough.
    fn gradients(&mut self, gradients: &mut Gradients<B>) {
        let total = gradients
            .total(self.b)
            .as_ref()
            .map(|gradient| self.b.download_f64(gradient.as_ref().expect("all train")));
        let rounded =
            total.as_ref().map(|tensor| tensor.iter().map(|&x| x as f32).collect::<Vec<f32>>());
        let rest = total.zip(rounded.as_ref()).map(|(tensor, rounded)| {
            tensor.iter().zip(rounded).map(|(x, &r)| (x - f64::from(r)) as f32).collect()
        });
        let (mut found, rest) = (self.as_file(rounded), self.as_file(rest));
        for (name, (_, numbers)) in &mut found {
            numbers.iter_mut().zip(&rest[name].1).for_each(|(number, rest)| *number += rest);
        }
        let golden = self.numbers.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix("grad.")?.to_owned(), tensor.clone()))
        });
        self.comparison.all_close(&found, &golden.collect());
    }

    fn as_file(&self, params: Params<Vec<f32>>) -> Named {
        let folder = tempfile::tempdir().unwrap();
        checkpoint::save(folder.path(), &Checkpoint { params, ..self.checkpoint.clone() }).unwrap();
        tensors(&folder.path().join(WEIGHTS))
    }

    /// A sequence's hidden states have the same bits alone and with others in the batch.
    fn company_changes_no_bit(&self) {
        let packed = self.b.download_f64(&transformer::hidden(self.b, &self.model, &self.batch));
        for (sequence, range) in self.batch.starts.windows(2).enumerate() {
            let mut batch = Batch::new(&self.golden.tokens[sequence..=sequence]);
            batch.types = self.batch.types[range[0]..range[1]].to_vec();
            let alone = self.b.download_f64(&transformer::hidden(self.b, &self.model, &batch));
            let width = self.model.spec.embedding_width;
            let bits = |numbers: &[f64]| {
                numbers.iter().map(|number| number.to_bits()).collect::<Vec<u64>>()
            };
            assert_eq!(
                bits(&alone),
                bits(&packed[range[0] * width..range[1] * width]),
                "sequence {sequence}"
            );
        }
    }
}

#[test]
fn every_variant_that_was_made_is_tested() {
    let folders = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir());
    let made: BTreeSet<String> =
        folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(made, VARIANTS.iter().map(|&variant| variant.to_owned()).collect());
}

/// Where saved models stay, for golden/load.py: `load.py target/tmp/families/*`.
fn place(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("families").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn saved_as_loaded(variant: &str) {
    let (folder, place) = (root().join(variant), place(variant));
    let loaded = load(&folder);
    checkpoint::save(&place, &loaded).unwrap();
    let again = load(&place);
    assert!(again.spec == loaded.spec && again.params == loaded.params);
    let (before, after) = (tensors(&folder.join(WEIGHTS)), tensors(&place.join(WEIGHTS)));
    let mut names: BTreeSet<&String> = before.keys().collect();
    // A pooler that nothing reads is not kept.
    names.retain(|name| variant != "bert_pooler" || !name.starts_with("pooler."));
    assert_eq!(names, after.keys().collect());
    for (name, (shape, numbers)) in &after {
        assert_eq!(*shape, before[name].0, "{name}");
        // Rows before the first position are never read.
        let unread = if is_offset(variant, name) { 2 * shape[1] } else { 0 };
        assert!(numbers[unread..] == before[name].1[unread..], "{name}");
    }
}

/// Tables of positions that begin with two rows for no position.
fn is_offset(variant: &str, name: &str) -> bool {
    let ends = if variant.starts_with("opt") {
        "embed_positions.weight"
    } else {
        "position_embeddings.weight"
    };
    (variant.starts_with("opt") || variant.starts_with("roberta")) && name.ends_with(ends)
}

#[test]
fn a_reward_model_can_be_made_of_every_decoder_and_is_read_back() {
    for variant in VARIANTS {
        let Checkpoint { origin, spec, head, params } = load(&root().join(variant));
        if head != HeadKind::Language {
            continue;
        }
        let b = Single::new();
        let model = Model::upload(&b, spec.clone(), head, params);
        let scalar = init::scalar_head(&spec, HeadKind::Reward, ScalarInit::Normal, 1)
            .expect("a reward model has one");
        let params = model.with_scalar(&b, scalar).download(&b);
        let place = place(&format!("{variant}_made_reward"));
        checkpoint::save(
            &place,
            &Checkpoint {
                origin,
                spec: spec.clone(),
                head: HeadKind::Reward,
                params: params.clone(),
            },
        )
        .unwrap();
        let again = load(&place);
        assert!(
            again.spec == spec && again.params == params && again.head == HeadKind::Reward,
            "{variant}"
        );
    }
}

#[test]
fn a_configuration_of_transformers_4_is_that_of_transformers_5() {
    let mut seen = 0;
    for variant in VARIANTS {
        let folder = root().join(variant);
        let old = folder.join("config-v4.json");
        if !old.exists() {
            continue;
        }
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(&old, copy.path().join(CONFIG)).unwrap();
        let (old, new) =
            (checkpoint::describe(copy.path()).unwrap(), checkpoint::describe(&folder).unwrap());
        assert_eq!(
            (old.spec, old.head, old.origin.special),
            (new.spec, new.head, new.origin.special),
            "{variant}"
        );
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn half_precision_files_give_the_same_model_where_their_numbers_are_the_same() {
    for variant in ["gpt2", "gpt_neox", "opt_reward", "roberta_classifier"] {
        let folder = root().join(variant);
        let file = Tensors::open(&[folder.join(WEIGHTS)]).unwrap();
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(folder.join(CONFIG), copy.path().join(CONFIG)).unwrap();
        for dtype in [safetensors::Dtype::F16, safetensors::Dtype::BF16] {
            let halves: Vec<(&str, Vec<usize>, Vec<u8>)> = file
                .names()
                .map(|name| {
                    let bytes =
                        file.read(name).unwrap().into_iter().flat_map(|number| match dtype {
                            safetensors::Dtype::F16 => half::f16::from_f32(number).to_le_bytes(),
                            _ => half::bf16::from_f32(number).to_le_bytes(),
                        });
                    (name, file.shape(name).unwrap().to_vec(), bytes.collect())
                })
                .collect();
            let views = halves.iter().map(|(name, shape, bytes)| {
                (*name, safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap())
            });
            std::fs::write(copy.path().join(WEIGHTS), safetensors::serialize(views, None).unwrap())
                .unwrap();
            assert!(load(copy.path()).params == load(&folder).params, "{variant} {dtype}");
        }
    }
}

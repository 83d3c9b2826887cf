//! Inputs for stages, made by plain code here: datasets, a tokenizer of single characters, small
//! models with arbitrary weights, samples. What a stage does to them is then the stage's doing
//! alone. A change of an input here renews the records of `digests` that read it; a new file none.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use posttrain::data::study::Item;
use posttrain::eval::verdict::Verdict;
use posttrain::model::arch::{Origin, SpecialTokens};
use posttrain::model::checkpoint::{self, Checkpoint};
use posttrain::model::params::{HeadKind, Params};
use posttrain::model::spec::Spec;
use serde_json::{Value, json};

use super::sheets::{filled, items};

/// The folder with everything.
pub struct Fixture(tempfile::TempDir);

/// The fixture of this thread, which is one test; it goes with it.
pub fn fixture() -> Rc<Fixture> {
    thread_local! {
        static FIXTURE: Rc<Fixture> = {
            let fixture = Fixture(tempfile::tempdir().unwrap());
            fixture.make();
            Rc::new(fixture)
        };
    }
    FIXTURE.with(Rc::clone)
}

/// Tokens that end a text and fill room; the characters come after them.
pub const EOS: u32 = 1;
const PAD: u32 = 0;
/// The longest sequence that the models take.
pub const CONTEXT: usize = 128;
/// Blocks of the models: with 0.8 of them frozen, one trains.
pub const LAYERS: usize = 5;

impl Fixture {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A reference to, or an input from, a path of the fixture.
    pub fn at(&self, name: &str) -> Value {
        json!({ "$path": self.path(name) })
    }

    fn make(&self) {
        for (split, first, count) in [
            ("notes", 0, 6),
            ("pretrain", 10, 6),
            ("sft", 20, 12),
            ("compare", 40, 4),
            ("prompts", 50, 9),
        ] {
            self.write(
                &format!("dataset/{split}.jsonl"),
                &jsonl((first..first + count).map(example)),
            );
        }
        for (test_set, first) in [("id", 70), ("ood", 80)] {
            self.write(
                &format!("dataset/test/{test_set}.jsonl"),
                &jsonl((first..first + 5).map(example)),
            );
            self.write(
                &format!("preferences/test/{test_set}.jsonl"),
                &jsonl((first..first + 3).map(preference)),
            );
        }
        self.write(
            "preferences/preferences.jsonl",
            &jsonl((20..32).flat_map(|at| [preference(at), other_preference(at)])),
        );
        let pairs = || (20..32).flat_map(|at| [preference(at), other_preference(at)]);
        for (folder, base) in [("logprobs", -4.0), ("other_logprobs", -6.0)] {
            let with = |row: (usize, Value)| logprobs(row, base);
            let write = |split: &str, rows: Vec<Value>| {
                let rows = rows.into_iter().enumerate().map(with);
                self.write(&format!("{folder}/{split}.jsonl"), &jsonl(rows));
            };
            write("preferences", pairs().collect());
            write("test/id", (70..73).map(preference).collect());
            write("test/ood", (80..83).map(preference).collect());
        }
        for (folder, base) in [("kto_logprobs", -4.0), ("other_kto_logprobs", -6.0)] {
            let write = |split: &str, rows: Vec<Value>| {
                let rows = labelled_logprobs(&rows, base);
                self.write(&format!("{folder}/{split}.jsonl"), &jsonl(rows));
            };
            write("preferences", pairs().collect());
            write("test/id", (70..73).map(preference).collect());
            write("test/ood", (80..83).map(preference).collect());
            write("sft", (20..32).map(example).collect());
            write("prompts", (50..59).map(example).collect());
        }
        self.write(
            "posts.jsonl",
            &jsonl((0..8).map(
                |at| json!({"name": format!("r{at}"), "body": post(at), "gist": summary(at)}),
            )),
        );
        for (seed, gold) in [("evaluations/a", 0.25), ("evaluations/b", 0.75)] {
            let row = |method: &str, mean: f64| json!({"method": method, "test_set": "id", "metric": "gold", "mean": mean, "low": mean, "high": mean, "n": 5});
            self.write(
                &format!("{seed}/table.json"),
                &json!({"rows": [row("sft", gold), row("ppo", 1.0)]}).to_string(),
            );
        }
        for (name, seed) in [("c", 0), ("d", 1), ("e", 3)] {
            self.compared(&format!("evaluations/{name}"), seed);
        }
        self.write(
            "scores/sft.jsonl",
            &jsonl((20..32).map(|at| json!({"id": format!("row-{at}"), "score": at * 7 % 5}))),
        );
        self.write("comparisons.jsonl", &format!("{{}}\n{}", jsonl((0..4).map(comparison))));
        self.write(
            "chats.jsonl",
            &jsonl((0..4).map(|at| {
                json!({"messages": [
            {"role": "user", "content": post(at), "name": null},
            {"role": "assistant", "content": summary(at)}]})
            })),
        );
        let pair = |at: usize| {
            json!({"premise": post(at), "hypothesis": summary(at + at % 2),
            "label": if at.is_multiple_of(2) { "same" } else { "other" }})
        };
        self.write("pairs.jsonl", &jsonl((0..10).map(pair)));
        tokenizer(&self.path("tokenizer"));
        self.model("policy", HeadKind::Language, 1);
        self.model("other", HeadKind::Language, 2);
        self.model("reward", HeadKind::Reward, 3);
        for (name, seed) in [("judges/a", 7), ("judges/b", 8)] {
            self.model(name, HeadKind::Reward, seed);
            self.write(&format!("{name}/normalisation.json"), "{\"mean\": 0.5, \"std\": 0.25}");
        }
        for (name, seed, loss) in [("a", 4, 0.5), ("b", 5, 0.25), ("c", 6, 0.125)] {
            let name = format!("measured/{name}");
            self.model(&name, HeadKind::Language, seed);
            let measured = json!({"split": "validation", "keep": "best", "step": 3,
                "by": "validation/loss", "value": loss});
            self.write(&format!("{name}/validation.json"), &measured.to_string());
        }
        self.write("reward/normalisation.json", "{\"mean\": 0.25, \"std\": 0.5}");
        self.write(
            "candidates/samples.jsonl",
            &jsonl((40..44).map(|at| sampled("compare", at, 2))),
        );
        let rows = || {
            [70, 80]
                .iter()
                .zip(["test/id", "test/ood"])
                .flat_map(|(first, split)| (*first..first + 5).map(move |at| (split, at)))
        };
        for (name, count) in [("outputs", 1), ("samples", 3)] {
            self.write(
                &format!("{name}/samples.jsonl"),
                &jsonl(rows().map(|(split, at)| sampled(split, at, count))),
            );
        }
        self.write("pool/samples.jsonl", &jsonl(rows().map(|(split, at)| pool(split, at))));
        // Numbers of the samples, of which one row has none.
        let valued = |(split, at): (&str, usize)| {
            let own = (at != 71).then_some(at * 3 % 7);
            json!({"split": split, "id": format!("row-{at}"), "samples": 3, "values": {"own": own}})
        };
        self.write("measured_by/values.jsonl", &jsonl(rows().map(valued)));
        let number = json!({"description": "d", "unit": "u", "better": "higher", "splits": {}});
        let summary = json!({"per": "input", "values": {"own": number}});
        self.write("measured_by/metric.json", &summary.to_string());
        self.judged_by_people();
    }

    /// Sheets of two people, of outputs and of sets, and what a stage `judge` makes of one of sets.
    fn judged_by_people(&self) {
        let [dataset, outputs, samples, pool] =
            ["dataset", "outputs", "samples", "pool"].map(|name| self.path(name));
        let pairs = items(&dataset, &outputs, None, None);
        let sets = items(&dataset, &samples, Some(&pool), Some(2));
        for (kind, items) in [("pairs", &pairs), ("sets", &sets)] {
            for (name, step) in [("ann", 1), ("bob", 2)] {
                let says =
                    |at: usize| [Verdict::A, Verdict::B, Verdict::A, Verdict::Tie][at * step % 4];
                self.write(&format!("sheets/{kind}-{name}.csv"), &filled(items, name, says));
            }
        }
        let people = json!({"question": "more_varied", "set": 2, "annotators": [], "items": 5,
            "by_several": 0, "majority": {}, "alpha_nominal": null, "alpha_ordinal": null,
            "pairs": []});
        let summary = json!({"judge": "human", "a": "a", "b": "b", "splits": {}, "people": people});
        self.write("people/summary.json", &summary.to_string());
        let item = |(at, item): (usize, &Item)| {
            let says = ["a", "b", "tie", "a", "b"][at];
            json!({"split": item.split, "id": item.id, "key": item.key(),
                "votes": {"a": 1, "b": 0, "tie": 0}, "score": 0.5, "majority": says})
        };
        self.write("people/items.jsonl", &jsonl(sets.iter().enumerate().map(item)));
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    /// An evaluation of two methods on two test sets by `gold` and `key`, with its comparisons and
    /// inputs.
    fn compared(&self, name: &str, seed: usize) {
        const INPUTS: usize = 9;
        const METHODS: [&str; 2] = ["sft", "ppo"];
        let around =
            |mean: f64| json!({"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": INPUTS});
        let named = |names: Value, mean: f64| {
            let mut named = names;
            named.as_object_mut().unwrap().extend(around(mean).as_object().unwrap().clone());
            named
        };
        let mean = |method: &str, set: &str, metric: &str| {
            let all = (0..INPUTS).map(|at| graded(method, set, metric, at, seed));
            all.sum::<f64>() / INPUTS as f64
        };
        let (mut rows, mut differences, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        for metric in ["gold", "key"] {
            for set in ["id", "ood"] {
                for method in METHODS {
                    let names = json!({"method": method, "test_set": set, "metric": metric});
                    rows.push(named(names, mean(method, set, metric)));
                }
                let names = json!({"method": "ppo", "with": "sft", "test_set": set,
                    "metric": metric, "p": 0.5, "p_holm": 0.5});
                differences.push(named(names, mean("ppo", set, metric) - mean("sft", set, metric)));
            }
            for method in METHODS {
                let names = json!({"method": method, "from": "id", "to": "ood", "metric": metric});
                let gap = mean(method, "id", metric) - mean(method, "ood", metric);
                gaps.push(named(names, gap));
            }
        }
        let names = json!({"method": "ppo", "with": "best_of_n", "test_set": "id",
            "metric": "gold", "p": 0.5, "p_holm": 0.5, "temperature": 1.0, "own": 0.5,
            "best": 0.375, "kl": 0.5 + seed as f64 / 8.0, "kl_interval": around(0.5)});
        let matched = [named(names, 0.125 + seed as f64 / 64.0)];
        let inputs = ["id", "ood"].into_iter().flat_map(|set| {
            (0..INPUTS).map(move |at| {
                let answers = METHODS.map(|method| {
                    let score = |metric: &str| graded(method, set, metric, at, seed);
                    json!({"method": method, "text": "t",
                        "scores": {"gold": score("gold"), "key": score("key")}})
                });
                json!({"test_set": set, "id": format!("row-{at}"), "prompt": format!("{set} {at}"),
                    "answers": answers})
            })
        });
        self.write(&format!("{name}/table.json"), &json!({"rows": rows}).to_string());
        self.write(&format!("{name}/inputs.jsonl"), &jsonl(inputs));
        let comparisons = json!({"differences": differences, "gaps": gaps, "matched": matched});
        self.write(&format!("{name}/comparisons.json"), &comparisons.to_string());
    }

    fn model(&self, name: &str, head: HeadKind, seed: u64) {
        let folder = self.path(name);
        tokenizer(&folder);
        let spec = spec();
        let params = weights(&spec, head, seed);
        checkpoint::save(
            &folder,
            &Checkpoint {
                origin: Origin::new(
                    &spec,
                    SpecialTokens { bos: None, eos: Some(EOS), pad: Some(PAD) },
                ),
                spec,
                head,
                params,
            },
        )
        .unwrap();
    }
}

pub fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

pub fn jsonl(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

/// The score of a method of an evaluation with all its files, by `gold` or `key`.
fn graded(method: &str, test_set: &str, metric: &str, at: usize, seed: usize) -> f64 {
    let base =
        if method == "ppo" { 0.5 } else { 0.25 } - if test_set == "id" { 0.0 } else { 0.125 };
    let sign = if metric == "gold" { 1.0 } else { -1.0 };
    let (input, rest) = ((at * 5 % 8) as f64 / 32.0, ((at * 3 + seed * 5) % 7) as f64 / 64.0);
    sign * (base + input + rest + seed as f64 / 32.0)
}

/// Values of the synthetic world's slots, one text for each number.
fn values(at: usize) -> [&'static str; 6] {
    let pick = |from: [&'static str; 5], step: usize| from[at / step % 5];
    [
        pick(["boss", "manager", "client", "intern", "director"], 1),
        ["lost", "broke", "sold", "hid"][at % 4],
        pick(["laptop", "badge", "invoice", "printer", "contract"], 5),
        pick(["told hr", "checked logs", "sent emails", "wrote letters", "called police"], 2),
        pick(["monday", "friday", "noon", "easter", "tonight"], 3),
        pick(["quit", "sue", "wait", "pay", "complain"], 4),
    ]
}

fn post(at: usize) -> String {
    let [who, verb, obj, ..] = values(at);
    format!("no {at} my {who} {verb} the {obj} .")
}

pub fn prompt(at: usize) -> String {
    format!("{} tl;dr:", post(at))
}

pub fn summary(at: usize) -> String {
    let [who, verb, obj, ..] = values(at);
    format!(" my {who} {verb} my {obj} .")
}

pub fn example(at: usize) -> Value {
    let [who, verb, obj, done, when, ask] = values(at);
    let facts = json!({"forum": "work", "who": who, "verb": verb, "obj": obj, "done": done,
        "when": when, "ask": ask});
    json!({"id": format!("row-{at}"), "prompt": prompt(at), "completion": summary(at),
        "facts": facts})
}

pub fn preference(at: usize) -> Value {
    let rejected = format!(" the {} .", values(at + 1)[2]);
    json!({"id": format!("{at}/1-0"), "prompt": prompt(at), "chosen": summary(at),
        "rejected": rejected, "margin": 0.5, "clean": true})
}

/// A comparison as OpenAI published them.
fn comparison(at: usize) -> Value {
    json!({"info": {"id": format!("t3_{at}"), "subreddit": "work", "title": "no", "post": post(at)},
        "choice": at % 2,
        "summaries": [{"text": summary(at)}, {"text": summary(at + 1)}]})
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().expect("a text")
}

/// The digest of prompts with answers.
fn digest(answers: &[(&str, &str)]) -> String {
    let mut bytes = Vec::new();
    for (prompt, answer) in answers {
        let prompt = encode(prompt);
        let tokens = [prompt.clone(), encode(answer), vec![EOS]].concat();
        bytes.extend((prompt.len() as u64).to_le_bytes());
        bytes.extend((tokens.len() as u64).to_le_bytes());
        bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    }
    blake3::hash(&bytes).to_hex()[..16].to_owned()
}

/// Log-probabilities of a pair, which no model gave, with the digest of its tokens.
fn logprobs((at, row): (usize, Value), base: f64) -> Value {
    let sides = ["chosen", "rejected"].map(|side| (text(&row, "prompt"), text(&row, side)));
    json!({"id": row["id"], "digest": digest(&sides), "chosen": base - (at % 5) as f64,
        "rejected": 1.5 * base - (at % 7) as f64})
}

/// The same of the rows of a split, with their mismatched rows: each prompt with the answer of the
/// nearest row before it, cyclically, that has another prompt.
fn labelled_logprobs(rows: &[Value], base: f64) -> Vec<Value> {
    let sides: &[&str] =
        if rows[0]["chosen"].is_string() { &["chosen", "rejected"] } else { &["completion"] };
    let of = |at: usize| {
        let row = &rows[at];
        let prompt = text(row, "prompt");
        let before = (1..rows.len()).map(|back| &rows[(at + rows.len() - back) % rows.len()]);
        let partner = before.into_iter().find(|other| text(other, "prompt") != prompt).unwrap();
        let [own, others] = [row, partner]
            .map(|of| sides.iter().map(|side| (prompt, text(of, side))).collect::<Vec<_>>());
        let number = |side: usize| base * (1.0 + side as f64 / 2.0) - (at % (5 + side)) as f64;
        let others_numbers: Vec<f64> = (0..sides.len()).map(|side| 4.0 * number(side)).collect();
        let mut found = json!({"id": row["id"], "digest": digest(&own),
            "mismatched": {"digest": digest(&others), "logprobs": others_numbers}});
        for (at, side) in sides.iter().enumerate() {
            found[side] = json!(number(at));
        }
        found
    };
    (0..rows.len()).map(of).collect()
}

/// A second pair of the same prompt, with a text of the first and a wrong label.
fn other_preference(at: usize) -> Value {
    json!({"id": format!("{at}/2-0"), "prompt": prompt(at), "chosen": " what ?",
        "rejected": summary(at), "margin": -1.5, "clean": false})
}

fn sampled(split: &str, at: usize, count: usize) -> Value {
    let output = |sample: usize| {
        // Two of three first outputs are the reference.
        let text = if sample == 0 {
            summary(at + at % 3 / 2)
        } else {
            format!("{} {}", summary(at + sample), values(at)[5])
        };
        let ended = sample != 1;
        let mut tokens = encode(&text);
        tokens.extend(ended.then_some(EOS));
        json!({"text": text, "logprob": -4.5 * tokens.len() as f64, "tokens": tokens,
            "ended": ended})
    };
    let outputs: Vec<Value> = (0..count).map(output).collect();
    json!({"split": split, "id": format!("row-{at}"), "prompt": prompt(at), "temperature": 1.0,
        "outputs": outputs})
}

/// Twice the best of three candidates, whose rewards are none that a model gave.
fn pool(split: &str, at: usize) -> Value {
    let mut row = sampled(split, at, 6);
    let mut candidates = row["outputs"].take().as_array().cloned().expect("a list");
    for (place, candidate) in candidates.iter_mut().enumerate() {
        let score = (place * 7 + at) % 5;
        candidate["reward"] = json!(score);
        if candidate["ended"] == false {
            candidate["raw_reward"] = json!(score as f64 + 0.5);
        }
    }
    row["best_of"] = json!(3);
    row["outputs"] = json!([candidates[at % 3], candidates[3 + at % 2]]);
    row["candidates"] = json!(candidates);
    row
}

/// The characters of the tokenizer, in the order of their ids.
fn characters() -> Vec<char> {
    ['\n'].into_iter().chain(' '..='~').collect()
}

/// The tokens of a text.
pub fn encode(text: &str) -> Vec<u32> {
    let characters = characters();
    text.chars()
        .map(|character| {
            characters.iter().position(|known| *known == character).expect("plain ASCII") as u32
                + EOS
                + 1
        })
        .collect()
}

/// A byte-level BPE without merges, so that every character is a token.
fn tokenizer(folder: &Path) {
    // How byte-level tokenizers write bytes that do not print.
    let shown = |character: char| match character {
        '\n' => 'Ċ',
        ' ' => 'Ġ',
        other => other,
    };
    let special = |id: u32, name: &str| json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let mut vocabulary = serde_json::Map::from_iter([
        ("<pad>".to_string(), json!(PAD)),
        ("<eos>".to_string(), json!(EOS)),
    ]);
    vocabulary.extend(
        characters()
            .into_iter()
            .enumerate()
            .map(|(at, character)| (shown(character).to_string(), json!(at as u32 + EOS + 1))),
    );
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(PAD, "<pad>"), special(EOS, "<eos>")],
        "pre_tokenizer": bytes, "post_processor": bytes, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary,
            "merges": []}
    });
    write(&folder.join("tokenizer.json"), &tokenizer.to_string());
    write(
        &folder.join("tokenizer_config.json"),
        "{\"eos_token\": \"<eos>\", \"pad_token\": \"<pad>\"}",
    );
}

pub fn spec() -> Spec {
    Spec { key_value_heads: 1, ..Spec::decoder(characters().len() + 2, 16, LAYERS, 2, 24, CONTEXT) }
}

/// Numbers in [-0.25, 0.25), norms around 1: a linear congruential generator (Knuth's MMIX) that
/// runs through all tensors.
fn weights(spec: &Spec, head: HeadKind, seed: u64) -> Params<Vec<f32>> {
    let mut state = seed;
    Params::slots(spec, head).map(|slot| {
        let centre = if slot.name.contains("norm") { 1.0 } else { 0.0 };
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            centre + ((state >> 40) as f32 / (1u32 << 24) as f32 - 0.5) / 2.0
        };
        (0..slot.count()).map(|_| next()).collect()
    })
}

//! A model of a few numbers with a fixed continuation: after `h` the first of some tokens,
//! after each the next.

use std::path::Path;

use serde_json::{Value, json};

use posttrain::model::tensor_writer::{Named, write};

/// Channels; one more than the tokens that can be written.
const WIDTH: usize = 8;

/// What the model is made of.
pub struct Chained<'a> {
    /// Tokens beyond the printable letters, as byte-level vocabularies spell them.
    pub tokens: &'a [&'a str],
    /// Special tokens after these; the last ends a text.
    pub specials: &'a [&'a str],
    /// What is written after `h`.
    pub written: &'a [&'a str],
    /// What its `config.json` says beside.
    pub config: Value,
}

impl Chained<'_> {
    /// The id of a token.
    pub fn id(&self, token: &str) -> usize {
        self.vocabulary().iter().position(|own| own == token).expect("it is of the vocabulary")
    }

    fn vocabulary(&self) -> Vec<String> {
        let letters = (b'!'..=b'~').map(|byte| char::from(byte).to_string());
        letters.chain(self.tokens.iter().chain(self.specials).map(ToString::to_string)).collect()
    }

    /// Writes the folder; `change` may change each tensor's numbers.
    pub fn save(&self, folder: &Path, change: impl Fn(&str, &mut [f32])) {
        std::fs::create_dir_all(folder).unwrap();
        let vocabulary = self.vocabulary();
        let first = vocabulary.len() - self.specials.len();
        let special = |id: usize| {
            json!({"id": id, "content": vocabulary[id], "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        };
        let ids: serde_json::Map<String, Value> =
            vocabulary.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true});
        let tokenizer = json!({
            "version": "1.0", "added_tokens": (first..vocabulary.len()).map(special).collect::<Vec<_>>(), "normalizer": null,
            "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
            "model": {"type": "BPE", "vocab": ids, "merges": []},
        });
        let mut config = json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"],
            "vocab_size": vocabulary.len(), "hidden_size": WIDTH,
            "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "tie_word_embeddings": false, "eos_token_id": vocabulary.len() - 1,
        });
        config.as_object_mut().unwrap().extend(self.config.as_object().unwrap().clone());
        let names = json!({"eos_token": self.specials.last()});
        for (name, content) in [
            ("tokenizer.json", &tokenizer),
            ("tokenizer_config.json", &names),
            ("config.json", &config),
        ] {
            std::fs::write(folder.join(name), content.to_string()).unwrap();
        }
        std::fs::write(
            folder.join("chat_template.jinja"),
            "{% for m in messages %}{{ m.content }}{% endfor %}",
        )
        .unwrap();
        self.write_tensors(folder, change);
    }

    fn write_tensors(&self, folder: &Path, change: impl Fn(&str, &mut [f32])) {
        let size = self.vocabulary().len();
        let layer = |name: &str, rows, columns| {
            (format!("model.layers.0.{name}.weight"), vec![rows, columns])
        };
        let square =
            ["q", "k", "v", "o"].map(|name| layer(&format!("self_attn.{name}_proj"), WIDTH, WIDTH));
        let head = match self.config["architectures"][0].as_str() {
            Some("LlamaForSequenceClassification") => ("score.weight".to_owned(), vec![1, WIDTH]),
            _ => ("lm_head.weight".to_owned(), vec![size, WIDTH]),
        };
        let mut shapes = vec![
            ("model.embed_tokens.weight".to_owned(), vec![size, WIDTH]),
            ("model.norm.weight".to_owned(), vec![WIDTH]),
            ("model.layers.0.input_layernorm.weight".to_owned(), vec![WIDTH]),
            ("model.layers.0.post_attention_layernorm.weight".to_owned(), vec![WIDTH]),
            layer("mlp.gate_proj", 4, WIDTH),
            layer("mlp.up_proj", 4, WIDTH),
            layer("mlp.down_proj", WIDTH, 4),
            head,
        ];
        shapes.extend(square);
        let numbers = shapes.iter().map(|(name, shape)| {
            let mut numbers =
                vec![if shape.len() == 1 { 1.0 } else { 0.0 }; shape.iter().product()];
            for (step, token) in self.written.iter().enumerate() {
                let before = if step == 0 { "h" } else { self.written[step - 1] };
                match name.as_str() {
                    "model.embed_tokens.weight" => numbers[self.id(before) * WIDTH + step] = 1.0,
                    "lm_head.weight" => numbers[self.id(token) * WIDTH + step] = 10.0,
                    _ => {}
                }
            }
            change(name, &mut numbers);
            numbers
        });
        let numbers: Vec<Vec<f32>> = numbers.collect();
        let named = shapes
            .iter()
            .zip(&numbers)
            .map(|((name, shape), numbers)| Named::whole(name.clone(), shape.clone(), numbers));
        write(&folder.join("model.safetensors"), named.collect(), None).unwrap();
    }
}

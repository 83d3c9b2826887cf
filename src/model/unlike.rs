//! Describes a path that is not the folder of a model: a file in another format, an adapter without
//! its base. Reads no tensor.

use std::path::Path;

use serde_json::Value;

use crate::error::{Failure, Result, user};
use crate::fs;

/// The configuration of an adapter, as `peft` writes it.
const ADAPTER: &str = "adapter_config.json";
/// How a GGUF file begins.
const GGUF: &[u8] = b"GGUF";

/// What is wrong with `path`, which has no configuration or no weights of a model; `None` if no
/// more than that is found.
///
/// # Errors
/// The folder cannot be read.
pub fn unlike(path: &Path) -> Result<Option<Failure>> {
    if path.is_file() {
        fs::refuse_pointer(path)?;
        if begins_as_gguf(path)? {
            return Ok(Some(gguf(&format!("{} is a GGUF file", path.display()))));
        }
        let message = format!("{} is a file, and a model is a folder", path.display());
        return Ok(Some(user(message).hint("give the folder that has its config.json")));
    }
    if !path.is_dir() {
        return Ok(None);
    }
    let adapter = path.join(ADAPTER);
    if adapter.exists() {
        return Ok(Some(of_adapter(path, &fs::read_to_string(&adapter)?)));
    }
    let name = fs::list(path)?.into_iter().find(|name| name.to_lowercase().ends_with(".gguf"));
    let what = |name| format!("{} has its weights in the GGUF file {name}", path.display());
    Ok(name.map(|name| gguf(&what(name))))
}

fn begins_as_gguf(path: &Path) -> Result<bool> {
    let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    Ok(named || fs::head(path, GGUF.len())? == GGUF)
}

fn gguf(what: &str) -> Failure {
    let hint = "take the folder with safetensors that it was converted from, or convert it back: \
        AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=FILE).save_pretrained(OTHER)";
    user(format!("{what}, which is not read")).hint(hint)
}

fn of_adapter(folder: &Path, config: &str) -> Failure {
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    let base = config["base_model_name_or_path"].as_str().map(|name| format!(" of `{name}`"));
    let message =
        format!("{} is an adapter{}, not a model", folder.display(), base.unwrap_or_default());
    let hint = "merge it into its base: AutoPeftModelForCausalLM.from_pretrained(FOLDER)\
                .merge_and_unload().save_pretrained(OTHER), and the base's tokenizer beside it";
    user(message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{describe, load};

    #[test]
    fn what_is_no_model_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let described = |path: &Path| format!("{:#}", describe(path).err().unwrap());
        write("weights", "GGUF\u{3}\0\0\0");
        let said = described(&folder.path().join("weights"));
        assert!(said.contains("weights is a GGUF file") && said.contains("gguf_file="), "{said}");
        write("model.Q4_K_M.gguf", "GGUF");
        assert!(described(folder.path()).contains("in the GGUF file model.Q4_K_M.gguf"));
        write(
            ADAPTER,
            "{\"base_model_name_or_path\": \"facebook/opt-125m\", \"peft_type\": \"LORA\"}",
        );
        let said = described(folder.path());
        assert!(
            said.contains("is an adapter of `facebook/opt-125m`")
                && said.contains("merge_and_unload"),
            "{said}"
        );
        write("plain", "{}");
        assert!(
            described(&folder.path().join("plain")).contains("is a file, and a model is a folder")
        );
        assert!(described(&folder.path().join("absent")).contains("is not a folder"));
    }

    #[test]
    fn pointers_of_git_lfs_are_named_wherever_a_model_has_one() {
        let pointer =
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let golden = project.join("tests/model/golden/opt");
        for name in ["config.json", "model.safetensors"] {
            let folder = tempfile::tempdir().unwrap();
            for file in ["config.json", "model.safetensors"] {
                std::fs::copy(golden.join(file), folder.path().join(file)).unwrap();
            }
            std::fs::write(folder.path().join(name), pointer).unwrap();
            let said = format!("{:#}", load(folder.path()).err().unwrap());
            assert!(said.contains(&format!("{name} is a pointer of Git LFS")), "{said}");
            assert!(said.contains("git lfs pull"), "{said}");
        }
    }
}

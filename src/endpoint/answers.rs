//! Answers of endpoints on disk, by the hash of the endpoint and the whole question. Uses no
//! network.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::fs;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// Tokens of the question, as the endpoint counts them.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredAnswer {
    endpoint: String,
    question: Value,
    reply: Reply,
}

/// A folder of answers, one file each; it may be shared by many processes.
#[derive(Clone, Debug)]
pub struct Answers(PathBuf);

impl Answers {
    /// Those in a folder, which need not exist yet.
    pub fn new(folder: &Path) -> Self {
        Answers(folder.to_owned())
    }

    /// What was answered to a question. What cannot be understood, or answers another question, is
    /// as good as absent.
    pub fn find(&self, endpoint: &str, question: &Value) -> Result<Option<Reply>> {
        let Some(bytes) = fs::read_if_exists(&self.file(endpoint, question))? else {
            return Ok(None);
        };
        let kept = serde_json::from_slice::<StoredAnswer>(&bytes)
            .ok()
            .filter(|kept| kept.endpoint == endpoint && kept.question == *question);
        Ok(kept.map(|kept| kept.reply))
    }

    /// Keeps an answer: once this returns, it is on the disk.
    pub fn keep(&self, endpoint: &str, question: &Value, reply: &Reply) -> Result<()> {
        let file = self.file(endpoint, question);
        fs::create_dir_all(file.parent().expect("it is in the folder"))?;
        let kept = StoredAnswer {
            endpoint: endpoint.to_owned(),
            question: question.clone(),
            reply: reply.clone(),
        };
        fs::write_atomic(&file, &serde_json::to_vec(&kept)?)
    }

    fn file(&self, endpoint: &str, question: &Value) -> PathBuf {
        let hash =
            blake3::hash(serde_json::json!([endpoint, question]).to_string().as_bytes()).to_hex();
        self.0.join(&hash[..2]).join(format!("{hash}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_belongs_to_its_endpoint_and_its_whole_question() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers::new(&folder.path().join("answers"));
        let (question, reply) = (
            json!({"model": "m", "temperature": 0}),
            Reply { text: "t".into(), prompt_tokens: 3, completion_tokens: 1 },
        );
        answers.keep("http://x", &question, &reply).unwrap();
        assert_eq!(
            answers.find("http://x", &json!({"temperature": 0, "model": "m"})).unwrap(),
            Some(reply)
        );
        assert_eq!(answers.find("http://y", &question).unwrap(), None);
        assert_eq!(
            answers.find("http://x", &json!({"model": "m", "temperature": 1})).unwrap(),
            None
        );
        std::fs::write(answers.file("http://x", &question), "half of a").unwrap();
        assert_eq!(answers.find("http://x", &question).unwrap(), None);
    }
}

//! Questions to a language model behind OpenAI's API, each asked once: answers are kept by content.
//! Uses nothing of what is asked.
//!
//! | module | what it is |
//! |---|---|
//! | [`client`] | one question over HTTP, again as long as that may help, no faster than allowed |
//! | [`answers`] | what was answered, on disk |

pub mod answers;
pub mod client;

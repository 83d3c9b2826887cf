//! What a run came to, as strings: the result table (text, Markdown, CSV, LaTeX, JSON) and the page. Knows no stages and no files.
//!
//! | module | what it is |
//! |---|---|
//! | [`table`], [`inputs`] | what an evaluation writes: figures; inputs with answers |
//! | [`run`] | all that is known of a run, as its reader hands it over |
//! | [`charts`], [`training`], [`graph`] | what is drawn: results, curves of training, the graph; one function a chart |
//! | [`page`] | one HTML file of all of it; its style and its behaviour are `page.css` and `page.js` |
//! | [`diff`] | two runs side by side |
//! | [`judges`], [`verdicts`] | who judged, in words; what verdicts come to |
//! | [`significance`], [`seeds`] | what is told from chance; figures over seeds of training |
//! | [`formats`] | the tables in other languages, laid out by [`layout`] |

pub mod charts;
pub mod diff;
pub mod formats;
pub mod graph;
pub mod inputs;
pub mod judges;
mod layout;
pub mod page;
pub mod run;
pub mod seeds;
mod significance;
pub mod table;
pub mod training;
pub mod verdicts;

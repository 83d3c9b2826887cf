//! What a run says on a terminal: one live line a running node, finished ones above them.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::common::visible;
use super::events::{Meter, beginning, ending, pulling, pushing, warning};
use super::number_format::size;
use super::tally::Tally;
use crate::dag::context::Report;
use crate::dag::observer::Observer;
use crate::dag::outcome::NodeOutcome;
use crate::dag::plan::Plan;

/// Live lines on standard error.
pub struct TerminalLines {
    lines: MultiProgress,
    running: HashMap<String, (ProgressBar, Meter)>,
    width: usize,
    tally: Tally,
    /// The last line: how far the run is. There while a node runs.
    status: Option<ProgressBar>,
}

impl TerminalLines {
    /// Nothing runs yet.
    pub fn new(tally: Tally) -> Self {
        let (lines, running) = (MultiProgress::new(), HashMap::new());
        TerminalLines { lines, running, width: 0, tally, status: None }
    }

    fn line(&mut self, node: &str, message: &str) {
        let shown = visible(node).into_owned();
        let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed:>4}  {wide_msg}")
            .expect("the template is well-formed");
        let (lines, width) = (&self.lines, self.width);
        let (bar, _) = self.running.entry(node.to_owned()).or_insert_with(|| {
            let bar = ProgressBar::new_spinner()
                .with_style(style)
                .with_prefix(format!("{shown:<width$}"));
            let bar = match &self.status {
                Some(status) => lines.insert_before(status, bar),
                None => lines.add(bar),
            };
            bar.enable_steady_tick(Duration::from_millis(200));
            (bar, Meter::new())
        });
        bar.set_message(message.to_owned());
    }

    fn show_status(&mut self) {
        let words = self.tally.words();
        match &self.status {
            Some(status) if self.running.is_empty() => {
                status.finish_and_clear();
                self.lines.remove(status);
                self.status = None;
            }
            Some(status) => status.set_message(words),
            None => {}
        }
    }

    fn above(&self, line: &str) {
        // A terminal that cannot be written to shows nothing; the run goes on.
        let _ = self.lines.println(visible(line));
    }
}

impl Observer for TerminalLines {
    fn planned(&mut self, plan: &Plan) {
        self.width = plan
            .steps
            .iter()
            .map(|step| step.name.chars().count())
            .max()
            .unwrap_or_default()
            .min(40);
        let line = beginning(plan, &mut self.tally);
        self.above(&line);
    }

    fn started(&mut self, node: &str, resumed: bool) {
        if self.status.is_none() {
            let style = ProgressStyle::with_template("  {wide_msg}");
            let bar = ProgressBar::new_spinner().with_style(style.expect("it is well-formed"));
            self.status = Some(self.lines.add(bar));
        }
        self.line(node, if resumed { "goes on from its checkpoint" } else { "" });
        self.show_status();
    }

    fn pulling(&mut self, artefacts: usize) {
        self.above(&pulling(artefacts));
    }

    fn pulled(&mut self, node: &str, bytes: u64) {
        self.above(&format!("{node}  pulled from the remote cache, {}", size(bytes)));
    }

    fn pushing(&mut self, artefacts: usize) {
        self.above(&pushing(artefacts));
    }

    fn waiting(&mut self, node: &str) {
        self.line(node, "waits for another run that is making it");
    }

    fn progress(&mut self, node: &str, report: &Report) {
        if let (Report::Progress { step, total, values }, Some((bar, meter))) =
            (report, self.running.get_mut(node))
        {
            bar.set_message(visible(&meter.words(*step, *total, values)).into_owned());
        }
    }

    fn warning(&mut self, node: Option<&str>, message: &str) {
        self.above(&warning(node, message));
    }

    fn finished(&mut self, node: &NodeOutcome) {
        self.tally.finished(node);
        if let Some((bar, _)) = self.running.remove(&node.name) {
            bar.finish_and_clear();
            self.lines.remove(&bar);
        }
        self.show_status();
        if let Some(line) = ending(node) {
            self.above(&line);
        }
    }
}

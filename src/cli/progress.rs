//! What a pull shows on standard error: bars on a terminal, nothing elsewhere or with `--quiet`. Standard output
//! stays for data.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::engine::pull::{Progress, Silent};
use crate::model::Digest;
use crate::model::text::escape;

/// The progress that fits standard error now.
pub fn for_stderr(quiet: bool) -> Box<dyn Progress> {
    match !quiet && std::io::stderr().is_terminal() {
        true => Box::new(Bars::new()),
        false => Box::new(Silent),
    }
}

/// A bar for each layer under way; a layer that is done becomes a line above them.
struct Bars {
    all: MultiProgress,
    active: Mutex<HashMap<Digest, ProgressBar>>,
    style: ProgressStyle,
}

impl Bars {
    fn new() -> Self {
        let template = "{prefix}: [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {msg}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Bars {
            all: MultiProgress::new(),
            active: Mutex::default(),
            style: style.progress_chars("=> "),
        }
    }

    /// A lost line is no reason to fail a pull.
    fn line(&self, text: String) {
        let _ = self.all.println(text);
    }
}

impl Progress for Bars {
    fn exists(&self, layer: &Digest) {
        self.line(format!("{}: already here", layer.short()));
    }

    fn started(&self, layer: &Digest, total: u64) {
        let bar = ProgressBar::new(total)
            .with_style(self.style.clone())
            .with_prefix(layer.short());
        lock(&self.active).insert(*layer, self.all.add(bar));
    }

    fn advanced(&self, layer: &Digest, count: u64) {
        if let Some(bar) = lock(&self.active).get(layer) {
            bar.inc(count);
            if bar.length() == Some(bar.position()) {
                bar.set_message("unpacking");
            }
        }
    }

    fn done(&self, layer: &Digest) {
        if let Some(bar) = lock(&self.active).remove(layer) {
            bar.finish_and_clear();
            self.all.remove(&bar);
            self.line(format!(
                "{}: pulled {}",
                layer.short(),
                HumanBytes(bar.length().unwrap_or_default())
            ));
        }
    }
}

impl Drop for Bars {
    /// A pull that failed leaves no half-drawn bars above its error.
    fn drop(&mut self) {
        // Nothing to do about a terminal that is gone.
        let _ = self.all.clear();
    }
}

/// The steps of a longer work: the present one on a terminal, everything with `--verbose`, else nothing.
#[derive(Clone, Debug)]
pub enum Steps {
    /// Nothing is shown.
    Silent,
    /// Each line as it comes.
    All,
    /// One line that changes.
    Present(ProgressBar),
}

impl Steps {
    /// What fits standard error now; `name` says whose steps these are.
    pub fn for_stderr(name: &str, quiet: bool, verbose: bool) -> Steps {
        if verbose {
            return Steps::All;
        }
        if quiet || !std::io::stderr().is_terminal() {
            return Steps::Silent;
        }
        let style = ProgressStyle::with_template("{spinner} {prefix}: {msg} ({elapsed})");
        let bar = ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
            .with_prefix(name.to_owned());
        Steps::Present(bar)
    }

    /// Has the line move by itself, by a thread.
    pub fn begin(&self) {
        if let Steps::Present(bar) = self {
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
        }
    }

    /// A line that the working program wrote. Of mmdebstrap's lines, those that begin with `I:` are steps.
    pub fn line(&self, text: &str) {
        match self {
            Steps::Silent => {}
            // Not worth failing for.
            Steps::All => drop(writeln!(std::io::stderr(), "{}", escape(text))),
            Steps::Present(bar) => {
                if let Some(step) = text.strip_prefix("I: ") {
                    bar.set_message(escape(step.trim_end_matches('.')));
                }
            }
        }
    }

    /// Takes the line away.
    pub fn done(&self) {
        if let Steps::Present(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

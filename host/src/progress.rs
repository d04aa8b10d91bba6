//! Progress of long work, on stderr only: a bar with rate and time left on a terminal, a plain line at intervals
//! elsewhere, nothing at all for programs that read the output.

use std::io::{self, IsTerminal, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanDuration, MultiProgress, ProgressBar, ProgressState, ProgressStyle};

/// Plain lines are at least this far apart.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Writes one line to stderr. That nobody reads it, or that it has no place, is no reason to stop the work.
pub fn stderr_line(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Where progress goes.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Bars that redraw themselves.
    Terminal(MultiProgress),
    /// One line at intervals.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// Silent if asked for, else what suits stderr.
    pub fn new(silent: bool) -> Self {
        if silent {
            Self::Silent
        } else if io::stderr().is_terminal() {
            Self::Terminal(MultiProgress::new())
        } else {
            Self::Lines
        }
    }

    /// Prints one line, above the bars if there are any.
    pub fn line(&self, text: &str) {
        match self {
            // A terminal that went away is no reason to stop the work.
            Self::Terminal(bars) => drop(bars.println(text)),
            Self::Lines => stderr_line(text),
            Self::Silent => {}
        }
    }

    /// Starts the display of `total` steps of something, such as the steps of a search.
    pub fn task(&self, label: impl Into<String>, total: u64) -> Task {
        self.start(label.into(), total, Unit::Steps)
    }

    /// Starts the display of a transfer of `total` bytes.
    pub fn bytes(&self, label: impl Into<String>, total: u64) -> Task {
        self.start(label.into(), total, Unit::Bytes)
    }

    fn start(&self, label: String, total: u64, unit: Unit) -> Task {
        let display = match self {
            Self::Terminal(bars) => Display::Bar(bars.add(bar(&label, total, unit))),
            Self::Lines => Display::Lines(Mutex::new(Lines {
                label,
                unit,
                note: String::new(),
                total,
                done: 0,
                skipped: 0,
                start: Instant::now(),
                printed: None,
            })),
            Self::Silent => Display::Silent,
        };
        Task { display }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Steps,
    Bytes,
}

fn bar(label: &str, total: u64, unit: Unit) -> ProgressBar {
    let template = match unit {
        Unit::Steps => "{prefix} {wide_bar} {pos}/{len} {rate}/s {eta} left {msg}",
        Unit::Bytes => {
            "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left {msg}"
        }
    };
    let style = ProgressStyle::with_template(template).expect("the templates are constants").with_key(
        "rate",
        |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // A rate that is not shown is no reason to stop the work.
            let _ = write!(out, "{:.1}", state.per_sec());
        },
    );
    let bar = ProgressBar::new(total).with_style(style).with_prefix(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// One piece of work under way; its display ends when this is dropped.
#[derive(Debug)]
pub struct Task {
    display: Display,
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
    Silent,
}

#[derive(Debug)]
struct Lines {
    label: String,
    unit: Unit,
    note: String,
    total: u64,
    done: u64,
    skipped: u64,
    start: Instant,
    printed: Option<Instant>,
}

impl Task {
    /// `steps` more are done. May be called from any thread.
    pub fn advance(&self, steps: u64) {
        match &self.display {
            Display::Bar(bar) => bar.inc(steps),
            Display::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.done += steps;
                lines.print_at_intervals();
            }
            Display::Silent => {}
        }
    }

    /// `steps` were done before the work under way began: they count for what is left, not for the rate.
    pub fn skip(&self, steps: u64) {
        match &self.display {
            Display::Bar(bar) => {
                bar.inc(steps);
                bar.reset_eta();
            }
            Display::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.done += steps;
                lines.skipped += steps;
            }
            Display::Silent => {}
        }
    }

    /// `done` steps are done in all, which may be fewer than before.
    pub fn set(&self, done: u64) {
        match &self.display {
            Display::Bar(bar) => bar.set_position(done),
            Display::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.done == 0 {
                    lines.skipped = done;
                }
                lines.skipped = lines.skipped.min(done);
                lines.done = done;
                lines.print_at_intervals();
            }
            Display::Silent => {}
        }
    }

    /// Shows a short note, such as the current loss, at the end of the bar or line.
    pub fn note(&self, text: impl Into<String>) {
        match &self.display {
            Display::Bar(bar) => bar.set_message(text.into()),
            Display::Lines(lines) => lines.lock().unwrap_or_else(PoisonError::into_inner).note = text.into(),
            Display::Silent => {}
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    fn print_at_intervals(&mut self) {
        if self.printed.unwrap_or(self.start).elapsed() >= LINE_INTERVAL {
            self.printed = Some(Instant::now());
            stderr_line(self.text(self.start.elapsed()));
        }
    }

    fn text(&self, elapsed: Duration) -> String {
        let rate = (self.done - self.skipped) as f64 / elapsed.as_secs_f64();
        let left = Duration::from_secs_f64(self.total.saturating_sub(self.done) as f64 / rate.max(1e-6));
        let amount = |count: u64| match self.unit {
            Unit::Steps => count.to_string(),
            Unit::Bytes => BinaryBytes(count).to_string(),
        };
        let rate = match self.unit {
            Unit::Steps => format!("{rate:.1}"),
            Unit::Bytes => amount(rate as u64),
        };
        let (done, total) = (amount(self.done), amount(self.total));
        format!("{} {done}/{total} {rate}/s {} left {}", self.label, HumanDuration(left), self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_names_work_rate_and_time_left() {
        let lines = Lines {
            label: "search".into(),
            unit: Unit::Steps,
            note: "loss 2.1".into(),
            total: 300,
            done: 120,
            skipped: 20,
            start: Instant::now(),
            printed: None,
        };
        let text = lines.text(Duration::from_secs(10));
        assert_eq!(text, "search 120/300 10.0/s 18 seconds left loss 2.1");
        let bytes =
            Lines { unit: Unit::Bytes, total: 3 << 20, done: 2 << 20, skipped: 0, note: String::new(), ..lines };
        assert_eq!(bytes.text(Duration::from_secs(2)), "search 2.00 MiB/3.00 MiB 1.00 MiB/s 1 second left ");
    }

    #[test]
    fn progress_through_a_task_of_any_size_does_not_fail() {
        for progress in [Progress::Lines, Progress::Silent, Progress::Terminal(MultiProgress::new())] {
            for task in [progress.task("work", 0), progress.bytes("file", 0)] {
                task.skip(2);
                task.advance(3);
                task.set(1);
                task.note("loss 1.0");
            }
        }
    }
}

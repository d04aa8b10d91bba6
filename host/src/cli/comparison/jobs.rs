//! Searches and trainings as processes of their own, several at a time.

use std::collections::VecDeque;
use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::Duration;

use darts_host::interrupt::{self, Interrupted};
use darts_host::memory::available_bytes;
use darts_host::progress::{Progress, Task};
use indicatif::HumanBytes;

use super::super::Failure;
use super::super::common::FileError;
use super::options::Processes;

/// Time between two looks at a process.
const POLL: Duration = Duration::from_millis(20);

/// How many processes work at a time, and on what.
#[derive(Debug)]
pub struct Jobs {
    /// Processes at a time.
    pub at_once: usize,
    /// Threads of each.
    pub threads: usize,
    executable: PathBuf,
    starting: Mutex<()>,
}

/// One search or training.
#[derive(Debug)]
pub struct Job<'a> {
    /// The subcommand.
    pub command: &'static str,
    /// Its run directory, which is laid out.
    pub folder: &'a Path,
    /// Its name in what is shown.
    pub label: &'a str,
    /// More arguments.
    pub arguments: Vec<String>,
}

/// The memory is too small for as many as were asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "{jobs} at a time take at least {} of memory, and {} are available: make --jobs, the batch, the channels or the layers \
     fewer",
    HumanBytes(*needed),
    HumanBytes(*available)
)]
pub struct TooManyJobs {
    jobs: usize,
    needed: u64,
    available: u64,
}

/// A process that did not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{} failed: {reason} (log: {})", folder.display(), log.display())]
pub struct JobFailed {
    folder: PathBuf,
    log: PathBuf,
    reason: String,
}

impl Jobs {
    /// For `chains` sequences of processes that each take `needed` bytes.
    pub fn new(processes: &Processes, chains: usize, needed: u64) -> Result<Self, Failure> {
        let processors = available_parallelism().map_or(1, usize::from);
        let available = available_bytes();
        let threads = usize::from(processes.threads);
        let by_memory = available.map_or(usize::MAX, |available| (available / needed.max(1)) as usize);
        let at_once =
            processes.jobs.unwrap_or_else(|| (processors / threads.max(1)).min(by_memory)).clamp(1, chains.max(1));
        if let Some(available) = available.filter(|&available| needed.saturating_mul(at_once as u64) > available) {
            return Err(TooManyJobs { jobs: at_once, needed: needed.saturating_mul(at_once as u64), available }.into());
        }
        let threads = if threads == 0 { (processors / at_once).max(1) } else { threads };
        let executable = env::current_exe().map_err(FileError::new("find the program", Path::new("darts")))?;
        Ok(Self { at_once, threads, executable, starting: Mutex::new(()) })
    }

    /// As long as this is held no process starts. A process that starts has for a moment all files that are open here,
    /// and with them the locks of run directories.
    pub fn none_starts(&self) -> MutexGuard<'_, ()> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `work` on all `items`, as many at a time as there are processes; after Ctrl-C on none any more. The
    /// results are in the order of the items.
    pub fn each<I: Send, R: Send>(
        &self,
        items: Vec<I>,
        work: impl Fn(I) -> Result<R, Failure> + Sync,
    ) -> Vec<Result<R, Failure>> {
        let mut results: Vec<_> = items.iter().map(|_| Err(Interrupted.into())).collect();
        let queue = Mutex::new(items.into_iter().zip(&mut results).collect::<VecDeque<_>>());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        thread::scope(|scope| {
            for _ in 0..self.at_once {
                scope.spawn(|| {
                    while !interrupt::requested()
                        && let Some((item, result)) = next()
                    {
                        *result = work(item);
                    }
                });
            }
        });
        drop(queue);
        results
    }

    /// Runs `job` to its end. At Ctrl-C it stops with its state saved.
    pub fn run(&self, job: &Job, progress: &Progress) -> Result<(), Failure> {
        let log = job.folder.with_extension("log");
        let failed = |reason| JobFailed { folder: job.folder.to_owned(), log: log.clone(), reason };
        let mut command = Command::new(&self.executable);
        command.args([job.command, "--resume"]).arg(job.folder).args(&job.arguments);
        command.args(["--threads", &self.threads.to_string()]).env(interrupt::STOP_AT_END_OF_INPUT, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut file = File::options().append(true).create(true).open(&log).map_err(FileError::new("write", &log))?;
        let started = {
            let _alone = self.none_starts();
            command.spawn()
        };
        let mut child = started.map_err(|error| failed(error.to_string()))?;
        let output = child.stderr.take();
        let (status, reason) = thread::scope(|scope| {
            let reader = scope.spawn(|| output.and_then(|output| follow(output, &mut file, job, progress)));
            let status = wait(&mut child);
            (status, reader.join().unwrap_or_default())
        });
        let status = status.map_err(|error| failed(error.to_string()))?;
        if status.success() {
            return Ok(());
        }
        interrupt::check()?;
        Err(failed(reason.unwrap_or_else(|| status.to_string())).into())
    }
}

/// Waits for the end of `child`, and asks it to stop when that is asked of this process.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let mut input = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt::requested() {
            drop(input.take());
        }
        thread::sleep(POLL);
    }
}

/// Copies what a process says into its log and shows what matters of it. Returns its error.
fn follow(output: impl Read, log: &mut File, job: &Job, progress: &Progress) -> Option<String> {
    let (mut output, mut line) = (BufReader::new(output), Vec::new());
    let mut shown = Shown { job, progress, task: None };
    let mut error = None;
    while output.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        // What cannot be logged is still shown, and the work goes on.
        let _ = log.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        match text.trim_end().strip_prefix("error: ") {
            Some(reason) => error = Some(reason.to_owned()),
            None => shown.line(text.trim_end()),
        }
        line.clear();
    }
    error
}

/// What is shown of a process.
struct Shown<'a> {
    job: &'a Job<'a>,
    progress: &'a Progress,
    /// Its bar or line, and the steps that it shows.
    task: Option<(Task, u64)>,
}

impl Shown<'_> {
    fn line(&mut self, line: &str) {
        let Job { command, label, .. } = self.job;
        if let Some(Step { done, total, note }) = Step::parse(line, command) {
            let (task, shown) = self.task.get_or_insert_with(|| {
                let task = self.progress.task(*label, total);
                task.skip(done);
                (task, done)
            });
            task.note(note);
            task.advance(done.saturating_sub(*shown));
            *shown = done;
        } else if line.starts_with("warning: ")
            || line.strip_prefix(command).is_some_and(|rest| rest.starts_with(" epoch "))
        {
            let text = line.strip_prefix(command).map_or(line, str::trim_start);
            self.progress.line(&format!("{label}: {text}"));
        }
    }
}

/// A line of progress as a process without a terminal writes it:
/// `train 120/300 10.0/s 18 seconds left epoch 5/12 loss 2.1`.
#[derive(Debug, PartialEq, Eq)]
struct Step<'a> {
    done: u64,
    total: u64,
    note: &'a str,
}

impl<'a> Step<'a> {
    fn parse(line: &'a str, command: &str) -> Option<Self> {
        let (steps, rest) = line.strip_prefix(command)?.strip_prefix(' ')?.split_once(' ')?;
        let (done, total) = steps.split_once('/')?;
        let (_, note) = rest.split_once(" left ")?;
        Some(Self { done: done.parse().ok()?, total: total.parse().ok()?, note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_progress_are_told_from_others() {
        let step = Step { done: 120, total: 300, note: "epoch 5/12 loss 2.1" };
        let parse = |line| Step::parse(line, "train");
        assert_eq!(parse("train 120/300 10.0/s 18 seconds left epoch 5/12 loss 2.1"), Some(step));
        for line in ["train epoch 1/2  train loss 0.1", "search 1/2 1.0/s 1 second left x", "memory 1 MiB", ""] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn shares_of_the_processors() {
        let processors = available_parallelism().map_or(1, usize::from);
        let jobs = |jobs, threads, chains| {
            let jobs = Jobs::new(&Processes { jobs, threads }, chains, 1).expect("there is a byte");
            (jobs.at_once, jobs.threads)
        };
        assert_eq!(jobs(None, 0, 1), (1, processors));
        assert_eq!(jobs(None, 0, 1000), (processors.min(1000), (processors / processors.min(1000)).max(1)));
        assert_eq!(jobs(None, 1024, 5), ((processors / 1024).clamp(1, 5), 1024));
        assert_eq!(jobs(Some(3), 2, 8), (3, 2));
        assert_eq!(jobs(Some(3), 2, 2), (2, 2));
    }

    #[test]
    fn more_jobs_than_memory_are_refused() {
        let processes = Processes { jobs: Some(2), threads: 1 };
        let error = Jobs::new(&processes, 2, u64::MAX / 2).map(|jobs| jobs.at_once).map_err(|error| error.to_string());
        if cfg!(target_os = "linux") {
            assert!(error.expect_err("too much").contains("--jobs"));
        }
    }
}

//! Our side of the comparison with other engines (`benches/peers/`): does the work that a case file describes, once for
//! every line `time N` asks for, and writes what the last repetition came to where a line `results FILE` says.
//!
//! Every answer is a line of JSON: `{"seconds": [...]}`, one number a repetition; `{}` after results. The end of the
//! input ends the process.

mod case;
mod inference;
mod search;
mod training;

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;
use std::{env, io};

use case::{Case, Kind, Results};

/// Something that can be repeated, from the state that the last repetition left.
trait Work {
    fn run(&mut self);

    /// What the last repetition computed.
    fn results(&self) -> Results;
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [path] = arguments.as_slice() else {
        return Err("usage: peer CASE (benches/peers/compare.py writes cases and runs this)".into());
    };
    let case = Case::read(Path::new(path))?;
    let mut work: Box<dyn Work> = match case.description.work {
        Kind::Gradient | Kind::First | Kind::Second => Box::new(search::Search::new(&case)?),
        Kind::Train => Box::new(training::Training::new(&case)?),
        Kind::Infer => Box::new(inference::Inference::new(&case)?),
    };
    drop(case);
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_once(' ') {
            Some(("time", repetitions)) => {
                let seconds: Vec<f64> = (0..repetitions.parse::<usize>()?).map(|_| timed(work.as_mut())).collect();
                serde_json::json!({ "seconds": seconds })
            }
            Some(("results", file)) => {
                work.results().write(Path::new(file))?;
                serde_json::json!({})
            }
            _ => return Err(format!("not a command: {line:?}").into()),
        };
        println!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}

fn timed(work: &mut dyn Work) -> f64 {
    let start = Instant::now();
    work.run();
    start.elapsed().as_secs_f64()
}

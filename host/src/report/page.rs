//! The page: what a run came to, its figures, its configuration and all measurements.

use std::io;
use std::time::Duration;

use askama::Template;
use indicatif::{FormattedDuration, HumanBytes, HumanCount};

use super::figures::{Section, sections};
use super::record::{CellRecord, EpochRecord, RunRecord, RunState};
use crate::config::settings;

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    command: String,
    name: String,
    state: &'static str,
    data: String,
    version: String,
    tiles: Vec<Tile>,
    sections: Vec<Section>,
    genotype: Option<String>,
    settings: Vec<(String, String)>,
    titles: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// One number that is large.
struct Tile {
    label: &'static str,
    value: String,
    note: String,
}

/// The report of a run as an HTML document.
///
/// # Errors
/// If a number of the configuration has no text.
pub fn html(run: &RunRecord) -> io::Result<String> {
    let config = run.config.value()?;
    let (titles, rows) = table(run);
    let page = Page {
        command: run.config.command.clone(),
        name: run.name(),
        state: run.state.name(),
        data: run.config.data.path.clone(),
        version: run.config.machine.version.clone(),
        tiles: tiles(run),
        sections: sections(run),
        genotype: run.genotype.as_ref().map(ToString::to_string),
        settings: settings(&config).into_iter().filter(|(name, _)| name != "genotype").collect(),
        titles,
        rows,
    };
    page.render().map_err(io::Error::other)
}

fn tiles(run: &RunRecord) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut tile = |label, value: Option<String>, note: String| {
        if let Some(value) = value {
            tiles.push(Tile { label, value, note });
        }
    };
    let default = EpochRecord::default();
    let last = run.last().unwrap_or(&default);
    let planned = run.planned.map_or_else(String::new, |planned| format!("of {planned}"));
    tile("Epochs", Some(run.epochs.len().to_string()), planned);
    let best = run.best_valid_accuracy();
    let best = best.map_or_else(String::new, |(best, epoch)| format!("best {} in epoch {}", percent(best), epoch + 1));
    tile("Validation accuracy", last.valid_accuracy.map(percent), best);
    tile("Validation loss", last.valid_loss.map(number), String::new());
    let loss = last.train_loss.map_or_else(String::new, |loss| format!("loss {}", number(loss)));
    tile("Training accuracy", last.train_accuracy.map(percent), loss);
    tile("Entropy of softmax(α)", pair(last, |cell| cell.entropy.map(number)), "normal, reduction; in nats".into());
    let skips = pair(last, |cell| cell.skips.map(|skips| skips.to_string()));
    tile("Skip connections", skips, "of the derived normal, reduction cell".into());
    let skip_edges = pair(last, |cell| cell.skip_edges.map(|edges| edges.to_string()));
    let none_edges = pair(last, |cell| cell.none_edges.map(|edges| edges.to_string()));
    tile("Edges that prefer skip", skip_edges, none_edges.map_or_else(String::new, |none| format!("none: {none}")));
    let lambda = run.epochs.iter().rev().find_map(|epoch| epoch.lambda_max);
    tile("λ_max", lambda.map(number), "largest eigenvalue by α".into());
    let each = last.seconds.map_or_else(String::new, |seconds| format!("{} the last epoch", duration(seconds)));
    tile("Time", (run.seconds() > 0.0).then(|| duration(run.seconds())), each);
    if run.state != RunState::Finished {
        tile("Time left", run.seconds_left().map(duration), "at the pace of the last epochs".into());
    }
    tile("Throughput", last.images_per_second().map(|rate| format!("{rate:.0}")), "images a second".into());
    let memory = last.process.peak_rss_bytes.map(|bytes| HumanBytes(bytes).to_string());
    tile("Memory", memory, "most that the process has had".into());
    let writing =
        [last.process.checkpoint_seconds, last.process.report_seconds].map(|seconds| Some(seconds? / last.seconds?));
    if let [Some(checkpoints), Some(report)] = writing {
        tile("Report and records", Some(percent(report)), format!("checkpoints {} of the time", percent(checkpoints)));
    }
    tiles
}

/// All measurements: titles, and a row for each epoch with what at least one of them has.
fn table(run: &RunRecord) -> (Vec<&'static str>, Vec<Vec<String>>) {
    type Column = (&'static str, fn(&EpochRecord) -> Option<String>);
    let columns: [Column; 16] = [
        ("epoch", |epoch| Some((epoch.epoch + 1).to_string())),
        ("learning rate", |epoch| epoch.learning_rate.map(|rate| format!("{rate:.5}"))),
        ("drop-path", |epoch| epoch.drop_path.filter(|&p| p > 0.0).map(|probability| format!("{probability:.3}"))),
        ("train loss", |epoch| epoch.train_loss.map(number)),
        ("accuracy", |epoch| epoch.train_accuracy.map(percent)),
        ("valid loss", |epoch| epoch.valid_loss.map(number)),
        ("accuracy", |epoch| epoch.valid_accuracy.map(percent)),
        ("entropy", |epoch| pair(epoch, |cell| cell.entropy.map(number))),
        ("skip edges", |epoch| pair(epoch, |cell| cell.skip_edges.map(|edges| edges.to_string()))),
        ("none edges", |epoch| pair(epoch, |cell| cell.none_edges.map(|edges| edges.to_string()))),
        ("λ_max", |epoch| epoch.lambda_max.map(number)),
        ("parameters (expected)", |epoch| epoch.budget.map(|budget| cost(budget.params, Some(budget.expected_params)))),
        ("multiply-adds (expected)", |epoch| epoch.budget.map(|budget| cost(budget.macs, Some(budget.expected_macs)))),
        ("workspace", |epoch| epoch.budget.and_then(|budget| Some(cost(budget.ram?, budget.expected_ram)))),
        ("images/s", |epoch| epoch.images_per_second().map(|rate| format!("{rate:.0}"))),
        ("time", |epoch| epoch.seconds.map(duration)),
    ];
    let used = columns.into_iter().filter(|(_, value)| run.epochs.iter().any(|epoch| value(epoch).is_some()));
    let (titles, values): (Vec<_>, Vec<_>) = used.unzip();
    let row = |epoch: &EpochRecord| values.iter().map(|value| value(epoch).unwrap_or_default()).collect();
    (titles, run.epochs.iter().map(row).collect())
}

/// What the network of an epoch costs, and behind it what is expected under α.
fn cost(found: u64, expected: Option<f64>) -> String {
    let expected = expected.map_or_else(String::new, |expected| format!(" ({})", HumanCount(expected.round() as u64)));
    format!("{}{expected}", HumanCount(found))
}

fn pair(epoch: &EpochRecord, value: impl Fn(&CellRecord) -> Option<String>) -> Option<String> {
    Some(format!("{}, {}", value(&epoch.normal)?, value(&epoch.reduce)?))
}

/// Four digits that count.
fn number(value: f64) -> String {
    let digits = (3.0 - value.abs().max(1e-3).log10().floor()).clamp(0.0, 6.0);
    format!("{value:.*}", digits as usize)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn duration(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if seconds >= 60.0 => FormattedDuration(duration).to_string(),
        _ => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_count() {
        assert_eq!(
            [0.123456, 2.0, 31.4159, 12345.6, 0.0].map(number),
            ["0.1235", "2.000", "31.42", "12346", "0.000000"]
        );
        assert_eq!([0.5, 61.0, 90061.0].map(duration), ["0.5 s", "00:01:01", "1d 01:01:01"]);
        assert_eq!(percent(0.98765), "98.77 %");
    }
}

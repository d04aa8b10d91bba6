//! `darts data`: the data sets that are known by name, fetched, found and checked.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use darts_host::data::catalogue::{self, KNOWN_SETS, KnownSet};
use darts_host::data::check::{Identity, identify};
use darts_host::data::fetch::{FetchOptions, Fetched, get};
use darts_host::data::{self, DataSource, LoadOptions, default_folder};
use darts_host::interrupt;
use darts_host::progress::Progress;
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use super::common::print_json;
use super::table::Table;
use super::{Failure, Outcome};

/// List, fetch and check data sets
///
/// Fetched sets lie in the cache, `darts` in $XDG_CACHE_HOME or in ~/.cache; `--data NAME` of the other commands finds
/// them there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts data list\n  \
    darts data get cifar-10\n  \
    darts data get mnist --mirror https://example.org/mnist\n  \
    darts data check data/cifar10")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the data sets that can be fetched, and where those are that are there already
    List(ListArguments),
    /// Fetch a data set into the cache
    ///
    /// What an earlier attempt left is gone on with, and every file is checked against its published SHA-256 before it
    /// takes its place. Proxies are taken from the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY).
    Get(GetArguments),
    /// Say what a data set is, whether its files are as published, and what is wrong with it
    Check(CheckArguments),
}

#[derive(Debug, Args)]
struct ListArguments {
    /// Print one JSON object: cache, sets (name, title, summary, remote_bytes, debian_package, place).
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct GetArguments {
    /// fashion-mnist, mnist, cifar-10 or cifar-100.
    #[arg(value_name = "NAME", value_parser = known_set)]
    set: &'static KnownSet,

    /// Fetch from this folder on the web instead of the usual ones; may be given several times, and the first that has
    /// the file is taken.
    #[arg(long = "mirror", value_name = "URL", value_parser = web_address)]
    mirrors: Vec<String>,

    /// Give up a server that says nothing for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// Print one JSON object at the end and no progress: name, place, fetched (false where all was there already).
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CheckArguments {
    /// A folder, the name of a data set that was fetched, or `embedded`.
    #[arg(value_name = "PATH|NAME", value_parser = NonEmptyStringValueParser::new())]
    data: String,

    /// Print one JSON object: data, training_images, test_images, channels, height, width, classes, empty_classes,
    /// fingerprint, published (the name of the set whose files these are, or null).
    #[arg(long)]
    json: bool,
}

fn known_set(name: &str) -> Result<&'static KnownSet, String> {
    let names = || KNOWN_SETS.iter().map(|set| set.name).collect::<Vec<_>>().join(", ");
    catalogue::find(name).ok_or_else(|| format!("known are {}", names()))
}

fn web_address(text: &str) -> Result<String, String> {
    let known = ["https://", "http://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    if known { Ok(text.to_owned()) } else { Err("expected an address, such as https://example.org/mnist".into()) }
}

/// Runs one of the three.
pub fn run(arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::List(arguments) => list(arguments),
        Command::Get(arguments) => fetch(arguments),
        Command::Check(arguments) => check(arguments),
    }
}

fn cache_folder() -> Result<PathBuf, Failure> {
    default_folder().ok_or_else(|| "there is no cache folder: set XDG_CACHE_HOME or HOME to an absolute path".into())
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    title: &'static str,
    summary: &'static str,
    remote_bytes: u64,
    debian_package: Option<&'static str>,
    place: Option<PathBuf>,
}

fn list(arguments: &ListArguments) -> Outcome {
    let cache = default_folder();
    let sets: Vec<Listed> = KNOWN_SETS
        .iter()
        .map(|set| Listed {
            name: set.name,
            title: set.title,
            summary: set.summary,
            remote_bytes: set.remote_bytes(),
            debian_package: set.debian.as_ref().map(|package| package.name),
            place: set.place(cache.as_deref()),
        })
        .collect();
    if arguments.json {
        print_json(&serde_json::json!({ "cache": cache, "sets": sets }))?;
        return Ok(());
    }
    let mut table = Table::new(&["name", "what", "to fetch", "Debian package", "where it is"]);
    for set in &sets {
        let place = set.place.as_ref().map_or("not here".into(), |place| place.display().to_string());
        let (name, what) = (set.name.to_owned(), set.summary.to_owned());
        let package = set.debian_package.unwrap_or("none").to_owned();
        table.row([name, what, BinaryBytes(set.remote_bytes).to_string(), package, place]);
    }
    write!(io::stdout().lock(), "{table}")?;
    Ok(())
}

fn fetch(arguments: &GetArguments) -> Outcome {
    let set = arguments.set;
    let folder = set.folder(&cache_folder()?);
    interrupt::install()?;
    let options = FetchOptions {
        mirrors: arguments.mirrors.clone(),
        silence: Duration::from_secs(arguments.timeout),
        progress: Progress::new(arguments.json),
        ..FetchOptions::default()
    };
    let fetched = get(set, &folder, &options)? == Fetched::Now;
    if arguments.json {
        print_json(&serde_json::json!({ "name": set.name, "place": folder, "fetched": fetched }))?;
    } else {
        let what = if fetched { "fetched" } else { "already there" };
        let mut output = io::stdout().lock();
        writeln!(output, "{what}, every file as published: {}", folder.display())?;
        writeln!(output, "use it with --data {}", set.name)?;
    }
    Ok(())
}

/// A data set some of whose files are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: {} differ{} from the published {}; {}, unless it was meant to be so",
    folder.display(),
    files.join(", "),
    if files.len() == 1 { "s" } else { "" },
    set.title,
    set.remedy
)]
struct Altered {
    folder: PathBuf,
    set: &'static KnownSet,
    files: Vec<&'static str>,
}

#[derive(Serialize)]
struct Checked<'a> {
    data: &'a str,
    training_images: usize,
    test_images: usize,
    channels: usize,
    height: usize,
    width: usize,
    classes: usize,
    empty_classes: &'a [String],
    fingerprint: String,
    published: Option<&'static str>,
}

fn check(arguments: &CheckArguments) -> Outcome {
    let options = LoadOptions { progress: Progress::new(arguments.json), ..LoadOptions::default() };
    let folder = catalogue::locate(&arguments.data, None)?;
    let source = data::load(&arguments.data, &options)?;
    let identity = if folder.is_dir() { identify(&folder)? } else { Identity::Unknown };
    let published = match identity {
        Identity::Published(set) => Some(set),
        Identity::Altered(set, files) => return Err(Altered { folder, set, files }.into()),
        Identity::Unknown => None,
    };
    let empty = empty_classes(&source);
    if arguments.json {
        let shape = source.shape();
        print_json(&Checked {
            data: &source.name,
            training_images: source.train.len(),
            test_images: source.test.len(),
            channels: shape.channels,
            height: shape.height,
            width: shape.width,
            classes: source.classes(),
            empty_classes: &empty,
            fingerprint: format!("{:016x}", source.fingerprint()),
            published: published.map(|set| set.name),
        })?;
        return Ok(());
    }
    let published = match published {
        Some(set) => format!("yes: {}, {} files", set.title, HumanCount(set.contents.len() as u64)),
        None => "not known: no file has the SHA-256 of a set of `darts data list`".into(),
    };
    print_check(&source, &published, &empty)?;
    Ok(())
}

fn print_check(source: &DataSource, published: &str, empty: &[String]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{source}")?;
    writeln!(output, "as published {published}")?;
    if !empty.is_empty() {
        writeln!(output, "no images of {} in training or in test", empty.join(", "))?;
    }
    Ok(())
}

/// The classes that one of the two sets has no image of.
fn empty_classes(source: &DataSource) -> Vec<String> {
    let counts = source.train.class_counts().into_iter().zip(source.test.class_counts());
    let named = source.train.class_names().iter().zip(counts);
    named.filter(|(_, (train, test))| *train == 0 || *test == 0).map(|(name, _)| name.clone()).collect()
}

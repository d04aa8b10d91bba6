//! Comparison under the tolerances, and what is printed of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::vectors::{Tensor, Vectors};

/// How far a result may be from the stored one: `max |a − b| ≤ 16·dev + relative·max |b|`, or, where `norm` is given,
/// `‖a − b‖ ≤ norm·‖b‖`.
struct Tolerance {
    relative: f64,
    norm: Option<f64>,
}

impl Tolerance {
    fn of_kind(kind: &str) -> Self {
        match kind {
            "ops" => Self { relative: 2e-6, norm: None },
            "search_net" | "derived" => Self { relative: 1e-5, norm: Some(3e-4) },
            _ => Self { relative: 1e-5, norm: Some(1e-3) },
        }
    }

    /// Error over bound, by the more lenient of the two rules; at most 1 passes.
    fn ratio(&self, ours: &[f64], stored: &Tensor) -> f64 {
        if ours.len() != stored.values.len() || ours.iter().any(|value| !value.is_finite()) {
            return f64::INFINITY;
        }
        let differences = || ours.iter().zip(&stored.values).map(|(a, b)| a - b);
        let by_element =
            over(largest(differences()), 16.0 * stored.deviation + self.relative * largest(&stored.values));
        match self.norm {
            Some(norm) => by_element.min(over(length(differences()), norm * length(&stored.values))),
            None => by_element,
        }
    }
}

fn over(error: f64, bound: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / bound }
}

fn largest<T: std::borrow::Borrow<f64>>(values: impl IntoIterator<Item = T>) -> f64 {
    values.into_iter().fold(0.0, |largest, value| largest.max(value.borrow().abs()))
}

fn length<T: std::borrow::Borrow<f64>>(values: impl IntoIterator<Item = T>) -> f64 {
    values.into_iter().map(|value| value.borrow().powi(2)).sum::<f64>().sqrt()
}

/// What a file's cases computed.
#[derive(Debug, Default)]
pub struct Checks {
    /// Number of cases.
    pub cases: usize,
    /// Results by the name of the tensor to compare with, in the file's layout.
    pub computed: BTreeMap<String, Vec<f64>>,
    /// Number of comparisons that must be exact.
    exact: usize,
    failures: Vec<String>,
    /// Remarks to print.
    pub notes: Vec<String>,
}

impl Checks {
    /// Adds a result of single precision.
    pub fn insert(&mut self, name: String, values: &[f32]) {
        self.computed.insert(name, values.iter().map(|&value| f64::from(value)).collect());
    }

    /// Adds a number.
    pub fn insert_number(&mut self, name: String, value: f64) {
        self.computed.insert(name, vec![value]);
    }

    /// Compares without tolerance.
    pub fn exact<T: PartialEq + fmt::Debug>(&mut self, what: &str, ours: &T, stored: &T) {
        self.exact += 1;
        if ours != stored {
            self.failures.push(format!("{what} is {ours:?}, expected {stored:?}"));
        }
    }

    /// Compares every tensor of the file that was no input.
    pub fn report(self, vectors: &Vectors) -> Report {
        let tolerance = Tolerance::of_kind(vectors.kind());
        let mut report = Report {
            name: vectors.name.clone(),
            kind: vectors.kind().to_owned(),
            cases: self.cases,
            inputs: vectors.inputs(),
            exact: self.exact,
            failures: self.failures,
            notes: self.notes,
            ..Report::default()
        };
        for (name, stored) in vectors.results() {
            let Some(ours) = self.computed.get(name) else {
                report.failures.push(format!("{name}: an unknown tensor"));
                continue;
            };
            report.tensors += 1;
            let ratio = tolerance.ratio(ours, stored);
            if report.worst.as_ref().is_none_or(|(worst, _)| ratio > *worst) {
                report.worst = Some((ratio, name.to_owned()));
            }
            if ratio > 1.0 {
                report.failures.push(format!("{name}: error {ratio:.3} of the bound"));
            }
        }
        if report.tensors + report.exact == 0 {
            report.failures.push("nothing to compare".to_owned());
        }
        report
    }
}

/// The outcome of one file.
#[derive(Debug, Default)]
pub struct Report {
    name: String,
    kind: String,
    cases: usize,
    tensors: usize,
    inputs: usize,
    exact: usize,
    worst: Option<(f64, String)>,
    failures: Vec<String>,
    notes: Vec<String>,
    not_covered: bool,
}

impl Report {
    /// A file of a kind that this implementation does not have.
    pub fn not_covered(vectors: &Vectors) -> Self {
        let (name, kind) = (vectors.name.clone(), vectors.kind().to_owned());
        Self { name, kind, not_covered: true, ..Self::default() }
    }

    /// A file that could not be run.
    pub fn broken(path: &Path, message: &str) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, kind: "?".to_owned(), failures: vec![message.to_owned()], ..Self::default() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, cases, tensors, inputs, exact, .. } = self;
        if self.not_covered {
            return write!(f, "{name} ({kind}): not covered");
        }
        write!(f, "{name} ({kind}): {cases} cases, {tensors} tensors compared, {inputs} inputs, {exact} exact")?;
        if let Some((ratio, tensor)) = &self.worst {
            write!(f, "; worst error/bound {ratio:.3} ({tensor})")?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))?;
        match self.failures.len() {
            0 => Ok(()),
            failures => write!(f, "; {failures} FAILURES"),
        }
    }
}

/// Sums over all files.
#[derive(Debug, Default)]
pub struct Totals {
    /// Number of files.
    pub files: usize,
    /// What failed, with the file's name.
    pub failures: Vec<String>,
    not_covered: usize,
    cases: usize,
    tensors: usize,
    exact: usize,
    worst: f64,
}

impl Totals {
    /// Adds one file.
    pub fn add(&mut self, report: &Report) {
        self.files += 1;
        self.not_covered += usize::from(report.not_covered);
        self.cases += report.cases;
        self.tensors += report.tensors;
        self.exact += report.exact;
        self.worst = report.worst.iter().fold(self.worst, |worst, (ratio, _)| worst.max(*ratio));
        self.failures.extend(report.failures.iter().map(|failure| format!("{}: {failure}", report.name)));
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "total: {} files ({} not covered), {} cases, {} tensors compared, {} exact, worst error/bound {:.3}, {} failures",
            self.files,
            self.not_covered,
            self.cases,
            self.tensors,
            self.exact,
            self.worst,
            self.failures.len()
        )
    }
}

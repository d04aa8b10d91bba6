//! Kind `genotype_cnn`: from α to a genotype.

use darts_core::Genotype;
use darts_host::search::alpha::genotype;
use serde_json::Value;

use super::Machine;
use super::report::Checks;
use super::vectors::Vectors;

/// Derives every case; those marked fragile hang on the last bit of the softmax and are only counted.
pub fn run(_machine: &Machine, vectors: &Vectors, checks: &mut Checks) {
    let cases = vectors.json["cases"].as_array().expect("cases");
    checks.cases = cases.len();
    let (mut fragile, mut agreeing) = (0, 0);
    for case in cases {
        let stored: Genotype = serde_json::from_value(case["genotype"].clone()).expect("a genotype");
        let alpha = [matrix(&case["alphas_normal"]), matrix(&case["alphas_reduce"])].concat();
        let ours = genotype(&alpha, stored.normal.nodes(), stored.normal.concat.len());
        if case["fragile"] == Value::Bool(true) {
            fragile += 1;
            agreeing += usize::from(ours == stored);
        } else {
            checks.exact(&format!("case {}", case["case"]), &ours.to_string(), &stored.to_string());
        }
    }
    checks.notes.push(format!("{fragile} fragile cases set aside, {agreeing} of which agree"));
}

/// A matrix, row by row.
fn matrix(rows: &Value) -> Vec<f32> {
    let rows = rows.as_array().expect("rows").iter();
    let values = rows.flat_map(|row| row.as_array().expect("a row"));
    values.map(|value| value.as_f64().expect("a number") as f32).collect()
}

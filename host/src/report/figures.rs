//! Which figures a run has.

use darts_core::CellGenotype;

use super::curves::Curves;
use super::figure::Figure;
use super::heat_map::HeatMap;
use super::record::{EpochRecord, RunRecord};
use crate::draw::Drawing;

/// Figures under one heading.
#[derive(Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// What stands under it, at least one.
    pub figures: Vec<Figure>,
}

/// All figures of a run.
pub fn sections(run: &RunRecord) -> Vec<Section> {
    let sections = [("Curves", curves(run)), ("α over the epochs", heat_maps(run)), ("Cells", cells(run))];
    let sections = sections.into_iter().map(|(title, figures)| Section { title, figures });
    sections.filter(|section| !section.figures.is_empty()).collect()
}

/// A line, by its name.
type Line<'a> = (&'static str, Box<dyn Fn(&EpochRecord) -> Option<f64> + 'a>);

fn curves(run: &RunRecord) -> Vec<Figure> {
    fn line<'a>(name: &'static str, value: impl Fn(&EpochRecord) -> Option<f64> + 'a) -> Line<'a> {
        (name, Box::new(value))
    }
    let percent = |share: Option<f64>| share.map(|share| 100.0 * share);
    let count = |number: Option<usize>| number.map(|number| number as f64);
    let charts: [(&'static str, &'static str, bool, Vec<Line>); 9] = [
        (
            "loss",
            "Loss",
            false,
            vec![line("train", |epoch| epoch.train_loss), line("validation", |epoch| epoch.valid_loss)],
        ),
        (
            "accuracy",
            "Accuracy, %",
            false,
            vec![
                line("train", move |epoch| percent(epoch.train_accuracy)),
                line("validation", move |epoch| percent(epoch.valid_accuracy)),
            ],
        ),
        (
            "entropy",
            "Mean entropy of softmax(α), nats",
            false,
            vec![line("normal", |epoch| epoch.normal.entropy), line("reduction", |epoch| epoch.reduce.entropy)],
        ),
        (
            "edges",
            "Edges that prefer skip or none",
            true,
            vec![
                line("skip, normal", move |epoch| count(epoch.normal.skip_edges)),
                line("skip, reduction", move |epoch| count(epoch.reduce.skip_edges)),
                line("none, normal", move |epoch| count(epoch.normal.none_edges)),
                line("none, reduction", move |epoch| count(epoch.reduce.none_edges)),
            ],
        ),
        (
            "skips",
            "Skip connections of the derived cell",
            true,
            vec![
                line("normal", move |epoch| count(epoch.normal.skips)),
                line("reduction", move |epoch| count(epoch.reduce.skips)),
            ],
        ),
        ("lambda-max", "λ_max of the validation loss by α", false, vec![line("λ_max", |epoch| epoch.lambda_max)]),
        (
            "learning-rate",
            "Learning rate of the weights",
            true,
            vec![line("learning rate", |epoch| epoch.learning_rate)],
        ),
        (
            "drop-path",
            "Drop-path probability",
            true,
            vec![line("drop-path", |epoch| epoch.drop_path.filter(|&probability| probability > 0.0))],
        ),
        ("throughput", "Images a second", true, vec![line("images/s", EpochRecord::images_per_second)]),
    ];
    let chart = |(name, title, from_zero, lines): (_, _, _, Vec<Line>)| {
        let points = |value: &dyn Fn(&EpochRecord) -> Option<f64>| {
            run.epochs.iter().filter_map(|epoch| Some((epoch.epoch as i32 + 1, value(epoch)?))).collect()
        };
        let lines = lines.iter().map(|(name, value)| (*name, points(value))).collect();
        Curves { name, title, from_zero, lines }.figure()
    };
    charts.into_iter().filter_map(chart).collect()
}

fn heat_maps(run: &RunRecord) -> Vec<Figure> {
    type Alpha = fn(&EpochRecord) -> &Vec<Vec<f64>>;
    let cells: [(_, _, Alpha); 2] = [
        ("alpha-normal", "softmax(α), normal cell", |epoch| &epoch.alpha_normal),
        ("alpha-reduce", "softmax(α), reduction cell", |epoch| &epoch.alpha_reduce),
    ];
    let figure = |(name, title, alpha): (_, _, Alpha)| {
        let alphas: Vec<_> = run.epochs.iter().map(|epoch| (epoch.epoch, alpha(epoch))).collect();
        Some(HeatMap::new(&alphas)?.figure(name, title))
    };
    cells.into_iter().filter_map(figure).collect()
}

fn cells(run: &RunRecord) -> Vec<Figure> {
    let figure = |name, title: &str, cell: &CellGenotype| Figure {
        name,
        title: title.to_owned(),
        document: Drawing::from(cell).svg(),
    };
    let Some(genotype) = &run.genotype else { return Vec::new() };
    vec![
        figure("cell-normal", "Normal cell", &genotype.normal),
        figure("cell-reduce", "Reduction cell", &genotype.reduce),
    ]
}

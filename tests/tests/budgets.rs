//! Budgets of a search: expected costs, penalties, limits.

use std::sync::Arc;

use darts_core::{Genotype, Primitive};
use darts_host::data::Dataset;
use darts_host::engine::Workers;
use darts_host::export::{Precision, plan};
use darts_host::graph::count::totals;
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::graph::space::Space;
use darts_host::observer::Observer;
use darts_host::search::bilevel::Order;
use darts_host::search::budget::{BudgetError, BudgetSettings, Budgets, Costs, ModelForm, Resource};
use darts_host::search::derivation::Derivation;
use darts_host::search::guard::GuardSettings;
use darts_host::search::random::{CellShape, genotypes};
use darts_host::search::run::{RunError, SearchEpoch, SearchOutcome, search};
use darts_host::search::selection::Select;
use darts_host::search::settings::SearchSettings;
use darts_host::search::supernet_guards::SupernetGuards;
use darts_kernels_simd::Kernels;
use darts_tests::{Random, small_images};

struct Silent;
impl Observer<SearchEpoch> for Silent {}

const DERIVATION: Derivation = Derivation { nodes: 4, multiplier: 4, space: Space::DARTS, max_skips: None };

/// A network for a device.
fn config(channels: usize, layers: usize) -> DerivedConfig {
    DerivedConfig { kind: NetworkKind::Cifar, input: [1, 28, 28], classes: 10, channels, layers, auxiliary: false }
}

/// A network that a search on [`images`] derives.
fn searched(channels: usize, layers: usize) -> DerivedConfig {
    DerivedConfig { input: [1, 7, 7], ..config(channels, layers) }
}

/// Parameters, multiply-adds and bytes of the workspace, as `darts inspect` has them.
fn inspected(genotype: &Genotype, config: &DerivedConfig, precision: Precision) -> [u64; 3] {
    let graph = derived(genotype, config).unwrap();
    let totals = totals(&graph);
    [totals.parameters, totals.multiply_adds, plan(&graph, precision).unwrap().workspace_bytes].map(|cost| cost as u64)
}

fn random_alpha(seed: u64) -> Vec<f32> {
    Random::new(seed).values(2 * 14 * 8)
}

fn limits(max_params: Option<u64>, max_macs: Option<u64>, max_ram: Option<u64>) -> BudgetSettings {
    BudgetSettings { max_params, max_macs, max_ram, ..BudgetSettings::NONE }
}

/// Two epochs of two steps, cells of two nodes.
fn settings(budgets: BudgetSettings) -> SearchSettings {
    let small = SearchSettings { channels: 2, layers: 3, nodes: 2, multiplier: 2, ..SearchSettings::QUICK };
    SearchSettings { epochs: 2, batch_size: 20, budgets, ..small }
}

fn images() -> Dataset {
    small_images(80)
}

fn search_of(settings: &SearchSettings) -> Result<SearchOutcome, RunError> {
    search(settings, &images(), Kernels::detect(), Arc::new(Workers::new(2).unwrap()), &mut Silent)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn costs_of_operations_add_up_to_what_is_inspected() {
    for (channels, layers, multiplier) in [(8, 5, 4), (3, 2, 2), (4, 1, 4)] {
        let (derivation, config) = (Derivation { multiplier, ..DERIVATION }, config(channels, layers));
        let costs = Costs::new(&derivation, &config).unwrap();
        let shape = || CellShape::last(4, multiplier);
        for genotype in genotypes([shape(), shape()], Space::DARTS, 5).take(20) {
            let mut counts = costs.base;
            for (cell, first) in [(&genotype.normal, 0), (&genotype.reduce, 14)] {
                for (index, edge) in cell.edges.iter().enumerate() {
                    let node = index / 2;
                    let row = first + node * (node + 3) / 2 + usize::from(edge.source);
                    let added = costs.added[row * 8 + edge.primitive as usize];
                    counts.iter_mut().zip(added).for_each(|(count, added)| *count += added);
                }
            }
            assert_eq!(counts[..], inspected(&genotype, &config, Precision::F32)[..2], "{genotype}");
        }
    }
}

#[test]
fn the_expectation_becomes_the_cost_of_the_cell_that_alpha_settles_on() {
    // With two nodes both have edges that are kept in part: of the first all, of the second two of three.
    let derivation = Derivation { nodes: 2, multiplier: 2, ..DERIVATION };
    let config = config(4, 3);
    let budgets = Budgets::new(limits(Some(1 << 40), None, None), derivation, config.clone()).unwrap();
    let mut alpha = vec![0.0; 2 * 5 * 8];
    alpha.chunks_exact_mut(8).for_each(|row| row[Primitive::SepConv3x3 as usize] = 60.0);
    let genotype = budgets.genotype(&alpha);
    let record = budgets.record(&alpha, &genotype).unwrap();
    let [params, macs, _] = inspected(&genotype, &config, Precision::F32);
    assert_eq!((record.params, record.macs, record.ram, record.expected_ram), (params, macs, None, None));
    // All edges have the same operation: a third of what the second node's edges cost is left out whichever it is.
    assert!((record.expected_params - params as f64).abs() < 1e-6 * params as f64, "{record:?} {params}");
    // `none` is no way out.
    alpha.chunks_exact_mut(8).for_each(|row| row[0] = 90.0);
    assert_eq!(budgets.record(&alpha, &genotype).unwrap().expected_params, record.expected_params);
}

#[test]
fn the_expected_workspace_follows_from_plans() {
    let config = config(4, 3);
    let settings = BudgetSettings { ram_penalty: 1.0, ram_target: Some(1), ..BudgetSettings::NONE };
    let mut budgets = Budgets::new(settings, DERIVATION, config.clone()).unwrap();
    let alpha = random_alpha(3);
    let genotype = budgets.genotype(&alpha);
    budgets.refresh(&genotype).unwrap();
    let penalties = budgets.penalties();
    let cost = &penalties.each[0].cost;
    let bytes = |genotype: &Genotype| inspected(genotype, &config, Precision::F32)[2] as f64;
    assert_eq!(cost.base, bytes(&genotype));
    assert!(cost.added.iter().any(|&change| change != 0.0), "some operation changes the peak");
    // Of every node's first edge every operation, in the normal and in the reduction cell.
    for (kind, node, column) in [(0, 0, 1), (0, 3, 3), (1, 0, 4), (1, 1, 7), (1, 3, 2)] {
        let mut changed = genotype.clone();
        let cell = if kind == 0 { &mut changed.normal } else { &mut changed.reduce };
        cell.edges[2 * node].primitive = Primitive::SEARCH[column];
        let row = 14 * kind + node * (node + 3) / 2 + usize::from(cell.edges[2 * node].source);
        assert_eq!(cost.added[row * 8 + column], bytes(&changed) - bytes(&genotype), "{kind} {node} {column}");
    }
    let record = budgets.record(&alpha, &genotype).unwrap();
    assert_eq!(record.ram, Some(bytes(&genotype) as u64));
    assert_eq!(record.expected_ram, Some(cost.expected(&alpha, 4, Space::DARTS)));
}

#[test]
fn budgets_that_do_not_bind_change_no_bit() {
    let plain = search_of(&settings(BudgetSettings::NONE)).unwrap();
    let far = Some(1 << 40);
    for budgets in [
        limits(far, far, far),
        BudgetSettings { params_penalty: 1.0, ram_penalty: 1.0, ..limits(far, None, far) },
        // The targets are not reached for, where λ is 0.
        BudgetSettings { params_target: Some(1), macs_target: Some(1), ..limits(far, None, None) },
    ] {
        let idle = search_of(&settings(budgets)).unwrap();
        assert_eq!(bits(&plain.alpha), bits(&idle.alpha));
        assert_eq!(bits(&plain.weights), bits(&idle.weights));
        assert_eq!(plain.genotype, idle.genotype);
        let record = idle.epochs[1].budget.unwrap();
        assert_eq!([record.params, record.macs], inspected(&idle.genotype, &searched(2, 3), Precision::F32)[..2]);
    }
    assert!(plain.epochs.iter().all(|epoch| epoch.budget.is_none()));
}

#[test]
fn a_penalty_brings_the_expected_cost_down_in_either_order() {
    let expected = |budgets: BudgetSettings, order| {
        let settings = SearchSettings { order, arch_learning_rate: 0.1, ..settings(budgets) };
        let outcome = search_of(&settings).unwrap();
        outcome.epochs.last().unwrap().budget.unwrap()
    };
    for order in [Order::First, Order::Second] {
        let free = expected(limits(Some(1 << 40), None, None), order);
        let penalty = BudgetSettings { params_penalty: 10.0, params_target: Some(1), ..BudgetSettings::NONE };
        let fewer = expected(penalty, order);
        assert!(fewer.expected_params < 0.98 * free.expected_params, "{order:?}: {free:?} {fewer:?}");
        let penalty = BudgetSettings { macs_penalty: 10.0, macs_target: Some(1), ..BudgetSettings::NONE };
        assert!(expected(penalty, order).expected_macs < 0.98 * free.expected_macs, "{order:?}");
    }
}

#[test]
fn derived_cells_keep_within_the_limits_and_lose_little_strength() {
    let config = config(8, 5);
    for seed in 0..6 {
        let alpha = random_alpha(seed);
        let free = DERIVATION.genotype(&alpha);
        let [params, macs, _] = inspected(&free, &config, Precision::F32);
        let strengths = DERIVATION.strengths(&alpha);
        let strength = |genotype: &Genotype| -> f32 {
            let cells = [(&genotype.normal, 0), (&genotype.reduce, 14)];
            let edges = cells
                .into_iter()
                .flat_map(|(cell, first)| cell.edges.iter().enumerate().map(move |edge| (first, edge)));
            edges
                .map(|(first, (index, edge))| {
                    let node = index / 2;
                    strengths[(first + node * (node + 3) / 2 + usize::from(edge.source)) * 8 + edge.primitive as usize]
                })
                .sum()
        };
        let mut last = strength(&free);
        for tenths in [10, 9, 8, 7] {
            let limits = limits(Some(params * tenths / 10), Some(macs * tenths / 10), None);
            let Ok(budgets) = Budgets::new(limits, DERIVATION, config.clone()) else {
                assert!(tenths < 9, "{tenths} tenths of {free} are not within reach");
                continue;
            };
            let within = budgets.genotype(&alpha);
            within.validate().unwrap();
            let found = inspected(&within, &config, Precision::F32);
            assert!(found[0] <= params * tenths / 10 && found[1] <= macs * tenths / 10, "{found:?}");
            if tenths == 10 {
                assert_eq!(within, free);
            }
            // Never much more than a tighter limit asks for.
            let kept = strength(&within);
            assert!(kept <= last + 1e-6 && kept > 0.5 * strength(&free), "{tenths}: {kept} of {last}");
            last = kept;
        }
    }
}

#[test]
fn derived_cells_keep_within_the_workspace() {
    let config = config(4, 5);
    for (form, precision) in [(ModelForm::F32, Precision::F32), (ModelForm::F16, Precision::F16)] {
        let settings = |max_ram| BudgetSettings { ram_precision: form, ..limits(None, None, Some(max_ram)) };
        let least = match Budgets::new(settings(1), DERIVATION, config.clone()).unwrap_err() {
            BudgetError::Infeasible { resource: Resource::Workspace, least, limit: 1, .. } => least,
            error => panic!("{error}"),
        };
        // Cells that need more than the least: most do.
        let alphas = (0..).map(random_alpha).map(|alpha| (DERIVATION.genotype(&alpha), alpha));
        let bytes = |genotype: &Genotype| inspected(genotype, &config, precision)[2];
        let (free, alpha) = alphas.take(20).find(|(free, _)| bytes(free) > least).unwrap();
        let within = Budgets::new(settings(least), DERIVATION, config.clone()).unwrap().genotype(&alpha);
        assert!(bytes(&within) <= least, "{} {least}: {within}", bytes(&free));
        // Limits between: counted as it is written, whatever the order of a node's edges.
        for seed in 0..2 {
            let alpha = random_alpha(seed);
            let max_ram = bytes(&DERIVATION.genotype(&alpha)).max(least + 4) - 4;
            let within = Budgets::new(settings(max_ram), DERIVATION, config.clone()).unwrap().genotype(&alpha);
            assert!(bytes(&within) <= max_ram, "{max_ram}: {within}");
        }
    }
}

#[test]
fn a_limit_of_skips_holds_within_the_limits() {
    let derivation = Derivation { space: Space::S2, max_skips: Some(2), ..DERIVATION };
    let config = config(8, 5);
    let max_params = {
        let free = inspected(&derivation.genotype(&random_alpha(1)), &config, Precision::F32)[0];
        free - 1000
    };
    let budgets = Budgets::new(limits(Some(max_params), None, None), derivation, config.clone()).unwrap();
    let within = budgets.genotype(&random_alpha(1));
    assert!(inspected(&within, &config, Precision::F32)[0] <= max_params);
    for cell in [&within.normal, &within.reduce] {
        assert!(cell.edges.iter().filter(|edge| edge.primitive == Primitive::SkipConnect).count() <= 2, "{within}");
    }
}

#[test]
fn limits_that_no_cell_keeps_are_refused_before_the_first_step() {
    struct Unstarted;
    impl Observer<SearchEpoch> for Unstarted {
        fn step(&mut self, _: darts_host::observer::StepProgress) {
            panic!("a step was taken");
        }
    }
    let refused = |settings: SearchSettings| {
        let workers = Arc::new(Workers::new(1).unwrap());
        search(&settings, &images(), Kernels::detect(), workers, &mut Unstarted).unwrap_err().to_string()
    };
    let least = {
        let pools = [(Primitive::MaxPool3x3, 0), (Primitive::MaxPool3x3, 1)].repeat(2);
        let cell = || darts_core::CellGenotype::new(&pools, &[2, 3]).unwrap();
        inspected(&Genotype { normal: cell(), reduce: cell() }, &searched(2, 3), Precision::F32)[0]
    };
    let error = refused(settings(limits(Some(least - 3), None, None)));
    assert!(error.contains("--max-params") && error.contains(&format!("{least} parameters, 3 more")), "{error}");
    assert!(search_of(&settings(limits(Some(least), None, None))).is_ok());
    let error = refused(settings(limits(None, None, Some(100))));
    assert!(error.contains("--max-ram") && error.contains("bytes of workspace"), "{error}");
    let error = refused(settings(BudgetSettings { macs_penalty: 1.0, ..BudgetSettings::NONE }));
    assert!(error.contains("--macs-target"), "{error}");
    let guards = GuardSettings { select: Select::Perturbation, ..GuardSettings::OFF };
    let error = refused(SearchSettings { guards, ..settings(limits(Some(1 << 40), None, None)) });
    assert!(error.contains("perturbations"), "{error}");
}

#[test]
fn limits_are_those_of_the_network_that_will_be_trained() {
    let sizes = BudgetSettings { budget_channels: Some(8), budget_layers: Some(5), ..BudgetSettings::NONE };
    let free = search_of(&settings(BudgetSettings { max_params: Some(1 << 40), ..sizes })).unwrap();
    let [params, macs, _] = inspected(&free.genotype, &searched(8, 5), Precision::F32);
    assert_eq!(free.epochs[1].budget.map(|budget| [budget.params, budget.macs]), Some([params, macs]));
    let budgets = BudgetSettings { max_params: Some(params - 1), ..sizes };
    let limited = search_of(&settings(budgets)).unwrap();
    assert_eq!(bits(&free.alpha), bits(&limited.alpha));
    assert!(inspected(&limited.genotype, &searched(8, 5), Precision::F32)[0] < params);
    assert_eq!(limited.epochs[1].genotype, limited.genotype.to_string());
}

#[test]
fn penalties_go_with_weighted_edges() {
    let supernet_guards = SupernetGuards { partial: 2, ..SupernetGuards::NONE };
    let budgets = BudgetSettings { params_penalty: 5.0, params_target: Some(1), ..BudgetSettings::NONE };
    let outcome = search_of(&SearchSettings { supernet_guards, ..settings(budgets) }).unwrap();
    let [first, last] = [0, 1].map(|epoch| outcome.epochs[epoch].budget.unwrap().expected_params);
    assert!(last < first, "{first} {last}");
    assert_eq!(outcome.beta.len(), 2 * 5);
}

//! The workspace: as large as the planner says, no larger than it must be, and all of it needed.

use darts_core::{Kernels, RunError};
use darts_host::export::{Plan, Precision, plan, workspace_bytes};
use darts_host::graph::Graph;
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::graph::supernet::{SupernetConfig, supernet};
use darts_host::memory_map::MemoryMap;

use darts_tests::networks::{CASES, genotype, model, network};

#[test]
fn the_core_needs_the_bytes_of_the_plan_and_no_byte_fewer() {
    for case in 0..CASES.len() {
        let network = network(case);
        for precision in [Precision::F32, Precision::F16] {
            let planned = plan(&network.graph().unwrap(), precision).unwrap();
            let file = model(&network, precision);
            let core = file.network().unwrap();
            let required = core.required_bytes();
            assert_eq!(required, planned.workspace_bytes, "case {case}, {precision}");
            assert_eq!(core.weight_bytes(), planned.weight_bytes, "case {case}, {precision}");
            let (image, mut logits) = (vec![0.5; core.input_len()], [0.0; 10]);
            let mut workspace = vec![0.0; required / 4];
            core.run(Kernels::detect(), &image, &mut workspace, &mut logits).unwrap();
            let found = required - 4;
            let result = core.run(Kernels::detect(), &image, &mut workspace[1..], &mut logits);
            assert_eq!(result, Err(RunError::Workspace { required, found }), "case {case}, {precision}");
            // The steps use all of it: with less the file is not valid.
            assert!(core.steps().all(|step| step.check(&limits(required, &core)).is_ok()));
            assert!(core.steps().any(|step| step.check(&limits(found, &core)).is_err()), "case {case}, {precision}");
        }
    }
}

fn limits(workspace: usize, core: &darts_core::Network) -> darts_core::Limits {
    darts_core::Limits {
        input: 4 * core.input_len() as u64,
        output: 4 * core.classes() as u64,
        workspace: workspace as u64,
        weights: core.weight_bytes() as u64,
    }
}

fn published(name: &str, kind: NetworkKind) -> Graph {
    let (input, classes, channels, layers) = match kind {
        NetworkKind::Cifar => ([3, 32, 32], 10, 36, 20),
        NetworkKind::ImageNet => ([3, 224, 224], 1000, 48, 14),
    };
    let config = DerivedConfig { kind, input, classes, channels, layers, auxiliary: true };
    derived(&genotype(name), &config).unwrap()
}

/// A network for a device: input `[C, H, W]`, channels, cells.
fn small(name: &str, (input, channels, layers): ([usize; 3], usize, usize)) -> Graph {
    let config = DerivedConfig { kind: NetworkKind::Cifar, input, classes: 10, channels, layers, auxiliary: false };
    derived(&genotype(name), &config).unwrap()
}

/// Asserts that the workspace is at most a tenth above what lives at a time. Returns its bytes in single and half
/// precision.
fn assert_tight(name: &str, graph: &Graph) -> [usize; 2] {
    let [full, half] = [Precision::F32, Precision::F16].map(|precision| plan(graph, precision).unwrap());
    let ratio = |plan: &Plan| plan.workspace_bytes as f64 / plan.live_bytes as f64;
    println!(
        "{name}: {} bytes, {:.3} of the bound; f16 {} bytes, {:.3} of the bound",
        full.workspace_bytes,
        ratio(&full),
        half.workspace_bytes,
        ratio(&half)
    );
    for plan in [&full, &half] {
        let map = MemoryMap::new(&plan.steps);
        assert_eq!(map.workspace_bytes, plan.workspace_bytes as u64, "{name}");
        // The features of the head are a slot for each part, which begins later than the whole.
        let parts = (graph.head.features * size_of::<f32>()) as u64;
        let bound = map.lower_bound();
        assert!((bound..=bound + parts).contains(&(plan.live_bytes as u64)), "{name}: {bound}");
    }
    assert!((1.0..=1.1).contains(&ratio(&full)), "{name}");
    assert!((1.0..=1.1).contains(&ratio(&half)), "{name}");
    [full.workspace_bytes, half.workspace_bytes]
}

#[test]
fn slots_are_reused_almost_without_gaps() {
    for name in ["DARTS_V1", "DARTS_V2", "NASNet", "AmoebaNet"] {
        for kind in [NetworkKind::Cifar, NetworkKind::ImageNet] {
            let [full, half] = assert_tight(&format!("{name}, {kind:?}"), &published(name, kind));
            // Weights are widened in the gaps.
            assert!(half * 50 <= full * 51, "{name}, {kind:?}");
        }
    }
    for name in ["DARTS_V1", "DARTS_V2"] {
        for size in [([1, 28, 28], 8, 5), ([1, 28, 28], 16, 8), ([3, 32, 32], 16, 8)] {
            assert_tight(&format!("{name}, {size:?}"), &small(name, size));
        }
    }
    for case in 0..CASES.len() {
        assert_tight(&format!("case {case}"), &network(case).graph().unwrap());
    }
}

#[test]
fn a_cell_is_computed_in_the_room_of_a_few_states() {
    // The peak is before the first reduction cell, whose inputs have twice the channels at full size: 4 states with 36
    // channels at 32×32 are read, 2 written, and half states for later cells wait.
    let state = 36 * 32 * 32 * 4;
    for (name, half_states) in [("DARTS_V1", 16), ("DARTS_V2", 15)] {
        let bytes = workspace_bytes(&published(name, NetworkKind::Cifar)).unwrap();
        assert!(2 * bytes <= half_states * state, "{name}: {:.2} states", bytes as f64 / state as f64);
    }
}

#[test]
fn a_network_for_a_microcontroller_takes_seven_states() {
    let state = 8 * 28 * 28 * 4;
    let bytes = workspace_bytes(&small("DARTS_V2", ([1, 28, 28], 8, 5))).unwrap();
    assert!(bytes <= 7 * state, "{:.2} states", bytes as f64 / state as f64);
}

#[test]
fn the_auxiliary_head_takes_no_room() {
    let with = published("DARTS_V2", NetworkKind::Cifar);
    let config = DerivedConfig {
        kind: NetworkKind::Cifar,
        input: [3, 32, 32],
        classes: 10,
        channels: 36,
        layers: 20,
        auxiliary: false,
    };
    let without = derived(&genotype("DARTS_V2"), &config).unwrap();
    let [with, without] = [with, without].map(|graph| plan(&graph, Precision::F32).unwrap());
    assert_eq!(with.steps.len(), without.steps.len());
    assert_eq!((with.workspace_bytes, with.weight_bytes), (without.workspace_bytes, without.weight_bytes));
}

#[test]
fn a_supernet_has_a_workspace_too() {
    let config = SupernetConfig { input: [3, 32, 32], classes: 10, channels: 16, layers: 8, nodes: 4, multiplier: 4 };
    let bytes = workspace_bytes(&supernet(&config).unwrap()).unwrap();
    let state = 16 * 32 * 32 * 4;
    assert!((6 * state..=12 * state).contains(&bytes), "{:.2} states", bytes as f64 / state as f64);
}

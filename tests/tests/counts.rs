//! Parameters and multiply-adds of published networks, exactly.

use darts_core::Genotype;
use darts_host::graph::count::{Totals, totals};
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::graph::supernet::{SupernetConfig, supernet};

fn supernet_totals(input: [usize; 3]) -> Totals {
    let config = SupernetConfig { input, classes: 10, channels: 16, layers: 8, nodes: 4, multiplier: 4 };
    totals(&supernet(&config).unwrap())
}

fn cifar(name: &str, channels: usize, layers: usize, classes: usize) -> Totals {
    derived_totals(name, NetworkKind::Cifar, channels, layers, classes, [3, 32, 32])
}

fn imagenet(name: &str) -> Totals {
    derived_totals(name, NetworkKind::ImageNet, 48, 14, 1000, [3, 224, 224])
}

fn derived_totals(
    name: &str,
    kind: NetworkKind,
    channels: usize,
    layers: usize,
    classes: usize,
    input: [usize; 3],
) -> Totals {
    let config = DerivedConfig { kind, input, classes, channels, layers, auxiliary: true };
    totals(&derived(&Genotype::builtin(name).unwrap(), &config).unwrap())
}

#[test]
fn supernets() {
    let colour = supernet_totals([3, 32, 32]);
    assert_eq!((colour.parameters, colour.multiply_adds), (1_930_618, 300_255_744));
    assert_eq!(supernet_totals([1, 28, 28]).parameters, 1_929_754);
}

#[test]
fn cifar_networks() {
    assert_eq!(cifar("DARTS_V2", 36, 20, 10).parameters, 3_349_342);
    assert_eq!(cifar("DARTS_V2", 36, 20, 10).multiply_adds, 528_359_040);
    assert_eq!(cifar("DARTS_V2", 36, 20, 10).auxiliary_parameters, 476_426);
    assert_eq!(cifar("DARTS_V2", 36, 20, 100).parameters, 3_401_272);
    assert_eq!(cifar("DARTS_V1", 36, 20, 10).parameters, 3_169_414);
    assert_eq!(cifar("NASNet", 36, 20, 10).parameters, 3_830_950);
    assert_eq!(cifar("NASNet", 36, 20, 10).multiply_adds, 603_452_448);
    assert_eq!(cifar("AmoebaNet", 36, 20, 10).parameters, 3_145_078);
    let small = cifar("DARTS_V2", 8, 5, 10);
    assert_eq!((small.parameters, small.multiply_adds), (37_018, 7_392_512));
}

#[test]
fn imagenet_networks() {
    assert_eq!(imagenet("DARTS_V2").parameters, 4_718_752);
    assert_eq!(imagenet("DARTS_V2").multiply_adds, 529_911_552);
    assert_eq!(imagenet("DARTS_V2").auxiliary_parameters, 1_260_776);
    assert_eq!(imagenet("DARTS_V1").parameters, 4_510_432);
    assert_eq!(imagenet("NASNet").parameters, 5_564_320);
    assert_eq!(imagenet("AmoebaNet").parameters, 4_627_360);
}

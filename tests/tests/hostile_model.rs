//! Model files that are damaged, cut off or made to harm: each is an error or runs to its end, none panics.

use darts_core::{
    CellError, CellKind, GenotypeError, ModelError, Network, Operand, Place, STEP_BYTES, Section, Step, StepError,
};
use darts_kernels_simd::{ImageShape, Kernels, Padding, SeparableShape};
use darts_tests::{AlignedBytes, CHECKSUM, Random, SampleModel, fix_checksum};

const WORKSPACE: usize = 28;
const TABLE: usize = 64;

fn word(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap())
}

fn sample_bytes(half: bool) -> Vec<u8> {
    SampleModel::new(half).file().unwrap().get().to_vec()
}

/// Offset and length of a section of a file as the library writes it.
fn section(file: &[u8], section: Section) -> (usize, usize) {
    let entry = TABLE + 16 * (section as usize - 1);
    (word(file, entry + 4) as usize, word(file, entry + 8) as usize)
}

/// Parses, and runs what can be parsed. Returns whether it could.
fn parse_and_run(bytes: &[u8]) -> bool {
    let Ok(network) = Network::parse(bytes) else { return false };
    let mut workspace = vec![f32::NAN; network.required_bytes() / 4];
    let input = vec![0.5; network.input_len()];
    let mut logits = vec![0.0; network.classes()];
    network.run(Kernels::detect(), &input, &mut workspace, &mut logits).expect("a parsed network runs");
    true
}

/// The error of a file that has been changed, and whose checksum has been put right.
fn error_of(file: &[u8]) -> ModelError {
    let mut file = AlignedBytes::new(file, 0);
    fix_checksum(file.get_mut());
    Network::parse(file.get()).map(|_| ()).expect_err("the file is not valid")
}

/// The error after four bytes have been replaced.
fn error_with(at: usize, value: u32) -> ModelError {
    let mut file = sample_bytes(false);
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    error_of(&file)
}

/// The error of the step that `spoil` changes, of the model with weights in half precision.
fn step_error(step: usize, spoil: impl Fn(&mut Step)) -> StepError {
    let mut model = SampleModel::new(true);
    spoil(&mut model.steps[step]);
    let mut file = sample_bytes(true);
    let start = section(&file, Section::Plan).0 + step * STEP_BYTES;
    file[start..start + STEP_BYTES].copy_from_slice(&model.steps[step].to_bytes().unwrap());
    match error_of(&file) {
        ModelError::Step { step: found, error } if found == step => error,
        other => panic!("{other:?}"),
    }
}

/// The error of the step whose record is changed at a byte, of the model with weights in half precision.
fn record_error(step: usize, at: usize, value: u8) -> StepError {
    let mut file = sample_bytes(true);
    let start = section(&file, Section::Plan).0;
    file[start + step * STEP_BYTES + at] = value;
    match error_of(&file) {
        ModelError::Step { step: found, error } if found == step => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_checksum_is_the_documented_one() {
    let mut file = sample_bytes(false);
    let stated = word(&file, CHECKSUM.start);
    fix_checksum(&mut file);
    assert_eq!(word(&file, CHECKSUM.start), stated);
    assert!(parse_and_run(AlignedBytes::new(&file, 0).get()));
}

#[test]
fn every_truncation_is_an_error() {
    for half in [false, true] {
        let file = sample_bytes(half);
        for length in 0..file.len() {
            let mut cut = AlignedBytes::new(&file[..length], 0);
            assert!(Network::parse(cut.get()).is_err(), "{length} bytes");
            // The same with a header that knows of it.
            if length >= CHECKSUM.end {
                cut.get_mut()[16..20].copy_from_slice(&(length as u32).to_le_bytes());
                fix_checksum(cut.get_mut());
                assert!(Network::parse(cut.get()).is_err(), "{length} bytes, stated");
            }
        }
        let longer = AlignedBytes::new(&[&file[..], &[0]].concat(), 0);
        let expected = ModelError::Length { expected: file.len(), found: file.len() + 1 };
        assert_eq!(Network::parse(longer.get()).map(|_| ()), Err(expected));
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_harmless() {
    for half in [false, true] {
        let good = sample_bytes(half);
        let weights = section(&good, Section::Weights).0;
        let mut file = AlignedBytes::new(&good, 0);
        let mut harmless = 0;
        for at in 0..good.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                file.get_mut()[at] ^= flip;
                assert!(Network::parse(file.get()).is_err(), "byte {at} ^ {flip} passed the checksum");
                fix_checksum(file.get_mut());
                harmless += usize::from(parse_and_run(file.get()));
                file.get_mut()[at] ^= flip;
                file.get_mut()[CHECKSUM].copy_from_slice(&good[CHECKSUM]);
            }
        }
        // All weights may be anything, but most of what stands before them may not.
        assert!(harmless >= 9 * (good.len() - weights), "{harmless}");
        assert!(harmless < 9 * (good.len() - weights / 2), "{harmless}");
    }
}

#[test]
fn several_bytes_changed_at_random_are_an_error_or_harmless() {
    let mut random = Random::new(3);
    for half in [false, true] {
        let good = sample_bytes(half);
        let weights = section(&good, Section::Weights).0 as u32;
        let mut ran = 0;
        for _ in 0..30_000 {
            let mut file = AlignedBytes::new(&good, 0);
            let changes = random.indices(1, 3)[0] as usize + 2;
            for (at, value) in random.indices(changes, weights).into_iter().zip(random.indices(changes, 256)) {
                file.get_mut()[at as usize] = value as u8;
            }
            // The length and the workspace are kept, so that what is behind them gets tested.
            file.get_mut()[..TABLE].copy_from_slice(&good[..TABLE]);
            fix_checksum(file.get_mut());
            ran += usize::from(parse_and_run(file.get()));
        }
        assert!(ran > 0);
    }
}

#[test]
fn bytes_at_random_are_an_error() {
    let mut random = Random::new(4);
    for length in 0..300 {
        let bytes: Vec<u8> = random.indices(length, 256).into_iter().map(|byte| byte as u8).collect();
        assert!(Network::parse(AlignedBytes::new(&bytes, 0).get()).is_err());
    }
}

#[test]
fn misaligned_bytes_are_an_error() {
    let file = sample_bytes(false);
    for shift in 1..4 {
        let misaligned = AlignedBytes::new(&file, shift);
        assert_eq!(Network::parse(misaligned.get()).map(|_| ()), Err(ModelError::Misaligned));
    }
    assert!(parse_and_run(AlignedBytes::new(&file, 4).get()));
}

#[test]
fn headers_are_checked() {
    let file = sample_bytes(false);
    let length = file.len();
    assert_eq!(error_with(0, 0), ModelError::Magic);
    for found in [0, 1, 3, u32::MAX] {
        assert_eq!(error_with(8, found), ModelError::Version { found });
    }
    for expected in [0, length - 1, length + 1, u32::MAX as usize] {
        assert_eq!(error_with(16, expected as u32), ModelError::Length { expected, found: length });
    }
    assert_eq!(error_with(12, 128), ModelError::Header);
    for count in [5 << 28, u32::MAX] {
        assert_eq!(error_with(24, count), ModelError::Header);
    }
    assert_eq!(error_with(24, 0), ModelError::Length { expected: 64, found: length });
    let needed = u64::from(word(&file, WORKSPACE));
    let stated = word(&file, WORKSPACE) + 4;
    assert_eq!(error_with(WORKSPACE, stated), ModelError::Workspace { stated, needed });
    assert!(matches!(error_with(WORKSPACE, stated - 8), ModelError::Step { .. }));
    for reserved in (32..64).step_by(4) {
        assert_eq!(error_with(reserved, 1), ModelError::Header);
    }
    let mut damaged = AlignedBytes::new(&file, 0);
    *damaged.get_mut().last_mut().unwrap() ^= 1;
    let error = Network::parse(damaged.get()).map(|_| ()).unwrap_err();
    assert!(matches!(error, ModelError::Checksum { stated, .. } if stated == word(&file, CHECKSUM.start)), "{error}");
}

#[test]
fn the_section_table_is_checked() {
    let file = sample_bytes(false);
    let length = file.len() as u32;
    for entry in 0..4 {
        let at = TABLE + 16 * entry;
        let offset = word(&file, at + 4);
        for wrong in [0, offset - 64, offset + 4, offset + 64, u32::MAX] {
            assert_eq!(error_with(at + 4, wrong), ModelError::SectionTable { entry });
        }
        for wrong in [length, u32::MAX] {
            assert_eq!(error_with(at + 8, wrong), ModelError::SectionTable { entry });
        }
        assert_eq!(error_with(at + 12, 1), ModelError::SectionTable { entry });
        // An unknown section is passed over, so that this one is missing.
        assert_eq!(error_with(at, 99), ModelError::Missing(Section::ALL[entry]));
    }
    assert_eq!(error_with(TABLE, Section::Plan as u32), ModelError::Duplicate(Section::Plan));
    let (_, plan) = section(&file, Section::Plan);
    assert_eq!(error_with(TABLE + 40, plan as u32 - 1), ModelError::SectionLength(Section::Plan));
}

#[test]
fn unknown_sections_are_passed_over() {
    let mut file = sample_bytes(false);
    let end = file.len().next_multiple_of(64);
    file.resize(end + 3, 7);
    // There is room for no fifth entry in front of the sections, unless they all move by 64 bytes.
    file.splice(TABLE + 64..TABLE + 64, [0; 64]);
    for entry in 0..4 {
        let at = TABLE + 16 * entry + 4;
        let moved = word(&file, at) + 64;
        file[at..at + 4].copy_from_slice(&moved.to_le_bytes());
    }
    for (i, value) in [77, end as u32 + 64, 3].into_iter().enumerate() {
        file[TABLE + 64 + 4 * i..][..4].copy_from_slice(&value.to_le_bytes());
    }
    let length = file.len() as u32;
    file[16..20].copy_from_slice(&length.to_le_bytes());
    file[24..28].copy_from_slice(&5u32.to_le_bytes());
    fix_checksum(&mut file);
    assert!(parse_and_run(AlignedBytes::new(&file, 0).get()));
}

#[test]
fn metadata_and_genotypes_are_checked() {
    let file = sample_bytes(false);
    let at = section(&file, Section::Metadata).0;
    let spoilt = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        error_of(&file)
    };
    for (offset, field) in [
        (0, "input height"),
        (2, "input width"),
        (6, "number of classes"),
        (8, "number of layers"),
        (10, "number of channels"),
    ] {
        assert_eq!(spoilt(at + offset, &[0, 0]), ModelError::Metadata { field });
    }
    assert_eq!(spoilt(at + 4, &[3, 0]), ModelError::SectionLength(Section::Metadata));
    assert_eq!(spoilt(at + 4, &[0, 0]), ModelError::SectionLength(Section::Metadata));
    assert_eq!(spoilt(at + 12, &[2]), ModelError::Metadata { field: "kind of network" });
    assert_eq!(spoilt(at + 13, &[1]), ModelError::Metadata { field: "reserved part" });
    assert_eq!(spoilt(at + 20, &f32::NAN.to_le_bytes()), ModelError::Metadata { field: "mean" });
    assert_eq!(spoilt(at + 24, &[0; 4]), ModelError::Metadata { field: "standard deviation" });
    assert_eq!(spoilt(at, &[0xff; 4]), ModelError::Metadata { field: "input size" }, "2 channels of 65535 × 65535");

    let at = section(&file, Section::Genotype).0;
    let invalid = |error| ModelError::Genotype(GenotypeError::Cell { cell: CellKind::Normal, error });
    assert_eq!(spoilt(at + 2, &[10]), ModelError::UnknownPrimitive { id: 10 });
    let future = CellError::EdgeFromTheFuture { edge: 0, node: 0, source: 2 };
    assert_eq!(spoilt(at + 3, &[2]), invalid(future));
    assert_eq!(spoilt(at + 22, &[7]), invalid(CellError::ConcatState { state: 7, states: 7 }));
    assert_eq!(spoilt(at, &[255]), ModelError::SectionLength(Section::Genotype));
    assert_eq!(spoilt(at, &[0]), ModelError::SectionLength(Section::Genotype));
    assert_eq!(spoilt(at + 1, &[255]), ModelError::SectionLength(Section::Genotype));
}

#[test]
fn steps_are_checked() {
    // Prelude, dense, prelude, depthwise, dense, max pool, …
    let last = SampleModel::new(true).steps.len() - 1;
    assert_eq!(record_error(0, 0, 0), StepError::Kind(0));
    assert_eq!(record_error(0, 0, 10), StepError::Kind(10));
    assert_eq!(record_error(0, 1, 8), StepError::Reserved);
    assert_eq!(record_error(0, 2, 1), StepError::Reserved);
    assert_eq!(record_error(5, 8, 0), StepError::Reserved, "the four paddings of a pool are equal");
    assert_eq!(record_error(1, 7, 3), StepError::Storage(3));
    for (at, name) in [(2, "kernel"), (4, "stride"), (12, "height"), (14, "width"), (16, "channels"), (22, "block")] {
        assert_eq!(record_error(1, at, 0), StepError::Parameter { name, value: 0 });
    }
    assert_eq!(record_error(1, 18, 0), StepError::Parameter { name: "output channels", value: 0 });
    assert_eq!(record_error(1, 20, 3), StepError::Parameter { name: "output pixel stride", value: 3 });
    assert_eq!(record_error(1, 22, 5), StepError::Parameter { name: "block", value: 5 });
    assert_eq!(record_error(3, 22, 4), StepError::Reserved);
    assert_eq!(record_error(3, 6, 0), StepError::Parameter { name: "dilation", value: 0 });
    assert_eq!(record_error(1, 2, 8), StepError::Empty(Operand::Target), "8 rows of 7");
    let pool = |change: fn(&mut darts_kernels_simd::PoolShape)| {
        step_error(5, |step| match step {
            Step::MaxPool { shape, .. } => change(shape),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(pool(|shape| shape.padding = 2), StepError::Parameter { name: "padding", value: 2 });
    assert_eq!(pool(|shape| shape.stride = 0), StepError::Parameter { name: "stride", value: 0 });
    let kernel = step_error(3, |step| match step {
        Step::Depthwise { shape, .. } => shape.kernel = 8,
        other => panic!("{other:?}"),
    });
    assert_eq!(kernel, StepError::Parameter { name: "kernel", value: 8 });
    let expected = StepError::ExternalLength { operand: Operand::Target, found: 4 * 2, expected: 4 * 3 };
    let found = step_error(last, |step| match step {
        Step::Dense { shape, block, .. } => {
            shape.output_channels = 2;
            *block = 2;
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(found, expected);
}

#[test]
fn separable_steps_are_checked() {
    let model = SampleModel::new(true);
    let index = model.steps.iter().position(|step| matches!(step, Step::Separable { .. })).unwrap();
    let error = |change: fn(&mut SeparableShape, &mut Place, &mut u32)| {
        step_error(index, |step| match step {
            Step::Separable { shape, target, scratch, .. } => change(shape, target, scratch),
            other => panic!("{other:?}"),
        })
    };
    let parameter = |name, value| StepError::Parameter { name, value };
    assert_eq!(record_error(index, 2, 5), StepError::Reserved, "both extents of the filter are equal");
    assert_eq!(record_error(index, 22, 1), StepError::Reserved, "all weights are widened at once");
    assert_eq!(error(|shape, _, _| shape.kernel = 0), parameter("kernel", 0));
    assert_eq!(error(|shape, _, _| shape.kernel = 4), parameter("kernel", 4));
    assert_eq!(error(|shape, _, _| shape.kernel = 9), parameter("kernel", 9));
    assert_eq!(error(|shape, _, _| shape.stride = 0), parameter("stride", 0));
    assert_eq!(error(|shape, _, _| shape.dilation = 0), parameter("dilation", 0));
    assert_eq!(error(|shape, _, _| shape.output_channels = 0), parameter("output channels", 0));
    assert_eq!(error(|shape, _, _| shape.input.width = 0), parameter("width", 0));
    // More than a gigabyte with its padding, read or written.
    let huge = |shape: &mut SeparableShape| (shape.input.height, shape.input.width) = (8192, 8192);
    assert_eq!(
        step_error(index, |step| if let Step::Separable { shape, .. } = step {
            huge(shape)
        }),
        parameter("channels", 4)
    );
    assert!(matches!(error(|shape, _, _| shape.output_channels = 0xffff), StepError::Outside { .. }));
    assert_eq!(error(|_, _, scratch| *scratch = 2), StepError::Unaligned { operand: Operand::Scratch, start: 2 });
    let found = error(|_, target, scratch| {
        let Place::Workspace(start) = *target else { unreachable!() };
        *scratch = start;
    });
    assert_eq!(found, StepError::Overlap(Operand::Target, Operand::Scratch));
    assert!(matches!(
        error(|_, _, scratch| *scratch = u32::MAX - 3),
        StepError::Outside { operand: Operand::Scratch, .. }
    ));
}

#[test]
fn regions_are_checked() {
    let limit = SampleModel::new(true).workspace_bytes() as u64;
    let weights_limit = SampleModel::new(true).weights.len() as u64;
    let dense = |change: fn(&mut Place, &mut Place, &mut darts_core::Weights, &mut u32)| {
        step_error(4, |step| match step {
            Step::Dense { source, target, weights, scratch, .. } => change(source, target, weights, scratch),
            other => panic!("{other:?}"),
        })
    };
    // 3 × 2 pixels of 4 channels each; 4 × 4 weights and 4 biases.
    let outside = |operand, end, limit| StepError::Outside { operand, end, limit };
    let last = u64::from(u32::MAX - 3);
    let found = dense(|source, _, _, _| *source = Place::Workspace(u32::MAX - 3));
    assert_eq!(found, outside(Operand::Source, last + 96, limit));
    let found = dense(|_, target, _, _| *target = Place::Workspace(u32::MAX - 3));
    assert_eq!(found, outside(Operand::Target, last + 96, limit));
    let found = dense(|_, _, weights, _| weights.offset = u32::MAX - 3);
    assert_eq!(found, outside(Operand::Weights, last + 32 + 16, weights_limit));
    let found = dense(|_, _, _, scratch| *scratch = u32::MAX - 3);
    assert_eq!(found, outside(Operand::Scratch, last + 48, limit));

    let unaligned = |operand, start| StepError::Unaligned { operand, start };
    assert_eq!(dense(|source, _, _, _| *source = Place::Workspace(2)), unaligned(Operand::Source, 2));
    assert_eq!(dense(|_, target, _, _| *target = Place::Workspace(1)), unaligned(Operand::Target, 1));
    assert_eq!(dense(|_, _, weights, _| weights.offset = 6), unaligned(Operand::Weights, 6));
    let found = dense(|_, _, _, scratch| *scratch = 3);
    assert_eq!(found, unaligned(Operand::Scratch, 3));

    assert_eq!(dense(|source, target, _, _| *target = *source), StepError::Overlap(Operand::Source, Operand::Target));
    let found = dense(|source, target, _, _| {
        let Place::Workspace(start) = *source else { unreachable!() };
        *target = Place::Workspace(start + 92);
    });
    assert_eq!(found, StepError::Overlap(Operand::Source, Operand::Target));
    let found = dense(|_, target, _, scratch| {
        let Place::Workspace(start) = *target else { unreachable!() };
        *scratch = start + 92;
    });
    assert_eq!(found, StepError::Overlap(Operand::Target, Operand::Scratch));
    let found = dense(|source, _, _, _| *source = Place::External);
    assert_eq!(found, StepError::ExternalLength { operand: Operand::Source, found: 96, expected: 160 });
}

#[test]
fn the_output_is_written_last_and_once() {
    let written = |step: usize, change: fn(&mut Vec<Step>)| {
        let mut model = SampleModel::new(false);
        change(&mut model.steps);
        let mut file = sample_bytes(false);
        let start = section(&file, Section::Plan).0;
        for (i, step) in model.steps.iter().enumerate() {
            file[start + i * STEP_BYTES..][..STEP_BYTES].copy_from_slice(&step.to_bytes().unwrap());
        }
        assert_eq!(error_of(&file), ModelError::Output { step });
    };
    written(0, |steps| {
        let shape = ImageShape::new(1, 1, 3);
        steps[0] = Step::Zero { target: Place::External, shape };
    });
    let last = SampleModel::new(false).steps.len() - 1;
    written(last, |steps| {
        let shape = ImageShape::new(1, 1, 3);
        *steps.last_mut().unwrap() = Step::Prelude {
            source: Place::Workspace(0),
            target: Place::Workspace(12),
            shape,
            padding: Padding::NONE,
            relu: false,
        };
    });
}

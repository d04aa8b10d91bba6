//! Model files of every kind, changed at random with their structure in mind: each is an error, or runs to its end
//! within the work that it stated, in its workspace. `DARTS_TEST_FUZZ=10000000` for that many, on every core.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use darts_core::{Kernels, MAGIC, ModelError, Network, STEP_BYTES, Section};
use darts_host::data::Dataset;
use darts_host::export::{Calibration, FloatLayers, Precision, Quantization};
use darts_host::graph::derived::{DerivedConfig, NetworkKind};
use darts_kernels_simd::ImageShape;
use darts_tests::networks::{CASES, model, trained};
use darts_tests::{AlignedBytes, Guarded, Random, SampleModel, fix_checksum, kernels};
use rayon::prelude::*;

/// Cases if the environment does not say.
const CASES_BY_DEFAULT: u64 = 20_000;
/// Operations of a network that is run; more than those of any file before it is changed.
const MOST_OPERATIONS: u64 = 1 << 20;
/// Bytes of a workspace that is run in.
const MOST_WORKSPACE: usize = 1 << 20;
/// Where a header states its file's length and its workspace.
const LENGTH: usize = 16;
const WORKSPACE: usize = 28;
const TABLE: usize = 64;
/// Bytes of each field of a step's record.
const FIELDS: [usize; 22] = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4];

/// Files that are valid: floating point in both precisions, integers, and both mixed.
fn files() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> =
        [false, true].iter().map(|&half| SampleModel::new(half).file().unwrap().get().to_vec()).collect();
    let config = DerivedConfig {
        kind: NetworkKind::Cifar,
        input: [2, 5, 4],
        classes: 3,
        channels: 2,
        layers: 3,
        auxiliary: false,
    };
    let irregular = CASES[5].4;
    for genotype in ["DARTS_V2", irregular] {
        let network = trained(config.clone(), genotype);
        files.extend([Precision::F32, Precision::F16].map(|precision| model(&network, precision).bytes().to_vec()));
        let pixels = Random::new(1).indices(8 * 40, 256).into_iter().map(|pixel| pixel as u8).collect();
        let data = Dataset::new(ImageShape::new(5, 4, 2), pixels, vec![0; 8], network.class_names.clone());
        let quantization = Quantization::new(&network, &data, Calibration::MinMax, Kernels::detect()).unwrap();
        files.push(quantization.model(&[]).unwrap());
        for (start, precision) in [(0, Precision::F32), (1, Precision::F16), (2, Precision::F32)] {
            let names = quantization.layers().into_iter().skip(start).step_by(3);
            let float: Vec<_> = names.map(|name| FloatLayers { name: name.to_owned(), precision }).collect();
            files.push(quantization.model(&float).unwrap());
        }
    }
    files
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn section(file: &[u8], section: Section) -> (usize, usize) {
    let entry = TABLE + 16 * (section as usize - 1);
    (word(file, entry + 4) as usize, word(file, entry + 8) as usize)
}

/// Changes of one file.
struct Damage<'a> {
    random: Random,
    /// The file before, with which sections are found.
    whole: &'a [u8],
    file: &'a mut Vec<u8>,
}

impl Damage<'_> {
    fn below(&mut self, end: usize) -> usize {
        self.random.indices(1, end.max(1) as u32)[0] as usize
    }

    /// A number for a field that has held `before`: near it, small, at a limit, or any.
    fn number(&mut self, before: u32, bytes: usize) -> u32 {
        let nearby = [1, 2, 3, 4, 8, 16, 64, 256][self.below(8)];
        match self.below(8) {
            0 => before.wrapping_add(nearby),
            1 => before.wrapping_sub(nearby),
            2 => before ^ 1 << self.below(8 * bytes),
            3 | 4 => self.below(9) as u32,
            5 => [u32::MAX, 1 << 31, 0x7fff_ffff, 0xffff, 0x8000, 0xff, 0x80, 0x7f][self.below(8)],
            6 => 4 * self.below(1024) as u32,
            _ => self.random.indices(1, u32::MAX)[0],
        }
    }

    fn replace(&mut self, at: usize, bytes: usize) {
        let mut before = [0; 4];
        before[..bytes].copy_from_slice(&self.file[at..at + bytes]);
        let after = self.number(u32::from_le_bytes(before), bytes);
        self.file[at..at + bytes].copy_from_slice(&after.to_le_bytes()[..bytes]);
    }

    /// One change.
    fn change(&mut self) {
        let (plan, plan_bytes) = section(self.whole, Section::Plan);
        let steps = plan_bytes / STEP_BYTES;
        let record = |step: usize| plan + step * STEP_BYTES..plan + (step + 1) * STEP_BYTES;
        match self.below(16) {
            0 => self.in_section(Section::Metadata),
            1 => self.in_section(Section::Genotype),
            2 | 3 => self.in_section(Section::Weights),
            4 => {
                let at = 4 * self.below((TABLE + 4 * 16) / 4);
                self.replace(at, 4);
            }
            // Another kind of step: of the float ones 1 to 9, of those on integers 16 to 25.
            5 => {
                let kind = [1 + self.below(9), 16 + self.below(10)][self.below(2)];
                let at = record(self.below(steps)).start;
                self.file[at] = kind as u8;
            }
            6 => {
                let [from, to] = [self.below(steps), self.below(steps)];
                self.file.copy_within(record(from), record(to).start);
            }
            7 => {
                let [one, other] = [self.below(steps), self.below(steps)];
                for byte in 0..STEP_BYTES {
                    self.file.swap(record(one).start + byte, record(other).start + byte);
                }
            }
            8 => {
                let at = plan + self.below(plan_bytes);
                self.file[at] = self.below(256) as u8;
            }
            _ => {
                let (step, field) = (self.below(steps), self.below(FIELDS.len()));
                let at = record(step).start + FIELDS[..field].iter().sum::<usize>();
                self.replace(at, FIELDS[field]);
            }
        }
    }

    fn in_section(&mut self, which: Section) {
        let (start, len) = section(self.whole, which);
        let bytes = [1, 2, 4][self.below(3)].min(len);
        let at = start + self.below(len + 1 - bytes);
        self.replace(at, bytes);
    }

    /// Cuts the file off, with a header that knows of it.
    fn cut(&mut self) {
        let length = self.below(self.file.len());
        self.file.truncate(length);
        if length >= LENGTH + 4 {
            self.file[LENGTH..LENGTH + 4].copy_from_slice(&(length as u32).to_le_bytes());
        }
    }
}

/// What became of the files.
#[derive(Default)]
struct Counts {
    refused: AtomicU64,
    too_large: AtomicU64,
    ran: AtomicU64,
}

/// Case `index`.
fn case(files: &[Vec<u8>], kernels: &[Kernels], index: u64, counts: &Counts) {
    let mut random = Random::new(index);
    let whole = &files[random.indices(1, files.len() as u32)[0] as usize];
    let mut file = whole.clone();
    let mut damage = Damage { random, whole, file: &mut file };
    for _ in 0..=damage.below(3) {
        damage.change();
    }
    // Room for regions that grew, so that they are not all outside.
    if damage.below(2) == 0 {
        damage.file[WORKSPACE..WORKSPACE + 4].copy_from_slice(&(MOST_WORKSPACE as u32).to_le_bytes());
    }
    if damage.below(50) == 0 {
        damage.cut();
    }
    let kernels = kernels[damage.below(kernels.len())];
    let mut bytes = AlignedBytes::new(&file, 0);
    fix_checksum(bytes.get_mut());
    if let Err(ModelError::Workspace { needed, .. }) = Network::parse(bytes.get())
        && let Ok(needed) = u32::try_from(needed)
    {
        bytes.get_mut()[WORKSPACE..WORKSPACE + 4].copy_from_slice(&needed.to_le_bytes());
        fix_checksum(bytes.get_mut());
    }
    let count = match Network::parse(bytes.get()) {
        Err(_) => &counts.refused,
        Ok(network)
            if network.operations() > MOST_OPERATIONS
                || network.required_bytes() > MOST_WORKSPACE
                || network.input_len() > MOST_WORKSPACE =>
        {
            &counts.too_large
        }
        Ok(network) => {
            let mut workspace = Guarded::unwritten(network.required_bytes() / 4);
            let mut logits = Guarded::unwritten(network.classes());
            let input = vec![0.5; network.input_len()];
            network.run(kernels, &input, &mut workspace, &mut logits).expect("a parsed network runs");
            &counts.ran
        }
    };
    count.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn damaged_models_are_an_error_or_run_to_their_end() {
    let count = match env::var("DARTS_TEST_FUZZ") {
        Ok(count) => count.parse().expect("DARTS_TEST_FUZZ is a number"),
        Err(_) => CASES_BY_DEFAULT,
    };
    let (files, kernels, counts) = (files(), kernels(), Counts::default());
    for file in &files {
        let bytes = AlignedBytes::new(file, 0);
        let network = Network::parse(bytes.get()).expect("a valid file");
        assert!(file.starts_with(&MAGIC) && network.operations() < MOST_OPERATIONS, "{}", network.operations());
    }
    (0..count).into_par_iter().for_each(|index| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&files, &kernels, index, &counts))) {
            eprintln!("case {index} panicked");
            resume_unwind(panic);
        }
    });
    let [refused, too_large, ran] =
        [&counts.refused, &counts.too_large, &counts.ran].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{count} files: {refused} refused, {ran} ran, {too_large} would take more than {MOST_OPERATIONS} operations"
    );
    assert_eq!(refused + too_large + ran, count);
    assert!(ran > count / 10, "most files are refused before they are run");
}

//! What a network takes of a device: flash, RAM and stack, as far as they are known before anything is flashed.

use darts_core::{Place, Step};
use serde::Serialize;

use crate::instructions::{cortex_a53, cortex_m};

/// A device that a network is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// 32-bit microcontroller with a floating-point unit in single precision.
    CortexM4,
    /// The same with a larger core.
    CortexM7,
    /// 64-bit processor with NEON.
    CortexA53,
    /// This machine.
    Host,
}

/// What a program takes besides model and buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of code and constants.
    pub code_bytes: u64,
    /// The deepest stack, in bytes.
    pub stack_bytes: u64,
    /// What was measured, how and when.
    pub measured: &'static str,
}

/// `scripts/firmware-measure` with DARTS_V2 at C=8 and 5 cells, in f32 and f16, and at C=16 and 8 cells, in f32, on
/// 1×28×28: the largest of each number.
const FIRMWARE: Footprint = Footprint {
    code_bytes: 90_140,
    stack_bytes: 2_208,
    measured: "are those of the firmware example, measured under emulation on 2026-11-24",
};

/// The same with both in int8 but for the classifier, the stem and it, or a cell.
const MIXED: Footprint = Footprint { code_bytes: 90_164, stack_bytes: 3_680, ..FIRMWARE };

/// `scripts/firmware-measure --integers` with both in int8: the largest again.
const INTEGERS: Footprint = Footprint {
    code_bytes: 42_136,
    stack_bytes: 2_828,
    measured: "are those of the firmware example for integers alone, measured under emulation on 2026-11-24",
};

/// The same of the image for AArch64.
const A53_FIRMWARE: Footprint = Footprint { code_bytes: 243_012, stack_bytes: 3_952, ..FIRMWARE };
const A53_MIXED: Footprint = Footprint { code_bytes: 243_052, stack_bytes: 67_952, ..FIRMWARE };
const A53_INTEGERS: Footprint = Footprint { code_bytes: 134_504, stack_bytes: 66_800, ..INTEGERS };

impl Device {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::CortexM4 => "cortex-m4",
            Self::CortexM7 => "cortex-m7",
            Self::CortexA53 => "cortex-a53",
            Self::Host => "host",
        }
    }

    /// What a program for it takes that runs a model of these steps, where one has been measured.
    pub fn footprint(self, steps: &[Step]) -> Option<Footprint> {
        let integers = steps.iter().filter(|step| matches!(step, Step::Int8(_))).count();
        let [float, mixed, all] = match self {
            // One image runs on both.
            Self::CortexM4 | Self::CortexM7 => [FIRMWARE, MIXED, INTEGERS],
            Self::CortexA53 => [A53_FIRMWARE, A53_MIXED, A53_INTEGERS],
            Self::Host => return None,
        };
        Some(match integers {
            0 => float,
            count if count == steps.len() => all,
            _ => mixed,
        })
    }

    /// Instructions of one inference, where they can be estimated.
    pub fn instructions(self, steps: &[Step]) -> Option<u64> {
        match self {
            Self::CortexM4 | Self::CortexM7 => Some(cortex_m::instructions(steps)),
            Self::CortexA53 => Some(cortex_a53::instructions(steps)),
            Self::Host => None,
        }
    }
}

/// Sizes of a network, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkBytes {
    /// The model file.
    pub model: u64,
    /// The workspace.
    pub workspace: u64,
    /// The input image.
    pub input: u64,
    /// The logits.
    pub output: u64,
}

/// What a network takes of a device, in bytes. What has not been measured is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// Model and code.
    pub flash_bytes: u64,
    /// The model file.
    pub model_bytes: u64,
    /// The program.
    pub code_bytes: Option<u64>,
    /// Buffers and stack.
    pub ram_bytes: u64,
    /// Workspace, input and output.
    pub static_bytes: u64,
    /// The workspace.
    pub workspace_bytes: u64,
    /// The input image; 0 where pixels are quantized as they are read.
    pub input_bytes: u64,
    /// The logits.
    pub output_bytes: u64,
    /// The deepest stack.
    pub stack_bytes: Option<u64>,
}

impl Needs {
    /// Of a network of these steps on a device.
    pub fn new(device: Device, network: NetworkBytes, steps: &[Step]) -> Self {
        let NetworkBytes { model, workspace, input, output } = network;
        let reads = |step: &Step| step.source() == Some(Place::External) && !matches!(step, Step::Int8(_));
        let input = if steps.iter().any(reads) { input } else { 0 };
        let footprint = device.footprint(steps);
        let code_bytes = footprint.map(|footprint| footprint.code_bytes);
        let stack_bytes = footprint.map(|footprint| footprint.stack_bytes);
        let static_bytes = workspace + input + output;
        Self {
            flash_bytes: model + code_bytes.unwrap_or(0),
            model_bytes: model,
            code_bytes,
            ram_bytes: static_bytes + stack_bytes.unwrap_or(0),
            static_bytes,
            workspace_bytes: workspace,
            input_bytes: input,
            output_bytes: output,
            stack_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::tests::{int8_steps, steps};

    #[test]
    fn a_mixed_model_takes_the_code_of_one_kind_and_the_stack_of_the_other() {
        let (float, integers) = (steps("DARTS_V2", 4, 3), int8_steps("DARTS_V2", 4, 3));
        let mixed = [&integers[..], &float[..1]].concat();
        for device in [Device::CortexM4, Device::CortexM7, Device::CortexA53] {
            let [float, integers, mixed] = [&float, &integers, &mixed].map(|steps| device.footprint(steps).unwrap());
            assert!(mixed.code_bytes >= float.code_bytes && float.code_bytes > integers.code_bytes, "{device:?}");
            assert!(
                mixed.stack_bytes >= integers.stack_bytes && integers.stack_bytes > float.stack_bytes,
                "{device:?}"
            );
        }
        assert_eq!(Device::Host.footprint(&mixed), None);
    }
}

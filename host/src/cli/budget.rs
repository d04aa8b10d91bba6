//! What a network takes of a device, and whether the device has it.

use std::fmt;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use darts_core::Step;
use darts_host::device::{Device, Needs, NetworkBytes};
use indicatif::HumanCount;
use serde::Serialize;

use super::amount::bytes;

/// Names of devices.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    /// Microcontroller, 32 bits, floating-point unit in single precision
    CortexM4,
    /// The same instructions as a Cortex-M4
    CortexM7,
    /// 64 bits, NEON
    CortexA53,
    /// This machine
    Host,
}

impl From<Target> for Device {
    fn from(target: Target) -> Self {
        match target {
            Target::CortexM4 => Self::CortexM4,
            Target::CortexM7 => Self::CortexM7,
            Target::CortexA53 => Self::CortexA53,
            Target::Host => Self::Host,
        }
    }
}

/// The device, and what it has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device")]
pub struct Budget {
    /// Show what the network takes of a device: flash, RAM, stack.
    #[arg(long, value_name = "DEVICE")]
    target: Option<Target>,

    /// Fail if flash for model and code is more than this, such as 256K; K and M are 1024 and 1024² bytes.
    #[arg(long, value_name = "BYTES", requires = "target", value_parser = bytes)]
    flash: Option<u64>,

    /// Fail if buffers and stack are more than this, such as 64K.
    #[arg(long, value_name = "BYTES", requires = "target", value_parser = bytes)]
    ram: Option<u64>,
}

impl Budget {
    /// The device, if there is one.
    pub fn device(&self) -> Option<Device> {
        self.target.map(Device::from)
    }

    /// What `needs` more than there is.
    pub fn check(&self, needs: &Needs) -> Result<(), OverBudget> {
        let memories = [("flash", needs.flash_bytes, self.flash), ("RAM", needs.ram_bytes, self.ram)];
        let over = memories.into_iter().filter_map(|(memory, needed, given)| {
            let given = given?;
            (needed > given).then_some(Over { memory, needed, given })
        });
        let over: Vec<Over> = over.collect();
        if over.is_empty() { Ok(()) } else { Err(OverBudget(over)) }
    }
}

/// A memory that the device has too little of.
#[derive(Debug, PartialEq, Eq)]
struct Over {
    memory: &'static str,
    needed: u64,
    given: u64,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [over, needed, given] = [self.needed - self.given, self.needed, self.given].map(HumanCount);
        write!(f, "{} is over by {over} bytes: {needed} are needed, {given} are there", self.memory)
    }
}

/// All memories that the device has too little of, a line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct OverBudget(Vec<Over>);

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, over) in self.0.iter().enumerate() {
            write!(f, "{}{over}", if index == 0 { "" } else { "\nerror: " })?;
        }
        Ok(())
    }
}

/// What is printed of a network on a device.
#[derive(Serialize)]
pub struct TargetReport {
    target: &'static str,
    #[serde(flatten)]
    pub needs: Needs,
    /// Estimate for one inference.
    instructions: Option<u64>,
    /// Where code and stack were measured.
    measured: Option<&'static str>,
}

impl TargetReport {
    /// Of a network with these steps.
    pub fn new(device: Device, network: NetworkBytes, steps: &[Step]) -> Self {
        Self {
            target: device.name(),
            needs: Needs::new(device, network, steps),
            instructions: device.instructions(steps),
            measured: device.footprint(steps).map(|footprint| footprint.measured),
        }
    }

    /// Prints it, sums before their parts.
    pub fn print(&self, output: &mut impl Write) -> io::Result<()> {
        let Needs { flash_bytes, model_bytes, code_bytes, ram_bytes, static_bytes, .. } = self.needs;
        let Needs { workspace_bytes, input_bytes, output_bytes, stack_bytes, .. } = self.needs;
        let bytes = |bytes: Option<u64>| bytes.map_or("not measured".into(), |bytes| HumanCount(bytes).to_string());
        writeln!(output, "\n{}", self.target)?;
        writeln!(output, "  flash          {} bytes", HumanCount(flash_bytes))?;
        writeln!(output, "    model        {}", HumanCount(model_bytes))?;
        writeln!(output, "    code         {}", bytes(code_bytes))?;
        writeln!(output, "  RAM            {} bytes", HumanCount(ram_bytes))?;
        writeln!(output, "    static       {}", HumanCount(static_bytes))?;
        writeln!(output, "      workspace  {}", HumanCount(workspace_bytes))?;
        writeln!(output, "      input      {}", HumanCount(input_bytes))?;
        writeln!(output, "      output     {}", HumanCount(output_bytes))?;
        writeln!(output, "    stack        {}", bytes(stack_bytes))?;
        if let Some(instructions) = self.instructions {
            writeln!(output, "  instructions   {} for an inference, estimated", HumanCount(instructions))?;
        }
        match self.measured {
            Some(measured) => writeln!(output, "  code and stack {measured}"),
            None => writeln!(output, "  code and stack are not measured on this device, and not counted"),
        }
    }
}

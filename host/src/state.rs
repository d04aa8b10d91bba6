//! All that a run carries from one step to the next, as an observer may save it and put it back.
//!
//! Every random draw is a function of seed, purpose, epoch and place, so that the [`Position`] stands for the
//! generators and the order of the data too.

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

/// Where a run stands: the step that comes next, and the sums over the steps of its epoch before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Epoch, from 0; the number of epochs in a run that is finished.
    pub epoch: usize,
    /// Step within the epoch, from 0; the number of steps if only the evaluation is left.
    pub step: usize,
    /// Images of the steps before.
    pub images: usize,
    /// Correct predictions on them.
    pub correct: usize,
    /// Sum of their losses.
    pub loss: f64,
    /// Wall time of the epoch so far.
    pub seconds: f64,
}

impl Position {
    /// Before the first step of an epoch.
    pub fn start_of(epoch: usize) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Counts one step on `images` images with a mean loss of `loss`.
    pub(crate) fn advance(&mut self, images: usize, correct: usize, loss: f64) {
        self.step += 1;
        self.images += images;
        self.correct += correct;
        self.loss += loss * images as f64;
    }

    /// Mean loss of the steps before.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    /// Share of correct predictions in the steps before.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }
}

/// Numbers that a run changes as it goes, under a name that no other has.
#[derive(Debug)]
pub struct Values<'a> {
    /// The name.
    pub name: &'static str,
    /// Type of each number.
    pub dtype: Dtype,
    /// The numbers in memory.
    pub bytes: &'a mut [u8],
}

impl<'a> Values<'a> {
    /// Single precision.
    pub fn f32(name: &'static str, values: &'a mut [f32]) -> Self {
        Self { name, dtype: Dtype::F32, bytes: bytemuck::cast_slice_mut(values) }
    }

    /// Double precision.
    pub fn f64(name: &'static str, values: &'a mut [f64]) -> Self {
        Self { name, dtype: Dtype::F64, bytes: bytemuck::cast_slice_mut(values) }
    }

    /// One count.
    pub fn count(name: &'static str, value: &'a mut u32) -> Self {
        Self { name, dtype: Dtype::U32, bytes: bytemuck::bytes_of_mut(value) }
    }
}

/// The state of a run, open to be read or to be put back.
#[derive(Debug)]
pub struct State<'a, Epoch> {
    /// Where it stands.
    pub position: &'a mut Position,
    /// Records of the epochs before.
    pub epochs: &'a mut Vec<Epoch>,
    /// Everything else: weights, statistics, optimizers.
    pub values: Vec<Values<'a>>,
}

//! Parameters: names and layouts as in the original's state dict, and as stored here.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What a parameter is, which decides its layout, its initial value and its fan-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Depthwise filters: stored `[k, k, C]`, originally `[C, 1, k, k]`.
    Depthwise {
        /// Extent of the filter.
        kernel: usize,
        /// Channels.
        channels: usize,
    },
    /// Dense filters: stored `[kh, kw, C_in, C_out]`, originally `[C_out, C_in, kh, kw]`.
    Dense {
        /// Rows and columns of the filter.
        kernel: [usize; 2],
        /// Input channels.
        input: usize,
        /// Output channels.
        output: usize,
    },
    /// Weight of a linear layer: stored `[in, out]`, originally `[out, in]`.
    Linear {
        /// Input features.
        input: usize,
        /// Output features.
        output: usize,
    },
    /// Bias of a linear layer with `input` features.
    Bias {
        /// Input features of the layer, which bound the initial value.
        input: usize,
    },
    /// Weight (γ) of a batch norm.
    NormWeight,
    /// Bias (β) of a batch norm.
    NormBias,
}

/// A named range of the flat weight vector.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name in the original's state dict.
    pub name: String,
    /// Kind and layout.
    pub kind: ParameterKind,
    /// Where it lies.
    pub range: Range<usize>,
}

impl Parameter {
    /// The original's shape.
    pub fn original_shape(&self) -> Vec<usize> {
        match self.kind {
            ParameterKind::Depthwise { kernel, channels } => vec![channels, 1, kernel, kernel],
            ParameterKind::Dense { kernel, input, output } => vec![output, input, kernel[0], kernel[1]],
            ParameterKind::Linear { input, output } => vec![output, input],
            ParameterKind::Bias { .. } | ParameterKind::NormWeight | ParameterKind::NormBias => vec![self.range.len()],
        }
    }

    /// Matrix `[rows, columns]` whose transpose turns the stored order into the original's.
    fn stored_matrix(&self) -> [usize; 2] {
        match self.kind {
            ParameterKind::Depthwise { kernel, channels } => [kernel * kernel, channels],
            ParameterKind::Dense { kernel, input, output } => [kernel[0] * kernel[1] * input, output],
            ParameterKind::Linear { input, output } => [input, output],
            ParameterKind::Bias { .. } | ParameterKind::NormWeight | ParameterKind::NormBias => [1, self.range.len()],
        }
    }

    /// Position in the stored order of every element of the original order.
    fn stored_index(&self, original: usize) -> usize {
        let [rows, columns] = self.stored_matrix();
        let (column, row) = (original / rows, original % rows);
        let row = match self.kind {
            // Original rows run over [C_in, kh, kw], stored ones over [kh, kw, C_in].
            ParameterKind::Dense { kernel, input, .. } => {
                let taps = kernel[0] * kernel[1];
                (row % taps) * input + row / taps
            }
            _ => row,
        };
        row * columns + column
    }

    /// Copies this parameter from the original's layout into `stored`, its range of the flat vector.
    ///
    /// # Panics
    /// If the lengths differ from the parameter's.
    pub fn from_original<T: Copy>(&self, original: &[T], stored: &mut [T]) {
        assert_eq!((original.len(), stored.len()), (self.range.len(), self.range.len()), "{}", self.name);
        for (index, &value) in original.iter().enumerate() {
            stored[self.stored_index(index)] = value;
        }
    }

    /// This parameter in the original's layout, from `stored`, its range of the flat vector.
    pub fn to_original<T: Copy>(&self, stored: &[T]) -> Vec<T> {
        assert_eq!(stored.len(), self.range.len(), "{}", self.name);
        (0..stored.len()).map(|index| stored[self.stored_index(index)]).collect()
    }

    /// Writes the initial value into `stored`: PyTorch's defaults (uniform in ±1/√fan-in for convolutions and linear
    /// layers, which is Kaiming-uniform with a = √5; 1 and 0 for batch norms).
    pub fn initialize(&self, stored: &mut [f32], rng: &mut ChaCha8Rng) {
        let fan_in = match self.kind {
            ParameterKind::Depthwise { kernel, .. } => kernel * kernel,
            ParameterKind::Dense { kernel, input, .. } => kernel[0] * kernel[1] * input,
            ParameterKind::Linear { input, .. } | ParameterKind::Bias { input } => input,
            ParameterKind::NormWeight => return stored.fill(1.0),
            ParameterKind::NormBias => return stored.fill(0.0),
        };
        let bound = 1.0 / (fan_in as f32).sqrt();
        stored.iter_mut().for_each(|value| *value = rng.random_range(-bound..bound));
    }
}

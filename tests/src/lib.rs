//! What the cross-crate tests share: instruction sets, seeded data, guarded buffers and comparisons with the reference.

mod buffer;
mod checksum;
mod compare;
mod instruction_sets;
mod model;
pub mod networks;
mod random;
mod small;

pub use buffer::{Guarded, guarded};
pub use checksum::{CHECKSUM, fix_checksum};
pub use compare::{absolute, assert_adjoint, assert_close, assert_gradient, assert_same};
pub use instruction_sets::{channel_counts, images, int8_kernels, kernels, repeating_channel_counts};
pub use model::{AlignedBytes, Filter, SampleModel};
pub use random::Random;
pub use small::small_images;

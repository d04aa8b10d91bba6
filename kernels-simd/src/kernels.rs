//! The token that chooses an instruction set, and the dispatch to it.

use crate::isa::{Isa, IsaError};

/// All kernels for one instruction set. The methods stand beside their bodies in the modules of the operations.
///
/// A token exists only where the processor has the instruction set, which makes the methods safe to call. Each checks
/// the lengths of its slices once and panics with the shapes when one is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    isa: Isa,
    int8_dot: bool,
}

impl Kernels {
    /// The fastest instruction set of this processor.
    pub fn detect() -> Self {
        Self::of(Isa::available().last().unwrap_or(Isa::Scalar))
    }

    /// A given instruction set.
    ///
    /// # Errors
    ///
    /// [`IsaError::Unavailable`] when the processor or its operating system lacks it.
    pub fn with_isa(isa: Isa) -> Result<Self, IsaError> {
        if isa.is_available() { Ok(Self::of(isa)) } else { Err(IsaError::Unavailable(isa)) }
    }

    /// The processor has the instruction set.
    fn of(isa: Isa) -> Self {
        Self { isa, int8_dot: isa.has_int8_dot() }
    }

    /// The instruction set in use.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// The instruction for sums of products of 8-bit integers that convolutions on them use: `vnni` with AVX-512 and
    /// `sdot` with NEON, where the processor has it. The results are the same without.
    pub fn int8_dot(self) -> Option<&'static str> {
        self.int8_dot.then_some(if cfg!(target_arch = "aarch64") { "sdot" } else { "vnni" })
    }

    /// The same kernels without [`int8_dot`](Self::int8_dot).
    pub fn without_int8_dot(self) -> Self {
        Self { int8_dot: false, ..self }
    }
}

/// `dispatch!(kernels, body(x: &[f32], y: &mut [f32]) -> f64)` calls `body::<S>(x, y)` with the
/// [`Simd`](crate::arch::Simd) of the token's instruction set. `body` is an `#[inline(always)] unsafe fn`, generic over
/// `S`; the arguments are local variables of these names and types. The only `#[target_feature]` functions are those
/// made here.
///
/// It is an unsafe operation: what `body` asks for must hold.
macro_rules! dispatch {
    ($kernels:expr, $body:ident($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        #[allow(clippy::too_many_arguments)]
        unsafe fn avx2($($argument: $type),*) $(-> $output)? {
            // SAFETY: the instruction set is enabled; the rest is promised by the caller.
            unsafe { $body::<$crate::arch::Avx2>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
        #[allow(clippy::too_many_arguments)]
        unsafe fn avx512($($argument: $type),*) $(-> $output)? {
            // SAFETY: as above.
            unsafe { $body::<$crate::arch::Avx512>($($argument),*) }
        }
        #[cfg(target_arch = "aarch64")]
        #[target_feature(enable = "neon")]
        #[allow(clippy::too_many_arguments)]
        unsafe fn neon($($argument: $type),*) $(-> $output)? {
            // SAFETY: as above.
            unsafe { $body::<$crate::arch::Neon>($($argument),*) }
        }
        match $crate::Kernels::isa($kernels) {
            #[cfg(target_arch = "x86_64")]
            $crate::Isa::Avx2 => avx2($($argument),*),
            #[cfg(target_arch = "x86_64")]
            $crate::Isa::Avx512 => avx512($($argument),*),
            #[cfg(target_arch = "aarch64")]
            $crate::Isa::Neon => neon($($argument),*),
            _ => $body::<$crate::arch::Scalar>($($argument),*),
        }
    }};
}
pub(crate) use dispatch;

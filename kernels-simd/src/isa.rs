//! The instruction sets and their detection, which has to work without `std`.

use core::fmt;
use core::str::FromStr;

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable Rust, one lane; on every processor.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C, eight lanes.
    Avx2,
    /// x86-64 with AVX-512 F, VL, BW and DQ, sixteen lanes.
    Avx512,
    /// AArch64 with NEON, four lanes.
    Neon,
}

impl Isa {
    /// All instruction sets, available here or not, the portable one first.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Neon];

    /// The name: `scalar`, `avx2`, `avx512` or `neon`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// `f32` lanes of one register.
    pub const fn lanes(self) -> usize {
        match self {
            Self::Scalar => 1,
            Self::Avx2 => 8,
            Self::Avx512 => 16,
            Self::Neon => 4,
        }
    }

    /// Whether this processor, and its operating system, support the instruction set.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => x86::supported().avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => x86::supported().avx512,
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// Whether this processor has, beside this instruction set, the instruction for sums of four products of 8-bit
    /// integers that goes with it.
    pub(crate) fn has_int8_dot(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => x86::supported().vnni,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => aarch64::has_dotprod(),
            _ => false,
        }
    }

    /// The instruction sets that this processor supports, the fastest last.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        Self::ALL.into_iter().find(|isa| isa.name() == name).ok_or(IsaError::Unknown)
    }
}

/// Why an instruction set cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsaError {
    /// The name is not that of an instruction set.
    Unknown,
    /// The processor or its operating system lacks it.
    Unavailable(Isa),
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown instruction set: it is one of scalar, avx2, avx512 and neon"),
            Self::Unavailable(isa) => write!(f, "this processor has no {isa}: choose one that it has, such as scalar"),
        }
    }
}

impl core::error::Error for IsaError {}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    pub(super) struct Supported {
        pub(super) avx2: bool,
        pub(super) avx512: bool,
        /// The VNNI of AVX-512.
        pub(super) vnni: bool,
    }

    const NONE: Supported = Supported { avx2: false, avx512: false, vnni: false };

    const fn all(bits: u32, positions: &[u32]) -> bool {
        let mut i = 0;
        while i < positions.len() {
            if bits & (1 << positions[i]) == 0 {
                return false;
            }
            i += 1;
        }
        true
    }

    /// Bit positions are those of the Intel manual, volume 2, CPUID, and volume 1, chapter 13 (XCR0).
    pub(super) fn supported() -> Supported {
        if __cpuid(0).eax < 7 {
            return NONE;
        }
        let basic = __cpuid(1).ecx;
        // FMA, OSXSAVE, AVX, F16C.
        if !all(basic, &[12, 27, 28, 29]) {
            return NONE;
        }
        // SAFETY: OSXSAVE is set, so XGETBV may be executed.
        let state = unsafe { _xgetbv(0) } as u32;
        // The operating system saves XMM and YMM, and for AVX-512 also the mask registers and both halves of ZMM.
        let (ymm, zmm) = (all(state, &[1, 2]), all(state, &[1, 2, 5, 6, 7]));
        let extended = __cpuid_count(7, 0);
        let avx2 = ymm && all(extended.ebx, &[5]);
        // F, DQ, BW, VL.
        let avx512 = avx2 && zmm && all(extended.ebx, &[16, 17, 30, 31]);
        Supported { avx2, avx512, vnni: avx512 && all(extended.ecx, &[11]) }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    /// Whether the processor has SDOT. Where the operating system is not asked, what the program is compiled for
    /// counts.
    pub(super) fn has_dotprod() -> bool {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            // AT_HWCAP and HWCAP_ASIMDDP of <asm/hwcap.h>.
            const HWCAP: usize = 16;
            const DOTPROD: usize = 1 << 20;
            unsafe extern "C" {
                fn getauxval(kind: usize) -> usize;
            }
            // SAFETY: it may be called with any number, from any thread.
            cfg!(target_feature = "dotprod") || unsafe { getauxval(HWCAP) } & DOTPROD != 0
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            cfg!(target_feature = "dotprod")
        }
    }
}

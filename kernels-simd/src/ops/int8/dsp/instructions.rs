//! Instructions of the DSP extension, and unaligned words. Halves of a word are 16 bits, bytes are signed; the low ones
//! come first.

use core::arch::asm;

/// An instruction from registers to a register that changes no flag.
macro_rules! instruction {
    ($(#[$documentation:meta])* $name:ident($($argument:ident),*): $text:literal) => {
        $(#[$documentation])*
        #[inline(always)]
        pub(super) fn $name($($argument: u32),*) -> u32 {
            let d;
            // SAFETY: it works on registers only.
            unsafe {
                asm!($text, d = lateout(reg) d, $($argument = in(reg) $argument,)*
                    options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
    };
}

instruction! {
    /// Bytes 0 and 2 as halves.
    even_bytes(x): "sxtb16 {d}, {x}"
}
instruction! {
    /// Bytes 1 and 3 as halves.
    odd_bytes(x): "sxtb16 {d}, {x}, ror #8"
}
instruction! {
    /// Bytes 0 and 2 of `x` added to the halves of `to`.
    add_even_bytes(to, x): "sxtab16 {d}, {to}, {x}"
}
instruction! {
    /// Bytes 1 and 3 of `x` added to the halves of `to`.
    add_odd_bytes(to, x): "sxtab16 {d}, {to}, {x}, ror #8"
}
instruction! {
    /// `a` times the low half of `b`, without the last 16 bits.
    multiply_low_half(a, b): "smulwb {d}, {a}, {b}"
}
instruction! {
    /// `a` times the high half of `b`, without the last 16 bits.
    multiply_high_half(a, b): "smulwt {d}, {a}, {b}"
}

/// The larger of each byte.
#[inline(always)]
pub(super) fn largest_bytes(a: u32, b: u32) -> u32 {
    let d;
    // SAFETY: it works on registers only.
    unsafe {
        asm!("ssub8 {d}, {a}, {b}", "sel {d}, {a}, {b}", d = out(reg) d, a = in(reg) a, b = in(reg) b,
            options(pure, nomem, nostack));
    }
    d
}

/// `value / 2^shift + addend`, the quotient rounded half up, and the nearest number of 8 bits to that. `shift` is 1 or
/// more.
#[inline(always)]
pub(super) fn finish(value: u32, shift: u32, addend: i32) -> u32 {
    let d;
    // The carry is the last bit that was shifted out.
    // SAFETY: it works on registers only.
    unsafe {
        asm!("asrs {d}, {d}, {shift}", "adc {d}, {d}, {addend}", "ssat {d}, #8, {d}",
            d = inlateout(reg) value => d, shift = in(reg) shift, addend = in(reg) addend,
            options(pure, nomem, nostack));
    }
    d
}

/// The low bytes of four words.
#[inline(always)]
pub(super) fn bytes([a, b, c, d]: [u32; 4]) -> u32 {
    let mut word = a;
    // SAFETY: it works on registers only.
    unsafe {
        asm!("bfi {word}, {b}, #8, #8", "bfi {word}, {c}, #16, #8", "bfi {word}, {d}, #24, #8",
            word = inout(reg) word, b = in(reg) b, c = in(reg) c, d = in(reg) d,
            options(pure, nomem, nostack, preserves_flags));
    }
    word
}

/// `value` in both halves.
#[inline(always)]
pub(super) const fn halves(value: i16) -> u32 {
    (value as u16 as u32) * 0x1_0001
}

/// The four bytes at an address of any alignment.
///
/// # Safety
///
/// They can be read.
#[inline(always)]
pub(super) unsafe fn load(from: *const i8) -> u32 {
    // SAFETY: promised by the caller.
    unsafe { from.cast::<u32>().read_unaligned() }
}

/// Writes the four bytes at an address of any alignment.
///
/// # Safety
///
/// They can be written.
#[inline(always)]
pub(super) unsafe fn store(to: *mut i8, word: u32) {
    // SAFETY: promised by the caller.
    unsafe { to.cast::<u32>().write_unaligned(word) }
}

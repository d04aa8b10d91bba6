//! IEEE 754 binary16 from its definition.

/// The value of a finite or infinite binary16 bit pattern.
fn value(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    let magnitude = match exponent {
        0 => libm::scalbn(fraction, -14),
        31 => f64::INFINITY,
        _ => libm::scalbn(1.0 + fraction, exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// Widens binary16 to `f32`, exact.
pub fn f16_to_f32(x: &[u16], y: &mut [f32]) {
    for (&x, y) in x.iter().zip(y) {
        *y = if x & 0x7fff > 0x7c00 { f32::NAN } else { value(x) as f32 };
    }
}

/// Narrows `f32` to the nearest binary16, ties to the even one.
pub fn f32_to_f16(x: &[f32], y: &mut [u16]) {
    for (&x, y) in x.iter().zip(y) {
        let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
        let magnitude = f64::from(x.abs());
        *y = sign
            | if x.is_nan() {
                0x7e00
            } else if magnitude >= 65520.0 {
                // Half a step above the largest finite value, 65504.
                0x7c00
            } else {
                nearest_finite(magnitude)
            };
    }
}

/// The finite non-negative pattern whose value is nearest to `magnitude`. Patterns are ordered as their values are.
fn nearest_finite(magnitude: f64) -> u16 {
    let (mut below, mut above) = (0u16, 0x7c00u16);
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        if value(middle) <= magnitude {
            below = middle;
        } else {
            above = middle;
        }
    }
    // The step above the largest finite value continues at the same width.
    let upper = if above == 0x7c00 { 65536.0 } else { value(above) };
    let (to_below, to_above) = (magnitude - value(below), upper - magnitude);
    if to_below < to_above || (to_below == to_above && below.is_multiple_of(2)) { below } else { above }
}

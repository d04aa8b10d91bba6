//! What a kernel does about a length that does not fit its shape.

/// `require!(condition, "message", …)`: ends the function with a panic or, without the feature `panics`, by returning
/// the default value: the kernel has then done nothing, and the program needs no code that panics.
macro_rules! require {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            #[cfg(feature = "panics")]
            panic!($($message)+);
            #[cfg(not(feature = "panics"))]
            {
                let _ = format_args!($($message)+);
                return Default::default();
            }
        }
    };
}
pub(crate) use require;

/// `len` elements from `start` on. None of them if not all are there, which no kernel asks for: an index would be
/// another panic.
#[inline(always)]
pub(crate) fn part<T>(all: &[T], start: usize, len: usize) -> &[T] {
    all.get(start..).and_then(|rest| rest.get(..len)).unwrap_or_default()
}

/// All elements from `start` on.
#[inline(always)]
pub(crate) fn rest<T>(all: &[T], start: usize) -> &[T] {
    all.get(start..).unwrap_or_default()
}

/// The same as [`part`], to be written.
#[inline(always)]
pub(crate) fn part_mut<T>(all: &mut [T], start: usize, len: usize) -> &mut [T] {
    all.get_mut(start..).and_then(|rest| rest.get_mut(..len)).unwrap_or_default()
}

//! `darts-core` for C: four sizes, a check, and an inference. The caller owns all memory; nothing is allocated, and no
//! call has a state besides its arguments, so that calls may run at the same time as long as what they write is not
//! shared.
#![no_std]

use core::panic::PanicInfo;
use core::ptr::NonNull;
use core::slice;

use darts_core::{Kernels, Network, RunError};

/// What a call came to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DartsStatus {
    /// It is done.
    Ok = 0,
    /// A pointer is null, or one to `float` is not aligned.
    Pointer = 1,
    /// The bytes are no model file that this library runs, or not at an address that is a multiple of 4.
    Model = 2,
    /// A length is not that of the network.
    Length = 3,
    /// The bytes of the model have changed since they were checked.
    ModelChanged = 4,
}

/// Words of a network; what is inside takes no more on any processor.
pub const DARTS_NETWORK_WORDS: usize = 64;

/// A network that has been checked, in memory of the caller's. It may be copied, and need not be released; it refers to
/// the bytes of the model file, which have to stay where they are.
#[repr(C)]
pub struct DartsNetwork {
    /// Not for the caller.
    pub opaque: [usize; DARTS_NETWORK_WORDS],
}

const _: () = assert!(
    size_of::<Network<'static>>() <= size_of::<DartsNetwork>()
        && align_of::<Network<'static>>() <= align_of::<DartsNetwork>()
);

/// Checks the `model_bytes` bytes of a model file and makes a network of them.
///
/// # Safety
///
/// `model` must point to that many bytes, which stay unchanged as long as the network is used, and `network` to room
/// for one.
#[no_mangle]
pub unsafe extern "C" fn darts_open(network: *mut DartsNetwork, model: *const u8, model_bytes: usize) -> DartsStatus {
    if !usable(network) {
        return DartsStatus::Pointer;
    }
    // SAFETY: promised by the caller.
    let Some(bytes) = (unsafe { read(model, model_bytes) }) else { return DartsStatus::Pointer };
    match Network::parse(bytes) {
        Ok(parsed) => {
            // SAFETY: there is room, as the caller promises and is asserted above, and the pointer is aligned.
            unsafe { network.cast::<Network<'static>>().write(parsed) };
            DartsStatus::Ok
        }
        Err(_) => DartsStatus::Model,
    }
}

/// Number of pixels of an image times its channels.
///
/// # Safety
///
/// `network` must be one that `darts_open` has made.
#[no_mangle]
pub unsafe extern "C" fn darts_input_len(network: *const DartsNetwork) -> usize {
    // SAFETY: promised by the caller.
    unsafe { opened(network) }.map_or(0, Network::input_len)
}

/// Number of floats of room for an image; 0 if the network reads pixels as integers of 8 bits.
///
/// # Safety
///
/// `network` must be one that `darts_open` has made.
#[no_mangle]
pub unsafe extern "C" fn darts_input_buffer_len(network: *const DartsNetwork) -> usize {
    // SAFETY: promised by the caller.
    unsafe { opened(network) }.map_or(0, Network::input_buffer_len)
}

/// Number of floats of the workspace.
///
/// # Safety
///
/// `network` must be one that `darts_open` has made.
#[no_mangle]
pub unsafe extern "C" fn darts_workspace_len(network: *const DartsNetwork) -> usize {
    // SAFETY: promised by the caller.
    unsafe { opened(network) }.map_or(0, |network| network.required_bytes() / size_of::<f32>())
}

/// Number of logits.
///
/// # Safety
///
/// `network` must be one that `darts_open` has made.
#[no_mangle]
pub unsafe extern "C" fn darts_classes(network: *const DartsNetwork) -> usize {
    // SAFETY: promised by the caller.
    unsafe { opened(network) }.map_or(0, Network::classes)
}

/// Computes the logits of an image of pixels of a byte each, row by row, the channels of a pixel side by side.
/// Normalisation is part of it. The lengths are numbers of elements, as the functions above tell them; the workspace
/// may be longer. `input` may be null where its length is 0. What is in `input` and `workspace` is overwritten.
///
/// # Safety
///
/// `network` must be one that `darts_open` has made, each pointer must point to as many elements as its length says,
/// and what is written may not overlap anything else.
#[no_mangle]
pub unsafe extern "C" fn darts_classify(
    network: *const DartsNetwork,
    pixels: *const u8,
    pixels_len: usize,
    input: *mut f32,
    input_len: usize,
    workspace: *mut f32,
    workspace_len: usize,
    logits: *mut f32,
    logits_len: usize,
) -> DartsStatus {
    // SAFETY: promised by the caller.
    let Some(network) = (unsafe { opened(network) }) else { return DartsStatus::Pointer };
    // SAFETY: promised by the caller.
    let Some(pixels) = (unsafe { read(pixels, pixels_len) }) else { return DartsStatus::Pointer };
    // SAFETY: promised by the caller.
    let Some(input) = (unsafe { written(input, input_len) }) else { return DartsStatus::Pointer };
    // SAFETY: promised by the caller.
    let Some(workspace) = (unsafe { written(workspace, workspace_len) }) else { return DartsStatus::Pointer };
    // SAFETY: promised by the caller.
    let Some(logits) = (unsafe { written(logits, logits_len) }) else { return DartsStatus::Pointer };
    match network.run_pixels(Kernels::detect(), pixels, input, workspace, logits) {
        Ok(()) => DartsStatus::Ok,
        Err(RunError::ModelChanged) => DartsStatus::ModelChanged,
        Err(_) => DartsStatus::Length,
    }
}

/// Whether a pointer can be one to a `T`.
fn usable<T>(pointer: *const T) -> bool {
    !pointer.is_null() && pointer.is_aligned()
}

/// # Safety
///
/// `network` must be one that [`darts_open`] has made, or null.
unsafe fn opened<'n>(network: *const DartsNetwork) -> Option<&'n Network<'static>> {
    // SAFETY: `darts_open` has written one there, at an aligned address.
    usable(network).then(|| unsafe { &*network.cast() })
}

/// # Safety
///
/// `pointer` must be null or point to `len` elements that nobody writes to.
unsafe fn read<'s, T>(pointer: *const T, len: usize) -> Option<&'s [T]> {
    // SAFETY: promised by the caller; no object has more bytes than `isize` can count.
    (usable(pointer) && fits::<T>(len)).then(|| unsafe { slice::from_raw_parts(pointer, len) })
}

/// # Safety
///
/// `pointer` must be null or point to `len` elements that nobody else reads or writes.
unsafe fn written<'s, T>(pointer: *mut T, len: usize) -> Option<&'s mut [T]> {
    let pointer = if len == 0 { NonNull::dangling().as_ptr() } else { pointer };
    // SAFETY: as above.
    (usable(pointer) && fits::<T>(len)).then(|| unsafe { slice::from_raw_parts_mut(pointer, len) })
}

fn fits<T>(len: usize) -> bool {
    len <= isize::MAX as usize / size_of::<T>()
}

/// A library needs one. Nothing in `darts-core` panics (`scripts/no-panic`), so that the linker leaves it out.
#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

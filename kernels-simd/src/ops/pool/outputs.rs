//! What is done with the values of pools.

use crate::arch::Simd;
use crate::ops::lanes::{MAX_LANES, load, store};
use crate::ops::separable::NormSums;
use crate::shape::PoolShape;

/// What is done with the values of `N` pools, one register of channels after the other.
///
/// # Safety
///
/// All methods: the channels exist, and the processor has the instruction set. An output that reads the image, too, has
/// one of the shape of the output.
pub(super) trait Output<const N: usize> {
    /// Whether to ask for the rows of blocks to come. States come from memory: the pools of a search at 8 channels take
    /// 15 % less (AMD EPYC, Zen 5, `darts bench step`, 2026-11-29).
    const ASKS: bool = true;
    /// What is kept in registers while values of the same channels pass by.
    type Registers<S: Simd>;
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> Self::Registers<S>;
    /// Takes the values whose element of the output is `at`.
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        registers: &mut Self::Registers<S>,
        chain: usize,
        at: usize,
        values: [S::Vector; N],
        lanes: usize,
    );
    unsafe fn end<S: Simd>(&self, registers: Self::Registers<S>, channel: usize, lanes: usize);
}

/// `y = z`.
pub(super) struct Store {
    pub y: *mut f32,
}

impl Output<1> for Store {
    const ASKS: bool = false;
    type Registers<S: Simd> = ();

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, _channel: usize, _lanes: usize) {}

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        (): &mut (),
        _chain: usize,
        at: usize,
        [value]: [S::Vector; 1],
        lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe { store::<S, PARTIAL>(self.y.add(at), value, lanes) }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, (): (), _channel: usize, _lanes: usize) {}
}

/// `y += Σ scale·z`, with `IMAGE` and `image·x`.
pub(super) struct Mix<const N: usize, const IMAGE: bool> {
    /// For each pool.
    pub scales: [*const f32; N],
    /// Of no account without `IMAGE`, as `x`.
    pub image: f32,
    pub x: *const f32,
    pub y: *mut f32,
}

impl<const N: usize, const IMAGE: bool> Output<N> for Mix<N, IMAGE> {
    /// The factors of the pools and of the image.
    type Registers<S: Simd> = ([S::Vector; N], S::Vector);

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> ([S::Vector; N], S::Vector) {
        // SAFETY: promised by the caller.
        unsafe {
            let image = S::splat(self.image);
            let mut scales = [image; N];
            for n in 0..N {
                scales[n] = load::<S, PARTIAL>(self.scales[n].add(channel), lanes);
            }
            (scales, image)
        }
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        (scales, image): &mut ([S::Vector; N], S::Vector),
        _chain: usize,
        at: usize,
        values: [S::Vector; N],
        lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let y = self.y.add(at);
            let mut sum = load::<S, PARTIAL>(y, lanes);
            if IMAGE {
                sum = S::mul_add(*image, load::<S, PARTIAL>(self.x.add(at), lanes), sum);
            }
            for n in 0..N {
                sum = S::mul_add(scales[n], values[n], sum);
            }
            store::<S, PARTIAL>(y, sum, lanes);
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, _factors: ([S::Vector; N], S::Vector), _channel: usize, _lanes: usize) {}
}

/// Partial sums kept side by side, so that additions do not wait for each other.
const CHAINS: usize = 2;

#[inline(always)]
unsafe fn add_up<S: Simd>([a, b]: [S::Vector; CHAINS]) -> S::Vector {
    // SAFETY: the caller promises the instruction set.
    unsafe { S::add(a, b) }
}

/// Adds `scale` times the first `lanes` lanes.
#[inline(always)]
unsafe fn add_lanes<S: Simd>(scale: f64, sum: S::Vector, target: *mut f64, lanes: usize) {
    let mut values = [0.0; MAX_LANES];
    // SAFETY: promised by the caller.
    unsafe {
        S::store(values.as_mut_ptr(), sum);
        for lane in 0..lanes {
            *target.add(lane) += scale * f64::from(values[lane]);
        }
    }
}

/// `Σ z` and `Σ z²`.
pub(super) struct SumMoments {
    pub sum: *mut f64,
    pub sum_of_squares: *mut f64,
}

impl Output<1> for SumMoments {
    /// Partial sums of each, in the registers of `f32` over the pixels of a block.
    type Registers<S: Simd> = [[S::Vector; CHAINS]; 2];

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, _channel: usize, _lanes: usize) -> [[S::Vector; CHAINS]; 2] {
        // SAFETY: promised by the caller.
        unsafe { [[S::splat(0.0); CHAINS]; 2] }
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        [sums, squares]: &mut [[S::Vector; CHAINS]; 2],
        chain: usize,
        _at: usize,
        [value]: [S::Vector; 1],
        _lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let chain = chain % CHAINS;
            sums[chain] = S::add(sums[chain], value);
            squares[chain] = S::mul_add(value, value, squares[chain]);
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, [sums, squares]: [[S::Vector; CHAINS]; 2], channel: usize, lanes: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            add_lanes::<S>(1.0, add_up::<S>(sums), self.sum.add(channel), lanes);
            add_lanes::<S>(1.0, add_up::<S>(squares), self.sum_of_squares.add(channel), lanes);
        }
    }
}

/// The sums of a norm: `scale·Σ dy` and `scale·Σ dy·(z − mean)`.
pub(super) struct Norm {
    mean: *const f32,
    scale: f64,
    sum: *mut f64,
    dot: *mut f64,
}

impl Norm {
    /// Panics with `name` when a length is not that of the channels.
    pub fn new(name: &str, NormSums { mean, scale, sum, dot }: NormSums<'_>, shape: PoolShape) -> Self {
        let (lengths, channels) = ([mean.len(), sum.len(), dot.len()], shape.input.channels);
        assert_eq!(lengths, [channels; 3], "{name}: mean and sums of {shape:?}");
        Self { mean: mean.as_ptr(), scale: scale.into(), sum: sum.as_mut_ptr(), dot: dot.as_mut_ptr() }
    }
}

/// The sums of the norm behind each pool, with `IMAGE` and `Σ dy·x`.
pub(super) struct Reduce<const N: usize, const IMAGE: bool> {
    pub dy: *const f32,
    pub norms: [Norm; N],
    /// Of no account without `IMAGE`, as `image`.
    pub x: *const f32,
    pub image: *mut f64,
}

/// Partial sums of one register of channels, in `f32` over the pixels of a block.
pub(super) struct Sums<S: Simd, const N: usize> {
    means: [S::Vector; N],
    /// `Σ dy`.
    gradient: [S::Vector; CHAINS],
    /// `Σ dy·(z − mean)` of each pool.
    dots: [[S::Vector; CHAINS]; N],
    /// `Σ dy·x`.
    image: [S::Vector; CHAINS],
}

impl<const N: usize, const IMAGE: bool> Output<N> for Reduce<N, IMAGE> {
    type Registers<S: Simd> = Sums<S, N>;

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> Sums<S, N> {
        // SAFETY: promised by the caller.
        unsafe {
            let zeros = [S::splat(0.0); CHAINS];
            let mut means = [zeros[0]; N];
            for n in 0..N {
                means[n] = load::<S, PARTIAL>(self.norms[n].mean.add(channel), lanes);
            }
            Sums { means, gradient: zeros, dots: [zeros; N], image: zeros }
        }
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        sums: &mut Sums<S, N>,
        chain: usize,
        at: usize,
        values: [S::Vector; N],
        lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let chain = chain % CHAINS;
            let dy = load::<S, PARTIAL>(self.dy.add(at), lanes);
            sums.gradient[chain] = S::add(sums.gradient[chain], dy);
            for n in 0..N {
                let centred = S::sub(values[n], sums.means[n]);
                sums.dots[n][chain] = S::mul_add(dy, centred, sums.dots[n][chain]);
            }
            if IMAGE {
                let x = load::<S, PARTIAL>(self.x.add(at), lanes);
                sums.image[chain] = S::mul_add(dy, x, sums.image[chain]);
            }
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, sums: Sums<S, N>, channel: usize, lanes: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            let gradient = add_up::<S>(sums.gradient);
            for (norm, dot) in self.norms.iter().zip(sums.dots) {
                add_lanes::<S>(norm.scale, gradient, norm.sum.add(channel), lanes);
                add_lanes::<S>(norm.scale, add_up::<S>(dot), norm.dot.add(channel), lanes);
            }
            if IMAGE {
                // Lanes that are no channels hold zeros.
                *self.image += f64::from(S::reduce_add(add_up::<S>(sums.image)));
            }
        }
    }
}

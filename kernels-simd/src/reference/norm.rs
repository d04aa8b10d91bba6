//! The passes over the data that batch normalisation makes.

use super::Real;

/// Adds `Σ_p z[p, c]` to `sum[c]` and `Σ_p z[p, c]²` to `sum_of_squares[c]`; `z` is `[P, C]`.
pub fn channel_moments<T: Real>(z: &[T], channels: usize, sum: &mut [f64], sum_of_squares: &mut [f64]) {
    for pixel in z.chunks_exact(channels) {
        for c in 0..channels {
            sum[c] += pixel[c].get();
            sum_of_squares[c] += pixel[c].get() * pixel[c].get();
        }
    }
}

/// Adds `scale·Σ_p dy[p, c]` to `sum[c]` and `scale·Σ_p dy[p, c]·(z[p, c] − mean[c])` to `dot[c]`.
pub fn norm_backward_reduce<T: Real>(dy: &[T], z: &[T], mean: &[T], scale: T, sum: &mut [f64], dot: &mut [f64]) {
    let channels = mean.len();
    for (dy, z) in dy.chunks_exact(channels).zip(z.chunks_exact(channels)) {
        for c in 0..channels {
            sum[c] += scale.get() * dy[c].get();
            dot[c] += scale.get() * dy[c].get() * (z[c].get() - mean[c].get());
        }
    }
}

/// [`norm_backward_reduce`] of each of `terms`: `z`, `mean`, `scale`, `sum` and `dot`.
pub fn norm_backward_reduce_terms<'a, T: Real + 'a>(
    dy: &[T],
    terms: impl IntoIterator<Item = (&'a [T], &'a [T], T, &'a mut [f64], &'a mut [f64])>,
) {
    for (z, mean, scale, sum, dot) in terms {
        norm_backward_reduce(dy, z, mean, scale, sum, dot);
    }
}

/// `dz[p, c] = scale·p[c]·dy[p, c] + q[c]·(z[p, c] − mean[c]) + r[c]`; `dz` is overwritten.
#[allow(clippy::too_many_arguments)]
pub fn norm_backward_apply<T: Real>(dy: &[T], z: &[T], mean: &[T], p: &[T], q: &[T], r: &[T], scale: T, dz: &mut [T]) {
    let channels = mean.len();
    for (index, dz) in dz.iter_mut().enumerate() {
        let c = index % channels;
        let centred = z[index].get() - mean[c].get();
        *dz = T::from_f64(scale.get() * p[c].get() * dy[index].get() + q[c].get() * centred + r[c].get());
    }
}

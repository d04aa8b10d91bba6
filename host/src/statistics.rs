//! Mean and spread of a few measurements, and the difference between two groups of them.

use serde::{Deserialize, Serialize};

/// Mean and spread of a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// How many there are.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, with `count - 1`; `None` of a single one.
    pub deviation: Option<f64>,
    /// Standard error of the mean, `deviation / √count`.
    pub standard_error: Option<f64>,
}

impl Statistics {
    /// Those of `values`; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        Some(Self { count, mean, deviation, standard_error: deviation.map(|value| value / (count as f64).sqrt()) })
    }
}

/// By how much one measurement lies above a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The measurement less the mean of the group: the mean of its differences from each of them.
    pub difference: f64,
    /// Standard error of that mean. The one measurement has a spread too, which is not in it.
    pub standard_error: Option<f64>,
    /// Members of the group that lie below the measurement.
    pub better_than: usize,
    /// Members of the group.
    pub of: usize,
}

impl Difference {
    /// `value` against `group`; `None` where that is empty.
    pub fn of(value: f64, group: &[f64]) -> Option<Self> {
        let differences: Vec<f64> = group.iter().map(|other| value - other).collect();
        let statistics = Statistics::of(&differences)?;
        Some(Self {
            difference: statistics.mean,
            standard_error: statistics.standard_error,
            better_than: differences.iter().filter(|&&difference| difference > 0.0).count(),
            of: group.len(),
        })
    }
}

/// By how much the mean of a group lies above that of another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DifferenceOfMeans {
    /// Mean less mean.
    pub difference: f64,
    /// Its standard error, with the spread of either group (Welch); `None` where one of them has a single member.
    pub standard_error: Option<f64>,
}

impl DifferenceOfMeans {
    /// `one` less `other`.
    pub fn of(one: &Statistics, other: &Statistics) -> Self {
        let errors = one.standard_error.zip(other.standard_error);
        Self { difference: one.mean - other.mean, standard_error: errors.map(|(one, other)| one.hypot(other)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_few_numbers() {
        assert_eq!(Statistics::of(&[]), None);
        let one = Statistics { count: 1, mean: 0.5, deviation: None, standard_error: None };
        assert_eq!(Statistics::of(&[0.5]), Some(one));
        let four = Statistics::of(&[2.0, 4.0, 4.0, 6.0]).expect("there are some");
        assert_eq!((four.count, four.mean), (4, 4.0));
        let deviation = (8.0_f64 / 3.0).sqrt();
        assert_eq!((four.deviation, four.standard_error), (Some(deviation), Some(deviation / 2.0)));
    }

    #[test]
    fn of_one_from_a_group() {
        assert_eq!(Difference::of(1.0, &[]), None);
        let difference = Difference::of(5.0, &[2.0, 4.0, 4.0, 6.0]).expect("there is a group");
        assert_eq!((difference.difference, difference.better_than, difference.of), (1.0, 3, 4));
        assert_eq!(difference.standard_error, Some((8.0_f64 / 3.0).sqrt() / 2.0));
    }

    #[test]
    fn of_two_means() {
        let group = |standard_error| Statistics { count: 9, mean: 7.0, deviation: None, standard_error };
        let other = Statistics { mean: 5.0, ..group(Some(4.0)) };
        let expected = DifferenceOfMeans { difference: 2.0, standard_error: Some(5.0) };
        assert_eq!(DifferenceOfMeans::of(&group(Some(3.0)), &other), expected);
        assert_eq!(DifferenceOfMeans::of(&group(None), &other).standard_error, None);
    }
}

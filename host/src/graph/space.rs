//! The search space: the operations that an edge of the supernet chooses from.

use std::str::FromStr;

use darts_core::Primitive;
use serde::{Deserialize, Serialize};

const COLUMNS: usize = Primitive::SEARCH.len();

/// Some of [`Primitive::SEARCH`], with at least one other than `none`, the same for every edge.
///
/// α keeps its eight columns in any space. What a space leaves out has no term in the supernet, and its mixing weights
/// and gradients are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Primitive>", into = "Vec<Primitive>")]
pub struct Space {
    allowed: [bool; COLUMNS],
}

/// A list of operations that makes no search space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// An operation that no supernet has.
    #[error("{primitive} is not searched over; the operations of a search are {}", names(&Space::DARTS))]
    NotSearched {
        /// The operation.
        primitive: Primitive,
    },
    /// A name of nothing.
    #[error("'{name}' is no operation; the operations of a search are {}", names(&Space::DARTS))]
    Unknown {
        /// The name.
        name: String,
    },
    /// Nothing that a derived cell could hold.
    #[error("an edge needs an operation other than none to choose from")]
    Empty,
}

impl Space {
    /// All eight operations, as in DARTS.
    pub const DARTS: Self = Self { allowed: [true; COLUMNS] };

    /// S2 of RobustDARTS (arXiv 1909.09656, section 3): `skip_connect` and `sep_conv_3x3`.
    pub const S2: Self = Self { allowed: [false, false, false, true, true, false, false, false] };

    /// S3 of RobustDARTS: S2 and `none`.
    pub const S3: Self = Self { allowed: [true, false, false, true, true, false, false, false] };

    /// The space of these operations, in any order.
    ///
    /// # Errors
    /// If one of them is not in [`Primitive::SEARCH`], or none but `none` is there.
    pub fn new(primitives: &[Primitive]) -> Result<Self, SpaceError> {
        let searched = |primitive: &&Primitive| Primitive::SEARCH.contains(primitive);
        if let Some(&primitive) = primitives.iter().find(|primitive| !searched(primitive)) {
            return Err(SpaceError::NotSearched { primitive });
        }
        if primitives.iter().all(|&primitive| primitive == Primitive::None) {
            return Err(SpaceError::Empty);
        }
        Ok(Self { allowed: Primitive::SEARCH.map(|primitive| primitives.contains(&primitive)) })
    }

    /// Whether an edge may be the operation of each column of α.
    pub fn allowed(&self) -> &[bool; COLUMNS] {
        &self.allowed
    }

    /// Whether an edge may be `primitive`.
    pub fn contains(&self, primitive: Primitive) -> bool {
        self.primitives().any(|allowed| allowed == primitive)
    }

    /// The operations, in the order of α's columns.
    pub fn primitives(&self) -> impl Iterator<Item = Primitive> + use<> {
        Primitive::SEARCH.into_iter().zip(self.allowed).filter_map(|(primitive, allowed)| allowed.then_some(primitive))
    }

    /// Whether it is the space of DARTS.
    pub fn is_darts(&self) -> bool {
        *self == Self::DARTS
    }
}

impl Default for Space {
    fn default() -> Self {
        Self::DARTS
    }
}

impl TryFrom<Vec<Primitive>> for Space {
    type Error = SpaceError;

    fn try_from(primitives: Vec<Primitive>) -> Result<Self, SpaceError> {
        Self::new(&primitives)
    }
}

impl From<Space> for Vec<Primitive> {
    fn from(space: Space) -> Self {
        space.primitives().collect()
    }
}

/// A list of names with commas between them.
impl FromStr for Space {
    type Err = SpaceError;

    fn from_str(text: &str) -> Result<Self, SpaceError> {
        let primitive = |name: &str| name.trim().parse().map_err(|_| SpaceError::Unknown { name: name.to_owned() });
        let primitives: Vec<Primitive> = text.split(',').map(primitive).collect::<Result<_, _>>()?;
        Self::new(&primitives)
    }
}

fn names(space: &Space) -> String {
    space.primitives().map(Primitive::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_operations() {
        assert_eq!("sep_conv_3x3,skip_connect".parse(), Ok(Space::S2));
        assert_eq!("none, skip_connect, sep_conv_3x3".parse(), Ok(Space::S3));
        assert_eq!(Space::new(&Primitive::SEARCH), Ok(Space::DARTS));
        assert_eq!(Space::new(&[]), Err(SpaceError::Empty));
        assert_eq!("none".parse::<Space>(), Err(SpaceError::Empty));
        assert_eq!("sep_conv_7x7".parse::<Space>(), Err(SpaceError::NotSearched { primitive: Primitive::SepConv7x7 }));
        for text in ["", "skip_connect,", "noise"] {
            let error = text.parse::<Space>().expect_err("it is no list of operations").to_string();
            assert!(error.contains("skip_connect, sep_conv_3x3"), "{error}");
        }
    }

    #[test]
    fn a_space_survives_as_the_list_of_its_operations() {
        let json = serde_json::to_string(&Space::S3).expect("it has a JSON form");
        assert_eq!(json, r#"["none","skip_connect","sep_conv_3x3"]"#);
        assert_eq!(serde_json::from_str::<Space>(&json).expect("its own form"), Space::S3);
        assert!(serde_json::from_str::<Space>(r#"["none"]"#).is_err());
    }
}

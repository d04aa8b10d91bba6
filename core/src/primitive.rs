//! The operations that an edge of a cell can be.

use core::fmt;
use core::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// An operation between two states of a cell.
///
/// Texts name it by [`name`](Self::name); files by [`id`](Self::id), which never changes once given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Primitive {
    /// `none`: zeros. Part of the search, never of a genotype that the search derives.
    None = 0,
    /// `max_pool_3x3`: maximum over 3×3, padding −∞.
    MaxPool3x3 = 1,
    /// `avg_pool_3x3`: mean over the pixels of a 3×3 window that lie inside the image.
    AvgPool3x3 = 2,
    /// `skip_connect`: identity at stride 1, factorized reduction at stride 2.
    SkipConnect = 3,
    /// `sep_conv_3x3`: twice ReLU, depthwise 3×3, pointwise, BatchNorm; only the first round is strided.
    SepConv3x3 = 4,
    /// `sep_conv_5x5`: as `sep_conv_3x3` with 5×5 filters.
    SepConv5x5 = 5,
    /// `dil_conv_3x3`: ReLU, depthwise 3×3 of dilation 2, pointwise, BatchNorm.
    DilConv3x3 = 6,
    /// `dil_conv_5x5`: as `dil_conv_3x3` with 5×5 filters.
    DilConv5x5 = 7,
    /// `sep_conv_7x7`: as `sep_conv_3x3` with 7×7 filters. Not searched over.
    SepConv7x7 = 8,
    /// `conv_7x1_1x7`: ReLU, dense 1×7, dense 7×1, BatchNorm. Not searched over.
    Conv7x1_1x7 = 9,
}

impl Primitive {
    /// The primitives that are searched over, in the order of α's columns.
    pub const SEARCH: [Self; 8] = [
        Self::None,
        Self::MaxPool3x3,
        Self::AvgPool3x3,
        Self::SkipConnect,
        Self::SepConv3x3,
        Self::SepConv5x5,
        Self::DilConv3x3,
        Self::DilConv5x5,
    ];

    /// All primitives, in the order of their ids.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::MaxPool3x3,
        Self::AvgPool3x3,
        Self::SkipConnect,
        Self::SepConv3x3,
        Self::SepConv5x5,
        Self::DilConv3x3,
        Self::DilConv5x5,
        Self::SepConv7x7,
        Self::Conv7x1_1x7,
    ];

    /// The name used in genotype texts, e.g. `sep_conv_3x3`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MaxPool3x3 => "max_pool_3x3",
            Self::AvgPool3x3 => "avg_pool_3x3",
            Self::SkipConnect => "skip_connect",
            Self::SepConv3x3 => "sep_conv_3x3",
            Self::SepConv5x5 => "sep_conv_5x5",
            Self::DilConv3x3 => "dil_conv_3x3",
            Self::DilConv5x5 => "dil_conv_5x5",
            Self::SepConv7x7 => "sep_conv_7x7",
            Self::Conv7x1_1x7 => "conv_7x1_1x7",
        }
    }

    /// The number that stands for the primitive in files.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The primitive of an id; `None` if there is none.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text is no primitive's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPrimitive;

impl fmt::Display for UnknownPrimitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown operation; known are")?;
        for (i, primitive) in Primitive::ALL.iter().enumerate() {
            write!(f, "{} {primitive}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownPrimitive {}

impl FromStr for Primitive {
    type Err = UnknownPrimitive;

    fn from_str(name: &str) -> Result<Self, UnknownPrimitive> {
        Self::ALL.into_iter().find(|primitive| primitive.name() == name).ok_or(UnknownPrimitive)
    }
}

impl Serialize for Primitive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Primitive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Primitive;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an operation, e.g. sep_conv_3x3")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Primitive, E> {
                name.parse().map_err(|_| E::invalid_value(Unexpected::Str(name), &self))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

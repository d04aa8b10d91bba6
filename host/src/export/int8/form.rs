//! What each step of a network computes on.

use darts_core::{Place, Step};
use darts_kernels_simd::{ImageShape, Padding};

use crate::export::lower::{Draft, Layer};
use crate::export::sequence::Sequence;
use crate::export::{ExportError, Precision};
use crate::graph::Graph;

/// Layers of a network on 8-bit integers that are kept in floating point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatLayers {
    /// A layer, or what the names of several begin with up to a dot: `classifier`, `cells.3`, `cells.3._ops.5`. The
    /// name of a parameter stands for its layer.
    pub name: String,
    /// How their weights are stored; their images are `f32`.
    pub precision: Precision,
}

/// What a step computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Int8,
    Float(Precision),
}

/// The form of each step of `sequence`; of several that name a layer the last one counts.
///
/// # Errors
/// If there is no layer of a name.
pub(super) fn forms(graph: &Graph, sequence: &Sequence, float: &[FloatLayers]) -> Result<Vec<Form>, ExportError> {
    let layers: Vec<Layer> = sequence.drafts.iter().map(|draft| draft.layer).collect();
    let mut forms = vec![Form::Int8; layers.len()];
    for FloatLayers { name, precision } in float {
        let mut found = false;
        for (form, &layer) in forms.iter_mut().zip(&layers) {
            if is_called(graph, layer, name) {
                (*form, found) = (Form::Float(*precision), true);
            }
        }
        if !found {
            return Err(ExportError::Layer { name: name.clone() });
        }
    }
    Ok(forms)
}

/// Whether `name` stands for `layer`: begins its name, or that of one of its parameters.
fn is_called(graph: &Graph, layer: Layer, name: &str) -> bool {
    let begins = |whole: &str| whole.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let own = layer.name(graph);
    let parameters = || {
        let inside = |parameter: &str| parameter.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'));
        graph.parameters.iter().filter(move |parameter| inside(&parameter.name))
    };
    begins(own) || name.starts_with(own) && parameters().any(|parameter| begins(&parameter.name))
}

/// Which buffers hold `f32`: those that only steps in floating point write.
pub(super) fn float_buffers(sequence: &Sequence, forms: &[Form]) -> Vec<bool> {
    let mut float = vec![true; sequence.buffers.len()];
    for (draft, form) in sequence.drafts.iter().zip(forms) {
        if let (Some(target), Form::Int8) = (draft.target, form) {
            float[target] = false;
        }
    }
    float
}

/// Whether a step on `f32` computes nothing: it copies or adds an image.
pub(super) fn is_copy(step: &Step) -> bool {
    matches!(step, Step::Add { .. } | Step::Prelude { padding: Padding::NONE, relu: false, .. })
}

/// The image that a step on `f32` reads.
pub(super) fn read_by(step: &Step) -> ImageShape {
    match *step {
        Step::Prelude { shape, .. }
        | Step::GlobalAvgPool { shape, .. }
        | Step::Add { shape, .. }
        | Step::Zero { shape, .. } => shape,
        Step::Depthwise { shape, .. } => shape.input,
        Step::Separable { shape, .. } => shape.input,
        Step::Dense { shape, .. } => shape.input,
        Step::MaxPool { shape, .. } | Step::AvgPool { shape, .. } => shape.input,
        Step::Int8(_) => unreachable!("a step on f32"),
    }
}

/// The image that a step on `f32` writes to, a dense convolution perhaps only some channels.
pub(super) fn written_by(step: &Step) -> ImageShape {
    match *step {
        Step::Prelude { shape, padding, .. } => shape.padded(padding),
        Step::GlobalAvgPool { shape, .. } => ImageShape::new(1, 1, shape.channels),
        Step::Add { shape, .. } | Step::Zero { shape, .. } => shape,
        Step::Depthwise { shape, .. } => shape.output(),
        Step::Separable { shape, .. } => shape.output(),
        Step::Dense { shape, .. } => ImageShape { channels: shape.output_pixel_stride, ..shape.output() },
        Step::MaxPool { shape, .. } | Step::AvgPool { shape, .. } => shape.output(),
        Step::Int8(_) => unreachable!("a step on f32"),
    }
}

/// A place in an image of `f32`, in that of 8-bit integers.
pub(super) fn narrowed(place: Place) -> Place {
    match place {
        Place::Workspace(byte) => Place::Workspace(byte / 4),
        Place::External => Place::External,
    }
}

/// How many of `drafts` are one dense layer's, to one image.
pub(super) fn same_layer(drafts: &[Draft]) -> usize {
    let first = &drafts[0];
    let same = |draft: &&Draft| {
        matches!(draft.step, Step::Dense { .. }) && (draft.layer, draft.target) == (first.layer, first.target)
    };
    1 + drafts[1..].iter().take_while(same).count()
}

#[cfg(test)]
mod tests {
    use darts_core::Genotype;

    use super::*;
    use crate::export::plan::planned;
    use crate::graph::derived::{DerivedConfig, NetworkKind, derived};

    #[test]
    fn names_stand_for_layers_and_what_is_in_them() {
        let config = DerivedConfig {
            kind: NetworkKind::Cifar,
            input: [3, 8, 8],
            classes: 10,
            channels: 4,
            layers: 3,
            auxiliary: false,
        };
        let graph = derived(&Genotype::builtin("DARTS_V2").unwrap(), &config).unwrap();
        let (_, sequence) = planned(&graph, Precision::F32).unwrap();
        let named = |name: &str| {
            let float = FloatLayers { name: name.to_owned(), precision: Precision::F16 };
            let forms = forms(&graph, &sequence, &[float])?;
            let names = sequence.drafts.iter().zip(forms).filter(|(_, form)| *form != Form::Int8);
            let mut names: Vec<_> = names.map(|(draft, _)| draft.layer.name(&graph)).collect();
            names.sort_unstable();
            names.dedup();
            Ok::<_, ExportError>(names.len())
        };
        assert_eq!(named("classifier").unwrap(), 1);
        assert_eq!(named("stem.0").unwrap(), 1);
        assert_eq!(named("cells.1._ops.3").unwrap(), 1);
        assert_eq!(named("cells.1.preprocess0.op.1.weight").unwrap(), named("cells.1.preprocess0").unwrap());
        assert!(named("cells.1").unwrap() > 4);
        assert!(named("cells").unwrap() > named("cells.1").unwrap());
        for missing in ["cell", "cells.11", "cells.1._ops.33", "cells.1.preprocess0.op.1.weigh", "", "classifier.x"] {
            assert!(matches!(named(missing), Err(ExportError::Layer { name }) if name == missing), "{missing}");
        }
    }
}

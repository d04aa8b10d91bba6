//! The genotype section: for each of the two cells the number of edges, the length of the concat list, the edges as
//! `(operation, source)`, and the concat list, all single bytes.

use super::{ModelError, Section};
use crate::genotype::{CellError, CellGenotype, CellKind, Edge, Genotype, GenotypeError};
use crate::primitive::Primitive;

fn cells(genotype: &Genotype) -> [&CellGenotype; 2] {
    [&genotype.normal, &genotype.reduce]
}

/// Bytes of the section.
pub(super) fn encoded_len(genotype: &Genotype) -> usize {
    bytes(genotype).count()
}

/// The section; both lists have fewer than 256 entries.
pub(super) fn bytes(genotype: &Genotype) -> impl Iterator<Item = u8> {
    cells(genotype).into_iter().flat_map(|cell| {
        [cell.edges.len() as u8, cell.concat.len() as u8]
            .into_iter()
            .chain(cell.edges.iter().flat_map(|edge| [edge.primitive.id(), edge.source]))
            .chain(cell.concat.iter().copied())
    })
}

pub(super) fn read(section: &[u8]) -> Result<Genotype, ModelError> {
    let (normal, rest) = cell(section, CellKind::Normal)?;
    let (reduce, rest) = cell(rest, CellKind::Reduce)?;
    if !rest.is_empty() {
        return Err(ModelError::SectionLength(Section::Genotype));
    }
    Genotype::new(normal, reduce).map_err(ModelError::Genotype)
}

fn cell(bytes: &[u8], kind: CellKind) -> Result<(CellGenotype, &[u8]), ModelError> {
    let short = ModelError::SectionLength(Section::Genotype);
    let invalid = |error| ModelError::Genotype(GenotypeError::Cell { cell: kind, error });
    let Some((&[edge_count, concat_count], rest)) = bytes.split_first_chunk() else { return Err(short) };
    let (pairs, rest) = rest.split_at_checked(2 * usize::from(edge_count)).ok_or(short.clone())?;
    let (concat, rest) = rest.split_at_checked(concat_count.into()).ok_or(short)?;
    let mut edges = heapless::Vec::new();
    for &[id, source] in pairs.as_chunks().0 {
        let primitive = Primitive::from_id(id).ok_or(ModelError::UnknownPrimitive { id })?;
        edges.push(Edge { primitive, source }).map_err(|_| invalid(CellError::TooManyNodes))?;
    }
    let concat = heapless::Vec::from_slice(concat).map_err(|_| invalid(CellError::ConcatTooLong))?;
    Ok((CellGenotype { edges, concat }, rest))
}

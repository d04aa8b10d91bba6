//! Taking a model file apart and checking it.

use super::{
    ALIGNMENT, CHECKSUM_AT, ENTRY_BYTES, HEADER_BYTES, MAGIC, Metadata, ModelError, SECTION_ALIGNMENT, Section,
    VERSION, checksum, genotype,
};
use crate::execute::MAX_PARTS;
use crate::genotype::Genotype;
use crate::plan::{Int8Step, Limits, Place, STEP_BYTES, Step, StepError, align4, continues};

/// The content of a file that has passed every check.
#[derive(Clone, Debug)]
pub(crate) struct Sections<'a> {
    pub(crate) metadata: Metadata<'a>,
    pub(crate) genotype: Genotype,
    pub(crate) plan: &'a [u8],
    pub(crate) weights: &'a [u8],
    pub(crate) workspace_bytes: usize,
}

/// The steps of a plan section that has been checked.
pub(crate) fn steps(plan: &[u8]) -> impl Iterator<Item = Result<Step, StepError>> + Clone {
    plan.as_chunks::<STEP_BYTES>().0.iter().map(Step::decode)
}

impl<'a> Sections<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let header = Header::read(bytes)?;
        let [metadata, genotype, plan, weights] = header.sections(bytes)?;
        let metadata = Metadata::read(metadata)?;
        let genotype = genotype::read(genotype)?;
        let limits = Limits {
            input: metadata.input_bytes(),
            output: 4 * metadata.classes as u64,
            workspace: header.workspace_bytes.into(),
            weights: weights.len() as u64,
        };
        if !plan.len().is_multiple_of(STEP_BYTES) {
            return Err(ModelError::SectionLength(Section::Plan));
        }
        let needed = check_plan(plan.as_chunks().0.iter().map(Step::from_bytes), &limits)?;
        if needed != u64::from(header.workspace_bytes) {
            return Err(ModelError::Workspace { stated: header.workspace_bytes, needed });
        }
        Ok(Self { metadata, genotype, plan, weights, workspace_bytes: header.workspace_bytes as usize })
    }
}

/// Checks every step, and that the last one and no other writes the output. Returns the bytes of workspace needed, a
/// multiple of 4.
pub(super) fn check_plan(
    steps: impl ExactSizeIterator<Item = Result<Step, StepError>>,
    limits: &Limits,
) -> Result<u64, ModelError> {
    let count = steps.len();
    let (mut needed, mut sums) = (0, Sums::default());
    for (index, step) in steps.enumerate() {
        let failed = |error| ModelError::Step { step: index, error };
        let step = step.map_err(failed)?;
        needed = step.check(limits).map_err(failed)?.max(needed);
        sums.follow(&step, index + 1 == count).map_err(failed)?;
        if (step.target() == Place::External) != (index + 1 == count) {
            return Err(ModelError::Output { step: index });
        }
    }
    if count == 0 { Err(ModelError::Output { step: 0 }) } else { Ok(align4(needed)) }
}

/// Sums that one step leaves to the next.
#[derive(Default)]
struct Sums {
    /// The step before, if it has left any.
    open: Option<Int8Step>,
    /// Steps that have added to them.
    parts: usize,
}

impl Sums {
    /// Checks that `step` goes on with them, and that there are none left behind the `last`.
    fn follow(&mut self, step: &Step, last: bool) -> Result<(), StepError> {
        if let Some(open) = &self.open {
            let Step::Int8(step) = step else { return Err(StepError::Unfinished) };
            if !continues(open, step) {
                return Err(StepError::Unfinished);
            }
        }
        self.open = match step {
            Step::Int8(step @ Int8Step::Dense { more: true, .. }) => Some(*step),
            _ => None,
        };
        self.parts = if self.open.is_some() { self.parts + 1 } else { 0 };
        if self.parts >= MAX_PARTS || last && self.open.is_some() { Err(StepError::Unfinished) } else { Ok(()) }
    }
}

struct Header {
    section_count: u32,
    workspace_bytes: u32,
}

impl Header {
    /// Checks the header, and the checksum of the whole.
    fn read(bytes: &[u8]) -> Result<Self, ModelError> {
        if !bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return Err(ModelError::Misaligned);
        }
        let length = |expected| ModelError::Length { expected, found: bytes.len() };
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(length(HEADER_BYTES));
        };
        let (magic, numbers) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(ModelError::Magic);
        }
        let mut words = numbers.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word));
        let mut word = || words.next().unwrap_or_default();
        let (version, header_bytes, total, stated) = (word(), word(), word(), word());
        let (section_count, workspace_bytes) = (word(), word());
        if version != VERSION {
            return Err(ModelError::Version { found: version });
        }
        if total as usize != bytes.len() {
            return Err(length(total as usize));
        }
        let before = bytes.get(..CHECKSUM_AT).unwrap_or_default();
        let after = bytes.get(CHECKSUM_AT + 4..).unwrap_or_default();
        let computed = checksum(before, after);
        if computed != stated {
            return Err(ModelError::Checksum { stated, computed });
        }
        if header_bytes as usize != HEADER_BYTES || words.any(|reserved| reserved != 0) {
            return Err(ModelError::Header);
        }
        Ok(Self { section_count, workspace_bytes })
    }

    /// The bytes of the four sections in the order of [`Section::ALL`].
    fn sections<'a>(&self, bytes: &'a [u8]) -> Result<[&'a [u8]; 4], ModelError> {
        let table_end =
            (self.section_count as usize).checked_mul(ENTRY_BYTES).and_then(|len| len.checked_add(HEADER_BYTES));
        let table = table_end.and_then(|end| bytes.get(HEADER_BYTES..end)).ok_or(ModelError::Header)?;
        let mut found = [None; Section::ALL.len()];
        let mut end = HEADER_BYTES + table.len();
        for (entry, fields) in table.as_chunks::<ENTRY_BYTES>().0.iter().enumerate() {
            let invalid = ModelError::SectionTable { entry };
            let (&[kind, offset, length, reserved], []) = fields.as_chunks::<4>() else { return Err(invalid) };
            let (offset, length) = (u32::from_le_bytes(offset) as usize, u32::from_le_bytes(length) as usize);
            // Sections follow each other without overlap.
            if Some(offset) != end.checked_next_multiple_of(SECTION_ALIGNMENT) || reserved != [0; 4] {
                return Err(invalid);
            }
            let section = offset.checked_add(length).and_then(|section_end| bytes.get(offset..section_end));
            let section = section.ok_or(invalid)?;
            end = offset + length;
            let kind = u32::from_le_bytes(kind);
            let known = Section::ALL.into_iter().zip(&mut found).find(|(known, _)| *known as u32 == kind);
            if let Some((known, place)) = known
                && place.replace(section).is_some()
            {
                return Err(ModelError::Duplicate(known));
            }
        }
        if end != bytes.len() {
            return Err(ModelError::Length { expected: end, found: bytes.len() });
        }
        let mut sections: [&[u8]; 4] = Default::default();
        for ((target, section), known) in sections.iter_mut().zip(found).zip(Section::ALL) {
            *target = section.ok_or(ModelError::Missing(known))?;
        }
        Ok(sections)
    }
}

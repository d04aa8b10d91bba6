//! Genotypes as text: the form that the original implementation prints and keeps in its sources, and JSON.

use core::fmt;
use core::ops::Range;
use core::str::FromStr;

use heapless::Vec;

use crate::genotype::{CellGenotype, Genotype, GenotypeError, Lists, MAX_EDGES, MAX_STATES};
use crate::primitive::Primitive;

impl Genotype {
    /// Reads `Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=[…], reduce_concat=range(2, 6))`,
    /// or JSON.
    ///
    /// In the first form the four arguments may come in any order, a concat may be a `range` or a list, quotes may be single
    /// or double, white space is free, a comma may close a list, and an assignment `NAME = ` may stand in front.
    ///
    /// # Errors
    ///
    /// [`GenotypeError`], with the position for whatever is wrong with the text itself.
    pub fn parse(text: &str) -> Result<Self, GenotypeError> {
        let lists: Lists<&str> = if text.trim_start().starts_with('{') {
            serde_json_core::from_str(text).map_err(GenotypeError::Json)?.0
        } else {
            Scanner { text, at: 0 }.genotype()?
        };
        Lists {
            normal: known(text, &lists.normal)?,
            normal_concat: lists.normal_concat,
            reduce: known(text, &lists.reduce)?,
            reduce_concat: lists.reduce_concat,
        }
        .try_into()
    }
}

impl FromStr for Genotype {
    type Err = GenotypeError;

    fn from_str(text: &str) -> Result<Self, GenotypeError> {
        Self::parse(text)
    }
}

/// Looks up the operations; their names are slices of `text`, which gives the position of one that is unknown.
fn known(text: &str, edges: &[(&str, u8)]) -> Result<Vec<(Primitive, u8), MAX_EDGES>, GenotypeError> {
    edges
        .iter()
        .map(|&(name, source)| {
            let primitive = name.parse().map_err(|_| GenotypeError::UnknownPrimitive {
                position: name.as_ptr().addr().wrapping_sub(text.as_ptr().addr()),
                name: shortened(name),
            })?;
            Ok((primitive, source))
        })
        .collect()
}

fn shortened(name: &str) -> heapless::String<32> {
    let mut short = heapless::String::new();
    for character in name.chars() {
        if short.push(character).is_err() {
            break;
        }
    }
    short
}

/// What is left of a text from byte `at` on.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn genotype(&mut self) -> Result<Lists<&'a str>, GenotypeError> {
        let word = self.word();
        let word = if !word.is_empty() && self.take('=') { self.word() } else { word };
        if word != "Genotype" {
            let position = self.at - word.len();
            return Err(GenotypeError::Syntax { position, expected: "Genotype(…), NAME = Genotype(…) or JSON" });
        }
        self.require('(', "( after Genotype")?;
        let (mut normal, mut normal_concat, mut reduce, mut reduce_concat) = (None, None, None, None);
        while !self.take(')') {
            let key = self.word();
            let position = self.at - key.len();
            let duplicate = |key| GenotypeError::Duplicate { position, key };
            self.require('=', "normal=, normal_concat=, reduce= or reduce_concat=, or )")?;
            match key {
                "normal" => set(&mut normal, self.edges()?).map_err(|()| duplicate("normal"))?,
                "normal_concat" => set(&mut normal_concat, self.concat()?).map_err(|()| duplicate("normal_concat"))?,
                "reduce" => set(&mut reduce, self.edges()?).map_err(|()| duplicate("reduce"))?,
                "reduce_concat" => set(&mut reduce_concat, self.concat()?).map_err(|()| duplicate("reduce_concat"))?,
                _ => {
                    let expected = "normal, normal_concat, reduce or reduce_concat";
                    return Err(GenotypeError::Syntax { position, expected });
                }
            }
            if !self.take(',') {
                self.require(')', ", or )")?;
                break;
            }
        }
        self.skip_space();
        if self.at < self.text.len() {
            return Err(self.error("the end of the text"));
        }
        Ok(Lists {
            normal: normal.ok_or(GenotypeError::Missing { key: "normal" })?,
            normal_concat: normal_concat.ok_or(GenotypeError::Missing { key: "normal_concat" })?,
            reduce: reduce.ok_or(GenotypeError::Missing { key: "reduce" })?,
            reduce_concat: reduce_concat.ok_or(GenotypeError::Missing { key: "reduce_concat" })?,
        })
    }

    fn edges(&mut self) -> Result<Vec<(&'a str, u8), MAX_EDGES>, GenotypeError> {
        self.list("[ and edges ('operation', state)", "at most 24 edges", |scanner| {
            scanner.require('(', "an edge ('operation', state)")?;
            let name = scanner.quoted()?;
            scanner.require(',', ", and the state that the edge starts from")?;
            let source = scanner.number()?;
            scanner.take(',');
            scanner.require(')', ") after the state")?;
            Ok((name, source))
        })
    }

    fn concat(&mut self) -> Result<Vec<u8, MAX_STATES>, GenotypeError> {
        if !self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) {
            return self.list("range(…) or [ and states", "at most 14 states", Self::number);
        }
        let word = self.word();
        if word != "range" {
            let position = self.at - word.len();
            return Err(GenotypeError::Syntax { position, expected: "range(…) or [ and states" });
        }
        self.require('(', "( after range")?;
        let first = self.number()?;
        self.require(',', ", and the state after the last")?;
        let end = self.number()?;
        self.require(')', ") after the range")?;
        if usize::from(end) - usize::from(first).min(usize::from(end)) > MAX_STATES {
            return Err(self.error("a range of at most 14 states"));
        }
        Ok((first..end).collect())
    }

    fn list<T, const N: usize>(
        &mut self,
        open: &'static str,
        bound: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, GenotypeError>,
    ) -> Result<Vec<T, N>, GenotypeError> {
        let mut items = Vec::new();
        self.require('[', open)?;
        while !self.take(']') {
            let value = item(self)?;
            items.push(value).map_err(|_| self.error(bound))?;
            if !self.take(',') {
                self.require(']', ", or ]")?;
                break;
            }
        }
        Ok(items)
    }

    fn rest(&mut self) -> &'a str {
        self.skip_space();
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn error(&self, expected: &'static str) -> GenotypeError {
        GenotypeError::Syntax { position: self.at, expected }
    }

    fn take(&mut self, character: char) -> bool {
        let found = self.rest().starts_with(character);
        if found {
            self.at += character.len_utf8();
        }
        found
    }

    fn require(&mut self, character: char, expected: &'static str) -> Result<(), GenotypeError> {
        if self.take(character) { Ok(()) } else { Err(self.error(expected)) }
    }

    /// The longest run of characters that `belongs`, after white space.
    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let run = rest.split_once(|c| !belongs(c)).map_or(rest, |(run, _)| run);
        self.at += run.len();
        run
    }

    fn word(&mut self) -> &'a str {
        self.run(|c| c.is_alphanumeric() || c == '_')
    }

    fn number(&mut self) -> Result<u8, GenotypeError> {
        let digits = self.run(|c| c.is_ascii_digit());
        let position = self.at - digits.len();
        digits.parse().map_err(|_| GenotypeError::Syntax { position, expected: "the number of a state" })
    }

    fn quoted(&mut self) -> Result<&'a str, GenotypeError> {
        let quote = if self.take('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.require('\'', "the name of an operation in quotes")?;
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let (name, _) = rest.split_once(quote).ok_or_else(|| self.error("a closing quote"))?;
        self.at += name.len() + 1;
        Ok(name)
    }
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), ()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(()),
    }
}

impl fmt::Display for Genotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Genotype(normal=")?;
        write_cell(f, &self.normal, "normal_concat")?;
        f.write_str(", reduce=")?;
        write_cell(f, &self.reduce, "reduce_concat")?;
        f.write_str(")")
    }
}

fn write_cell(f: &mut fmt::Formatter<'_>, cell: &CellGenotype, concat_key: &str) -> fmt::Result {
    let separator = |i| if i == 0 { "" } else { ", " };
    f.write_str("[")?;
    for (i, edge) in cell.edges.iter().enumerate() {
        write!(f, "{}('{}', {})", separator(i), edge.primitive, edge.source)?;
    }
    write!(f, "], {concat_key}=")?;
    if let Some(Range { start, end }) = contiguous(&cell.concat) {
        return write!(f, "range({start}, {end})");
    }
    f.write_str("[")?;
    for (i, state) in cell.concat.iter().enumerate() {
        write!(f, "{}{state}", separator(i))?;
    }
    f.write_str("]")
}

/// The range whose elements, in order, are these states.
fn contiguous(states: &[u8]) -> Option<Range<u8>> {
    let first = *states.first()?;
    let end = first.checked_add(u8::try_from(states.len()).ok()?)?;
    (first..end).eq(states.iter().copied()).then_some(first..end)
}

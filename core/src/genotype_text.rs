//! Genotypes as text: the form that the original implementation prints and keeps in its sources, and JSON.

use core::fmt;
use core::ops::Range;
use core::str::FromStr;

use heapless::Vec;

use crate::genotype::{CellGenotype, Genotype, GenotypeError, Lists, MAX_EDGES, MAX_STATES};
use crate::primitive::Primitive;

impl Genotype {
    /// Reads
    /// `Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=[…], reduce_concat=range(2, 6))`,
    /// or `{"normal": [["sep_conv_3x3", 0], …], "normal_concat": [2, …], "reduce": […], "reduce_concat": […]}`.
    ///
    /// In the first form a concat may be a `range` or a list, quotes may be single or double, and an assignment
    /// `NAME = ` may stand in front. In both the four lists may come in any order, white space is free, and a comma may
    /// close a list.
    ///
    /// # Errors
    ///
    /// [`GenotypeError`], with the position for whatever is wrong with the text itself.
    pub fn parse(text: &str) -> Result<Self, GenotypeError> {
        Scanner { text, at: 0 }.genotype()?.try_into()
    }
}

impl FromStr for Genotype {
    type Err = GenotypeError;

    fn from_str(text: &str) -> Result<Self, GenotypeError> {
        Self::parse(text)
    }
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

/// How the lists and the edges in them are written.
struct Form {
    /// Whether the keys of the lists are in quotes, and a concat is a list.
    json: bool,
    /// Between a key and its list.
    assign: char,
    /// Behind the last list.
    close: char,
    /// Around an edge.
    edge: (char, char),
    /// What must stand there, in the order above.
    expected: [&'static str; 4],
}

const ORIGINAL: Form = Form {
    json: false,
    assign: '=',
    close: ')',
    edge: ('(', ')'),
    expected: [
        "normal=, normal_concat=, reduce= or reduce_concat=, or )",
        ", or )",
        "an edge ('operation', state)",
        ") after the state",
    ],
};

const JSON: Form = Form {
    json: true,
    assign: ':',
    close: '}',
    edge: ('[', ']'),
    expected: [
        "\"normal\":, \"normal_concat\":, \"reduce\": or \"reduce_concat\":, or }",
        ", or }",
        "an edge [\"operation\", state]",
        "] after the state",
    ],
};

/// What is left of a text from byte `at` on.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn genotype(&mut self) -> Result<Lists, GenotypeError> {
        if self.take('{') {
            return self.lists(&JSON);
        }
        let word = self.word();
        let word = if !word.is_empty() && self.take('=') { self.word() } else { word };
        if word != "Genotype" {
            let position = self.at - word.len();
            return Err(GenotypeError::Syntax { position, expected: "Genotype(…), NAME = Genotype(…) or JSON" });
        }
        self.require('(', "( after Genotype")?;
        self.lists(&ORIGINAL)
    }

    /// The four lists, up to the end of the text.
    fn lists(&mut self, form: &Form) -> Result<Lists, GenotypeError> {
        let [assign, close, ..] = form.expected;
        let (mut normal, mut normal_concat, mut reduce, mut reduce_concat) = (None, None, None, None);
        while !self.take(form.close) {
            let key = if form.json { self.quoted(assign)? } else { self.word() };
            let position = self.at - key.len() - usize::from(form.json);
            let duplicate = |key| GenotypeError::Duplicate { position, key };
            self.require(form.assign, assign)?;
            match key {
                "normal" => set(&mut normal, self.edges(form)?).map_err(|()| duplicate("normal"))?,
                "normal_concat" => {
                    set(&mut normal_concat, self.concat(form)?).map_err(|()| duplicate("normal_concat"))?;
                }
                "reduce" => set(&mut reduce, self.edges(form)?).map_err(|()| duplicate("reduce"))?,
                "reduce_concat" => {
                    set(&mut reduce_concat, self.concat(form)?).map_err(|()| duplicate("reduce_concat"))?;
                }
                _ => {
                    let expected = "normal, normal_concat, reduce or reduce_concat";
                    return Err(GenotypeError::Syntax { position, expected });
                }
            }
            if !self.take(',') {
                self.require(form.close, close)?;
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

    fn edges(&mut self, form: &Form) -> Result<Vec<(Primitive, u8), MAX_EDGES>, GenotypeError> {
        let [.., open, close] = form.expected;
        self.list("[ and edges", "at most 24 edges", |scanner| {
            scanner.require(form.edge.0, open)?;
            let name = scanner.quoted("the name of an operation in quotes")?;
            let position = scanner.at - name.len() - 1;
            let unknown = |_| GenotypeError::UnknownPrimitive { position, name: shortened(name) };
            let primitive = name.parse().map_err(unknown)?;
            scanner.require(',', ", and the state that the edge starts from")?;
            let source = scanner.number()?;
            scanner.take(',');
            scanner.require(form.edge.1, close)?;
            Ok((primitive, source))
        })
    }

    fn concat(&mut self, form: &Form) -> Result<Vec<u8, MAX_STATES>, GenotypeError> {
        if form.json || !self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) {
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
        let mut states = Vec::new();
        for state in first..end {
            states.push(state).map_err(|_| self.error("a range of at most 14 states"))?;
        }
        Ok(states)
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

    fn quoted(&mut self, expected: &'static str) -> Result<&'a str, GenotypeError> {
        let quote = if self.take('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.require('\'', expected)?;
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

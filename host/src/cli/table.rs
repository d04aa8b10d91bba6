//! Plain text tables.

use std::fmt;

/// Rows of cells; columns of numbers are aligned to the right.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(|&title| title.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Characters of the longest line.
    pub fn width(&self) -> usize {
        self.to_string().lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    fn column(&self, index: usize) -> Column {
        let cells = || self.rows.iter().filter_map(move |row| row.get(index));
        Column {
            width: cells().map(|cell| cell.chars().count()).max().unwrap_or(0),
            numbers: cells().skip(1).all(|cell| cell.starts_with(|first: char| first.is_ascii_digit())),
        }
    }
}

struct Column {
    width: usize,
    numbers: bool,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<Column> = (0..self.rows[0].len()).map(|index| self.column(index)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, &Column { width, numbers }) in row.iter().zip(&columns) {
                line += &if numbers { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

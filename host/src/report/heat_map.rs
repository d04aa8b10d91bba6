//! softmax(α) over the epochs: a panel for each edge, with a row for each operation.

use darts_core::Primitive;
use plotters::prelude::*;
use plotters::style::colors::colormaps::ViridisRGB;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Area, Drawn, Figure, INK, MUTED, font, px};

const WIDTH: i32 = 440;
const MARGIN: i32 = 14;
const HEAD: i32 = 64;
/// Room for the names of the operations.
const NAMES: i32 = 82;
const PANEL_GAP: i32 = 12;
const PANELS_ABREAST: usize = 2;
const PANEL_TITLE: i32 = 18;
const ROW: i32 = 11;
const FOOT: i32 = 22;
/// Shades; neighbours of one shade are one rectangle.
const SHADES: f64 = 64.0;

/// softmax(α) of all edges of a cell, `[epochs][edges][operations]`. An operation whose α are exactly 0 throughout is
/// one that the space of the search leaves out.
#[derive(Debug)]
pub struct HeatMap {
    epochs: Vec<usize>,
    weights: Vec<Vec<Vec<f64>>>,
    operations: Vec<usize>,
    largest: f64,
}

impl HeatMap {
    /// Of the α of each epoch, by the number of the epoch; `None` if there is nothing to show.
    pub fn new(alphas: &[(usize, &Vec<Vec<f64>>)]) -> Option<Self> {
        let alphas: Vec<_> = alphas.iter().filter(|(_, alpha)| !alpha.is_empty()).collect();
        let rows = || alphas.iter().flat_map(|(_, alpha)| alpha.iter());
        let columns = rows().map(Vec::len).max()?;
        let operations: Vec<usize> = (0..columns)
            .filter(|&column| rows().any(|row| row.get(column).is_some_and(|&alpha| alpha != 0.0)))
            .collect();
        let softmax = |row: &Vec<f64>| {
            softmax(operations.iter().map(|&column| row.get(column).copied().unwrap_or(0.0)).collect())
        };
        let weights: Vec<Vec<Vec<f64>>> = alphas.iter().map(|(_, alpha)| alpha.iter().map(softmax).collect()).collect();
        let largest = weights.iter().flatten().flatten().copied().fold(0.2, f64::max);
        let epochs = alphas.iter().map(|&&(epoch, _)| epoch).collect();
        (!operations.is_empty()).then_some(Self {
            epochs,
            weights,
            operations,
            largest: (20.0 * largest).ceil() / 20.0,
        })
    }

    fn edges(&self) -> usize {
        self.weights.iter().map(Vec::len).max().unwrap_or(0)
    }

    fn panel_height(&self) -> i32 {
        PANEL_TITLE + ROW * self.operations.len() as i32
    }

    fn panel_width() -> i32 {
        (WIDTH - NAMES - MARGIN - PANEL_GAP * (PANELS_ABREAST as i32 - 1)) / PANELS_ABREAST as i32
    }

    /// The figure.
    pub fn figure(&self, name: &'static str, title: &str) -> Figure {
        let rows = self.edges().div_ceil(PANELS_ABREAST) as i32;
        let height = HEAD + rows * (self.panel_height() + PANEL_GAP) + FOOT;
        Figure::draw(name, title.to_owned(), (WIDTH as u32, height as u32), |area| {
            area.draw(&Text::new(title.to_owned(), (px(MARGIN), px(8)), font(13.0, INK)))?;
            self.draw_scale(area)?;
            for edge in 0..self.edges() {
                self.draw_panel(area, edge)?;
            }
            let y = px(height - FOOT + 2);
            for column in 0..PANELS_ABREAST as i32 {
                let left = NAMES + column * (Self::panel_width() + PANEL_GAP);
                let ends = [
                    (left, HPos::Left, self.epochs.first()),
                    (left + Self::panel_width(), HPos::Right, self.epochs.last()),
                ];
                for (x, anchor, epoch) in ends {
                    let label = epoch.map_or_else(String::new, |epoch| (epoch + 1).to_string());
                    area.draw(&Text::new(label, (px(x), y), font(10.0, MUTED).pos(Pos::new(anchor, VPos::Top))))?;
                }
                let middle = (px(left + Self::panel_width() / 2), y);
                area.draw(&Text::new("epoch", middle, font(10.0, MUTED).pos(Pos::new(HPos::Center, VPos::Top))))?;
            }
            Ok(())
        })
    }

    /// Which colour stands for what.
    fn draw_scale(&self, area: &Area) -> Drawn {
        let (left, width, shades) = (NAMES, 120, SHADES as i32);
        for shade in 0..shades {
            // Up to the end, below the next ones: so that no seam shows between two.
            let corners = [(px(left) + px(width) * shade / shades, px(32)), (px(left + width), px(42))];
            area.draw(&Rectangle::new(corners, shade_colour(shade as usize).filled()))?;
        }
        for (value, x, anchor) in [(0.0, left - 5, HPos::Right), (self.largest, left + width + 5, HPos::Left)] {
            let style = font(10.0, MUTED).pos(Pos::new(anchor, VPos::Center));
            area.draw(&Text::new(value.to_string(), (px(x), px(37)), style))?;
        }
        Ok(())
    }

    fn draw_panel(&self, area: &Area, edge: usize) -> Drawn {
        let column = (edge % PANELS_ABREAST) as i32;
        let left = NAMES + column * (Self::panel_width() + PANEL_GAP);
        let top = HEAD + (edge / PANELS_ABREAST) as i32 * (self.panel_height() + PANEL_GAP);
        area.draw(&Text::new(edge_name(edge), (px(left), px(top)), font(11.0, INK)))?;
        let x = |place: usize| px(left) + px(Self::panel_width()) * place as i32 / self.epochs.len() as i32;
        for (row, &operation) in self.operations.iter().enumerate() {
            let y = px(top + PANEL_TITLE + ROW * row as i32);
            if column == 0 {
                let name = Primitive::SEARCH.get(operation).map_or("", |primitive| primitive.name());
                let style = font(9.0, MUTED).pos(Pos::new(HPos::Right, VPos::Center));
                area.draw(&Text::new(name, (px(left - 5), y + px(ROW) / 2), style))?;
            }
            let shade = |epoch: usize| {
                let weight = self.weights[epoch].get(edge).map_or(0.0, |weights| weights[row]);
                (SHADES * weight / self.largest).min(SHADES - 1.0) as usize
            };
            let mut from = 0;
            for epoch in 1..=self.epochs.len() {
                if epoch == self.epochs.len() || shade(epoch) != shade(from) {
                    let corners = [(x(from), y), (x(self.epochs.len()), y + px(ROW))];
                    area.draw(&Rectangle::new(corners, shade_colour(shade(from)).filled()))?;
                    from = epoch;
                }
            }
        }
        Ok(())
    }
}

fn shade_colour(shade: usize) -> RGBColor {
    ViridisRGB::get_color_normalized(shade as f64, 0.0, SHADES - 1.0)
}

fn softmax(mut row: Vec<f64>) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
    row
}

/// From which state to which node an edge leads, named as in the drawings of cells: node 0 has the edges 0 and 1, node
/// 1 the next three, and so on.
fn edge_name(edge: usize) -> String {
    let (mut node, mut source) = (0, edge);
    while source >= node + 2 {
        source -= node + 2;
        node += 1;
    }
    match source {
        0 => format!("c_{{k-2}} → {node}"),
        1 => format!("c_{{k-1}} → {node}"),
        _ => format!("{} → {node}", source - 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_have_the_names_of_their_ends() {
        let names = [0, 1, 2, 4, 5, 8, 9, 13].map(edge_name);
        let expected =
            ["c_{k-2} → 0", "c_{k-1} → 0", "c_{k-2} → 1", "0 → 1", "c_{k-2} → 2", "1 → 2", "c_{k-2} → 3", "2 → 3"];
        assert_eq!(names, expected);
    }

    #[test]
    fn neighbours_of_one_shade_are_one_rectangle_and_operations_that_are_left_out_have_no_row() {
        let early = vec![vec![0.0, 1.0, -1.0]; 14];
        let late = vec![vec![0.0, 9.0, -9.0]; 14];
        let map = HeatMap::new(&[(0, &early), (1, &early), (2, &late)]).expect("there is something to show");
        assert_eq!(map.operations, [1, 2]);
        assert_eq!(map.largest, 1.0);
        let text = map.figure("alpha", "α").document;
        let rectangles = SHADES as usize + 14 * 2 * 2 + 1;
        assert_eq!(text.matches("<rect").count(), rectangles, "{text}");
        assert!(text.contains("max_pool_3x3") && !text.contains(">none") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn without_alpha_there_is_nothing_to_show() {
        assert!(HeatMap::new(&[]).is_none());
        assert!(HeatMap::new(&[(0, &vec![])]).is_none());
        assert!(HeatMap::new(&[(0, &vec![vec![0.0; 8]])]).is_none());
    }
}

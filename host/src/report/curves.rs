//! Line charts over the epochs.

use std::ops::Range;

use plotters::prelude::*;

use super::figure::{Area, CURVES, Drawn, Figure, GRID, INK, MUTED, font, px};

const SIZE: (u32, u32) = (440, 260);
const MARGIN: i32 = 14;
/// Below it is the plot.
const HEAD: i32 = 46;
/// Up to so many points are marked each.
const MARKED_POINTS: usize = 40;

/// A line chart.
#[derive(Debug)]
pub struct Curves {
    /// File name.
    pub name: &'static str,
    /// What is shown, with its unit.
    pub title: &'static str,
    /// Whether the axis begins at 0.
    pub from_zero: bool,
    /// The lines, at most as many as there are colours, by their names.
    pub lines: Vec<(&'static str, Vec<(i32, f64)>)>,
}

impl Curves {
    /// The chart; `None` if there is nothing to show. What is no finite number is left out.
    pub fn figure(mut self) -> Option<Figure> {
        for (_, points) in &mut self.lines {
            points.retain(|point| point.1.is_finite());
        }
        self.lines.retain(|(_, points)| !points.is_empty());
        if self.lines.is_empty() {
            return None;
        }
        Some(Figure::draw(self.name, self.title.to_owned(), SIZE, |area| {
            self.draw_head(area)?;
            let x = self.epochs();
            let y = range(self.lines.iter().flat_map(|(_, points)| points).map(|point| point.1), self.from_zero);
            let (digits, labels) = labels(&y, self.lines.iter().flat_map(|(_, points)| points).map(|point| point.1));
            let mut chart = ChartBuilder::on(area)
                .margin_top(px(HEAD))
                .margin_right(px(MARGIN + 6))
                .margin_bottom(px(6))
                .margin_left(px(6))
                .set_label_area_size(LabelAreaPosition::Left, px(44))
                .set_label_area_size(LabelAreaPosition::Bottom, px(38))
                .build_cartesian_2d(x, y)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .max_light_lines(0)
                .bold_line_style(GRID.stroke_width(px(1) as u32))
                .axis_style(GRID.stroke_width(px(1) as u32))
                .label_style(font(11.0, MUTED))
                .axis_desc_style(font(11.0, MUTED))
                .x_desc("epoch")
                .x_labels(8)
                .y_labels(labels)
                .y_label_formatter(&|value| format!("{value:.digits$}"))
                .set_all_tick_mark_size(px(3))
                .draw()?;
            for ((_, points), colour) in self.lines.iter().zip(CURVES) {
                chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(px(2) as u32)))?;
                if points.len() <= MARKED_POINTS {
                    chart.draw_series(
                        points.iter().map(|&point| Circle::new(point, 2.5 * f64::from(px(1)), colour.filled())),
                    )?;
                }
            }
            Ok(())
        }))
    }

    /// Title and legend.
    fn draw_head(&self, area: &Area) -> Drawn {
        area.draw(&Text::new(self.title, (px(MARGIN), px(8)), font(13.0, INK)))?;
        let mut x = MARGIN;
        for ((name, _), colour) in self.lines.iter().zip(CURVES) {
            let line = [(px(x), px(34)), (px(x + 12), px(34))];
            area.draw(&PathElement::new(line, colour.stroke_width(px(3) as u32)))?;
            area.draw(&Text::new(*name, (px(x + 16), px(28)), font(11.0, MUTED)))?;
            // About the width of a letter.
            x += 16 + 6 * name.chars().count() as i32 + 10;
        }
        Ok(())
    }

    fn epochs(&self) -> Range<i32> {
        let epochs = self.lines.iter().flat_map(|(_, points)| points).map(|point| point.0);
        let (first, last) =
            epochs.fold((i32::MAX, i32::MIN), |(first, last), epoch| (first.min(epoch), last.max(epoch)));
        first..last.max(first + 1)
    }
}

/// What an axis spans.
fn range(values: impl Iterator<Item = f64>, from_zero: bool) -> Range<f64> {
    let (least, most) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
    let least = if from_zero { least.min(0.0) } else { least };
    // Far below what is shown of a number, and more than nothing where all are equal.
    let room = (0.06 * (most - least)).max(1e-3 * most.abs()).max(1e-12);
    if from_zero && most == 0.0 {
        0.0..1.0
    } else if from_zero && least == 0.0 {
        0.0..most + room
    } else {
        least - room..most + room
    }
}

/// Digits behind the point of a number on an axis, and the most numbers that stand there; whole ones where all values
/// are.
fn labels(range: &Range<f64>, mut values: impl Iterator<Item = f64>) -> (usize, usize) {
    const MOST: usize = 6;
    let span = range.end - range.start;
    if values.all(|value| value.fract() == 0.0) {
        return (0, MOST.min(span as usize + 1));
    }
    ((-(span / MOST as f64).log10()).ceil().clamp(0.0, 6.0) as usize, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(lines: Vec<(&'static str, Vec<(i32, f64)>)>) -> Option<Figure> {
        Curves { name: "loss", title: "Loss", from_zero: false, lines }.figure()
    }

    #[test]
    fn one_epoch_equal_values_and_what_is_no_number_can_be_drawn() {
        assert!(curves(vec![("train", vec![]), ("valid", vec![(1, f64::NAN)])]).is_none());
        for points in [
            vec![(1, 0.5)],
            vec![(1, 0.0), (2, 0.0)],
            vec![(3, 1e30), (4, f64::INFINITY), (9, -1e30)],
            vec![(1, 5.0), (600, 5.0)],
        ] {
            let text = curves(vec![("train", points.clone())]).expect("there are points").document;
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            let marked = points.iter().filter(|point| point.1.is_finite()).count();
            assert_eq!(text.matches("<circle").count(), marked);
        }
    }

    #[test]
    fn an_axis_has_room_around_its_values_and_digits_enough() {
        assert_eq!(range([2.0, 0.0].into_iter(), true), 0.0..2.12);
        let equal = range([0.0].into_iter(), false);
        assert!(equal.start < 0.0 && equal.end > 0.0);
        let digits = [0.0..10.0, 0.0..3.0, 2.07..2.08].map(|range| labels(&range, [0.5].into_iter()));
        assert_eq!(digits, [(0, 6), (1, 6), (3, 6)]);
        assert_eq!(labels(&range([4.0, 1.0].into_iter(), true), [4.0, 1.0].into_iter()), (0, 5));
        assert_eq!(range([0.0].into_iter(), true), 0.0..1.0);
    }
}

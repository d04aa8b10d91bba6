//! One figure: drawn by plotters, in the colours of a light page, with a style sheet that puts others in their place on
//! a dark one.

use std::fmt::Write as _;

use plotters::coord::Shift;
use plotters::prelude::*;

/// The drawing library has whole units only: so many of them are one pixel.
pub const SCALE: i32 = 4;
const INFALLIBLE: &str = "a figure of a fixed size is written to a string";

const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Colour of text.
pub const INK: RGBColor = RGBColor(32, 33, 36);
/// Colour of text of less weight.
pub const MUTED: RGBColor = RGBColor(95, 99, 104);
/// Colour of the lines of a grid.
pub const GRID: RGBColor = RGBColor(227, 229, 232);
/// Colours of curves.
pub const CURVES: [RGBColor; 4] =
    [RGBColor(38, 103, 204), RGBColor(201, 98, 24), RGBColor(37, 133, 87), RGBColor(130, 80, 196)];

/// What stands for a colour on a dark page.
const DARK: [(RGBColor, &str); 8] = [
    (PAPER, "#16181C"),
    (INK, "#E8EAED"),
    (MUTED, "#A3A9B2"),
    (GRID, "#33373E"),
    (CURVES[0], "#7DB0FF"),
    (CURVES[1], "#FFA261"),
    (CURVES[2], "#68CF98"),
    (CURVES[3], "#C3A3F7"),
];

/// A part of a figure that is drawn on.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What drawing comes to.
pub type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// A figure of a report.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its file name, without an ending.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
    /// A complete SVG document, which may stand in a page too.
    pub document: String,
}

impl Figure {
    /// A figure of `size` pixels, whose content `draw` makes in units of which [`SCALE`] are one pixel.
    pub fn draw(name: &'static str, title: String, size: (u32, u32), draw: impl FnOnce(&Area) -> Drawn) -> Self {
        let mut text = String::new();
        let (width, height) = (size.0 * SCALE as u32, size.1 * SCALE as u32);
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area).and_then(|()| area.present()).expect(INFALLIBLE);
        drop(area);
        // Everything behind the element of the document itself, which is another one here.
        let content = text.split_once('>').map_or("", |(_, content)| content);
        let document = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"figure\" width=\"{}\" height=\"{}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\"><style>{}</style>\
             <rect width=\"100%\" height=\"100%\" fill=\"{}\"/>{content}",
            size.0,
            size.1,
            stylesheet(),
            hex(PAPER)
        );
        Self { name, title, document }
    }
}

/// Puts other colours in the place of those of a figure where the reader prefers a dark page.
fn stylesheet() -> String {
    let mut text = "svg.figure { color-scheme: light dark; }\n@media (prefers-color-scheme: dark) {\n".to_owned();
    for (light, dark) in DARK {
        for property in ["fill", "stroke"] {
            let light = hex(light);
            writeln!(text, "svg.figure [{property}=\"{light}\"] {{ {property}: {dark}; }}")
                .expect("writing to a string does not fail");
        }
    }
    text.push('}');
    text
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Text of `pixels`.
pub fn font(pixels: f64, colour: RGBColor) -> TextStyle<'static> {
    // The library makes the letters smaller than it says by this factor.
    let size = 1.24 * pixels * f64::from(SCALE);
    ("sans-serif", size).into_font().color(&colour)
}

/// Pixels as units.
pub const fn px(pixels: i32) -> i32 {
    pixels * SCALE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_a_document_in_the_colours_of_the_style_sheet() {
        let figure = Figure::draw("name", "What it shows".into(), (40, 20), |area| {
            let curve = [(0, 0), (px(40), px(20))];
            area.draw(&PathElement::new(curve, CURVES[0].stroke_width(4)))?;
            area.draw(&Text::new("<text>", (0, 0), font(12.0, INK)))
        });
        let Figure { document, .. } = figure;
        for part in [
            "width=\"40\" height=\"20\" viewBox=\"0 0 160 80\"",
            "What it shows",
            "&lt;text&gt;",
            "points=\"0,0 160,80 \"",
        ] {
            assert!(document.contains(part), "{part} in {document}");
        }
        for colour in [CURVES[0], INK, PAPER] {
            assert_eq!(document.matches(&format!("=\"{}\"", hex(colour))).count(), 3, "{document}");
        }
        assert!(document.trim_end().ends_with("</svg>") && document.matches("svg>").count() == 1, "{document}");
    }
}

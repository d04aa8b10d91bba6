//! A picture of the workspace: slots as rectangles, steps to the right, bytes upwards.

use std::ops::Range;

use svg::Document;
use svg::node::element::{Group, Line, Path, Rectangle, Style, Text, Title};

use crate::memory_map::{MemoryMap, Slot};

const MARGIN: f64 = 16.0;
/// Room for the numbers on the left, and for the text above and below the plot.
const AXIS: f64 = 64.0;
const HEAD: f64 = 56.0;
const FOOT: f64 = 44.0;
const PLOT_HEIGHT: f64 = 480.0;
/// Width that the plot has if its steps are neither too narrow nor too wide.
const PLOT_WIDTH: f64 = 1100.0;
const STEP_WIDTH: [f64; 2] = [3.0, 24.0];
const FONT: f64 = 11.0;
/// Width of a letter, on average.
const LETTER: f64 = 6.2;

/// Operations with a colour of their own; what else writes a slot has that of `other`.
const COLOURED: [&str; 6] = ["separable", "dense", "max_pool", "avg_pool", "prelude", "scratch"];

const STYLE: &str = "\
    svg { color-scheme: light dark; font-family: Helvetica, Arial, sans-serif; font-size: 11px; }\n\
    .paper { fill: #ffffff; } text { fill: #1a1a1a; } .title { font-size: 15px; }\n\
    .grid { stroke: #d8d8d8; } .bound { stroke: #b3261e; stroke-width: 1.5; stroke-dasharray: 6 4; }\n\
    .live { stroke: #444444; stroke-width: 1.5; stroke-opacity: 0.6; fill: none; } .peak { fill: #b3261e; fill-opacity: 0.12; }\n\
    .slot { stroke: #ffffff; stroke-width: 1; } .other { fill: #d5d5d5; } .scratch { fill: #f3e3a1; }\n\
    .separable { fill: #a9cdf0; } .dense { fill: #b4e2b1; } .max_pool { fill: #f6c5a5; }\n\
    .avg_pool { fill: #f2b5c8; } .prelude { fill: #d3c4ee; }\n\
    @media (prefers-color-scheme: dark) {\n\
    .paper { fill: #16181c; } text { fill: #ececec; } .grid { stroke: #3a3d44; } .bound { stroke: #ff8a80; }\n\
    .live { stroke: #cccccc; } .peak { fill: #ff8a80; fill-opacity: 0.2; } .slot { stroke: #16181c; }\n\
    .other { fill: #4d5157; } .scratch { fill: #66591d; } .separable { fill: #23507d; } .dense { fill: #2b5f2f; }\n\
    .max_pool { fill: #7a4520; } .avg_pool { fill: #76304a; } .prelude { fill: #51407c; }\n\
    }";

/// The plan as a complete SVG document, for light and dark backgrounds.
pub fn svg(map: &MemoryMap) -> String {
    let plot = Plot::new(map);
    let (width, height) = (plot.x(map.steps.len()) + MARGIN, HEAD + PLOT_HEIGHT + FOOT);
    let mut document = Document::new()
        .set("viewBox", format!("0 0 {} {}", rounded(width), rounded(height)))
        .set("width", rounded(width))
        .set("height", rounded(height))
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("class", "paper").set("width", "100%").set("height", "100%"))
        .add(plot.axes(map));
    if let Some(peak) = map.peak_step() {
        let band = rectangle(plot.x(peak)..plot.x(peak + 1), HEAD..HEAD + PLOT_HEIGHT);
        document = document.add(plot.slots(map)).add(band.set("class", "peak"));
    }
    document.add(plot.curves(map)).add(head(map)).to_string()
}

struct Plot {
    step: f64,
    /// Height of a byte.
    byte: f64,
}

impl Plot {
    fn new(map: &MemoryMap) -> Self {
        let [least, most] = STEP_WIDTH;
        Self {
            step: (PLOT_WIDTH / map.steps.len().max(1) as f64).clamp(least, most),
            byte: PLOT_HEIGHT / map.workspace_bytes.max(1) as f64,
        }
    }

    fn x(&self, step: usize) -> f64 {
        AXIS + self.step * step as f64
    }

    fn y(&self, byte: u64) -> f64 {
        HEAD + PLOT_HEIGHT - self.byte * byte as f64
    }

    fn axes(&self, map: &MemoryMap) -> Group {
        let steps = map.steps.len();
        let mut group = Group::new();
        let unit = if map.workspace_bytes < 4 * KIBIBYTE { 1 } else { KIBIBYTE };
        for byte in ticks(map.workspace_bytes / unit, 8).map(|tick| tick * unit) {
            let y = rounded(self.y(byte));
            let line = Line::new().set("class", "grid").set("x1", AXIS).set("x2", rounded(self.x(steps)));
            group = group.add(line.set("y1", y).set("y2", y)).add(text(&kibibytes(byte), AXIS - 6.0, y + 4.0, "end"));
        }
        let bottom = HEAD + PLOT_HEIGHT;
        for step in ticks(steps as u64, 12).filter(|&step| step > 0) {
            // Steps are counted from 1; the number stands below the middle of the step.
            let x = self.x(step as usize) - self.step / 2.0;
            group = group.add(text(&step.to_string(), x, bottom + 16.0, "middle"));
        }
        group.add(text("step", (AXIS + self.x(steps)) / 2.0, bottom + 34.0, "middle"))
    }

    fn slots(&self, map: &MemoryMap) -> Group {
        let mut group = Group::new();
        for slot in &map.slots {
            group = group.add(self.slot(map, slot));
        }
        group
    }

    fn slot(&self, map: &MemoryMap, slot: &Slot) -> Group {
        let bytes = slot.bytes.end - slot.bytes.start;
        // Pictures are of one precision, so that the colours are the same for all.
        let kind = map.steps[slot.steps.start].trim_start_matches("int8_");
        let kind = if slot.scratch { "scratch" } else { kind };
        let class = if COLOURED.contains(&kind) { kind } else { "other" };
        let (xs, ys) =
            (self.x(slot.steps.start)..self.x(slot.steps.end), self.y(slot.bytes.end)..self.y(slot.bytes.start));
        let title = format!(
            "{kind}: {} bytes at {}, steps {} to {}",
            bytes,
            slot.bytes.start,
            slot.steps.start + 1,
            slot.steps.end
        );
        let shape = rectangle(xs.clone(), ys.clone()).set("class", format!("slot {class}")).add(Title::new(title));
        let group = Group::new().add(shape);
        let (width, height) = (xs.end - xs.start, ys.end - ys.start);
        let (x, y) = ((xs.start + xs.end) / 2.0, (ys.start + ys.end) / 2.0);
        let fits =
            |label: &str, along: f64, across: f64| LETTER * label.len() as f64 + 6.0 <= along && FONT + 2.0 <= across;
        // The longest label that fits, upright where it does not fit lying.
        for label in [format!("{kind} {}", kibibytes(bytes)), kibibytes(bytes)] {
            if fits(&label, width, height) {
                return group.add(text(&label, x, y + 4.0, "middle"));
            }
            if fits(&label, height, width) {
                let turn = format!("rotate(-90 {} {})", rounded(x), rounded(y));
                return group.add(text(&label, x, y + 4.0, "middle").set("transform", turn));
            }
        }
        group
    }

    /// What is live at each step, and the most of it.
    fn curves(&self, map: &MemoryMap) -> Group {
        let points = map.live.iter().enumerate().map(|(step, &live)| {
            let y = rounded(self.y(live));
            format!("{} {y} {} {y}", rounded(self.x(step)), rounded(self.x(step + 1)))
        });
        let bound = rounded(self.y(map.lower_bound()));
        let line = Line::new().set("x1", AXIS).set("x2", rounded(self.x(map.steps.len())));
        let group = Group::new().add(line.set("class", "bound").set("y1", bound).set("y2", bound));
        let points: Vec<String> = points.collect();
        if points.is_empty() {
            return group;
        }
        group.add(Path::new().set("class", "live").set("d", format!("M{}", points.join(" L"))))
    }
}

/// Title and legend.
fn head(map: &MemoryMap) -> Group {
    let bound = kibibytes(map.lower_bound());
    let mut title = format!("workspace {}, at least {bound}", kibibytes(map.workspace_bytes));
    if let Some(step) = map.peak_step() {
        title += &format!(" (step {}, {})", step + 1, map.steps[step]);
    }
    let mut group = Group::new().add(text(&title, AXIS, 20.0, "start").set("class", "title"));
    let mut x = AXIS;
    for kind in COLOURED.iter().chain(&["other"]) {
        group =
            group.add(rectangle(x..x + 12.0, 32.0..44.0).set("class", *kind)).add(text(kind, x + 16.0, 42.0, "start"));
        x += 16.0 + LETTER * kind.len() as f64 + 14.0;
    }
    group.add(Line::new().set("class", "live").set("x1", x).set("x2", x + 16.0).set("y1", 38).set("y2", 38)).add(text(
        "in use",
        x + 20.0,
        42.0,
        "start",
    ))
}

fn rectangle(x: Range<f64>, y: Range<f64>) -> Rectangle {
    Rectangle::new()
        .set("x", rounded(x.start))
        .set("y", rounded(y.start))
        .set("width", rounded(x.end - x.start))
        .set("height", rounded(y.end - y.start))
}

fn text(content: &str, x: f64, y: f64, anchor: &str) -> Text {
    Text::new(content).set("x", rounded(x)).set("y", rounded(y)).set("text-anchor", anchor)
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

const KIBIBYTE: u64 = 1024;

fn kibibytes(bytes: u64) -> String {
    if bytes < KIBIBYTE {
        return format!("{bytes} B");
    }
    let text = format!("{:.1}", bytes as f64 / KIBIBYTE as f64);
    format!("{} KiB", text.trim_end_matches(".0"))
}

/// At most so many round numbers from 0 to `end`: 1, 2 or 5 times a power of ten.
fn ticks(end: u64, most: u64) -> impl Iterator<Item = u64> {
    let steps = (0..19).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
    let step = steps.into_iter().find(|step| end / step < most).unwrap_or(u64::MAX);
    (0..=end / step).map(move |tick| tick * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> MemoryMap {
        let slot = |bytes: Range<u64>, steps: Range<usize>, scratch| Slot { bytes, steps, scratch };
        MemoryMap {
            steps: vec!["prelude", "separable", "add", "global_avg_pool"],
            slots: vec![
                slot(0..4096, 0..2, false),
                slot(4096..8192, 1..4, false),
                slot(8192..9216, 1..2, true),
                slot(0..64, 3..4, false),
            ],
            live: vec![4096, 9216, 4096, 4160],
            workspace_bytes: 9216,
        }
    }

    #[test]
    fn every_slot_is_a_rectangle_inside_the_picture() {
        let svg = svg(&map());
        assert_eq!(svg.matches("<title>").count(), 4);
        for text in ["prelude: 4096 bytes at 0, steps 1 to 2", "9 KiB, at least 9 KiB (step 2, separable)"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(svg.contains("prefers-color-scheme: dark"));
        assert!(!svg.contains("NaN") && !svg.contains("=\"-"), "{svg}");
    }

    #[test]
    fn a_plan_without_steps_is_an_empty_picture() {
        let empty = MemoryMap { steps: vec![], slots: vec![], live: vec![], workspace_bytes: 0 };
        assert!(!svg(&empty).contains("NaN"));
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(9, 8).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        assert_eq!(ticks(171, 8).collect::<Vec<_>>(), [0, 50, 100, 150]);
        assert_eq!(ticks(0, 8).collect::<Vec<_>>(), [0]);
    }
}

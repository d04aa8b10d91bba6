//! Pictures of a cell, left to right: the two input states, the nodes, the output, edges named by their operation.
//!
//! The layout is the usual one for layered graphs. States stand in layers by their longest path from the inputs; an
//! edge becomes a chain of points, one a layer, of which the first carries the label and has the room of it; layers are
//! ordered by barycentres; then every point moves as near to the mean of its neighbours as its layer lets it.

use std::fmt::Write as _;

use darts_core::CellGenotype;
use svg::Document;
use svg::node::element::{Group, Path, Rectangle, Style, Text};

/// A cell to draw. States are numbered 0 and 1 (the inputs), then one a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    nodes: usize,
    edges: Vec<Edge>,
    concat: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    operation: &'static str,
    source: usize,
    target: usize,
}

impl Drawing {
    /// A cell of `nodes` nodes; `edges` are (operation, source state, target state); `concat` the states of the output.
    ///
    /// # Panics
    /// If an edge does not lead from an earlier state to a node, or `concat` names a state that is not there.
    pub fn new(
        nodes: usize,
        edges: impl IntoIterator<Item = (&'static str, usize, usize)>,
        concat: impl IntoIterator<Item = usize>,
    ) -> Self {
        let states = nodes + 2;
        let edges: Vec<Edge> =
            edges.into_iter().map(|(operation, source, target)| Edge { operation, source, target }).collect();
        let concat: Vec<usize> = concat.into_iter().collect();
        for edge in &edges {
            assert!(edge.source < edge.target && (2..states).contains(&edge.target), "{edge:?} of {states} states");
        }
        assert!(concat.iter().all(|&state| state < states), "concat {concat:?} of {states} states");
        Self { nodes, edges, concat }
    }

    fn output(&self) -> usize {
        self.nodes + 2
    }

    fn name(&self, state: usize) -> String {
        match state {
            0 => "c_{k-2}".into(),
            1 => "c_{k-1}".into(),
            _ if state == self.output() => "c_{k}".into(),
            _ => (state - 2).to_string(),
        }
    }

    /// The cell in Graphviz's language.
    pub fn dot(&self) -> String {
        let mut text = String::from(
            "digraph cell {\n  rankdir=LR;\n  node [shape=rect, style=filled, fontname=Helvetica, fontsize=18, height=0.5, width=0.5];\n  edge [fontname=Helvetica, fontsize=16, color=gray40];\n",
        );
        for state in 0..=self.output() {
            let name = self.name(state);
            writeln!(text, "  \"{name}\" [fillcolor=\"{}\"];", self.colour(state)).expect(INFALLIBLE);
        }
        for edge in &self.edges {
            let (source, target) = (self.name(edge.source), self.name(edge.target));
            writeln!(text, "  \"{source}\" -> \"{target}\" [label=\"{}\"];", edge.operation).expect(INFALLIBLE);
        }
        for &state in &self.concat {
            writeln!(text, "  \"{}\" -> \"c_{{k}}\";", self.name(state)).expect(INFALLIBLE);
        }
        text.push_str("}\n");
        text
    }

    fn colour(&self, state: usize) -> &'static str {
        match state {
            0 | 1 => "#b4eeb4",
            _ if state == self.output() => "#eee8aa",
            _ => "#add8e6",
        }
    }

    /// The cell as a complete SVG document.
    pub fn svg(&self) -> String {
        let layout = Layout::new(self);
        let (width, height) = layout.size;
        let mut lines = Group::new().set("fill", "none").set("stroke", "#666666").set("stroke-width", 1.5);
        let mut shapes = Group::new().set("font-family", "Helvetica, Arial, sans-serif").set("text-anchor", "middle");
        let mut heads = Group::new().set("fill", "#666666");
        for chain in &layout.chains {
            lines = lines.add(Path::new().set("d", layout.curve(chain)));
            let end = &layout.points[*chain.last().expect("a chain has two ends")];
            heads = heads.add(Path::new().set("d", arrow_head(end.x - end.width / 2.0, end.y)));
        }
        for point in &layout.points {
            shapes = match &point.kind {
                Kind::State(state) => shapes
                    .add(
                        Rectangle::new()
                            .set("x", rounded(point.x - point.width / 2.0))
                            .set("y", rounded(point.y - STATE_HEIGHT / 2.0))
                            .set("width", rounded(point.width))
                            .set("height", STATE_HEIGHT)
                            .set("rx", 4)
                            .set("fill", self.colour(*state))
                            .set("stroke", "#333333"),
                    )
                    .add(label(&self.name(*state), point, 16)),
                Kind::Label(operation) => shapes
                    .add(
                        Rectangle::new()
                            .set("x", rounded(point.x - point.width / 2.0 + 4.0))
                            .set("y", rounded(point.y - 9.0))
                            .set("width", rounded(point.width - 8.0))
                            .set("height", 18)
                            .set("fill", "white"),
                    )
                    .add(label(operation, point, 14)),
                Kind::Bend => shapes,
            };
        }
        Document::new()
            .set("class", "cell")
            .set("viewBox", format!("0 0 {} {}", rounded(width), rounded(height)))
            .set("width", rounded(width))
            .set("height", rounded(height))
            .add(Style::new(DARK))
            .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "white"))
            .add(lines)
            .add(heads)
            .add(shapes)
            .to_string()
    }
}

impl From<&CellGenotype> for Drawing {
    fn from(cell: &CellGenotype) -> Self {
        let edges = cell.edges.iter().enumerate();
        let edges = edges.map(|(index, edge)| (edge.primitive.name(), usize::from(edge.source), 2 + index / 2));
        Self::new(cell.nodes(), edges, cell.concat.iter().map(|&state| usize::from(state)))
    }
}

/// Colours where the reader prefers a dark page.
const DARK: &str = "svg.cell { color-scheme: light dark; }\n\
    @media (prefers-color-scheme: dark) {\n\
    svg.cell [fill=\"white\"] { fill: #16181c; } svg.cell text { fill: #e8eaed; }\n\
    svg.cell [fill=\"#666666\"] { fill: #a3a9b2; } svg.cell [stroke=\"#666666\"] { stroke: #a3a9b2; }\n\
    svg.cell [stroke=\"#333333\"] { stroke: #a3a9b2; } svg.cell [fill=\"#b4eeb4\"] { fill: #2b5f2f; }\n\
    svg.cell [fill=\"#eee8aa\"] { fill: #66591d; } svg.cell [fill=\"#add8e6\"] { fill: #23507d; }\n\
    }";
const INFALLIBLE: &str = "writing to a string does not fail";
const STATE_HEIGHT: f64 = 34.0;
const MARGIN: f64 = 16.0;
/// Distance between the boxes of one layer.
const ROW_GAP: f64 = 12.0;
/// Distance between layers.
const LAYER_GAP: f64 = 36.0;
const ARROW: f64 = 8.0;

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn label(text: &str, point: &Point, size: u32) -> Text {
    Text::new(text)
        .set("x", rounded(point.x))
        .set("y", rounded(point.y + f64::from(size) * 0.35))
        .set("font-size", size)
}

fn arrow_head(x: f64, y: f64) -> String {
    let (x, y, back) = (rounded(x), rounded(y), rounded(x - ARROW));
    format!("M{x},{y} L{back},{} L{back},{} Z", rounded(y - 4.0), rounded(y + 4.0))
}

/// What stands at one place of one layer.
#[derive(Debug)]
struct Point {
    kind: Kind,
    layer: usize,
    width: f64,
    height: f64,
    x: f64,
    y: f64,
    neighbours: Vec<usize>,
}

#[derive(Debug, PartialEq)]
enum Kind {
    State(usize),
    Label(&'static str),
    Bend,
}

struct Layout {
    points: Vec<Point>,
    /// The points of each edge, from source to target.
    chains: Vec<Vec<usize>>,
    /// The points of each layer, from the top.
    layers: Vec<Vec<usize>>,
    size: (f64, f64),
}

impl Layout {
    fn new(drawing: &Drawing) -> Self {
        let mut layout = Self { points: Vec::new(), chains: Vec::new(), layers: Vec::new(), size: (0.0, 0.0) };
        for (state, layer) in state_layers(drawing).into_iter().enumerate() {
            let width = (10.0 * drawing.name(state).len() as f64 + 16.0).max(STATE_HEIGHT);
            layout.add(Kind::State(state), layer, width, STATE_HEIGHT);
        }
        for edge in &drawing.edges {
            layout.add_chain(edge.source, edge.target, Some(edge.operation));
        }
        for &state in &drawing.concat {
            layout.add_chain(state, drawing.output(), None);
        }
        layout.order();
        layout.place();
        layout
    }

    fn add(&mut self, kind: Kind, layer: usize, width: f64, height: f64) -> usize {
        let index = self.points.len();
        self.points.push(Point { kind, layer, width, height, x: 0.0, y: 0.0, neighbours: Vec::new() });
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, Vec::new);
        }
        self.layers[layer].push(index);
        index
    }

    /// States are the first points, so their numbers are indices. The label stands in the last layer before the target.
    fn add_chain(&mut self, source: usize, target: usize, operation: Option<&'static str>) {
        let mut chain = vec![source];
        let end = self.points[target].layer;
        for layer in self.points[source].layer + 1..end {
            let point = match operation {
                Some(text) if layer + 1 == end => {
                    self.add(Kind::Label(text), layer, 8.0 * text.len() as f64 + 12.0, 20.0)
                }
                _ => self.add(Kind::Bend, layer, 0.0, 10.0),
            };
            chain.push(point);
        }
        chain.push(target);
        for pair in chain.windows(2) {
            self.points[pair[0]].neighbours.push(pair[1]);
            self.points[pair[1]].neighbours.push(pair[0]);
        }
        self.chains.push(chain);
    }

    /// Orders every layer by the mean rank of its neighbours in the layer just passed, forwards and backwards, and
    /// keeps the order with the fewest crossings.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.layers.clone());
        for sweep in 0..24 {
            let forwards = sweep % 2 == 0;
            let count = self.layers.len();
            for step in 1..count {
                let (layer, fixed) = if forwards { (step, step - 1) } else { (count - 1 - step, count - step) };
                let ranks = self.ranks();
                let mean = |index: &usize| {
                    let near =
                        self.points[*index].neighbours.iter().filter(|&&other| self.points[other].layer == fixed);
                    let (sum, count) = near.fold((0, 0), |(sum, count), &other| (sum + ranks[other], count + 1));
                    if count == 0 { ranks[*index] as f64 } else { f64::from(sum as u32) / f64::from(count) }
                };
                let mut order = self.layers[layer].clone();
                order.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
                self.layers[layer] = order;
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
        }
        self.layers = best.1;
    }

    /// Of every point, its place in its layer.
    fn ranks(&self) -> Vec<usize> {
        let mut ranks = vec![0; self.points.len()];
        for layer in &self.layers {
            for (rank, &index) in layer.iter().enumerate() {
                ranks[index] = rank;
            }
        }
        ranks
    }

    fn crossings(&self) -> usize {
        let ranks = self.ranks();
        let pieces: Vec<(usize, usize, usize)> = self
            .chains
            .iter()
            .flat_map(|chain| chain.windows(2).map(|pair| (self.points[pair[0]].layer, ranks[pair[0]], ranks[pair[1]])))
            .collect();
        let crossed = |a: &(usize, usize, usize), b: &(usize, usize, usize)| {
            a.0 == b.0 && ((a.1 < b.1 && a.2 > b.2) || (a.1 > b.1 && a.2 < b.2))
        };
        pieces.iter().enumerate().map(|(i, a)| pieces[..i].iter().filter(|b| crossed(a, b)).count()).sum()
    }

    /// Gives every point its coordinates.
    fn place(&mut self) {
        let mut x = MARGIN;
        for layer in &self.layers {
            let width = layer.iter().map(|&index| self.points[index].width).fold(0.0, f64::max);
            for &index in layer {
                let point = &mut self.points[index];
                point.x = x + width / 2.0;
                if point.kind == Kind::Bend {
                    point.width = width;
                }
            }
            x += width + LAYER_GAP;
        }
        for sweep in 0..40 {
            for step in 0..self.layers.len() {
                let layer = if sweep % 2 == 0 { step } else { self.layers.len() - 1 - step };
                self.settle(layer);
            }
        }
        let top = self.points.iter().map(|point| point.y - point.height / 2.0).fold(f64::INFINITY, f64::min);
        for point in &mut self.points {
            point.y += MARGIN - top;
        }
        let bottom = self.points.iter().map(|point| point.y + point.height / 2.0).fold(0.0, f64::max);
        self.size = (x - LAYER_GAP + MARGIN, bottom + MARGIN);
    }

    /// Moves the points of one layer to the places that are, in least squares, nearest to the means of their
    /// neighbours, in the given order and without overlap: points that would overlap form a block which moves as one.
    fn settle(&mut self, layer: usize) {
        struct Block {
            first: usize,
            sum: f64,
            count: f64,
        }
        let order = self.layers[layer].clone();
        let mut offset = 0.0;
        let mut offsets = Vec::with_capacity(order.len());
        let mut blocks: Vec<Block> = Vec::new();
        for (position, &index) in order.iter().enumerate() {
            let point = &self.points[index];
            offset += point.height / 2.0;
            let near = point.neighbours.iter().map(|&other| self.points[other].y);
            let wish = near.sum::<f64>() / point.neighbours.len().max(1) as f64;
            let mut block = Block { first: position, sum: wish - offset, count: 1.0 };
            while let Some(last) = blocks.pop_if(|last| last.sum / last.count > block.sum / block.count) {
                block = Block { first: last.first, sum: last.sum + block.sum, count: last.count + block.count };
            }
            blocks.push(block);
            offsets.push(offset);
            offset += point.height / 2.0 + ROW_GAP;
        }
        for block in blocks.iter().rev() {
            for (position, &index) in order.iter().enumerate().skip(block.first).take(block.count as usize) {
                self.points[index].y = block.sum / block.count + offsets[position];
            }
        }
    }

    /// A smooth line through the points of an edge, horizontal at each of them.
    fn curve(&self, chain: &[usize]) -> String {
        let mut path = String::new();
        for pair in chain.windows(2) {
            let (from, to) = (&self.points[pair[0]], &self.points[pair[1]]);
            let (x0, x1) = (from.x + from.width / 2.0, to.x - to.width / 2.0);
            let x1 = if matches!(to.kind, Kind::State(_)) { x1 - ARROW } else { x1 };
            let middle = rounded((x0 + x1) / 2.0);
            let (y0, y1) = (rounded(from.y), rounded(to.y));
            let start = if path.is_empty() { 'M' } else { 'L' };
            write!(path, "{start}{},{y0} C{middle},{y0} {middle},{y1} {},{y1} ", rounded(x0), rounded(x1))
                .expect(INFALLIBLE);
        }
        path.trim_end().to_owned()
    }
}

/// The layer of every state and of the output: inputs first, every state at least two layers after its sources (the one
/// between is for labels), the output last.
fn state_layers(drawing: &Drawing) -> Vec<usize> {
    let mut layers = vec![0; drawing.output() + 1];
    for state in 2..drawing.output() {
        let sources = drawing.edges.iter().filter(|edge| edge.target == state).map(|edge| layers[edge.source] + 2);
        layers[state] = sources.max().unwrap_or(2);
    }
    let last = layers.iter().copied().max().unwrap_or(0);
    layers[drawing.output()] = last + 1;
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn darts_v2_normal() -> Drawing {
        Drawing::from(&darts_core::Genotype::builtin("DARTS_V2").expect("a built-in name").normal)
    }

    #[test]
    fn dot_has_every_state_edge_and_concatenation() {
        let dot = darts_v2_normal().dot();
        for line in ["\"c_{k-2}\" -> \"0\" [label=\"sep_conv_3x3\"];", "\"0\" -> \"3\" [label=\"dil_conv_3x3\"];"] {
            assert!(dot.contains(line), "{line} in {dot}");
        }
        assert_eq!(dot.matches("label=").count(), 8);
        assert_eq!(dot.matches("-> \"c_{k}\"").count(), 4);
    }

    #[test]
    fn svg_names_every_state_and_edge() {
        let svg = darts_v2_normal().svg();
        for name in ["c_{k-2}", "c_{k-1}", "c_{k}"] {
            assert_eq!(svg.matches(name).count(), 1, "{name} in {svg}");
        }
        assert_eq!(svg.matches("sep_conv_3x3").count(), 5);
        assert_eq!(svg.matches("skip_connect").count(), 2);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn boxes_do_not_overlap_and_edges_go_to_the_right() {
        let complete = (2..9).flat_map(|target| (0..target).map(move |source| ("sep_conv_5x5", source, target)));
        for drawing in [darts_v2_normal(), Drawing::new(7, complete, [1, 4, 8]), Drawing::new(1, [], [2])] {
            let layout = Layout::new(&drawing);
            for layer in &layout.layers {
                for pair in layer.windows(2) {
                    let (upper, lower) = (&layout.points[pair[0]], &layout.points[pair[1]]);
                    let gap = lower.y - lower.height / 2.0 - upper.y - upper.height / 2.0;
                    assert!(gap >= ROW_GAP - 1e-6, "{upper:?} above {lower:?}");
                }
            }
            for pair in layout.chains.iter().flat_map(|chain| chain.windows(2)) {
                let (from, to) = (&layout.points[pair[0]], &layout.points[pair[1]]);
                assert!(from.x + from.width / 2.0 < to.x - to.width / 2.0, "{from:?} → {to:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "of 4 states")]
    fn an_edge_from_the_future_is_refused() {
        let _ = Drawing::new(2, [("skip_connect", 3, 3)], [2]);
    }
}

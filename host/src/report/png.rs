//! Figures as PNG images.

use std::io::{self, Cursor};
use std::sync::Arc;

use image::{ImageFormat, RgbaImage};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// Pixels of the image for one of the figure: sharp on most screens and on paper.
const ENLARGED: f32 = 2.0;

/// The fonts of the machine.
#[derive(Debug)]
pub struct Fonts(Arc<fontdb::Database>);

/// The machine has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no font is installed, and PNG images need one: install one (on Debian: apt-get install fonts-dejavu-core), or take SVG"
)]
pub struct NoFont;

impl Fonts {
    /// All that are installed.
    ///
    /// # Errors
    /// If there is none.
    pub fn installed() -> Result<Self, NoFont> {
        let mut fonts = fontdb::Database::new();
        fonts.load_system_fonts();
        let known = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Arial", "Helvetica"];
        let has = |name: &str| fonts.faces().any(|face| face.families.iter().any(|(family, _)| family == name));
        let any = fonts.faces().next().and_then(|face| face.families.first()).map(|(family, _)| family.clone());
        let chosen = known.into_iter().find(|name| has(name)).map(str::to_owned).or(any).ok_or(NoFont)?;
        fonts.set_sans_serif_family(chosen);
        Ok(Self(Arc::new(fonts)))
    }

    /// Renders an SVG document in its colours for a light page.
    ///
    /// # Errors
    /// If it is none.
    pub fn png(&self, document: &str) -> io::Result<Vec<u8>> {
        let options = Options { fontdb: self.0.clone(), font_family: "sans-serif".into(), ..Options::default() };
        let tree = Tree::from_str(document, &options).map_err(io::Error::other)?;
        let [width, height] = [tree.size().width(), tree.size().height()].map(|side| (ENLARGED * side).ceil() as u32);
        let mut pixels = Pixmap::new(width, height).ok_or_else(|| io::Error::other("a picture without size"))?;
        resvg::render(&tree, Transform::from_scale(ENLARGED, ENLARGED), &mut pixels.as_mut());
        // Nothing is transparent: every figure has a paper.
        let image = RgbaImage::from_raw(width, height, pixels.take()).expect("four bytes a pixel");
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).map_err(io::Error::other)?;
        Ok(bytes.into_inner())
    }
}
